// The official TypeScript SDKs as clients: `node client_ts.mjs 1|2 PLAN`, 1 for @modelcontextprotocol/sdk, 2 for
// @modelcontextprotocol/client. plan.py has the same verbs for Python and says what each is for.

import { createHash, randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

const [, , sdk, planPath] = process.argv;
const plan = JSON.parse(readFileSync(planPath, "utf8"));
const { tag } = plan;

const { Client } = await import(
  sdk === "1" ? "@modelcontextprotocol/sdk/client/index.js" : "@modelcontextprotocol/client"
);
const { StdioClientTransport } = await import(
  sdk === "1" ? "@modelcontextprotocol/sdk/client/stdio.js" : "@modelcontextprotocol/client/stdio"
);
const { StreamableHTTPClientTransport } = await import(
  sdk === "1" ? "@modelcontextprotocol/sdk/client/streamableHttp.js" : "@modelcontextprotocol/client"
);
// SDK 1 names a handler by its schema, SDK 2 by its method.
const schemas = sdk === "1" ? await import("@modelcontextprotocol/sdk/types.js") : {};

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** What crossed the wire: it sees answers and notifications that an SDK would drop in silence. */
class Wire {
  notes = [];
  asked = [];
  strays = [];
  open = new Set();

  sent(message) {
    if (message.method && message.id !== undefined) this.open.add(message.id);
  }

  received(message) {
    if (message.method && message.id !== undefined) this.asked.push(message.method);
    else if (message.method) {
      this.notes.push([message.method, message.params ?? {}]);
      const listening = message.params?._meta?.["io.modelcontextprotocol/subscriptionId"];
      if (listening !== undefined && !this.open.has(listening)) {
        this.strays.push(`${message.method} for subscription ${listening}`);
      }
    } else if (!this.open.delete(message.id)) this.strays.push(`an answer to ${message.id}`);
  }

  take(method) {
    const taken = this.notes.filter(([name]) => name === method).map(([, params]) => plain(params));
    this.notes = this.notes.filter(([name]) => name !== method);
    return taken;
  }

  /** Listens in on a transport: its `send`, and whatever the SDK sets as `onmessage`. */
  tap(transport) {
    const send = transport.send.bind(transport);
    transport.send = (message, options) => {
      this.sent(message);
      return send(message, options);
    };
    let listener;
    Object.defineProperty(transport, "onmessage", {
      get: () => listener,
      set: (next) => {
        listener = next && ((message, extra) => {
          this.received(message);
          next(message, extra);
        });
      },
    });
    return transport;
  }
}

function plain({ _meta, progressToken, ...rest }) {
  return rest;
}

function digest(answer) {
  const text = answer.replaceAll(tag, "{tag}");
  const sha256 = createHash("sha256").update(text).digest("hex");
  return { length: [...text].length, sha256, head: [...text.slice(0, 120)].slice(0, 60).join("") };
}

/** Replaces the marks in every string of a JSON value. */
function fill(value, marks) {
  if (typeof value === "string") {
    return Object.entries(marks).reduce((text, [mark, by]) => text.replaceAll(mark, () => by), value);
  }
  if (Array.isArray(value)) return value.map((item) => fill(item, marks));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fill(item, marks)]));
  }
  return value;
}

/** A JSON-RPC error as an observation; anything else is a failure of the client itself. */
function failure(error) {
  if (!Number.isInteger(error?.code)) throw error;
  // SDK 1 puts the code before the message.
  return { code: error.code, message: error.message.replace(/^MCP error -?\d+: /, "") };
}

const wire = new Wire();
const able = plan.able ? { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } } : {};
const client = new Client(
  { name: tag, version: "1" },
  {
    capabilities: able,
    versionNegotiation: { mode: plan.mode === "modern" ? { pin: "2026-07-28" } : plan.mode },
  },
);

function handle(method, schema, handler) {
  client.setRequestHandler(sdk === "1" ? schemas[schema] : method, handler);
}

if (plan.able) {
  handle("sampling/createMessage", "CreateMessageRequestSchema", ({ params }) => {
    const content = [params.messages.at(-1).content].flat()[0];
    return {
      role: "assistant",
      model: `model-of-${tag}`,
      content: { type: "text", text: `${tag} heard: ${content.text}` },
    };
  });
  handle("elicitation/create", "ElicitRequestSchema", () => ({
    action: "accept",
    content: { name: `name-of-${tag}` },
  }));
  handle("roots/list", "ListRootsRequestSchema", () => ({ roots: [{ uri: `file:///${tag}`, name: tag }] }));
}

async function call(name, args = {}, options = {}) {
  // Modern log messages are asked for by each request.
  const _meta = plan.log_level ? { _meta: { "io.modelcontextprotocol/logLevel": plan.log_level } } : {};
  const params = { name, arguments: args, ..._meta };
  const result = await (sdk === "1" ? client.callTool(params, undefined, options) : client.callTool(params, options));
  const text = result.content.map((item) => item.text ?? `<${item.type}>`).join("");
  return result.isError ? { failed: text } : text;
}

