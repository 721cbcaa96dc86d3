import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';

const running = new Set<ChildProcess>();
const folders = new Set<string>();
const cleanUp = () => {
  for (const child of running) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
};
process.on('exit', cleanUp);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));

/** Returns a free port on the loopback interface. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** A Redis server of the tests. */
export class Server {
  #child: ChildProcess | undefined;
  readonly #dir = mkdtempSync(join(tmpdir(), 'coatcheck-node-'));

  private constructor(
    readonly port: number,
    private readonly options: readonly string[],
  ) {}

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  static async start(options: readonly string[] = []): Promise<Server> {
    const server = new Server(await freePort(), options);
    await server.up();
    return server;
  }

  async up(): Promise<void> {
    const child = spawn(
      'redis-server',
      ['--port', String(this.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', this.#dir,
        '--maxmemory-policy', 'noeviction', ...this.options],
      { stdio: 'ignore' },
    );
    folders.add(this.#dir);
    child.unref(); // the process may end before it, and kills it then
    this.#child = child;
    running.add(child);
    const redis = new Redis(this.port, '127.0.0.1', { retryStrategy: () => 20, maxRetriesPerRequest: 200 });
    redis.on('error', () => undefined);
    await redis.ping();
    redis.disconnect();
  }

  async down(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.#child = undefined;
    child.ref();
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
    running.delete(child);
  }

  async stop(): Promise<void> {
    await this.down();
    rmSync(this.#dir, { recursive: true, force: true });
  }
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
