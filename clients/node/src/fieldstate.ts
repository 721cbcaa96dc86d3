import { SessionError, endedError } from './errors.js';
import type { StoredRecord } from './record.js';
import { isSealed } from './seal.js';
import type { Sessions } from './sessions.js';
import { Values } from './values.js';

/**
 * What a request knows of the record whose fields it reads and changes: of its session, or of the
 * data of a user. Nothing here waits.
 */
export class FieldState {
  /** `anonymous`: nothing is stored, and the first change stores a record. */
  status: 'unread' | 'anonymous' | 'live' | 'ended' | 'moved' | 'failed' = 'unread';
  record: StoredRecord | undefined; // there is one while the status is live
  id: string | undefined; // of the record, also after the session has ended
  protected readTime = 0; // the server's time when record was read
  #readAt = 0;

  readonly values = new Values();

  readError: SessionError | undefined;
  failure: SessionError | undefined; // stops every further commit
  reported = false; // the application knows of the failure

  readonly began = performance.now();

  /** @param owner that of user data, to which its sealed values are bound; undefined: a session */
  constructor(readonly sessions: Sessions, private readonly owner?: string) {}

  /**
   * What sealed values of the record with this id are bound to: they open nowhere else. User data
   * may expire and be created anew, with another id. So its values are bound to the owner.
   */
  binding(id = this.id!): string {
    return this.owner ?? id;
  }

  /** The server's time. */
  get serverNow(): number {
    return this.readTime + performance.now() - this.#readAt;
  }

  /** Returns a stored text in clear. */
  inClear(name: string, text: string): string {
    return isSealed(text) ? this.sessions.seals.open(this.binding(), name, text) : text;
  }

  // Failures

  /** Throws if no change can be made, because the session has ended or could not be read. */
  refuse(): void {
    if (this.status === 'ended' || this.status === 'moved') throw this.fail(endedError());
    if (this.status === 'failed') throw this.fail(this.readError!);
  }

  stopIfFailed(): void {
    if (!this.failure) return;
    this.reported = true;
    throw this.failure;
  }

  /** Notes that no further commit is made, because of this error, and returns it. */
  fail(error: unknown): SessionError {
    const failure = error instanceof SessionError ? error : new SessionError('unavailable', 'the store failed', { cause: error });
    if (!this.failure || (failure.code === 'unknown outcome' && this.failure.code !== 'unknown outcome')) {
      this.failure = failure;
    }
    this.reported = true;
    return failure;
  }

  // What becomes of the record

  /** Notes that this is the record now, as it is stored. */
  hold(record: StoredRecord, now: number): void {
    this.status = 'live';
    this.record = record;
    this.id = record.id;
    this.readTime = now;
    this.#readAt = performance.now();
    this.values.become(record.fields);
  }

  /** Notes what a write has left of the record. `used` is the time of the use that it recorded. */
  wrote(fields: ReadonlyMap<string, string>, revision: number, used: number | undefined): void {
    this.record = { ...this.record!, revision, fields, ...(used === undefined ? {} : { lastUse: used }) };
    this.values.become(fields);
  }

  /** Notes that nothing is stored. */
  forget(): void {
    this.status = 'anonymous';
    this.record = undefined;
    this.id = undefined;
    this.values.become();
  }

  /** Notes that a change was refused, because the session has ended. */
  noteEnded(): void {}
}
