import { createServer, type RequestListener, type Server } from 'node:http';

/** Starts an HTTP server. It never closes a connection that a browser is about to use again. */
export async function listen(listener: RequestListener): Promise<Server> {
  const server = createServer({ keepAliveTimeout: 0 }, listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

/** A browser: it keeps cookies. */
export class Browser {
  readonly cookies = new Map<string, string>();

  constructor(readonly url: string) {}

  async get(path: string, init: RequestInit = {}): Promise<Response & { body: unknown; content: string }> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(this.url + path, { ...init, headers: { ...(cookie ? { cookie } : {}), ...init.headers } });
    for (const line of response.headers.getSetCookie()) {
      const [name, value] = line.split(';')[0]!.split(/=(.*)/s);
      if (value) this.cookies.set(name!, value);
      else this.cookies.delete(name!);
    }
    return Object.assign(response, { content: await response.text() }) as never;
  }
}
