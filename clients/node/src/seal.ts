import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { SessionError } from './errors.js';
import { derive, fromBase64 } from './token.js';

const prefix = '~1';

/** Reports whether a stored value is sealed. */
export function isSealed(text: string): boolean {
  return text.startsWith('~');
}

/** The ring of keys that seal values. The first key seals. Each key opens. */
export class SealKeys {
  readonly #ring: { key: Uint8Array; id: string }[];

  constructor(ring: readonly Uint8Array[]) {
    this.#ring = ring.map((key) => ({ key, id: derive(key, 'coatcheck/1 seal id', 3).toString('base64url') }));
  }

  #key(key: Uint8Array, session: string): Buffer {
    return derive(key, `coatcheck/1 seal ${session}`, 32);
  }

  /** Seals the value with this name for the session with this id. */
  seal(session: string, name: string, plain: string, nonce: Uint8Array = randomBytes(12)): string {
    const first = this.#ring[0];
    if (!first) throw new SessionError('sealed', 'there is no key that seals');
    const cipher = createCipheriv('aes-256-gcm', this.#key(first.key, session), nonce);
    cipher.setAAD(Buffer.concat([Buffer.from(session, 'base64url'), Buffer.from(name)]));
    const sealed = [cipher.update(plain, 'utf8'), cipher.final(), cipher.getAuthTag()];
    return prefix + Buffer.concat([Buffer.from(first.id, 'base64url'), nonce, ...sealed]).toString('base64url');
  }

  /** Throws if `text` is sealed, and no key of the ring has its key id. */
  check(name: string, text: string): void {
    if (!isSealed(text)) return;
    const id = text.slice(prefix.length, prefix.length + 4);
    if (!text.startsWith(prefix) || !this.#ring.some((entry) => entry.id === id)) {
      throw new SessionError('sealed', `no key opens the value of ${JSON.stringify(name)}`);
    }
  }

  /** Returns the value in clear. A text that is not sealed is returned as it is. */
  open(session: string, name: string, text: string): string {
    if (!isSealed(text)) return text;
    const bytes = text.startsWith(prefix) ? fromBase64(text.slice(prefix.length)) : undefined;
    if (bytes && bytes.length >= 3 + 12 + 16) {
      const id = text.slice(prefix.length, prefix.length + 4);
      const associated = Buffer.concat([Buffer.from(session, 'base64url'), Buffer.from(name)]);
      for (const entry of this.#ring) {
        if (entry.id !== id) continue;
        const decipher = createDecipheriv('aes-256-gcm', this.#key(entry.key, session), bytes.subarray(3, 15));
        decipher.setAAD(associated);
        decipher.setAuthTag(bytes.subarray(-16));
        try {
          return Buffer.concat([decipher.update(bytes.subarray(15, -16)), decipher.final()]).toString('utf8');
        } catch {
          // Two keys may have the same id: try the next.
        }
      }
    }
    throw new SessionError('sealed', `no key opens the value of ${JSON.stringify(name)}`);
  }

  /** Returns a stored value of one session as another one stores it. In clear, it stays in clear. */
  reseal(from: string, to: string, name: string, text: string): string {
    return isSealed(text) ? this.seal(to, name, this.open(from, name, text)) : text;
  }
}
