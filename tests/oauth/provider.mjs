// An OAuth authorization server for the tests, on npm's oidc-provider: `node provider.mjs KEY CERT USERS`, where USERS is
// a JSON object of what scopes each user may have. It registers clients, wants PKCE, has a page to sign in and one to
// consent, and issues JWTs for the resource that is asked for: signed with ES256, for clients called "rsa" with RS256.
// Prints its issuer.

import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import Provider from "oidc-provider";

const [, , keyPath, certPath, usersText] = process.argv;
const users = JSON.parse(usersText);
const scopes = [...new Set(Object.values(users).flat())];
const scope = scopes.join(" ");

const pair = {
  RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }),
  ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
};
const keys = Object.entries(pair).map(([alg, { privateKey }]) => ({
  ...privateKey.export({ format: "jwk" }), alg, kid: alg, use: "sig",
}));

const server = createServer({ key: readFileSync(keyPath), cert: readFileSync(certPath) });
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `https://localhost:${server.address().port}`;

const provider = new Provider(issuer, {
  jwks: { keys },
  cookies: { keys: ["of the tests"] },
  scopes: ["openid", "offline_access", ...scopes],
  // The SDKs register with the scopes that they ask for first, and ask for more later.
  extraClientMetadata: {
    properties: ["any_scope"],
    validator: (_, name, value, metadata) => { metadata.scope = `offline_access ${scope}`; },
  },
  pkce: { required: () => true },
  findAccount: (_, id) => (users[id] ? { accountId: id, claims: () => ({ sub: id }) } : undefined),
  interactions: { url: (_, { uid }) => `/sign-in/${uid}` },
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource, client) => ({
        scope,
        audience: resource,
        accessTokenTTL: 600,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: client.clientName === "rsa" ? "RS256" : "ES256" } },
      }),
    },
  },
});

/** A page with one form; the browser fills in the user where it is asked for. */
const page = (uid, button, fields) =>
  `<!doctype html><title>${button}</title><form method="post" action="/sign-in/${uid}">${fields}<button>${button}</button></form>`;

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return new URLSearchParams(Buffer.concat(chunks).toString());
}

/** The result of a page that was sent off: who it is, or what is consented to. */
async function sentOff({ prompt, params, session, grantId }, form) {
  if (prompt.name === "login") return { login: { accountId: form.get("user") } };
  const grant = grantId
    ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  const may = (one) => one === "offline_access" || users[session.accountId].includes(one);
  for (const one of prompt.details.missingOIDCScope ?? []) {
    grant[may(one) ? "addOIDCScope" : "rejectOIDCScope"](one);
  }
  for (const [resource, wanted] of Object.entries(prompt.details.missingResourceScopes ?? {})) {
    for (const one of wanted) grant[may(one) ? "addResourceScope" : "rejectResourceScope"](resource, one);
  }
  return { consent: { grantId: await grant.save() } };
}

const callback = provider.callback();
server.on("request", async (request, response) => {
  const uid = request.url.match(/^\/sign-in\/([\w-]+)$/)?.[1];
  if (!uid) return callback(request, response);
  try {
    const details = await provider.interactionDetails(request, response);
    if (request.method === "POST") {
      const result = await sentOff(details, await body(request));
      await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
      return;
    }
    const asks = details.prompt.name === "login" ? '<input name="user">' : "";
    response.setHeader("content-type", "text/html").end(page(uid, details.prompt.name, asks));
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
});

console.log(issuer);
