/**
 * How long a stream is silent when the path in use dies without a sign: agents with adaptive detection, and Multipath TCP
 * with three subflows on the same testbed. Prints a table on standard error as it goes, and JSON on standard output.
 * Needs root, python3, and for the last rows iproute2 and a kernel with MPTCP.
 *
 *     deno run -A bench/fast.ts [--runs N] [--only TEXT] [--policy P] [--profile P] [--executable FILE] [--json FILE]
 *
 * Ten runs of everything take about half an hour. `--only` takes the rows whose name has TEXT in it.
 *
 * @module
 */

import { parseArgs } from "@std/cli";
import { monotonicNow } from "deno-tun";
import { AgentProcess, LabTimeout, waitFor } from "../lab/agent_process.ts";
import { withCleanEnd } from "../lab/clean_end.ts";
import { Emulator } from "../lab/emulator.ts";
import { onTestbed } from "../lab/experiment.ts";
import { jsonLines } from "../lab/json_lines.ts";
import { thisProgram } from "../lab/self.ts";
import type { LabHost, Topology } from "../lab/topology.ts";
import type { LocatorPair } from "../policies/policy.ts";

/** What dies: both directions of the path in use, the acknowledgements' direction, all paths of a host's provider. */
type Kill = "both" | "back" | "provider" | "peer-provider" | "nothing";
/** What is measured: the silence of a stream, the first data after a pause, the time to connect, packets sent. */
type Measure = "silence" | "after-pause" | "connect" | "price";

interface Case {
  readonly name: string;
  readonly system: "shim6" | "mptcp";
  readonly transport: "tcp" | "udp";
  readonly measure: Measure;
  readonly kill: Kill;
  readonly rttMs: number;
  /** 0: as fast as it goes. */
  readonly everyMs: number;
  /** Which of its addresses the server is bound to. */
  readonly server: number;
  /** At most so many ms, or packets. */
  readonly goal: number;
}

interface Row extends Case {
  readonly worst: number;
  readonly median: number;
  /** Of each run; null: the stream did not come back while the run lasted. */
  readonly values: readonly (number | null)[];
  readonly load: number;
}

interface Line {
  readonly event: "listening" | "sending" | "gap" | "resumed" | "connected";
  readonly from?: number;
  readonly to?: number;
  readonly at?: number;
  readonly ms?: number | null;
}

const PORT = 5001, EVERY_MS = 10, BLOCK_BYTES = 1_000;
const RTTS = [[0, 60], [20, 100], [100, 220]] as const;
const SETTLE_MS = 2_500, WATCH_MS = 2_500, PAUSE_MS = 5_000, CONNECT_AFTER_MS = 3_000, PRICE_MS = 20_000;

function cases(): Case[] {
  const stream = { measure: "silence", kill: "both", rttMs: 0, everyMs: EVERY_MS, server: 0 } as const;
  const shim6 = { ...stream, system: "shim6" } as const,
    mptcp = { ...stream, system: "mptcp", transport: "tcp" } as const;
  const list: Case[] = [];
  for (const transport of ["tcp", "udp"] as const) {
    for (const [rttMs, goal] of RTTS) list.push({ ...shim6, name: `${transport} stream`, transport, rttMs, goal });
  }
  list.push({ ...shim6, name: "tcp bulk", transport: "tcp", everyMs: 0, goal: 100 });
  for (const [rttMs] of RTTS) {
    list.push({ ...shim6, name: "acknowledgements die", transport: "tcp", kill: "back", rttMs, goal: EVERY_MS + 12 });
  }
  const pause = { ...shim6, measure: "after-pause", goal: 100 } as const;
  list.push({ ...pause, name: "tcp after a pause", transport: "tcp" }, {
    ...pause,
    name: "udp after a pause",
    transport: "udp",
  });
  list.push({ ...shim6, name: "new connection", transport: "tcp", measure: "connect", goal: 50 });
  for (const server of [0, 1, 2]) {
    const name = `peer's provider dies, server on its address ${server + 1}`;
    list.push({ ...shim6, name, transport: "tcp", kill: "peer-provider", server, goal: 60 });
  }
  list.push({ ...shim6, name: "own provider dies", transport: "tcp", kill: "provider", goal: 60 });
  const price = { ...shim6, measure: "price", kill: "nothing", goal: 0 } as const;
  list.push({ ...price, name: "packets of ours, stream both ways", transport: "udp" });
  list.push({ ...price, name: "packets of ours, idle", transport: "tcp", everyMs: -1 });
  for (const [rttMs, goal] of RTTS) list.push({ ...mptcp, name: "MPTCP stream", rttMs, goal });
  list.push({ ...mptcp, name: "MPTCP bulk", everyMs: 0, goal: 100 });
  list.push({ ...mptcp, name: "MPTCP acknowledgements die", kill: "back", goal: EVERY_MS + 12 });
  list.push({ ...mptcp, name: "MPTCP after a pause", measure: "after-pause", goal: 100 });
  list.push({ ...mptcp, name: "MPTCP new connection", measure: "connect", goal: 50 });
  return list;
}

