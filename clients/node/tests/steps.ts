import { setCookies } from '../dist/exchange.js';
import {
  Counter, Counters, MapField, Sessions, Value, isSessionError, type FieldSet, type Login, type Session, type SessionInfo,
} from '../dist/index.js';
import { libraries, openRedis } from './clients.js';

type Json = any; // eslint-disable-line @typescript-eslint/no-explicit-any

/** A request of the step protocol: see format/contract/README.md. */
export interface StepRequest {
  readonly id: number;
  readonly client: Json;
  readonly token?: string;
  readonly request?: string;
  readonly open?: boolean;
  readonly do?: Json[];
}

export interface StepReply {
  readonly id: number;
  readonly outcome: string;
  readonly values: Json[];
  readonly session?: string | null;
  readonly token?: string | null;
  readonly error?: string;
}

interface Open {
  readonly sessions: Sessions;
  readonly session: Session;
  sent: boolean;
}

const outcomes = new Set([
  'ended', 'unavailable', 'too large', 'invalid', 'decode', 'sealed', 'too many', 'revoked', 'not found', 'unknown outcome', 'limit',
]);

const kinds = { value: Value, map: MapField, counter: Counter, counters: Counters };

/** Makes requests to clients of this package, as the contract suite describes them. */
export class Steps {
  readonly #clients = new Map<string, Sessions>();
  readonly #open = new Map<string, Open>();

  #client(options: Json): Sessions {
    const key = JSON.stringify(options);
    let sessions = this.#clients.get(key);
    if (!sessions) {
      const library = options.library ?? libraries[this.#clients.size % libraries.length];
      sessions = new Sessions(openRedis(options.url, library), {
        namespace: options.namespace,
        ...(options.idle_ms ? { idleTimeout: options.idle_ms } : {}),
        ...(options.first_use_ms ? { firstUseTimeout: options.first_use_ms } : {}),
        ...(options.lifetime_ms ? { lifetime: options.lifetime_ms } : {}),
        ...(options.max_remember_ms ? { maxRemember: options.max_remember_ms } : {}),
        ...(options.rotate_ms ? { rotateEvery: options.rotate_ms } : {}),
        ...(options.max_size ? { maxSize: options.max_size } : {}),
        maxPerUser: options.max_per_user ?? 0,
        refuseExtra: options.refuse_extra ?? false,
        keepFields: options.keep_fields ?? [],
        userFields: Object.entries(options.user_fields ?? {}).map(([name, kind]) => new kinds[kind as keyof typeof kinds](name)),
        ...(options.user_data_timeout_ms ? { userDataTimeout: options.user_data_timeout_ms } : {}),
        keys: (options.keys ?? []).map((key: string) => Buffer.from(key, 'hex')),
        ...(options.user_key ? { userKey: Buffer.from(options.user_key, 'hex') } : {}),
        seal: options.seal ?? false,
        timeout: 30_000, // the machine may be busy: the program of Go waits as long
        logger: () => undefined,
      });
      this.#clients.set(key, sessions);
    }
    return sessions;
  }

  async step(request: StepRequest): Promise<StepReply> {
    const values: Json[] = [];
    const name = request.request;
    let open = name === undefined ? undefined : this.#open.get(name);
    let outcome = 'ok';
    let error: string | undefined;
    try {
      if (!open) {
        const sessions = this.#client(request.client);
        const cookie = request.token === undefined ? '' : `${sessions.config.cookie.name}=${request.token}`;
        const session = sessions.open(cookie, [], { headerSent: false, crossOrigin: () => undefined });
        open = { sessions, session, sent: false };
        if (name !== undefined) this.#open.set(name, open);
        await session.read();
      }
      for (const action of request.do ?? []) {
        const value = await act(open.sessions, open.session, action);
        if (value !== undefined) values.push(value);
      }
      if (request.open) return { id: request.id, outcome, values, session: open.session.handle ?? null };
      await open.session.commitBeforeHeader(true);
    } catch (failure) {
      error = failure instanceof Error ? (failure.stack ?? String(failure)) : String(failure);
      outcome = isSessionError(failure) && outcomes.has(failure.code) ? failure.code : 'other';
    }
    if (name !== undefined) this.#open.delete(name);
    if (!open) return { id: request.id, outcome, values, ...(error ? { error } : {}) };
    const { session, sessions } = open;
    session.discard();
    const reply: Json = { id: request.id, outcome, values, session: session.handle ?? null };
    if (error) reply.error = error;
    // The runner keeps one token for each visitor, as if both cookies were one.
    const cookies = setCookies(sessions, session).map((cookie) => cookie.slice(cookie.indexOf('=') + 1).split(';')[0]!);
    const set = cookies.find((text) => text !== '');
    if (set !== undefined) reply.token = set;
    else if (cookies.length > 0) reply.token = null;
    await session.touch();
    return reply;
  }

