import assert from 'node:assert/strict';
import { request as httpRequest, type IncomingMessage, type RequestListener, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import express from 'express';
// @ts-expect-error the alias of Express 4 has no types
import express4 from 'express4';
import expressSession from 'express-session';
import Fastify from 'fastify';
import { Counter, Counters, Sessions, Value, sessionOf, type Config, type Session } from '../dist/index.js';
import { expressErrors, expressSessions } from '../dist/express.js';
import { expressSessionStore } from '../dist/express-session.js';
import { fastifySessions } from '../dist/fastify.js';
import { Browser, listen } from './browser.js';
import { libraries, openRedis } from './clients.js';
import { Server, eventually, freshNamespace, sharedUrl } from './server.js';

/** One application, in each framework: what a request does, by its path. */
type Route = (session: Session, reply: Reply, request: IncomingMessage) => Promise<void>;
interface Reply {
  send(text: string, status?: number): void;
  raw: import('node:http').ServerResponse;
}

const visits = new Counter('visits');
const theme = new Value<unknown>('theme');
const cart = new Counters('cart');
const apples = async (s: Session) => String(cart.get(await s.userData(), 'apple'));
const slow: { release?: () => void; entered?: () => void; closed?: () => void } = {};

const routes: Record<string, Route> = {
  '/visit': async (s, reply) => {
    visits.add(s, 1);
    reply.send(String(visits.get(s)));
  },
  '/read': async (s, reply) => reply.send(String(visits.get(s))),
  '/fail': async (s) => {
    visits.add(s, 1);
    throw new Error('the handler fails');
  },
  '/later': async (s, reply) => {
    reply.raw.once('close', () => slow.closed?.());
    const released = new Promise<void>((resolve) => (slow.release = resolve));
    slow.entered?.();
    await released;
    visits.add(s, 1);
    reply.send('ok');
  },
  '/stream': async (s, reply) => {
    visits.add(s, 1);
    reply.raw.setHeader('Content-Type', 'text/plain');
    for (let i = 0; i < 3; i++) {
      reply.raw.write(`part ${i}\n`);
      await sleep(2);
    }
    reply.raw.end('end\n');
  },
  '/pipe': async (s, reply) => {
    visits.add(s, 1);
    const { Readable } = await import('node:stream');
    Readable.from(Array.from({ length: 64 }, () => Buffer.alloc(65536, 'x'))).pipe(reply.raw);
  },
  '/head': async (s, reply) => {
    visits.add(s, 1);
    reply.raw.writeHead(201, { 'X-Own': 'yes', 'Content-Type': 'text/plain' });
    reply.raw.end('made');
  },
  '/broken': async (s, reply, request) => {
    visits.add(s, 1);
    theme.set(s, 'x'.repeat(70_000)); // over maxSize
    reply.raw.setHeader('Content-Type', 'text/html');
    reply.send('success', request.url!.endsWith('?missing') ? 404 : 200);
  },
  '/known': async (s, reply) => {
    const data = await s.userData();
    theme.set(data, 'x'.repeat(70_000));
    await data.commit().catch(() => reply.send('too much', 413));
  },
  '/signin': async (s, reply, request) => {
    await s.signIn({ user: /user=(\w+)/.exec(request.url!)?.[1] ?? 'ada' });
    reply.send('in');
  },
  '/signin-and-fail': async (s) => {
    await s.signIn({ user: 'ada' });
    throw new Error('after the sign-in');
  },
  '/signout': async (s, reply) => {
    await s.signOut();
    reply.send('out');
  },
  '/buy': async (s, reply) => {
    cart.add(await s.userData(), 'apple', 1);
    visits.add(s, 1);
    reply.send(await apples(s));
  },
  '/buy-and-fail': async (s) => {
    cart.add(await s.userData(), 'apple', 10);
    throw new Error('the handler fails');
  },
  '/buy-too-much': async (s, reply) => {
    const data = await s.userData();
    cart.add(data, 'apple', 10);
    cart.add(data, 'x'.repeat(64), 1);
    theme.set(data, 'x'.repeat(70_000)); // over maxSize
    visits.add(s, 1);
    reply.send('success');
  },
  '/buy-later': async (s, reply) => {
    cart.add(await s.userData(), 'apple', 1);
    return routes['/later']!(s, reply, undefined as never);
  },
  '/buy-late': async (s, reply) => {
    const data = await s.userData();
    reply.raw.write('part\n'); // the header leaves
    await sleep(20);
    cart.add(data, 'apple', 1);
    reply.raw.end('end\n');
  },
  '/cart': async (s, reply) => reply.send(await apples(s)),
  '/who': async (s, reply) => {
    s.require();
    reply.send(s.user!);
  },
};

const streams = new Set(['/stream', '/pipe', '/head', '/buy-late']);

const frameworks: Record<string, (sessions: Sessions) => Promise<{ listener?: RequestListener; url?: string; close?: () => Promise<void> }>> = {
  http: async (sessions) => ({
    listener: sessions.handler(async (request, response) => {
      const send = (text: string, status = 200) => response.writeHead(status).end(text);
      await routes[request.url!.split('?')[0]!]!(await sessionOf(request), { send, raw: response }, request);
    }),
  }),
  'Express 5': async (sessions) => ({ listener: expressApp(express(), sessions) }),
  'Express 4': async (sessions) => ({ listener: expressApp((express4 as typeof express)(), sessions) }),
  Fastify: async (sessions) => {
    const app = Fastify({ keepAliveTimeout: 0 });
    await app.register(fastifySessions, { sessions });
    for (const [path, route] of Object.entries(routes)) {
      app.all(path, async (request, reply) => {
        if (streams.has(path)) reply.hijack();
        let sent = false;
        const send = (text: string, status = 200) => {
          sent = true;
          reply.code(status).send(text);
        };
        await route(await request.session(), { send, raw: reply.raw }, request.raw);
        if (!sent && !streams.has(path)) reply.send('');
        return reply;
      });
    }
    const url = await app.listen({ port: 0, host: '127.0.0.1' });
    return { url, close: () => app.close() };
  },
};

function expressApp(app: ReturnType<typeof express>, sessions: Sessions): RequestListener {
  app.use(expressSessions(sessions));
  for (const [path, route] of Object.entries(routes)) {
    app.all(path, (request, response, next) => {
      const send = (text: string, status = 200) => void response.status(status).send(text);
      sessionOf(request).then((s) => route(s, { send, raw: response }, request)).catch(next);
    });
  }
  app.use(expressErrors(sessions));
  app.use(((_error, _request, response, _next) => void response.status(500).send('error')) as express.ErrorRequestHandler);
  return app as unknown as RequestListener;
}

for (const [i, name] of Object.keys(frameworks).entries()) {
  describe(name, () => {
    let sessions: Sessions;
    let server: HttpServer | undefined;
    let url: string;
    let close: (() => Promise<void>) | undefined;
    const open = async (redisUrl: string, config: Config = {}) => {
      sessions = new Sessions(openRedis(redisUrl, libraries[i % 2]!), {
        namespace: freshNamespace(), logger: () => undefined, timeout: 60_000, userFields: [cart], ...config,
      });
      const made = await frameworks[name]!(sessions);
      close = made.close;
      if (made.listener) {
        server = await listen(made.listener);
      }
      url = made.url ?? `http://127.0.0.1:${(server!.address() as AddressInfo).port}`;
    };
    const shut = async () => {
      server?.closeAllConnections();
      server?.close();
      await close?.();
      await sessions.close();
    };
    before(async () => open(await sharedUrl()));
    after(shut);

    test('the commit comes before the header, with a secure cookie', async () => {
      const browser = new Browser(url);
      const first = await browser.get('/visit');
      assert.equal(first.content, '1');
      const [cookie] = first.headers.getSetCookie();
      assert.match(cookie!, /^__Host-session-anon=[\w-]{52}; Path=\/; HttpOnly; Secure; SameSite=Lax$/);
      assert.equal(first.headers.get('cache-control'), 'no-store');
      assert.match(first.headers.get('vary')!, /Cookie/);
      const second = await browser.get('/visit');
      assert.equal(second.content, '2');
      assert.deepEqual(second.headers.getSetCookie(), []);
      assert.equal(second.headers.get('cache-control'), 'private, no-cache');
    });

    test('no write is lost among concurrent requests', async () => {
      const browser = new Browser(url);
      await browser.get('/visit');
      await Promise.all(Array.from({ length: 40 }, () => browser.get('/visit')));
      assert.equal((await browser.get('/read')).content, '41');
    });

    test('an error of the handler drops its changes', async () => {
      const browser = new Browser(url);
      await browser.get('/visit');
      assert.equal((await browser.get('/fail')).status, 500);
      assert.equal((await browser.get('/read')).content, '1');
    });

    test('a commit that fails replaces the response', async () => {
      const browser = new Browser(url);
      await browser.get('/visit');
      for (const path of ['/broken', '/broken?missing']) {
        const failed = await browser.get(path);
        assert.equal(failed.status, 500);
        assert.doesNotMatch(failed.content, /success/);
        assert.doesNotMatch(failed.headers.get('content-type')!, /html/);
      }
      assert.equal((await browser.get('/read')).content, '1');
    });

    test('a handler that knows of a failed commit may answer itself', async () => {
      const browser = new Browser(url);
      for (const path of ['/known', '/signin', '/known']) {
        const known = await browser.get(path);
        if (path === '/known') assert.deepEqual([known.status, known.content], [413, 'too much']);
      }
    });

    test('streams, pipes and writeHead commit first and arrive whole', async () => {
      const browser = new Browser(url);
      const stream = await browser.get('/stream');
      assert.equal(stream.content, 'part 0\npart 1\npart 2\nend\n');
      assert.equal(stream.headers.getSetCookie().length, 1);
      assert.equal((await browser.get('/pipe')).content.length, 64 * 65536);
      const head = await browser.get('/head');
      assert.deepEqual([head.status, head.headers.get('x-own'), head.content], [201, 'yes', 'made']);
      assert.equal((await browser.get('/read')).content, '3');
    });

    test('a client that goes away does not undo its request', async () => {
      const browser = new Browser(url);
      await browser.get('/visit');
      const entered = new Promise<void>((resolve) => (slow.entered = resolve));
      const closed = new Promise<void>((resolve) => (slow.closed = resolve));
      const cookie = [...browser.cookies].map((pair) => pair.join('=')).join('; ');
      const request = httpRequest(`${url}/later`, { headers: { cookie } }).on('error', () => undefined);
      request.end();
      await entered;
      request.destroy();
      await closed;
      slow.release!();
      await eventually('the visit is counted', async () => ((await browser.get('/read')).content === '2' ? true : undefined));
    });

    test('a request under way at a sign-out cannot bring the session back', async () => {
      const browser = new Browser(url);
      await browser.get('/signin');
      const late = new Browser(url);
      for (const [key, value] of browser.cookies) late.cookies.set(key, value);
      const entered = new Promise<void>((resolve) => (slow.entered = resolve));
      const request = late.get('/later');
      await entered;
      const out = await browser.get('/signout');
      assert.match(out.headers.getSetCookie().join(), /Max-Age=0/);
      slow.release!();
      const answer = await request;
      assert.equal(answer.status, 409);
      assert.deepEqual(answer.headers.getSetCookie(), []);
      assert.equal((await late.get('/who')).status, 401);
    });

    test('a sign-in that was committed keeps its cookie when the handler fails later', async () => {
      const browser = new Browser(url);
      assert.equal((await browser.get('/signin-and-fail')).status, 500);
      assert.equal((await browser.get('/who')).content, 'ada');
    });

    test('two devices of a user share a cart, and an anonymous cart joins it', async () => {
      const [phone, laptop] = [new Browser(url), new Browser(url)];
      const bought = async (browser: Browser) => (await browser.get('/cart')).content;
      assert.equal((await phone.get('/buy')).content, '1');
      await phone.get('/signin?user=cart');
      assert.equal(await bought(phone), '1');
      await laptop.get('/buy');
      await laptop.get('/buy');
      await laptop.get('/signin?user=cart');
      assert.deepEqual([await bought(laptop), await bought(phone)], ['3', '3']);
      assert.equal((await phone.get('/buy')).content, '4');
      assert.equal((await phone.get('/buy-and-fail')).status, 500);
      const failed = await phone.get('/buy-too-much');
      assert.deepEqual([failed.status, /success/.test(failed.content)], [500, false]);
      assert.equal(await bought(laptop), '4');
      assert.equal((await phone.get('/read')).content, '2', 'the session was committed before the data');
      await phone.get('/buy-late');
      await eventually('what is changed after the header is stored', async () => ((await bought(laptop)) === '5' ? true : undefined));
      await laptop.get('/signout');
      assert.deepEqual([await bought(laptop), await bought(phone)], ['0', '5']);
    });

    test('a client that goes away undoes neither commit, and one that was signed out makes none', async () => {
      const browser = new Browser(url);
      await browser.get('/signin?user=hasty');
      const cookie = [...browser.cookies].map((pair) => pair.join('=')).join('; ');
      const entered = new Promise<void>((resolve) => (slow.entered = resolve));
      const closed = new Promise<void>((resolve) => (slow.closed = resolve));
      const request = httpRequest(`${url}/buy-later`, { headers: { cookie } }).on('error', () => undefined);
      request.end();
      await entered;
      request.destroy();
      await closed;
      slow.release!();
      await eventually('the apple is bought', async () => ((await browser.get('/cart')).content === '1' ? true : undefined));
      assert.equal((await browser.get('/read')).content, '1');
      const waiting = new Promise<void>((resolve) => (slow.entered = resolve));
      const late = new Browser(url);
      for (const [key, value] of browser.cookies) late.cookies.set(key, value);
      const answer = late.get('/buy-later');
      await waiting;
      await sessions.revokeUser('hasty');
      slow.release!();
      assert.equal((await answer).status, 409);
      assert.equal(cart.get(await sessions.userData('hasty'), 'apple'), 1);
    });

    test('requests of other sites are refused', async () => {
      const browser = new Browser(url);
      await browser.get('/visit');
      for (const headers of [{ 'sec-fetch-site': 'cross-site' }, { origin: 'https://evil.example' }]) {
        assert.equal((await browser.get('/visit', { method: 'POST', headers })).status, 403);
      }
      assert.equal((await browser.get('/visit', { method: 'POST', headers: { origin: url } })).content, '2');
      const anonymous = new Browser(url);
      assert.equal((await anonymous.get('/visit', { method: 'POST', headers: { origin: 'https://evil.example' } })).status, 403);
    });

    test('a store that is down is a 503, and signs nobody out', async () => {
      await shut();
      const redis = await Server.start();
      await open(redis.url);
      const browser = new Browser(url);
      await browser.get('/signin');
      await redis.down();
      const down = await browser.get('/read');
      assert.equal(down.status, 503);
      assert.equal(down.headers.get('retry-after'), '1');
      assert.deepEqual(down.headers.getSetCookie(), []);
      await redis.stop();
    });
  });
}

test('the check of the origin agrees with the Go library', async () => {
  const trustedOrigins = ['https://partner.example'];
  const sessions = new Sessions(openRedis(await sharedUrl(), 'ioredis'), {
    namespace: freshNamespace(), logger: () => undefined, timeout: 60_000, trustedOrigins,
  });
  const server = await listen(sessions.handler(async (request, response) => {
    visits.add(await sessionOf(request), 1);
    response.end('ok');
  }));
  const { port } = server.address() as AddressInfo;
  const send = (method: string, headers: [name: string, value: string][]) => new Promise<IncomingMessage>((resolve, reject) => {
    const lines = [['Host', 'shop.example'], ...headers].flat();
    httpRequest({ port, method, headers: lines }, (response) => response.resume().on('end', () => resolve(response))).on('error', reject).end();
  });
  try {
    const first = await send('GET', []);
    const cookie = first.headers['set-cookie']![0]!.split(';')[0]!;
    const origin = (...values: string[]) => values.map((value): [string, string] => ['Origin', value]);
    const site = (...values: string[]) => values.map((value): [string, string] => ['Sec-Fetch-Site', value]);
    const evil = origin('https://evil.example');
    const good: [method: string, headers: [string, string][]][] = [
      ...['GET', 'HEAD', 'OPTIONS'].map((method): [string, [string, string][]] => [method, evil]),
      ['TRACE', []], ['POST', []], ['POST', origin('')], ['POST', site('')], ['POST', origin('https://shop.example')],
      ['POST', origin('http://shop.example')], ['POST', origin('https://partner.example')],
      ['POST', [...site('cross-site'), ...origin('https://partner.example')]], ['POST', [...site('same-origin'), ...evil]],
      ['POST', [...site('none'), ...evil]], ['POST', [...site(''), ...origin('https://shop.example')]],
    ];
    const bad: typeof good = [
      ['TRACE', evil], ['PUT', evil], ['POST', [...site(''), ...evil]],
      ...[
        'null', 'shop.example', 'https://SHOP.example', 'https://shop.example:443', 'https://shop.example\\@evil.example',
        'https:////shop.example', 'https:\\\\shop.example', 'https:shop.example', 'https://shop.example.evil', 'http://[bad', 'file://',
        'https://partner.example/', 'https://PARTNER.example',
      ].map((text): [string, [string, string][]] => ['POST', origin(text)]),
      ...['cross-site', 'same-site', 'Same-Origin', 'other'].map((text): [string, [string, string][]] => ['POST', site(text)]),
      ['POST', site('same-origin', 'cross-site')], ['POST', site('same-origin', 'same-origin')], ['POST', site('', 'cross-site')],
      ['POST', origin('https://shop.example', 'https://evil.example')], ['POST', origin('', 'https://evil.example')],
      ['POST', [...site('same-origin'), ...origin('https://shop.example', 'https://shop.example')]],
      ['POST', [...site('same-origin', 'cross-site'), ...origin('https://partner.example')]],
      ['POST', [...site('none'), ...origin('https://partner.example', 'https://partner.example')]],
    ];
    for (const known of [true, false]) {
      for (const [list, status] of [[good, 200], [bad, 403]] as const) {
        for (const [method, headers] of list) {
          const response = await send(method, known ? [...headers, ['Cookie', cookie]] : headers);
          assert.equal(response.statusCode, status, `${method} ${JSON.stringify(headers)}, known: ${known}`);
        }
      }
    }
  } finally {
    server.closeAllConnections();
    server.close();
    await sessions.close();
  }
});

test('express-session: no lost members, no resurrection', async () => {
  const sessions = new Sessions(openRedis(await sharedUrl(), 'node-redis'), {
    namespace: freshNamespace(), logger: () => undefined, timeout: 60_000,
  });
  const app = express();
  app.use(expressSession({
    secret: 'secret', resave: false, saveUninitialized: false, store: expressSessionStore(expressSession, sessions),
  }));
  const bag = (request: unknown) => (request as { session: Record<string, unknown> }).session;
  const waiting: (() => void)[] = [];
  let entered = () => {};
  app.get('/set/:name', async (request, response) => {
    bag(request)[request.params.name] = 1;
    response.send('ok');
  });
  app.get('/slow/:name', async (request, response) => {
    const released = new Promise<void>((resolve) => waiting.push(resolve));
    entered();
    await released;
    bag(request)[request.params.name] = 1;
    response.send('ok');
  });
  app.get('/usual', (request, response) => {
    bag(request)['usual'] = { map: new Map(), list: [undefined] }; // Value.set refuses it
    response.send('ok');
  });
  app.get('/names', (request, response) => void response.json(Object.keys(bag(request)).sort()));
  app.get('/out', (request, response) => void (request as unknown as { session: expressSession.Session }).session.destroy(() => response.send('out')));
  const server = await listen(app as unknown as RequestListener);
  const browser = new Browser(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const enters = async (n: number) => {
    while (waiting.length < n) await new Promise<void>((resolve) => (entered = resolve));
  };
  try {
    await browser.get('/set/first');
    const both = ['/slow/a', '/slow/b'].map((path) => browser.get(path));
    await enters(2);
    for (const release of waiting.splice(0)) release();
    await Promise.all(both);
    assert.deepEqual(JSON.parse((await browser.get('/names')).content), ['a', 'b', 'cookie', 'first']);
    const late = browser.get('/slow/late');
    await enters(1);
    await browser.get('/out');
    for (const release of waiting.splice(0)) release();
    await late;
    assert.deepEqual(JSON.parse((await browser.get('/names')).content), ['cookie']);
    assert.equal((await browser.get('/usual')).status, 200);
    assert.deepEqual(JSON.parse((await browser.get('/names')).content), ['cookie', 'usual']);
  } finally {
    server.closeAllConnections();
    server.close();
    await sessions.close();
  }
});