/** One end of a stream. */
class End {
  readonly lines: Line[] = [];
  readonly #process: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  readonly #commands: WritableStreamDefaultWriter<Uint8Array>;

  constructor(topology: Topology, host: LabHost, args: readonly (string | number)[]) {
    const script = new URL("./stream.py", import.meta.url).pathname;
    this.#process = topology.spawn(host, "python3", {
      args: ["-u", script, ...args.map(String)],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    });
    this.#commands = this.#process.stdin.getWriter();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    for await (const line of jsonLines<Line>(this.#process.stdout)) this.lines.push(line);
  }

  async line(event: Line["event"], patienceMs = 10_000): Promise<Line> {
    await waitFor(`a stream's end tells ${event}`, patienceMs, () => this.lines.some((line) => line.event === event));
    return this.lines.findLast((line) => line.event === event)!;
  }

  async tell(command: string): Promise<void> {
    await this.#commands.write(new TextEncoder().encode(`${command}\n`));
  }

  /** The longest silence that ends after `since`; null: it has not ended. */
  longestGap(since: number): number | null {
    const gaps = this.lines.filter((line) => line.event === "gap" && line.to! >= since);
    return gaps.length === 0 ? null : Math.max(...gaps.map((line) => line.to! - line.from!));
  }

  async end(): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch { /* it has ended by itself */ }
    await this.#process.status;
    await this.#commands.close().catch(() => {});
    await this.#reading;
  }
}

const flags = parseArgs(Deno.args, {
  string: ["runs", "only", "policy", "profile", "executable", "json", "name", "logs"],
  default: { runs: "10", policy: "adaptive", profile: "fast", name: "shim6-fast" },
});

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}

async function delayAllPaths(topology: Topology, delayMs: number): Promise<Emulator> {
  const { command, args } = thisProgram();
  const emulator = await Emulator.attach(
    topology.spawn(topology.router, command, { args: [...args, "lab", "emulator"], stdin: "piped", stdout: "piped" }),
  );
  for (const { from, to } of topology.paths()) {
    await emulator.setPath({ from: prefixOf(from), to: prefixOf(to), delay_ms: delayMs });
    topology.setPath(from, to, "emulated");
  }
  return emulator;
}

/** The prefix, of four groups that are all written out here, of an address in either form. */
function prefixOf(address: string): string {
  return `${address.split("::")[0].split(":").slice(0, 4).join(":")}::/64`;
}

async function cut(topology: Topology, emulator: Emulator | undefined, from: string, to: string): Promise<void> {
  topology.setPath(from, to, "down");
  await emulator?.setPath({ from: prefixOf(from), to: prefixOf(to), up: false });
}

/** Runs `ip` in a host's namespace. */
async function ip(topology: Topology, host: LabHost, ...args: string[]): Promise<string> {
  const child = topology.spawn(host, "ip", { args, stdout: "piped", stderr: "inherit" });
  const { stdout, success } = await child.output();
  if (!success) throw new Error(`ip ${args.join(" ")} failed`);
  return new TextDecoder().decode(stdout);
}

/** Three subflows: from each address of host a to the server's. */
async function prepareMptcp(topology: Topology): Promise<void> {
  for (const host of topology.hosts) await ip(topology, host, "mptcp", "limits", "set", "subflow", "8");
  for (const { address, interface: dev } of topology.a.providers.slice(1)) {
    await ip(topology, topology.a, "mptcp", "endpoint", "add", address, "dev", dev, "subflow");
  }
}

