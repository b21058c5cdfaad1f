/** A testbed with agents that can be started, asked, killed and started again, and an ordinary TCP stream on it. */

import { assert } from "@std/assert";
import { monotonicNow } from "deno-tun";
import { writeIdentityFile } from "../../agent/identity.ts";
import type { ContextReport, StatusReport } from "../../control/protocol.ts";
import { ask } from "../../control/client.ts";
import type { LabHost } from "../../lab/topology.ts";
import { Topology, type TopologyOptions } from "../../lab/topology.ts";
import { thisProgram } from "../../lab/self.ts";
import type { TcpReceived, TcpSent } from "../../lab/traffic.ts";
import { TrafficProcess } from "../../lab/traffic_process.ts";

monotonicNow(); // opens the C library outside of any test: it stays open, which a test would be blamed for

/** Waits until `condition` gives something. Fails after `timeoutMs`. */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  timeoutMs = 15_000,
): Promise<NonNullable<T>> {
  const deadline = monotonicNow() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert(monotonicNow() < deadline, `after ${timeoutMs} ms still no ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** An agent on a host of the testbed. */
export class RunningAgent {
  readonly control: string;
  readonly process: Deno.ChildProcess;
  /** What it wrote to stderr so far. */
  log = "";
  readonly #reading: Promise<void>;

  constructor(process: Deno.ChildProcess, control: string) {
    this.process = process;
    this.control = control;
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    for await (const text of this.process.stderr.pipeThrough(new TextDecoderStream())) this.log += text;
  }

  status(): Promise<StatusReport> {
    return ask<StatusReport>(this.control, { command: "status" });
  }

  async contexts(): Promise<ContextReport[]> {
    return [...(await this.status()).contexts];
  }

  /** The one context there is, once `condition` holds for it. */
  async context(what: string, condition: (context: ContextReport) => boolean): Promise<ContextReport> {
    try {
      return await until(what, async () => (await this.contexts()).find(condition));
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${JSON.stringify(await this.contexts(), null, 1)}\n${this.log}`);
    }
  }

  /** Sends a signal and waits for the end. Returns the exit status. */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<Deno.CommandStatus> {
    this.process.kill(signal);
    const status = await this.process.status;
    await this.#reading;
    return status;
  }
}

/** Settings that make an agent quick to establish and to notice, for tests. */
export const QUICK = [
  "--policy",
  "burst9",
  "--profile",
  "paper",
  "--insecure-locators",
  "--establish-after-packets",
  "5",
];

/**
 * The same for tests that measure a failover: when both hosts begin to explore at once, as in one failure of forty, `burst9`
 * waits for another Send Timeout.
 */
export const ADAPTIVE: readonly string[] = QUICK.with(1, "adaptive");

/** The defaults, on plain addresses, for flows of any length. */
export const FAST: readonly string[] = [
  "--profile",
  "fast",
  "--insecure-locators",
  "--establish-always",
  "2001:db8::/32",
];

/** Waits so many ms. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The testbed and what runs on it; removes everything when disposed. */
export class Hosts implements AsyncDisposable {
  readonly topology: Topology;
  readonly directory = Deno.makeTempDirSync({ prefix: "shim6-e2e-" });
  readonly #agents = new Set<RunningAgent>();
  readonly #streams = new Set<Deno.ChildProcess>();

  /** `identities`: of host a and host b; plain addresses when absent. */
  constructor(name: string, identities?: TopologyOptions["identities"]) {
    this.topology = Topology.create({ name, identities });
  }

  /** Writes a host's identity for its agent, as `hba new` would. Returns the file. */
  identityFile(host: LabHost): string {
    const file = `${this.directory}/${host.name}.identity`;
    writeIdentityFile(file, host.identity!);
    return file;
  }

