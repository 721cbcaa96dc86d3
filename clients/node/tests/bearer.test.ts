import assert from 'node:assert/strict';
import { get, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Counter, Sessions, sessionOf, type Config, type Session } from '../dist/index.js';
import { Browser, listen } from './browser.js';
import { openRedis } from './clients.js';
import { freshNamespace, sharedUrl } from './server.js';

// Tokens in the header Authorization, for clients without cookies.

const n = new Counter('n');
const name = '__Host-session';

const routes: Record<string, (s: Session) => unknown> = {
  '/add': (s) => {
    n.add(s, 1);
    return n.get(s);
  },
  '/read': (s) => `${n.get(s)} ${s.user ?? 'nobody'} ${s.isBearer}`,
  '/token': (s) => s.bearerToken(),
  '/token-and-fail': async (s) => {
    await s.bearerToken();
    throw new Error('the handler fails');
  },
  '/new': async (s) => {
    n.add(s, 1);
    return s.bearerToken();
  },
  '/sign-in': async (s) => {
    await s.signIn({ user: 'ann' });
    return s.bearerToken();
  },
  '/sign-in-with-cookie': (s) => s.signIn({ user: 'ann' }),
  '/renew': async (s) => {
    await s.renew();
    return s.bearerToken();
  },
  '/sign-out': (s) => s.signOut(),
  '/sign-out-and-add': async (s) => {
    await s.signOut();
    n.add(s, 1);
  },
};

