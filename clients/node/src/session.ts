import type { Change } from './change.js';
import { commitChanges, rotateToken, sendSession, type Stored } from './commit.js';
import { readCredentials, type Credentials } from './credentials.js';
import { SessionError, endedError } from './errors.js';
import { FieldSet } from './fieldset.js';
import type { Login, SessionInfo } from './login.js';
import { openTokens } from './opening.js';
import type { Sessions } from './sessions.js';
import { SessionState, rotationGrace, type Channel, type CookieAction, type Renewal } from './state.js';
import { csrfToken, handleOf, isCsrfToken, renewedToken, type Credential } from './token.js';
import { UserData } from './userdata.js';
import { hasUserFields, joinUserFields, type JoinTarget } from './userjoin.js';
import { keptFields, makeFields } from './values.js';

/** What a request requires of the visitor. */
export interface Requirements {
  /** Somebody is signed in. The others imply it. */
  readonly signedIn?: boolean;
  /** The user authenticated at most this long ago, in milliseconds. */
  readonly maxAuthAge?: number;
  readonly methods?: readonly string[];
  readonly minLevel?: number;
}

/** The session of one request. */
export class Session extends FieldSet {
  readonly #state: SessionState;
  readonly #data: UserData[] = []; // the data of users that the request has opened

  /** @internal */
  constructor(
    sessions: Sessions,
    private readonly cookies: string | undefined,
    private readonly authorization: readonly string[],
    channel: Channel,
  ) {
    const state = new SessionState(sessions, channel);
    super(sessions, state);
    this.#state = state;
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

  /**
   * Whether the token came in the header Authorization, and not in a cookie. Do not return what only
   * a page may have, such as a CSRF token, to such a request.
   */
  get isBearer(): boolean {
    return this.#credentials.inHeader;
  }

  get #credentials(): Credentials {
    const { config, tokenKeys } = this.sessions;
    return (this.#state.credentials ??= readCredentials(this.cookies, this.authorization, config.cookie.name, tokenKeys));
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

  /** Replaces the token at once, because a privilege changed. It commits. */
  renew(): Promise<void> {
    return this.exclusive(async () => {
      const state = this.#state;
      state.stopIfFailed();
      state.refuse();
      if (state.status !== 'live') {
        if (state.values.pending > 0) await this.#commit();
        return;
      }
      state.mustBringToken(true);
      const token = renewedToken(state.token!);
      await this.#commit({ operation: ['renew', token.verifierHash, '', ''], token });
    });
  }

  /**
   * Makes `login.user` the session's user. It commits. The visitor gets a new session under a new
   * token. Of an anonymous session it keeps the fields of Config.keepFields, of a session of the
   * same user all, and of another user's session none. Changes that this request made are kept.
   * The fields of Config.userFields move to the user's data. If that fails, they stay in the
   * session, a warning is logged, and the next `userData` moves them.
   *
   * After `too many` and `revoked`, the session goes on as it was.
   */
  async signIn(login: Login): Promise<void> {
    for (const data of this.#data) await data.close();
    await this.#signIn(login);
    if (!hasUserFields(this.#state)) return;
    await this.userData().catch((error: unknown) => {
      const what = `the fields of session ${this.handle} did not join the data of its user`;
      this.sessions.config.logger(`session: ${what}; a later request tries again`, error);
    });
  }

  #signIn(login: Login): Promise<void> {
    return this.exclusive(async () => {
      const state = this.#state;
      const prepared = this.sessions.prepare(login, state.began);
      if (state.status === 'failed') state.fail(state.readError!);
      // Signing in is how to go on after an end.
      if ((state.status === 'ended' || state.status === 'moved') && state.failure?.code === 'ended') state.failure = undefined;
      state.stopIfFailed();
      state.mustBringToken(true);
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

  /**
   * Returns the data of the user who is signed in: fields that are the same in all sessions of the
   * user, such as a cart on two devices. The response commits its changes after those of the
   * session, or its own `commit` does. While nobody is signed in, it returns the session itself, so
   * that a page is written once:
   *
   *     const data = await session.userData();
   *     cart.add(data, 'apple', 1);
   *
   * The first call of a request reads the data. If the session still has fields of
   * Config.userFields, they move to the data, in one atomic step. If they do not fit, the call
   * throws `too large`, `invalid` or `decode`, and they stay in the session until it ends.
   * `Sessions.userData` opens the data without them.
   *
   * Before data is changed, the session is read again. If it has ended, the change fails with
   * `ended`. Revoking sessions does not change user data; `Sessions.deleteUser` empties it.
   */
  async userData(): Promise<Session | UserData> {
    const { status, record, info, readError } = this.#state;
    if (status === 'failed') throw readError!;
    const owner = record?.principal?.owner;
    if (!info || owner === undefined) return this;
    let data = this.#data.find((opened) => opened.owner === owner);
    if (!data) {
      data = new UserData(this.sessions, info.user, owner, this);
      this.#data.push(data);
    }
    await data.open();
    return data;
  }

  /** Ends the session. The response deletes the cookie, even if the store does not answer. */
  signOut(): Promise<void> {
    for (const data of this.#data) data.discard();
    return this.exclusive(async () => {
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

  /**
   * Returns the session's token, for a client that sends it as `Authorization: Bearer`. It commits,
   * and stores the session if it was not stored. It needs Config.bearer.
   *
   * The response sets no cookie for this token, and deletes a cookie that opens no session. A token
   * that came in a cookie is not handed out, since scripts must not get that one: `renew` first.
   */
  bearerToken(): Promise<string> {
    return this.exclusive(async () => {
      const state = this.#state;
      if (!this.sessions.config.bearer) throw new Error('session: bearerToken needs Config.bearer');
      if (state.status === 'live' && !state.cookie && !state.handedOut && state.cameInCookie) {
        throw new Error('session: this token came in a cookie, which scripts must not read: renew it to hand it out');
      }
      state.stopIfFailed();
      state.refuse();
      if (state.status === 'anonymous' || state.values.pending > 0) await this.#commitForBearer();
      state.handOut();
      return this.sessions.tokenKeys.text(state.token!);
    });
  }

  /** Commits. A session that this stores needs no cookie. If it fails, a later one does. */
  async #commitForBearer(): Promise<void> {
    const state = this.#state;
    const before = state.handedOut;
    if (state.status === 'anonymous') state.handedOut = true;
    try {
      await this.#commit();
    } catch (error) {
      state.handedOut = before;
      throw error;
    }
  }

  /** Returns a CSRF token of the session. It stores the session if it is not stored. */
  csrfToken(): Promise<string> {
    return this.exclusive(async () => {
      const state = this.#state;
      if (state.status === 'anonymous') {
        state.stopIfFailed();
        await this.#commit();
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

  // What the data of a user needs of the session that has opened it

  /** @internal Throws `ended` unless the session is alive and the owner is signed in. */
  admit(owner: string): Promise<void> {
    return this.exclusive(async () => {
      const state = this.#state;
      if (state.status === 'failed') throw state.readError!;
      if (state.status !== 'live' || state.record?.principal?.owner !== owner) throw endedError();
      const { outcome } = await this.sessions.store.read(state.token!, state.began);
      if (outcome === 'current' || outcome === 'grace') return;
      state.leave(outcome === 'superseded' || outcome === 'moved' ? 'moved' : 'ended');
      throw endedError();
    });
  }

  /** @internal Moves the fields of the user to the data. The data calls it in its own turn. */
  async joinUserFields(into: JoinTarget): Promise<void> {
    if (!hasUserFields(this.#state)) return;
    await this.exclusive(() => joinUserFields(this.#state, into, () => this.reread()));
  }

  // What the middleware uses

  /** @internal Reads the session of the request, once. */
  async read(): Promise<this> {
    const state = this.#state;
    if (state.status === 'unread' || this.isBusy) {
      await this.exclusive(async () => {
        if (state.status !== 'unread') return;
        state.opened(await openTokens(this.sessions, this.#credentials, state.began));
      });
    }
    state.used = true;
    if (state.status === 'failed') {
      state.reported = true;
      throw state.readError!;
    }
    return this;
  }

  protected send(changes: readonly Change[]): Promise<Stored> {
    return sendSession(this.#state, changes);
  }

  protected async reread(): Promise<boolean> {
    const state = this.#state;
    if (state.status !== 'live') return false;
    const read = await this.sessions.store.read(state.token!, state.began).catch(() => undefined);
    if (read?.outcome !== 'current' && read?.outcome !== 'grace') return false;
    state.become(state.token!, read.record!, read.now);
    return true;
  }

  protected get updateKey(): string | undefined {
    return this.handle;
  }

  protected dueTouch(): Credential | undefined {
    return this.#state.touchIsDue ? this.#state.token : undefined;
  }

  /** Drops the changes that are not committed, also those of user data. */
  override discard(): void {
    super.discard();
    for (const data of this.#data) data.discard();
  }

  /** @internal Whether the response depends on the session. */
  get used(): boolean {
    return this.#state.used;
  }

  /** @internal Whether the cookie opens a session, or may do so. */
  get opensSession(): boolean {
    return this.#state.record !== undefined;
  }

  /** @internal Whether the response needs a new cookie. */
  get needsCookie(): boolean {
    const { cookie, status, handedOut } = this.#state;
    return cookie !== undefined || (status === 'anonymous' && super.hasChanges && !handedOut);
  }

  /** @internal Whether there is nothing to wait for before the response header leaves. */
  override get isSettled(): boolean {
    return super.isSettled && !this.#state.cookie && !this.#state.rotationIsDue && this.#data.every((data) => data.isSettled);
  }

  /** @internal Whether there are changes that are not committed. */
  override get hasChanges(): boolean {
    return super.hasChanges || this.#data.some((data) => data.hasChanges);
  }

  /** @internal Whether the application knows why commits fail. */
  override get wasReported(): boolean {
    return super.wasReported || this.#data.some((data) => data.wasReported);
  }

  /** @internal Whether a use must be recorded after the response. */
  override get touchIsDue(): boolean {
    return super.touchIsDue || this.#data.some((data) => data.touchIsDue);
  }

  /** @internal Records the uses, after the response. */
  override async touch(): Promise<void> {
    await super.touch();
    for (const data of this.#data) await data.touch();
  }

  /**
   * @internal Commits before the response header leaves: the session first, and then user data. So
   * after an error the data is unchanged, or its outcome is unknown. A request that the visitor
   * repeats does not add to a cart twice.
   */
  async commitBeforeHeader(canSetCookie: boolean): Promise<void> {
    await this.#commitOwn(canSetCookie);
    for (const data of this.#data) await data.flush();
  }

  /** @internal Commits what was changed after the header had left. */
  async commitAfterHeader(): Promise<void> {
    await this.flush();
    for (const data of this.#data) await data.flush();
  }

  #commitOwn(canSetCookie: boolean): Promise<void> {
    return this.exclusive(async () => {
      const state = this.#state;
      try {
        if (state.failure) throw state.failure;
        const rotation = canSetCookie && state.rotationIsDue ? this.#rotation() : undefined;
        if (rotation && state.values.pending === 0) await rotateToken(state, rotation);
        else if (rotation || state.values.pending > 0) await this.#commit(rotation);
      } finally {
        await this.#recheckCookie();
      }
    });
  }

  /** Stores the changes, and a renewal of the token. */
  async #commit(renewal?: Renewal): Promise<void> {
    await commitChanges(this.#state, (changes) => sendSession(this.#state, changes, renewal));
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

  /** @internal Whether the response brings the token in its body. */
  get isHandedOut(): boolean {
    return this.#state.handedOut;
  }

  /** @internal Returns the cookie that the response sets, and which cookies it deletes; once. */
  takeCookies(): { set: CookieAction | undefined; deleteSignedIn: boolean; deleteAnonymous: boolean; everywhere: boolean } {
    return this.#state.takeCookies();
  }
}
