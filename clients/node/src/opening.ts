import type { Credentials } from './credentials.js';
import { SessionError } from './errors.js';
import type { Info } from './record.js';
import type { Sessions } from './sessions.js';
import { localDeadline, type Read } from './store.js';
import { handleOf, type Token } from './token.js';

/** What the tokens of a request open. */
export interface Opened {
  readonly state: 'anonymous' | 'live' | 'ended' | 'moved' | 'failed';
  readonly token: Token | undefined;
  /** The token may name a session. */
  readonly found: boolean;
  /** There are these after `live`. */
  readonly read?: Read;
  readonly info?: Info | undefined;
  /** There is one after `failed`. */
  readonly error?: SessionError;
}

/** Reads the session of a request. `began` is when that began, by performance.now(). */
export async function openTokens(sessions: Sessions, credentials: Credentials, began: number): Promise<Opened> {
  const { tokens, twins, ambiguous } = credentials;
  try {
    if (ambiguous) throw new SessionError('ambiguous', 'the request carries several different tokens');
    let opened: Opened = { state: 'anonymous', token: undefined, found: false };
    for (const [i, token] of tokens.entries()) {
      if (opened.state === 'live') {
        // Two live sessions under one name: a neighbour may have planted one.
        if (i >= twins) break;
        const { outcome } = await sessions.store.read(token, began);
        if (outcome === 'current' || outcome === 'grace') {
          throw new SessionError('ambiguous', 'the request carries tokens of two live sessions');
        }
        continue;
      }
      opened = await openToken(sessions, token, began);
      if (opened.state !== 'anonymous' && opened.state !== 'live') break;
    }
    return opened;
  } catch (cause) {
    const error = cause instanceof SessionError ? cause : new SessionError('unavailable', 'the session cannot be read', { cause });
    return { state: 'failed', token: tokens[0], found: tokens.length > 0 && error.code !== 'ambiguous', error };
  }
}

async function openToken(sessions: Sessions, token: Token, began: number): Promise<Opened> {
  const read = await sessions.store.read(token, began);
  switch (read.outcome) {
    case 'current':
    case 'grace':
      return { state: 'live', token, found: true, read, info: sessions.recognize(token.id, read.record!) };
    case 'superseded':
    case 'moved':
      return { state: 'moved', token, found: true };
    case 'ended during the request':
      return { state: 'ended', token, found: true };
    case 'theft':
      await endStolen(sessions, token, read);
      break;
    default:
  }
  // signOut must not end the session with this token.
  return { state: 'anonymous', token, found: false };
}

async function endStolen({ store, config }: Sessions, token: Token, { record, now }: Read): Promise<void> {
  const ended = await store.end(token, record?.principal?.owner, localDeadline(record!, now));
  if (ended) config.logger(`session: a stolen token was used; session ${handleOf(token.id)} has ended`, undefined);
}
