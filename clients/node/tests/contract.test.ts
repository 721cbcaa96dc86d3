import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, Redis } from 'ioredis';
import { libraries } from './clients.js';
import { Server, freshNamespace, sharedUrl } from './server.js';
import { Steps, type StepReply, type StepRequest } from './steps.js';

type Json = any; // eslint-disable-line @typescript-eslint/no-explicit-any

const folder = new URL('../../../format/contract/', import.meta.url);
const files = ['fields', 'limits', 'sessions', 'users', 'user-data', 'hostile', 'together'];

interface Visitor {
  token: string | undefined;
  handle: string | undefined;
}

/** Runs the steps of a client whose clock is ahead: in a process of its own. */
class ShiftedSteps {
  readonly #child;
  readonly #waiting = new Map<number, { resolve: (reply: StepReply) => void; reject: (error: Error) => void }>();

  constructor(ms: number) {
    const shift = `const now = Date.now; Date.now = () => now() + ${ms};
      globalThis.Date = new Proxy(Date, { construct: (D, args) => new D(...(args.length ? args : [now() + ${ms}])) });`;
    this.#child = spawn(
      process.execPath,
      ['--import', `data:text/javascript,${encodeURIComponent(shift)}`, new URL('stepprogram.js', import.meta.url).pathname],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    this.#child.once('exit', (code, signal) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the program has ended: ${code ?? signal}`));
    });
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      const reply = JSON.parse(line) as StepReply;
      this.#waiting.get(reply.id)?.resolve(reply);
      this.#waiting.delete(reply.id);
    });
  }

  step(request: StepRequest): Promise<StepReply> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(request.id, { resolve, reject });
      this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    });
  }

  close(): void {
    this.#child.kill();
  }
}

class Run {
  readonly ns = freshNamespace();
  readonly visitors = new Map<string, Visitor>();
  readonly steps = new Steps();
  readonly shifted = new Map<number, ShiftedSteps>();
  waited = 0; // milliseconds, as the steps say
  #id = 0;

  constructor(
    readonly scenario: Json,
    readonly url: string,
    readonly redis: Redis | Cluster,
  ) {}

  visitor(name: string): Visitor {
    let visitor = this.visitors.get(name);
    if (!visitor) this.visitors.set(name, (visitor = { token: undefined, handle: undefined }));
    return visitor;
  }

  key(name: string): string {
    const handle = this.visitor(name).handle ?? '';
    return `${this.ns}:{${handle.slice(0, 4)}}:s:${handle.slice(5)}`;
  }

  /** Fills in the placeholders of a text, a list or an object. */
  fill<T>(value: T, i?: number): T {
    if (typeof value === 'string') {
      return value.replace(/<(ns|i|(token|handle|key) ([^<> ]+))>/g, (all, word: string, kind: string, name: string) => {
        if (word === 'ns') return this.ns;
        if (word === 'i') return i === undefined ? all : String(i);
        if (kind === 'token') return this.visitor(name).token ?? '';
        return kind === 'handle' ? (this.visitor(name).handle ?? '') : this.key(name);
      }) as T;
    }
    if (Array.isArray(value)) return value.map((member: unknown) => this.fill(member, i)) as T;
    if (typeof value === 'object' && value !== null) {
      return Object.fromEntries(Object.entries(value).map(([name, member]) => [this.fill(name, i), this.fill(member, i)])) as T;
    }
    return value;
  }

  send(step: Json, as: string | undefined, on: string, i?: number): Promise<StepReply> {
    const { scenario } = this;
    const own = scenario.clients?.[on] ?? {};
    const names = Object.keys(scenario.clients ?? { a: {} });
    const client = {
      name: on, url: this.url, namespace: this.ns, library: libraries[names.indexOf(on) % libraries.length],
      ...scenario.options, ...own,
    };
    const token = as === undefined ? undefined : this.visitor(as).token;
    const request: StepRequest = {
      id: ++this.#id, client, do: this.fill(step.do ?? [], i),
      ...(token === undefined ? {} : { token }),
      ...(step.request === undefined ? {} : { request: step.request }),
      ...(step.open ? { open: true } : {}),
    };
    if (client.clock_ms === undefined) return this.steps.step(request);
    let program = this.shifted.get(client.clock_ms);
    if (!program) this.shifted.set(client.clock_ms, (program = new ShiftedSteps(client.clock_ms)));
    return program.step(request);
  }

