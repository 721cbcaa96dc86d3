import { malformed } from './errors.js';
import type { Reply } from './redis.js';

/**
 * Estimates the server's time: performance.now() plus an offset.
 *
 * A server reads its clock after the question and before the answer. So each answer bounds the
 * offset on both sides, and the offset moves only as far as these bounds ask. A late reply, or a
 * busy event loop, makes the bounds wide but does not spoil what earlier replies have told. The
 * servers of one Cluster share the offset: after an answer it is within the bounds of that server.
 */
export class ServerClock {
  #offset: number | undefined; // in milliseconds

  /** Notes a reply to TIME, by performance.now() before it was sent and after it came back. */
  learn(reply: Reply | undefined, asked: number, answered: number): void {
    const [seconds, microseconds] = parts(reply);
    const time = seconds * 1000 + microseconds / 1000;
    const least = time - answered;
    this.#offset = Math.min(Math.max(this.#offset ?? least, least), time - asked);
  }

  /** Returns the server's time at a time of performance.now(). It needs an answer before. */
  at(local: number): number {
    return local + this.#offset!;
  }
}

function parts(reply: Reply | undefined): [seconds: number, microseconds: number] {
  if (!Array.isArray(reply)) throw malformed('the reply of TIME', String(reply));
  return [Number(reply[0]), Number(reply[1])];
}

/** Returns the reply to TIME in milliseconds. */
export function toTime(reply: Reply | undefined): number {
  const [seconds, microseconds] = parts(reply);
  return seconds * 1000 + Math.floor(microseconds / 1000);
}
