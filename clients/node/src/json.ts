import { randomBytes } from 'node:crypto';
import { SessionError } from './errors.js';

// Marks integers while JSON.parse and JSON.stringify handle them as texts. It is random, so that no
// stored text looks like it.
const mark = randomBytes(16).toString('hex');
const marked = new RegExp(`"${mark}(-?\\d+)"`, 'g');

/**
 * Returns the JSON of a value. It throws if JSON would lose something: see Value.set. `lossy`
 * allows the losses that are usual with JSON.stringify.
 */
export function encode(name: string, value: unknown, bigints: boolean, lossy = false): string {
  const invalid = (why: string) => new SessionError('invalid', `the value of ${JSON.stringify(name)} ${why}`);
  let text: string | undefined;
  if (typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)) {
    text = JSON.stringify(value);
  } else {
    try {
      text = JSON.stringify(value, function (this: unknown, _key, member: unknown) {
        if (typeof member === 'number' && !Number.isFinite(member)) throw invalid('has a number that is not finite');
        if (typeof member === 'bigint') {
          if (!bigints) throw invalid('has a BigInt: use the option bigints');
          return mark + member.toString();
        }
        const lost = lossy ? undefined : loses(member, this);
        if (lost !== undefined) throw invalid(`has ${lost}, which JSON cannot bring back`);
        return member;
      });
    } catch (error) {
      if (error instanceof SessionError) throw error;
      throw new SessionError('invalid', `the value of ${JSON.stringify(name)} does not encode as JSON`, { cause: error });
    }
    if (text === undefined) throw invalid('is undefined');
    if (bigints) text = text.replace(marked, '$1');
  }
  // JSON.stringify writes a lone surrogate as an escape, and each pair as it is.
  if (text.includes('\\ud') && /(?<!\\)(?:\\\\)*\\ud[89a-f]/.test(text)) throw invalid('has a lone surrogate');
  return text;
}

/** Returns what JSON loses of a member of an object or array, or undefined. */
function loses(member: unknown, holder: unknown): string | undefined {
  switch (typeof member) {
    case 'function':
    case 'symbol':
      return `a ${typeof member}`;
    case 'undefined':
      return Array.isArray(holder) ? 'undefined in an array' : undefined;
    case 'object': {
      if (member === null || Array.isArray(member)) return undefined;
      const prototype = Object.getPrototypeOf(member) as object | null;
      // The prototype of plain objects is another in each realm, such as that of a test runner.
      if (prototype === null || Object.getPrototypeOf(prototype) === null) return undefined;
      return `an object of the class ${prototype.constructor?.name}`;
    }
    default:
      return undefined;
  }
}

/**
 * Returns the value of a stored JSON text. An integer beyond 2^53 becomes a BigInt with `bigints`,
 * and is an error without. So it is never rounded.
 */
export function decode(name: string, text: string, bigints: boolean): unknown {
  const fail = (why: string, cause?: unknown) =>
    new SessionError('decode', `the value of ${JSON.stringify(name)} ${why}`, { cause });
  if (/\\u[dD][89a-fA-F]/.test(text) && !wellFormed(text)) throw fail('has a lone surrogate');
  try {
    if (!/\d{16}|[eE]\+?\d{3}/.test(text)) return JSON.parse(text) as unknown;
    JSON.parse(text); // before the numbers are replaced
  } catch (error) {
    throw fail('is not JSON', error);
  }
  let large = false;
  const safe = text.replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g, (token) => {
    if (token.startsWith('"')) return token;
    if (!Number.isFinite(Number(token))) throw fail(`has a number that is too large: ${token}`);
    if (/[.eE]/.test(token) || Number.isSafeInteger(Number(token))) return token;
    if (!bigints) throw fail(`has an integer beyond 2^53: ${token}: use the option bigints`);
    large = true;
    return `"${mark}${token}"`;
  });
  if (!large) return JSON.parse(text) as unknown;
  return JSON.parse(safe, (_key, member: unknown) =>
    typeof member === 'string' && member.startsWith(mark) ? BigInt(member.slice(mark.length)) : member,
  ) as unknown;
}

/** Reports whether all texts in a JSON text are Unicode. */
function wellFormed(json: string): boolean {
  let good = true;
  try {
    JSON.parse(json, (key, member: unknown) => {
      good &&= key.isWellFormed() && (typeof member !== 'string' || member.isWellFormed());
      return member;
    });
  } catch {
    return true; // the caller reports it
  }
  return good;
}

const least = -(2n ** 63n);
const most = 2n ** 63n - 1n;

/** Returns an integer of 64 bits in canonical decimal form, or undefined if the text is none. */
export function parseInteger(text: string): bigint | undefined {
  if (!/^(?:0|-?[1-9][0-9]{0,18})$/.test(text)) return undefined;
  const n = BigInt(text);
  return fitsInteger(n) ? n : undefined;
}

/** Reports whether an integer has 64 bits. */
export function fitsInteger(n: bigint): boolean {
  return n >= least && n <= most;
}

/** Returns a count as a BigInt. It throws unless the number is an integer that is exact. */
export function toInteger(name: string, n: number | bigint): bigint {
  if (typeof n !== 'bigint' && !Number.isSafeInteger(n)) {
    throw new SessionError('invalid', `the count ${n} for ${JSON.stringify(name)} is no safe integer: pass a BigInt`);
  }
  const integer = BigInt(n);
  if (!fitsInteger(integer)) {
    throw new SessionError('invalid', `the count ${integer} for ${JSON.stringify(name)} does not fit in 64 bits`);
  }
  return integer;
}
