import { Cluster, Redis as IoRedis } from 'ioredis';
import { createClient, createCluster } from 'redis';
import { ioredis, nodeRedis, type Redis } from '../dist/index.js';

/** The client libraries that the tests use. */
export const libraries = ['ioredis', 'node-redis'] as const;
export type Library = (typeof libraries)[number];

/** Opens a client: `redis://host:port` or `redis-cluster://host:port,host:port`. */
export function openRedis(url: string, library: Library): Redis {
  const cluster = /^redis-cluster:\/\/(.*)$/.exec(url);
  if (cluster) {
    const nodes = cluster[1]!.split(',').map((address) => {
      const [host, port] = address.split(':');
      return { host: host!, port: Number(port) };
    });
    if (library === 'ioredis') return ioredis(new Cluster(nodes, { lazyConnect: true }));
    return nodeRedis(createCluster({ rootNodes: nodes.map(({ host, port }) => ({ url: `redis://${host}:${port}` })) }));
  }
  if (library === 'ioredis') return ioredis(new IoRedis(url, { lazyConnect: true }));
  return nodeRedis(createClient({ url }));
}
