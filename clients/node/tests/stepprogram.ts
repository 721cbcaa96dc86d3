// Speaks the step protocol of format/contract/README.md on standard input and output.
import { createInterface } from 'node:readline';
import { Steps, type StepRequest } from './steps.js';

const steps = new Steps();
const running = new Set<Promise<void>>();
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() === '') continue;
  const request = JSON.parse(line) as StepRequest;
  const done: Promise<void> = steps.step(request).then((reply) => {
    process.stdout.write(`${JSON.stringify(reply)}\n`);
    running.delete(done);
  });
  running.add(done);
}
// On a busy Cluster, a client library may keep a connection open that it made while it was closed.
// Which one is not known: see the README, "Closing". All replies were read before the input ended.
setTimeout(() => process.exit(0), 10_000);
await Promise.all(running);
await steps.close();
process.exit(0);
