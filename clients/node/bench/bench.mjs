// Compares the cost of requests with express-session and connect-redis, in turns in one run, and
// shows two races. It prints microseconds of CPU for one request: the median of many short turns,
// and the middle half of them. On a busy machine the ratio is the figure that counts.
import { createServer, request as httpRequest, Agent } from 'node:http';
import { RedisStore } from 'connect-redis';
import express from 'express';
import expressSession from 'express-session';
import { createClient } from 'redis';
import { Counter, MapField, Sessions, Value, nodeRedis, sessionOf } from '../dist/index.js';
import { expressErrors, expressSessions } from '../dist/express.js';
import { Server } from '../test-build/server.js';

const rounds = Number(process.env.ROUNDS ?? 60);
const requests = Number(process.env.REQUESTS ?? 50);
const redis = await Server.start();
const client = await createClient({ url: redis.url }).connect();
const sessions = new Sessions(nodeRedis(client), { cookie: { insecure: true }, logger: () => undefined });
const n = new Counter('n');
const theme = new Value('theme');
const keys = new MapField('keys');
let entered; // called by a slow request, with the function that lets it go on

const ours = express();
ours.use(expressSessions(sessions));
ours.get('/:what/:key', async (request, response) => {
  const session = await sessionOf(request);
  const { what, key } = request.params;
  if (what === 'out') await session.signOut();
  if (what === 'fill') theme.set(session, { name: 'dark', cart: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] });
  if (what === 'write') n.add(session, 1);
  if (what === 'slow') await new Promise((resolve) => entered(resolve));
  if (what === 'put' || what === 'slow') keys.set(session, key, 1);
  response.send([...keys.entries(session).keys()].sort().join());
});
ours.use(expressErrors(sessions));

const theirs = express();
theirs.use(expressSession({ secret: 'x', resave: false, saveUninitialized: false, store: new RedisStore({ client }) }));
theirs.get('/:what/:key', async (request, response) => {
  const { what, key } = request.params;
  const { session } = request;
  if (what === 'out') {
    session.destroy(() => response.send('out'));
    return;
  }
  if (what === 'fill') Object.assign(session, { n: 0, theme: { name: 'dark', cart: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] } });
  if (what === 'write') session.n = (session.n ?? 0) + 1;
  if (what === 'slow') await new Promise((resolve) => entered(resolve));
  if (what === 'put' || what === 'slow') session[key] = 1;
  response.send(Object.keys(session).filter((name) => name.startsWith('k')).sort().join());
});

const agent = new Agent({ keepAlive: true });
class Browser {
  constructor(port, cookie = '') {
    Object.assign(this, { port, cookie });
  }

  get(path) {
    const headers = this.cookie ? { cookie: this.cookie } : {};
    return new Promise((resolve, reject) => {
      httpRequest({ port: this.port, host: '127.0.0.1', path, headers, agent }, (response) => {
        const set = response.headers['set-cookie']?.[0].split(';')[0];
        if (set) this.cookie = set;
        let text = '';
        response.setEncoding('utf8').on('data', (part) => (text += part)).on('end', () => resolve(text));
      }).on('error', reject).end();
    });
  }
}

const redisCpu = async () => {
  const info = await client.info('cpu');
  return ['user', 'sys'].reduce((sum, kind) => sum + Number(new RegExp(`used_cpu_${kind}:([\\d.]+)`).exec(info)[1]), 0) * 1e6;
};
const ownCpu = () => Object.values(process.cpuUsage()).reduce((a, b) => a + b);

async function measure(browser, what) {
  const [own, its] = [ownCpu(), await redisCpu()];
  for (let i = 0; i < requests; i++) await browser.get(`/${what}/k`);
  return [(ownCpu() - own) / requests, ((await redisCpu()) - its) / requests];
}

/**
 * A request that began first stores its key after `path` was answered. What is in the session then?
 */
async function race(port, path) {
  const browser = new Browser(port);
  await browser.get('/fill/k');
  const { cookie } = browser;
  const reached = new Promise((resolve) => (entered = resolve));
  const late = new Browser(port, cookie).get('/slow/k1');
  const release = await reached;
  await browser.get(path);
  release();
  await late;
  return new Browser(port, cookie).get('/read/k');
}

const servers = await Promise.all(Object.entries({ 'express-session': theirs, coatcheck: ours }).map(async ([name, app]) => {
  const server = createServer(app);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { name, server, port: server.address().port };
}));
for (const each of servers) await (each.browser = new Browser(each.port)).get('/fill/k');
// Warm up.
for (let i = 0; i < 10; i++) for (const { browser } of servers) for (const what of ['read', 'write']) await measure(browser, what);
const middle = (list, part) => [...list].sort((a, b) => a - b)[Math.floor((list.length - 1) * part)];
console.log('| CPU, microseconds a request | process | redis-server |\n|---|---|---|');
for (const what of ['read', 'write']) {
  const found = servers.map(() => [[], []]);
  for (let i = 0; i < rounds; i++) {
    for (const j of i % 2 ? [0, 1] : [1, 0]) {
      for (const [k, cpu] of (await measure(servers[j].browser, what)).entries()) found[j][k].push(cpu);
    }
  }
  for (const [j, { name }] of servers.entries()) {
    const cells = found[j].map((list) => {
      const [low, median, high] = [0.25, 0.5, 0.75].map((part) => Math.round(middle(list, part)));
      return `${median} (${low}–${high})`;
    });
    console.log(`| ${what}: ${name} | ${cells.join(' | ')} |`);
  }
  const ratios = [0, 1].map((k) => middle(found[1][k].map((cpu, i) => cpu / found[0][k][i]), 0.5).toFixed(2));
  console.log(`| ${what}: ratio | ${ratios.join(' | ')} |`);
}
console.log('\n| race | a write of another key is lost | the session is back after sign-out |\n|---|---|---|');
for (const { name, port } of servers) {
  const lost = (await race(port, '/put/k2')) !== 'k1,k2';
  const back = (await race(port, '/out/k')) !== '';
  console.log(`| ${name} | ${lost ? 'yes' : 'no'} | ${back ? 'yes' : 'no'} |`);
  if (name === 'coatcheck' && (lost || back)) process.exitCode = 1;
}
await sessions.close();
client.destroy();
agent.destroy();
for (const { server } of servers) server.close();
await redis.stop();
