import assert from 'node:assert/strict';
import { createServer as httpServer } from 'node:http';
import { connect as tcpConnect, createServer as tcpServer, type AddressInfo, type Socket } from 'node:net';
import { inspect } from 'node:util';
import { runInNewContext } from 'node:vm';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis as IoRedis } from 'ioredis';
import { createSentinel } from 'redis';
import {
  Counter, MapField, Sessions, Value, ioredis, isSessionError, nodeRedis, type Config, type ErrorCode, type Redis, type Session,
} from '../dist/index.js';
import { readCredentials } from '../dist/credentials.js';
import { setCookies } from '../dist/exchange.js';
import { TokenKeys } from '../dist/token.js';
import { libraries, openRedis } from './clients.js';
import { Server, eventually, freshNamespace, sharedUrl } from './server.js';

const visits = new Counter('visits');
const value = new Value<any>('value'); // eslint-disable-line @typescript-eslint/no-explicit-any
const exact = new Value<unknown>('value', { bigints: true });
const map = new MapField<unknown>('map');
const channel = { headerSent: false, crossOrigin: () => undefined };

const fails = (code: ErrorCode) => (error: unknown) => isSessionError(error, code);

/** Returns the cookie of a session that has one, after its commit. */
async function commit(sessions: Sessions, session: Session): Promise<string> {
  await session.commitBeforeHeader(true);
  return setCookies(sessions, session).find((cookie) => !cookie.includes('=;'))!.split(';')[0]!;
}

const read = (sessions: Sessions, cookie?: string) => sessions.open(cookie, [], channel).read();

const opened: Sessions[] = [];
const open = (redis: Redis, namespace = freshNamespace(), config: Config = {}) => {
  const sessions = new Sessions(redis, { namespace, timeout: 60_000, logger: () => undefined, ...config });
  opened.push(sessions);
  return sessions;
};
after(() => Promise.all(opened.map((sessions) => sessions.close())));

/** Stores a value, and returns it as another request reads it. */
async function roundTrip(sessions: Sessions, field: Value<unknown>, stored: unknown): Promise<unknown> {
  const session = await read(sessions);
  field.set(session, stored);
  return field.get(await read(sessions, await commit(sessions, session)));
}

