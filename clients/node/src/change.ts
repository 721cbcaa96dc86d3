import { SessionError } from './errors.js';
import { fitsInteger, parseInteger } from './json.js';
import { maxFields, splitEntry } from './record.js';
import type { Operation } from './store.js';

export const maxOperations = 4096;

/** One change of a session. A value that is set is JSON in clear. */
export type Change =
  | { readonly kind: 'set'; readonly name: string; readonly value: string }
  | { readonly kind: 'unset' | 'take'; readonly name: string }
  | { readonly kind: 'unset-entries'; readonly name: string }
  | { readonly kind: 'clear'; readonly name: '' }
  | { readonly kind: 'add'; readonly name: string; readonly delta: bigint; readonly within?: Range }
  /** Refuses the whole change if the map `name` gets a new entry and more than `most` of them. */
  | { readonly kind: 'limit'; readonly name: string; readonly most: number }
  /** `old` is the stored text; null stands for a missing value. */
  | { readonly kind: 'swap'; readonly name: string; readonly old: string | null; readonly value: string | null };

/** The bounds of a counter. */
export interface Range {
  readonly least: bigint;
  readonly most: bigint;
}

/** Makes a change on values. It returns the new value of an addition, and the old one of a take. */
export function applyChange(values: Map<string, string>, change: Change): string | undefined {
  const { name } = change;
  switch (change.kind) {
    case 'set':
      values.set(name, change.value);
      return undefined;
    case 'unset':
    case 'take': {
      const old = values.get(name);
      values.delete(name);
      return change.kind === 'take' ? old : undefined;
    }
    case 'unset-entries':
      for (const key of [...values.keys()]) if (splitEntry(key)?.[0] === name) values.delete(key);
      return undefined;
    case 'clear':
      values.clear();
      return undefined;
    case 'limit': {
      // Only for a new session, in which all entries are new.
      let entries = 0;
      for (const key of values.keys()) if (splitEntry(key)?.[0] === name) entries++;
      if (entries > change.most) throw overLimit(change);
      return undefined;
    }
    case 'add': {
      const present = parseInteger(values.get(name) ?? '0');
      if (present === undefined) throw new SessionError('invalid', `the value of ${JSON.stringify(name)} is no counter`);
      const sum = present + change.delta;
      if (!fitsInteger(sum)) throw new SessionError('invalid', `the counter ${JSON.stringify(name)} would overflow 64 bits`);
      if (change.within && (sum < change.within.least || sum > change.within.most)) throw overLimit(change);
      values.set(name, sum.toString());
      return sum.toString();
    }
    case 'swap':
      if (change.value === null) values.delete(name);
      else values.set(name, change.value);
      return undefined;
  }
}

/** Returns the error with which a change with a limit of its own is refused. */
export function overLimit(change: Change): SessionError {
  const field = JSON.stringify(change.name);
  if (change.kind !== 'add' || !change.within) return new SessionError('limit', `${field} has as many entries as allowed: delete one first`);
  const { delta, within } = change;
  return new SessionError('limit', `with ${delta} the count ${field} would not be from ${within.least} to ${within.most}`);
}

/** Adds a change to those that are not committed. A loop of changes to one value is one change. */
export function addChange(changes: Change[], change: Change): void {
  const last = changes.at(-1);
  if (change.kind === 'clear') {
    changes.length = 0;
  } else if (last?.name === change.name && last.kind !== 'unset-entries' && last.kind !== 'clear') {
    if (change.kind === 'set' || change.kind === 'unset') {
      changes.pop();
    } else if (change.kind === 'add' && last.kind === 'add' && !change.within && !last.within && fitsInteger(last.delta + change.delta)) {
      changes.pop();
      change = { ...change, delta: last.delta + change.delta };
    }
  }
  if (changes.length >= maxOperations) throw tooManyChanges();
  changes.push(change);
}

export function tooManyChanges(): SessionError {
  return new SessionError('too large', `a commit has at most ${maxOperations} changes: commit more often`);
}

/**
 * Returns the arguments of apply.lua for changes. `seal` seals a value, if that is configured: each
 * time to another text. So a swap that follows a set of the same name compares with what that set
 * stores.
 */
export function operations(changes: readonly Change[], seal: (name: string, value: string) => string): Operation[] {
  const stored = new Map<string, string>();
  return changes.map((change) => {
    const before = stored.get(change.name);
    const made = operation(change.kind === 'swap' && before !== undefined ? { ...change, old: before } : change, seal);
    if (change.kind === 'set') stored.set(change.name, made[2]);
    else if (change.kind === 'clear' || change.kind === 'unset-entries') applyChange(stored, change);
    else stored.delete(change.name);
    return made;
  });
}

/** Returns the arguments of apply.lua for a change. `seal` seals a value, if that is configured. */
function operation(change: Change, seal: (name: string, value: string) => string): Operation {
  const { kind, name } = change;
  switch (kind) {
    case 'set':
      return [kind, name, seal(name, change.value), ''];
    case 'add':
      return [kind, name, change.delta.toString(), change.within ? `${change.within.least} ${change.within.most}` : ''];
    case 'limit':
      return [kind, name, String(change.most), ''];
    case 'swap':
      return [
        kind, name, change.old === null ? '' : `=${change.old}`,
        change.value === null ? '' : `=${seal(name, change.value)}`,
      ];
    default:
      return [kind, name, '', ''];
  }
}

/** Returns the bytes of fields. It throws if they exceed a limit. */
export function checkSize(fields: ReadonlyMap<string, string>, maxSize: number): number {
  let size = 0;
  for (const [name, value] of fields) size += Buffer.byteLength(name) + Buffer.byteLength(value);
  if (size > maxSize) throw new SessionError('too large', `the fields would have ${size} bytes; ${maxSize} are allowed`);
  if (fields.size > maxFields) {
    throw new SessionError('too large', `there would be more than ${maxFields} fields and entries`);
  }
  return size;
}
