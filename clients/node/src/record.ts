import { SessionError, malformed } from './errors.js';
import { isSealed } from './seal.js';
import { fromBase64, zeroHash } from './token.js';

export const maxTime = 253402300799999;
export const maxDuration = 9223372036854;
export const maxFields = 1024;
/** For how long a marker, or a superseded verifier, is remembered, in milliseconds. */
export const rememberedFor = 60_000;

/** Who is signed in. The texts that a sign-in recorded are empty if it had none. */
export interface Info {
  /** The application's id of the user. Not UTF-8: see `userBytes`. */
  readonly user: string;
  readonly userBytes: Buffer;
  readonly methods: readonly string[];
  readonly device: string;
  readonly userAgent: string;
  readonly address: string;
}

/** The user of a session, as the store has it. */
export interface Principal {
  readonly owner: string;
  readonly authenticated: number;
  readonly level: number;
  readonly persistent: boolean;
  /** The info as it is stored: JSON or sealed. */
  readonly info: string;
}

export interface Previous {
  readonly accepted: boolean;
  readonly verifier: string;
  /** A time, or the grace period if the record is pending. */
  readonly time: number;
}

/** A session as the store has it. All times are milliseconds of the server's clock. */
export interface StoredRecord {
  readonly id: string;
  readonly verifier: string;
  readonly unused: boolean;
  readonly moving: boolean;
  readonly revision: number;
  readonly size: number;
  readonly lastUse: number;
  readonly created: number;
  readonly deadline: number;
  readonly idle: number;
  readonly previous: Previous | undefined;
  readonly generation: number;
  readonly issued: number;
  readonly overtaken: { readonly generation: number; readonly verifier: string } | undefined;
  readonly principal: Principal | undefined;
  readonly fields: ReadonlyMap<string, string>;
}

export type Marker = { readonly ended: number } | { readonly moved: number };

const hashForm = /^[A-Za-z0-9_-]{21}[AQgw]$/;
const digits = /^[0-9a-f]+$/;

/** Cuts a value of metadata into its parts. */
class Parts {
  #at = 0;

  constructor(
    private readonly where: string,
    private readonly name: string,
    private readonly text: string,
    width: number,
  ) {
    if (text.length !== width) throw this.wrong();
  }

  wrong(): SessionError {
    return malformed(this.where, this.name);
  }

  next(width: number): string {
    const part = this.text.slice(this.#at, this.#at + width);
    this.#at += width;
    return part;
  }

  number(width: number, most: number): number {
    const part = this.next(width);
    const n = digits.test(part) ? parseInt(part, 16) : NaN;
    if (!(n <= most)) throw this.wrong();
    return n;
  }

  hash(): string {
    const part = this.next(22);
    if (!hashForm.test(part)) throw this.wrong();
    return part;
  }
}

/** Returns the name and the key of an entry, or undefined if the name is that of a field. */
export function splitEntry(name: string): [field: string, key: string] | undefined {
  const colon = name.indexOf(':');
  return colon < 0 ? undefined : [name.slice(0, colon), name.slice(colon + 1)];
}

/** Reports whether a text is the name of a field or of an entry. */
export function isFieldName(name: string): boolean {
  const entry = splitEntry(name);
  const field = entry ? entry[0] : name;
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(field)) return false;
  return !entry || (entry[1].isWellFormed() && Buffer.byteLength(entry[1]) <= 256);
}

const known = new Set(['@s', '@l', '@previous', '@overtaken', '@u', '@moving']);

/**
 * Returns the record or the marker of a hash. It throws if a value is not as the format says: then
 * nothing may be written. `where` names the session in errors. With `metadataOnly`, the
 * hash has no fields.
 */