/** Calls a tool whose answer may never come. */
const oneOdd = (tool, within, args = {}) =>
  call(tool, args, { timeout: within * 1000 }).catch((error) =>
    error?.code === -32001 ? "no answer" : Number.isInteger(error?.code) ? failure(error) : `${error?.name}`,
  );

const raw = (method, params) => client.request({ method, params }, z.any());

const verbs = {
  tools: async () => (await client.listTools({}, { cacheMode: "bypass" })).tools.map(({ name }) => name).sort(),
  call: ({ tool, args }) => call(tool, args),
  many: ({ tool, args, count }) =>
    Promise.all(
      Array.from({ length: count }, (_, index) => call(tool, fill(args, { "{i}": `${index}` })).catch(failure)),
    ),
  script: async ({ calls }) => {
    const seen = {};
    for (const { as, tool, within, args } of calls) seen[as] = await oneOdd(tool, within, args);
    return seen;
  },
  storm: async ({ seconds }) => {
    const end = Date.now() + seconds * 1000;
    let told = 0;
    await verbs.tools();
    while (Date.now() < end) {
      const heard = wire.take("notifications/tools/list_changed").length;
      told += heard;
      if (heard) await verbs.tools();
      await sleep(0.001);
    }
    // Time for the last one.
    await sleep(1.5);
    return told + wire.take("notifications/tools/list_changed").length;
  },
  odd: async ({ tools, within, late }) => {
    const one = (tool, within) => oneOdd(tool, within);
    const outcomes = await Promise.all(tools.map((tool) => one(tool, within)));
    const seen = Object.fromEntries(tools.map((tool, index) => [tool, outcomes[index]]));
    if (late) {
      await one("late", 0.3);
      seen["after a late answer"] = await one("plain", within);
    }
    wire.strays.length = 0;
    return seen;
  },
  big: async ({ tool, args, repeat }) => {
    const text = "0123456789 äé€😀\u2028\n".repeat(repeat);
    const answer = await call(tool, fill(args, { "{big}": text }));
    // A server that does not send the text back has a short answer.
    return typeof answer === "string" && answer.length > 1000 ? digest(answer) : answer;
  },
  progress: async ({ tool, args }) => {
    const heard = [];
    wire.take("notifications/progress");
    const answer = await call(tool, args, { onprogress: ({ progress, total }) => heard.push([progress, total]) });
    const notes = wire.take("notifications/progress");
    return { answer, heard, wire: notes.map((note) => [note.progress, note.total ?? null, note.message ?? null]) };
  },
  read: async ({ uri }) => {
    const { contents } = await client.readResource({ uri }, { cacheMode: "bypass" });
    return digest(contents.map((item) => item.text ?? item.blob).join(""));
  },
  prompt: async ({ name, args }) => {
    const { messages } = await client.getPrompt({ name, arguments: args });
    return messages.map(({ content }) => content.text ?? "").join("");
  },
  complete: async ({ name, argument, value }) => {
    const params = { ref: { type: "ref/prompt", name }, argument: { name: argument, value } };
    const { completion } = await client.complete(params);
    return [completion.values, completion.total ?? null, completion.hasMore ?? null];
  },
  resources: async () => {
    const pages = [];
    let cursor;
    do {
      const page = await client.listResources(cursor ? { cursor } : {}, { cacheMode: "bypass" });
      pages.push(page.resources.map(({ uri }) => uri));
      cursor = page.nextCursor;
    } while (cursor);
    return pages;
  },
  ping: async () => plain(await client.ping()),
  cancel: async ({ tool, args, after }) => {
    const control = new AbortController();
    const calling = call(tool, args, { signal: control.signal }).then(
      (answer) => answer,
      () => "CancelledError",
    );
    await sleep(after);
    control.abort();
    return calling;
  },
  until: async ({ tool, args, contains }) => {
    for (;;) {
      const answer = await call(tool, args);
      if (JSON.stringify(answer).includes(contains)) return answer;
      await sleep(0.1);
    }
  },
  load: async ({ tool, args, workers }) => {
    const [killed, failed, wrong] = [join(plan.sync, "killed"), new Set(), []];
    let [calls, late] = [0, 0];
    const worker = async (number) => {
      for (let served = 0; ; ) {
        const after = existsSync(killed);
        const mine = `${number}-${served}`;
        calls += 1;
        const answer = await call(tool, fill(args, { "{i}": mine })).catch((error) => {
          failed.add(failure(error).message);
          late = Math.max(late, Date.now() / 1000 - Number(readFileSync(killed, "utf8")));
        });
        if (answer !== undefined) {
          served += 1;
          const text = JSON.stringify(answer);
          if (!text.includes(tag) || !text.includes(mine)) wrong.push(answer);
        }
        if (after && answer !== undefined) return;
        if (served === 3) writeFileSync(join(plan.sync, "loaded", `${tag}-${number}`), "");
        await sleep(answer === undefined ? 0.02 : 0);
      }
    };
    await Promise.all(Array.from({ length: workers }, (_, number) => worker(number)));
    return { calls, failed: [...failed].sort(), wrong, late };
  },
  barrier: async ({ name, parties }) => {
    const where = join(plan.sync, name);
    mkdirSync(where, { recursive: true });
    writeFileSync(join(where, tag), "");
    while (readdirSync(where).length < parties) await sleep(0.02);
    // What has happened before it opened, such as the end of a kept connection, is waiting to be polled.
    await new Promise(setImmediate);
    return null;
  },
  level: async ({ level }) => void (await client.setLoggingLevel(level)),
  subscribe: async ({ uri }) => void (await client.subscribeResource({ uri })),
  unsubscribe: async ({ uri }) => void (await client.unsubscribeResource({ uri })),
  listen: async ({ tools, uris }) => {
    const filter = { ...(tools && { toolsListChanged: true }), ...(uris && { resourceSubscriptions: uris }) };
    return (await client.listen(filter)).honoredFilter;
  },
  wait: async ({ method, count, within = 5, settle = 0.2 }) => {
    const end = Date.now() + within * 1000;
    while (wire.notes.filter(([name]) => name === method).length < count && Date.now() < end) await sleep(0.02);
    await sleep(settle);
    return wire.take(method);
  },
  asked: async () => wire.asked.splice(0),
  // A task of 2025-11-25: started, polled, its result fetched. Its id is left for the row's other clients.
  task: async ({ tool, args, share }) => {
    const { task } = await raw("tools/call", { name: tool, arguments: args, task: { ttl: 60000 } });
    if (share) writeFileSync(join(plan.sync, share), task.taskId);
    let status = task.status;
    while (status === "working" || status === "input_required") {
      await sleep(0.2);
      ({ status } = await raw("tasks/get", { taskId: task.taskId }));
    }
    const result = await raw("tasks/result", { taskId: task.taskId });
    return { status, answer: digest(result.content.map(({ text }) => text).join("")) };
  },
  // What another client's task looks like from here. An unknown id serves to compare: the two must not differ.
  foreign: async ({ share }) => {
    const look = async (taskId) => {
      const seen = {};
      for (const method of ["tasks/get", "tasks/result", "tasks/cancel"]) {
        const answer = await raw(method, { taskId }).then(() => "answered", failure);
        seen[method] = JSON.parse(JSON.stringify(answer).replaceAll(taskId, "ID"));
      }
      return seen;
    };
    const listed = (await raw("tasks/list", {})).tasks.length;
    const theirs = await look(readFileSync(join(plan.sync, share), "utf8"));
    return { listed, theirs, unknown: await look(randomUUID()) };
  },
};

