// oidc-provider (npm), configured as strictly as Spatio's contract: PKCE for every client, registration open.
//
//     node server.mjs REQUESTS
//
// Prints "ISSUER http://127.0.0.1:…" when it serves, appends a JSON line to the file REQUESTS for each request,
// and ends when its standard input does, so that it never outlives the tests.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const PEOPLE = {
  ada: { name: 'Ada Lovelace', email: 'ada@example.com', email_verified: true, password: 'correct horse' },
};

const [requests] = process.argv.slice(2);

function configuration() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return {
    claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'] },
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'none'],
    cookies: { keys: [randomBytes(32).toString('hex')] },
    features: {
      // Its own pages load a font from the Internet; these tests stay on this machine.
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      registration: { enabled: true },
      registrationManagement: { enabled: true },
      revocation: { enabled: true },
    },
    async findAccount(ctx, sub) {
      const { password, ...claims } = PEOPLE[sub];
      return { accountId: sub, claims: () => ({ sub, ...claims }) };
    },
    interactions: { url: (ctx, { uid }) => `/interaction/${uid}` },
    // By default only with the scope offline_access, which Spatio doesn't have.
    issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'first' }] },
    pkce: { required: () => true },
    // By default only of public clients, and of old tokens. A token that was used once ends the grant.
    rotateRefreshToken: true,
  };
}

const escaped = (text) => String(text).replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

function page(response, status, heading, body) {
  response.writeHead(status, { 'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store' });
  response.end(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${heading}</title><main><h1>${heading}</h1>${body}</main></html>`);
}

async function form(request) {
  let text = '';
  for await (const part of request) text += part;
  return new URLSearchParams(text);
}

async function askWho(provider, request, response) {
  if (request.method === 'POST') {
    const fields = await form(request);
    const name = fields.get('username');
    if (Object.hasOwn(PEOPLE, name) && PEOPLE[name].password === fields.get('password')) {
      return provider.interactionFinished(request, response, { login: { accountId: name } });
    }
  }
  return page(response, 200, 'Who are you?', `<form method="post">
<p><label>Name <input name="username" autocomplete="username" required autofocus></label>
<p><label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<p><button>Sign in</button></form>`);
}

async function askConsent(provider, request, response, { prompt, params, session, grantId }) {
  if (request.method === 'POST') {
    if ((await form(request)).get('decision') !== 'allow') {
      return provider.interactionFinished(request, response, { error: 'access_denied' });
    }
    const grant = grantId
      ? await provider.Grant.find(grantId)
      : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    grant.addOIDCScope((prompt.details.missingOIDCScope ?? []).join(' '));
    grant.addOIDCClaims(prompt.details.missingOIDCClaims ?? []);
    const consent = { grantId: await grant.save() };
    return provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
  }
  const { clientName } = await provider.Client.find(params.client_id);
  return page(response, 200, `${escaped(clientName)} asks`, `<p>It asks for: ${escaped(params.scope)}.
<form method="post"><p><button name="decision" value="allow">Agree</button>
<button name="decision" value="deny">Refuse</button></form>`);
}

async function interact(provider, request, response) {
  try {
    const details = await provider.interactionDetails(request, response);
    await (details.prompt.name === 'login' ? askWho : askConsent)(provider, request, response, details);
  } catch (error) {
    console.error(error);
    page(response, 400, 'That did not work', `<p>${escaped(error.message)}`);
  }
}

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration());
  provider.on('server_error', (ctx, error) => console.error(error));
  const answer = provider.callback();
  server.on('request', (request, response) => {
    const path = request.url.split('?')[0];
    // Written before the answer, so that whoever has the answer finds the line.
    appendFileSync(requests, `${JSON.stringify({
      method: request.method,
      path,
      agent: request.headers['user-agent'] ?? '',
      scheme: (request.headers.authorization ?? '').split(' ')[0],
    })}\n`);
    if (path.startsWith('/interaction/')) interact(provider, request, response);
    else answer(request, response);
  });
  console.log(`ISSUER ${issuer}`);
});
process.stdin.resume().on('end', () => process.exit());
