import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { applyChange, type Change } from '../dist/change.js';
import { toTime } from '../dist/clock.js';
import { decide, expiresAt, touchDue } from '../dist/reading.js';
import {
  encodeRecord, infoText, parseInfo, parseRecord, parseRevoked, type StoredRecord,
} from '../dist/record.js';
import { SealKeys } from '../dist/seal.js';
import { Keys, Store, toMap } from '../dist/store.js';
import { TokenKeys, UserKey, bucketOf, bucketText, csrfToken, handleOf, isCsrfToken } from '../dist/token.js';
import { openRedis } from './clients.js';
import { sharedUrl } from './server.js';

type Json = any; // eslint-disable-line @typescript-eslint/no-explicit-any

const folder = new URL('../../../format/vectors/', import.meta.url);
const load = (name: string): Json => JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8'));
const bytes = (hex: string | undefined) => Buffer.from(hex ?? '', 'hex');
const ring = (hex: string | undefined) => (hex ? [bytes(hex)] : []);
const asMap = (object: Record<string, string> | undefined) => new Map(Object.entries(object ?? {}));

test('tokens', (t) => {
  const cases: Json[] = load('tokens');
  for (const c of cases) {
    const keys = new TokenKeys(ring(c.key));
    const token = keys.parse(c.token);
    assert.equal(token !== undefined, c.valid, JSON.stringify(c));
    if (!token) continue;
    assert.equal(token.bucket, c.bucket ?? 0);
    assert.equal(token.generation, c.generation ?? 0);
    assert.deepEqual(token.selector, bytes(c.selector));
    assert.deepEqual(token.verifier, bytes(c.verifier));
    assert.equal(token.verifierHash, c.verifier_hash);
    assert.equal(handleOf(token.id), c.handle);
    assert.equal(new Keys('coatcheck').session(token.id), c.redis_key);
    if (c.key || c.token.length === 52) assert.equal(keys.text(token), c.token);
  }
  t.diagnostic(`${cases.length} cases`);
});

test('CSRF tokens', (t) => {
  const cases: Json[] = load('csrf');
  for (const c of cases) {
    const id = bytes(c.id).toString('base64url');
    assert.equal(isCsrfToken(id, c.token), c.valid, JSON.stringify(c));
    if (c.valid && c.pad) assert.equal(csrfToken(id, bytes(c.pad)), c.token);
  }
  t.diagnostic(`${cases.length} cases`);
});

test('users', (t) => {
  const cases: Json[] = load('users');
  for (const c of cases) {
    const owner = new UserKey(c.key ? bytes(c.key) : undefined).owner(bytes(c.user));
    const keys = new Keys('coatcheck');
    assert.equal(owner, c.owner);
    assert.equal(bucketText(bucketOf(owner)), c.bucket);
    assert.equal(keys.index(owner), c.index);
    assert.equal(keys.revocations(bucketOf(owner)), c.revocations);
  }
  t.diagnostic(`${cases.length} cases`);
});

test('sealed values', (t) => {
  const cases: Json[] = load('sealed');
  for (const c of cases) {
    const keys = new SealKeys(ring(c.key));
    if (c.plain === undefined) {
      assert.throws(() => keys.open(c.id, c.name, c.sealed), { code: 'sealed' }, JSON.stringify(c));
      continue;
    }
    assert.equal(keys.open(c.id, c.name, c.sealed), c.plain);
    assert.equal(keys.seal(c.id, c.name, c.plain, bytes(c.nonce)), c.sealed);
    keys.check(c.name, c.sealed);
  }
  t.diagnostic(`${cases.length} cases`);
});

function toRecord(r: Json): StoredRecord {
  const info = r.user && (r.user.sealed ?? infoText({
    userBytes: Buffer.from(r.user.id, 'base64url'), methods: r.user.methods ?? [], device: r.user.device,
    userAgent: r.user.agent, address: r.user.address,
  }));
  const p = r.previous;
  return {
    id: r.secret, verifier: r.current, unused: r.unused, moving: false, revision: r.revision, size: r.size,
    lastUse: r.seen_ms, created: r.created_ms, deadline: r.deadline_ms, idle: r.idle_ms, generation: r.generation,
    issued: p ? r.issued_ms : r.created_ms,
    previous: p ? { accepted: p.accepted, verifier: p.verifier, time: p.until_ms || p.grace_ms || 0 } : undefined,
    overtaken: r.overtaken ? { generation: r.overtaken.generation, verifier: r.overtaken.used ?? 'A'.repeat(22) } : undefined,
    principal: r.user
      ? { owner: r.user.owner, authenticated: r.user.authenticated_ms, level: r.user.level, persistent: r.user.persistent, info }
      : undefined,
    fields: asMap(r.fields),
  };
}

