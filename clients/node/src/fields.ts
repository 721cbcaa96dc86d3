import { SessionError } from './errors.js';
import { decode, encode, parseInteger, toInteger } from './json.js';
import { isFieldName } from './record.js';
import type { Change } from './change.js';
import type { FieldSet } from './fieldset.js';

function checkedField(name: string): string {
  if (name.includes(':') || !isFieldName(name)) {
    throw new SessionError('invalid', `the name of a field has 1 to 64 of a-z A-Z 0-9 . _ -, not ${JSON.stringify(name)}`);
  }
  return name;
}

function checkedEntry(field: string, key: string): string {
  const name = `${field}:${key}`;
  if (!isFieldName(name)) {
    throw new SessionError('invalid', `the key of an entry has at most 256 bytes of Unicode: ${JSON.stringify(key)}`);
  }
  return name;
}

/** Options of a field. */
export interface FieldOptions {
  /**
   * Integers beyond 2^53 are read as BigInt, and BigInts can be written. Default: false, both are
   * errors, because a number would lose digits.
   */
  readonly bigints?: boolean;
}

/** A `Value`, a `MapField`, a `Counter` or a `Counters`. */
export abstract class Field {
  /** @internal When the field moves to the user's data, counts are added. Other values replace it. */
  readonly adds: boolean = false;

  /** The name in the session, or in the data of a user: 1 to 64 of a-z A-Z 0-9 . _ - */
  readonly name: string;

  constructor(name: string) {
    this.name = checkedField(name);
  }
}

abstract class JsonField<T> extends Field {
  readonly #bigints: boolean;

  constructor(name: string, options: FieldOptions = {}) {
    super(name);
    this.#bigints = options.bigints ?? false;
  }

  protected read(data: FieldSet, name: string): T | undefined {
    const text = data.text(name);
    return text === undefined ? undefined : this.decode(name, text);
  }

