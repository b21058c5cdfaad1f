/** The control socket: Unix only, mode 0600, so that only the agent's own user reaches it. */

import type { LoggedEvent } from "../agent/event_log.ts";
import { UsageError } from "../agent/errors.ts";
import { MAX_REQUEST, type Reply, type Request } from "./protocol.ts";

/** What the server asks of the agent. */
export interface ControlTarget {
  /** Carries out a request. Throws {@linkcode UsageError} for a wrong one, another error for one that failed. */
  handle(request: Request): unknown;
  watch(watcher: (event: LoggedEvent) => void): () => void;
}

/** More clients than this wait: an operator opens a few, a runaway script opens many. */
const MAX_CLIENTS = 32;

/** A watcher that falls so far behind is disconnected; the agent's memory must not depend on a stuck terminal. */
const MAX_BACKLOG = 4096;

/** The listening control socket. */
export class ControlServer {
  readonly #path: string;
  readonly #listener: Deno.UnixListener;
  readonly #target: ControlTarget;
  readonly #clients = new Set<Deno.UnixConn>();
  #closed = false;
  readonly #accepting: Promise<void>;

  /** Listens at `path`. A stale socket is replaced; a living agent there is a {@linkcode UsageError}. */
  static async open(path: string, target: ControlTarget): Promise<ControlServer> {
    const directory = path.slice(0, path.lastIndexOf("/"));
    try {
      if (directory !== "") Deno.mkdirSync(directory, { recursive: true, mode: 0o755 });
      await removeStale(path);
      // The socket must never exist with wider rights, not even between bind and chmod.
      const umask = Deno.umask(0o177);
      try {
        return new ControlServer(path, Deno.listen({ transport: "unix", path }), target);
      } finally {
        Deno.umask(umask);
      }
    } catch (error) {
      if (error instanceof UsageError) throw error;
      throw new UsageError(`cannot listen on the control socket ${path}: ${(error as Error).message}`);
    }
  }

  private constructor(path: string, listener: Deno.UnixListener, target: ControlTarget) {
    this.#path = path;
    this.#listener = listener;
    this.#target = target;
    this.#accepting = this.#accept();
  }

  async #accept(): Promise<void> {
    while (!this.#closed) {
      let connection: Deno.UnixConn;
      try {
        connection = await this.#listener.accept() as Deno.UnixConn;
      } catch {
        if (this.#closed) return;
        // Out of file descriptors, or the client went away at once: neither may end the server.
        await new Promise((resolve) => setTimeout(resolve, 100));
        continue;
      }
      if (this.#clients.size >= MAX_CLIENTS) {
        connection.close();
        continue;
      }
      this.#clients.add(connection);
      this.#serve(connection).catch(() => {}).finally(() => {
        this.#clients.delete(connection);
        try {
          connection.close();
        } catch { /* already closed by close() */ }
      });
    }
  }

  async #serve(connection: Deno.UnixConn): Promise<void> {
    const line = await readLine(connection);
    if (line === undefined) return;
    let reply: Reply;
    try {
      const request = JSON.parse(line) as Request;
      if (typeof request?.command !== "string") throw new UsageError("a request is an object with a command");
      if (request.command === "watch") return await this.#stream(connection);
      reply = { ok: true, result: this.#target.handle(request) };
    } catch (error) {
      const usage = error instanceof UsageError || error instanceof SyntaxError;
      reply = { ok: false, error: (error as Error).message, usage };
    }
    await writeLine(connection, reply);
  }

  async #stream(connection: Deno.UnixConn): Promise<void> {
    const queue: LoggedEvent[] = [];
    let wake = () => {};
    let gone = false;
    const end = this.#target.watch((event) => {
      if (queue.length >= MAX_BACKLOG) gone = true;
      else queue.push(event);
      wake();
    });
    // A watcher sends nothing more; the read ends when it goes away.
    connection.read(new Uint8Array(1)).catch(() => {}).finally(() => {
      gone = true;
      wake();
    });
    try {
      while (!gone) {
        const event = queue.shift();
        if (event !== undefined) await writeLine(connection, event);
        else await new Promise<void>((resolve) => wake = resolve);
      }
    } finally {
      end();
    }
  }

  /** Stops listening, drops the clients and removes the socket. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#listener.close();
    for (const client of this.#clients) {
      try {
        client.close();
      } catch { /* its own handler was faster */ }
    }
    await this.#accepting;
    try {
      Deno.removeSync(this.#path);
    } catch { /* closing the listener removed it */ }
  }
}

async function removeStale(path: string): Promise<void> {
  try {
    if (!Deno.lstatSync(path).isSocket) throw new UsageError(`${path} exists and is not a socket`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  let living: Deno.UnixConn;
  try {
    living = await Deno.connect({ transport: "unix", path });
  } catch {
    Deno.removeSync(path);
    return;
  }
  living.close();
  throw new UsageError(`another agent already answers on ${path}; stop it, or choose another --control`);
}

const decoder = new TextDecoder(), encoder = new TextEncoder();

async function readLine(connection: Deno.UnixConn): Promise<string | undefined> {
  const buffer = new Uint8Array(MAX_REQUEST);
  let length = 0;
  while (length < buffer.length) {
    const read = await connection.read(buffer.subarray(length));
    if (read === null) return undefined;
    const newline = buffer.indexOf(0x0a, length);
    length += read;
    if (newline >= 0 && newline < length) return decoder.decode(buffer.subarray(0, newline));
  }
  return undefined;
}

async function writeLine(connection: Deno.UnixConn, value: unknown): Promise<void> {
  const octets = encoder.encode(JSON.stringify(value) + "\n");
  for (let done = 0; done < octets.length;) done += await connection.write(octets.subarray(done));
}