async function run() {
  const seen = { connect: { version: undefined, server: client.getServerVersion()?.name ?? null } };
  seen.connect.version = client.getNegotiatedProtocolVersion?.() ?? transport.version ?? null;
  for (const step of plan.steps) {
    const late = new AbortController();
    const timeout = sleep(step.timeout ?? 20).then(() => {
      if (!late.signal.aborted) throw new Error(`step ${step.as ?? step.do} timed out`);
    });
    seen[step.as ?? step.do] = (await Promise.race([verbs[step.do](step).catch(failure), timeout])) ?? null;
    late.abort();
  }
  if (wire.strays.length) throw new Error(`received what is not for this client: ${JSON.stringify(wire.strays)}`);
  return seen;
}

const byUrl = ({ url, token }) =>
  new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { Authorization: `Bearer ${token}` } } });
const transport = wire.tap(
  plan.launch.url ? byUrl(plan.launch) : new StdioClientTransport({ ...plan.launch, stderr: "inherit" }),
);
// SDK 1 tells the transport, and nobody else, which revision was agreed on.
const setProtocolVersion = transport.setProtocolVersion?.bind(transport);
transport.setProtocolVersion = (version) => {
  transport.version = version;
  setProtocolVersion?.(version);
};

let verdict;
try {
  await client.connect(transport);
  const seen = await run();
  const closing = Date.now();
  await transport.terminateSession?.();
  await client.close();
  verdict = { ok: true, seen, close: (Date.now() - closing) / 1000 };
} catch (error) {
  const cause = error?.cause ? `, because of ${error.cause.message}` : "";
  verdict = { ok: false, error: `${error?.name}: ${error?.message}${cause}` };
}
process.stdout.write(`${JSON.stringify(verdict)}\n`, () => process.exit(0));
