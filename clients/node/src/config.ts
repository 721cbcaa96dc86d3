import { SessionError } from './errors.js';
import type { Field } from './fields.js';

/** Configures the sessions of an application. All durations are milliseconds. */
export interface Config {
  /**
   * The namespace of the keys in Redis. Services that share sessions share it. Default:
   * "coatcheck".
   */
  readonly namespace?: string;
  /** Ends a session that is not used for this long. Default: 2 h. */
  readonly idleTimeout?: number;
  /** Ends a new anonymous session whose token does not come back for this long. Default: 15 min. */
  readonly firstUseTimeout?: number;
  /** Ends a session this long after its creation, even if it is in use. Default: 24 h. */
  readonly lifetime?: number;
  /** Replaces a token once it is this old, at least a minute. Default: 0, never. */
  readonly rotateEvery?: number;
  /**
   * Limits the bytes of all names and values of a session, and those of the data of a user. Default:
   * 65,536.
   */
  readonly maxSize?: number;
  /** Limits how long a call of Redis may take. Default: 2 s. */
  readonly timeout?: number;
  /** The longest Login.remember that is accepted. Default: 0, none is. */
  readonly maxRemember?: number;
  /** Limits how many sessions a user has at the same time, at most 100. Default: 0, no limit. */
  readonly maxPerUser?: number;
  /** Refuses a sign-in over maxPerUser. Default: false, the user's oldest session ends. */
  readonly refuseExtra?: boolean;
  /** The fields that a sign-in keeps from an anonymous session. Others may have been planted. */
  readonly keepFields?: readonly string[];
  /**
   * The fields that belong to the user, not to the session, such as a cart. While nobody is signed
   * in, they are in the session. A sign-in moves them to the user's data, which `Session.userData`
   * returns: counts are added, and other values replace those of the user. Default: none.
   */
  readonly userFields?: readonly Field[];
  /**
   * Deletes the data of a user who does not use it for this long. Reading it counts as use, to
   * within an hour or a twentieth of the time, whichever is less. A new value applies to data that
   * is stored for the first time afterwards. Default: 90 days.
   */
  readonly userDataTimeout?: number;
  /** The cookie. Default: "__Host-session", Secure, HttpOnly and SameSite=Lax. */
  readonly cookie?: CookieConfig;
  /** Sign tokens: 32 random bytes each. The first key signs, each verifies. Default: none. */
  readonly keys?: readonly Uint8Array[];
  /** Accepts tokens without a signature until this time, while the first key is introduced. */
  readonly unsignedUntil?: Date;
  /** Keys the hashes that name users: 32 random bytes. Set it before the first sign-in. */
  readonly userKey?: Uint8Array;
  /** Encrypts values with the first of keys. It requires keys and userKey. Default: false. */
  readonly seal?: boolean;
  /** Other origins whose requests may change something, such as "https://admin.example.com". */
  readonly trustedOrigins?: readonly string[];
  /**
   * Requires a token of Session.csrfToken in each request with an unsafe method whose cookie opens
   * a session: in the header X-CSRF-Token, or in the field csrf_token of a body that was parsed
   * before this middleware. Default: false, only the origin is checked.
   */
  readonly csrf?: boolean;
  /**
   * Also accepts tokens of Session.bearerToken in the header Authorization, for clients of an API
   * without cookies. Default: false.
   */
  readonly bearer?: boolean;
  /** Gets errors that no request can report. It never gets a token. Default: console.error. */
  readonly logger?: (message: string, error: unknown) => void;
}

/** Configures the cookie. HttpOnly is always set. */
export interface CookieConfig {
  /** The name for signed-in sessions. Anonymous sessions have this name and "-anon". */
  readonly name?: string;
  readonly path?: string;
  readonly domain?: string;
  readonly sameSite?: 'Lax' | 'Strict' | 'None';
  readonly partitioned?: boolean;
  /** Keeps the cookie when the browser closes. A sign-in decides by Login.remember instead. */
  readonly persistent?: boolean;
  /** Leaves out Secure and "__Host-". Only for development over plain HTTP. */
  readonly insecure?: boolean;
}

type Required<T> = { [K in keyof T]-?: T[K] };
export type FullCookie = Required<CookieConfig>;
export type FullConfig = Omit<Required<Config>, 'cookie' | 'userKey' | 'unsignedUntil' | 'userFields'> & {
  readonly cookie: FullCookie;
  readonly userKey: Uint8Array | undefined;
  readonly unsignedUntil: Date | undefined;
  /** By name. */
  readonly userFields: ReadonlyMap<string, Field>;
};

const hour = 3_600_000;
const maxCookieAge = 400 * 24 * hour;
const longest = 10 * 365 * 24 * hour;

function fail(text: string): never {
  throw new SessionError('invalid', `the configuration: ${text}`);
}

function duration(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) fail(`${name} is ${value}: it is ${least} to ${most} ms`);
  return value;
}