  update(as: string | undefined, reply: StepReply): void {
    if (as === undefined || reply.token === undefined) return;
    const visitor = this.visitor(as);
    visitor.token = reply.token ?? undefined;
    if (reply.token !== null && reply.session) visitor.handle = reply.session;
  }

  /** Returns what is wrong with a reply, or undefined. */
  wrong(want: Json, reply: StepReply): string | undefined {
    const allowed = [want?.outcome ?? 'ok'].flat();
    if (!allowed.includes(reply.outcome)) return `outcome ${reply.outcome}, want ${allowed.join(' or ')}: ${reply.error ?? ''}`;
    if (want?.values !== undefined && reply.outcome === 'ok') {
      try {
        assert.deepEqual(reply.values, want.values);
      } catch {
        return `values ${JSON.stringify(reply.values)}, want ${JSON.stringify(want.values)}`;
      }
    }
    if (want?.session !== undefined) {
      const got = typeof want.session === 'boolean' ? (reply.session ?? null) !== null : reply.session;
      if (got !== want.session) return `session ${String(reply.session)}, want ${String(want.session)}`;
    }
    if (want?.token !== undefined) {
      const got = reply.token === undefined ? 'none' : reply.token === null ? 'deleted' : 'set';
      if (got !== want.token) return `token ${got}, want ${String(want.token)}`;
    }
    return undefined;
  }

  async hash(name: string): Promise<Record<string, string>> {
    const hash = await this.redis.hgetall(this.key(name));
    // A touch changes the revision and the time of the last use.
    const s = hash['@s'];
    if (s) hash['@s'] = s.slice(0, 24) + s.slice(36, 44);
    return hash;
  }

  async step(step: Json): Promise<void> {
    if (step.wait_ms !== undefined) {
      await sleep(step.wait_ms);
      this.waited += step.wait_ms as number;
    } else if (step.redis) {
      await this.attempt(step, () => this.command(step));
    } else if (step.token !== undefined) {
      let text = this.fill(step.text as string);
      if (step.cut) text = text.slice(step.cut[0], step.cut[1]);
      this.visitor(step.token).token = this.fill((step.before ?? '') as string) + text;
    } else if (step['at once']) {
      await this.atOnce(step);
    } else {
      await this.attempt(step, () => this.request(step));
    }
  }

  /** Makes a step, and again if the step asks for that, until it comes out as wanted. */
  async attempt(step: Json, make: () => Promise<void>): Promise<void> {
    const end = performance.now() + (step.repeat ? 30_000 : 0);
    while (performance.now() < end) {
      try {
        return await make();
      } catch {
        await sleep(10);
      }
    }
    await make();
  }

  async request(step: Json): Promise<void> {
    const before = step.unchanged === undefined ? undefined : await this.hash(step.unchanged);
    const want = this.fill(step.want);
    const reply = await this.send(step, step.as, step.on ?? 'a');
    const wrong = this.wrong(want, reply);
    assert.equal(wrong, undefined, wrong);
    if (before) assert.deepEqual(await this.hash(step.unchanged), before);
    this.update(step.as, reply);
  }

  async command(step: Json): Promise<void> {
    const [name, ...args] = this.fill(step.redis as string[]).map(String);
    const targets = step.everywhere && this.redis instanceof Cluster ? this.redis.nodes('master') : [this.redis];
    for (const target of targets) {
      const reply = await (target as Redis).call(name!, ...args).catch((error: unknown) => String(error));
      if (step.want !== undefined) assert.deepEqual(reply, this.fill(step.want));
    }
  }

