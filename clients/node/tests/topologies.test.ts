import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis as IoRedis } from 'ioredis';
import { createSentinel } from 'redis';
import { setCookies } from '../dist/exchange.js';
import { Counter, Counters, Sessions, ioredis, nodeRedis, type Session } from '../dist/index.js';
import { libraries, openRedis, type Library } from './clients.js';
import { Server, eventually, freshNamespace } from './server.js';

const visits = new Counter('visits');
const cart = new Counters('cart');
const channel = { headerSent: false, crossOrigin: () => undefined };
const read = (sessions: Sessions, cookie?: string) => sessions.open(cookie, [], channel).read();

async function commit(sessions: Sessions, session: Session): Promise<string> {
  await session.commitBeforeHeader(true);
  return setCookies(sessions, session).find((cookie) => !cookie.includes('=;'))!.split(';')[0]!;
}

/** Uses all parts of the package that send commands. */
async function useAll(sessions: Sessions): Promise<void> {
  const anonymous = await read(sessions);
  visits.add(anonymous, 1);
  const cookies = [await commit(sessions, anonymous)];
  for (let i = 0; i < 8; i++) { // users of different slots
    const session = await read(sessions, i === 0 ? cookies[0] : undefined);
    if (i > 0) visits.add(session, 1);
    cart.add(session, 'apple', 1);
    await session.signIn({ user: `user ${i}` });
    const cookie = await commit(sessions, session);
    const other = await read(sessions, cookie);
    assert.deepEqual([other.user, visits.get(other)], [`user ${i}`, 1]);
    assert.equal(cart.get(await other.userData(), 'apple'), 1);
    assert.equal(await visits.addWithin(other, 1, 0, 2), 2n);
    assert.equal((await sessions.list(`user ${i}`).next()).value?.handle, other.handle);
    cookies.push(cookie);
  }
  assert.equal((await read(sessions, cookies[0])).user, undefined);
  assert.equal(await sessions.deleteUser('user 1'), 1);
  assert.equal(cart.get(await sessions.userData('user 1'), 'apple'), 0);
  await (await read(sessions, cookies[3])).signOut();
  assert.equal((await read(sessions, cookies[2])).user, undefined);
  assert.equal((await read(sessions, cookies[3])).user, undefined);
  assert.equal((await read(sessions, cookies[4])).user, 'user 3');
  await sessions.revokeEverybody();
  for (const cookie of cookies) assert.equal((await read(sessions, cookie)).user, undefined);
}

const stops: (() => unknown)[] = [];
after(async () => {
  for (const stop of stops) await stop();
});

/** A Cluster of three primaries. */
interface ClusterServers {
  readonly url: string;
  readonly servers: readonly Server[];
}

async function startCluster(): Promise<ClusterServers> {
  const options = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '60000']; // the machine may be busy
  const servers = await Promise.all([1, 2, 3].map(() => Server.start(options)));
  for (const server of servers) stops.push(() => server.stop());
  const addresses = servers.map(({ port }) => `127.0.0.1:${port}`);
  const made = spawnSync('redis-cli', ['--cluster', 'create', ...addresses, '--cluster-yes'], { encoding: 'utf8' });
  assert.equal(made.status, 0, made.stdout + made.stderr);
  await Promise.all(servers.map((server) => onServer(server, (redis) =>
    eventually('the Cluster is ready', async () => ((await redis.cluster('INFO')).includes('cluster_state:ok') ? true : undefined)),
  )));
  return { url: `redis-cluster://${addresses.join()}`, servers };
}

/** Calls `f` with a connection of the test to a server. */
async function onServer<T>(server: Server, f: (redis: IoRedis) => Promise<T>): Promise<T> {
  const redis = new IoRedis(server.url);
  try {
    return await f(redis);
  } finally {
    redis.disconnect();
  }
}

/** Returns how often each server has run TIME. */
const timesAsked = (servers: readonly Server[]) => Promise.all(servers.map((server) => onServer(server, async (redis) =>
  Number(/cmdstat_time:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0),
)));

/** Returns the port of the primary that has a key. */
async function portOf(redis: IoRedis, key: string): Promise<number> {
  const slot = await redis.cluster('KEYSLOT', key);
  const ranges = await redis.cluster('SLOTS');
  return ranges.find(([first, last]) => first <= slot && slot <= last)![2]![1];
}