  async close(): Promise<void> {
    for (const sessions of this.#clients.values()) await sessions.close();
  }
}

async function act(sessions: Sessions, session: Session, [word, ...args]: Json[]): Promise<Json> {
  const name = String(args[0] ?? '');
  switch (word) {
    case 'renew':
      return session.renew();
    case 'sign in': {
      const login = args[0];
      return session.signIn({
        user: login.user,
        ...(login.methods ? { methods: login.methods } : {}),
        ...(login.level !== undefined ? { level: login.level } : {}),
        device: login.device ?? '',
        userAgent: login.user_agent ?? '',
        address: login.address ?? '',
        ...(login.remember_ms !== undefined ? { remember: login.remember_ms } : {}),
        ...(login.lifetime_ms !== undefined ? { lifetime: login.lifetime_ms } : {}),
        ...(login.began_ago_ms !== undefined ? { began: new Date(Date.now() - login.began_ago_ms) } : {}),
      } as Login);
    }
    case 'sign out':
      return session.signOut();
    case 'user':
      return session.user ?? null;
    case 'info': {
      const info: Partial<SessionInfo> = session.info ?? {};
      return {
        user: info.user ?? '', methods: info.methods ?? [], level: info.level ?? 0, device: info.device ?? '',
        user_agent: info.userAgent ?? '', address: info.address ?? '',
      };
    }
    case 'lifetime': {
      const info = session.info!;
      return info.deadline.getTime() - info.created.getTime();
    }
    case 'sessions':
    case 'count sessions': {
      const handles: string[] = [];
      for await (const info of sessions.list(name)) handles.push(info.handle);
      return word === 'sessions' ? handles : new Set(handles).size;
    }
    case 'revoke':
      return sessions.revoke(name, args[1]);
    case 'revoke user':
      return sessions.revokeUser(name, args[1] ?? []);
    case 'revoke everybody':
      return sessions.revokeEverybody();
    case 'delete user':
      return sessions.deleteUser(name);
    case 'data of': {
      const data = await sessions.userData(name);
      const value = await actOnFields(data, args.slice(1));
      await data.commit();
      return value;
    }
    case 'data':
      return actOnFields(await session.userData(), args);
    default:
      return actOnFields(session, [word, ...args]);
  }
}

/** Makes an action on the fields of a session, or of the data of a user. */
async function actOnFields(data: FieldSet, [word, ...args]: Json[]): Promise<Json> {
  const name = String(args[0] ?? '');
  const colon = name.indexOf(':');
  const field = colon < 0 ? name : name.slice(0, colon);
  const key = colon < 0 ? undefined : name.slice(colon + 1);
  const value = () => new Value<Json>(field);
  const map = () => new MapField<Json>(field);
  switch (word) {
    case 'get':
      return (key === undefined ? value().get(data) : map().get(data, key)) ?? null;
    case 'has':
      return (key === undefined ? value().get(data) : map().get(data, key)) !== undefined;
    case 'set':
      return key === undefined ? value().set(data, args[1]) : map().set(data, key, args[1]);
    case 'set broken':
      return key === undefined ? value().set(data, '\ud800') : map().set(data, key, '\ud800');
    case 'unset':
      return key === undefined ? value().delete(data) : map().delete(data, key);
    case 'take':
      return (await (key === undefined ? value().take(data) : map().take(data, key))) ?? null;
    case 'append': {
      const append = (list: Json[] | undefined) => [...(list ?? []), args[1]];
      return key === undefined ? value().update(data, append) : map().update(data, key, append);
    }
    case 'count':
      return (key === undefined ? new Counter(field).getBigInt(data) : new Counters(field).getBigInt(data, key)).toString();
    case 'add': {
      const n = BigInt(args[1]);
      return key === undefined ? new Counter(field).add(data, n) : new Counters(field).add(data, key, n);
    }
    case 'add within': {
      const [n, least, most] = args.slice(1, 4).map((arg) => BigInt(arg)) as [bigint, bigint, bigint];
      const sum = key === undefined
        ? await new Counter(field).addWithin(data, n, least, most)
        : await new Counters(field).addWithin(data, key, n, least, most, args[4]);
      return sum.toString();
    }
    case 'set within':
      return map().setWithin(data, key!, args[1], args[2]);
    case 'entries':
      return Object.fromEntries(new MapField<Json>(name).entries(data));
    case 'counts':
      return Object.fromEntries([...new Counters(name).entries(data)].map(([k, n]) => [k, n.toString()]));
    case 'clear':
      return args.length === 0 ? data.clear() : new MapField<Json>(name).clear(data);
    case 'commit':
      return data.commit();
    default:
      throw new Error(`there is no action ${String(word)}`);
  }
}
