import { hash16, type Token } from './token.js';
import { hkdfSync } from 'node:crypto';
import type * as expressSession from 'express-session';
import { checkSize } from './change.js';
import { SessionError } from './errors.js';
import { decode, encode } from './json.js';
import { isFieldName, type StoredRecord } from './record.js';
import type { Sessions } from './sessions.js';
import type { Operation } from './store.js';

type Data = expressSession.SessionData;
type Request = Parameters<expressSession.Store['createSession']>[0];
type Callback<T extends unknown[]> = ((error?: unknown, ...args: T) => void) | undefined;

/** The part of the module express-session that is needed. */
export interface ExpressSessionModule {
  readonly Store: typeof expressSession.Store;
}

/** What a request has read: for the comparison at its end. */
interface Seen {
  readonly token: Token;
  readonly record: StoredRecord;
  readonly now: number;
  readonly values: ReadonlyMap<string, string>;
}

const field = 'express';

/**
 * Returns a store for express-session, for applications that cannot change their code:
 *
 *     app.use(session({ store: expressSessionStore(session, sessions), ... }))
 *
 * It writes only the members of `req.session` that a request has changed, and never brings an ended
 * session back: what a late request changed is dropped and logged. See the README for what
 * express-session cannot promise with any store. `touch` follows the limits of `sessions`.
 */
export function expressSessionStore(module: ExpressSessionModule, sessions: Sessions): expressSession.Store {
  const { store, config } = sessions;
  const seen = new WeakMap<object, Seen>();

  class CoatcheckStore extends module.Store {
    // express-session makes a new object from what `get` returned.
    override createSession(request: Request, data: Data): expressSession.Session & Data {
      const made = super.createSession(request, data);
      const known = seen.get(data);
      if (known) seen.set(made, known);
      return made;
    }

    get(sid: string, callback: (error: unknown, session?: Data | null) => void): void {
      read(sid).then((data) => callback(null, data), callback);
    }

    set(sid: string, data: Data, callback?: Callback<[]>): void {
      write(sid, data).then(() => callback?.(), callback);
    }

    destroy(sid: string, callback?: Callback<[]>): void {
      const until = performance.now() + config.lifetime;
      store.end(tokenOf(sid), undefined, until).then(() => callback?.(), callback);
    }

    // The type of express-session allows no error here; its code does.
    override touch(sid: string, data: Data, callback?: () => void): void {
      const known = seen.get(data);
      const touched = known ? store.touch(known.token, known.record) : Promise.resolve(true);
      touched.then(() => callback?.(), callback as (error: unknown) => void);
      void sid;
    }
  }

  async function read(sid: string): Promise<Data | null> {
    const found = await load(tokenOf(sid));
    if (!found) return null;
    const data: Record<string, unknown> = {};
    for (const [key, text] of found.values) {
      const value = decode(key, text, false);
      Object.defineProperty(data, key, { value, enumerable: true, writable: true, configurable: true });
    }
    seen.set(data, found);
    return data as unknown as Data;
  }

  async function load(token: Token): Promise<Seen | undefined> {
    const { outcome, record, now } = await store.read(token, performance.now());
    if (outcome !== 'current' || !record) return undefined;
    sessions.recognize(token.id, record);
    const values = new Map<string, string>();
    for (const [name, text] of record.fields) {
      if (name.startsWith(`${field}:`)) values.set(name.slice(field.length + 1), sessions.seals.open(record.id, name, text));
    }
    return { token, record, now, values };
  }

  async function write(sid: string, data: Data): Promise<void> {
    const wanted = new Map<string, string>();
    for (const [key, value] of Object.entries(data)) {
      const name = `${field}:${key}`;
      if (!isFieldName(name)) throw new SessionError('invalid', `${JSON.stringify(key)} is no name of a member`);
      // As other stores do: such an application does not expect an error.
      if (value !== undefined && typeof value !== 'function') wanted.set(key, encode(key, value, false, true));
    }
    const token = tokenOf(sid);
    let before = seen.get(data);
    if (!before || before.token.id.name !== token.id.name) {
      if (await create(token, sid, data, wanted)) return;
      before = await load(token); // somebody else has stored it
    }
    if (!before) return ended(sid);
    const seal = (id: string, name: string, text: string) => (config.seal ? sessions.seals.seal(id, name, text) : text);
    const operations: Operation[] = [];
    for (const [key, text] of wanted) {
      const name = `${field}:${key}`;
      if (before.values.get(key) !== text) operations.push(['set', name, seal(before.record.id, name, text), '']);
    }
    for (const key of before.values.keys()) if (!wanted.has(key)) operations.push(['unset', `${field}:${key}`, '', '']);
    if (operations.length === 0) return;
    try {
      await store.apply(token, before.record, before.now, operations, { maxSize: config.maxSize, issued: false });
      seen.set(data, { ...before, values: wanted });
    } catch (error) {
      if (!(error instanceof SessionError && error.code === 'ended')) throw error;
      ended(sid);
    }
  }

  /** Stores a new session. It reports false if there is one, or was one a moment ago. */
  async function create(token: Token, sid: string, data: Data, wanted: ReadonlyMap<string, string>): Promise<boolean> {
    const id = derive(sid, 'id', 16).toString('base64url');
    const fields = new Map<string, string>();
    for (const [key, text] of wanted) {
      const name = `${field}:${key}`;
      fields.set(name, config.seal ? sessions.seals.seal(id, name, text) : text);
    }
    const maxAge = (data.cookie as { originalMaxAge?: number | null } | undefined)?.originalMaxAge;
    const idle = Math.min(typeof maxAge === 'number' && maxAge > 0 ? Math.floor(maxAge) : config.idleTimeout, config.lifetime);
    const limits = { idle, lifetime: config.lifetime, first: Math.min(config.firstUseTimeout, idle) };
    const known = await load(token);
    if (known) return false;
    const { status } = await store.create(token, id, fields, checkSize(fields, config.maxSize), limits);
    if (status !== 'ok') return false;
    const found = await load(token);
    if (found) seen.set(data, found);
    return true;
  }

  function ended(sid: string): void {
    config.logger(`session: changes of a request were dropped, because session ${tokenOf(sid).id.name} has ended`, undefined);
  }

  return new CoatcheckStore();
}

function derive(sid: string, what: string, length: number): Buffer {
  return Buffer.from(hkdfSync('sha256', sid, '', `coatcheck express-session ${what}`, length));
}

/** Returns the token of a session of express-session. It follows from the id in the cookie. */
function tokenOf(sid: string): Token {
  const bucket = derive(sid, 'bucket', 2).readUInt16BE();
  const selector = derive(sid, 'selector', 16);
  const verifier = derive(sid, 'verifier', 16);
  return { bucket, selector, generation: 0, verifier, id: { bucket, name: hash16(selector) }, verifierHash: hash16(verifier) };
}