/** Closes clients while they connect, or connect again, and checks that no connection stays open. */
async function closeEarly(url: string, library: Library, servers: readonly Server[]): Promise<void> {
  for (const delay of [0, 1, 2, 3, 5, 10, 20, 50]) {
    const redis = openRedis(url, library);
    redis.send('key', [['PING']]).catch(() => undefined);
    await sleep(delay);
    await redis.close();
    const connected = openRedis(url, library);
    await connected.send('key', [['PING']]);
    for (const server of servers) await onServer(server, (redis) => redis.client('KILL', 'TYPE', 'NORMAL'));
    await sleep(delay);
    await connected.close();
  }
  for (const server of servers) {
    await onServer(server, (redis) => eventually('all connections but this one are closed', async () =>
      (await redis.info('clients')).includes('connected_clients:1\r\n') ? true : undefined));
  }
}

test('a client that is closed while it connects, or connects again, leaves no connection open', async () => {
  const server = await Server.start();
  stops.push(() => server.stop());
  for (const library of libraries) await closeEarly(server.url, library, [server]);
});

describe('Cluster', () => {
  let cluster: Promise<ClusterServers> | undefined;

  // First: scripts run TIME, too.
  for (const library of libraries) {
    test(`${library}: TIME reaches the primary of a key`, async () => {
      const { url, servers } = await (cluster ??= startCluster());
      const keys = Array.from({ length: 60 }, (_, i) => `{${i}}`);
      const ports = await onServer(servers[0]!, (redis) => Promise.all(keys.map((key) => portOf(redis, key))));
      const before = await timesAsked(servers);
      const redis = openRedis(url, library);
      try {
        for (const key of keys) assert.ok(Array.isArray((await redis.send(key, [['TIME']]))[0]));
      } finally {
        await redis.close();
      }
      const asked = (await timesAsked(servers)).map((n, i) => n - before[i]!);
      assert.deepEqual(asked, servers.map(({ port }) => ports.filter((each) => each === port).length));
    });
  }

  for (const library of libraries) {
    test(`${library}: a client that is closed while it connects, or connects again, leaves no connection open`, async () => {
      const { url, servers } = await (cluster ??= startCluster());
      await closeEarly(url, library, servers);
    });
  }

  for (const library of libraries) {
    test(`${library}: all calls reach the primaries of their slots`, async () => {
      const { url, servers } = await (cluster ??= startCluster());
      for (const server of servers) await onServer(server, (redis) => redis.config('RESETSTAT'));
      const sessions = new Sessions(openRedis(url, library), {
        namespace: freshNamespace(), maxPerUser: 2, timeout: 60_000, keepFields: ['visits'], userFields: [cart],
      });
      try {
        await useAll(sessions);
      } finally {
        await sessions.close();
      }
      // Client libraries follow a redirection, and their callers see nothing of it.
      for (const server of servers) assert.doesNotMatch(await onServer(server, (redis) => redis.info('errorstats')), /MOVED/);
    });
  }

  for (const library of libraries) {
    test(`${library}: fields join the user's data when their slot moves no more`, async () => {
      const { url, servers } = await (cluster ??= startCluster());
      const config = { namespace: freshNamespace(), timeout: 60_000 };
      const [without, sessions] = [
        new Sessions(openRedis(url, library), { ...config, keepFields: ['cart'] }),
        new Sessions(openRedis(url, library), { ...config, userFields: [cart] }),
      ];
      try {
        const data = await sessions.userData('ada');
        cart.add(data, 'apple', 1);
        await data.commit();
        const session = await read(without);
        cart.add(session, 'apple', 1);
        await session.signIn({ user: 'ada' });
        const cookie = await commit(without, session);
        const bought = async () => cart.get(await (await read(sessions, cookie)).userData(), 'apple');
        await whileMoving(servers, sessions.store.keys.record({ bucket: parseInt(session.handle!, 16), name: '' }), async () => {
          const began = performance.now();
          assert.equal(await bought(), 1);
          assert.ok(performance.now() - began < 30_000, 'it does not wait for the slot');
        });
        assert.equal(await bought(), 2);
      } finally {
        for (const each of [without, sessions]) await each.close();
      }
    });
  }
});

