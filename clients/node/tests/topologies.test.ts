import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis as IoRedis } from 'ioredis';
import { createSentinel } from 'redis';
import { setCookies } from '../dist/exchange.js';
import { Counter, Sessions, ioredis, nodeRedis, type Session } from '../dist/index.js';
import { libraries, openRedis, type Library } from './clients.js';
import { Server, freePort, freshNamespace } from './server.js';

const visits = new Counter('visits');
const channel = { refuseCookie: () => undefined };
const read = (sessions: Sessions, cookie?: string) => sessions.open(cookie, channel).read();

async function commit(sessions: Sessions, session: Session): Promise<string> {
  await session.commitBeforeHeader(true);
  return setCookies(sessions, session).find((cookie) => !cookie.includes('=;'))!.split(';')[0]!;
}

/** Calls `f` until it returns something, for at most a minute. */
async function eventually<T>(what: string, f: () => Promise<T | undefined>): Promise<T> {
  for (const deadline = performance.now() + 60_000; performance.now() < deadline; await sleep(50)) {
    const result = await f().catch(() => undefined);
    if (result !== undefined) return result;
  }
  throw new Error(`it never happened: ${what}`);
}

/** Uses all parts of the package that send commands. */
async function useAll(sessions: Sessions): Promise<void> {
  const anonymous = await read(sessions);
  visits.add(anonymous, 1);
  const cookies = [await commit(sessions, anonymous)];
  for (let i = 0; i < 8; i++) { // users of different slots
    const session = await read(sessions, i === 0 ? cookies[0] : undefined);
    if (i > 0) visits.add(session, 1);
    await session.signIn({ user: `user ${i}` });
    const cookie = await commit(sessions, session);
    const other = await read(sessions, cookie);
    assert.deepEqual([other.user, visits.get(other)], [`user ${i}`, 1]);
    assert.equal(await visits.addWithin(other, 1, 0, 2), 2n);
    assert.equal((await sessions.list(`user ${i}`).next()).value?.handle, other.handle);
    cookies.push(cookie);
  }
  assert.equal((await read(sessions, cookies[0])).user, undefined);
  assert.equal(await sessions.revokeUser('user 1'), 1);
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

/** Starts a Cluster of three primaries, and returns its URL. */
async function startCluster(): Promise<string> {
  const options = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '5000'];
  const servers = await Promise.all([1, 2, 3].map(() => Server.start(options)));
  for (const server of servers) stops.push(() => server.stop());
  const addresses = servers.map(({ port }) => `127.0.0.1:${port}`);
  const made = spawnSync('redis-cli', ['--cluster', 'create', ...addresses, '--cluster-yes'], { encoding: 'utf8' });
  assert.equal(made.status, 0, made.stdout + made.stderr);
  for (const server of servers) {
    const redis = new IoRedis(server.url);
    await eventually('the Cluster is ready', async () => ((await redis.cluster('INFO')).includes('cluster_state:ok') ? true : undefined));
    redis.disconnect();
  }
  return `redis-cluster://${addresses.join()}`;
}

describe('Cluster', () => {
  let url: Promise<string> | undefined;
  for (const library of libraries) {
    test(`${library}: all calls reach the primaries of their slots`, async () => {
      const sessions = new Sessions(openRedis(await (url ??= startCluster()), library), {
        namespace: freshNamespace(), maxPerUser: 2, timeout: 30_000, keepFields: ['visits'],
      });
      try {
        await useAll(sessions);
      } finally {
        await sessions.close();
      }
    });
  }
});

/** A primary, a replica and Sentinel. */
async function startSentinel(): Promise<{ port: number; primary: Server; replica: Server; stop: () => Promise<void> }> {
  const primary = await Server.start(['--repl-diskless-sync-delay', '0']);
  const replica = await Server.start(['--replicaof', `127.0.0.1 ${primary.port}`]);
  const redis = new IoRedis(replica.url);
  await eventually('the replica follows', async () => ((await redis.info('replication')).includes('master_link_status:up') ? true : undefined));
  redis.disconnect();
  const dir = mkdtempSync(join(tmpdir(), 'coatcheck-sentinel-'));
  const port = await freePort();
  writeFileSync(join(dir, 'sentinel.conf'), `port ${port}
bind 127.0.0.1
dir ${dir}
sentinel monitor primary 127.0.0.1 ${primary.port} 1
sentinel down-after-milliseconds primary 500
sentinel failover-timeout primary 2000
`);
  const sentinel: ChildProcess = spawn('redis-server', [join(dir, 'sentinel.conf'), '--sentinel'], { stdio: 'ignore' });
  const gone = new Promise((resolve) => sentinel.once('exit', resolve));
  const probe = new IoRedis(port, '127.0.0.1', { retryStrategy: () => 20, maxRetriesPerRequest: 200 });
  probe.on('error', () => undefined);
  await eventually('Sentinel knows the replica', async () => ((await probe.call('SENTINEL', 'REPLICAS', 'primary')) as unknown[])[0] as object);
  probe.disconnect();
  const stop = async () => {
    sentinel.kill('SIGKILL');
    await gone;
    await primary.stop();
    await replica.stop();
    rmSync(dir, { recursive: true, force: true });
  };
  return { port, primary, replica, stop };
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
      const { port, primary, replica, stop } = await startSentinel();
      const sessions = new Sessions(sentinelClient(library, port), { namespace: freshNamespace(), logger: () => undefined });
      try {
        const session = await read(sessions);
        visits.add(session, 1);
        const cookie = await commit(sessions, session);
        const leaving = await read(sessions);
        visits.add(leaving, 1);
        const lost = await commit(sessions, leaving);
        const handle = leaving.handle!;
        const direct = new IoRedis(primary.url);
        await direct.wait(1, 10_000);
        // The replica never gets this end.
        const other = new IoRedis(replica.url);
        await other.call('REPLICAOF', '127.0.0.1', '1');
        await (await read(sessions, lost)).signOut();
        const key = `${sessions.config.namespace}:{${handle.slice(0, 4)}}:s:${handle.slice(5)}`;
        assert.equal(await other.exists(key), 1);
        direct.disconnect();
        await primary.down();
        const count = await eventually('the session is used again', async () => {
          const again = await read(sessions, cookie);
          visits.add(again, 1);
          await again.commit();
          return visits.get(again);
        });
        assert.ok(count >= 2);
        assert.equal(visits.get(await read(sessions, lost)), 0);
        await eventually('the end is repeated', async () => ((await other.exists(key)) === 0 ? true : undefined));
        other.disconnect();
      } finally {
        await sessions.close();
        await stop();
      }
    });
  }
});
