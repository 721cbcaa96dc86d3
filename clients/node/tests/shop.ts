import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after } from 'node:test';
import { Redis as IoRedis } from 'ioredis';
import {
  Counter, Counters, MapField, Sessions, Value, type Config, type FieldSet, type Redis, type Session,
} from '../dist/index.js';
import { setCookies } from '../dist/exchange.js';
import type { Reply } from '../dist/redis.js';
import { libraries, openRedis } from './clients.js';
import { freshNamespace, sharedUrl } from './server.js';

export const cart = new Counters('cart');
export const n = new Counter('n');
export const gifts = new MapField<unknown>('gifts');
export const theme = new Value<string>('theme');
export const notice = new Value<string>('notice'); // belongs to the session
const userFields = [cart, n, gifts, theme];

export const contents = (data: FieldSet) => [...cart.entries(data)].sort().map(([fruit, count]) => `${fruit}=${count}`).join(' ');

/** Connections of the tests, and what must be closed at the end. */
const closing: (() => unknown)[] = [];
after(async () => {
  for (const close of closing) await close();
});

/** A Redis client that lets a test decide what becomes of the calls of a script. */
export class Hooked {
  readonly redis: Redis;
  calls: string[] = []; // the scripts that were called
  hook: ((script: string, send: () => Promise<Reply[]>) => Promise<Reply[]>) | undefined;

  constructor(redis: Redis) {
    this.redis = redis;
    const send: Redis['send'] = redis.send.bind(redis);
    redis.send = async (key, commands) => {
      if (typeof key !== 'string') return send(key, commands); // to one server
      const script = scriptOf(commands[0]!);
      if (script === undefined) return send(key, commands);
      this.calls.push(script);
      return this.hook ? this.hook(script, () => send(key, commands)) : send(key, commands);
    };
  }
}

const scripts = ['create', 'apply', 'touch', 'move', 'signin', 'join', 'end', 'enduser'].map((name) => {
  const source = readFileSync(new URL(`../lua/${name}.lua`, import.meta.url), 'utf8');
  return { name, source, sha: createHash('sha1').update(source).digest('hex') };
});
const scriptOf = ([command, text]: readonly string[]) =>
  command!.startsWith('EVAL') ? scripts.find(({ sha, source }) => text === sha || text === source)?.name : undefined;

/** A fault: the server refuses the call. */
export const refused = () => Promise.resolve([new Error('ERR this test refuses it')]);

/** A fault: the server makes the call, and its reply is lost. */
export const lost = async (send: () => Promise<Reply[]>) => {
  await send();
  return [new Error('the connection is lost')];
};

let used = 0;

/** An application with a namespace of its own. They take turns with the client libraries. */
export class Shop {
  readonly sessions: Sessions;
  readonly hooked: Hooked;
  readonly logged: string[] = [];

  private constructor(
    readonly url: string,
    readonly direct: IoRedis,
    readonly config: Config,
  ) {
    this.hooked = new Hooked(openRedis(url, libraries[used++ % libraries.length]!));
    this.sessions = new Sessions(this.hooked.redis, { logger: (message) => this.logged.push(message), ...config });
    closing.push(() => this.sessions.close());
  }

  static async open(config: Config = {}, url?: string): Promise<Shop> {
    url ??= await sharedUrl();
    const direct = new IoRedis(url).on('error', () => undefined);
    closing.push(() => direct.disconnect());
    return new Shop(url, direct, { namespace: freshNamespace(), timeout: 60_000, userFields, ...config });
  }

  /** Returns the same application in another process, perhaps with another configuration. */
  another(config: Config = {}): Shop {
    return new Shop(this.url, this.direct, { ...this.config, ...config });
  }

  visitor(cookie = ''): Visitor {
    return new Visitor(this, cookie);
  }

  async signedIn(user: string): Promise<Visitor> {
    const visitor = this.visitor();
    await visitor.request((session) => session.signIn({ user }));
    return visitor;
  }

  keys(): Promise<string[]> {
    return this.direct.keys(`${this.sessions.config.namespace}:*:d:*`);
  }

  /** Returns the only key of user data. */
  async key(): Promise<string> {
    const keys = await this.keys();
    assert.equal(keys.length, 1, String(keys));
    return keys[0]!;
  }

  /** Returns the key of the data of a user. */
  async keyOf(user: string): Promise<string> {
    const { owner } = await this.sessions.userData(user);
    return (await this.keys()).find((key) => key.endsWith(`:${owner}`))!;
  }

  async cartOf(user: string): Promise<string> {
    return contents(await this.sessions.userData(user));
  }
}

/** A browser. */
export class Visitor {
  constructor(
    readonly shop: Shop,
    public cookie: string,
  ) {}

  /** Makes a request, with the commits of the middleware. */
  async request(f: (session: Session) => unknown): Promise<void> {
    const { sessions } = this.shop;
    const session = await sessions.open(this.cookie, [], { headerSent: false, crossOrigin: () => undefined }).read();
    try {
      await f(session);
      await session.commitBeforeHeader(true);
    } finally {
      const set = setCookies(sessions, session).find((cookie) => !cookie.includes('=;'));
      if (set !== undefined) this.cookie = set.split(';')[0]!;
      await session.touch();
    }
  }

  /** Makes a request with the data of the user, or with the session while nobody is signed in. */
  inData(f: (data: FieldSet, session: Session) => unknown): Promise<void> {
    return this.request(async (session) => f(await session.userData(), session));
  }

  add(fruit: string, count: number): Promise<void> {
    return this.inData((data) => cart.add(data, fruit, count));
  }

  async cart(): Promise<string> {
    let found = '';
    await this.inData((data) => void (found = contents(data)));
    return found;
  }

  /** Returns another tab of the same browser. */
  tab(): Visitor {
    return new Visitor(this.shop, this.cookie);
  }
}
