import { parseRecord, parseRevocation, rememberedFor, type StoredRecord } from './record.js';
import { sameText } from './token.js';

/** What a reader decides about a request: see format/README.md, Reading. */
export type Outcome =
  | 'current'
  | 'grace'
  | 'superseded'
  | 'moved'
  | 'unknown'
  | 'theft'
  | 'ended during the request'
  | 'ended before the request'
  | 'none';

export interface Reading {
  readonly outcome: Outcome;
  /** There is one after `current`, `grace`, `superseded`, `unknown` and `theft`. */
  readonly record?: StoredRecord;
}

/** What the store had, and when. All times are milliseconds of the server's clock. */
export interface Found {
  /** Names the session in errors. */
  readonly handle: string;
  /** The hash of the token's selector. */
  readonly name: string;
  readonly session: ReadonlyMap<string, string>;
  readonly revocations: ReadonlyMap<string, string>;
  /** When everybody was revoked; 0: never. */
  readonly revoked: number;
  readonly now: number;
  readonly requestBegan: number;
  /** Not later than the request began, whatever the clocks do. Default: requestBegan. */
  readonly requestBeganEarly?: number;
}

/** Returns when the session ends if it is not used again. */
export function expiresAt(record: StoredRecord): number {
  return Math.min(record.lastUse + record.idle, record.deadline);
}

/** Decides what a request with this token is. It throws if a stored value is malformed. */
export function decide(found: Found, verifier: string, generation: number): Reading {
  const parsed = found.session.size > 0 ? parseRecord(`session ${found.handle}`, found.session) : undefined;
  if (parsed && 'moved' in parsed) return { outcome: 'moved' };
  if (parsed && 'ended' in parsed) return ended(found, parsed.ended);
  const record = parsed;
  const owner = record?.principal?.owner;
  const text = owner === undefined ? undefined : found.revocations.get(owner);
  const revocation = owner === undefined || text === undefined ? undefined : parseRevocation(owner, text);
  if (!record) return found.revoked > 0 ? ended(found, found.revoked) : none(found);
  if (record.created <= found.revoked) return ended(found, found.revoked);
  if (revocation && record.created <= revocation.since && !revocation.kept(found.name)) {
    return ended(found, revocation.since);
  }
  if (found.now >= expiresAt(record)) return none(found);
  const outcome = status(record, verifier, found.now) ?? judge(record, verifier, generation, found.requestBeganEarly ?? found.requestBegan);
  return { outcome, record };
}

function ended(found: Found, at: number): Reading {
  if (found.now - at >= rememberedFor) return none(found);
  return { outcome: found.requestBegan < at ? 'ended during the request' : 'ended before the request' };
}

function none(found: Found): Reading {
  return { outcome: found.now - found.requestBegan < rememberedFor ? 'none' : 'superseded' };
}

/** Returns what the record says of a verifier, or undefined if it is unknown. */
export function status(record: StoredRecord, verifier: string, now: number): 'current' | 'grace' | 'superseded' | undefined {
  if (sameText(record.verifier, verifier)) return 'current';
  const previous = record.previous;
  if (!previous || !sameText(previous.verifier, verifier)) return undefined;
  if (previous.accepted) return record.unused || now < previous.time ? 'grace' : undefined;
  return now < previous.time ? 'superseded' : undefined;
}

function judge(record: StoredRecord, verifier: string, generation: number, began: number): Outcome {
  if (generation >= record.generation) return 'unknown';
  const { previous, overtaken } = record;
  const later = previous !== undefined && !(previous.accepted && record.unused) && began < previous.time;
  const overlapped =
    began < record.issued ||
    (previous !== undefined && sameText(previous.verifier, verifier) && later) ||
    (previous !== undefined && !previous.accepted && later);
  if (overlapped) return 'superseded';
  if (generation + 1 === record.generation && record.unused) return 'unknown';
  if (overtaken?.generation === generation && !sameText(overtaken.verifier, verifier)) return 'unknown';
  return 'theft';
}

/** Reports whether a request that uses the session must touch it. */
export function touchDue(record: StoredRecord, verifier: string, now: number): boolean {
  const prolonged = Math.min(now + record.idle, record.deadline) - expiresAt(record);
  return prolonged > Math.min(record.idle / 20, 60_000) || (record.unused && record.verifier === verifier);
}

/** Reports whether a rotation of the token would take place. `issued`: see format/README.md. */
export function rotationDue(record: StoredRecord, verifier: string, now: number, minAge: number): boolean {
  if (now - record.issued < minAge) return false;
  const pending = record.unused && record.previous?.accepted === true;
  if (record.verifier !== verifier) return pending;
  return !pending && !(record.previous?.accepted === true && now < record.previous.time);
}
