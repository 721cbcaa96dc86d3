import { readFileSync, readdirSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { ServerClock, toTime } from './clock.js';
import { SessionError, endedError, malformed } from './errors.js';
import { Ends } from './ends.js';
import { InvalidTextError, NotSentError, isServerError, type Redis, type Reply } from './redis.js';
import { decide, expiresAt, touchDue, type Outcome } from './reading.js';
import { parseRecord, parseRevoked, type StoredRecord } from './record.js';
import { bucketText, handleOf, random16, type Credential, type SessionId, type Token } from './token.js';

interface Script {
  readonly source: string;
  readonly sha: string;
}

const folder = new URL('../lua/', import.meta.url);
const scripts = new Map<string, Script>();
for (const file of readdirSync(folder)) {
  if (!file.endsWith('.lua')) continue;
  const source = readFileSync(new URL(file, folder), 'utf8');
  scripts.set(file, { source, sha: createHash('sha1').update(source).digest('hex') });
}

/**
 * Whether a call may be sent again after an unknown outcome. `read` and `again` may. `once` may
 * not: an addition that is sent twice counts twice. `again unless moving` may, but does not wait
 * while the slot moves to another server.
 */
export type Effect = 'read' | 'again' | 'again unless moving' | 'once';

// The command did not run, and the cause may pass.
const transient = /^(MOVED|ASK|TRYAGAIN|LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|NOREPLICAS) ?/;

/** One operation of a change: its kind, its key and two arguments, as apply.lua has them. */
export type Operation = readonly [kind: string, key: string, a: string, b: string];

/** What a request found in the store. */
export interface Read {
  readonly outcome: Outcome;
  readonly record: StoredRecord | undefined;
  readonly now: number;
  readonly revoked: number;
}

/** The limits of a new record, in milliseconds. */
export interface Limits {
  readonly idle: number;
  readonly lifetime: number;
  /** How long it lives until its first use. */
  readonly first: number;
}

/** What became of a new record. */
export interface Created {
  /** `again`: it was stored already, and the reply was lost. `exists`: another one is stored. */
  readonly status: 'ok' | 'again' | 'exists';
  /** When the record that is stored was created. 0 if another one is. */
  readonly now: number;
}

/** The reply to a change. */
export interface Applied {
  readonly status: 'ok' | 'kept';
  readonly now: number;
  readonly revision: number;
  readonly generation: number | undefined;
  readonly values: readonly Reply[];
}

/** A comparison of a `swap`, or a range of an `add`, did not hold. Nothing was stored. */
export class ConflictError extends Error {
  constructor(
    readonly index: number,
    readonly present: string | null,
  ) {
    super(`operation ${index}: conflict`);
  }
}

/** The keys of a namespace. */
export class Keys {
  constructor(readonly namespace: string) {}

  bucket(bucket: number): string {
    return `${this.namespace}:{${bucketText(bucket)}}`;
  }

  session(id: SessionId): string {
    return `${this.bucket(id.bucket)}:s:${id.name}`;
  }

  /** Returns the key of a session, or of the data of a user. */
  record(id: SessionId): string {
    return id.userData ? `${this.bucket(id.bucket)}:d:${id.name}` : this.session(id);
  }

  index(owner: string): string {
    return `${this.bucket(Buffer.from(owner, 'base64url').readUInt16BE())}:u:${owner}`;
  }

  revocations(bucket: number): string {
    return `${this.bucket(bucket)}:n`;
  }

  get revoked(): string {
    return `${this.namespace}:revoked`;
  }
}

// Redis is down if there was no connection for so long, and so many attempts to connect have failed
// in a row. One may fail, or take seconds, because the machine is busy.
const downFor = 1_000;
const downAfter = 3;

/** Reads and writes sessions, by the scripts of the format. */
export class Store {
  readonly keys: Keys;
  readonly ends: Ends;
  readonly clock = new ServerClock();
  #revoked = 0; // the latest time of a revocation of everybody that this process knows
  #downSince: number | undefined;

  constructor(
    readonly redis: Redis,
    namespace: string,
    readonly timeout: number,
  ) {
    this.keys = new Keys(namespace);
    this.ends = new Ends(redis);
  }

  close(): Promise<void> {
    this.ends.close();
    return this.redis.close();
  }

  /**
   * Sends commands, and repeats them as far as `effect` allows, for at most the timeout. A reply
   * may be an error of the server. Then the command did not run, and will not.
   */
  async run(key: string, commands: readonly (readonly string[])[], effect: Effect): Promise<Reply[]> {
    const deadline = performance.now() + this.timeout;
    let unknown: Error | undefined; // of the last try that may have run
    for (let attempt = 0; ; attempt++) {
      let failure: Error;
      let notSent = false;
      let failedAttempts = 0;
      const patience = attempt === 0 ? this.timeout : deadline - performance.now();
      try {
        const replies = await withTimeout(this.redis.send(key, commands), patience);
        let lost: Error | undefined;
        let passing: Error | undefined;
        for (const reply of replies) {
          if (!(reply instanceof Error)) continue;
          if (!isServerError(reply) && !(reply instanceof InvalidTextError)) lost ??= reply;
          if (effect === 'again unless moving' && reply.message.startsWith('TRYAGAIN')) continue;
          if (transient.test(reply.message)) passing ??= reply;
        }
        this.#downSince = undefined;
        if (!lost && !passing) return replies;
        failure = lost ?? passing!;
        notSent = !lost;
      } catch (error) {
        failure = error as Error;
        notSent = error instanceof NotSentError;
        if (error instanceof NotSentError) {
          this.#downSince ??= performance.now();
          failedAttempts = error.attempts;
        }
        // A server that lost its power, or a firewall that forgot the connection, closes nothing.
        if (error instanceof SilenceError && patience >= this.timeout / 2) this.redis.reconnect(key);
      }
      if (!notSent) {
        unknown = failure;
        if (effect === 'once') throw unknownOutcome(failure);
      }
      const down = this.#downSince !== undefined && performance.now() - this.#downSince > downFor && failedAttempts >= downAfter;
      if (down || performance.now() >= deadline) {
        if (unknown && effect !== 'read') throw unknownOutcome(unknown);
        throw new SessionError('unavailable', `Redis did not answer: ${failure.message}`, { cause: failure });
      }
      await sleep(Math.min(2 ** attempt, 64) * (0.5 + Math.random()));
    }
  }

  /** Calls a script. The reply is a list whose first element is the status. */
  async call(name: string, keys: readonly string[], args: readonly string[], effect: Effect): Promise<Reply[]> {
    const script = scripts.get(name);
    if (!script) throw new Error(`there is no script ${name}`);
    const rest = [String(keys.length), ...keys, ...args];
    let [reply] = await this.run(keys[0]!, [['EVALSHA', script.sha, ...rest]], effect);
    if (reply instanceof Error && reply.message.startsWith('NOSCRIPT')) {
      [reply] = await this.run(keys[0]!, [['EVAL', script.source, ...rest]], effect);
    }
    // The script has run.
    if (reply instanceof InvalidTextError && effect === 'once') throw unknownOutcome(reply);
    if (reply instanceof Error) {
      throw new SessionError('unavailable', `Redis refused ${name}: ${reply.message}`, { cause: reply });
    }
    if (!Array.isArray(reply)) throw malformed(`the reply of ${name}`, String(reply));
    if (reply[0] === 'malformed') throw malformed(keys[0]!, String(reply[1]));
    if (reply[0] === 'invalid') {
      const code = reply[1] === 'delta' || reply[1] === 'range' ? 'invalid' : 'unavailable';
      throw new SessionError(code, `${name} refused an argument: ${String(reply[1])}`);
    }
    return reply;
  }

  /**
   * Calls a script whose second key is the revocations of the bucket. While the slot moves to
   * another server, it calls the script without that key, and reports it.
   */
  async #callChecked(
    name: string, keys: readonly string[], args: readonly string[], effect: Effect,
  ): Promise<{ reply: Reply[]; unchecked: boolean }> {
    try {
      return { reply: await this.call(name, keys, args, effect), unchecked: false };
    } catch (error) {
      const moving = error instanceof SessionError && error.code === 'unavailable' && error.cause instanceof Error
        && error.cause.message.startsWith('TRYAGAIN');
      if (!moving || keys.length < 2) throw error;
      return { reply: await this.call(name, keys.slice(0, 1), args, effect), unchecked: true };
    }
  }

  // Reading

  /** Returns the time of the last revocation of everybody that this process knows. */
  get revoked(): number {
    return this.#revoked;
  }

  /** Notes a reply to GET <ns>:revoked, and returns the time that counts. */
  learnRevoked(reply: Reply | undefined): number {
    if (reply instanceof Error || (reply !== null && typeof reply !== 'string')) {
      throw malformed(this.keys.revoked, reply instanceof Error ? reply.message : String(reply));
    }
    const stored = parseRevoked(this.keys.revoked, reply);
    if (stored > this.#revoked) {
      this.#revoked = stored;
    } else if (stored < this.#revoked) {
      // A failover has lost it. Nobody waits for the repair.
      void this.call('revokeall.lua', [this.keys.revoked], [String(this.#revoked), '0'], 'again').catch(() => undefined);
    }
    return this.#revoked;
  }

  /** Reads the time of the last revocation of everybody. */
  async readRevoked(): Promise<number> {
    const [reply] = await this.run(this.keys.revoked, [['GET', this.keys.revoked]], 'read');
    return this.learnRevoked(reply);
  }

  /** Asks the primary of the key's slot for its time, in milliseconds. */
  async time(key: string): Promise<number> {
    const asked = performance.now();
    const [reply] = await this.run(key, [['TIME']], 'read');
    this.clock.learn(reply, asked, performance.now());
    return toTime(reply);
  }

  /**
   * Reads a session, and decides what the token is. `began` is when the request began, by
   * performance.now().
   */
  async read(token: Token, began: number): Promise<Read> {
    const key = this.keys.session(token.id);
    const commands = [
      ['HGETALL', key],
      ['HGETALL', this.keys.revocations(token.bucket)],
      ['TIME'],
    ];
    const get = ['GET', this.keys.revoked];
    const asked = performance.now();
    let replies: Reply[];
    if (this.redis.cluster) {
      const both = await Promise.all([this.run(key, commands, 'read'), this.run(this.keys.revoked, [get], 'read')]);
      replies = both.flat();
    } else {
      replies = await this.run(key, [...commands, get], 'read');
    }
    this.clock.learn(replies[2], asked, performance.now());
    const handle = handleOf(token.id);
    const session = toMap(`session ${handle}`, replies[0]);
    const revocations = toMap(this.keys.revocations(token.bucket), replies[1]);
    const now = toTime(replies[2]);
    const revoked = this.learnRevoked(replies[3]);
    const found = {
      handle, name: token.id.name, session, revocations, revoked, now, requestBegan: this.clock.at(began),
      requestBeganEarly: now - (performance.now() - began),
    };
    const end = this.ends.get(key);
    if (end) {
      const outcome = end.moved ? 'moved' : began < end.at ? 'ended during the request' : 'ended before the request';
      return { outcome, record: undefined, now, revoked };
    }
    const { outcome, record } = decide(found, token.verifierHash, token.generation);
    return { outcome, record, now, revoked };
  }

  /** Reads the data of a user. The record is undefined if it is not stored, or has expired. */
  async readUserData({ id, verifierHash }: Credential): Promise<{ record: StoredRecord | undefined; now: number }> {
    const key = this.keys.record(id);
    const asked = performance.now();
    const [data, time] = await this.run(key, [['HGETALL', key], ['TIME']], 'read');
    this.clock.learn(time, asked, performance.now());
    const now = toTime(time);
    const where = `the user data ${handleOf(id)}`;
    const hash = toMap(where, data);
    if (hash.size === 0) return { record: undefined, now };
    const record = parseRecord(where, hash);
    // It has no markers, no user, and a verifier that never changes.
    if (!('id' in record) || record.verifier !== verifierHash || record.previous || record.moving) throw malformed(where, '@s');
    if (record.principal) throw malformed(where, '@u');
    return { record: now < expiresAt(record) ? record : undefined, now };
  }

  // Writing

  /** Stores a new session in which nobody is signed in, or the data of a user. */
  async create(
    { id, verifierHash }: Credential, secret: string, fields: ReadonlyMap<string, string>, size: number, limits: Limits,
  ): Promise<Created> {
    const key = this.keys.record(id);
    const args = [
      secret, verifierHash, String(size), String(limits.idle), String(limits.lifetime), String(limits.first), '0',
    ];
    for (const [name, value] of fields) args.push(name, value);
    const [status, now] = await this.call('create.lua', [key], args, 'again');
    if (status === 'ok') return { status, now: Number(now) };
    if (status === 'exists') return { status, now: 0 };
    if (status !== 'again') throw malformed('the reply of create.lua', String(status));
    const [life] = await this.run(key, [['HGET', key, '@l']], 'read');
    if (typeof life !== 'string') throw endedError();
    return { status, now: parseInt(life.slice(22, 34), 16) };
  }

  /**
   * Makes one change, completely or not at all. `record` is what the request knows of the session,
   * or of the user data. It throws `ended` if that is not stored any more.
   */
  async apply(
    credential: Credential, record: StoredRecord, now: number, operations: readonly Operation[],
    options: { maxSize: number; issued: boolean; renewal?: Operation },
  ): Promise<Applied> {
    const { id, verifierHash } = credential;
    const keys = this.#checkedKeys(id, record);
    if (this.ends.get(keys[0]!)) throw endedError();
    const clock = options.renewal !== undefined || touchDue(record, verifierHash, now) ? '1' : '0';
    const args = [
      verifierHash, String(options.maxSize), this.global(id, record), `${clock}0${options.issued ? '1' : '0'}`,
      ...(options.renewal ?? []), ...operations.flat(),
    ];
    const renews = options.renewal?.[0] === 'renew';
    const { reply, unchecked } = await this.#callChecked('apply.lua', keys, args, renews ? 'again' : 'once');
    const status = reply[0];
    if (status === 'gone' || status === 'moved') throw endedError();
    if (status === 'refused') {
      const index = Number(reply[1]);
      const why = String(reply[2]);
      if (why === 'conflict') throw new ConflictError(index, (reply[3] ?? null) as string | null);
      throw refused(why, operations[index]?.[1] ?? '');
    }
    if (status !== 'ok' && status !== 'kept') throw malformed('the reply of apply.lua', String(status));
    if (unchecked) {
      const seen = await this.read(credential as Token, performance.now());
      if (seen.outcome !== 'current' && seen.outcome !== 'grace') throw endedError();
    }
    const generation = options.renewal ? Number(reply[3]) : undefined;
    return {
      status, now: Number(reply[1]), revision: Number(reply[2]), generation,
      values: reply.slice(options.renewal ? 4 : 3),
    };
  }

  /** Returns the key of a record and, if somebody is signed in, that of the revocations. */
  #checkedKeys(id: SessionId, record: StoredRecord): string[] {
    const key = this.keys.record(id);
    return record.principal ? [key, this.keys.revocations(id.bucket)] : [key];
  }

  /** Returns the time of the revocation of everybody for a script. None concerns user data. */
  global(id: SessionId, record: StoredRecord): string {
    return id.userData || record.created > this.#revoked ? '0' : String(this.#revoked);
  }

  /** Records a use. It reports false if the session has ended or got another token. */
  async touch({ id, verifierHash }: Credential, record: StoredRecord): Promise<boolean> {
    const keys = this.#checkedKeys(id, record);
    if (this.ends.get(keys[0]!)) return false;
    const { reply } = await this.#callChecked('touch.lua', keys, [verifierHash, this.global(id, record), '0'], 'again');
    return reply[0] === 'ok';
  }

  /**
   * Ends a session. It reports whether this call ended a live one. It throws `ended` if a sign-in
   * has replaced the session.
   */
  async end(token: Token, owner: string | undefined, until: number): Promise<boolean> {
    const key = this.keys.session(token.id);
    if (owner === undefined) {
      // The request has not read the session. An end without its index would count as an expiry.
      const [user] = await this.run(key, [['HGET', key, '@u']], 'read').catch(() => [null]);
      const text = typeof user === 'string' && user.length === 41 ? user.slice(0, 22) : '';
      if (/^[A-Za-z0-9_-]{21}[AQgw]$/.test(text) && this.keys.index(text).startsWith(this.keys.bucket(token.bucket))) {
        owner = text;
      }
    }
    const index = owner === undefined ? undefined : this.keys.index(owner);
    const keys = index === undefined ? [key] : [key, index];
    const end = { key, at: performance.now(), until, ...(index === undefined ? {} : { index }) };
    let reply: Reply[];
    try {
      reply = await this.call('end.lua', keys, [random16(), '0'], 'again');
    } catch (error) {
      this.ends.add(end);
      throw error;
    }
    if (reply[0] === 'moved') throw endedError();
    if (reply[2] === 1) this.ends.add(end);
    return reply[2] === 1;
  }
}

/** Returns when, by performance.now(), a session ends at the latest. */
export function localDeadline(record: StoredRecord, now: number): number {
  return performance.now() + Math.max(record.deadline, expiresAt(record)) - now;
}

function refused(why: string, name: string): SessionError {
  const field = JSON.stringify(name);
  switch (why) {
    case 'integer':
      return new SessionError('invalid', `the value of ${field} is no counter`);
    case 'overflow':
      return new SessionError('invalid', `the counter ${field} would overflow 64 bits`);
    case 'entries':
      return new SessionError('limit', `${field} has as many entries as allowed: delete one first`);
    case 'fields':
      return new SessionError('too large', 'there would be more than 1,024 fields and entries');
    default:
      return new SessionError('too large', `the fields would exceed their size at ${field}`);
  }
}

function unknownOutcome(cause: Error): SessionError {
  return new SessionError('unknown outcome', `Redis did not confirm the change: ${cause.message}`, { cause });
}

class SilenceError extends Error {
  constructor() {
    super('no reply within the timeout');
  }
}

function withTimeout<T>(promise: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    // After setImmediate: replies that arrived while this process was busy still count.
    const timer = setTimeout(() => setImmediate(() => reject(new SilenceError())), Math.max(1, ms));
    promise.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (error: unknown) => {
        clearTimeout(timer);
        reject(error as Error);
      },
    );
  });
}

/** Returns the reply to HGETALL as a Map: a name such as `__proto__` is a plain key there. */
export function toMap(where: string, reply: Reply | undefined): Map<string, string> {
  if (!Array.isArray(reply)) throw malformed(where, reply instanceof Error ? reply.message : String(reply));
  const map = new Map<string, string>();
  for (let i = 0; i + 1 < reply.length; i += 2) map.set(String(reply[i]), String(reply[i + 1]));
  return map;
}
