import { isUtf8 } from 'node:buffer';
import type { Cluster, Redis as IoRedis } from 'ioredis';
import type {
  createClient, createCluster, createSentinel,
} from 'redis';

/** A reply of the server. Errors are values, so that one failed command hides no other reply. */
export type Reply = string | number | null | Error | Reply[];

/** Sends commands to one server. */
export interface Server {
  /** Sends all commands at once. It rejects with a NotSentError if no connection is ready. */
  send(commands: readonly (readonly string[])[]): Promise<Reply[]>;
}

/** What this package needs of a Redis client. `ioredis()` and `nodeRedis()` make one. */
export interface Redis {
  /** Whether keys of different slots may lie on different servers. */
  readonly cluster: boolean;
  /** Sends all commands at once to the primary of the key's slot. TIME goes there, too. */
  send(key: string, commands: readonly (readonly string[])[]): Promise<Reply[]>;
  /** Returns all primaries. */
  primaries(): Promise<Server[]>;
  /**
   * Replaces the connection to the primary of the key's slot, because it has not replied in time.
   */
  reconnect(key: string): void;
  /** Calls the listener each time when a connection was made again. */
  onReconnect(listener: () => void): void;
  /** Closes the connections. */
  close(): Promise<void>;
}

/** Nothing was sent: no connection is ready. */
export class NotSentError extends Error {
  constructor(
    message: string,
    /** How many attempts to connect have failed in a row. Default: so many that Redis is down. */
    readonly attempts = Infinity,
  ) {
    super(message);
  }
}

/** Returns whether an error came from the server, as the reply to a command. */
export function isServerError(error: Error): boolean {
  return /^[A-Z]+( |$)/.test(error.message) && !(error instanceof NotSentError);
}

/** A reply has text that is not UTF-8. The command was run. */
export class InvalidTextError extends Error {
  constructor() {
    super('a reply is not UTF-8');
  }
}

/** Decodes the texts of a reply. Redis clients put U+FFFD for what is not UTF-8, and hide it. */
function decoded(reply: unknown): Reply {
  if (Buffer.isBuffer(reply)) {
    if (!isUtf8(reply)) throw new InvalidTextError();
    return reply.toString();
  }
  if (!Array.isArray(reply)) return reply as Reply;
  for (let i = 0; i < reply.length; i++) reply[i] = decoded(reply[i]);
  return reply as Reply[];
}

/**
 * Returns an error without the arguments of its command: ioredis keeps them, and logs show them.
 * ioredis also hides the server's error after it has followed too many.
 */
function clean(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  if ('command' in error) delete error.command;
  const last = /^Too many Cluster redirections\. Last error: (?:ReplyError: )?([A-Z]+ .*)$/s.exec(error.message);
  return last ? new Error(last[1]) : error;
}

/** Waits for all replies. A command that failed has its error as the reply. */
function replies(sent: readonly Promise<unknown>[]): Promise<Reply[]> {
  return new Promise((resolve) => {
    const all = new Array<Reply>(sent.length);
    let left = sent.length;
    const done = (i: number, reply: Reply) => {
      all[i] = reply;
      if (--left === 0) resolve(all);
    };
    sent.forEach((promise, i) => {
      promise.then(
        (reply) => {
          let text: Reply;
          try {
            text = decoded(reply);
          } catch (error) {
            text = clean(error);
          }
          done(i, text);
        },
        (error: unknown) => done(i, clean(error)),
      );
    });
  });
}

const reconnectDelay = (attempt: number) => Math.min(10 * 2 ** Math.min(attempt, 6), 500);

/** Waits until the first connection is made, or until it has failed. Later calls return at once. */
class Start {
  #promise: Promise<unknown> | undefined;

  constructor(private readonly connect: () => Promise<unknown>) {}

  wait(): Promise<unknown> {
    this.#promise ??= this.connect().catch(() => {
      this.#promise = undefined; // the next call tries again
    });
    return this.#promise;
  }

  /** Makes the next call connect again. */
  again(): void {
    this.#promise = undefined;
  }

  /** Waits until no attempt to make the first connection is under way. */
  async idle(): Promise<void> {
    await this.#promise;
  }
}

/** Counts the attempts to connect that have failed since a connection was ready. */
class FailedAttempts {
  count = 0;

  constructor(client: { on(event: 'error' | 'ready', listener: () => void): unknown }) {
    client.on('error', () => this.count++); // each command reports its own error
    client.on('ready', () => (this.count = 0));
  }
}

