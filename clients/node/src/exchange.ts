import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { anonymousSuffix } from './credentials.js';
import { SessionError } from './errors.js';
import type { Session } from './session.js';
import type { Sessions } from './sessions.js';
import type { Channel, CookieAction } from './state.js';

/**
 * Answers a failed request in your own words. `status` and `error.publicMessage` are the default.
 */
export type ErrorHandler = (
  error: SessionError | Error, request: IncomingMessage, response: ServerResponse, status: number,
) => void;

// A request and its response have their exchange as a property.
const exchangeKey = Symbol('coatcheck.exchange');
type Carrier = { [exchangeKey]?: Exchange };
const exchangeOf = (message: IncomingMessage | ServerResponse) => (message as Carrier)[exchangeKey];

/** Headers that belong to a body, or to a success, and not to the error that replaces it. */
export const bodyHeaders = [
  'accept-ranges', 'cache-control', 'cdn-cache-control', 'clear-site-data', 'content-disposition', 'content-encoding',
  'content-language', 'content-length', 'content-location', 'content-range', 'content-type', 'etag', 'expires',
  'last-modified', 'location', 'refresh', 'set-cookie', 'surrogate-control', 'trailer',
];

/** Returns the session of a request. It reads the session when it is first called. */
export async function sessionOf(request: IncomingMessage): Promise<Session> {
  const exchange = exchangeOf(request);
  if (!exchange) throw new SessionError('no session', 'the request did not pass through the middleware');
  return exchange.session.read();
}

/** Returns whether an error is one that the client may be told, and its status. */
export function statusOf(error: unknown): number {
  const status = (error as { status?: unknown; statusCode?: unknown } | undefined)?.status
    ?? (error as { statusCode?: unknown } | undefined)?.statusCode;
  return typeof status === 'number' && status >= 400 && status < 600 ? status : 500;
}

/** Returns the headers that go with the status of an error. */
export function errorHeaders(error: Error): [name: string, value: string][] {
  const status = statusOf(error);
  if (status === 401) return [['WWW-Authenticate', 'Bearer realm="session"']];
  // Whoever does not know whether a change was stored must not repeat it.
  const repeatable = !(error instanceof SessionError && error.code === 'unknown outcome');
  return status === 503 && repeatable ? [['Retry-After', '1']] : [];
}

type AnyFunction = (...args: never[]) => unknown;

/**
 * One request and its response. What the handler writes waits until the changes are committed. If
 * the commit fails, the client gets an error instead.
 */
export class Exchange implements Channel {
  #session: Session | undefined;
  #begun = false; // the handler has begun the response
  #open = false; // the header may leave
  #swallow = false; // what the handler writes is dropped, until an error is the response
  #failed = false; // the response is an error
  #ended = false; // the handler has ended the response
  #finished = false;
  #queue: (() => unknown)[] = [];
  readonly #original: Pick<ServerResponse, Method>;

  private constructor(
    private readonly sessions: Sessions,
    private readonly request: IncomingMessage,
    private readonly response: ServerResponse,
    private readonly onError: ErrorHandler | undefined,
  ) {
    const { writeHead, write, end, flushHeaders, setHeader, appendHeader, removeHeader } = response;
    this.#original = { writeHead, write, end, flushHeaders, setHeader, appendHeader, removeHeader };
    (request as Carrier)[exchangeKey] = this;
    (response as Carrier)[exchangeKey] = this;
    intercept(response);
  }

  /**
   * Begins a request. It throws, or its promise is rejected, if the request is refused. Without a
   * promise there is nothing to wait for.
   */
  static begin(
    sessions: Sessions, request: IncomingMessage, response: ServerResponse, onError: ErrorHandler | undefined,
  ): Promise<void> | undefined {
    if (exchangeOf(request)) return undefined; // the middleware is nested: one session, one cookie
    return new Exchange(sessions, request, response, onError).#check();
  }

  static answer(sessions: Sessions, request: IncomingMessage, response: ServerResponse, error: unknown): void {
    const exchange = exchangeOf(request);
    if (exchange) exchange.fail(error);
    else respond(sessions, request, response, error, undefined);
  }