/** The address of host a whose interface sends most now. */
async function busiest(topology: Topology): Promise<string> {
  const count = async () => {
    const links = JSON.parse(await ip(topology, topology.a, "-s", "-j", "link")) as {
      readonly ifname: string;
      readonly stats64: { readonly tx: { readonly bytes: number } };
    }[];
    return new Map(links.map(({ ifname, stats64 }) => [ifname, stats64.tx.bytes]));
  };
  const before = await count();
  await sleep(200);
  const after = await count();
  const sent = ({ interface: name }: { readonly interface: string }) => after.get(name)! - before.get(name)!;
  return topology.a.providers.toSorted((x, y) => sent(y) - sent(x))[0].address;
}

interface Stage {
  readonly topology: Topology;
  readonly emulator: Emulator | undefined;
  readonly agents: readonly AgentProcess[];
  readonly server: End;
  readonly client: End;
  /** As host a sees it. */
  readonly ulid: LocatorPair;
}

async function kill(each: Case, { topology, emulator, agents, ulid }: Stage): Promise<number> {
  let forth = ulid, back = { local: ulid.peer, peer: ulid.local };
  if (each.system === "mptcp") {
    const local = each.measure === "silence" ? await busiest(topology) : ulid.local;
    [forth, back] = [{ local, peer: ulid.peer }, { local: ulid.peer, peer: local }];
  } else {
    forth = (await agents[0].context(ulid))!.current;
    back = (await agents[1].context({ local: ulid.peer, peer: ulid.local }))!.current;
  }
  const at = monotonicNow();
  const both = async (local: string, peer: string) => {
    await cut(topology, emulator, local, peer);
    await cut(topology, emulator, peer, local);
  };
  if (each.kill === "both") await cut(topology, emulator, forth.local, forth.peer);
  if (each.kill === "both" || each.kill === "back") await cut(topology, emulator, back.local, back.peer);
  if (each.kill === "provider") { for (const peer of topology.b.addresses) await both(forth.local, peer); }
  if (each.kill === "peer-provider") { for (const local of topology.a.addresses) await both(local, forth.peer); }
  return at;
}

/** Control messages and copies of payload that both agents have sent. */
async function sentByAgents({ agents }: Stage): Promise<number> {
  let sum = 0;
  for (const agent of agents) {
    const { counters, contexts } = await agent.status();
    sum += counters.datapath["copied"];
    for (const { counters: { probes_sent } } of contexts) sum += probes_sent;
  }
  return sum;
}

async function act(each: Case, stage: Stage): Promise<number | null> {
  const { server, client } = stage;
  const isEstablished = async () => {
    const { local, peer } = stage.ulid;
    const contexts = [
      await stage.agents[0].context({ local, peer }),
      await stage.agents[1].context({ local: peer, peer: local }),
    ];
    return contexts.every((context) => context?.state === "ESTABLISHED");
  };
  if (each.system === "shim6") await waitFor("both hosts have a context", 20_000, isEstablished);
  await sleep(SETTLE_MS);
  if (each.measure === "price") {
    // Delays are learnt first, and a pause ends REAP's keepalives.
    if (each.everyMs < 0) await client.tell("pause");
    await sleep(PRICE_MS / 2);
    const before = await sentByAgents(stage);
    await sleep(PRICE_MS);
    return await sentByAgents(stage) - before;
  }
  if (each.measure === "silence") {
    const at = await kill(each, stage);
    await sleep(WATCH_MS);
    const silence = Math.max(...[server, client].map((end) => end.longestGap(at) ?? -Infinity));
    // No gap worth telling: at most what the ends do not tell of.
    return silence === -Infinity ? each.kill === "back" ? 12 : null : silence;
  }
  await client.tell("pause");
  if (each.measure === "connect") {
    await sleep(PAUSE_MS - CONNECT_AFTER_MS);
    await kill(each, stage);
    await sleep(CONNECT_AFTER_MS);
    await client.tell("connect");
    return (await client.line("connected")).ms ?? null;
  }
  await sleep(PAUSE_MS / 2);
  await kill(each, stage);
  await sleep(PAUSE_MS / 2);
  await client.tell("resume");
  const { at } = await client.line("resumed");
  await sleep(WATCH_MS);
  const first = server.lines.find((line) => line.event === "gap" && line.to! >= at!);
  return first === undefined ? null : first.to! - at!;
}