test('records', (t) => {
  const { records, refused } = load('records');
  for (const c of records as Json[]) {
    const hash = asMap(c.hash);
    const parsed = parseRecord(c.name, hash) as StoredRecord;
    assert.deepEqual(parsed, toRecord(c.record), c.name);
    assert.deepEqual(encodeRecord(parsed), hash, c.name);
    if (parsed.principal && !c.record.user.sealed) {
      const info = parseInfo(c.name, parsed.principal.info);
      assert.equal(infoText(info), parsed.principal.info, c.name);
    }
  }
  for (const c of refused as Json[]) {
    assert.throws(() => parseRecord(c.name, asMap(c.hash)), { code: 'unavailable' }, c.name);
  }
  t.diagnostic(`${records.length + refused.length} cases`);
});

test('reading', (t) => {
  const { reads, now_ms: now, selector, bucket, owner, ...keys } = load('reading');
  const errors: string[] = [];
  for (const c of reads as Json[]) {
    const reply = (of: Json) => (of.type === 'hash' || of.type === 'none' ? Object.entries(of.hash).flat() : new Error('WRONGTYPE Operation'));
    let outcome = 'error';
    let record: StoredRecord | undefined;
    let cause = '';
    try {
      const { session, revocations, revoked } = c.stored;
      const text = revoked.type === 'none' ? null : revoked.type === 'string' ? revoked.text : '';
      const found = {
        handle: `${bucket}-${selector}`, name: selector,
        session: toMap('session', reply(session) as never), revocations: toMap('revocations', reply(revocations) as never),
        revoked: parseRevoked(keys.revoked, text), now, requestBegan: c.request_began_ms,
      };
      ({ outcome, record } = decide(found, c.token.verifier, c.token.generation) as never);
    } catch (error) {
      if ((error as Json).code !== 'unavailable') throw error;
      cause = String(error);
    }
    const uses = outcome === 'current' || outcome === 'grace';
    const got = {
      outcome, touch: uses && touchDue(record!, c.token.verifier, now), expires: uses ? expiresAt(record!) : 0,
    };
    const want = { outcome: c.outcome, touch: c.touch_due, expires: c.expires_ms };
    try {
      assert.deepEqual(got, want);
    } catch {
      errors.push(`${c.name}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)} ${cause}`);
    }
  }
  assert.deepEqual(errors, []);
  assert.equal(owner.length, 22);
  t.diagnostic(`${reads.length} cases`);
});

// Scripts on a server

/** The shortest time that a vector counts on: some have a limit of a second. */
const shortest = 1000;

/** Fills in the times of a vector, and compares them. */
class Placeholders {
  #late = 0; // how much later the script may have run, in milliseconds

  constructor(readonly now: number) {}

  /** Notes the time after the script. It returns false if the vector says nothing any more. */
  finish(after: number): boolean {
    this.#late = after - this.now;
    return this.#late < shortest;
  }

  /** Returns whether a time, or what is left of one, is as expected, but for how late it is. */
  near(want: number, got: number): boolean {
    return Math.abs(got - want) <= this.#late + 1; // times are rounded
  }

  fill(text: string): string {
    return text
      .replace(/<([+-]\d+)>/g, (_, n: string) => (this.now + Number(n)).toString(16).padStart(12, '0'))
      .replace(/\[([+-]\d+)\]/g, (_, n: string) => String(this.now + Number(n)));
  }

  /** Returns whether a text is what the vector says, but for how late the times are. */
  matches(want: string, got: string): boolean {
    if (want === got) return true;
    const parts = want.split(/(<[+-]\d+>|\[[+-]\d+\])/);
    let at = 0;
    for (const [i, part] of parts.entries()) {
      if (i % 2 === 0) {
        if (!got.startsWith(part, at)) return false;
        at += part.length;
        continue;
      }
      const hexadecimal = part.startsWith('<');
      const digits = hexadecimal ? got.slice(at, at + 12) : (/^\d+/.exec(got.slice(at))?.[0] ?? '');
      const n = parseInt(digits, hexadecimal ? 16 : 10);
      if (!this.near(this.now + Number(part.slice(1, -1)), n)) return false;
      at += digits.length;
    }
    return at === got.length;
  }

