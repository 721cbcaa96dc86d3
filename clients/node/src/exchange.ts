import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { anonymousSuffix } from './credentials.js';
import { SessionError } from './errors.js';
import type { CookieAction, Session } from './session.js';
import type { Sessions } from './sessions.js';

/** Answers a failed request in your own words. `status` and `error.publicMessage` are the default. */
export type ErrorHandler = (
  error: SessionError | Error, request: IncomingMessage, response: ServerResponse, status: number,
) => void;

const exchanges = new WeakMap<IncomingMessage, Exchange>();

/** Headers that belong to a body, or to a success, and not to the error that replaces it. */
export const bodyHeaders = [
  'accept-ranges', 'cache-control', 'cdn-cache-control', 'clear-site-data', 'content-disposition', 'content-encoding',
  'content-language', 'content-length', 'content-location', 'content-range', 'content-type', 'etag', 'expires',
  'last-modified', 'location', 'refresh', 'set-cookie', 'surrogate-control', 'trailer',
];

/** Returns the session of a request. It reads the session when it is first called. */
export async function sessionOf(request: IncomingMessage): Promise<Session> {
  const exchange = exchanges.get(request);
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
export class Exchange {
  readonly session: Session;
  #begun = false; // the handler has begun the response
  #open = false; // the header may leave
  #swallow = false; // what the handler writes is dropped, until an error is the response
  #failed = false; // the response is an error
  #ended = false; // the handler has ended the response
  #finished = false;
  #queue: (() => unknown)[] = [];

  private constructor(
    private readonly sessions: Sessions,
    private readonly request: IncomingMessage,
    private readonly response: ServerResponse,
    private readonly onError: ErrorHandler | undefined,
  ) {
    this.session = sessions.open(request.headers.cookie, { refuseCookie: () => this.#refuseCookie() });
    this.#intercept();
  }

  static async begin(
    sessions: Sessions, request: IncomingMessage, response: ServerResponse, onError: ErrorHandler | undefined,
  ): Promise<void> {
    if (exchanges.has(request)) return; // the middleware is nested: one session, one cookie
    const exchange = new Exchange(sessions, request, response, onError);
    exchanges.set(request, exchange);
    await exchange.#check();
  }

  static answer(sessions: Sessions, request: IncomingMessage, response: ServerResponse, error: unknown): void {
    const exchange = exchanges.get(request);
    if (exchange) exchange.fail(error);
    else respond(sessions, request, response, error, undefined);
  }

  /** Drops the changes of a request whose handler failed. The framework answers. */
  static discard(request: IncomingMessage): void {
    exchanges.get(request)?.session.discard();
  }

  // Cross-site requests

  async #check(): Promise<void> {
    const { request, session, sessions } = this;
    const names = sessions.config.cookie.name;
    if (!request.headers.cookie?.includes(names)) return;
    const unsafe = !isSafe(request.method) || request.headers.upgrade?.toLowerCase() === 'websocket';
    if (!unsafe) return;
    const refused = this.#crossOrigin();
    if (refused) throw refused;
    if (!sessions.config.csrf || isSafe(request.method)) return;
    await session.read();
    if (!session.opensSession) return;
    const body = (request as { body?: unknown }).body;
    const field = typeof body === 'object' && body !== null ? (body as Record<string, unknown>)['csrf_token'] : undefined;
    session.checkCsrf(request.headers['x-csrf-token'] ?? field);
  }

  /** Returns an error if another site has caused the request. */
  #crossOrigin(): SessionError | undefined {
    const { headers, method } = this.request;
    const websocket = headers.upgrade?.toLowerCase() === 'websocket';
    if (isSafe(method) && !websocket) return undefined;
    const { origin, host } = headers;
    if (origin !== undefined && this.sessions.config.trustedOrigins.includes(origin)) return undefined;
    const site = headers['sec-fetch-site'];
    if (site !== undefined) {
      if (site === 'same-origin' || site === 'none') return undefined;
      return new SessionError('cross-origin', `Sec-Fetch-Site is ${String(site)}`);
    }
    if (origin === undefined) return undefined; // no browser that matters
    if (URL.canParse(origin) && new URL(origin).host === host?.toLowerCase()) return undefined;
    return new SessionError('cross-origin', 'Origin is another than Host');
  }

  #refuseCookie(): SessionError | undefined {
    if (this.#open) {
      return new SessionError('header sent', 'the response cannot carry a new cookie any more');
    }
    // A request that another site caused came without the cookie. A new one would replace it.
    return this.#crossOrigin();
  }

  // The response

  #intercept(): void {
    const { response } = this;
    const original = {
      writeHead: response.writeHead.bind(response) as AnyFunction,
      write: response.write.bind(response) as AnyFunction,
      end: response.end.bind(response) as AnyFunction,
      flushHeaders: response.flushHeaders.bind(response) as AnyFunction,
      setHeader: response.setHeader.bind(response) as AnyFunction,
      appendHeader: response.appendHeader.bind(response) as AnyFunction,
      removeHeader: response.removeHeader.bind(response) as AnyFunction,
    };
    const define = (name: string, value: unknown) =>
      Object.defineProperty(response, name, { value, writable: true, configurable: true });
    const later = (name: 'writeHead' | 'write' | 'end' | 'flushHeaders', result: unknown) =>
      define(name, (...args: unknown[]) => {
        if (this.#swallow || (this.#failed && nativelyEnded(response))) {
          const callback = args.find((arg) => typeof arg === 'function') as (() => void) | undefined;
          if (callback && name !== 'writeHead') process.nextTick(callback);
          return result;
        }
        if (this.#open) return original[name](...(args as never[]));
        if (name === 'writeHead') {
          // Errors such as a header that is not valid belong to the handler.
          setHead(response, args);
          if ((args[0] as number) >= 100 && (args[0] as number) < 200 && args[0] !== 101) return response;
        } else {
          if (name === 'end') this.#ended = true;
          this.#queue.push(() => original[name](...(args as never[])));
        }
        this.#begin();
        return result;
      });
    later('writeHead', response);
    later('write', false);
    later('end', response);
    later('flushHeaders', undefined);
    for (const name of ['setHeader', 'appendHeader', 'removeHeader'] as const) {
      define(name, (...args: never[]) => {
        if (this.#begun && !this.#open && !this.#swallow) {
          throw Object.assign(new Error('Cannot set headers after they are sent to the client'), { code: 'ERR_HTTP_HEADERS_SENT' });
        }
        if (this.#swallow) return response;
        return original[name](...args);
      });
    }
    const state = (name: 'headersSent' | 'writableEnded', own: () => boolean) => {
      const prototype = findProperty(response, name);
      Object.defineProperty(response, name, {
        configurable: true,
        get: () => own() || (prototype?.get?.call(response) as boolean),
      });
    };
    state('headersSent', () => this.#begun);
    state('writableEnded', () => this.#ended);
    response.once('finish', () => void this.#finish());
    response.once('close', () => void this.#finish());
    this.#original = original;
  }

  #original!: Record<'setHeader' | 'removeHeader' | 'writeHead' | 'end', AnyFunction>;

  #begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    const { response, session } = this;
    // The default error handlers of frameworks respond with 500 and do not tell the middleware.
    if (response.statusCode >= 500) session.discard();
    if (!session.used) {
      this.#release();
      return;
    }
    session.commitBeforeHeader(true).then(
      () => this.#release(),
      (error: unknown) => {
        // A handler that knows of the error may answer itself.
        if (session.wasReported && response.statusCode >= 400) this.#release();
        else this.fail(error);
      },
    ).catch((error: unknown) => {
      this.sessions.config.logger('session: the response could not be sent', error);
      response.destroy();
    });
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
    if (calls.length > 0 && !full && !this.#ended) response.emit('drain'); // writes were told to wait
    if (response.destroyed) void this.#finish();
  }

  /** Writes the headers of the session, and returns whether they have a cookie. */
  #writeHeader(): boolean {
    const { session, sessions, response } = this;
    if (!session.used) return false;
    const set = (name: string, value: string | string[]) => void this.#original.setHeader(...([name, value] as never[]));
    const vary = [response.getHeader('vary') ?? []].flat().join(', ');
    if (!/(^|,)\s*(\*|cookie)\s*(,|$)/i.test(vary)) set('Vary', vary === '' ? 'Cookie' : `${vary}, Cookie`);
    const cookies = setCookies(sessions, session);
    if (cookies.length > 0) {
      const before = [response.getHeader('set-cookie') ?? []].flat().map(String);
      set('Set-Cookie', [...before, ...cookies]);
      set('Cache-Control', 'no-store'); // a shared cache must not keep the token
      for (const name of ['cdn-cache-control', 'surrogate-control']) this.#original.removeHeader(...([name] as never[]));
    } else if (!response.hasHeader('cache-control')) {
      set('Cache-Control', 'private, no-cache');
    }
    return cookies.length > 0;
  }

  /** Answers with an error instead of what the handler writes. */
  fail(error: unknown): void {
    if (this.#failed) return;
    const { response, session } = this;
    if (this.#open) {
      this.sessions.config.logger('session: a request failed after its header had left', error);
      response.destroy();
      return;
    }
    this.#begun = true;
    this.#queue = [];
    const failure = error instanceof Error ? error : new Error(String(error));
    session.discard();
    const answer = () => {
      this.#swallow = false;
      this.#ended = false;
      for (const name of bodyHeaders) this.#original.removeHeader(...([name] as never[]));
      this.#writeHeader();
      this.#open = true;
      respond(this.sessions, this.request, response, failure, this.onError);
    };
    this.#failed = true;
    this.#swallow = true;
    // What was committed stays. So the response still carries the cookie of a sign-in.
    if (session.needsCookie && !isUnavailable(failure)) {
      session.commitBeforeHeader(false).catch(() => undefined).finally(answer);
    } else {
      answer();
    }
  }

  /** Ends the request, when the response has left or the client has gone. */
  async #finish(): Promise<void> {
    const { session, sessions } = this;
    if (!this.#open || this.#finished) return;
    this.#finished = true;
    if (session.used && session.hasChanges) {
      // Made after the header had left.
      await session.commit().catch((error: unknown) =>
        sessions.config.logger('session: changes made after the response header were lost', error),
      );
    }
    await session.touch();
  }
}

function nativelyEnded(response: ServerResponse): boolean {
  return findProperty(Object.getPrototypeOf(response) as object, 'writableEnded')?.get?.call(response) === true;
}

function isUnavailable(error: unknown): boolean {
  return error instanceof SessionError && error.status === 503;
}

function isSafe(method: string | undefined): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS' || method === 'TRACE';
}

function findProperty(object: object, name: string): PropertyDescriptor | undefined {
  for (let o: object | null = object; o; o = Object.getPrototypeOf(o) as object | null) {
    const found = Object.getOwnPropertyDescriptor(o, name);
    if (found) return found;
  }
  return undefined;
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
  const failure = error instanceof Error ? error : new Error(String(error));
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
