import { setTimeout as sleep } from 'node:timers/promises';
import { toTime } from './clock.js';
import { SessionError, malformed } from './errors.js';
import { type Reply } from './redis.js';
import {
  maxTime, newRecord, parseRecord, parseRevocation, partName, principalFields, type Principal, type StoredRecord,
} from './record.js';
import { expiresAt } from './reading.js';
import { toMap, type Store } from './store.js';
import { bucketOf, handleOf, type SessionId, type Token } from './token.js';

const unconfirmedFor = 60_000;
const maxOthers = 996; // signin.lua takes 1,000 keys
const maxNamed = 900;
const dayMs = 86_400_000;

/** What a sign-in stores. */
export interface SignIn {
  /** The token of the new session, in its user's bucket. */
  readonly token: Token;
  /** The id of the new session. */
  readonly id: string;
  readonly principal: Omit<Principal, 'authenticated'>;
  readonly idle: number;
  readonly lifetime: number;
  /** When the authentication began, by performance.now(). */
  readonly began: number;
  /** How long ago the user authenticated, in milliseconds. */
  readonly ago: number;
  readonly max: number;
  readonly refuse: boolean;
  /** The browser's old session. */
  readonly from: Token | undefined;
  /** Returns the fields of the new session. It gets the old session, or undefined. */
  fields(old: StoredRecord | undefined): { fields: Map<string, string>; size: number };
}

/** A session of a list. */
export interface Listed {
  readonly id: SessionId;
  readonly record: StoredRecord;
}

interface Index {
  readonly names: string[]; // the oldest first
  readonly version: string;
}

/** Signs users in, and lists and revokes their sessions. */
export class Users {
  // Revocations that this process made: a sign-in that began after one of them is not refused
  // because of the error of the estimate of the server's clock.
  readonly #own = new Map<string, { since: number; at: number }>();

  readonly #turns = new Map<string, Promise<void>>();

  constructor(private readonly store: Store) {}

