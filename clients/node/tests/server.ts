import { spawn, type ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';

const running = new Set<ChildProcess>();
const folders = new Set<string>();
const cleanUp = () => {
  for (const child of running) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
};
process.on('exit', cleanUp);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));

/**
 * Returns a port that is probably free. The system gives connections no port below 32,768. The bus
 * of a Cluster, whose port is greater by 10,000, needs one below that, too.
 */
const somePort = () => randomInt(11_000, 22_000);

/** A Redis server of the tests, or Sentinel. */
export class Server {
  #child: ChildProcess | undefined;
  readonly #dir = mkdtempSync(join(tmpdir(), 'coatcheck-node-'));

  private constructor(
    readonly port: number,
    private readonly options: readonly string[],
    private readonly watched: Server | undefined,
  ) {
    folders.add(this.#dir);
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  static start(options: readonly string[] = []): Promise<Server> {
    return Server.#start(options, undefined);
  }

  /**
   * Starts Sentinel. It calls the server `primary`, and starts a failover on request only: a server
   * that was stopped for some seconds stays the primary.
   */
  static startSentinel(primary: Server): Promise<Server> {
    return Server.#start(['--sentinel'], primary);
  }

  static async #start(options: readonly string[], watched: Server | undefined): Promise<Server> {
    for (let attempt = 0; attempt < 20; attempt++) {
      const server = new Server(somePort(), options, watched);
      if (await server.#launch()) return server;
      await server.stop();
    }
    throw new Error('no server could be started');
  }

  /** Starts the server again, on its port. */
  async up(): Promise<void> {
    if (!(await this.#launch())) throw new Error(`another process has taken port ${this.port}`);
  }

  /** Starts the server and waits until it answers. It returns false if the port is not free. */
  async #launch(): Promise<boolean> {
    const child = spawn('redis-server', [...this.#arguments(), ...this.options], { stdio: 'ignore' });
    child.unref(); // the process may end before it, and kills it then
    this.#child = child;
    running.add(child);
    const redis = new Redis(this.port, '127.0.0.1', { retryStrategy: () => 20, maxRetriesPerRequest: null });
    redis.on('error', () => undefined);
    try {
      return await new Promise<boolean>((resolve, reject) => {
        child.once('error', reject).once('exit', () => resolve(false));
        redis.info('server').then(
          (text) => text.includes(`process_id:${child.pid}\r`) && resolve(true), // else `child` exits
          () => undefined,
        );
      });
    } finally {
      redis.disconnect();
    }
  }

  #arguments(): string[] {
    if (!this.watched) {
      return ['--port', String(this.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', this.#dir,
        '--maxmemory-policy', 'noeviction'];
    }
    const file = join(this.#dir, 'sentinel.conf');
    writeFileSync(file, `port ${this.port}
bind 127.0.0.1
dir ${this.#dir}
sentinel monitor primary 127.0.0.1 ${this.watched.port} 1
sentinel down-after-milliseconds primary 600000
`);
    return [file];
  }

  async down(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.#child = undefined;
    child.ref();
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }
    running.delete(child);
  }

  async stop(): Promise<void> {
    await this.down();
    rmSync(this.#dir, { recursive: true, force: true });
    folders.delete(this.#dir);
  }
}

/** Calls `f` until it returns something. It allows for a machine that is slow. */
export async function eventually<T>(what: string, f: () => Promise<T | undefined>): Promise<T> {
  let failure: unknown;
  for (const deadline = performance.now() + 120_000; performance.now() < deadline; await sleep(20)) {
    try {
      const result = await f();
      if (result !== undefined) return result;
    } catch (error) {
      failure = error;
    }
  }
  throw new Error(`it never happened: ${what}`, { cause: failure });
}

let shared: Promise<string> | undefined;

/**
 * Returns the URL of the server that the tests of a file share: COATCHECK_TEST_REDIS, or its own.
 */
export function sharedUrl(): Promise<string> {
  shared ??= (async () => {
    const given = process.env['COATCHECK_TEST_REDIS'];
    return given ?? (await Server.start()).url;
  })();
  return shared;
}

let namespaces = 0;

/** Returns a namespace that nobody has used. */
export function freshNamespace(): string {
  return `node.${process.pid}.${Date.now().toString(36)}.${namespaces++}`;
}
