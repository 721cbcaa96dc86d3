import { setTimeout as sleep } from 'node:timers/promises';
import { overLimit, type Change } from './change.js';
import { commitChanges, rotateToken } from './commit.js';
import { readCredentials } from './credentials.js';
import { SessionError, endedError } from './errors.js';
import type { Login, SessionInfo } from './login.js';
import { openTokens } from './opening.js';
import { splitEntry } from './record.js';
import type { Sessions } from './sessions.js';
import { SessionState, rotationGrace, type Channel, type CookieAction, type Renewal } from './state.js';
import { ConflictError } from './store.js';
import { csrfToken, handleOf, isCsrfToken, renewedToken } from './token.js';
import { keptFields, makeFields } from './values.js';

const maxAttempts = 100;

/** What a request requires of the visitor. */
export interface Requirements {
  /** Somebody is signed in. The others imply it. */
  readonly signedIn?: boolean;
  /** The user authenticated at most this long ago, in milliseconds. */
  readonly maxAuthAge?: number;
  readonly methods?: readonly string[];
  readonly minLevel?: number;
}

/**
 * The session of one request. Read and change it with fields: `new Counter('visits')`.
 *
 * What waits for Redis is awaited. The rest is immediate: a change is kept and stored by the
 * commit, which the middleware makes before the response header leaves. Several parts of one
 * request may use the session at the same time: calls that wait take turns.
 */
export class Session {
  readonly #state: SessionState;
  #turn: Promise<void> | undefined; // the calls that wait for the store

  /** @internal */
  constructor(
    private readonly sessions: Sessions,
    private readonly cookies: string | undefined,
    channel: Channel,
  ) {
    this.#state = new SessionState(sessions, channel);
  }

  // What the application asks

  /** The handle of the session: for logs, lists and URLs. Undefined if it is not stored. */
  get handle(): string | undefined {
    const { record, token } = this.#state;
    return record && token ? handleOf(token.id) : undefined;
  }

  /** The id of the user who is signed in, or undefined. */
  get user(): string | undefined {
    return this.#state.info?.user;
  }

  /** What is known of the session, or undefined if it is not stored. */
  get info(): SessionInfo | undefined {
    const { record, token, info } = this.#state;
    return record && token ? this.sessions.infoOf(token.id, record, info) : undefined;
  }

  /** Throws `not signed in` or `not fresh` unless the visitor meets the requirements. */
  require(wanted: Requirements = { signedIn: true }): void {
    const { status, record, info, serverNow } = this.#state;
    const principal = record?.principal;
    if (status === 'ended' || status === 'moved') throw endedError();
    if (!principal || !info) throw new SessionError('not signed in', 'nobody is signed in');
    const fresh =
      (wanted.maxAuthAge === undefined || serverNow - principal.authenticated <= wanted.maxAuthAge) &&
      (wanted.minLevel === undefined || principal.level >= wanted.minLevel) &&
      (wanted.methods ?? []).every((method) => info.methods.includes(method));
    if (!fresh) throw new SessionError('not fresh', 'a newer or stronger authentication is needed');
  }