describe('bearer tokens', () => {
  const opened: { sessions: Sessions; server: HttpServer }[] = [];
  const namespace = freshNamespace();

  async function site(config: Config = {}): Promise<Browser> {
    const redis = openRedis(await sharedUrl(), 'ioredis');
    const sessions = new Sessions(redis, { namespace, logger: () => undefined, timeout: 60_000, bearer: true, ...config });
    const server = await listen(sessions.handler(async (request, response) => {
      response.end(String((await routes[request.url!]!(await sessionOf(request))) ?? ''));
    }));
    opened.push({ sessions, server });
    return new Browser(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  }

  let browser: Browser;
  const bearer = (token: string, scheme = 'Bearer ') => ({ headers: { authorization: scheme + token } });
  const issue = async () => (await new Browser(browser.url).get('/new')).content;

  before(async () => {
    browser = await site();
  });
  after(async () => {
    for (const { sessions, server } of opened) {
      server.closeAllConnections();
      server.close();
      await sessions.close();
    }
  });

  test('the header opens the session', async () => {
    const token = await issue();
    for (const scheme of ['Bearer ', 'bearer ', 'BEARER  ']) {
      assert.equal((await browser.get('/read', bearer(token, scheme))).content, '1 nobody true', scheme);
    }
    for (const other of [`Basic ${token}`, token, `Bearer ${token}x`, 'Bearer ', 'Bearer eyJhbGciOiJIUzI1NiJ9.e30.x']) {
      assert.equal((await browser.get('/read', bearer(other, ''))).content, '0 nobody false', other);
    }
    const cookiesOnly = await site({ bearer: false });
    assert.equal((await cookiesOnly.get('/read', bearer(token))).content, '0 nobody false');
    assert.equal((await cookiesOnly.get('/token')).status, 500);
  });

  test('a token that is handed out sets no cookie, and is not cached', async () => {
    const response = await browser.get('/new');
    assert.deepEqual(response.headers.getSetCookie(), []);
    assert.equal(response.headers.get('cache-control'), 'no-store');
    assert.equal(response.headers.get('vary'), 'Cookie, Authorization');
    assert.equal((await browser.get('/add', bearer(response.content))).content, '2');
    const dead = new Browser(browser.url);
    dead.cookies.set(name, 'made-up');
    assert.match((await dead.get('/new')).headers.getSetCookie()[0]!, /^__Host-session=; Max-Age=0/);
  });

  test('two different tokens are refused', async () => {
    const token = await issue();
    for (const cookie of [name, `${name}-anon`]) {
      const both = new Browser(browser.url);
      both.cookies.set(cookie, token);
      assert.equal((await both.get('/read', bearer(token))).content, '1 nobody true', 'the same token twice');
      both.cookies.set(cookie, await issue());
      const response = await both.get('/read', bearer(token));
      assert.equal(response.status, 400);
      assert.deepEqual(response.headers.getSetCookie(), [], "the cookie may be another program's");
    }
    const lines = (...tokens: string[]) => new Promise<number | undefined>((resolve, reject) => {
      const authorization = tokens.map((text) => `Bearer ${text}`) as unknown as string; // a line each
      get(`${browser.url}/read`, { headers: { authorization } }, (response) => {
        response.resume();
        resolve(response.statusCode);
      }).on('error', reject);
    });
    assert.equal(await lines(token, token), 200);
    assert.equal(await lines(token, await issue()), 400);
  });

  test('a token of a cookie is handed out only after a renewal', async () => {
    const visitor = new Browser(browser.url);
    await visitor.get('/add');
    assert.equal((await visitor.get('/token')).status, 500);
    assert.equal((await visitor.get('/read')).content, '1 nobody false', 'the session goes on');
    const renewed = await visitor.get('/renew');
    assert.equal(visitor.cookies.size, 0, 'the cookie is deleted');
    assert.equal((await visitor.get('/read', bearer(renewed.content))).content, '1 nobody true');
  });

  test('a change under a dead token is refused, and a new token may be handed out', async () => {
    const dead = await issue();
    await browser.get('/sign-out', bearer(dead));
    const response = await browser.get('/add', bearer(dead));
    assert.equal(response.status, 401);
    assert.deepEqual(response.headers.getSetCookie(), []);
    assert.equal((await browser.get('/read', bearer(dead))).content, '0 nobody true');
    const token = (await browser.get('/new', bearer(dead))).content;
    assert.equal((await browser.get('/read', bearer(token))).content, '1 nobody true');
  });

  test('a sign-in and a renewal with a bearer token set no cookie', async () => {
    const before = await issue();
    for (const path of ['/sign-in', '/sign-in-with-cookie']) {
      const response = await browser.get(path, bearer(await issue()));
      assert.equal(response.status, 200);
      assert.deepEqual(response.headers.getSetCookie(), [], path);
    }
    const signedIn = (await browser.get('/sign-in', bearer(before))).content;
    assert.equal((await browser.get('/read', bearer(signedIn))).content, '0 ann true');
    assert.equal((await browser.get('/read', bearer(before))).content, '0 nobody true', 'the old token opens nothing');
    const renewed = (await browser.get('/renew', bearer(signedIn))).content;
    assert.notEqual(renewed, signedIn);
    assert.equal((await browser.get('/read', bearer(renewed))).content, '0 ann true');
    const visitor = new Browser(browser.url);
    await visitor.get('/add');
    const handedOut = (await visitor.get('/sign-in')).content;
    assert.equal(visitor.cookies.size, 0, 'the cookie of the old session is deleted');
    assert.equal((await visitor.get('/read', bearer(handedOut))).content, '0 ann true');
  });

  test('a session that begins after a sign-out has a cookie', async () => {
    const response = await browser.get('/sign-out-and-add', bearer(await issue()));
    assert.equal(response.status, 200);
    assert.match(response.headers.getSetCookie().join(), /^__Host-session-anon=/);
    browser.cookies.clear();
  });

  test('what was handed out stays if the handler fails later', async () => {
    const response = await new Browser(browser.url).get('/token-and-fail');
    assert.equal(response.status, 500);
    assert.deepEqual(response.headers.getSetCookie(), []);
    assert.equal(response.headers.get('cache-control'), 'no-store');
  });

  test('another site cannot use the header, so nothing else is checked', async () => {
    const guarded = await site({ csrf: true });
    const token = await issue();
    const elsewhere = { method: 'POST', headers: { ...bearer(token).headers, 'sec-fetch-site': 'cross-site' } };
    assert.equal((await guarded.get('/add', elsewhere)).content, '2');
    guarded.cookies.set(`${name}-anon`, token);
    assert.equal((await guarded.get('/add', elsewhere)).content, '3');
    assert.equal((await guarded.get('/add', { method: 'POST', headers: { 'sec-fetch-site': 'cross-site' } })).status, 403);
    assert.equal((await guarded.get('/add', { method: 'POST' })).status, 403, 'a CSRF token is missing');
  });

  test('a bearer token does not rotate', async () => {
    const sessions = new Sessions(openRedis(await sharedUrl(), 'node-redis'), {
      namespace, bearer: true, rotateEvery: 60_000, logger: () => undefined, timeout: 60_000,
    });
    const token = await issue();
    const channel = { headerSent: false, crossOrigin: () => undefined };
    for (const [cookies, authorization, rotates] of [
      [undefined, [`Bearer ${token}`], false],
      [`${name}=${token}`, [], true],
    ] as const) {
      const session = await sessions.open(cookies, authorization, channel).read();
      Object.assign(sessions.config, { rotateEvery: 1 });
      await session.commitBeforeHeader(true);
      assert.equal(session.takeCookies().set !== undefined, rotates);
    }
    await sessions.close();
  });
});
