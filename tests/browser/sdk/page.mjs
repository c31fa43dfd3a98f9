// A web page that calls a tool with the official SDK, and reports what came of it.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const { name, url, token, next } = globalThis.SETTINGS;

const call = async () => {
  const requestInit = { headers: { Authorization: `Bearer ${token}`, "Mcp-Param-Region": "eu" } };
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit });
  const client = new Client({ name, version: "1" });
  await client.connect(transport);
  await client.callTool({ name: `CALL ${name}`, arguments: {} });
  const session = transport.sessionId !== undefined;
  await transport.terminateSession();
  await client.close();
  return { called: true, session };
};

const late = new Promise((resolve) => setTimeout(() => resolve({ called: false, error: "nothing happened" }), 10000));
const result = await Promise.race([call().catch((error) => ({ called: false, error: `${error}` })), late]);
await fetch("/done", { method: "POST", body: JSON.stringify({ page: name, result }) });
if (next) location.href = next;