// ioredis

/** A connection of ioredis: to one server, through Sentinel, or to a Cluster. */
export type IoRedisClient = IoRedis | Cluster;

/**
 * Uses the options of a client of ioredis, for one server, Sentinel or Cluster. It makes its own
 * connections: with its defaults, ioredis sends a command again after a connection broke, so an
 * addition could count twice.
 */
export function ioredis(client: IoRedisClient): Redis {
  return client.isCluster ? new IoCluster(client as Cluster) : new IoSingle(client as IoRedis);
}

const ioOptions = {
  disconnectTimeout: 10, // how long a connection that is given up may take to close
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  enableOfflineQueue: false,
  retryStrategy: reconnectDelay,
  // 1: connect again, and do not send the command again.
  reconnectOnError: (error: Error): 1 | false => (error.message.startsWith('READONLY') ? 1 : false),
} as const;

const ioCall = (client: { callBuffer(...args: [string, ...string[]]): Promise<unknown> }, command: readonly string[]) =>
  client.callBuffer(...(command as [string, ...string[]]));

const isReady = (client: IoRedisClient) => client.status === 'ready';

class IoSingle implements Redis, Server {
  readonly cluster = false;
  readonly #client: IoRedis;
  readonly #start: Start;
  readonly #failed: FailedAttempts;

  constructor(client: IoRedis) {
    this.#client = client.duplicate({ ...ioOptions, keyPrefix: '', lazyConnect: true, enableAutoPipelining: false });
    this.#failed = new FailedAttempts(this.#client);
    this.#start = new Start(() => this.#client.connect());
  }