for (const library of libraries) {
  describe(library, () => {
    test('numbers come back as they were, or are refused', async () => {
      const sessions = open(openRedis(await sharedUrl(), library));
      for (const n of [0, 1.0, 1e3, 1e21, 0.1, -5, 2 ** 53 - 1, Number.MIN_VALUE]) {
        assert.equal(await roundTrip(sessions, value, n), n);
      }
      assert.equal(await roundTrip(sessions, value, -0), 0); // JSON.stringify writes 0
      for (const n of [2n ** 63n, -(2n ** 100n), 2n ** 53n]) assert.deepEqual(await roundTrip(sessions, exact, { n }), { n });
      const session = await read(sessions);
      for (const n of [1n, [2n ** 60n], NaN, Infinity]) assert.throws(() => value.set(session, n), fails('invalid'));
      exact.set(session, [2n ** 53n + 1n]);
      const other = await read(sessions, await commit(sessions, session));
      assert.throws(() => value.get(other), fails('decode'));
      for (const n of [0.5, 2 ** 53, NaN]) assert.throws(() => visits.add(session, n), fails('invalid'));
    });

    test('what JSON would lose is refused', async () => {
      const sessions = open(openRedis(await sharedUrl(), library));
      const session = await read(sessions);
      class Point {
        x = 1;
      }
      const lost = [
        new Map([['a', 1]]), new Set([1]), new Point(), new Number(NaN), new String('a'), /a/, new Error('a'), new Uint8Array(1),
        new WeakMap(), Promise.resolve(), undefined, () => 1, Symbol('a'),
      ];
      for (const bad of lost) {
        assert.throws(() => value.set(session, bad), fails('invalid'));
        assert.throws(() => exact.set(session, [bad]), fails('invalid'));
        assert.throws(() => map.set(session, 'a', { a: [bad] }), fails('invalid'));
        if (bad !== undefined) assert.throws(() => value.set(session, { bad }), fails('invalid'));
      }
      assert.throws(() => value.set(session, new Array(1)), fails('invalid'));
      for (const kept of [null, true, 'a', 1, [], {}, [null, { a: [{}] }], runInNewContext('({ a: [{}] })')]) {
        assert.deepEqual(await roundTrip(sessions, value, kept), JSON.parse(JSON.stringify(kept)));
      }
      assert.deepEqual(await roundTrip(sessions, value, Object.assign(Object.create(null), { a: 1 })), { a: 1 });
      assert.deepEqual(await roundTrip(sessions, value, { a: undefined, b: 1 }), { b: 1 });
      assert.deepEqual(await roundTrip(sessions, value, [new Date(0)]), ['1970-01-01T00:00:00.000Z']);
      assert.equal(await roundTrip(sessions, value, new URL('https://shop.example/')), 'https://shop.example/');
    });

    test('lone surrogates are refused, and pairs are kept', async () => {
      const sessions = open(openRedis(await sharedUrl(), library));
      const session = await read(sessions);
      for (const bad of ['\ud800', ['x\udc00'], { '\ud83d': 1 }]) assert.throws(() => value.set(session, bad), fails('invalid'));
      assert.throws(() => map.set(session, '\ud800', 1), fails('invalid'));
      for (const good of ['😀', '\\ud800', '\ufffd']) assert.equal(await roundTrip(sessions, value, good), good);
    });

    test('no stored name reaches a prototype', async () => {
      const sessions = open(openRedis(await sharedUrl(), library));
      const session = await read(sessions);
      const evil = JSON.parse('{"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}}}') as object;
      value.set(session, evil);
      for (const key of ['__proto__', 'constructor', 'toString']) map.set(session, key, key);
      new Value('__proto__').set(session, { admin: true });
      const other = await read(sessions, await commit(sessions, session));
      assert.deepEqual([...map.entries(other).keys()].sort(), ['__proto__', 'constructor', 'toString']);
      assert.equal(map.get(other, 'valueOf'), undefined);
      assert.equal(new Value('hasOwnProperty').get(other), undefined);
      const back = value.get(other) as { admin?: boolean };
      assert.ok(Object.hasOwn(back, '__proto__'));
      assert.equal(back.admin, undefined);
      assert.equal(({} as { admin?: boolean }).admin, undefined);
    });

    test('a record that is not UTF-8 is refused, and stays as it is', async () => {
      const url = await sharedUrl();
      const namespace = freshNamespace();
      const redis = openRedis(url, library);
      const sessions = open(redis, namespace);
      const session = await read(sessions);
      value.set(session, 'abc'); // as long as the bytes below
      const cookie = await commit(sessions, session);
      const direct = new IoRedis(url);
      try {
        const [key] = await direct.keys(`${namespace}:*:s:*`);
        // U+FFFD in UTF-8 is as long as these bytes: the size of the record does not tell.
        const bytes = Buffer.from([0x22, 0xf0, 0x9f, 0x98, 0x22]);
        await direct.hset(key!, 'value', bytes);
        let sent = 0;
        const send = redis.send.bind(redis);
        redis.send = (key, commands) => {
          sent++;
          return send(key, commands);
        };
        await assert.rejects(read(sessions, cookie), fails('unavailable'));
        assert.equal(sent, redis.cluster ? 2 : 1, 'it is not tried again');
        assert.deepEqual(await direct.hgetBuffer(key!, 'value'), bytes);
      } finally {
        direct.disconnect();
      }
    });

    test('parts of one request change one session at the same time', async () => {
      const sessions = open(openRedis(await sharedUrl(), library));
      const first = await read(sessions);
      await Promise.all([1, 2, 3].map(() => {
        visits.add(first, 1);
        return first.commit(); // the first one stores the session, and the others change it
      }));
      const cookie = await commit(sessions, first);
      const session = await read(sessions, cookie);
      assert.equal(visits.get(session), 3);
      await Promise.all(Array.from({ length: 50 }, async (_, i) => {
        visits.add(session, 1);
        if (i % 3 === 0) await session.commit();
        map.set(session, String(i), i);
        if (i % 7 === 0) await value.update(session, (old) => ((old as number | undefined) ?? 0) + 1);
      }));
      await session.commit();
      const other = await read(sessions, cookie);
      assert.deepEqual([visits.get(other), map.entries(other).size, value.get(other)], [53, 50, 8]);
    });

    test('flushed scripts are loaded again, and Redis that was gone is used again', async () => {
      const server = await Server.start();
      const sessions = open(openRedis(server.url, library));
      const write = async () => {
        const session = await read(sessions);
        visits.add(session, 1);
        const other = await read(sessions, await commit(sessions, session));
        visits.add(other, 1);
        await other.commit();
        return visits.get(other);
      };
      try {
        assert.equal(await write(), 2);
        const direct = new IoRedis(server.url);
        await direct.script('FLUSH');
        direct.disconnect();
        assert.equal(await write(), 2);
        await server.down();
        await assert.rejects(write(), (error) => isSessionError(error) && error.status === 503);
        await server.up();
        assert.equal(await eventually('Redis is used again', write), 2);
      } finally {
        await server.stop();
      }
    });

    test('an update after a set of the same value succeeds, also sealed', async () => {
      const keys = [Buffer.alloc(32, 1)];
      const redis = openRedis(await sharedUrl(), library);
      const sessions = open(redis, freshNamespace(), { keys, userKey: keys[0]!, seal: true });
      const first = await read(sessions);
      value.set(first, 0);
      const cookie = await commit(sessions, first);
      const session = await read(sessions, cookie);
      value.set(session, 1);
      map.set(session, 'a', 1);
      await value.update(session, (old: number) => old + 1);
      await map.update(session, 'a', (old) => (old as number) + 1);
      const other = await read(sessions, cookie);
      assert.deepEqual([value.get(other), map.get(other, 'a')], [2, 2]);
    });

    test('errors show no value', async () => {
      const server = await Server.start();
      try {
        const sessions = open(openRedis(server.url, library));
        const direct = new IoRedis(server.url);
        await direct.config('SET', 'maxmemory', '1');
        direct.disconnect();
        const session = await read(sessions);
        value.set(session, 'SECRET-4111');
        await assert.rejects(session.commit(), (error) => {
          assert.doesNotMatch(inspect(error, { depth: 10 }), /SECRET|redis\.call/);
          return isSessionError(error, 'unavailable');
        });
      } finally {
        await server.stop();
      }
    });

    test('a connection that went silent is replaced', async () => {
      const url = new URL(await sharedUrl());
      const sockets: Socket[] = [];
      let made = 0;
      let old = 0; // the connections up to this one are silent
      let letNewOnesSpeak = () => {};
      let newOnesSpeak: Promise<unknown> = Promise.resolve();
      const proxy = tcpServer((socket) => {
        const number = ++made;
        const redis = tcpConnect(Number(url.port), url.hostname);
        sockets.push(socket, redis);
        const pass = (to: Socket, data: Buffer) => void newOnesSpeak.then(() => number > old && to.write(data));
        socket.on('data', (data) => pass(redis, data)).on('error', () => redis.destroy());
        redis.on('data', (data) => pass(socket, data)).on('error', () => socket.destroy());
      });
      await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
      const address = `redis://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
      const namespace = freshNamespace();
      const [sessions, direct] = [open(openRedis(address, library), namespace, { timeout: 1000 }), open(openRedis(url.href, library), namespace)];
      try {
        const session = await read(direct);
        visits.add(session, 1);
        const cookie = await commit(direct, session);
        const count = async () => visits.get(await read(sessions, cookie));
        assert.equal(await eventually('the connection is made', count), 1);
        old = made;
        newOnesSpeak = new Promise<void>((resolve) => (letNewOnesSpeak = resolve));
        await assert.rejects(read(sessions, cookie), fails('unavailable'));
        letNewOnesSpeak();
        assert.equal(await eventually('the connection is replaced', count), 1);
        assert.ok(made > old);
      } finally {
        await sessions.close();
        for (const socket of sockets) socket.destroy();
        proxy.close();
      }
    });

    test('a connection that takes seconds is waited for, also after one that failed', async () => {
      const url = new URL(await sharedUrl());
      const sockets: Socket[] = [];
      let made = 0;
      const proxy = tcpServer((socket) => {
        sockets.push(socket.on('error', () => undefined));
        if (++made === 1) {
          socket.resetAndDestroy();
          return;
        }
        setTimeout(() => {
          const redis = tcpConnect(Number(url.port), url.hostname).on('error', () => undefined);
          sockets.push(redis);
          socket.pipe(redis).pipe(socket);
        }, 1500);
      });
      await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
      const sessions = open(openRedis(`redis://127.0.0.1:${(proxy.address() as AddressInfo).port}`, library));
      try {
        const session = await read(sessions);
        visits.add(session, 1);
        assert.equal(visits.get(await read(sessions, await commit(sessions, session))), 1);
      } finally {
        await sessions.close();
        for (const socket of sockets) socket.destroy();
        proxy.close();
      }
    });

    test('Sentinel names the server', async () => {
      const server = await Server.start();
      const sentinel = await Server.startSentinel(server);
      try {
        const nodes = [{ host: '127.0.0.1', port: sentinel.port }];
        const sessions = open(library === 'ioredis'
          ? ioredis(new IoRedis({ sentinels: nodes, name: 'primary', lazyConnect: true }))
          : nodeRedis(createSentinel({ name: 'primary', sentinelRootNodes: nodes })));
        const session = await read(sessions);
        visits.add(session, 1);
        await session.signIn({ user: 'ada' });
        const other = await read(sessions, await commit(sessions, session));
        assert.deepEqual([visits.get(other), other.user], [1, 'ada']);
        assert.equal((await sessions.list('ada').next()).value?.user, 'ada');
        await sessions.close();
      } finally {
        await sentinel.stop();
        await server.stop();
      }
    });
  });
}