  /** The session. Most requests for files use none. */
  get session(): Session {
    const { request, sessions } = this;
    this.#session ??= sessions.open(
      request.headers.cookie, sessions.config.bearer ? (request.headersDistinct.authorization ?? []) : [], this,
    );
    return this.#session;
  }

  /** Drops the changes of a request whose handler failed. The framework answers. */
  static discard(request: IncomingMessage): void {
    exchangeOf(request)?.discard();
  }

  discard(): void {
    this.#session?.discard();
  }

  // Cross-site requests

  #check(): Promise<void> | undefined {
    const { request, sessions } = this;
    if (!request.headers.cookie?.includes(sessions.config.cookie.name)) return undefined;
    // A browser sends no token in Authorization by itself.
    if (sessions.config.bearer && this.session.isBearer) return undefined;
    const refused = this.crossOrigin();
    if (refused) throw refused;
    return sessions.config.csrf && !isSafe(request.method) ? this.#checkCsrf() : undefined;
  }

  async #checkCsrf(): Promise<void> {
    const { request, session } = this;
    await session.read();
    if (!session.opensSession) return;
    const body = (request as { body?: unknown }).body;
    const field = typeof body === 'object' && body !== null ? (body as Record<string, unknown>)['csrf_token'] : undefined;
    session.checkCsrf(request.headers['x-csrf-token'] ?? field);
  }

  /** Returns an error if another site has caused the request. */
  crossOrigin(): SessionError | undefined {
    const { headers, method } = this.request;
    const websocket = headers.upgrade?.toLowerCase() === 'websocket';
    if (isHarmless(method) && !websocket) return undefined;
    const { origin, host } = headers;
    const site = headers['sec-fetch-site'] as string | undefined;
    // Node joins the lines of a header. A proxy may have added one.
    if (origin?.includes(',') || site?.includes(',')) {
      return new SessionError('cross-origin', 'Origin or Sec-Fetch-Site has several values');
    }
    if (site === 'same-origin' || site === 'none') return undefined;
    if (origin && this.sessions.config.trustedOrigins.includes(origin)) return undefined;
    if (site) return new SessionError('cross-origin', `Sec-Fetch-Site is ${site}`);
    if (!origin) return undefined; // no browser that matters
    if (host && /^[a-z][a-z0-9+.-]*:\/\/(.*)$/i.exec(origin)?.[1] === host) return undefined;
    return new SessionError('cross-origin', 'Origin is another than Host');
  }

  /** Whether the response header has left. */
  get headerSent(): boolean {
    return this.#open;
  }

  // The response

  /** Whether the handler has begun the response. */
  get begun(): boolean {
    return this.#begun;
  }

  /** Whether the handler has ended the response. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Makes a call of the handler that begins or continues the response, now or after the commit. */
  write(name: 'writeHead' | 'write' | 'end' | 'flushHeaders', args: unknown[]): unknown {
    const { response } = this;
    const result = name === 'write' ? false : name === 'flushHeaders' ? undefined : response;
    if (this.#swallow || (this.#failed && native(response, 'writableEnded'))) {
      const callback = args.find((arg) => typeof arg === 'function') as (() => void) | undefined;
      if (callback && name !== 'writeHead') process.nextTick(callback);
      return result;
    }
    const call = () => (this.#original[name] as AnyFunction).apply(response, args as never[]);
    if (this.#open) return call();
    if (name === 'writeHead') {
      // Errors such as a header that is not valid belong to the handler.
      setHead(response, args);
      const status = args[0] as number;
      if (status >= 100 && status < 200 && status !== 101) return response;
      this.#begin();
      return result;
    }
    if (name === 'end') this.#ended = true;
    if (!this.#begun && this.#mayLeave()) {
      this.#begun = true;
      this.#writeHeader();
      this.#open = true;
      return call();
    }
    this.#queue.push(call);
    this.#begin();
    return result;
  }

  /** Makes a call of the handler that changes the headers. */
  changeHeader(name: 'setHeader' | 'appendHeader' | 'removeHeader', args: never[]): unknown {
    if (this.#swallow) return this.response;
    if (this.#begun && !this.#open) {
      throw Object.assign(new Error('Cannot set headers after they are sent to the client'), { code: 'ERR_HTTP_HEADERS_SENT' });
    }
    return (this.#original[name] as AnyFunction).apply(this.response, args);
  }

  /** Reports whether the response can begin at once: there is nothing to commit. */
  #mayLeave(): boolean {
    // The default error handlers of frameworks respond with 500 and do not tell the middleware.
    if (this.response.statusCode >= 500) this.#session?.discard();
    return !this.#session?.used || this.#session.isSettled;
  }

  #begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    const { response } = this;
    if (this.#mayLeave()) {
      this.#release();
      return;
    }
    const { session } = this;
    const known = session.wasReported; // the handler does not know what this commit does wrong
    session.commitBeforeHeader(true).then(
      () => this.#release(),
      (error: unknown) => {
        // A handler that knows of the error may answer itself.
        if (known && response.statusCode >= 400) this.#release();
        else this.fail(error);
      },
    ).catch((error: unknown) => this.#giveUp(error));
  }

  /** Closes the connection, because no response could be made. */
  #giveUp(error: unknown): void {
    this.sessions.config.logger('session: the response could not be sent', error);
    this.response.destroy();
  }

  /** Lets the response leave. */
  #release(): void {
    const { response } = this;
    const setsCookie = this.#writeHeader();
    this.#open = true;
    const calls = this.#queue.splice(0);
    let full = false;
    for (const call of calls) full = call() === false;
    // After writeHead alone, a cookie must not wait for the rest of a slow response.
    if (calls.length === 0 && setsCookie) response.flushHeaders();
    // Writes were told to wait.
    if (calls.length > 0 && !full && !this.#ended) response.emit('drain');
    if (response.destroyed) this.finish();
  }

  /** Writes the headers of the session, and returns whether they have a cookie. */
  #writeHeader(): boolean {
    const { sessions, response } = this;
    const session = this.#session;
    if (!session?.used) return false;
    const set = (name: string, value: string | string[]) => void this.#original.setHeader.call(response, name, value);
    set('Vary', varied([response.getHeader('vary') ?? []].flat().join(', '), sessions.config.bearer));
    const cookies = setCookies(sessions, session);
    if (cookies.length > 0) {
      const before = [response.getHeader('set-cookie') ?? []].flat().map(String);
      set('Set-Cookie', [...before, ...cookies]);
    }
    if (cookies.length > 0 || session.isHandedOut) {
      set('Cache-Control', 'no-store'); // a shared cache must not keep the token
      for (const name of ['cdn-cache-control', 'surrogate-control']) this.#original.removeHeader.call(response, name);
    } else if (!response.hasHeader('cache-control')) {
      set('Cache-Control', 'private, no-cache');
    }
    return cookies.length > 0;
  }

  /** Answers with an error instead of what the handler writes. */
  fail(error: unknown): void {
    if (this.#failed) return;
    const { response } = this;
    const session = this.#session;
    if (this.#open) {
      this.sessions.config.logger('session: a request failed after its header had left', error);
      response.destroy();
      return;
    }
    this.#begun = true;
    this.#queue = [];
    const failure = toError(error);
    session?.discard();
    const answer = () => {
      this.#swallow = false;
      this.#ended = false;
      for (const name of bodyHeaders) this.#original.removeHeader.call(response, name);
      this.#writeHeader();
      this.#open = true;
      try {
        respond(this.sessions, this.request, response, failure, this.onError);
      } catch (thrown) {
        this.#giveUp(thrown);
      }
    };
    this.#failed = true;
    this.#swallow = true;
    // What was committed stays. So the response still carries the cookie of a sign-in.
    if (session?.needsCookie && !isUnavailable(failure)) {
      session.commitBeforeHeader(false).catch(() => undefined).then(answer).catch((thrown: unknown) => this.#giveUp(thrown));
    } else {
      answer();
    }
  }

  /** Ends the request, when the response has left or the client has gone. */
  finish(): void {
    const session = this.#session;
    if (!this.#open || this.#finished) return;
    this.#finished = true;
    if (!session?.used || (session.isSettled && !session.touchIsDue)) return;
    void this.#afterResponse(session);
  }

  async #afterResponse(session: Session): Promise<void> {
    if (session.hasChanges) {
      // Made after the header had left.
      await session.commitAfterHeader().catch((error: unknown) =>
        this.sessions.config.logger('session: changes made after the response header were lost', error),
      );
    }
    await session.touch();
  }
}

type Method = 'writeHead' | 'write' | 'end' | 'flushHeaders' | 'setHeader' | 'appendHeader' | 'removeHeader';
type Intercepted = ServerResponse & { [exchangeKey]: Exchange };

// All responses share these functions: objects that differ in nothing but their values are fast.

function writeHead(this: Intercepted, ...args: unknown[]): unknown {
  return this[exchangeKey].write('writeHead', args);
}

function write(this: Intercepted, ...args: unknown[]): unknown {
  return this[exchangeKey].write('write', args);
}

function end(this: Intercepted, ...args: unknown[]): unknown {
  return this[exchangeKey].write('end', args);
}

function flushHeaders(this: Intercepted): unknown {
  return this[exchangeKey].write('flushHeaders', []);
}

function setHeader(this: Intercepted, ...args: never[]): unknown {
  return this[exchangeKey].changeHeader('setHeader', args);
}

function appendHeader(this: Intercepted, ...args: never[]): unknown {
  return this[exchangeKey].changeHeader('appendHeader', args);
}

function removeHeader(this: Intercepted, ...args: never[]): unknown {
  return this[exchangeKey].changeHeader('removeHeader', args);
}

function finished(this: Intercepted): void {
  this[exchangeKey].finish();
}

const headersSent = {
  configurable: true,
  get(this: Intercepted): unknown {
    return this[exchangeKey].begun || native(this, 'headersSent');
  },
};

const writableEnded = {
  configurable: true,
  get(this: Intercepted): unknown {
    return this[exchangeKey].ended || native(this, 'writableEnded');
  },
};

/** Makes a response ask its exchange. */
function intercept(response: ServerResponse): void {
  Object.assign(response, { writeHead, write, end, flushHeaders, setHeader, appendHeader, removeHeader });
  Object.defineProperty(response, 'headersSent', headersSent);
  Object.defineProperty(response, 'writableEnded', writableEnded);
  response.on('finish', finished as () => void);
  response.on('close', finished as () => void);
}

/** Returns what Node says of a response. */
function native(response: ServerResponse, name: 'headersSent' | 'writableEnded'): boolean {
  return Reflect.get(Object.getPrototypeOf(response) as object, name, response) as boolean;
}

function toError(thrown: unknown): Error {
  if (thrown instanceof Error) return thrown;
  return new Error('the handler threw a value that is no error', { cause: thrown });
}

function isUnavailable(error: unknown): boolean {
  return error instanceof SessionError && error.status === 503;
}

/** Whether another site may cause a request. No browser sends TRACE. */
function isHarmless(method: string | undefined): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS';
}

/** Whether a request needs no CSRF token. */
function isSafe(method: string | undefined): boolean {
  return isHarmless(method) || method === 'TRACE';
}

/** Sets the status and the headers of a call of writeHead. */
function setHead(response: ServerResponse, args: unknown[]): void {
  const [status, second, third] = args;
  response.statusCode = status as number;
  if (typeof second === 'string') response.statusMessage = second;
  const headers = (typeof second === 'string' ? third : second) as OutgoingHttpHeaders | unknown[] | undefined;
  if (Array.isArray(headers)) {
    const flat = headers.flat() as string[];
    for (let i = 0; i + 1 < flat.length; i += 2) response.appendHeader(flat[i]!, flat[i + 1]!);
  } else {
    for (const [name, value] of Object.entries(headers ?? {})) if (value !== undefined) response.setHeader(name, value);
  }
}

/** Returns a Vary header, and what a response with a session depends on. */
function varied(header: string, bearer: boolean): string {
  if (header === '') return bearer ? 'Cookie, Authorization' : 'Cookie';
  const names = header.split(',').map((name) => name.trim().toLowerCase());
  if (names.includes('*')) return header;
  const missing = ['Cookie', ...(bearer ? ['Authorization'] : [])].filter((name) => !names.includes(name.toLowerCase()));
  return [header, ...missing].join(', ');
}

/** Returns the Set-Cookie headers of a response. */
export function setCookies(sessions: Sessions, session: Session): string[] {
  const { set, deleteSignedIn, deleteAnonymous, everywhere } = session.takeCookies();
  const { name } = sessions.config.cookie;
  const cookies: string[] = [];
  if (set) cookies.push(cookieText(sessions, set));
  if (deleteSignedIn || everywhere) cookies.push(deletion(sessions, name));
  if (deleteAnonymous || everywhere) cookies.push(deletion(sessions, name + anonymousSuffix));
  return cookies;
}

function attributes(sessions: Sessions): string {
  const { path, domain, insecure, sameSite, partitioned } = sessions.config.cookie;
  return `; Path=${path}${domain ? `; Domain=${domain}` : ''}; HttpOnly${insecure ? '' : '; Secure'}; SameSite=${sameSite}${
    partitioned ? '; Partitioned' : ''
  }`;
}

function cookieText(sessions: Sessions, { token, signedIn, maxAge }: CookieAction): string {
  const { name } = sessions.config.cookie;
  const age = maxAge > 0 ? `; Max-Age=${Math.floor(maxAge / 1000)}` : '';
  return `${name}${signedIn ? '' : anonymousSuffix}=${sessions.tokenKeys.text(token)}${age}${attributes(sessions)}`;
}

function deletion(sessions: Sessions, name: string): string {
  return `${name}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:01 GMT${attributes(sessions)}`;
}

function respond(
  sessions: Sessions, request: IncomingMessage, response: ServerResponse, error: unknown, onError: ErrorHandler | undefined,
): void {
  const failure = toError(error);
  const status = statusOf(failure);
  if (status >= 500) sessions.config.logger('session: a request failed', failure);
  if (response.headersSent && response.socket === null) return;
  for (const [name, value] of errorHeaders(failure)) response.setHeader(name, value);
  if (onError) {
    onError(failure, request, response, status);
    return;
  }
  const text = failure instanceof SessionError ? failure.publicMessage : 'Something went wrong. The error has been logged.';
  response.statusCode = status;
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.end(`${text}\n`);
}
