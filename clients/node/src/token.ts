import { createHmac, hash, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';

/** 22 times A stands for no hash. */
export const zeroHash = 'A'.repeat(22);

/** The first 16 bytes of a SHA-256, as text: what the store knows a selector or a verifier by. */
export function hash16(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'buffer').toString('base64url', 0, 16);
}

/** Returns 16 random bytes as 22 characters. */
export function random16(): string {
  return randomBytes(16).toString('base64url');
}

/** Returns the bytes of a base64url text without padding, or undefined if it is not exactly one. */
export function fromBase64(text: string): Buffer | undefined {
  if (/[^A-Za-z0-9_-]/.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : undefined;
}

/** Reports whether two texts of the same length are equal, in constant time. */
export function sameText(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}

/** Derives a key of `length` bytes. */
export function derive(key: Uint8Array, info: string, length: number): Buffer {
  return Buffer.from(hkdfSync('sha256', key, '', info, length));
}

/** Names a session, or the data of a user, to people and programs: in logs, lists and URLs. It grants no access. */
export interface SessionId {
  readonly bucket: number;
  /** The hash of the token's selector. The data of a user has the owner here. */
  readonly name: string;
  /** It names the data of a user. */
  readonly userData?: true;
}

/** Names a record, and shows that the caller may use it. */
export interface Credential {
  readonly id: SessionId;
  readonly verifierHash: string;
}

/** Returns the four digits of a bucket. */
export function bucketText(bucket: number): string {
  return bucket.toString(16).padStart(4, '0');
}

/** Returns the handle of a session. */
export function handleOf(id: SessionId): string {
  return `${bucketText(id.bucket)}-${id.name}`;
}

/** Returns the session with this handle, or undefined if the text is none. */
export function parseHandle(handle: string): SessionId | undefined {
  if (!/^[0-9a-f]{4}-[A-Za-z0-9_-]{21}[AQgw]$/.test(handle) || handle.length !== 27) return undefined;
  return { bucket: parseInt(handle.slice(0, 4), 16), name: handle.slice(5) };
}

/** What a request carries to open its session. */
export interface Token extends Credential {
  readonly bucket: number;
  readonly selector: Buffer;
  readonly generation: number;
  readonly verifier: Buffer;
}

function newToken(bucket: number, selector: Buffer, generation: number, verifier: Buffer): Token {
  return {
    bucket,
    selector,
    generation,
    verifier,
    id: { bucket, name: hash16(selector) },
    verifierHash: hash16(verifier),
  };
}

/** Returns a new random token. An anonymous session has a random bucket. */
export function randomToken(bucket?: number): Token {
  return newToken(bucket ?? randomBytes(2).readUInt16BE(), randomBytes(16), 0, randomBytes(16));
}

/** Returns the token of the same session with a new verifier. */
export function renewedToken(token: Token): Token {
  return newToken(token.bucket, token.selector, token.generation, randomBytes(16));
}

/** Returns the same token, created in another generation. */
export function withGeneration(token: Token, generation: number): Token {
  return { ...token, generation };
}

/** Reports whether two tokens are of the same session. */
export function sameSession(a: Token, b: Token): boolean {
  return a.bucket === b.bucket && a.selector.equals(b.selector);
}

/** Reports whether two tokens are the same. */
export function sameToken(a: Token, b: Token): boolean {
  return sameSession(a, b) && a.generation === b.generation && a.verifier.equals(b.verifier);
}

const unsignedBytes = 39;
const signedBytes = 57;

/** The ring of keys that sign tokens. The first key signs. Each key verifies. */
export class TokenKeys {
  readonly #keys: Buffer[];

  constructor(
    ring: readonly Uint8Array[],
    private readonly unsignedUntil = 0,
  ) {
    this.#keys = ring.map((key) => derive(key, 'coatcheck/1 token', 32));
  }

  #mac(key: Buffer, body: Buffer): Buffer {
    return createHmac('sha256', key).update(body).digest().subarray(0, 18);
  }

  /** Returns the text of a token. */
  text(token: Token): string {
    const body = Buffer.alloc(unsignedBytes);
    body[0] = 1;
    body.writeUInt16BE(token.bucket, 1);
    token.selector.copy(body, 3);
    body.writeUInt32BE(token.generation, 19);
    token.verifier.copy(body, 23);
    const key = this.#keys[0];
    return (key ? Buffer.concat([body, this.#mac(key, body)]) : body).toString('base64url');
  }

  /** Returns the token of a text, or undefined if the text is not a token that the ring accepts. */
  parse(text: string): Token | undefined {
    if (text.length !== 52 && text.length !== 76) return undefined;
    const bytes = fromBase64(text);
    if (!bytes || bytes[0] !== 1) return undefined;
    const body = bytes.subarray(0, unsignedBytes);
    if (this.#keys.length > 0) {
      if (bytes.length === signedBytes) {
        const mac = bytes.subarray(unsignedBytes);
        let valid = false;
        for (const key of this.#keys) valid = timingSafeEqual(this.#mac(key, body), mac) || valid;
        if (!valid) return undefined;
      } else if (Date.now() >= this.unsignedUntil) {
        return undefined;
      }
    }
    return newToken(
      body.readUInt16BE(1),
      Buffer.from(body.subarray(3, 19)),
      body.readUInt32BE(19),
      Buffer.from(body.subarray(23, 39)),
    );
  }
}

const csrfInfo = 'coatcheck/1 csrf';

/** Returns a CSRF token of the session with this id. `pad` is 18 random bytes. */
export function csrfToken(id: string, pad: Uint8Array = randomBytes(18)): string {
  const key = derive(Buffer.from(id, 'base64url'), csrfInfo, 18);
  return Buffer.concat([pad, key.map((byte, i) => byte ^ pad[i]!)]).toString('base64url');
}

/** Reports whether a text is a CSRF token of the session with this id. */
export function isCsrfToken(id: string, text: string): boolean {
  const bytes = text.length === 48 ? fromBase64(text) : undefined;
  if (!bytes) return false;
  const pad = bytes.subarray(0, 18);
  const key = derive(Buffer.from(id, 'base64url'), csrfInfo, 18);
  return timingSafeEqual(
    bytes.subarray(18).map((byte, i) => byte ^ pad[i]!),
    key,
  );
}

/** Computes the owner of a user's sessions. */
export class UserKey {
  readonly #key: Buffer;

  constructor(key?: Uint8Array) {
    this.#key = derive(key ?? Buffer.alloc(32), 'coatcheck/1 user', 32);
  }

  /** Returns the 22 characters of the owner of a user's sessions. */
  owner(user: Uint8Array): string {
    return createHmac('sha256', this.#key).update(user).digest().toString('base64url', 0, 16);
  }
}

/** Returns the bucket of all sessions of an owner. */
export function bucketOf(owner: string): number {
  return Buffer.from(owner, 'base64url').readUInt16BE();
}