  /** Starts an agent on a host and waits until it answers. */
  async start(host: LabHost, args: readonly string[] = QUICK): Promise<RunningAgent> {
    const control = `${this.directory}/${host.name}.sock`;
    const program = thisProgram();
    const process = this.topology.spawn(host, program.command, {
      args: [...program.args, "run", "--control", control, ...args],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    });
    const agent = new RunningAgent(process, control);
    this.#agents.add(agent);
    process.status.then(() => this.#agents.delete(agent));
    await until("answer from the agent", () => agent.status().then(() => true, () => false));
    return agent;
  }

  /** Starts a TCP stream from host a to host b, a block each 10 ms if not told otherwise, between these addresses. */
  async stream(
    port: number,
    from: string = this.topology.a.addresses[0],
    to: string = this.topology.b.addresses[0],
    { blockBytes, everyMs }: { readonly blockBytes: number; readonly everyMs: number } = {
      blockBytes: 1_000,
      everyMs: 10,
    },
  ): Promise<Stream> {
    const { a, b } = this.topology;
    const start = (host: LabHost, args: readonly string[]) => {
      const program = thisProgram();
      const process = this.topology.spawn(host, program.command, {
        args: [...program.args, "lab", "traffic", ...args],
        stdin: "null",
        stdout: "piped",
        stderr: "inherit",
      });
      this.#streams.add(process);
      process.status.then(() => this.#streams.delete(process));
      return new TrafficProcess(process);
    };
    const at = ["--port", String(port)];
    const receiver = start(b, ["tcp-receive", "--local", to, ...at, "--gap-ms", "50"]);
    await receiver.line("listening");
    const sender = start(a, [
      "tcp-send",
      ...["--local", from, "--peer", to, ...at],
      ...["--block-bytes", String(blockBytes), "--every-ms", String(everyMs)],
    ]);
    await sender.line("connected");
    return { sender, receiver };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.#streams) process.kill("SIGKILL");
    for (const agent of [...this.#agents]) await agent.end("SIGKILL");
    await this.topology[Symbol.asyncDispose]();
    Deno.removeSync(this.directory, { recursive: true });
  }
}

/** A TCP stream between the hosts. */
export interface Stream {
  readonly sender: TrafficProcess;
  readonly receiver: TrafficProcess;
}

/** Ends a stream and checks that it arrived whole. Returns what the receiver saw. */
export async function finish(stream: Stream): Promise<TcpReceived> {
  stream.sender.stop();
  const sent = await stream.sender.result(20_000) as TcpSent | undefined;
  const received = await stream.receiver.result(20_000) as TcpReceived | undefined;
  assert(sent !== undefined && received !== undefined, "the stream came to no end");
  assert(received.complete && received.error === null, `receiver: ${received.error}`);
  assert(sent.bytes === received.bytes && sent.sha256 === received.sha256, "the stream arrived damaged");
  return received;
}

/** The longest time (ms) in which nothing arrived, of what began after `since` (monotonic ms). */
export function longestSilence(received: TcpReceived, since: number): number {
  return Math.max(0, ...received.reception.gaps.filter((gap) => gap.to > since).map((gap) => gap.to - gap.from));
}

/** A counter of a host's TCP, as `TCPTimeouts` (`TcpExt` of /proc/net/netstat). */
export async function tcpCounter(topology: Topology, host: LabHost, name: string): Promise<number> {
  const { stdout } = await topology.spawn(host, "cat", { args: ["/proc/net/netstat"], stdout: "piped" }).output();
  const lines = new TextDecoder().decode(stdout).split("\n").filter((line) => line.startsWith("TcpExt:"));
  const [names, values] = lines.map((line) => line.split(" "));
  return Number(values[names.indexOf(name)]);
}

/** What the agent may leave in a host's network: its device, addresses on it, steering routes and rules. */
export function traces(host: LabHost): string[] {
  const links = host.netlink.links().filter((link) => link.name.startsWith("shim"));
  const routes = host.netlink.routes().filter((route) => route.protocol === 146);
  const addresses = host.netlink.addresses().filter((address) =>
    address.prefixLength === 128 && address.scope === "global"
  );
  return [
    ...links.map((link) => `link ${link.name}`),
    ...routes.map((route) => `route ${route.destination.address}`),
    ...addresses.filter((entry) => entry.address !== "::1").map((entry) => `address ${entry.address}`),
  ];
}