/** Calls `before` and `after` around the TIME with which a sign-in begins. */
function hookTime(redis: Redis, before: () => Promise<unknown>, after: () => Promise<unknown>): Redis {
  const send = redis.send.bind(redis);
  redis.send = async (key, commands) => {
    if (commands.length > 1 || commands[0]![0] !== 'TIME') return send(key, commands);
    await before();
    const replies = await send(key, commands);
    await after();
    return replies;
  };
  return redis;
}

const nothing = () => Promise.resolve();

/**
 * Reads a session until its client knows the server's time. It returns the greatest error of the
 * estimate, in milliseconds: that is the shortest round trip.
 */
async function learnTime(sessions: Sessions, cookie: string): Promise<number> {
  let error = Infinity;
  for (let i = 0; i < 20; i++) {
    const asked = performance.now();
    await read(sessions, cookie);
    error = Math.min(error, performance.now() - asked);
  }
  return error;
}

test('a late reply does not date a sign-in before a revocation by another process', async () => {
  const namespace = freshNamespace();
  let late = 0;
  const redis = hookTime(openRedis(await sharedUrl(), 'ioredis'), nothing, () => sleep(late));
  const [sessions, others] = [open(redis, namespace), open(openRedis(await sharedUrl(), 'ioredis'), namespace)];
  const first = await read(others);
  visits.add(first, 1);
  const wait = (await learnTime(sessions, await commit(others, first))) + 50;
  await others.revokeUser('ada');
  await sleep(wait);
  late = wait + 300;
  const session = await read(sessions);
  await session.signIn({ user: 'ada' });
  assert.equal(session.user, 'ada');
});

