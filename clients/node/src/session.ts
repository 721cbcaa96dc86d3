// Over 500 lines: the methods of one class share its private state, which changes in few places.

import { setTimeout as sleep } from 'node:timers/promises';
import { maxOperations, operations, overLimit, tooManyChanges, type Change } from './change.js';
import { readCredentials, type Credentials } from './credentials.js';
import { SessionError, endedError } from './errors.js';
import type { Login, SessionInfo } from './login.js';
import { openTokens } from './opening.js';
import { isSealed } from './seal.js';
import type { Sessions } from './sessions.js';
import { rememberedFor, splitEntry, type Info, type StoredRecord } from './record.js';
import { rotationDue, touchDue } from './reading.js';
import { ConflictError, localDeadline, type Operation } from './store.js';
import {
  csrfToken, handleOf, isCsrfToken, random16, randomToken, renewedToken, withGeneration, type Token,
} from './token.js';
import { Values, keptFields, makeFields } from './values.js';

const rotationGrace = 30_000;
const maxAttempts = 100;

type State = 'unread' | 'anonymous' | 'live' | 'ended' | 'moved' | 'failed';

/** What the response does with the cookie. */
export interface CookieAction {
  readonly token: Token;
  readonly signedIn: boolean;
  /** In milliseconds; 0: the cookie goes when the browser closes. */
  readonly maxAge: number;
}