  /** Removes all fields. The token and the user stay. */
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
    return this.#exclusive(async () => {
      const state = this.#state;
      state.stopIfFailed();
      if (state.values.pending === 0) return;
      const stored = state.status === 'live';
      await commitChanges(state);
      if (!stored) return;
      await this.#reread();
      state.values.settleAgain();
    });
  }

  /** Replaces the token at once, because a privilege changed. It commits. */
  renew(): Promise<void> {
    return this.#exclusive(async () => {
      const state = this.#state;
      state.stopIfFailed();
      state.refuse();
      if (state.status !== 'live') {
        if (state.values.pending > 0) await commitChanges(state);
        return;
      }
      state.mustCarryCookie();
      const token = renewedToken(state.token!);
      await commitChanges(state, [], { operation: ['renew', token.verifierHash, '', ''], token });
    });
  }

  /**
   * Makes `login.user` the session's user. It commits. The visitor gets a new session under a new
   * token. Of an anonymous session it keeps the fields of Config.keepFields, of a session of the
   * same user all, and of another user's session none. Changes that this request made are kept.
   *
   * After `too many` and `revoked`, the session goes on as it was.
   */
  signIn(login: Login): Promise<void> {
    return this.#exclusive(async () => {
      const state = this.#state;
      const prepared = this.sessions.prepare(login, state.began);
      if (state.status === 'failed') state.fail(state.readError!);
      // Signing in is how to go on after an end.
      if ((state.status === 'ended' || state.status === 'moved') && state.failure?.code === 'ended') state.failure = undefined;
      state.stopIfFailed();
      state.mustCarryCookie();
      const changes = state.values.begin();
      try {
        const { record, now } = await this.sessions.users.signIn({
          ...prepared,
          from: state.record && state.status === 'live' ? state.token : undefined,
          fields: (old) => {
            const kept = keptFields(this.sessions, old, prepared.id, prepared.principal.owner);
            return makeFields(this.sessions, prepared.id, kept, changes);
          },
        });
        state.values.sent();
        state.become(prepared.token, record, now);
        state.issue(record, now);
      } catch (error) {
        state.values.restore();
        if (error instanceof SessionError && (error.code === 'too many' || error.code === 'revoked')) throw error;
        throw state.fail(error);
      }
    });
  }

  /** Ends the session. The response deletes the cookie, even if the store does not answer. */
  signOut(): Promise<void> {
    return this.#exclusive(async () => {
      const state = this.#state;
      let failed: unknown;
      if (state.found && state.token) {
        try {
          await this.sessions.store.end(state.token, state.record?.principal?.owner, state.latestEnd);
        } catch (error) {
          if (error instanceof SessionError && error.code === 'ended') {
            state.leave('moved');
            throw state.fail(error);
          }
          failed = error;
        }
      }
      state.signedOut(failed !== undefined);
      if (failed !== undefined) throw state.fail(failed);
    });
  }

  /** Returns a CSRF token of the session. It stores the session if it is not stored. */
  csrfToken(): Promise<string> {
    return this.#exclusive(async () => {
      const state = this.#state;
      if (state.status === 'anonymous') {
        state.stopIfFailed();
        await commitChanges(state);
      }
      if (state.status === 'ended' || state.status === 'moved') throw endedError();
      if (state.status === 'failed') throw state.readError!;
      return csrfToken(state.id!);
    });
  }

  /** Throws `csrf` unless the text is a CSRF token of this session. */
  checkCsrf(text: unknown): void {
    const { record } = this.#state;
    if (!record || typeof text !== 'string' || !isCsrfToken(record.id, text)) {
      throw new SessionError('csrf', 'the request has no valid CSRF token');
    }
  }

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
    return this.#exclusive(async () => {
      const state = this.#state;
      state.stopIfFailed();
      state.refuse();
      const seen = state.values.all().get(name);
      if (seen === undefined) return undefined;
      this.sessions.seals.check(name, seen); // what cannot be read stays where it is
      const id = state.id;
      const taken = await commitChanges(state, [{ kind: 'take', name }]);
      return taken === undefined ? undefined : this.sessions.seals.open(id ?? state.id!, name, taken);
    });
  }

  /** @internal Replaces a value by what `f` makes of it, and commits. */
  async update(name: string, f: (old: string | undefined) => Promise<string>): Promise<void> {
    const state = this.#state;
    state.refuse();
    const { release, waited } = await this.sessions.updateTurn(this.handle);
    try {
      if (waited) await this.#exclusive(() => this.#reread());
      let stored: string | null = state.values.all().get(name) ?? null;
      for (let attempt = 0; attempt < maxAttempts; attempt++) {
        const value = await f(stored === null ? undefined : state.inClear(name, stored));
        try {
          const old = stored;
          await this.#exclusive(async () => {
            state.stopIfFailed();
            state.refuse();
            await commitChanges(state, [{ kind: 'swap', name, old, value }]);
          });
          return;
        } catch (error) {
          if (!(error instanceof ConflictError)) throw error;
          stored = error.present;
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
    return this.#exclusive(async () => {
      this.#state.stopIfFailed();
      this.#state.refuse();
      try {
        return await commitChanges(this.#state, changes);
      } catch (error) {
        const refused = error instanceof ConflictError ? overLimit(changes[0]!) : error;
        if (refused instanceof SessionError && refused.code === 'limit') await this.#reread();
        throw refused;
      }
    });
  }

  /** Runs `f` when the earlier calls of this session have ended. */
  #exclusive<T>(f: () => Promise<T>): Promise<T> {
    const result = this.#turn ? this.#turn.then(f) : f();
    const done = () => {
      if (this.#turn === turn) this.#turn = undefined;
    };
    const turn: Promise<void> = result.then(done, done);
    this.#turn = turn;
    return result;
  }

  // What the middleware uses

  /** @internal Reads the session of the request, once. */
  async read(): Promise<this> {
    const state = this.#state;
    if (state.status === 'unread' || this.#turn) {
      await this.#exclusive(async () => {
        if (state.status !== 'unread') return;
        state.credentials = readCredentials(this.cookies, this.sessions.config.cookie.name, this.sessions.tokenKeys);
        state.opened(await openTokens(this.sessions, state.credentials, state.began));
      });
    }
    state.used = true;
    if (state.status === 'failed') {
      state.reported = true;
      throw state.readError!;
    }
    return this;
  }

  /** Makes the view exact under the changes that are not committed. */
  async #reread(): Promise<void> {
    const state = this.#state;
    if (state.status !== 'live') return;
    // The commit has succeeded, whatever comes of this.
    const read = await this.sessions.store.read(state.token!, state.began).catch(() => undefined);
    if (read?.outcome === 'current' || read?.outcome === 'grace') state.become(state.token!, read.record!, read.now);
  }

  /** @internal Whether the response depends on the session. */
  get used(): boolean {
    return this.#state.used;
  }

  /** @internal Whether there are changes that are not committed. */
  get hasChanges(): boolean {
    return this.#state.values.pending > 0;
  }

  /** @internal Whether the application knows why commits fail. */
  get wasReported(): boolean {
    return this.#state.failure !== undefined && this.#state.reported;
  }

  /** @internal Whether the cookie opens a session, or may do so. */
  get opensSession(): boolean {
    return this.#state.record !== undefined;
  }

  /** @internal Whether the response needs a new cookie. */
  get needsCookie(): boolean {
    return this.#state.cookie !== undefined || (this.#state.status === 'anonymous' && this.hasChanges);
  }

  /** @internal Whether there is nothing to wait for before the response header leaves. */
  get isSettled(): boolean {
    const state = this.#state;
    return !this.#turn && !state.failure && state.values.pending === 0 && !state.cookie && !state.rotationIsDue;
  }

  /** @internal Whether the use of the session must be recorded after the response. */
  get touchIsDue(): boolean {
    return this.#state.touchIsDue;
  }

  /** @internal Commits before the response header leaves. */
  commitBeforeHeader(canSetCookie: boolean): Promise<void> {
    return this.#exclusive(async () => {
      const state = this.#state;
      try {
        if (state.failure) throw state.failure;
        const rotation = canSetCookie && state.rotationIsDue ? this.#rotation() : undefined;
        if (rotation && state.values.pending === 0) await rotateToken(state, rotation);
        else if (rotation) await commitChanges(state, [], rotation);
        else if (state.values.pending > 0) await commitChanges(state);
      } finally {
        await this.#recheckCookie();
      }
    });
  }

  #rotation(): Renewal {
    const token = renewedToken(this.#state.token!);
    const every = String(this.sessions.config.rotateEvery);
    return { operation: ['rotate', token.verifierHash, String(rotationGrace), every], token };
  }

  /** Withholds a new token that another request has superseded meanwhile. */
  async #recheckCookie(): Promise<void> {
    const state = this.#state;
    if (!state.cookie || state.rotatedTo || performance.now() - state.confirmed < 50) return;
    const read = await this.sessions.store.read(state.token!, state.began).catch(() => undefined);
    if (read && read.outcome !== 'current') state.leave('ended');
  }

  /** @internal Drops what was not committed, and all that follows. */
  stop(error: SessionError): void {
    this.#state.stop(error);
  }

  /** @internal Returns the cookie that the response sets, and which cookies it deletes; once. */
  takeCookies(): { set: CookieAction | undefined; deleteSignedIn: boolean; deleteAnonymous: boolean; everywhere: boolean } {
    return this.#state.takeCookies();
  }

  /** @internal Records the use of the session, after the response. */
  async touch(): Promise<void> {
    await this.#turn;
    if (!this.#state.touchIsDue) return;
    try {
      await this.sessions.store.touch(this.#state.token!, this.#state.record!);
    } catch (error) {
      this.sessions.config.logger('session: a use was not written; a later one will be', error);
    }
  }
}
