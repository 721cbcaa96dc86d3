export { Counter, Counters, MapField, Value, type FieldOptions } from './fields.js';
export { SessionError, isSessionError, type ErrorCode } from './errors.js';
export { Sessions, type Handler } from './sessions.js';
export { sessionOf, type ErrorHandler } from './exchange.js';
export { ioredis, nodeRedis, type IoRedisClient, type NodeRedisClient, type Redis } from './redis.js';
export type { Config, CookieConfig } from './config.js';
export type { Login, SessionInfo } from './login.js';
export type { Requirements, Session } from './session.js';