test('a late reply does not date a request before the end of its session', async () => {
  const namespace = freshNamespace();
  const redis = openRedis(await sharedUrl(), 'ioredis');
  const send = redis.send.bind(redis);
  let late = 0;
  redis.send = async (key, commands) => {
    const replies = await send(key, commands);
    if (late > 0) await sleep(late);
    return replies;
  };
  const [sessions, others] = [open(redis, namespace), open(openRedis(await sharedUrl(), 'ioredis'), namespace)];
  const first = await read(others);
  await first.signIn({ user: 'ada' });
  const cookie = await commit(others, first);
  const wait = (await learnTime(sessions, cookie)) + 50;
  await others.revokeUser('ada');
  await sleep(wait);
  late = wait + 300;
  const session = await read(sessions, cookie);
  visits.add(session, 1); // throws `ended` if the session seems to have ended during the request
  assert.equal(session.user, undefined);
});

test('a sign-in that began before a revocation is refused, however late its TIME is', async () => {
  const namespace = freshNamespace();
  const others = open(openRedis(await sharedUrl(), 'ioredis'), namespace);
  const revoke = async () => {
    await others.revokeUser('ada');
    await sleep(20);
  };
  const sessions = open(hookTime(openRedis(await sharedUrl(), 'ioredis'), revoke, nothing), namespace);
  const session = await read(sessions);
  await assert.rejects(session.signIn({ user: 'ada' }), fails('revoked'));
});

test('spaces at the end of a cookie cost linear time', () => {
  const before = process.cpuUsage();
  readCredentials(`__Host-session=${' '.repeat(300_000)}x`, [], '__Host-session', new TokenKeys([]));
  const { user, system } = process.cpuUsage(before); // also where the process was stopped
  assert.ok(user + system < 20_000_000); // a quadratic search takes minutes
});

test('an error handler that throws closes its own connection only', async () => {
  const sessions = open(openRedis(await sharedUrl(), 'ioredis'));
  const thrown: unknown[] = [new Error('failed'), Object.create(null)];
  const server = httpServer(sessions.handler((request, response) => {
    if (request.url === '/good') response.end('good');
    else throw thrown[Number(request.url!.slice(1))];
  }, () => {
    throw new Error('the error handler failed, too');
  }));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    for (const i of thrown.keys()) await assert.rejects(fetch(`${url}/${i}`));
    assert.equal(await (await fetch(`${url}/good`)).text(), 'good');
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
