/** The console's end of the control socket. */

import { CommandError, UsageError } from "../agent/errors.ts";
import type { LoggedEvent } from "../agent/event_log.ts";
import type { Reply, Request } from "./protocol.ts";

async function connect(path: string): Promise<Deno.UnixConn> {
  try {
    return await Deno.connect({ transport: "unix", path });
  } catch (error) {
    if (error instanceof Deno.errors.PermissionDenied) {
      throw new CommandError(`no permission to use the control socket ${path}; run as the agent's user (root)`);
    }
    throw new CommandError(`no agent answers on ${path}; is it running? (--control names another socket)`);
  }
}

async function send(connection: Deno.UnixConn, request: Request): Promise<void> {
  const octets = new TextEncoder().encode(JSON.stringify(request) + "\n");
  for (let done = 0; done < octets.length;) done += await connection.write(octets.subarray(done));
}

/** Sends a request and returns the result. Throws what the agent answered as a typed error. */
export async function ask<T>(path: string, request: Request): Promise<T> {
  const connection = await connect(path);
  try {
    await send(connection, request);
    const text = await new Response(connection.readable).text();
    if (text === "") throw gone(path);
    const reply = JSON.parse(text) as Reply;
    if (reply.ok) return reply.result as T;
    throw reply.usage ? new UsageError(reply.error) : new CommandError(reply.error);
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BrokenPipe) throw gone(path);
    throw error;
  } finally {
    try {
      connection.close();
    } catch { /* reading to the end closed it */ }
  }
}

function gone(path: string): CommandError {
  return new CommandError(`the agent on ${path} went away before it answered`);
}

/** The agent's events from now on, until the agent stops or the caller leaves the loop. */
export async function* follow(path: string): AsyncGenerator<LoggedEvent> {
  const connection = await connect(path);
  try {
    await send(connection, { command: "watch" });
    let rest = "";
    for await (const text of connection.readable.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) yield JSON.parse(line) as LoggedEvent;
    }
  } finally {
    try {
      connection.close();
    } catch { /* reading to the end closed it */ }
  }
}