/** What a session needs of its response. */
export interface Channel {
  /** Returns why the response cannot carry a new cookie, or undefined. */
  refuseCookie(): SessionError | undefined;
}

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
  #state: State = 'unread';
  #record: StoredRecord | undefined;
  #now = 0; // the server's time when record was read
  #readAt = 0;
  #info: Info | undefined;
  #id: string | undefined; // also of a session that is not stored yet
  #token: Token | undefined;
  #found = false; // the token may name a session
  #readError: SessionError | undefined;

  readonly #values = new Values();

  #outcome: SessionError | undefined; // stops every further commit
  #reported = false;
  #turn: Promise<void> | undefined; // the calls that wait for the store
  #credentials: Credentials | undefined;

  #cookie: CookieAction | undefined;
  #rotatedTo: Token | undefined;
  #confirmed = 0;
  #issued = false; // the request created, renewed or signed in the session
  #deleteCookies = false;
  #used = false;
  readonly #began = performance.now();

  /** @internal */
  constructor(
    private readonly sessions: Sessions,
    private readonly cookies: string | undefined,
    private readonly channel: Channel,
  ) {}

  // What the application asks

  /** The handle of the session: for logs, lists and URLs. Undefined if it is not stored. */
  get handle(): string | undefined {
    return this.#record && this.#token ? handleOf(this.#token.id) : undefined;
  }

  /** The id of the user who is signed in, or undefined. */
  get user(): string | undefined {
    return this.#info?.user;
  }

  /** What is known of the session, or undefined if it is not stored. */
  get info(): SessionInfo | undefined {
    return this.#record && this.#token
      ? this.sessions.infoOf(this.#token.id, this.#record, this.#info)
      : undefined;
  }

  /** Throws `not signed in` or `not fresh` unless the visitor meets the requirements. */
  require(wanted: Requirements = { signedIn: true }): void {
    const principal = this.#record?.principal;
    if (this.#state === 'ended' || this.#state === 'moved') throw endedError();
    if (!principal || !this.#info) throw new SessionError('not signed in', 'nobody is signed in');
    const age = this.#now + performance.now() - this.#readAt - principal.authenticated;
    const fresh =
      (wanted.maxAuthAge === undefined || age <= wanted.maxAuthAge) &&
      (wanted.minLevel === undefined || principal.level >= wanted.minLevel) &&
      (wanted.methods ?? []).every((method) => this.#info!.methods.includes(method));
    if (!fresh) throw new SessionError('not fresh', 'a newer or stronger authentication is needed');
  }

  /** Removes all fields. The token and the user stay. */
  clear(): void {
    this.change({ kind: 'clear', name: '' });
  }

  /** Drops the changes that are not committed. */
  discard(): void {
    this.#values.discard();
  }

  /**
   * Stores the changes made so far, in one step. Afterwards, reads are exact: they include the
   * changes of other requests. Without changes it does nothing.
   */
  commit(): Promise<void> {
    return this.#exclusive(async () => {
      this.#stopIfFailed();
      if (this.#values.pending === 0) return;
      const stored = this.#state === 'live';
      await this.#send();
      if (!stored) return;
      await this.#reread();
      this.#values.settleAgain();
    });
  }

  /** Replaces the token at once, because a privilege changed. It commits. */
  renew(): Promise<void> {
    return this.#exclusive(async () => {
      this.#stopIfFailed();
      this.#refuse();
      if (this.#state !== 'live') {
        if (this.#values.pending > 0) await this.#send();
        return;
      }
      const refused = this.channel.refuseCookie();
      if (refused) throw this.#fail(refused);
      const token = renewedToken(this.#token!);
      await this.#send([], ['renew', token.verifierHash, '', ''], token);
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
      const prepared = this.sessions.prepare(login, this.#began);
      if (this.#state === 'failed') this.#fail(this.#readError!);
      // Signing in is how to go on after an end.
      if ((this.#state === 'ended' || this.#state === 'moved') && this.#outcome?.code === 'ended') this.#outcome = undefined;
      this.#stopIfFailed();
      const refused = this.channel.refuseCookie();
      if (refused) throw this.#fail(refused);
      const changes = this.#values.begin();
      try {
        const { record, now } = await this.sessions.users.signIn({
          ...prepared,
          from: this.#record && this.#state === 'live' ? this.#token : undefined,
          fields: (old) => {
            const kept = keptFields(this.sessions, old, prepared.id, prepared.principal.owner);
            return makeFields(this.sessions, prepared.id, kept, changes);
          },
        });
        this.#values.sent();
        this.#become(prepared.token, record, now);
        this.#issue(record, now);
      } catch (error) {
        this.#values.restore();
        if (error instanceof SessionError && (error.code === 'too many' || error.code === 'revoked')) throw error;
        throw this.#fail(error);
      }
    });
  }

  /** Ends the session. The response deletes the cookie, even if the store does not answer. */
  signOut(): Promise<void> {
    return this.#exclusive(async () => {
      let failed: unknown;
      if (this.#found && this.#token) {
        const owner = this.#record?.principal?.owner;
        const until = this.#record
          ? localDeadline(this.#record, this.#now)
          : performance.now() + Math.max(this.sessions.config.lifetime, this.sessions.config.maxRemember);
        try {
          await this.sessions.store.end(this.#token, owner, until);
        } catch (error) {
          if (error instanceof SessionError && error.code === 'ended') {
            this.#leave('moved');
            throw this.#fail(error);
          }
          failed = error;
        }
      }
      this.#cookie = undefined;
      this.#rotatedTo = undefined;
      this.#deleteCookies = true;
      this.#outcome = undefined;
      this.#record = undefined;
      this.#info = undefined;
      this.#id = undefined;
      this.#values.become();
      this.discard();
      if (failed !== undefined) {
        this.#state = 'ended';
        throw this.#fail(failed);
      }
      this.#state = 'anonymous';
      this.#found = false;
    });
  }

  /** Returns a CSRF token of the session. It stores the session if it is not stored. */
  csrfToken(): Promise<string> {
    return this.#exclusive(async () => {
      if (this.#state === 'anonymous') {
        this.#stopIfFailed();
        await this.#send();
      }
      if (this.#state === 'ended' || this.#state === 'moved') throw endedError();
      if (this.#state === 'failed') throw this.#readError!;
      return csrfToken(this.#id!);
    });
  }

  /** Throws `csrf` unless the text is a CSRF token of this session. */
  checkCsrf(text: unknown): void {
    if (!this.#record || typeof text !== 'string' || !isCsrfToken(this.#record.id, text)) {
      throw new SessionError('csrf', 'the request has no valid CSRF token');
    }
  }

  // What fields use

  /** @internal Returns a value in clear, as this request sees it. */
  text(name: string): string | undefined {
    const text = this.#values.all().get(name);
    return text === undefined ? undefined : this.#open(name, text);
  }

  /** @internal Returns the entries of a field by key, in clear. */
  *entriesOf(field: string): Generator<[string, string]> {
    for (const [name, text] of this.#values.all()) {
      const entry = splitEntry(name);
      if (entry?.[0] === field) yield [entry[1], this.#open(name, text)];
    }
  }

  /** @internal Makes a change, which the next commit stores. */
  change(change: Change): void {
    this.#refuse();
    this.#values.change(change);
  }

  /** @internal Removes a value, and returns it to exactly one caller. */
  take(name: string): Promise<string | undefined> {
    return this.#exclusive(async () => {
      this.#stopIfFailed();
      this.#refuse();
      const seen = this.#values.all().get(name);
      if (seen === undefined) return undefined;
      this.sessions.seals.check(name, seen); // what cannot be read stays where it is
      const id = this.#id;
      const taken = await this.#send([{ kind: 'take', name }]);
      return taken === undefined ? undefined : this.sessions.seals.open(id ?? this.#id!, name, taken);
    });
  }

  /** @internal Replaces a value by what `f` makes of it, and commits. */
  async update(name: string, f: (old: string | undefined) => Promise<string>): Promise<void> {
    this.#refuse();
    const { release, waited } = await this.sessions.updateTurn(this.handle);
    try {
      if (waited) await this.#exclusive(() => this.#reread());
      let stored: string | null = this.#values.all().get(name) ?? null;
      for (let attempt = 0; attempt < maxAttempts; attempt++) {
        const value = await f(stored === null ? undefined : this.#open(name, stored));
        try {
          const old = stored;
          await this.#exclusive(async () => {
            this.#stopIfFailed();
            this.#refuse();
            await this.#send([{ kind: 'swap', name, old, value }]);
          });
          return;
        } catch (error) {
          if (!(error instanceof ConflictError)) throw error;
          stored = error.present;
        }
        if (attempt > 0) await sleep(Math.random() * 2 ** Math.min(attempt, 5));
      }
      throw this.#fail(new SessionError('unavailable', `other requests keep changing ${JSON.stringify(name)}`));
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
      this.#stopIfFailed();
      this.#refuse();
      try {
        return await this.#send(changes);
      } catch (error) {
        const refused = error instanceof ConflictError ? overLimit(changes[0]!) : error;
        if (refused instanceof SessionError && refused.code === 'limit') await this.#reread();
        throw refused;
      }
    });
  }

  // Reading

  /** @internal Reads the session of the request, once. */
  async read(): Promise<this> {
    if (this.#state === 'unread' || this.#turn) {
      await this.#exclusive(async () => {
        if (this.#state === 'unread') await this.#readTokens();
      });
    }
    this.#used = true;
    if (this.#state === 'failed') {
      this.#reported = true;
      throw this.#readError!;
    }
    return this;
  }

  async #readTokens(): Promise<void> {
    this.#credentials = readCredentials(this.cookies, this.sessions.config.cookie.name, this.sessions.tokenKeys);
    const { state, token, found, read, info, error } = await openTokens(this.sessions, this.#credentials, this.#began);
    if (read) this.#become(token!, read.record!, read.now, info);
    this.#state = state;
    this.#token = token;
    this.#found = found;
    if (error) this.#outcome = this.#readError = error;
  }

  #become(
    token: Token, record: StoredRecord, now: number,
    info = record.principal && this.sessions.openInfo(token.id, record),
  ): void {
    this.#state = 'live';
    this.#token = token;
    this.#found = true;
    this.#record = record;
    this.#id = record.id;
    this.#now = now;
    this.#readAt = performance.now();
    this.#values.become(record.fields);
    this.#info = info;
  }

  /** Makes the view exact under the changes that are not committed. */
  async #reread(): Promise<void> {
    if (this.#state !== 'live') return;
    // The commit has succeeded, whatever comes of this.
    const read = await this.sessions.store.read(this.#token!, this.#began).catch(() => undefined);
    if (read?.outcome === 'current' || read?.outcome === 'grace') this.#become(this.#token!, read.record!, read.now);
  }

  #open(name: string, text: string): string {
    return isSealed(text) ? this.sessions.seals.open(this.#id!, name, text) : text;
  }

  // Writing

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

  #refuse(): void {
    if (this.#state === 'ended' || this.#state === 'moved') throw this.#fail(endedError());
    if (this.#state === 'failed') throw this.#fail(this.#readError!);
  }

  #stopIfFailed(): void {
    if (!this.#outcome) return;
    this.#reported = true;
    throw this.#outcome;
  }

  /** Notes that no further commit is made, because of this error, and returns it. */
  #fail(error: unknown): SessionError {
    const failure = error instanceof SessionError ? error : new SessionError('unavailable', 'the store failed', { cause: error });
    if (!this.#outcome || (failure.code === 'unknown outcome' && this.#outcome.code !== 'unknown outcome')) {
      this.#outcome = failure;
    }
    this.#reported = true;
    return failure;
  }

  /**
   * Commits, with more changes or a renewal. It returns the value of the first one of `last`: of an
   * `add` or a `take`. Its error stops all further commits, but for a conflict or a limit of
   * `last`.
   */
  async #send(last: readonly Change[] = [], renewal?: Operation, renewed?: Token): Promise<string | undefined> {
    if (this.#state === 'anonymous') {
      const refused = this.channel.refuseCookie();
      if (refused) throw this.#fail(refused);
    }
    const pending = this.#values.begin();
    const changes = [...pending, ...last];
    try {
      if (changes.length > maxOperations) throw tooManyChanges();
      const values = this.#state === 'anonymous'
        ? await this.#create(changes)
        : await this.#apply(changes, renewal, renewed);
      this.#values.sent();
      this.#confirmed = performance.now();
      return values[pending.length];
    } catch (error) {
      this.#values.restore();
      if (error instanceof ConflictError || (error instanceof SessionError && error.code === 'limit')) throw error;
      if (error instanceof SessionError && error.code === 'ended') this.#leave('ended');
      throw this.#fail(error);
    }
  }

  async #create(changes: readonly Change[]): Promise<readonly (string | undefined)[]> {
    const { store, config } = this.sessions;
    const token = randomToken();
    const id = random16();
    const { fields, size, values } = makeFields(this.sessions, id, new Map(), changes);
    const limits = { idle: config.idleTimeout, lifetime: config.lifetime, first: config.firstUseTimeout };
    let now = await store.create(token, id, fields, size, limits);
    let record: StoredRecord | undefined;
    if (now === undefined) {
      ({ now, record } = await store.read(token, performance.now()));
      if (!record) throw endedError();
    }
    record ??= {
      id, verifier: token.verifierHash, unused: false, moving: false, revision: 1, size, created: now,
      lastUse: now - Math.max(0, limits.idle - limits.first), deadline: now + limits.lifetime, idle: limits.idle,
      previous: undefined, generation: 0, issued: now, overtaken: undefined, principal: undefined, fields,
    };
    this.#become(token, record, now);
    this.#issue(record, now);
    return values;
  }

  async #apply(changes: readonly Change[], renewal?: Operation, renewed?: Token): Promise<(string | undefined)[]> {
    const { store, config, seals } = this.sessions;
    const id = this.#id!;
    const seal = (name: string, value: string) => (config.seal && !isSealed(value) ? seals.seal(id, name, value) : value);
    const sent = operations(changes, seal);
    const before = this.#record!;
    const options = { maxSize: config.maxSize, issued: this.#issued, ...(renewal ? { renewal } : {}) };
    const touches = renewal !== undefined || touchDue(before, this.#token!.verifierHash, this.#serverNow());
    const applied = await store.apply(this.#token!, before, this.#serverNow(), sent, options);

    const fields = this.#values.settle(changes, sent, applied);
    const used = applied.now > 0 && touches ? { lastUse: applied.now } : {};
    let record: StoredRecord = { ...before, ...used, revision: applied.revision, fields };
    if (before.verifier === this.#token!.verifierHash && !this.#issued) record = { ...record, unused: false };
    this.#record = record;
    if (renewal && renewed && applied.status === 'ok') this.#renewed(renewal, renewed, applied.generation!, applied.now);
    return changes.map((_, i) => (typeof applied.values[i] === 'string' ? applied.values[i] : undefined));
  }

  /** Notes that the session has a new token. */
  #renewed(renewal: Operation, renewed: Token, generation: number, now: number): void {
    const token = withGeneration(renewed, generation);
    const before = this.#record!;
    const rotated = renewal[0] === 'rotate';
    const time = rotated ? rotationGrace : now + rememberedFor;
    this.#record = {
      ...before, verifier: token.verifierHash, unused: true, generation, issued: now,
      previous: { accepted: rotated, verifier: before.verifier, time },
    };
    const { maxAge, signedIn } = this.sessions.cookieFor(this.#record, this.#serverNow());
    this.#cookie = { token, signedIn, maxAge };
    if (rotated) {
      this.#rotatedTo = token; // the request goes on with its own token
    } else {
      this.#token = token;
      this.#rotatedTo = undefined;
      this.#issued = true;
      this.#confirmed = performance.now();
    }
  }

  #serverNow(): number {
    return this.#now + performance.now() - this.#readAt;
  }

  /** Gives the session's token to the client. */
  #issue(record: StoredRecord, now: number): void {
    this.#cookie = { token: this.#token!, ...this.sessions.cookieFor(record, now) };
    this.#rotatedTo = undefined;
    this.#issued = true;
    this.#confirmed = performance.now();
  }

  /** Notes that the session is over. What the request changed stays visible to it. */
  #leave(state: 'ended' | 'moved'): void {
    this.#values.freeze();
    this.#state = state;
    this.#record = undefined;
    this.#info = undefined;
    this.#cookie = undefined;
  }

  // What the middleware uses

  /** @internal Whether the response depends on the session. */
  get used(): boolean {
    return this.#used;
  }

  /** @internal Whether there are changes that are not committed. */
  get hasChanges(): boolean {
    return this.#values.pending > 0;
  }

  /** @internal Whether the application knows why commits fail. */
  get wasReported(): boolean {
    return this.#outcome !== undefined && this.#reported;
  }

  /** @internal Whether the cookie opens a session, or may do so. */
  get opensSession(): boolean {
    return this.#record !== undefined;
  }

  /** @internal Whether the response needs a new cookie. */
  get needsCookie(): boolean {
    return this.#cookie !== undefined || (this.#state === 'anonymous' && this.#values.pending > 0);
  }

  /** @internal Whether there is nothing to wait for before the response header leaves. */
  get isSettled(): boolean {
    return !this.#turn && !this.#outcome && this.#values.pending === 0 && !this.#cookie && !this.#rotationIsDue();
  }

  /** @internal Whether the use of the session must be recorded after the response. */
  get touchIsDue(): boolean {
    const record = this.#record;
    if (this.#state !== 'live' || !record || this.#issued || !this.#used) return false;
    return touchDue(record, this.#token!.verifierHash, this.#serverNow());
  }

  /** @internal Commits before the response header leaves. */
  commitBeforeHeader(canSetCookie: boolean): Promise<void> {
    return this.#exclusive(async () => {
      try {
        if (this.#outcome) throw this.#outcome;
        const rotation = canSetCookie && this.#rotationIsDue() ? this.#rotation() : undefined;
        if (rotation && this.#values.pending === 0) await this.#rotate(rotation);
        else if (rotation) await this.#send([], rotation.operation, rotation.token);
        else if (this.#values.pending > 0) await this.#send();
      } finally {
        await this.#recheckCookie();
      }
    });
  }

  #rotationIsDue(): boolean {
    const every = this.sessions.config.rotateEvery;
    if (every === 0 || this.#state !== 'live' || this.#cookie || this.channel.refuseCookie()) return false;
    return rotationDue(this.#record!, this.#token!.verifierHash, this.#serverNow(), every);
  }

  #rotation(): { operation: Operation; token: Token } {
    const token = renewedToken(this.#token!);
    const every = String(this.sessions.config.rotateEvery);
    return { operation: ['rotate', token.verifierHash, String(rotationGrace), every], token };
  }

  /** Rotates the token without a change. If it fails, the old token stays valid. */
  async #rotate({ operation, token }: { operation: Operation; token: Token }): Promise<void> {
    try {
      await this.#apply([], operation, token);
    } catch (error) {
      if (error instanceof SessionError && error.code === 'ended') return;
      this.sessions.config.logger('session: a token was not rotated; a later request will try again', error);
    }
  }

  /** Withholds a new token that another request has superseded meanwhile. */
  async #recheckCookie(): Promise<void> {
    if (!this.#cookie || this.#rotatedTo || performance.now() - this.#confirmed < 50) return;
    const read = await this.sessions.store.read(this.#token!, this.#began).catch(() => undefined);
    if (read && read.outcome !== 'current') this.#leave('ended');
  }

  /** @internal Drops what was not committed, and all that follows. */
  stop(error: SessionError): void {
    this.discard();
    this.#outcome = error;
    this.#reported = true;
  }

  /** @internal Returns the cookie that the response sets, and which cookies it deletes; once. */
  takeCookies(): { set: CookieAction | undefined; deleteSignedIn: boolean; deleteAnonymous: boolean; everywhere: boolean } {
    const set = this.#cookie;
    const credentials = this.#credentials ?? { hasCookie: false, hasAnonymous: false };
    const { hasCookie, hasAnonymous } = credentials;
    const result = {
      set,
      deleteSignedIn: this.#deleteCookies && hasCookie && !set,
      deleteAnonymous: (this.#deleteCookies && hasAnonymous && !set) || (set?.signedIn === true && hasAnonymous),
      everywhere: this.#readError?.code === 'ambiguous',
    };
    if (set && this.#deleteCookies && !set.signedIn && hasCookie) result.deleteSignedIn = true;
    if (set?.signedIn) credentials.hasCookie = true;
    else if (set) credentials.hasAnonymous = true;
    this.#cookie = undefined;
    this.#deleteCookies = false;
    return result;
  }

  /** @internal Records the use of the session, after the response. */
  async touch(): Promise<void> {
    await this.#turn;
    if (!this.touchIsDue) return;
    try {
      await this.sessions.store.touch(this.#token!, this.#record!);
    } catch (error) {
      this.sessions.config.logger('session: a use was not written; a later one will be', error);
    }
  }
}