  reply(want: Json, got: Json): boolean {
    if (want === 'TIME') return this.near(this.now, Number(got));
    if (Array.isArray(want)) return Array.isArray(got) && want.length === got.length && want.every((w, i) => this.reply(w, got[i]));
    if (typeof want === 'string') return typeof got !== 'object' && this.matches(want, String(got));
    return want === got;
  }
}

async function put(redis: Redis, key: string, content: Json, p: Placeholders): Promise<void> {
  await redis.del(key);
  const fill = (object: Json): string[] => Object.entries(object as Record<string, string>).flat().map((x) => p.fill(x));
  if (content.hash) await redis.hset(key, ...(fill(content.hash) as [string, string]));
  if (content.scores) await redis.zadd(key, ...Object.entries(content.scores as Record<string, string>).flatMap(([m, s]) => [p.fill(s), m]));
  if (content.text !== undefined) await redis.set(key, p.fill(content.text));
  if (content.list) await redis.rpush(key, ...content.list);
  for (const [id, ...entry] of content.stream ?? []) await redis.xadd(key, id, ...entry);
  if (content.ttl > 0) await redis.pexpire(key, content.ttl);
  if (content.ttl < 0) await redis.pexpireat(key, 253402300799999);
}

/** Returns the content of a key, or null if there is no such key. */
async function get(redis: Redis, key: string): Promise<Json> {
  const type = await redis.type(key);
  if (type === 'none') return null;
  const content: Json = {};
  if (type === 'hash') content.hash = await redis.hgetall(key);
  if (type === 'zset') {
    const scores = await redis.zrange(key, 0, -1, 'WITHSCORES');
    content.scores = Object.fromEntries(scores.flatMap((_, i) => (i % 2 ? [] : [[scores[i], scores[i + 1]]])));
  }
  if (type === 'string') content.text = await redis.get(key);
  if (type === 'stream') content.stream = (await redis.xrange(key, '-', '+')).map(([id, entry]) => [id, ...entry]);
  if (type === 'list') content.list = await redis.lrange(key, 0, -1);
  const ttl = await redis.pttl(key);
  content.ttl = ttl < 0 ? 0 : ttl;
  return content;
}

function sameContent(want: Json, got: Json, p: Placeholders): boolean {
  if (want === null || got === null) return want === got;
  const { ttl = 0, ...rest } = want;
  if (ttl === 0 ? got.ttl !== 0 : ttl > 0 && !p.near(ttl, got.ttl)) return false;
  if (ttl < 0 && got.ttl === 0) return false;
  const compare = (w: Json, g: Json): boolean => {
    if (typeof w === 'string') return typeof g === 'string' && p.matches(w, g);
    if (Array.isArray(w)) return Array.isArray(g) && w.length === g.length && w.every((x, i) => compare(x, g[i]));
    if (typeof w === 'object' && w !== null) {
      const names = Object.keys(w);
      return typeof g === 'object' && g !== null && names.length === Object.keys(g).length && names.every((name) => compare(w[name], g[name]));
    }
    return w === g;
  };
  const { ttl: _, ...have } = got;
  return compare(rest, have);
}

/** Runs `f` on a database of its own. It returns what is wrong. */
async function onServer(f: (redis: Redis, store: Store) => Promise<string[]>): Promise<void> {
  const url = `${await sharedUrl()}/1`;
  const redis = new Redis(url);
  const store = new Store(openRedis(url, 'ioredis'), 'vector', 60_000);
  try {
    assert.deepEqual(await f(redis, store), []);
  } finally {
    redis.disconnect();
    await store.close();
  }
}

/** Runs a case. Whatever it finds, it runs the case again if a limit may have passed meanwhile. */
async function inTime<T>(redis: Redis, run: (p: Placeholders) => Promise<T>): Promise<{ p: Placeholders; found: T }> {
  const time = async () => toTime((await redis.time()) as unknown as string[]);
  for (;;) {
    const p = new Placeholders(await time());
    const found = await run(p);
    if (p.finish(await time())) return { p, found };
  }
}

