import { addChange, applyChange, checkSize, type Change } from './change.js';
import { splitEntry, type StoredRecord } from './record.js';
import { isSealed } from './seal.js';
import type { Sessions } from './sessions.js';
import { ConflictError, type Operation, type Applied } from './store.js';

const noFields: ReadonlyMap<string, string> = new Map();

/** The values of a session as its request sees them, and the changes that are not committed. */
export class Values {
  #changes: Change[] = [];
  #sending: Change[] = [];
  #view: Map<string, string> | undefined; // the values with all changes
  #base: ReadonlyMap<string, string> = noFields;
  #settled: ((fields: Map<string, string>) => void)[] = []; // the changes of the last commit

  /** How many changes are not committed, and are not being sent. */
  get pending(): number {
    return this.#changes.length;
  }

  /** Returns the values with all changes. A sealed one is not opened. */
  all(): ReadonlyMap<string, string> {
    if (this.#view) return this.#view;
    if (this.#sending.length === 0 && this.#changes.length === 0) return this.#base;
    this.#view = new Map(this.#base);
    for (const change of [...this.#sending, ...this.#changes]) {
      try {
        applyChange(this.#view, change);
      } catch {
        // The commit will refuse it.
      }
    }
    return this.#view;
  }

  /** Makes a change, which the next commit stores. */
  change(change: Change): void {
    this.#view ??= new Map(this.all());
    try {
      applyChange(this.#view, change);
      addChange(this.#changes, change);
    } catch (error) {
      this.#view = undefined;
      throw error;
    }
  }

  /** Drops the changes that are not committed. */
  discard(): void {
    this.#changes = [];
    this.#view = undefined;
  }

  /** Replaces the values by those that are stored. */
  become(fields: ReadonlyMap<string, string> = noFields): void {
    this.#base = fields;
    this.#view = undefined;
  }

  /** Keeps what the request sees now, whatever becomes of the session. */
  freeze(): void {
    this.#view = new Map(this.all());
  }

  // A commit: begin, then settle and sent, or restore.

  /** Returns the changes to send. */
  begin(): readonly Change[] {
    this.#sending = this.#changes;
    this.#changes = [];
    return this.#sending;
  }

  /** Notes that the changes were stored. */
  sent(): void {
    this.#sending = [];
    this.#view = undefined;
  }

  /** Makes the changes pending again, because they were not stored. */
  restore(): void {
    this.#changes = [...this.#sending, ...this.#changes];
    this.#sending = [];
    this.#view = undefined;
  }

  /** Makes changes on the stored values, as the server has replied to them, and returns these. */
  settle(changes: readonly Change[], sent: readonly Operation[], applied: Applied): ReadonlyMap<string, string> {
    this.#settled = changes.map((change, i) => {
      const value = applied.values[i];
      const [kind, name, a, b] = sent[i]!;
      if (kind === 'limit') return () => undefined;
      if (kind === 'add') return (values) => void (typeof value === 'string' && values.set(name, value));
      if (kind === 'set') return (values) => void values.set(name, a);
      if (kind === 'swap' && b !== '') return (values) => void values.set(name, b.slice(1));
      return (values) => void applyChange(values, change);
    });
    this.#base = this.#withSettled();
    return this.#base;
  }

  /** Makes what the last commit has changed read as its change left it. */
  settleAgain(): void {
    this.become(this.#withSettled());
  }

  #withSettled(): Map<string, string> {
    const fields = new Map(this.#base);
    for (const settle of this.#settled) settle(fields);
    return fields;
  }
}

/** The fields of a new session. */
export interface Made {
  readonly fields: Map<string, string>;
  readonly size: number;
  /** What each change returned. */
  readonly values: (string | undefined)[];
}

/** Makes changes on the fields of a new session, seals them, and checks the limits. */
export function makeFields(
  { config, seals }: Sessions, id: string, fields: Map<string, string>, changes: readonly Change[],
): Made {
  const values = changes.map((change, i) => {
    const present = fields.get(change.name) ?? null;
    if (change.kind === 'swap' && change.old !== present) throw new ConflictError(i, present);
    return applyChange(fields, change);
  });
  if (config.seal) {
    const counters = new Set(changes.filter(({ kind }) => kind === 'add').map(({ name }) => name));
    const set = new Set(changes.filter(({ kind }) => kind === 'set' || kind === 'swap').map(({ name }) => name));
    for (const [name, value] of fields) {
      if (set.has(name) && !counters.has(name) && !isSealed(value)) fields.set(name, seals.seal(id, name, value));
    }
  }
  return { fields, size: checkSize(fields, config.maxSize), values };
}

/** Returns the fields that a sign-in takes over from the old session, sealed for the new one. */
export function keptFields(
  { config, seals }: Sessions, old: StoredRecord | undefined, id: string, owner: string,
): Map<string, string> {
  const fields = new Map<string, string>();
  if (old && (!old.principal || old.principal.owner === owner)) {
    for (const [name, value] of old.fields) {
      const field = splitEntry(name)?.[0] ?? name;
      if (!old.principal && !config.userFields.has(field) && !config.keepFields.includes(field)) continue;
      fields.set(name, seals.reseal(old.id, id, name, value));
    }
  }
  return fields;
}
