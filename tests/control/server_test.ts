import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { ask, follow } from "../../control/client.ts";
import { ControlServer, type ControlTarget } from "../../control/server.ts";
import { CommandError, UsageError } from "../../agent/errors.ts";
import type { LoggedEvent } from "../../agent/event_log.ts";
import type { Request } from "../../control/protocol.ts";

const base = Deno.makeTempDirSync({ prefix: "shim6-control-" });
globalThis.addEventListener("unload", () => Deno.removeSync(base, { recursive: true }));

/** A new directory, removed at the end. */
function directory(): string {
  return Deno.makeTempDirSync({ dir: base });
}

class FakeTarget implements ControlTarget {
  watchers = new Set<(event: LoggedEvent) => void>();
  handle(request: Request): unknown {
    if (request.command === "status") return { version: "x" };
    if (request.command === "why") throw new CommandError("no context 9");
    throw new UsageError("unknown policy");
  }
  watch(watcher: (event: LoggedEvent) => void): () => void {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }
}

Deno.test("the control socket answers a request and is readable by its owner only", async () => {
  const path = directory() + "/deep/control.sock";
  const server = await ControlServer.open(path, new FakeTarget());
  try {
    assertEquals(await ask(path, { command: "status" }), { version: "x" });
    assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
  } finally {
    await server.close();
  }
});

Deno.test("failures and wrong requests come back as the errors they were", async () => {
  const path = directory() + "/control.sock";
  const server = await ControlServer.open(path, new FakeTarget());
  try {
    await assertRejects(() => ask(path, { command: "why", context: "9" }), CommandError, "no context 9");
    await assertRejects(() => ask(path, { command: "policy", name: "x" }), UsageError, "unknown policy");
  } finally {
    await server.close();
  }
});

Deno.test("garbage on the socket gets an answer and harms nobody", async () => {
  const path = directory() + "/control.sock";
  const server = await ControlServer.open(path, new FakeTarget());
  try {
    for (const line of ["nonsense\n", "[]\n", "null\n", '{"command":7}\n']) {
      const connection = await Deno.connect({ transport: "unix", path });
      await connection.write(new TextEncoder().encode(line));
      assertStringIncludes(await new Response(connection.readable).text(), '"ok":false');
    }
    const endless = await Deno.connect({ transport: "unix", path });
    await endless.write(new Uint8Array(5000).fill(0x41));
    assertEquals(await new Response(endless.readable).text().catch(() => ""), "");
    assertEquals(await ask(path, { command: "status" }), { version: "x" });
  } finally {
    await server.close();
  }
});

Deno.test("a watcher gets events until it leaves", async () => {
  const path = directory() + "/control.sock";
  const target = new FakeTarget();
  const server = await ControlServer.open(path, target);
  try {
    const events = follow(path);
    const first = events.next();
    while (target.watchers.size === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const event = { wall: "2026-01-01T00:00:00.000Z", at: 1, kind: "unverified", reason: "no proof" } as const;
    for (const watcher of target.watchers) watcher(event);
    assertEquals((await first).value, event);
    await events.return(undefined);
    while (target.watchers.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  } finally {
    await server.close();
  }
});

Deno.test("a stale socket is replaced, a living one and a plain file are not", async () => {
  const path = directory() + "/control.sock";
  const server = await ControlServer.open(path, new FakeTarget());
  await assertRejects(() => ControlServer.open(path, new FakeTarget()), UsageError, "another agent already answers");
  await server.close();
  // A socket whose owner was killed stays in the file system.
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      `Deno.listen({transport:"unix",path:${
        JSON.stringify(path)
      }}); console.log("up"); await new Promise(()=>setInterval(()=>{},1e6));`,
    ],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  child.kill("SIGKILL");
  await child.status;
  await reader.cancel();
  const again = await ControlServer.open(path, new FakeTarget());
  await again.close();
  Deno.writeTextFileSync(path, "");
  await assertRejects(() => ControlServer.open(path, new FakeTarget()), UsageError, "is not a socket");
});

Deno.test("without an agent the console says so", async () => {
  const path = directory() + "/none.sock";
  const error = await assertRejects(() => ask(path, { command: "status" }), CommandError);
  assertStringIncludes(error.message, "no agent answers on");
});
