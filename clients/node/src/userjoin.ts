import { setTimeout as sleep } from 'node:timers/promises';
import { SessionError, endedError, isSessionError, malformed } from './errors.js';
import type { FieldState } from './fieldstate.js';
import { fitsInteger, parseInteger } from './json.js';
import { touchDue } from './reading.js';
import { splitEntry } from './record.js';
import type { Reply } from './redis.js';
import type { SessionState } from './state.js';
import { handleOf, type Credential } from './token.js';

/** How many attempts a join makes against other requests. */
const maxJoins = 20;

/** The data that the fields of a session join. */
export interface JoinTarget {
  readonly state: FieldState;
  readonly credential: Credential;
  /** Stores the data if it is not stored. */
  prepare(): Promise<void>;
  /** Reads the data again, and reports whether it could. */
  reread(): Promise<boolean>;
}

/** A field on its way: its value in the session, and the old and the new value in the data. */
interface Joining {
  readonly name: string;
  readonly taken: string;
  readonly old: string | undefined;
  readonly value: string;
}

/** Reports whether the stored session has fields that belong to its user. */
export function hasUserFields({ status, record, sessions }: SessionState): boolean {
  const { userFields } = sessions.config;
  if (userFields.size === 0 || status !== 'live' || !record?.principal) return false;
  for (const name of record.fields.keys()) if (userFields.has(splitEntry(name)?.[0] ?? name)) return true;
  return false;
}

/**
 * Moves the fields that belong to the user from a session to the user's data. The script compares
 * what was read. So nothing is lost or counted twice, whatever is repeated.
 */
export async function joinUserFields(from: SessionState, into: JoinTarget, reread: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + from.sessions.config.timeout;
  for (let attempt = 0; attempt < maxJoins; attempt++) {
    const owner = from.record?.principal?.owner; // another part of the request may have signed in
    if (!hasUserFields(from) || owner !== into.credential.verifierHash || from.failure) return;
    if (attempt > 0 && performance.now() >= deadline) break;
    await into.prepare();
    const outcome = await joinOnce(from, into);
    if (outcome === 'done') return;
    if (attempt > 0) await sleep(Math.random() * 2 ** Math.min(attempt, 5));
    if (outcome === 'stale' && !((await reread()) && (await into.reread()))) {
      throw new SessionError('unavailable', 'the session and the user data cannot be read again, to join them');
    }
  }
  throw new SessionError('unavailable', 'other requests keep changing the user data');
}

/**
 * Makes one attempt. `stale`: both records must be read again. `expired`: the data must be stored
 * anew.
 */
async function joinOnce(from: SessionState, into: JoinTarget): Promise<'done' | 'stale' | 'expired'> {
  const fields = planJoin(from, into.state);
  let reply: Reply[];
  try {
    reply = await callJoin(from, into.credential, fields);
  } catch (error) {
    if (isSlotMoving(error)) return 'done'; // a later request joins
    if (isSessionError(error, 'unknown outcome')) return 'stale';
    throw error;
  }
  const [status, ...rest] = reply;
  switch (status) {
    case 'ok':
      joined(from, into, fields, rest.map(Number));
      return 'done';
    case 'busy': // a later request joins
      return 'done';
    case 'none':
      into.state.forget();
      return 'expired';
    case 'gone':
    case 'moved':
      from.leave(status === 'gone' ? 'ended' : 'moved');
      throw endedError();
    case 'refused':
      if (rest[2] === 'conflict') return 'stale';
      throw doesNotFit(from, new SessionError('too large', `over the limit of ${rest[2] === 'fields' ? 'fields and entries' : 'bytes'}`));
    default:
      throw malformed('the reply of join.lua', String(status));
  }
}

/** Returns the fields that move, and what the data will have. */
function planJoin(from: SessionState, into: FieldState): Joining[] {
  const { seals, config } = from.sessions;
  const fields: Joining[] = [];
  try {
    for (const [name, taken] of from.record!.fields) {
      const field = config.userFields.get(splitEntry(name)?.[0] ?? name);
      if (!field) continue;
      const old = into.record!.fields.get(name);
      const value = field.adds ? sumOf(name, old ?? '0', taken) : seals.reseal(from.binding(), into.binding(), name, taken);
      fields.push({ name, taken, old, value });
    }
  } catch (error) {
    throw doesNotFit(from, error as SessionError);
  }
  return fields;
}

function sumOf(name: string, a: string, b: string): string {
  const [x, y] = [parseInteger(a), parseInteger(b)];
  if (x === undefined || y === undefined) throw new SessionError('decode', `the value of ${JSON.stringify(name)} is no counter`);
  if (!fitsInteger(x + y)) throw new SessionError('invalid', `the counter ${JSON.stringify(name)} would overflow 64 bits`);
  return (x + y).toString();
}

function callJoin({ sessions, token, record }: SessionState, into: Credential, fields: readonly Joining[]): Promise<Reply[]> {
  const { store, config } = sessions;
  const session = token!;
  const key = store.keys.session(session.id);
  if (store.ends.get(key)) throw endedError();
  const args = [
    session.verifierHash, String(config.maxSize), store.global(session.id, record!), '0', String(fields.length),
    ...fields.flatMap(({ name, taken }) => [name, taken]),
    ...fields.flatMap(({ name, old, value }) => [name, old === undefined ? '' : `=${old}`, value]),
  ];
  return store.call('join.lua', [key, store.keys.record(into.id), store.keys.revocations(session.bucket)], args, 'again unless moving');
}

function isSlotMoving(error: unknown): boolean {
  return error instanceof SessionError && error.cause instanceof Error && error.cause.message.startsWith('TRYAGAIN');
}

/** Notes what a join has made of both records. */
function joined(from: SessionState, into: JoinTarget, fields: readonly Joining[], [now, ...revisions]: readonly number[]): void {
  const left = new Map(from.record!.fields);
  for (const { name } of fields) left.delete(name);
  const both = new Map([...into.state.record!.fields, ...fields.map(({ name, value }) => [name, value] as const)]);
  const used = (state: FieldState, verifier: string) => (touchDue(state.record!, verifier, now!) ? now : undefined);
  from.wrote(left, revisions[0]!, used(from, from.token!.verifierHash));
  into.state.wrote(both, revisions[1]!, used(into.state, into.credential.verifierHash));
}

/** Returns the error that says why the fields stay in the session. */
function doesNotFit({ token }: SessionState, cause: SessionError): SessionError {
  const why = cause.message.replace(/^session: /, '');
  return new SessionError(
    cause.code,
    `${why}: the fields of the session ${handleOf(token!.id)} do not fit into its user's data, and stay in the session. ` +
      'Make room, or remove them from the session: Sessions.userData opens the data without them',
    { cause },
  );
}
