import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { fullConfig, type Config, type FullConfig } from './config.js';
import { SessionError } from './errors.js';
import { Exchange, sessionOf, type ErrorHandler } from './exchange.js';
import { checkLogin, cut, userBytes, type Login, type SessionInfo } from './login.js';
import { infoText, parseInfo, type Info, type Principal, type StoredRecord } from './record.js';
import type { Redis } from './redis.js';
import { SealKeys } from './seal.js';
import { Session } from './session.js';
import type { Channel } from './state.js';
import { Store } from './store.js';
import { UserData, emptyUserData } from './userdata.js';
import { Users, type SignIn } from './users.js';
import { TokenKeys, UserKey, bucketOf, handleOf, parseHandle, random16, randomToken, type SessionId } from './token.js';

/** A handler of plain HTTP. If it throws, its changes are dropped. */
export type Handler = (request: IncomingMessage, response: ServerResponse, session: () => Promise<Session>) => unknown;

/**
 * The sessions of an application. Make one for each process, and close it at the end.
 *
 *     const sessions = new Sessions(ioredis(new Redis()), { keepFields: ['cart'] });
 */
export class Sessions {
  /** @internal */
  readonly config: FullConfig;
  /** @internal */
  readonly store: Store;
  /** @internal */
  readonly users: Users;
  /** @internal */
  readonly tokenKeys: TokenKeys;
  /** @internal */
  readonly seals: SealKeys;
  readonly #userKey: UserKey;
  readonly #updates = new Map<string, Promise<void>>();

  constructor(redis: Redis, config: Config = {}) {
    this.config = fullConfig(config);
    this.store = new Store(redis, this.config.namespace, this.config.timeout);
    this.users = new Users(this.store);
    this.tokenKeys = new TokenKeys(this.config.keys, this.config.unsignedUntil?.getTime());
    this.seals = new SealKeys(this.config.keys);
    this.#userKey = new UserKey(this.config.userKey);
  }

  /** Closes the connections to Redis. Open requests fail. */
  close(): Promise<void> {
    return this.store.close();
  }

  // HTTP

  /**
   * Begins a request: from here on, `sessionOf(request)` returns its session, and the response
   * commits before its header leaves. Frameworks use it. It throws if the request is refused.
   */
  async begin(request: IncomingMessage, response: ServerResponse, onError?: ErrorHandler): Promise<void> {
    await Exchange.begin(this, request, response, onError);
  }

  /** Returns a handler for http.createServer. It answers the errors of `handler`. */
  handler(handler: Handler, onError?: ErrorHandler): RequestListener {
    return (request, response) => {
      const run = async () => {
        await this.begin(request, response, onError);
        await handler(request, response, () => sessionOf(request));
      };
      run().catch((error: unknown) => this.answer(request, response, error));
    };
  }

  /**
   * Answers a request that failed: it drops what was not committed, and responds with the status
   * and the sentence of the error. After the header has left, it closes the connection.
   */
  answer(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    Exchange.answer(this, request, response, error);
  }

  /** @internal Returns the session of a request that is not read yet. */
  open(cookies: string | undefined, authorization: readonly string[], channel: Channel): Session {
    return new Session(this, cookies, authorization, channel);
  }

  // Users

