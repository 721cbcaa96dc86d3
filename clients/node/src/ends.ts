import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis, Reply } from './redis.js';

// Repeats an end. It must not delete a marker, and leaves none.
const repeatEnd = `local markers = redis.pcall('HMGET', KEYS[1], '@ended', '@moved')
if markers[1] or markers[2] then return 0 end
return redis.call('DEL', KEYS[1])`;

const delays = [1_000, 5_000, 30_000, 300_000];
const watchEvery = 5_000;
const maxEnds = 10_000;

/** An end that this process made, and must repeat: a failover may undo it. */
export interface End {
  /** The key of the session, or of the index after the revocation of a user. */
  readonly key: string;
  /** The index of the session's user, if somebody was signed in. */
  readonly index?: string;
  /** The session has a "moved" marker, and is not refused as ended. */
  readonly moved?: boolean;
  /** Repeats the end in another way. */
  readonly repeat?: () => Promise<unknown>;
  /** When the end was made, and until when the session could live, by performance.now(). */
  readonly at: number;
  readonly until: number;
}

/**
 * Remembers the ends of this process and repeats them: after 1 s, 5 s, 30 s and 5 min, after each
 * lost connection, and when a primary has another replication id. It keeps the newest 10,000.
 */
export class Ends {
  readonly #ends = new Map<string, { end: End; timer?: NodeJS.Timeout }>();
  #watch: NodeJS.Timeout | undefined;
  #replids = '';
  #closed = false;

  constructor(private readonly redis: Redis) {
    redis.onReconnect(() => void this.#repeatAll());
  }

  add(end: End): void {
    if (this.#closed) return;
    this.#remove(end.key);
    this.#ends.set(end.key, { end });
    if (this.#ends.size > maxEnds) this.#remove(this.#ends.keys().next().value!);
    this.#schedule(end, 0);
    if (this.#watch === undefined) {
      this.#watch = setInterval(() => void this.#watchPrimaries(), watchEvery).unref();
      void this.#watchPrimaries();
    }
  }

  /** Returns the end of a session, if this process made it. */
  get(key: string): End | undefined {
    const end = this.#ends.get(key)?.end;
    if (end && performance.now() >= end.until) {
      this.#remove(key);
      return undefined;
    }
    return end;
  }

  #remove(key: string): void {
    clearTimeout(this.#ends.get(key)?.timer);
    this.#ends.delete(key);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#watch);
    for (const key of [...this.#ends.keys()]) this.#remove(key);
  }

  /** Schedules the repetition with this number, and the later ones after it. */
  #schedule(end: End, number: number): void {
    const entry = this.#ends.get(end.key);
    if (entry?.end !== end || number >= delays.length) return;
    clearTimeout(entry.timer);
    entry.timer = setTimeout(
      () => {
        if (this.get(end.key) !== end) return;
        this.#schedule(end, number + 1);
        void this.#repeat(end);
      },
      delays[number]! - (delays[number - 1] ?? 0),
    ).unref();
  }

  async #repeat(end: End): Promise<void> {
    try {
      if (end.repeat) {
        await end.repeat();
        return;
      }
      const commands: string[][] = [];
      if (end.index !== undefined) commands.push(['ZREM', end.index, end.key.slice(-22)]);
      commands.push(['EVAL', repeatEnd, '1', end.key]);
      const replies = await this.redis.send(end.key, commands);
      if (replies.some((reply) => reply instanceof Error)) throw new Error('not repeated');
    } catch {
      if (!this.#closed) this.#schedule(end, 0);
    }
  }

  async #repeatAll(): Promise<void> {
    let n = 0;
    for (const { end } of [...this.#ends.values()]) {
      if (this.get(end.key) === end) await this.#repeat(end);
      if (++n % 100 === 0) await sleep(1, undefined, { ref: false });
    }
  }

  async #watchPrimaries(): Promise<void> {
    if (this.#ends.size === 0) return;
    try {
      const replies: Reply[] = [];
      for (const server of await this.redis.primaries()) replies.push(...(await server.send([['INFO', 'replication']])));
      if (replies.some((reply) => typeof reply !== 'string')) return;
      const ids = replies.map((reply) => /master_replid:(\w+)/.exec(reply as string)?.[1]).sort().join();
      const changed = this.#replids !== '' && ids !== this.#replids;
      this.#replids = ids;
      if (changed) await this.#repeatAll();
    } catch {
      // It is down. The repetition follows after the connection is back.
    }
  }
}