export function parseRecord(
  where: string, hash: ReadonlyMap<string, string>, metadataOnly = false,
): StoredRecord | Marker {
  const wrong = (name: string) => malformed(where, name);
  for (const [name, marker] of [
    ['@ended', parseEnded],
    ['@moved', parseMoved],
  ] as const) {
    const text = hash.get(name);
    if (text === undefined) continue;
    if (hash.size > 1) throw wrong(name);
    return marker(where, text);
  }
  const state = hash.get('@s');
  const life = hash.get('@l');
  // Another version may have any form.
  if (state === undefined || !state.startsWith('1')) throw wrong('@s');
  if (life === undefined) throw wrong('@l');

  const s = new Parts(where, '@s', state, 56);
  s.next(1);
  const flags = s.number(1, 3);
  const verifier = s.hash();
  const revision = s.number(12, Number.MAX_SAFE_INTEGER);
  const size = s.number(8, Number.MAX_SAFE_INTEGER);
  const lastUse = s.number(12, maxTime);
  const unused = (flags & 1) !== 0;
  const moving = (flags & 2) !== 0;

  const l = new Parts(where, '@l', life, 58);
  const id = l.hash();
  const created = l.number(12, maxTime);
  const deadline = l.number(12, maxTime);
  const idle = l.number(12, maxDuration);

  let previous: Previous | undefined;
  let generation = 0;
  let issued = created;
  const replaced = hash.get('@previous');
  if (replaced !== undefined) {
    const p = new Parts(where, '@previous', replaced, 55);
    const kind = p.next(1);
    if (kind !== 'a' && kind !== 'r') throw p.wrong();
    const before = p.hash();
    if (before === zeroHash) throw p.wrong();
    const accepted = kind === 'a';
    const time = p.number(12, accepted && unused ? maxDuration : maxTime);
    previous = { accepted, verifier: before, time };
    generation = p.number(8, 0xffffffff);
    issued = p.number(12, maxTime);
  } else if (unused) {
    throw wrong('@previous');
  }

  let overtaken: StoredRecord['overtaken'];
  const late = hash.get('@overtaken');
  if (late !== undefined) {
    const o = new Parts(where, '@overtaken', late, 30);
    overtaken = { generation: o.number(8, 0xffffffff), verifier: o.hash() };
  }

  const lease = hash.get('@moving');
  if ((lease !== undefined) !== moving) throw wrong('@moving');
  if (lease !== undefined) {
    const m = new Parts(where, '@moving', lease, 34);
    m.hash();
    m.number(12, maxTime);
  }

  const parts = new Set<string>();
  const principal = parsePrincipal(where, hash, parts);
  const fields = new Map<string, string>();
  let sum = 0;
  for (const [name, value] of hash) {
    if (name.startsWith('@')) {
      if (!known.has(name) && !parts.has(name)) throw wrong(name);
      continue;
    }
    if (!isFieldName(name)) throw wrong(name);
    sum += Buffer.byteLength(name) + Buffer.byteLength(value);
    fields.set(name, value);
  }
  if (sum !== size && !metadataOnly) throw wrong('@s');
  return {
    id, verifier, unused, moving, revision, size, lastUse, created, deadline, idle, previous, generation, issued,
    overtaken, principal, fields,
  };
}

function parseEnded(where: string, text: string): Marker {
  const m = new Parts(where, '@ended', text, 34);
  const ended = m.number(12, maxTime);
  m.hash();
  return { ended };
}

function parseMoved(where: string, text: string): Marker {
  return { moved: new Parts(where, '@moved', text, 12).number(12, maxTime) };
}

/** Returns the name of a part of the info, from 0. */
export function partName(i: number): string {
  return i === 0 ? '@i' : `@i${i + 1}`;
}

function parsePrincipal(
  where: string,
  hash: ReadonlyMap<string, string>,
  parts: Set<string>,
): Principal | undefined {
  const text = hash.get('@u');
  if (text === undefined) {
    for (const name of hash.keys()) if (/^@i\d*$/.test(name)) throw malformed(where, name);
    return undefined;
  }
  const u = new Parts(where, '@u', text, 41);
  const owner = u.hash();
  const authenticated = u.number(12, maxTime);
  const level = u.number(2, 99);
  const persistent = u.number(1, 1) === 1;
  const length = u.number(4, 12288);
  if (length === 0) throw u.wrong();
  let info = '';
  for (let i = 0; i * 64 < length; i++) {
    const name = partName(i);
    const part = hash.get(name);
    if (part === undefined || Buffer.byteLength(part) !== Math.min(64, length - i * 64)) throw malformed(where, name);
    parts.add(name);
    info += part;
  }
  if (!isSealed(info)) parseInfo(where, info);
  return { owner, authenticated, level, persistent, info };
}

const isText = (value: unknown, most: number): value is string =>
  typeof value === 'string' && value.isWellFormed() && Buffer.byteLength(value) <= most;

