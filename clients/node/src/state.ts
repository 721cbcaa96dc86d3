import type { Credentials } from './credentials.js';
import { SessionError } from './errors.js';
import { FieldState } from './fieldstate.js';
import type { Opened } from './opening.js';
import { rememberedFor, type Info, type StoredRecord } from './record.js';
import { rotationDue, touchDue } from './reading.js';
import type { Sessions } from './sessions.js';
import { localDeadline, type Operation } from './store.js';
import { withGeneration, type Token } from './token.js';

export const rotationGrace = 30_000;

/** What the response does with the cookie. */
export interface CookieAction {
  readonly token: Token;
  readonly signedIn: boolean;
  /** In milliseconds; 0: the cookie goes when the browser closes. */
  readonly maxAge: number;
}

/** What a session needs of its response. */
export interface Channel {
  /** Whether the response header has left. */
  readonly headerSent: boolean;
  /** Returns an error if another site has caused the request, or undefined. */
  crossOrigin(): SessionError | undefined;
}

/** A new token, and the operation that stores it. */
export interface Renewal {
  readonly operation: Operation;
  readonly token: Token;
}

/**
 * All that one request knows of its session. Nothing here waits: Session and commit.ts talk to the
 * store.
 */
export class SessionState extends FieldState {
  token: Token | undefined;
  found = false; // the token may name a session
  info: Info | undefined;

  cookie: CookieAction | undefined;
  rotatedTo: Token | undefined;
  confirmed = 0; // when the token was last known to be the newest, by performance.now()
  issued = false; // the request created, renewed or signed in the session
  handedOut = false; // the application gives the token to the client: no cookie is set
  deleteCookies = false;
  credentials: Credentials | undefined;

  used = false; // the response depends on the session

  constructor(
    sessions: Sessions,
    readonly channel: Channel,
  ) {
    super(sessions);
  }

  /** When the session ends at the latest, by performance.now(). */
  get latestEnd(): number {
    const { lifetime, maxRemember } = this.sessions.config;
    return this.record ? localDeadline(this.record, this.readTime) : performance.now() + Math.max(lifetime, maxRemember);
  }

  /** Whether the browser sends the token by itself, with any request. */
  get cameInCookie(): boolean {
    const { credentials } = this;
    return credentials !== undefined && !credentials.inHeader && (credentials.hasCookie || credentials.hasAnonymous);
  }

  /**
   * Throws if the response cannot bring a new token to the client. `mayHandOut`: that of a bearer
   * may be handed out later.
   */
  mustBringToken(mayHandOut = false): void {
    const isBearer = this.credentials?.inHeader ?? false;
    let refused: SessionError | undefined;
    if (this.channel.headerSent) {
      refused = new SessionError('header sent', 'the response cannot carry a new cookie any more');
    } else if (isBearer && !mayHandOut && !this.handedOut) {
      const why = 'the token in Authorization opens no session, and a new one cannot go back in a cookie: use bearerToken';
      refused = new SessionError('not signed in', why);
    } else if (!isBearer && !this.handedOut) {
      // A request that another site caused came without the cookie. A new one would replace it.
      refused = this.channel.crossOrigin();
    }
    if (refused) throw this.fail(refused);
  }

  // What becomes of the session

  /** Notes what the tokens of the request have opened. */
  opened({ state, token, found, read, info, error }: Opened): void {
    if (read) this.become(token!, read.record!, read.now, info);
    this.status = state;
    this.token = token;
    this.found = found;
    if (error) this.failure = this.readError = error;
  }

  /** Notes that this is the session now, as it is stored. */
  become(
    token: Token, record: StoredRecord, now: number,
    info = record.principal && this.sessions.openInfo(token.id, record),
  ): void {
    this.token = token;
    this.found = true;
    this.hold(record, now);
    this.info = info;
  }

  /** Gives the session's token to the client. */
  issue(record: StoredRecord, now: number): void {
    if (!this.handedOut && !this.credentials?.inHeader) {
      this.cookie = { token: this.token!, ...this.sessions.cookieFor(record, now) };
    }
    this.rotatedTo = undefined;
    this.issued = true;
    this.confirmed = performance.now();
  }

  /** Notes that the application gives the token to the client. */
  handOut(): void {
    this.handedOut = true;
    this.cookie = undefined;
    if (this.issued) this.deleteCookies = true; // beside the new token, an old one would be ambiguous
  }

  /** Notes that the session has a new token. */
  renewed(renewal: Renewal, generation: number, now: number): void {
    const token = withGeneration(renewal.token, generation);
    const before = this.record!;
    const rotated = renewal.operation[0] === 'rotate';
    const time = rotated ? rotationGrace : now + rememberedFor;
    this.record = {
      ...before, verifier: token.verifierHash, unused: true, generation, issued: now,
      previous: { accepted: rotated, verifier: before.verifier, time },
    };
    if (rotated) {
      this.cookie = { token, ...this.sessions.cookieFor(this.record, this.serverNow) };
      this.rotatedTo = token; // the request goes on with its own token
    } else {
      this.token = token;
      this.issue(this.record, this.serverNow);
    }
  }

  /** Notes that the session is over. What the request changed stays visible to it. */
  leave(status: 'ended' | 'moved'): void {
    this.values.freeze();
    this.status = status;
    this.record = undefined;
    this.info = undefined;
    this.cookie = undefined;
  }

  override noteEnded(): void {
    this.leave('ended');
  }

  /** Notes that the visitor has signed out. Unless that failed, a new session may begin. */
  signedOut(failed: boolean): void {
    this.cookie = undefined;
    this.rotatedTo = undefined;
    this.deleteCookies = true;
    this.failure = undefined;
    this.record = undefined;
    this.info = undefined;
    this.id = undefined;
    this.values.become();
    this.values.discard();
    this.status = failed ? 'ended' : 'anonymous';
    if (failed) return;
    this.found = false;
    if (this.credentials) this.credentials.inHeader = false;
  }

  // What the response does

  /** Whether a commit, or the response, must replace the token because of its age. */
  get rotationIsDue(): boolean {
    const every = this.sessions.config.rotateEvery;
    if (every === 0 || this.status !== 'live' || this.cookie || !this.cameInCookie) return false;
    if (this.channel.headerSent || this.channel.crossOrigin()) return false;
    return rotationDue(this.record!, this.token!.verifierHash, this.serverNow, every);
  }

  /** Whether the use of the session must be recorded after the response. */
  get touchIsDue(): boolean {
    if (this.status !== 'live' || !this.record || this.issued || !this.used) return false;
    return touchDue(this.record, this.token!.verifierHash, this.serverNow);
  }

  /** Returns the cookie that the response sets, and which cookies it deletes; once. */
  takeCookies(): { set: CookieAction | undefined; deleteSignedIn: boolean; deleteAnonymous: boolean; everywhere: boolean } {
    const set = this.cookie;
    const credentials = this.credentials ?? { hasCookie: false, hasAnonymous: false, inHeader: false };
    const { hasCookie, hasAnonymous } = credentials;
    const result = {
      set,
      deleteSignedIn: this.deleteCookies && hasCookie && !set?.signedIn,
      deleteAnonymous: hasAnonymous && (set ? set.signedIn : this.deleteCookies),
      everywhere: this.readError?.code === 'ambiguous' && !credentials.inHeader,
    };
    if (set?.signedIn) credentials.hasCookie = true;
    else if (set) credentials.hasAnonymous = true;
    this.cookie = undefined;
    this.deleteCookies = false;
    return result;
  }
}
