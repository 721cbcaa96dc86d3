import { maxOperations, operations, tooManyChanges, type Change } from './change.js';
import { SessionError } from './errors.js';
import type { FieldState } from './fieldstate.js';
import { newRecord } from './record.js';
import { touchDue } from './reading.js';
import { isSealed } from './seal.js';
import type { Renewal, SessionState } from './state.js';
import { ConflictError, type Applied, type Limits } from './store.js';
import { random16, randomToken, type Credential } from './token.js';
import { makeFields } from './values.js';

/** What the store made of changes. */
export interface Stored {
  /** One for each change: what an `add` or a `take` returned. */
  readonly values: readonly (string | undefined)[];
  /** The changes have created the record: nobody else has changed it. */
  readonly created: boolean;
}

/** What became of a commit. */
export interface Committed {
  /** What the first one of the changes `last` returned. */
  readonly value: string | undefined;
  readonly created: boolean;
}

/**
 * Stores the changes of a session or of user data, and the changes `last`, in one step. Its error
 * stops all further commits, but for a conflict or a limit of `last`.
 */
export async function commitChanges(
  state: FieldState, send: (changes: readonly Change[]) => Promise<Stored>, last: readonly Change[] = [],
): Promise<Committed> {
  const { values } = state;
  const pending = values.begin();
  const changes = [...pending, ...last];
  try {
    if (changes.length > maxOperations) throw tooManyChanges();
    const stored = await send(changes);
    values.sent();
    return { value: stored.values[pending.length], created: stored.created };
  } catch (error) {
    values.restore();
    if (error instanceof ConflictError || (error instanceof SessionError && error.code === 'limit')) throw error;
    if (error instanceof SessionError && error.code === 'ended') state.noteEnded();
    throw state.fail(error);
  }
}

/** Stores the changes of a session, and a renewal of its token. */
export async function sendSession(session: SessionState, changes: readonly Change[], renewal?: Renewal): Promise<Stored> {
  const stored = session.status === 'anonymous'
    ? await createSession(session, changes)
    : await changeSession(session, changes, renewal);
  session.confirmed = performance.now();
  return stored;
}

/** Stores a new session, in which nobody is signed in. */
async function createSession(session: SessionState, changes: readonly Change[]): Promise<Stored> {
  session.mustBringToken();
  const { idleTimeout, lifetime, firstUseTimeout } = session.sessions.config;
  const token = randomToken();
  const stored = await createRecord(session, token, changes, { idle: idleTimeout, lifetime, first: firstUseTimeout });
  if (!stored) throw new SessionError('unavailable', 'another session has the key');
  session.token = token;
  session.found = true;
  session.issue(session.record!, session.serverNow);
  return stored;
}

/** Changes the stored session. */
async function changeSession(session: SessionState, changes: readonly Change[], renewal?: Renewal): Promise<Stored> {
  const before = session.record!;
  const token = session.token!;
  const applied = await applyChanges(session, token, changes, { issued: session.issued, renewal });
  if (before.verifier === token.verifierHash && !session.issued) session.record = { ...session.record!, unused: false };
  if (renewal && applied.status === 'ok') session.renewed(renewal, applied.generation!, applied.now);
  return changed(changes, applied);
}

/** Rotates the token without a change. If it fails, the old token stays valid. */
export async function rotateToken(session: SessionState, rotation: Renewal): Promise<void> {
  try {
    await changeSession(session, [], rotation);
  } catch (error) {
    if (error instanceof SessionError && error.code === 'ended') return;
    session.sessions.config.logger('session: a token was not rotated; a later request will try again', error);
  }
}

/** Stores a new record. It returns undefined if the store has another one already. */
export async function createRecord(
  state: FieldState, credential: Credential, changes: readonly Change[], limits: Limits,
): Promise<Stored | undefined> {
  const id = random16();
  const { fields, size, values } = makeFields(state.sessions, state.binding(id), new Map(), changes);
  const { status, now } = await state.sessions.store.create(credential, id, fields, size, limits);
  if (status === 'exists') return undefined;
  state.hold(newRecord({ id, verifier: credential.verifierHash, fields, size, ...limits }, now), now);
  return { values, created: true };
}

/** Changes the stored record. */
export async function changeRecord(state: FieldState, credential: Credential, changes: readonly Change[]): Promise<Stored> {
  return changed(changes, await applyChanges(state, credential, changes, { issued: false }));
}

async function applyChanges(
  state: FieldState, credential: Credential, changes: readonly Change[],
  { issued, renewal }: { issued: boolean; renewal?: Renewal | undefined },
): Promise<Applied> {
  const { store, config, seals } = state.sessions;
  const binding = state.binding();
  const before = state.record!;
  const seal = (name: string, value: string) => (config.seal && !isSealed(value) ? seals.seal(binding, name, value) : value);
  const sent = operations(changes, seal);
  const options = { maxSize: config.maxSize, issued, ...(renewal ? { renewal: renewal.operation } : {}) };
  const touches = renewal !== undefined || touchDue(before, credential.verifierHash, state.serverNow);
  const applied = await store.apply(credential, before, state.serverNow, sent, options);
  const fields = state.values.settle(changes, sent, applied);
  state.wrote(fields, applied.revision, applied.now > 0 && touches ? applied.now : undefined);
  return applied;
}

function changed(changes: readonly Change[], { values }: Applied): Stored {
  return { values: changes.map((_, i) => (typeof values[i] === 'string' ? values[i] : undefined)), created: false };
}