  /**
   * Makes all steps of a sign-in. It returns the new record. With a limit, the sign-ins of a user
   * take turns in this process, so that they do not make each other read the index again.
   */
  async signIn(x: SignIn): Promise<{ record: StoredRecord; now: number }> {
    if (x.max === 0) return this.#signIn(x);
    const { owner } = x.principal;
    const before = this.#turns.get(owner) ?? Promise.resolve();
    const result = before.then(() => this.#signIn(x));
    const turn = result.then(() => undefined, () => undefined).then(() => {
      if (this.#turns.get(owner) === turn) this.#turns.delete(owner);
    });
    this.#turns.set(owner, turn);
    return result;
  }

  async #signIn(x: SignIn): Promise<{ record: StoredRecord; now: number }> {
    const { store } = this;
    const { owner } = x.principal;
    const began = await this.#began(x);
    const old = x.from && (await this.#take(x.from, x.token.id.name));
    const sameUser = old?.principal?.owner === owner;
    const confirm = (x.from !== undefined || x.max > 0) && x.idle - unconfirmedFor > Math.min(x.idle / 20, 60_000);
    let stored: { now: number | undefined; fields: Map<string, string>; size: number };
    try {
      const made = x.fields(old);
      stored = { ...made, now: await this.#store(x, made, began, confirm, sameUser ? x.from!.id.name : '') };
    } catch (error) {
      if (x.from && old && !(error instanceof SessionError && error.code === 'unknown outcome')) {
        await store
          .call('move.lua', [store.keys.session(x.from.id)], ['stay', x.token.id.name], 'again')
          .catch(() => undefined);
      }
      throw error;
    }
    await this.#endIfRevoked(x, began);
    if (x.from && old) await this.#leave(x.from, old, sameUser, x.token.id.name);
    if (confirm) await this.#confirm(x.token);
    const now = stored.now ?? (await store.time(store.keys.session(x.token.id)));
    const { idle, lifetime } = x;
    const made = { id: x.id, verifier: x.token.verifierHash, fields: stored.fields, size: stored.size, idle, lifetime, first: idle };
    const principal = { ...x.principal, authenticated: Math.max(0, now - x.ago) };
    const record: StoredRecord = { ...newRecord(made, now), revision: confirm ? 2 : 1, principal };
    return { record, now };
  }

  /** Returns when the authentication began, by the server's clock. It throws if that is revoked. */
  async #began(x: SignIn): Promise<number> {
    const { store } = this;
    const [, revoked] = await Promise.all([store.time(store.keys.session(x.token.id)), store.readRevoked()]);
    let began = store.clock.at(x.began);
    for (const own of [this.#own.get(x.principal.owner), this.#own.get('')]) {
      if (own && x.began >= own.at) began = Math.max(began, own.since + 1);
    }
    began = Math.max(0, Math.floor(began));
    if (began <= revoked) throw revokedError();
    return began;
  }

  /** Reads the old session for this sign-in, and keeps other sign-ins from doing so meanwhile. */
  async #take(from: Token, attempt: string): Promise<StoredRecord | undefined> {
    const { store } = this;
    const reply = await store.call(
      'move.lua',
      [store.keys.session(from.id), store.keys.revocations(from.bucket)],
      ['leave', attempt, from.verifierHash, String(store.revoked)],
      'again',
    );
    if (reply[0] !== 'ok') return undefined;
    const where = `session ${handleOf(from.id)}`;
    const parsed = parseRecord(where, toMap(where, reply[2]));
    if (!('id' in parsed)) throw malformed(where, '@s');
    return parsed;
  }

  /**
   * Stores the new session. It returns the server's time, or undefined if the session was stored
   * already, because an earlier reply was lost.
   */
  async #store(
    x: SignIn, { fields, size }: { fields: Map<string, string>; size: number }, began: number, confirm: boolean, oldName: string,
  ): Promise<number | undefined> {
    const { store } = this;
    const { keys } = store;
    const { owner } = x.principal;
    const index = keys.index(owner);
    const user = principalFields({ ...x.principal, authenticated: 0 });
    const deadline = performance.now() + store.timeout;
    for (;;) {
      const { names, version } = await this.#names(x, index, oldName);
      const args = [
        x.id, x.token.verifierHash, String(size), String(x.idle), String(x.lifetime),
        String(confirm ? unconfirmedFor : x.idle), version, String(began), String(x.ago), String(x.max),
        x.refuse ? '1' : '0', String(store.revoked), oldName, user[0]![1].slice(34),
        ...user.slice(1).flat(), ...[...fields].flat(),
      ];
      const others = names.map((name) => keys.session({ bucket: x.token.bucket, name }));
      const sessions = [keys.session(x.token.id), index, keys.revocations(x.token.bucket), ...others];
      const reply = await store.call('signin.lua', sessions, args, 'again');
      const status = String(reply[0]);
      if (status === 'ok') {
        for (const name of reply[2] as string[]) this.#ended(owner, name, performance.now() + x.lifetime);
        return Number(reply[1]);
      }
      if (status === 'again') return undefined;
      if (status === 'revoked') throw revokedError();
      if (status === 'full') throw new SessionError('too many', 'the user has as many sessions as allowed');
      if (status !== 'changed') throw new SessionError('unavailable', `signin.lua replied ${status}`);
      if (performance.now() >= deadline) throw new SessionError('unavailable', "other sign-ins keep changing the user's index");
      await sleep(Math.random() * 5);
    }
  }

  /** Ends the new session, and throws, if everybody was revoked after the authentication began. */
  async #endIfRevoked(x: SignIn, began: number): Promise<void> {
    const revoked = await this.store.readRevoked().catch((error: unknown) => {
      throw new SessionError('unknown outcome', 'the sign-in was not confirmed', { cause: error });
    });
    if (began > revoked) return;
    const { owner } = x.principal;
    this.#ended(owner, x.token.id.name, performance.now() + x.lifetime);
    await this.endNamed(owner, [x.token.id]).catch(() => undefined);
    throw revokedError();
  }