  /** Yields the live sessions of a user, the newest first. */
  async *list(user: string | Uint8Array): AsyncGenerator<SessionInfo> {
    const bytes = userBytes(user);
    for await (const { id, record } of this.users.list(this.#userKey.owner(bytes))) {
      let info: Info | undefined;
      try {
        info = this.openInfo(id, record);
      } catch (error) {
        this.config.logger(`session: session ${handleOf(id)} is listed without its sealed parts`, error);
        info = { user: bytes.toString(), userBytes: bytes, methods: [], device: '', userAgent: '', address: '' };
      }
      yield this.infoOf(id, record, info);
    }
  }

  /**
   * Ends one session of a user. It throws `not found` if the user has no session with this handle.
   */
  async revoke(user: string | Uint8Array, handle: string): Promise<void> {
    const id = parseHandle(handle);
    if (!id || user.length === 0 || (await this.users.endNamed(this.#userKey.owner(userBytes(user)), [id])) === 0) {
      throw new SessionError('not found', 'the user has no session with this handle');
    }
  }

  /** Ends all sessions of a user, except those with these handles. It returns how many it ended. */
  async revokeUser(user: string | Uint8Array, keep: readonly string[] = []): Promise<number> {
    const owner = this.#userKey.owner(userBytes(user));
    const ids = keep.map((handle): SessionId => {
      const id = parseHandle(handle);
      if (!id) throw new SessionError('invalid', `${JSON.stringify(handle)} is no handle`);
      return id;
    });
    if (ids.length > 100) throw new SessionError('invalid', 'at most 100 sessions can be kept');
    return this.users.endAllOf(owner, ids, Math.max(this.config.lifetime, this.config.maxRemember));
  }

  /** Ends all sessions of all users: for an incident. */
  revokeEverybody(): Promise<void> {
    return this.users.endEverybody();
  }

  /**
   * Returns the data of a user for a program that acts for the user without a session, such as a
   * worker. Changes are stored by its `commit`. See `Session.userData`.
   */
  async userData(user: string | Uint8Array): Promise<UserData> {
    const bytes = userBytes(user);
    const data = new UserData(this, bytes.toString(), this.#userKey.owner(bytes));
    await data.open();
    return data;
  }

  /**
   * Ends all sessions of a user, as `revokeUser` does, and then empties the user's data. It returns
   * how many sessions it ended. After an error, call it again.
   *
   * A request that found its session alive before may still store a change a moment later. To be
   * sure, call it again after Config.timeout.
   */
  async deleteUser(user: string | Uint8Array): Promise<number> {
    const ended = await this.revokeUser(user);
    await emptyUserData(this.store, this.#userKey.owner(userBytes(user)), this.config.maxSize);
    return ended;
  }

  // What Session uses

  /** @internal Returns what the store needs to sign somebody in. */
  prepare(login: Login, requestBegan: number): Omit<SignIn, 'from' | 'fields'> {
    const { bytes, methods, level, idle, lifetime, began, ago } = checkLogin(login, this.config, requestBegan);
    const owner = this.#userKey.owner(bytes);
    const id = random16();
    const clear = infoText({
      userBytes: bytes, methods, device: cut(login.device ?? '', 128),
      userAgent: cut(login.userAgent ?? '', 512), address: cut(login.address ?? '', 64),
    });
    const persistent = (login.remember ?? 0) > 0 || this.config.cookie.persistent;
    const info = this.config.seal ? this.seals.seal(id, '@i', clear) : clear;
    return {
      token: randomToken(bucketOf(owner)), id, principal: { owner, level, persistent, info }, idle, lifetime,
      began, ago, max: this.config.maxPerUser, refuse: this.config.refuseExtra,
    };
  }

  /**
   * @internal Returns who is signed in. It throws if a value cannot be opened, or if userKey has
   * changed.
   */
  recognize(id: SessionId, record: StoredRecord): Info | undefined {
    for (const [name, value] of record.fields) this.seals.check(name, value);
    if (!record.principal) return undefined;
    const info = this.openInfo(id, record)!;
    if (this.#userKey.owner(info.userBytes) !== record.principal.owner) {
      throw new SessionError(
        'invalid', 'Config.userKey is not the one with which the user of this session signed in: put that one back',
      );
    }
    return info;
  }

  /** @internal */
  openInfo(id: SessionId, record: StoredRecord): Info | undefined {
    if (!record.principal) return undefined;
    return parseInfo(`session ${handleOf(id)}`, this.seals.open(record.id, '@i', record.principal.info));
  }

  /** @internal */
  infoOf(id: SessionId, record: StoredRecord, info: Info | undefined): SessionInfo {
    const principal: Principal | undefined = record.principal;
    return {
      handle: handleOf(id),
      user: info?.user,
      methods: info?.methods ?? [],
      level: principal?.level ?? 0,
      device: info?.device ?? '',
      userAgent: info?.userAgent ?? '',
      address: info?.address ?? '',
      created: new Date(record.created),
      authenticated: principal ? new Date(principal.authenticated) : undefined,
      lastUse: new Date(record.lastUse),
      deadline: new Date(record.deadline),
    };
  }

  /** @internal */
  cookieFor(record: StoredRecord, now: number): { signedIn: boolean; maxAge: number } {
    const persistent = record.principal ? record.principal.persistent : this.config.cookie.persistent;
    return { signedIn: record.principal !== undefined, maxAge: persistent ? record.deadline - now : 0 };
  }

  /** @internal Waits until no other update with this key runs in this process. */
  async updateTurn(key: string | undefined): Promise<{ release: () => void; waited: boolean }> {
    if (key === undefined) return { release: () => undefined, waited: false };
    const before = this.#updates.get(key);
    let done!: () => void;
    const mine = new Promise<void>((resolve) => (done = resolve));
    const tail = before ? before.then(() => mine) : mine;
    this.#updates.set(key, tail);
    const release = () => {
      done();
      if (this.#updates.get(key) === tail) this.#updates.delete(key);
    };
    await before;
    return { release, waited: before !== undefined };
  }
}