  async atOnce(step: Json): Promise<void> {
    const sent: { as: string | undefined; reply: Promise<StepReply> }[] = [];
    const wants: Json[] = this.fill(step.want ?? []);
    for (const element of step['at once']) {
      let i = 0;
      const on = [element.on ?? 'a'].flat();
      for (const as of Array.isArray(element.as) ? element.as : [element.as]) {
        for (let n = 0; n < (element.times ?? 1); n++, i++) {
          sent.push({ as, reply: this.send(element, as, on[i % on.length], i) });
        }
      }
    }
    const replies = await Promise.all(sent.map(({ reply }) => reply));
    const matches = wants.map((want) => replies.filter((reply) => this.wrong(want, reply) === undefined));
    for (const reply of replies) {
      if (wants.length > 0) assert.ok(matches.some((list) => list.includes(reply)), `no entry for ${JSON.stringify(reply)}`);
    }
    for (const [i, want] of wants.entries()) {
      if (want.times === undefined) continue;
      const [least, most] = [want.times, want.times].flat().slice(0, 2).length === 2 && Array.isArray(want.times) ? want.times : [want.times, want.times];
      const n = matches[i]!.length;
      assert.ok(n >= least && n <= most, `${n} replies match ${JSON.stringify(want)}: ${JSON.stringify(replies.map((r) => [r.outcome, r.error]).slice(0, 3))}`);
    }
    for (const [i, { as }] of sent.entries()) this.update(as, replies[i]!);
    for (const [i, want] of wants.entries()) {
      if (!want.counted) continue;
      const [name, counter] = want.counted;
      const first = Object.keys(this.scenario.clients ?? { a: {} })[0]!;
      const reply = await this.send({ do: [['count', counter]] }, name, first);
      assert.equal(reply.values[0], String(matches[i]!.length), 'the count');
    }
    if (step.distinct) {
      const seen = replies.map((reply) => JSON.stringify(reply.values));
      assert.equal(new Set(seen).size, seen.length);
    }
  }

  async close(): Promise<void> {
    await this.steps.close();
    for (const program of this.shifted.values()) program.close();
  }
}

const given = process.env['COATCHECK_TEST_REDIS'];
const connections: (Redis | Cluster)[] = [];
after(() => {
  for (const redis of connections) redis.disconnect();
});

function connect(url: string): Redis | Cluster {
  const cluster = /^redis-cluster:\/\/(.*)$/.exec(url);
  const redis = cluster
    ? new Cluster(cluster[1]!.split(',').map((address) => ({ host: address.split(':')[0]!, port: Number(address.split(':')[1]) })))
    : new Redis(url);
  connections.push(redis);
  return redis;
}

async function play(run: Run, note: (message: string) => void): Promise<void> {
  const { scenario } = run;
  try {
    // A busy machine needs seconds to start a process, in which sessions would expire.
    const clocks = Object.entries(scenario.clients ?? {}).filter(([, client]) => (client as Json).clock_ms !== undefined);
    await Promise.all(clocks.map(([name]) => run.send({}, undefined, name)));
    for (const [i, step] of scenario.steps.entries()) {
      try {
        await run.step(step);
      } catch (error) {
        note(`step ${i}: ${JSON.stringify(step).slice(0, 400)}`);
        throw error;
      }
    }
  } finally {
    await run.close();
  }
}

/**
 * Plays a scenario. Its waits and its limits of seconds suppose that the other steps take no time.
 * So one that failed says nothing if these took longer than a wait, and then it is played again. A
 * wait of a few milliseconds only keeps two times apart, on a slow machine, too.
 */
async function inTime(make: () => Run, note: (message: string) => void): Promise<void> {
  for (let i = 0; ; i++) {
    const run = make();
    const waits = (run.scenario.steps as Json[]).map((step) => (step.wait_ms ?? 0) as number).filter((ms) => ms >= 20);
    const began = performance.now();
    try {
      return await play(run, note);
    } catch (error) {
      const slow = performance.now() - began - run.waited;
      if (waits.length === 0 || slow < Math.min(200, ...waits) || i === 20) throw error;
      note(`played again: the steps took ${Math.round(slow)} ms`);
    }
  }
}

let redis: Redis | Cluster | undefined;
let count = 0;

describe('contract', { concurrency: 8 }, () => {
  for (const file of files) {
    const path = new URL(`${file}.json`, folder);
    if (!existsSync(path)) continue;
    for (const scenario of (JSON.parse(readFileSync(path, 'utf8')) as Json).scenarios as Json[]) {
      const own = (scenario.needs ?? []).includes('own server');
      count++;
      test(`${file}: ${scenario.name}`, { skip: own && given !== undefined ? 'needs its own server' : false }, async (t) => {
        const url = own ? (await Server.start()).url : await sharedUrl();
        if (!own) redis ??= connect(url);
        const connection = own ? connect(url) : redis!;
        await inTime(() => new Run(scenario, url, connection), (message) => t.diagnostic(message));
      });
    }
  }
  test('count', (t) => t.diagnostic(`${count} scenarios`));
});
