import type { FastifyPluginCallback } from 'fastify';
import { Exchange, bodyHeaders, errorHeaders, sessionOf } from './exchange.js';
import { SessionError } from './errors.js';
import type { Session } from './session.js';
import type { Sessions } from './sessions.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Returns the session of the request. */
    session(): Promise<Session>;
  }
}

/** Options of the plugin. */
export interface FastifySessionsOptions {
  readonly sessions: Sessions;
}

/**
 * The plugin for Fastify: `fastify.register(fastifySessions, { sessions })`. It applies to the
 * whole server. `await request.session()` returns the session.
 */
export const fastifySessions: FastifyPluginCallback<FastifySessionsOptions> = (fastify, { sessions }, done) => {
  fastify.decorateRequest('session', function (this: { raw: Parameters<typeof sessionOf>[0] }) {
    return sessionOf(this.raw);
  });
  fastify.addHook('onRequest', (request, reply, next) => {
    sessions.begin(request.raw, reply.raw).then(() => next(), next);
  });
  fastify.addHook('onError', (request, reply, error: Error, next) => {
    Exchange.discard(request.raw);
    if (error instanceof SessionError) {
      for (const name of bodyHeaders) reply.removeHeader(name);
      for (const [name, value] of errorHeaders(error)) reply.header(name, value);
      // Fastify shows the message of an error. The client gets the public sentence instead.
      Object.defineProperty(error, 'message', { value: error.publicMessage });
    }
    next();
  });
  done();
};

// Without it, a plugin applies only to the routes that are registered inside it.
Object.assign(fastifySessions, { [Symbol.for('skip-override')]: true, [Symbol.for('fastify.display-name')]: '@coatcheck/session' });