  protected write(data: FieldSet, name: string, value: T): void {
    data.change({ kind: 'set', name, value: encode(name, value, this.#bigints) });
  }

  protected async writeWithin(data: FieldSet, name: string, value: T, entries: number): Promise<void> {
    await data.bounded({ kind: 'set', name, value: encode(name, value, this.#bigints) }, limitOf(this.name, entries));
  }

  protected async takeFrom(data: FieldSet, name: string): Promise<T | undefined> {
    const text = await data.take(name);
    return text === undefined ? undefined : this.decode(name, text);
  }

  protected async updateIn(data: FieldSet, name: string, f: (old: T | undefined) => T | Promise<T>): Promise<T> {
    let made: T | undefined;
    await data.update(name, async (text) => {
      made = await f(text === undefined ? undefined : this.decode(name, text));
      return encode(name, made, this.#bigints);
    });
    return made as T;
  }

  protected decode(name: string, text: string): T {
    return decode(name, text, this.#bigints) as T;
  }
}

/** A field that holds one value. The last write wins. `update` is atomic. */
export class Value<T> extends JsonField<T> {
  /**
   * Returns a fresh copy of the value, or undefined if it is unset. It throws `decode` if the value
   * is not JSON, or has an integer that would lose digits.
   */
  get(data: FieldSet): T | undefined {
    return this.read(data, this.name);
  }

  /**
   * Sets the value. It throws `invalid` if JSON would lose something: for a Map, a Set and other
   * objects of a class, functions, symbols, `undefined` in an array, numbers that are not finite,
   * and lone surrogates. Exceptions:
   *
   *  - A member of an object that is `undefined` is left out.
   *  - -0 becomes 0.
   *  - An object with a method `toJSON` comes back as what that returns: a Date as a string, such
   *    as "2026-01-31T12:00:00.000Z", an invalid Date as null.
   */
  set(data: FieldSet, value: T): void {
    this.write(data, this.name, value);
  }

  /** Unsets the value. */
  delete(data: FieldSet): void {
    data.change({ kind: 'unset', name: this.name });
  }

  /** Removes the value and returns it, to exactly one caller. It commits the other changes, too. */
  take(data: FieldSet): Promise<T | undefined> {
    return this.takeFrom(data, this.name);
  }

  /**
   * Replaces the value by what `f` makes of it, atomically, and commits the other changes. If
   * another request changes the value first, it calls `f` again. So `f` must have no side effects.
   */
  update(data: FieldSet, f: (old: T | undefined) => T | Promise<T>): Promise<T> {
    return this.updateIn(data, this.name, f);
  }
}

/** A field that holds a value for each key. Entries are written one by one. */
export class MapField<T> extends JsonField<T> {
  /** Returns a fresh copy of an entry, or undefined if there is none. */
  get(data: FieldSet, key: string): T | undefined {
    return this.read(data, checkedEntry(this.name, key));
  }

  /** Sets an entry. It stores and refuses the same values as `Value.set`. */
  set(data: FieldSet, key: string, value: T): void {
    this.write(data, checkedEntry(this.name, key), value);
  }

  /**
   * Sets an entry, unless the map would get a new entry and have more than `entries` of them. It
   * commits the other changes in the same step. Redis decides, so the limit holds for concurrent
   * requests. An entry that is there can always be set. It throws `limit` if it is refused. Then
   * nothing was stored, and the other changes are still pending.
   */
  async setWithin(data: FieldSet, key: string, value: T, entries: number): Promise<void> {
    return this.writeWithin(data, checkedEntry(this.name, key), value, entries);
  }

  /** Removes an entry. */
  delete(data: FieldSet, key: string): void {
    data.change({ kind: 'unset', name: checkedEntry(this.name, key) });
  }

  /** Returns fresh copies of all entries. In a Map, `__proto__` is a plain key. */
  entries(data: FieldSet): Map<string, T> {
    const all = new Map<string, T>();
    for (const [key, text] of data.entriesOf(this.name)) all.set(key, this.decode(`${this.name}:${key}`, text));
    return all;
  }

  /** Removes all entries, also those that another request adds before the commit. */
  clear(data: FieldSet): void {
    data.change({ kind: 'unset-entries', name: this.name });
  }

  /** Is `Value.take` for one entry. */
  take(data: FieldSet, key: string): Promise<T | undefined> {
    return this.takeFrom(data, checkedEntry(this.name, key));
  }

  /** Is `Value.update` for one entry. */
  update(data: FieldSet, key: string, f: (old: T | undefined) => T | Promise<T>): Promise<T> {
    return this.updateIn(data, checkedEntry(this.name, key), f);
  }
}

function countOf(name: string, text: string | undefined): bigint {
  const n = text === undefined ? 0n : parseInteger(text);
  if (n === undefined) throw new SessionError('decode', `the value of ${JSON.stringify(name)} is no counter`);
  return n;
}

function toNumber(name: string, n: bigint): number {
  const number = Number(n);
  if (!Number.isSafeInteger(number)) {
    throw new SessionError('decode', `the count of ${JSON.stringify(name)} is beyond 2^53: ${n}: call getBigInt`);
  }
  return number;
}

/** Returns the change that adds within bounds. */
function addition(name: string, n: number | bigint, least: number | bigint, most: number | bigint): Change {
  const within = { least: toInteger(name, least), most: toInteger(name, most) };
  return { kind: 'add', name, delta: toInteger(name, n), within };
}

function limitOf(name: string, entries: number): Change {
  if (!Number.isInteger(entries) || entries < 0 || entries > 0xffffffff) {
    throw new SessionError('invalid', `the limit of ${JSON.stringify(name)} is ${entries}: it is a number of entries`);
  }
  return { kind: 'limit', name, most: entries };
}

async function addWithin(data: FieldSet, ...changes: [Change, ...Change[]]): Promise<bigint> {
  return countOf(changes[0].name, await data.bounded(...changes));
}

/** A field that holds an integer of 64 bits. Concurrent additions add up: none is lost. */
export class Counter extends Field {
  /** @internal */
  override readonly adds = true;

  /** Returns the count as this request sees it. It throws `decode` if it is beyond 2^53. */
  get(data: FieldSet): number {
    return toNumber(this.name, this.getBigInt(data));
  }

  /** Returns the count as this request sees it. */
  getBigInt(data: FieldSet): bigint {
    return countOf(this.name, data.text(this.name));
  }

  /** Adds an integer, which may be negative. */
  add(data: FieldSet, n: number | bigint): void {
    data.change({ kind: 'add', name: this.name, delta: toInteger(this.name, n) });
  }

  /**
   * Adds an integer, unless the count would leave the range from `least` to `most`. It returns the
   * new count, and commits the other changes in the same step. Redis decides, so the bounds hold
   * for concurrent requests: use it for stock, seats or attempts. It throws `limit` if it is
   * refused. Then nothing was stored, the other changes are still pending, and `get` returns the
   * present count.
   */
  async addWithin(data: FieldSet, n: number | bigint, least: number | bigint, most: number | bigint): Promise<bigint> {
    return addWithin(data, addition(this.name, n, least, most));
  }

  /** Sets the count to 0. */
  reset(data: FieldSet): void {
    data.change({ kind: 'unset', name: this.name });
  }
}

/** A field that holds a counter for each key, such as the quantities of a cart. */
export class Counters extends Field {
  /** @internal */
  override readonly adds = true;

  /** Returns a count as this request sees it. It throws `decode` if it is beyond 2^53. */
  get(data: FieldSet, key: string): number {
    return toNumber(checkedEntry(this.name, key), this.getBigInt(data, key));
  }

  /** Returns a count as this request sees it. */
  getBigInt(data: FieldSet, key: string): bigint {
    const name = checkedEntry(this.name, key);
    return countOf(name, data.text(name));
  }

  /** Adds an integer, which may be negative, to the count of a key. */
  add(data: FieldSet, key: string, n: number | bigint): void {
    const name = checkedEntry(this.name, key);
    data.change({ kind: 'add', name, delta: toInteger(name, n) });
  }

  /**
   * Is `Counter.addWithin` for the count of a key. It also throws `limit` if it would add a key,
   * and there would be more than `entries` keys. A key with a count of 0 is an entry, too.
   */
  async addWithin(
    data: FieldSet, key: string, n: number | bigint, least: number | bigint, most: number | bigint, entries: number,
  ): Promise<bigint> {
    const name = checkedEntry(this.name, key);
    return addWithin(data, addition(name, n, least, most), limitOf(this.name, entries));
  }

  /** Removes a key and its count. */
  delete(data: FieldSet, key: string): void {
    data.change({ kind: 'unset', name: checkedEntry(this.name, key) });
  }

  /** Returns all counts. */
  entries(data: FieldSet): Map<string, bigint> {
    const all = new Map<string, bigint>();
    for (const [key, text] of data.entriesOf(this.name)) all.set(key, countOf(`${this.name}:${key}`, text));
    return all;
  }

  /** Removes all keys, also those that another request adds before the commit. */
  clear(data: FieldSet): void {
    data.change({ kind: 'unset-entries', name: this.name });
  }
}
