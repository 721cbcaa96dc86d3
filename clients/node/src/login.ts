import { SessionError } from './errors.js';
import type { FullConfig } from './config.js';

/** What an application knows when it signs somebody in. Only `user` is needed. */
export interface Login {
  /** The application's id of the user: 1 to 256 bytes. */
  readonly user: string | Uint8Array;
  /** How the user proved it, as in RFC 8176: "pwd", "otp". At most 16 of 32 bytes. */
  readonly methods?: readonly string[];
  /** The assurance level reached, as the application counts: 0 to 99. */
  readonly level?: number;
  /** A label for people: "Firefox on Linux". The first 128 bytes are kept. */
  readonly device?: string;
  /** The browser's own description. The first 512 bytes are kept. */
  readonly userAgent?: string;
  /** The client's address, as the application trusts it. The first 64 bytes are kept. */
  readonly address?: string;
  /** The lifetime of this session and of its cookie, and its idle timeout, in milliseconds. */
  readonly remember?: number;
  /** A shorter lifetime for this session, in milliseconds. */
  readonly lifetime?: number;
  /** When the authentication began. Default: the beginning of the request. */
  readonly began?: Date;
  /** When the user authenticated, if that was before: `auth_time` of an identity provider. */
  readonly authenticated?: Date;
}

/** What is known of a session. */
export interface SessionInfo {
  readonly handle: string;
  /** Undefined if nobody is signed in. */
  readonly user: string | undefined;
  readonly methods: readonly string[];
  readonly level: number;
  readonly device: string;
  readonly userAgent: string;
  readonly address: string;
  readonly created: Date;
  /** When the user authenticated. Undefined if nobody is signed in. */
  readonly authenticated: Date | undefined;
  /** Accurate to the touch interval: a twentieth of the idle timeout, at most a minute. */
  readonly lastUse: Date;
  /** When the session ends, even if it is used. */
  readonly deadline: Date;
}

const day = 86_400_000;

function invalid(text: string): SessionError {
  return new SessionError('invalid', `the login: ${text}`);
}

/** Returns the bytes of a user id. */
export function userBytes(user: string | Uint8Array): Buffer {
  if (typeof user === 'string' && !user.isWellFormed()) throw new SessionError('invalid', 'the user has a lone surrogate');
  const bytes = Buffer.from(user as string);
  if (bytes.length < 1 || bytes.length > 256) {
    throw new SessionError('invalid', `the user has ${bytes.length} bytes: it needs 1 to 256`);
  }
  return bytes;
}

/** Returns whole characters of at most so many bytes. */
export function cut(text: string, most: number): string {
  let bytes = Buffer.from(text.toWellFormed());
  if (bytes.length <= most) return bytes.toString();
  let end = most;
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--;
  bytes = bytes.subarray(0, end);
  return bytes.toString();
}

/** Checks a login. `began` is the beginning of the request, by performance.now(). */
export function checkLogin(login: Login, config: FullConfig, requestBegan: number): {
  bytes: Buffer; methods: readonly string[]; level: number; idle: number; lifetime: number; began: number; ago: number;
} {
  const { methods = [], level = 0, remember = 0, lifetime = 0 } = login;
  const bytes = userBytes(login.user);
  if (methods.length > 16 || methods.some((method) => !method.isWellFormed() || Buffer.byteLength(method) > 32)) {
    throw invalid('methods are at most 16 of 32 bytes');
  }
  if (!Number.isInteger(level) || level < 0 || level > 99) throw invalid(`level ${level} is not 0 to 99`);
  if (!Number.isInteger(remember) || remember < 0 || remember > config.maxRemember) {
    throw invalid(`remember is ${remember} ms: at most Config.maxRemember, ${config.maxRemember} ms, is allowed`);
  }
  if (!Number.isInteger(lifetime) || lifetime < 0 || lifetime > config.lifetime) {
    throw invalid(`lifetime is ${lifetime} ms: at most Config.lifetime, ${config.lifetime} ms, is allowed`);
  }
  if (lifetime !== 0 && remember !== 0) throw invalid('it has both lifetime and remember');
  let began = requestBegan;
  if (login.began) {
    const elapsed = Date.now() - login.began.getTime();
    if (!(elapsed <= day)) throw invalid('began is more than 24 h ago');
    began = performance.now() - Math.max(0, elapsed);
  }
  let ago = 0;
  if (login.authenticated) {
    ago = Date.now() - login.authenticated.getTime();
    if (!(ago <= 3650 * day && ago >= -60_000)) throw invalid('authenticated is more than 10 years ago, or in the future');
    ago = Math.max(0, Math.floor(ago));
  }
  const limits = remember !== 0
    ? { idle: remember, lifetime: remember }
    : lifetime !== 0
      ? { idle: Math.min(config.idleTimeout, lifetime), lifetime }
      : { idle: config.idleTimeout, lifetime: config.lifetime };
  return { bytes, methods, level, ...limits, began, ago };
}
