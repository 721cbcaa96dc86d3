import { setTimeout as sleep } from 'node:timers/promises';
import type { Change } from './change.js';
import { changeRecord, createRecord, type Stored } from './commit.js';
import { SessionError, isSessionError, malformed } from './errors.js';
import { FieldSet } from './fieldset.js';
import { FieldState } from './fieldstate.js';
import { touchDue } from './reading.js';
import type { Session } from './session.js';
import type { Sessions } from './sessions.js';
import type { Store } from './store.js';
import { bucketOf, type Credential } from './token.js';

/** The lifetime of user data: 100 years. Only its idle limit is meant to end it. */
const lifetime = 100 * 365 * 86_400_000;

/** How exactly a use of user data is recorded, at most. */
const leastTouch = 3_600_000;

const maxAttempts = 100;

/** Returns the name of an owner's data. Its verifier is the owner, and never changes. */
function credentialOf(owner: string): Credential {
  return { id: { bucket: bucketOf(owner), name: owner, userData: true }, verifierHash: owner };
}

/**
 * The data of a user: fields that are the same in all sessions of the user, such as a cart on two
 * devices. `Session.userData` and `Sessions.userData` return it.
 */
export class UserData extends FieldSet {
  readonly #state: FieldState;
  readonly #credential: Credential;

  /** @internal */
  constructor(
    sessions: Sessions,
    /** The id of the user. */
    readonly user: string,
    /** @internal */
    readonly owner: string,
    /** The session that opened the data. Undefined: a program acts for the user without one. */
    private readonly session?: Session,
  ) {
    const state = new FieldState(sessions, owner);
    super(sessions, state);
    this.#state = state;
    this.#credential = credentialOf(owner);
  }

  /** @internal Reads the data, once, and moves the fields of the user from the session to it. */
  open(): Promise<void> {
    return this.exclusive(async () => {
      if (this.#state.status === 'unread') await this.#read();
      await this.session?.joinUserFields({
        state: this.#state,
        credential: this.#credential,
        prepare: () => this.#prepare(),
        reread: () => this.reread(),
      });
    });
  }

  async #read(): Promise<void> {
    const { store, seals } = this.sessions;
    const { record, now } = await store.readUserData(this.#credential);
    if (!record) {
      this.#state.forget();
      return;
    }
    for (const [name, value] of record.fields) seals.check(name, value);
    this.#state.hold(record, now);
  }

  protected async reread(): Promise<boolean> {
    return this.#read().then(() => true, () => false);
  }

  /** Makes the data ready for a join. */
  async #prepare(): Promise<void> {
    if (this.#state.status !== 'live') await this.#write([]);
  }

  protected async send(changes: readonly Change[]): Promise<Stored> {
    await this.session?.admit(this.owner);
    return this.#write(changes);
  }

  /**
   * Makes changes, or none, and stores the data if it is not stored. Meanwhile other requests may
   * store it, and it may expire.
   */
  async #write(changes: readonly Change[]): Promise<Stored> {
    const state = this.#state;
    const idle = this.sessions.config.userDataTimeout;
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      if (attempt > 1) await sleep(Math.random() * 2 ** Math.min(attempt, 5));
      try {
        if (state.status === 'live') return await changeRecord(state, this.#credential, changes);
        const created = await createRecord(state, this.#credential, changes, { idle, lifetime, first: idle });
        if (created) return created;
      } catch (error) {
        if (!isSessionError(error, 'ended')) throw error;
        state.forget(); // it has expired: the next attempt stores it anew, under another id
        continue;
      }
      await this.#read(); // another request was first
      if (state.record && changes.length === 0) return { values: [], created: false };
    }
    throw new SessionError('unavailable', 'the user data is created and deleted again and again');
  }

  protected get updateKey(): string {
    return this.sessions.store.keys.record(this.#credential.id);
  }

  protected dueTouch(): Credential | undefined {
    const { status, record, serverNow } = this.#state;
    if (status !== 'live' || !record || !touchDue(record, this.owner, serverNow)) return undefined;
    return serverNow - record.lastUse > Math.min(record.idle / 20, leastTouch) ? this.#credential : undefined;
  }

  /** @internal Stores the changes before another sign-in. If the session has ended, drops them. */
  async close(): Promise<void> {
    try {
      await this.flush();
    } catch (error) {
      if (!isSessionError(error, 'ended')) throw error;
      this.discard();
      this.#state.failure = undefined; // signing in is how to go on after an end
    }
  }
}

/**
 * Removes all fields of the data of a user. It does not read them: so it also removes sealed values
 * whose key was dropped.
 */
export async function emptyUserData(store: Store, owner: string, maxSize: number): Promise<void> {
  const key = store.keys.record(credentialOf(owner).id);
  const [status] = await store.call('apply.lua', [key], [owner, String(maxSize), '0', '100', 'clear', '', '', ''], 'once');
  if (status !== 'ok' && status !== 'gone') throw malformed(key, String(status));
}