  async send(first: string | readonly (readonly string[])[], rest?: readonly (readonly string[])[]): Promise<Reply[]> {
    const commands = typeof first === 'string' ? rest! : first;
    if (!isReady(this.#client)) {
      await this.#start.wait();
      if (!isReady(this.#client)) throw new NotSentError(`Redis is not connected: ${this.#client.status}`, this.#failed.count);
    }
    return replies(commands.map((command) => ioCall(this.#client, command)));
  }

  primaries(): Promise<Server[]> {
    return Promise.resolve([this]);
  }

  reconnect(): void {
    if (isReady(this.#client)) this.#client.disconnect(true);
  }

  onReconnect(listener: () => void): void {
    this.#client.on('ready', listener);
  }

  close(): Promise<void> {
    this.#client.disconnect();
    return Promise.resolve();
  }
}

class IoCluster implements Redis {
  readonly cluster = true;
  readonly #client: Cluster;
  readonly #start: Start;

  constructor(client: Cluster) {
    const { redisOptions, ...options } = client.options;
    const { enableOfflineQueue: _queue, retryStrategy: _strategy, ...node } = ioOptions;
    this.#client = client.duplicate([], {
      ...options,
      keyPrefix: '',
      lazyConnect: true,
      enableOfflineQueue: false,
      enableAutoPipelining: false,
      scaleReads: 'master',
      retryDelayOnFailover: 0, // else it sends commands again after a connection broke
      clusterRetryStrategy: reconnectDelay,
      redisOptions: { ...redisOptions, ...node, keyPrefix: '' },
    });
    this.#client.on('error', () => undefined);
    this.#start = new Start(() => this.#client.connect());
  }

  async #ready(): Promise<void> {
    if (isReady(this.#client)) return;
    await this.#start.wait();
    if (!isReady(this.#client)) throw new NotSentError(`the Cluster is not connected: ${this.#client.status}`);
  }

  async send(key: string, commands: readonly (readonly string[])[]): Promise<Reply[]> {
    await this.#ready();
    return replies(
      commands.map((command) => ioCall(command[0] === 'TIME' ? this.#primaryOf(key) : this.#client, command)),
    );
  }

  #primaryOf(key: string): IoRedis | Cluster {
    const address = this.#client.slots[slotOf(key)]?.[0];
    const nodes = this.#client.nodes('master');
    return nodes.find((node) => `${node.options.host}:${node.options.port}` === address) ?? nodes[0] ?? this.#client;
  }

  async primaries(): Promise<Server[]> {
    await this.#ready();
    return this.#client.nodes('master').map((node) => ({
      send: (commands) => replies(commands.map((command) => ioCall(node, command))),
    }));
  }

  reconnect(key: string): void {
    const node = this.#primaryOf(key);
    if (node !== this.#client) node.disconnect(true);
  }

  onReconnect(listener: () => void): void {
    this.#client.on('ready', listener);
    this.#client.on('+node', listener);
  }

  close(): Promise<void> {
    this.#client.disconnect();
    return Promise.resolve();
  }
}

// node-redis

type NodeSingleClient = ReturnType<typeof createClient>;
type NodeClusterClient = ReturnType<typeof createCluster>;
type NodeSentinelClient = ReturnType<typeof createSentinel>;

/** The parts of the clients of node-redis that are used here. Modules and RESP versions vary. */
interface NodeConnection {
  sendCommand(args: readonly string[], options: typeof asBuffers): Promise<unknown>;
  isOpen: boolean;
  isReady: boolean;
  connect(): Promise<unknown>;
  destroy(): void;
}

/**
 * Bulk strings, which have the RESP type 36 ("$"), come as buffers. The store has a timeout of its
 * own, for all commands of a call: that of node-redis makes an AbortSignal for each command.
 */
const asBuffers = { typeMapping: { 36: Buffer }, timeout: undefined as unknown as number } as const;

/** A client of node-redis: of `createClient`, `createSentinel` or `createCluster`. */
export type NodeRedisClient =
  | Pick<NodeSingleClient, 'duplicate' | 'options'>
  | Pick<NodeClusterClient, 'duplicate' | 'masters'>
  | Pick<NodeSentinelClient, 'duplicate' | 'getSentinelNode'>;

/**
 * Uses the options of a client of node-redis, for one server, Sentinel or Cluster. It makes its own
 * connections, because this package needs replies of RESP2, and errors instead of a queue while
 * Redis is down.
 */
export function nodeRedis(client: NodeRedisClient): Redis {
  if ('masters' in client) return new NodeCluster(client as unknown as NodeClusterClient);
  if ('getSentinelNode' in client) return new NodeSentinel(client as unknown as NodeSentinelClient);
  return new NodeSingle(client as unknown as NodeSingleClient);
}

class NodeSingle implements Redis, Server {
  readonly cluster = false;
  readonly #client: NodeSingleClient;
  readonly #start: Start;
  readonly #failed: FailedAttempts;

  constructor(client: NodeSingleClient) {
    const { clientSideCache: _cache, socket, ...options } = client.options ?? {};
    this.#client = client.duplicate({
      ...options,
      RESP: 2,
      clientSideCache: undefined,
      maintNotifications: 'disabled', // they need RESP3
      disableOfflineQueue: true,
      keyPrefix: '',
      socket: { ...socket, reconnectStrategy: reconnectDelay },
    } as never) as unknown as NodeSingleClient;
    this.#failed = new FailedAttempts(this.#client);
    this.#start = new Start(() => {
      // The promise of connect() waits for as long as Redis is down.
      const failed = new Promise((resolve) => this.#client.once('error', resolve));
      return Promise.race([this.#client.connect(), failed]);
    });
  }

  async send(first: string | readonly (readonly string[])[], rest?: readonly (readonly string[])[]): Promise<Reply[]> {
    const commands = typeof first === 'string' ? rest! : first;
    if (!this.#client.isReady) {
      await this.#start.wait();
      if (!this.#client.isReady) throw new NotSentError('Redis is not connected', this.#failed.count);
    }
    const client = this.#client as unknown as NodeConnection;
    return replies(commands.map((command) => client.sendCommand(command, asBuffers)));
  }

  primaries(): Promise<Server[]> {
    return Promise.resolve([this]);
  }

  reconnect(): void {
    if (!this.#client.isReady) return; // it connects already
    this.#client.destroy();
    this.#start.again();
  }

  onReconnect(listener: () => void): void {
    this.#client.on('ready', listener);
  }

  async close(): Promise<void> {
    await this.#start.idle();
    this.#client.on('ready', () => this.#client.destroy()); // destroy() misses a connection that is being made
    if (this.#client.isOpen) this.#client.destroy();
  }
}

class NodeSentinel implements Redis, Server {
  readonly cluster = false;
  readonly #client: NodeSentinelClient;
  readonly #start: Start;

  constructor(client: NodeSentinelClient) {
    this.#client = client.duplicate({ RESP: 2, clientSideCache: undefined, maintNotifications: 'disabled' } as never) as unknown as NodeSentinelClient;
    this.#client.on('error', () => undefined);
    this.#start = new Start(async () => {
      if (this.#client.isOpen) await this.#client.destroy();
      await this.#client.connect();
    });
  }

  async send(first: string | readonly (readonly string[])[], rest?: readonly (readonly string[])[]): Promise<Reply[]> {
    const commands = typeof first === 'string' ? rest! : first;
    await this.#start.wait();
    if (!this.#client.isReady) throw new NotSentError('Sentinel is not connected');
    return replies(
      commands.map((command) => {
        // node-redis makes the call again after its connection broke, when the server may have run
        // it. So the second call fails with the error of the first.
        let lost: Error | undefined;
        return this.#client._execute(false, async (node) => {
          if (lost) throw lost;
          try {
            return await (node as unknown as NodeConnection).sendCommand(command, asBuffers);
          } catch (error) {
            if (error instanceof Error && !isServerError(error)) lost = error;
            throw error;
          }
        });
      }),
    );
  }

  primaries(): Promise<Server[]> {
    return Promise.resolve([this]);
  }

  reconnect(): void {
    if (!this.#client.isOpen) return;
    this.#start.again(); // the next call waits for the new connections
    void this.#start.wait();
  }

  onReconnect(listener: () => void): void {
    this.#client.on('topology-change', listener);
  }

  async close(): Promise<void> {
    if (this.#client.isOpen) await this.#client.destroy();
  }
}

class NodeCluster implements Redis {
  readonly cluster = true;
  readonly #client: NodeClusterClient;
  readonly #start: Start;
  #closed: (NodeConnection | undefined)[] | undefined; // the nodes that were closed

  constructor(client: NodeClusterClient) {
    this.#client = client.duplicate({
      RESP: 2, clientSideCache: undefined, maintNotifications: 'disabled', useReplicas: false, keyPrefix: '',
    } as never) as unknown as NodeClusterClient;
    this.#client.on('error', () => undefined);
    this.#client.on('node-ready', () => {
      if (!this.#closed) return;
      // destroy() has missed a connection that was being made. It may be one to a node that
      // node-redis has learned of meanwhile.
      for (const node of [...this.#closed, ...this.#nodes()]) if (node?.isReady) node.destroy();
    });
    this.#start = new Start(() => this.#client.connect());
  }

  async send(key: string, commands: readonly (readonly string[])[]): Promise<Reply[]> {
    await this.#ready();
    return replies(
      commands.map((command) =>
        command[0] === 'TIME'
          ? this.#primaryOf(key).then((node) => node.sendCommand(command, asBuffers))
          : this.#client.sendCommand(key, false, command as string[], asBuffers),
      ),
    );
  }

  async #ready(): Promise<void> {
    await this.#start.wait();
    if (!this.#client.isOpen) throw new NotSentError('the Cluster is not connected');
  }

  async #primaryOf(key: string): Promise<NodeConnection> {
    const node = this.#client.slots[slotOf(key)]?.master ?? this.#client.masters[0];
    if (!node) throw new NotSentError('the Cluster has no primary for the key');
    return (await this.#client.nodeClient(node)) as unknown as NodeConnection;
  }

  async primaries(): Promise<Server[]> {
    await this.#ready();
    return Promise.all(
      this.#client.masters.map(async (master) => {
        const node = (await this.#client.nodeClient(master)) as unknown as NodeConnection;
        return {
          send: (commands: readonly (readonly string[])[]) =>
            replies(commands.map((command) => node.sendCommand(command, asBuffers))),
        };
      }),
    );
  }

  reconnect(key: string): void {
    this.#primaryOf(key)
      .then(async (node) => {
        node.destroy();
        await node.connect();
      })
      .catch(() => undefined); // the next command reports it
  }

  onReconnect(listener: () => void): void {
    this.#client.on('node-ready', listener);
  }

  #nodes(): (NodeConnection | undefined)[] {
    return this.#client.masters.map(({ client }) => client as unknown as NodeConnection | undefined);
  }

  async close(): Promise<void> {
    await this.#start.idle();
    this.#closed = this.#nodes();
    if (this.#client.isOpen) this.#client.destroy();
    else for (const node of this.#closed) if (node?.isOpen) node.destroy(); // not all of them answered
  }
}

/** Returns the slot of a key with a hash tag: CRC16 of the tag. */
function slotOf(key: string): number {
  const open = key.indexOf('{');
  const close = open < 0 ? -1 : key.indexOf('}', open + 1);
  const tag = close > open + 1 ? key.slice(open + 1, close) : key;
  let crc = 0;
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8;
    for (let i = 0; i < 8; i++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
  }
  return crc % 16384;
}
