import type { IncomingMessage, ServerResponse } from 'node:http';
import { SessionError } from './errors.js';
import { Exchange, type ErrorHandler } from './exchange.js';
import type { Sessions } from './sessions.js';

type Next = (error?: unknown) => void;

/**
 * Returns the middleware for Express 4 and 5, and for whatever has the same form. Mount it before
 * all handlers that use sessions. `await sessionOf(request)` returns the session.
 */
export function expressSessions(sessions: Sessions, onError?: ErrorHandler) {
  return (request: IncomingMessage, response: ServerResponse, next: Next): void => {
    let check: Promise<void> | undefined;
    try {
      check = Exchange.begin(sessions, request, response, onError);
    } catch (error) {
      next(error);
      return;
    }
    if (check) check.then(() => next(), next);
    else next();
  };
}

/**
 * Returns the error handler. Mount it after all handlers, and before your own error handlers. It
 * drops the changes of a request that failed, and answers the errors of this package. Other errors
 * go on to the next error handler.
 */
export function expressErrors(sessions: Sessions) {
  // Express knows an error handler by its four parameters.
  return (error: unknown, request: IncomingMessage, response: ServerResponse, next: Next): void => {
    Exchange.discard(request);
    if (error instanceof SessionError) sessions.answer(request, response, error);
    else next(error);
  };
}
