// The OAuth client of the official TypeScript SDKs: `node client_ts.mjs 1|2 URL USER CALLS`, 1 for @modelcontextprotocol/sdk,
// 2 for @modelcontextprotocol/client. The user's browser is `browse`. Prints what has become of each call, and what
// was asked of the authorization server.

const [, , sdk, url, user, callsText] = process.argv;
const { Client } = await import(sdk === "1" ? "@modelcontextprotocol/sdk/client/index.js" : "@modelcontextprotocol/client");
const { StreamableHTTPClientTransport } = await import(
  sdk === "1" ? "@modelcontextprotocol/sdk/client/streamableHttp.js" : "@modelcontextprotocol/client"
);
const { UnauthorizedError } = await import(
  sdk === "1" ? "@modelcontextprotocol/sdk/client/auth.js" : "@modelcontextprotocol/client"
);

const redirectUrl = "http://127.0.0.1:9/callback";
const cookies = new Map();

/** Follows redirects and sends off every form, as this user, until it is sent back to the client. */
async function browse(start) {
  let request = new Request(start);
  for (let step = 0; step < 20; step++) {
    request.headers.set("cookie", [...cookies].map(([name, value]) => `${name}=${value}`).join("; "));
    const response = await fetch(request, { redirect: "manual" });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = cookie.match(/^([^=]+)=([^;]*)/);
      cookies.set(name, value);
    }
    const location = response.headers.get("location");
    if (location) {
      const next = new URL(location, request.url);
      if (next.href.startsWith(redirectUrl)) return next.searchParams;
      request = new Request(next);
      continue;
    }
    const text = await response.text();
    const action = text.match(/<form method="post" action="([^"]+)"/)?.[1];
    if (!action) throw new Error(`no form on the page: ${response.status} ${text.slice(0, 200)}`);
    request = new Request(new URL(action, request.url), { method: "POST", body: new URLSearchParams({ user }) });
  }
  throw new Error("the browser goes round in circles");
}

/** What the SDK keeps of its user, and where it sends them. */
class Provider {
  asked = [];
  scopes = [];
  get redirectUrl() { return redirectUrl; }
  get clientMetadata() {
    return { client_name: "ec", redirect_uris: [redirectUrl], token_endpoint_auth_method: "none" };
  }
  state() { return (this.sent = crypto.randomUUID()); }
  clientInformation() { return this.client; }
  saveClientInformation(client) { this.client = client; }
  tokens() { return this.kept; }
  saveTokens(tokens) { this.kept = tokens; this.scopes.push(tokens.scope); }
  saveCodeVerifier(verifier) { this.verifier = verifier; }
  codeVerifier() { return this.verifier; }
  saveDiscoveryState(state) { this.discovered = state; }
  discoveryState() { return this.discovered; }
  async redirectToAuthorization(to) {
    this.asked.push({ scope: to.searchParams.get("scope"), resource: to.searchParams.get("resource") });
    this.callback = await browse(to);
    if (this.callback.get("state") !== this.sent) throw new Error("not our state");
  }
}

const provider = new Provider();
const fresh = () => new StreamableHTTPClientTransport(new URL(url), { authProvider: provider });
const client = new Client({ name: `ts-${sdk}`, version: "1" }, { versionNegotiation: { mode: process.env.MODE ?? "auto" } });
let transport;

/** Does something that may need the user's consent first. */
async function authorized(act) {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof UnauthorizedError) || !provider.callback) throw error;
    const callback = provider.callback;
    provider.callback = undefined;
    await (sdk === "1" ? transport.finishAuth(callback.get("code")) : transport.finishAuth(callback));
    return act();
  }
}

await authorized(() => client.connect((transport = fresh())));
const seen = [];
for (const { name, arguments: args } of JSON.parse(callsText)) {
  try {
    const result = await authorized(() => client.callTool({ name, arguments: args }));
    seen.push(result.content[0].text);
  } catch (error) {
    seen.push({ error: error.name, code: error.code ?? error.data?.status, message: error.message });
  }
}
const { tools } = await client.listTools();
await client.close();
const { asked, scopes, kept } = provider;
console.log(JSON.stringify({ seen, tools: tools.map((tool) => tool.name), asked, scopes, token: kept.access_token }));
process.exit(0);