  /**
   * Gives the new session its whole idle limit. Until then it has a minute, so that a sign-in whose
   * reply was lost leaves no session.
   */
  async #confirm(token: Token): Promise<void> {
    const { store } = this;
    const keys = [store.keys.session(token.id), store.keys.revocations(token.bucket)];
    await store.call('touch.lua', keys, [token.verifierHash, String(store.revoked), '0'], 'again').catch((error: unknown) => {
      throw new SessionError('unknown outcome', 'the session was not confirmed', { cause: error });
    });
  }

  async #leave(from: Token, old: StoredRecord, sameUser: boolean, attempt: string): Promise<void> {
    const { store } = this;
    const key = store.keys.session(from.id);
    const owner = old.principal?.owner;
    const keys = owner === undefined ? [key] : [key, store.keys.index(owner)];
    const repeat = () => store.call('move.lua', keys, ['again'], 'again');
    store.ends.add({ key, moved: true, repeat, at: performance.now(), until: performance.now() + old.deadline - old.created });
    // If it fails, the repetition does it.
    if (!sameUser) await store.call('move.lua', keys, ['left', attempt], 'again').catch(() => undefined);
  }

  #ended(owner: string, name: string, until: number): void {
    const { keys, ends } = this.store;
    ends.add({ key: keys.session({ bucket: bucketOf(owner), name }), index: keys.index(owner), at: performance.now(), until });
  }

  /**
   * Returns the names of the sessions for signin.lua, and the version of the index if it counts.
   */
  async #names(x: SignIn, index: string, oldName: string): Promise<Index> {
    let result: Index = { names: [], version: '' };
    if (x.max > 0) {
      result = await this.#readIndex(index, ['ZRANGE', index, '0', '-1', 'WITHSCORES']);
      if (result.names.length > maxOthers) result = await this.#shorten(x, index, oldName, result);
    } else if (x.token.selector[0]! % 8 === 0) {
      // An occasional partial read is enough to keep the index small.
      result = { ...(await this.#readIndex(index, ['ZRANDMEMBER', index, '20', 'WITHSCORES'])), version: '' };
    }
    if (oldName !== '' && !result.names.includes(oldName)) result.names.push(oldName);
    return result;
  }

  async #readIndex(index: string, command: string[]): Promise<Index> {
    const [reply] = await this.store.run(index, [command], 'read');
    const scores = [...toMap(index, reply)];
    const version = scores.find(([name]) => name === '@rev')?.[1] ?? '0';
    const names = scores.filter(([name]) => name !== '@rev').sort((a, b) => Number(a[1]) - Number(b[1]));
    return { names: names.map(([name]) => name), version: String(Number(version)) };
  }

  /** Removes sessions from an index that has more than signin.lua takes. */
  async #shorten(x: SignIn, index: string, oldName: string, found: Index): Promise<Index> {
    const { keys } = this.store;
    const { bucket } = x.token;
    for (let i = 0; i < found.names.length; i += maxNamed) {
      const sessions = found.names.slice(i, i + maxNamed).map((name) => keys.session({ bucket, name }));
      await this.store.call('clean.lua', [index, keys.revocations(bucket), ...sessions], [], 'again');
    }
    const command = ['ZRANGE', index, '0', '-1', 'WITHSCORES'];
    const rest = await this.#readIndex(index, command);
    const others = rest.names.filter((name) => name !== oldName);
    const extra = others.length - x.max;
    if (extra > 0) {
      if (x.refuse) throw new SessionError('too many', 'the user has as many sessions as allowed');
      await this.endNamed(x.principal.owner, others.slice(0, extra).map((name) => ({ bucket, name })));
    }
    return this.#readIndex(index, command);
  }

  // Lists

  /** Yields a user's live sessions, the newest first. */
  async *list(owner: string, pageSize = 100): AsyncGenerator<Listed> {
    const { store } = this;
    const { keys } = store;
    const index = keys.index(owner);
    const bucket = bucketOf(owner);
    let from = '+inf';
    let last: { score: number; name: string } | undefined;
    for (let n = pageSize; ; ) {
      const command = ['ZRANGE', index, from, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', String(n), 'WITHSCORES'];
      const [reply] = await store.run(index, [command], 'read');
      const members = [...toMap(index, reply)].map(([name, score]) => ({ name, score: Number(score) }));
      const page = members.filter(
        ({ name, score }) => name !== '@rev' && (!last || score < last.score || (score === last.score && name < last.name)),
      );
      if (page.length > 0) {
        for (const [i, record] of (await this.#records(owner, bucket, page)).entries()) {
          if (record) yield { id: { bucket, name: page[i]!.name }, record };
        }
        last = page.at(-1)!;
        from = String(last.score);
      }
      if (members.length < n) return;
      n = page.length > 0 ? pageSize : n * 2;
    }
  }

  /** Returns the records of a page. A session that is over is undefined. */
  async #records(
    owner: string, bucket: number, page: readonly { name: string; score: number }[],
  ): Promise<(StoredRecord | undefined)[]> {
    const { store } = this;
    const { keys } = store;
    const parts = (n: number) => Array.from({ length: n }, (_, i) => partName(i));
    const names = (n: number) => ['@s', '@l', '@previous', '@overtaken', '@u', '@moving', '@ended', '@moved', ...parts(n)];
    const read = (name: string, n: number) => ['HMGET', keys.session({ bucket, name }), ...names(n)];
    const commands = page.map(({ name }) => read(name, 8));
    const [replies, revoked] = await Promise.all([
      store.run(keys.index(owner), [...commands, ['HGET', keys.revocations(bucket), owner], ['TIME']], 'read'),
      store.readRevoked(),
    ]);
    const text = replies.at(-2);
    if (text instanceof Error) throw malformed(keys.revocations(bucket), text.message);
    const revocation = typeof text === 'string' ? parseRevocation(owner, text) : undefined;
    const now = toTime(replies.at(-1));
    return Promise.all(
      page.map(async ({ name, score }, i) => {
        const where = `session ${handleOf({ bucket, name })}`;
        let hash = pairs(where, names(8), replies[i]);
        const length = parseInt(hash.get('@u')?.slice(37) ?? '0', 16);
        if (length > 8 * 64) {
          const n = Math.ceil(length / 64);
          const [again] = await store.run(keys.index(owner), [read(name, n)], 'read');
          hash = pairs(where, names(n), again);
        }
        if (hash.size === 0) return undefined;
        const record = parseRecord(where, hash, true);
        if (!('id' in record)) return undefined;
        if (record.created !== score || record.principal?.owner !== owner) throw malformed(where, '@l');
        const over =
          now >= expiresAt(record) || record.created <= revoked ||
          (revocation && record.created <= revocation.since && !revocation.kept(name)) ||
          store.ends.get(keys.session({ bucket, name })) !== undefined;
        return over ? undefined : record;
      }),
    );
  }

  // Ends

  /** Ends these sessions of a user. It returns how many were alive. */
  async endNamed(owner: string, sessions: readonly SessionId[]): Promise<number> {
    let ended = 0;
    const mine = sessions.filter((id) => id.bucket === bucketOf(owner));
    for (let i = 0; i < mine.length; i += maxNamed) {
      const reply = await this.#endUser(owner, 'only', '', mine.slice(i, i + maxNamed));
      ended += this.#note(owner, reply);
    }
    return ended;
  }

  /** Revokes all sessions of a user, except these. It returns how many it ended. */
  async endAllOf(owner: string, keep: readonly SessionId[], longest: number): Promise<number> {
    const remember = String(Math.max(longest, dayMs));
    const first = await this.#endUser(owner, 'all', remember, keep.filter((id) => id.bucket === bucketOf(owner)));
    const revocation = String(first[2]);
    const since = parseInt(revocation.slice(0, 12), 16);
    this.#remember(owner, since);
    const index = this.store.keys.index(owner);
    const repeat = () => this.#endUser(owner, 'again', revocation, []);
    this.store.ends.add({ key: index, repeat, at: performance.now(), until: performance.now() + Math.max(longest, dayMs) });
    let ended = 0;
    for (let reply = first; ; ) {
      ended += this.#note(owner, reply);
      const names = reply[5] as string[];
      if (names.length === 0) return ended;
      reply = await this.#endUser(owner, 'again', revocation, names.map((name) => ({ bucket: bucketOf(owner), name })));
    }
  }

  #remember(owner: string, since: number): void {
    this.#own.delete(owner);
    this.#own.set(owner, { since, at: performance.now() });
    if (this.#own.size > 10_000) this.#own.delete(this.#own.keys().next().value!);
  }

  #note(owner: string, reply: Reply[]): number {
    const names = reply[3] as string[];
    for (const name of names) this.#ended(owner, name, performance.now() + 400 * dayMs);
    return names.length;
  }

  #endUser(owner: string, action: string, argument: string, sessions: readonly SessionId[]): Promise<Reply[]> {
    const { keys } = this.store;
    const named = sessions.map((id) => keys.session(id));
    const args = [action, argument, String(this.store.revoked)];
    return this.store.call('enduser.lua', [keys.index(owner), keys.revocations(bucketOf(owner)), ...named], args, 'again');
  }

  /** Ends all sessions of all users. */
  async endEverybody(): Promise<void> {
    const { store } = this;
    const { keys } = store;
    const raise = async (to: string) => {
      const reply = await store.call('revokeall.lua', [keys.revoked], [to, '0'], 'again');
      const at = Number(reply[2]);
      store.learnRevoked(at.toString(16).padStart(12, '0'));
      return at;
    };
    let at = await raise('');
    const primaries = await store.redis.primaries();
    const times = await Promise.all(primaries.map(async (server) => toTime((await server.send([['TIME']]))[0])));
    const latest = Math.min(Math.max(...times), at + 60_000, maxTime);
    if (latest > at) at = await raise(String(latest));
    this.#remember('', at);
    for (const server of primaries) {
      for (let cursor = '0'; ; ) {
        const [page] = await server.send([['SCAN', cursor, 'MATCH', `${keys.namespace}:{*}:s:*`, 'COUNT', '1000']]);
        if (!Array.isArray(page)) throw new SessionError('unavailable', 'all users are signed out, but not all sessions are removed: call again');
        await this.#removeRevoked(page[1] as string[], at);
        cursor = String(page[0]);
        if (cursor === '0') break;
      }
    }
  }

  async #removeRevoked(found: readonly string[], at: number): Promise<void> {
    await Promise.all(
      found.map(async (key) => {
        const [life] = await this.store.run(key, [['HGET', key, '@l']], 'read');
        if (life === null) return; // a marker, or it has ended
        const created = typeof life === 'string' ? parseInt(life.slice(22, 34), 16) : 0;
        if (!(created > at)) await this.store.run(key, [['DEL', key]], 'again');
      }),
    );
  }
}

function revokedError(): SessionError {
  return new SessionError('revoked', "the user's sessions were revoked after the authentication began");
}

function pairs(where: string, names: readonly string[], reply: Reply | undefined): Map<string, string> {
  if (!Array.isArray(reply)) throw malformed(where, reply instanceof Error ? reply.message : String(reply));
  const hash = new Map<string, string>();
  for (const [i, name] of names.entries()) if (typeof reply[i] === 'string') hash.set(name, reply[i]);
  return hash;
}

