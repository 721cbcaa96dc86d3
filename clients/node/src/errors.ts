/** What went wrong, as a code. docs/errors.md of the Go library has the same list. */
export type ErrorCode =
  | 'unavailable' // the store did not answer, or the record is malformed; nothing was stored
  | 'unknown outcome' // a change may or may not have been stored, and is not sent again
  | 'ended' // the session ended, or got another token, while the request ran
  | 'too many' // the user has as many sessions as Config.maxPerUser allows
  | 'not signed in' // nobody is signed in
  | 'not fresh' // the route requires a newer or stronger authentication
  | 'revoked' // the user's sessions were revoked after this authentication began
  | 'not found' // the user has no session with this handle
  | 'ambiguous' // the request carries two different tokens
  | 'cross-origin' // another site caused the request
  | 'csrf' // the request has no valid CSRF token
  | 'too large' // over a limit
  | 'limit' // addWithin or setWithin was refused; nothing was stored
  | 'invalid' // a name, a value, a sum, a login, a user, a handle or the configuration is not valid
  | 'decode' // the stored value has another type
  | 'sealed' // no key opens a stored value
  | 'header sent' // a change needs a new cookie, and the response can carry none any more
  | 'no session'; // the request did not pass through the middleware

const answers: Record<ErrorCode, [status: number, text: string]> = {
  'unknown outcome': [503, 'It is not known whether your change was saved. Please check before you try again.'],
  unavailable: [503, 'The service is not available at the moment. Please try again.'],
  ended: [409, 'Your session has changed. Please reload and try again.'],
  limit: [409, 'This is more than allowed. Nothing was changed.'],
  'not signed in': [401, 'Please sign in.'],
  'not fresh': [401, 'Please sign in again.'],
  revoked: [401, 'Please sign in again.'],
  'too many': [409, 'You are signed in on as many devices as allowed. Please sign out on one of them.'],
  'not found': [404, 'There is no such session.'],
  ambiguous: [400, "The request carries two different session tokens. Please delete this site's cookies."],
  'cross-origin': [403, 'Cross-origin request refused.'],
  csrf: [403, 'This page is out of date. Please reload it and try again.'],
  'too large': [500, ''],
  invalid: [500, ''],
  decode: [500, ''],
  sealed: [500, ''],
  'header sent': [500, ''],
  'no session': [500, ''],
};

/**
 * An error of this package. Test for `error.code`.
 *
 * `status` is the HTTP status of the default answer, and `publicMessage` its sentence. Do not show
 * `message` to the client: it has the cause.
 */
export class SessionError extends Error {
  readonly status: number;
  readonly publicMessage: string;

  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(`session: ${message}`, options);
    this.name = 'SessionError';
    const [status, text] = answers[code];
    this.status = status;
    this.publicMessage = text || 'Something went wrong. The error has been logged.';
  }

  /** The same as `status`. Frameworks look for this name. */
  get statusCode(): number {
    return this.status;
  }

  /** Frameworks show the message of an error only if this is true. */
  get expose(): boolean {
    return false;
  }
}

/** Reports whether `error` is a SessionError, with this code if there is one. */
export function isSessionError(error: unknown, code?: ErrorCode): error is SessionError {
  return error instanceof SessionError && (code === undefined || error.code === code);
}

/** Returns the error with which a change fails after the session has ended. */
export function endedError(): SessionError {
  return new SessionError('ended', 'it ended, or got another token, during the request');
}

/** Returns the error for a stored value or a reply that is not as the format says. */
export function malformed(where: string, what: string): SessionError {
  return new SessionError('unavailable', `${where} is malformed: ${JSON.stringify(what)}`);
}