function byName(fields: readonly Field[]): ReadonlyMap<string, Field> {
  const all = new Map<string, Field>();
  for (const field of fields) {
    if (all.has(field.name)) fail(`userFields: ${JSON.stringify(field.name)} is there twice`);
    all.set(field.name, field);
  }
  return all;
}

/** Fills in the defaults and checks a configuration. */
export function fullConfig(config: Config): FullConfig {
  const lifetime = duration('lifetime', config.lifetime ?? 24 * hour, 1, longest);
  const idleTimeout = duration('idleTimeout', config.idleTimeout ?? Math.min(2 * hour, lifetime), 1, lifetime);
  const firstUseTimeout = duration(
    'firstUseTimeout', config.firstUseTimeout ?? Math.min(hour / 4, idleTimeout), 1, idleTimeout,
  );
  const rotateEvery = config.rotateEvery ?? 0;
  if (rotateEvery !== 0) duration('rotateEvery', rotateEvery, 60_000, lifetime);
  const maxRemember = config.maxRemember ?? 0;
  if (maxRemember !== 0) duration('maxRemember', maxRemember, lifetime, maxCookieAge);
  const keys = config.keys ?? [];
  for (const key of [...keys, ...(config.userKey ? [config.userKey] : [])]) {
    if (key.length !== 32) fail(`a key has ${key.length} bytes: it needs 32`);
  }
  if (config.seal && (keys.length === 0 || !config.userKey)) fail('seal needs keys and userKey');
  if (config.unsignedUntil && keys.length === 0) fail('unsignedUntil needs keys');
  const maxPerUser = config.maxPerUser ?? 0;
  if (!Number.isInteger(maxPerUser) || maxPerUser < 0 || maxPerUser > 100) fail('maxPerUser is 0 to 100');
  const maxSize = config.maxSize ?? 65_536;
  if (!Number.isInteger(maxSize) || maxSize < 1 || maxSize > 16 << 20) fail('maxSize is 1 to 16 MiB');
  const namespace = config.namespace ?? 'coatcheck';
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(namespace)) fail('namespace has 1 to 64 of a-z A-Z 0-9 . _ -');
  const trustedOrigins = (config.trustedOrigins ?? []).map((origin) => {
    if (!URL.canParse(origin) || new URL(origin).origin !== origin) fail(`trustedOrigins: ${origin} is no origin`);
    return origin;
  });
  return {
    namespace, idleTimeout, firstUseTimeout, lifetime, rotateEvery, maxSize, maxRemember, maxPerUser, keys,
    timeout: duration('timeout', config.timeout ?? 2_000, 1, 60_000),
    refuseExtra: config.refuseExtra ?? false,
    bearer: config.bearer ?? false,
    keepFields: config.keepFields ?? [],
    userFields: byName(config.userFields ?? []),
    userDataTimeout: duration('userDataTimeout', config.userDataTimeout ?? 90 * 24 * hour, 1, longest),
    cookie: fullCookie(config.cookie ?? {}, lifetime),
    unsignedUntil: config.unsignedUntil,
    userKey: config.userKey,
    seal: config.seal ?? false,
    trustedOrigins,
    csrf: config.csrf ?? false,
    logger: config.logger ?? ((message, error) => console.error(message, error)),
  };
}

/** Checks a cookie: browsers ignore, or others can plant, what it refuses. */
function fullCookie(cookie: CookieConfig, lifetime: number): FullCookie {
  const insecure = cookie.insecure ?? false;
  const name = cookie.name ?? (insecure ? 'session' : '__Host-session');
  const path = cookie.path ?? '/';
  const domain = cookie.domain ?? '';
  const sameSite = cookie.sameSite ?? 'Lax';
  const partitioned = cookie.partitioned ?? false;
  const persistent = cookie.persistent ?? false;
  if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name)) fail(`cookie.name ${JSON.stringify(name)} is no name of a cookie`);
  const host = /^__host-/i.test(name);
  const secure = host || /^__secure-/i.test(name);
  if (secure && insecure) fail('cookie.name: browsers ignore this prefix without Secure');
  if (!secure && !insecure) fail('cookie.name needs the prefix __Host- (or __Secure-, for a domain or a path)');
  if (host && (domain !== '' || path !== '/')) fail('cookie: the prefix __Host- allows no domain and only the path /');
  if (!/^\/[ -:<-~]*$/.test(path)) fail('cookie.path begins with / and has no control characters and no ;');
  if (domain !== '' && !/^\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$/.test(domain)) fail('cookie.domain is no domain name');
  if (!['Lax', 'Strict', 'None'].includes(sameSite)) fail('cookie.sameSite is Lax, Strict or None');
  if (insecure && (sameSite === 'None' || partitioned)) fail('cookie: browsers ignore None and partitioned without Secure');
  if (partitioned && sameSite !== 'None') fail('cookie.partitioned needs sameSite None');
  if (persistent && lifetime > maxCookieAge) fail('cookie.persistent needs a lifetime of at most 400 days');
  return { name, path, domain, sameSite, partitioned, persistent, insecure };
}