/** Returns the info of a JSON text in clear. */
export function parseInfo(where: string, json: string): Info {
  const wrong = () => malformed(where, '@i');
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw wrong();
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong();
  const members = new Map<string, unknown>(Object.entries(value));
  const { user, methods = [], device = '', agent = '', address = '', ...others } = Object.fromEntries(members);
  if (Object.keys(others).length > 0 || typeof user !== 'string') throw wrong();
  const userBytes = fromBase64(user);
  if (!userBytes || userBytes.length < 1 || userBytes.length > 256) throw wrong();
  if (!Array.isArray(methods) || methods.length > 16) throw wrong();
  const list: unknown[] = methods;
  if (!list.every((method) => isText(method, 32))) throw wrong();
  if (!isText(device, 128) || !isText(agent, 512) || !isText(address, 64)) throw wrong();
  return {
    user: userBytes.toString('utf8'), userBytes, methods: list as string[], device, userAgent: agent, address,
  };
}

/** Returns the JSON of an info: ASCII, without empty members. */
export function infoText(info: Omit<Info, 'user'>): string {
  const text = JSON.stringify({
    user: info.userBytes.toString('base64url'),
    methods: info.methods.length > 0 ? info.methods : undefined,
    device: info.device || undefined,
    agent: info.userAgent || undefined,
    address: info.address || undefined,
  });
  return text.replace(/[^\0-~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** What a program chooses when it stores a new record. Durations are milliseconds. */
export interface RecordSpec {
  readonly id: string;
  readonly verifier: string;
  readonly fields: ReadonlyMap<string, string>;
  readonly size: number;
  readonly idle: number;
  readonly lifetime: number;
  /** How long the record lives until its first use. */
  readonly first: number;
}

/** Returns a record as create.lua has just stored it. */
export function newRecord({ id, verifier, fields, size, idle, lifetime, first }: RecordSpec, now: number): StoredRecord {
  return {
    id, verifier, unused: false, moving: false, revision: 1, size, lastUse: now - Math.max(0, idle - first), created: now,
    deadline: now + lifetime, idle, previous: undefined, generation: 0, issued: now, overtaken: undefined,
    principal: undefined, fields,
  };
}

/** Returns a number of so many digits. */
export function hex(n: number, width: number): string {
  return n.toString(16).padStart(width, '0');
}

/** Returns `@u` and the parts of the info, in order. */
export function principalFields(principal: Principal): [string, string][] {
  const { owner, authenticated, level, persistent, info } = principal;
  const fields: [string, string][] = [
    ['@u', owner + hex(authenticated, 12) + hex(level, 2) + (persistent ? '1' : '0') + hex(info.length, 4)],
  ];
  for (let i = 0; i * 64 < info.length; i++) fields.push([partName(i), info.slice(i * 64, i * 64 + 64)]);
  return fields;
}

/** Returns the hash that stores a record, without its fields of metadata that a lease has. */
export function encodeRecord(r: StoredRecord): Map<string, string> {
  const flags = (r.unused ? 1 : 0) + (r.moving ? 2 : 0);
  const hash = new Map<string, string>();
  hash.set('@s', `1${flags}${r.verifier}${hex(r.revision, 12)}${hex(r.size, 8)}${hex(r.lastUse, 12)}`);
  hash.set('@l', r.id + hex(r.created, 12) + hex(r.deadline, 12) + hex(r.idle, 12));
  if (r.previous) {
    const { accepted, verifier, time } = r.previous;
    hash.set('@previous', `${accepted ? 'a' : 'r'}${verifier}${hex(time, 12)}${hex(r.generation, 8)}${hex(r.issued, 12)}`);
  }
  if (r.overtaken) hash.set('@overtaken', hex(r.overtaken.generation, 8) + r.overtaken.verifier);
  if (r.principal) for (const [name, value] of principalFields(r.principal)) hash.set(name, value);
  for (const [name, value] of r.fields) hash.set(name, value);
  return hash;
}

/** Returns the user's revocation of this owner: what it covers. It throws if it is malformed. */
export function parseRevocation(owner: string, text: string): { since: number; kept: (name: string) => boolean } {
  const since = text.slice(0, 12);
  if (text.length % 34 !== 24 || !digits.test(since)) throw malformed(`the revocation of user ${owner}`, owner);
  return {
    since: parseInt(since, 16),
    kept(name) {
      for (let i = 24; i < text.length; i += 34) if (text.slice(i, i + 22) === name) return true;
      return false;
    },
  };
}

/** Returns the time in `<ns>:revoked`, 0 for none. */
export function parseRevoked(where: string, text: string | null): number {
  if (text === null) return 0;
  return new Parts(where, where, text, 12).number(12, maxTime);
}
