import { maxOperations, operations, tooManyChanges, type Change } from './change.js';
import { SessionError, endedError } from './errors.js';
import type { StoredRecord } from './record.js';
import { touchDue } from './reading.js';
import { isSealed } from './seal.js';
import type { Renewal, SessionState } from './state.js';
import { ConflictError } from './store.js';
import { random16, randomToken } from './token.js';
import { makeFields } from './values.js';

type Results = readonly (string | undefined)[]; // one for each change

/**
 * Stores the changes of a session, the changes `last`, and a renewal of its token, in one step. It
 * returns the value of the first one of `last`: of an `add` or a `take`. Its error stops all
 * further commits, but for a conflict or a limit of `last`.
 */
export async function commitChanges(
  session: SessionState, last: readonly Change[] = [], renewal?: Renewal,
): Promise<string | undefined> {
  const { values } = session;
  if (session.status === 'anonymous') session.mustCarryCookie();
  const pending = values.begin();
  const changes = [...pending, ...last];
  try {
    if (changes.length > maxOperations) throw tooManyChanges();
    const results = session.status === 'anonymous'
      ? await createSession(session, changes)
      : await changeSession(session, changes, renewal);
    values.sent();
    session.confirmed = performance.now();
    return results[pending.length];
  } catch (error) {
    values.restore();
    if (error instanceof ConflictError || (error instanceof SessionError && error.code === 'limit')) throw error;
    if (error instanceof SessionError && error.code === 'ended') session.leave('ended');
    throw session.fail(error);
  }
}

/** Stores a new session, in which nobody is signed in. */
async function createSession(session: SessionState, changes: readonly Change[]): Promise<Results> {
  const { store, config } = session.sessions;
  const token = randomToken();
  const id = random16();
  const { fields, size, values } = makeFields(session.sessions, id, new Map(), changes);
  const limits = { idle: config.idleTimeout, lifetime: config.lifetime, first: config.firstUseTimeout };
  let now = await store.create(token, id, fields, size, limits);
  let record: StoredRecord | undefined;
  if (now === undefined) {
    ({ now, record } = await store.read(token, performance.now()));
    if (!record) throw endedError();
  }
  record ??= {
    id, verifier: token.verifierHash, unused: false, moving: false, revision: 1, size, created: now,
    lastUse: now - Math.max(0, limits.idle - limits.first), deadline: now + limits.lifetime, idle: limits.idle,
    previous: undefined, generation: 0, issued: now, overtaken: undefined, principal: undefined, fields,
  };
  session.become(token, record, now);
  session.issue(record, now);
  return values;
}

/** Changes the stored session. */
async function changeSession(session: SessionState, changes: readonly Change[], renewal?: Renewal): Promise<Results> {
  const { store, config, seals } = session.sessions;
  const id = session.id!;
  const token = session.token!;
  const before = session.record!;
  const seal = (name: string, value: string) => (config.seal && !isSealed(value) ? seals.seal(id, name, value) : value);
  const sent = operations(changes, seal);
  const options = {
    maxSize: config.maxSize, issued: session.issued, ...(renewal ? { renewal: renewal.operation } : {}),
  };
  const touches = renewal !== undefined || touchDue(before, token.verifierHash, session.serverNow);
  const applied = await store.apply(token, before, session.serverNow, sent, options);

  const fields = session.values.settle(changes, sent, applied);
  const used = applied.now > 0 && touches ? { lastUse: applied.now } : {};
  let record: StoredRecord = { ...before, ...used, revision: applied.revision, fields };
  if (before.verifier === token.verifierHash && !session.issued) record = { ...record, unused: false };
  session.record = record;
  if (renewal && applied.status === 'ok') session.renewed(renewal, applied.generation!, applied.now);
  return changes.map((_, i) => (typeof applied.values[i] === 'string' ? applied.values[i] : undefined));
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