async function once(each: Case, run: number): Promise<number | null> {
  const logs = flags.logs === undefined ? undefined : `${flags.logs}/${each.name}, ${each.rttMs} ms/${run}`;
  return await onTestbed({ name: flags.name }, logs, async (topology, directory) => {
    const emulator = each.rttMs > 0 ? await delayAllPaths(topology, each.rttMs / 2) : undefined;
    const ulid = { local: topology.a.addresses[0], peer: topology.b.addresses[each.server] };
    const agentArgs = ["--policy", flags.policy, "--profile", flags.profile, "--establish-always", "2001:db8::/32"];
    const executable = thisProgram(flags.executable);
    const agents = each.system === "mptcp" ? [] : await Promise.all(
      topology.hosts.map((host) => AgentProcess.start(topology, host, { executable, args: agentArgs, directory })),
    );
    if (each.system === "mptcp") await prepareMptcp(topology);
    const transport = each.system === "mptcp" ? "mptcp" : each.transport;
    const pace = [PORT, each.everyMs < 0 ? EVERY_MS : each.everyMs, BLOCK_BYTES];
    // A server that went on sending would notice the failure during the pause.
    const served = each.measure === "after-pause" ? [PORT, -1, BLOCK_BYTES] : pace;
    const server = new End(topology, topology.b, ["serve", transport, ulid.peer, ...served]);
    await server.line("listening");
    const client = new End(topology, topology.a, ["client", transport, ulid.local, ulid.peer, ...pace]);
    try {
      await client.line("sending");
      return await act(each, { topology, emulator, agents, server, client, ulid });
    } finally {
      await Promise.all([client.end(), server.end()]);
      await emulator?.close();
      await Promise.all(agents.map((agent) => agent.stop()));
    }
  });
}

async function measure(each: Case): Promise<Row> {
  const values: (number | null)[] = [];
  for (let run = 0; run < Number(flags.runs); run++) {
    try {
      values.push(await once(each, run));
    } catch (error) {
      if (!(error instanceof LabTimeout)) throw error;
      console.error(`      ${error.message}`);
      values.push(null);
    }
  }
  const sorted = values.map((value) => value ?? Infinity).toSorted((x, y) => x - y);
  const median = sorted[Math.floor((sorted.length - 1) / 2)];
  return { ...each, worst: sorted[sorted.length - 1], median, values, load: Deno.loadavg()[0] };
}

if (import.meta.main) {
  await withCleanEnd(async () => {
    console.error(`${flags.runs} runs each, policy ${flags.policy}, profile ${flags.profile}; ms, or packets`);
    const cell = (text: string | number, width: number) => String(text).padStart(width);
    const whole = (value: number) => value === Infinity ? "never" : String(Math.round(value));
    console.error(
      `${"".padEnd(48)}${cell("RTT", 5)}${cell("goal", 7)}${cell("median", 8)}${cell("worst", 7)}${cell("load", 6)}`,
    );
    const rows: Row[] = [];
    for (const each of cases().filter(({ name }) => name.includes(flags.only ?? ""))) {
      const row = await measure(each);
      rows.push(row);
      const figures = [cell(row.rttMs, 5), cell(row.goal, 7), cell(whole(row.median), 8), cell(whole(row.worst), 7)];
      const isMet = row.worst <= row.goal ? "" : "  *";
      console.error(`${row.name.padEnd(48)}${figures.join("")}${cell(row.load.toFixed(1), 6)}${isMet}`);
    }
    const { policy, profile } = flags;
    const round = (_key: string, value: unknown) => typeof value === "number" ? Math.round(value * 10) / 10 : value;
    const text = JSON.stringify({ policy, profile, rows }, round, 2);
    if (flags.json === undefined) console.log(text);
    else Deno.writeTextFileSync(flags.json, text);
  });
}
