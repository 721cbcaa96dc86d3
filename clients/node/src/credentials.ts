import { sameSession, sameToken, type Token, type TokenKeys } from './token.js';

/** How many tokens of one request are looked for in the store. */
const maxTokens = 4;

export const anonymousSuffix = '-anon';

/**
 * The tokens of one request. A browser has two cookies: one for signed-in sessions, and one for
 * anonymous sessions. So the response that starts an anonymous session never overwrites the cookie
 * of a sign-in, however late it arrives.
 */
export interface Credentials {
  /** In the order in which they are tried. */
  readonly tokens: Token[];
  /** How many of the tokens came under the name of the first one. */
  readonly twins: number;
  /** The request has our cookie for signed-in sessions, whatever its value. */
  hasCookie: boolean;
  /** The request has our cookie for anonymous sessions, whatever its value. */
  hasAnonymous: boolean;
  /** The token came in Authorization: a new one cannot go back in a cookie. */
  inHeader: boolean;
  /** The request has more tokens than it may have. */
  readonly ambiguous: boolean;
}

/**
 * Returns the tokens of the Cookie header, and of the lines of the Authorization header. A text that
 * is no token is ignored, and never adopted.
 */
export function readCredentials(
  header: string | undefined, authorization: readonly string[], name: string, keys: TokenKeys,
): Credentials {
  const signedIn: Token[] = [];
  const anonymous: Token[] = [];
  let hasCookie = false;
  let hasAnonymous = false;
  let ambiguous = false;
  for (const part of (header ?? '').split(';')) {
    const equals = part.indexOf('=');
    if (equals < 0) continue;
    // Trim no other space: for browsers, a name that begins with one has no prefix "__Host-".
    const cookie = part.slice(0, equals).replace(/^[ \t]+/, '');
    const isAnonymous = cookie === name + anonymousSuffix;
    if (cookie !== name && !isAnonymous) continue;
    if (isAnonymous) hasAnonymous = true;
    else hasCookie = true;
    const token = keys.parse(cookieValue(part, equals + 1));
    if (token) ambiguous = !add(isAnonymous ? anonymous : signedIn, token) || ambiguous;
  }
  const cookies = [...signedIn, ...anonymous];
  if (cookies.length > maxTokens) ambiguous = true;
  const [bearer, ...others] = authorization.flatMap((line) => bearerToken(line, keys) ?? []);
  if (!bearer) {
    return { tokens: cookies, twins: signedIn.length || anonymous.length, hasCookie, hasAnonymous, inHeader: false, ambiguous };
  }
  if (![...others, ...cookies].every((token) => sameToken(token, bearer))) ambiguous = true;
  return { tokens: [bearer], twins: 1, hasCookie, hasAnonymous, inHeader: true, ambiguous };
}

/** Returns the token in a line of an Authorization header, if it is one of ours. */
function bearerToken(line: string, keys: TokenKeys): Token | undefined {
  const space = line.indexOf(' ');
  if (space < 0 || line.slice(0, space).toLowerCase() !== 'bearer') return undefined;
  return keys.parse(line.slice(space + 1).trim());
}

/**
 * Returns the value of a cookie, without spaces at its end and without quotes. A regular expression
 * for the spaces would take time that grows with the square of their number.
 */
function cookieValue(part: string, from: number): string {
  let to = part.length;
  while (to > from && (part[to - 1] === ' ' || part[to - 1] === '\t')) to--;
  if (to - from >= 2 && part[from] === '"' && part[to - 1] === '"') return part.slice(from + 1, to - 1);
  return part.slice(from, to);
}

/** Adds a token. Of two tokens of one session, the newer one counts: the other was left behind. */
function add(list: Token[], token: Token): boolean {
  for (const [i, have] of list.entries()) {
    if (sameToken(have, token)) return true;
    if (sameSession(have, token) && have.generation !== token.generation) {
      if (have.generation < token.generation) list[i] = token;
      return true;
    }
  }
  list.push(token);
  return list.length <= maxTokens;
}