const isCluster = process.env['COATCHECK_TEST_REDIS']?.startsWith('redis-cluster:') ?? false;
const needsSingle = { skip: isCluster ? 'needs a single server' : false };

/** Calls a script as it is: the vectors also have replies that a client refuses. */
async function callRaw(store: Store, name: string, keys: string[], args: string[]): Promise<Json> {
  try {
    return await store.call(name, keys, args, 'again');
  } catch (error) {
    const message = String((error as Error).message);
    const wrong = /is malformed: (".*")$/.exec(message);
    if (wrong) return ['malformed', JSON.parse(wrong[1]!)];
    const invalid = /refused an argument: (.*)$/.exec(message);
    if (invalid) return ['invalid', invalid[1]];
    const cause = (error as Error).cause;
    if (cause instanceof Error) return { error: cause.message };
    throw error;
  }
}

test('changes', needsSingle, async (t) => {
  const cases: Json[] = load('changes');
  await onServer(async (redis, store) => {
    const errors: string[] = [];
    for (const c of cases) {
      const key = 'vector:{0000}:s:AAAAAAAAAAAAAAAAAAAAAA';
      const { p, found: { reply, content } } = await inTime(redis, async (p) => {
        await redis.del(key);
        if (c.before) await put(redis, key, c.before, p);
        const reply = await callRaw(store, 'apply.lua', [key], c.args.map((arg: string | null) => arg ?? ''));
        return { reply, content: await get(redis, key) };
      });
      if (!p.reply(c.reply, reply) || !sameContent(c.after, content, p)) {
        errors.push(`${c.name}: reply ${JSON.stringify(reply)}, ${JSON.stringify(content)}`);
      }
      // What this package makes of the change by itself: see Session.
      if (c.reply[0] === 'ok' && !c.change.renew && c.change.ops.every((op: Json) => op.min === null)) {
        const values = new Map([...asMap(c.before.hash)].filter(([name]) => !name.startsWith('@')));
        for (const op of (c.change.ops as Json[]).filter((op) => op.kind !== 'limit')) {
          applyChange(values, {
            kind: op.kind, name: op.key, value: op.value, old: op.old, delta: BigInt(op.delta ?? 0),
          } as unknown as Change);
        }
        const want = [...asMap(c.after.hash)].filter(([name]) => !name.startsWith('@'));
        assert.deepEqual([...values].sort(), want.sort(), c.name);
      }
    }
    return errors;
  });
  t.diagnostic(`${cases.length} cases`);
});

test('scripts', needsSingle, async (t) => {
  const cases: Json[] = load('scripts');
  await onServer(async (redis, store) => {
    const errors: string[] = [];
    for (const c of cases) {
      const { p, found: { reply, contents } } = await inTime(redis, async (p) => {
        await redis.flushdb();
        for (const [key, content] of Object.entries(c.before ?? {})) await put(redis, key, content, p);
        const reply = await callRaw(store, c.script, c.keys ?? [], (c.args ?? []).map((arg: string) => p.fill(arg)));
        const contents = new Map<string, Json>();
        for (const key of Object.keys({ ...c.before, ...c.after })) contents.set(key, await get(redis, key));
        return { reply, contents };
      });
      if (Array.isArray(reply[2]) && c.script === 'move.lua') reply[2] = sortPairs(reply[2]);
      const want = c.script === 'move.lua' && Array.isArray(c.reply?.[2]) ? [...c.reply.slice(0, 2), sortPairs(c.reply[2])] : c.reply;
      let wrong = p.reply(want, reply) ? '' : `reply ${JSON.stringify(reply)}, want ${JSON.stringify(want)}`;
      for (const [key, got] of contents) {
        const want = c.after?.[key] ?? null;
        if (!sameContent(want, got, p)) wrong += ` ${key}: ${JSON.stringify(got)}, want ${JSON.stringify(want)}`;
      }
      if (wrong) errors.push(`${c.script} ${c.name}: ${wrong}`);
    }
    return errors;
  });
  t.diagnostic(`${cases.length} cases`);
});

function sortPairs(list: string[]): string[] {
  return list.flatMap((_, i) => (i % 2 ? [] : [[list[i]!, list[i + 1]!]])).sort((a, b) => (a[0]! < b[0]! ? -1 : 1)).flat();
}