/** Calls `f` while the slot of a key moves from one primary to another. */
async function whileMoving(servers: readonly Server[], key: string, f: () => Promise<void>): Promise<void> {
  const { slot, port } = await onServer(servers[0]!, async (redis) => ({
    slot: await redis.cluster('KEYSLOT', key), port: await portOf(redis, key),
  }));
  const from = servers.find((server) => server.port === port)!;
  const to = servers.find((server) => server !== from)!;
  const idOf = (server: Server) => onServer(server, (redis) => redis.cluster('MYID') as unknown as Promise<string>);
  const setSlot = async (server: Server, ...state: string[]) => onServer(server, (redis) => redis.call('CLUSTER', 'SETSLOT', slot, ...state));
  await setSlot(to, 'IMPORTING', await idOf(from));
  await setSlot(from, 'MIGRATING', await idOf(to));
  try {
    await f();
  } finally {
    for (const server of [from, to]) await setSlot(server, 'STABLE');
  }
}

/** A primary, a replica and Sentinel. */
async function startSentinel(): Promise<{ sentinel: Server; primary: Server; replica: Server; stop: () => Promise<void> }> {
  const primary = await Server.start(['--repl-diskless-sync-delay', '0']);
  const replica = await Server.start(['--replicaof', `127.0.0.1 ${primary.port}`]);
  await onServer(replica, (redis) =>
    eventually('the replica follows', async () => ((await redis.info('replication')).includes('master_link_status:up') ? true : undefined)));
  const sentinel = await Server.startSentinel(primary);
  await onServer(sentinel, (redis) =>
    eventually('Sentinel knows the replica', async () => ((await redis.call('SENTINEL', 'REPLICAS', 'primary')) as unknown[])[0] as object));
  const stop = async () => {
    for (const server of [sentinel, primary, replica]) await server.stop();
  };
  return { sentinel, primary, replica, stop };
}

/** Makes Sentinel promote the replica. */
async function failOver(sentinel: Server, replica: Server): Promise<void> {
  await onServer(sentinel, (asked) => onServer(replica, (promoted) => eventually('the replica is promoted', async () => {
    await asked.call('SENTINEL', 'FAILOVER', 'primary').catch(() => undefined); // it may be under way
    return (await promoted.info('replication')).includes('role:master') ? true : undefined;
  })));
}

function sentinelClient(library: Library, port: number) {
  const nodes = [{ host: '127.0.0.1', port }];
  return library === 'ioredis'
    ? ioredis(new IoRedis({ sentinels: nodes, name: 'primary', lazyConnect: true }))
    : nodeRedis(createSentinel({ name: 'primary', sentinelRootNodes: nodes }));
}

describe('failover', () => {
  for (const library of libraries) {
    test(`${library}: sessions go on after a promotion, and an end that it undid is repeated`, async () => {
      const { sentinel, primary, replica, stop } = await startSentinel();
      const sessions = new Sessions(sentinelClient(library, sentinel.port), {
        namespace: freshNamespace(), timeout: 60_000, logger: () => undefined,
      });
      try {
        const session = await read(sessions);
        visits.add(session, 1);
        const cookie = await commit(sessions, session);
        const leaving = await read(sessions);
        visits.add(leaving, 1);
        const lost = await commit(sessions, leaving);
        const handle = leaving.handle!;
        const key = `${sessions.config.namespace}:{${handle.slice(0, 4)}}:s:${handle.slice(5)}`;
        const hasKey = () => onServer(replica, (redis) => redis.exists(key));
        await eventually('the replica has the session', async () => ((await hasKey()) === 1 ? true : undefined));
        // The replica never gets the end.
        await onServer(primary, async (redis) => {
          await redis.call('ACL', 'SETUSER', 'default', '-psync', '-sync');
          assert.equal(await redis.call('CLIENT', 'KILL', 'TYPE', 'replica'), 1);
        });
        await (await read(sessions, lost)).signOut();
        assert.equal(await hasKey(), 1);
        await primary.down();
        await failOver(sentinel, replica);
        const count = await eventually('the session is used again', async () => {
          const again = await read(sessions, cookie);
          visits.add(again, 1);
          await again.commit();
          return visits.get(again);
        });
        assert.ok(count >= 2);
        assert.equal(visits.get(await read(sessions, lost)), 0);
        await eventually('the end is repeated', async () => ((await hasKey()) === 0 ? true : undefined));
      } finally {
        await sessions.close();
        await stop();
      }
    });
  }
});
