import { setTimeout as sleep } from 'node:timers/promises';
import { overLimit, type Change } from './change.js';
import { commitChanges, type Committed, type Stored } from './commit.js';
import { SessionError } from './errors.js';
import type { FieldState } from './fieldstate.js';
import { splitEntry } from './record.js';
import type { Sessions } from './sessions.js';
import { ConflictError } from './store.js';
import type { Credential } from './token.js';

const maxAttempts = 100;

/**
 * What has fields: a session, or the data of a user. Read and change it with fields:
 * `new Counter('visits')`.
 *
 * What waits for Redis is awaited. The rest is immediate: a change is kept and stored by the
 * commit, which the middleware makes before the response header leaves. Several parts of one
 * request may use it at the same time: calls that wait take turns.
 */
export abstract class FieldSet {
  readonly #state: FieldState;
  #turn: Promise<void> | undefined; // the calls that wait for the store

  /** @internal */
  constructor(
    protected readonly sessions: Sessions,
    state: FieldState,
  ) {
    this.#state = state;
  }

  /** Removes all fields. */
  clear(): void {
    this.change({ kind: 'clear', name: '' });
  }

  /** Drops the changes that are not committed. */
  discard(): void {
    this.#state.values.discard();
  }

  /**
   * Stores the changes made so far, in one step. Afterwards, reads are exact: they include the
   * changes of other requests. Without changes it does nothing.
   */
  commit(): Promise<void> {
    return this.exclusive(async () => {
      const state = this.#state;
      state.stopIfFailed();
      if (state.values.pending === 0) return;
      const { created } = await this.#store();
      if (created) return;
      const { id } = state;
      await this.reread(); // the commit has succeeded, whatever comes of this
      if (state.id === id) state.values.settleAgain();
    });
  }

  // What a session and the data of a user do in ways of their own

  /** Sends changes to the store. */
  protected abstract send(changes: readonly Change[]): Promise<Stored>;

  /** Makes the view exact under the changes that are not committed. It reports whether it could. */
  protected abstract reread(): Promise<boolean>;

  /** What other updates in this process have in common with those of this one. */
  protected abstract get updateKey(): string | undefined;

  /** Returns what to touch after the response, if that is due. */
  protected abstract dueTouch(): Credential | undefined;

  // What fields use

  /** @internal Returns a value in clear, as this request sees it. */
  text(name: string): string | undefined {
    const text = this.#state.values.all().get(name);
    return text === undefined ? undefined : this.#state.inClear(name, text);
  }

  /** @internal Returns the entries of a field by key, in clear. */
  *entriesOf(field: string): Generator<[string, string]> {
    for (const [name, text] of this.#state.values.all()) {
      const entry = splitEntry(name);
      if (entry?.[0] === field) yield [entry[1], this.#state.inClear(name, text)];
    }
  }

  /** @internal Makes a change, which the next commit stores. */
  change(change: Change): void {
    this.#state.refuse();
    this.#state.values.change(change);
  }

  /** @internal Removes a value, and returns it to exactly one caller. */
  take(name: string): Promise<string | undefined> {
    return this.exclusive(async () => {
      const state = this.#state;
      state.stopIfFailed();
      state.refuse();
      const seen = state.values.all().get(name);
      if (seen === undefined) return undefined;
      this.sessions.seals.check(name, seen); // what cannot be read stays where it is
      const { value } = await this.#store([{ kind: 'take', name }]);
      return value === undefined ? undefined : state.inClear(name, value);
    });
  }

  /** @internal Replaces a value by what `f` makes of it, and commits. */
  async update(name: string, f: (old: string | undefined) => Promise<string>): Promise<void> {
    const state = this.#state;
    state.refuse();
    const { release, waited } = await this.sessions.updateTurn(this.updateKey);
    try {
      if (waited) await this.exclusive(() => this.reread());
      const clear = (text: string | null) => (text === null ? undefined : state.inClear(name, text));
      let stored: string | null = state.values.all().get(name) ?? null;
      let present = clear(stored);
      for (let attempt = 0; attempt < maxAttempts; attempt++) {
        const value = await f(present);
        try {
          const old = stored;
          await this.exclusive(async () => {
            state.stopIfFailed();
            state.refuse();
            await this.#store([{ kind: 'swap', name, old, value }]);
          });
          return;
        } catch (error) {
          if (!(error instanceof ConflictError)) throw error;
          stored = error.present;
          present = clear(stored);
        }
        if (attempt > 0) await sleep(Math.random() * 2 ** Math.min(attempt, 5));
      }
      throw state.fail(new SessionError('unavailable', `other requests keep changing ${JSON.stringify(name)}`));
    } finally {
      release();
    }
  }

  /**
   * @internal Makes changes with a limit of their own, and commits. It returns the value of the
   * first one. After `limit` nothing was stored, the other changes are still pending, and the view
   * is exact.
   */
  bounded(...changes: Change[]): Promise<string | undefined> {
    return this.exclusive(async () => {
      this.#state.stopIfFailed();
      this.#state.refuse();
      try {
        return (await this.#store(changes)).value;
      } catch (error) {
        const refused = error instanceof ConflictError ? overLimit(changes[0]!) : error;
        if (refused instanceof SessionError && refused.code === 'limit') await this.reread();
        throw refused;
      }
    });
  }

  #store(last: readonly Change[] = []): Promise<Committed> {
    return commitChanges(this.#state, (changes) => this.send(changes), last);
  }

  // What the middleware uses

  /** @internal Runs `f` when the earlier calls have ended. */
  exclusive<T>(f: () => Promise<T>): Promise<T> {
    const result = this.#turn ? this.#turn.then(f) : f();
    const done = () => {
      if (this.#turn === turn) this.#turn = undefined;
    };
    const turn: Promise<void> = result.then(done, done);
    this.#turn = turn;
    return result;
  }

  /** @internal Whether a call waits for the store. */
  protected get isBusy(): boolean {
    return this.#turn !== undefined;
  }

  /** @internal Stores the changes made so far. Unlike after `commit`, reads may be out of date. */
  flush(): Promise<void> {
    return this.exclusive(async () => {
      this.#state.stopIfFailed();
      if (this.#state.values.pending > 0) await this.#store();
    });
  }

  /** @internal Whether there are changes that are not committed. */
  get hasChanges(): boolean {
    return this.#state.values.pending > 0;
  }

  /** @internal Whether the application knows why commits fail. */
  get wasReported(): boolean {
    return this.#state.failure !== undefined && this.#state.reported;
  }

  /** @internal Whether there is nothing to wait for before the response header leaves. */
  get isSettled(): boolean {
    return !this.#turn && !this.#state.failure && this.#state.values.pending === 0;
  }

  /** @internal Whether the use must be recorded after the response. */
  get touchIsDue(): boolean {
    return this.dueTouch() !== undefined;
  }

  /** @internal Records the use, after the response. */
  async touch(): Promise<void> {
    await this.#turn;
    const credential = this.dueTouch();
    if (!credential) return;
    try {
      await this.sessions.store.touch(credential, this.#state.record!);
    } catch (error) {
      this.sessions.config.logger('session: a use was not written; a later one will be', error);
    }
  }
}
