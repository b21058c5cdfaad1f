/**
 * The failover experiment: two agents, a stream between two unmodified programs, and the path in use is broken.
 *
 * One run: build the testbed, start the agents, start the stream, wait until both hosts have a context, break the path,
 * wait until the stream goes on, end it, and put together what the receiving program saw and what the agents logged.
 * All processes read one clock.
 */

import { parseArgs } from "@std/cli";
import { monotonicNow } from "deno-tun";
import { CommandError, UsageError } from "../agent/errors.ts";
import type { ContextReport } from "../control/protocol.ts";
import type { LocatorPair } from "../policies/policy.ts";
import { AgentProcess, LabTimeout, waitFor } from "./agent_process.ts";
import { withCleanEnd } from "./clean_end.ts";
import { Emulator } from "./emulator.ts";
import { onTestbed } from "./experiment.ts";
import { longestSilence, type ReceptionReport } from "./reception.ts";
import { type Executable, thisProgram } from "./self.ts";
import { type HostStory, hostStory, type SilenceParts, splitSilence } from "./silence.ts";
import type { LabHost, LabNode, Topology } from "./topology.ts";
import type { TcpReceived, TcpSent, TrafficResult, UdpExchanged } from "./traffic.ts";
import { TrafficProcess } from "./traffic_process.ts";

/** What carries the stream. */
export const TRANSPORTS = ["tcp", "udp"] as const;
/** One of {@linkcode TRANSPORTS}. */
export type Transport = typeof TRANSPORTS[number];

/** What breaks, and in how far the hosts can notice. */
export const KILLS = [
  /** Both directions, in silence: what each host sends on its current pair is dropped. */
  "both",
  /** Only what host a sends on its current pair. */
  "a-to-b",
  /** Only what host b sends on its current pair. */
  "b-to-a",
  /** All paths of the provider in use at host a, in silence. */
  "provider",
  /** The link in use at host a loses its carrier. */
  "link",
  /** The address in use at host a is taken from its interface. */
  "address",
] as const;
/** One of {@linkcode KILLS}. */
export type Kill = typeof KILLS[number];

/** A failover run. Times in ms. */
export interface FailoverOptions {
  readonly transport: Transport;
  readonly policy: string;
  readonly profile: string;
  /** How long the stream lasts at least. */
  readonly durationMs: number;
  readonly kill: Kill;
  /** When to break the path, from the start of the stream on; later if there is no context yet. */
  readonly killAtMs: number;
  /** Delay of every path, each way. */
  readonly delayMs: number;
  /** Whether the agents hold and release copies. */
  readonly hold: boolean;
  /** A block of `blockBytes` every `everyMs`; 0: as fast as it goes (TCP only). */
  readonly blockBytes: number;
  readonly everyMs: number;
  /** How long to wait for the stream to come back. */
  readonly patienceMs: number;
  /** What the namespaces are called. */
  readonly name: string;
  /** Plain addresses, which the agents accept without proof, in place of HBAs. */
  readonly plain?: boolean;
  readonly executable: Executable;
  /** Further arguments for both agents. */
  readonly agentArgs: readonly string[];
  /** Where logs, events and captures are kept; nowhere when absent. */
  readonly logs?: string;
  /** Told what happens. */
  readonly onProgress?: (progress: FailoverProgress) => void;
}

/** What happens during a run. `at` is monotonic ms. */
export type FailoverProgress =
  | { readonly step: "testbed" | "agents" | "stream" | "established" | "killed" | "recovered" | "ended"; at: number }
  /** Octets that the receiving program has so far. */
  | { readonly step: "received"; readonly at: number; readonly bytes: number };

/** The current pairs of both hosts, each as its host sends. */
export interface CurrentPairs {
  readonly a: LocatorPair;
  readonly b: LocatorPair;
}

/** What a run measured. */
export interface FailoverResult extends SilenceParts {
  readonly transport: Transport;
  readonly policy: string;
  readonly profile: string;
  readonly kill: Kill;
  readonly delay_ms: number;
  readonly hold: boolean;
  /** TCP: all that was sent has arrived, as it was sent. UDP: nothing is missing but what was sent into the silence. */
  readonly intact: boolean;
  /** The stream went on after the failure. */
  readonly recovered: boolean;
  readonly bytes_sent: number;
  readonly bytes_received: number;
  /** From the first arrival to the failure. */
  readonly kill_t_ms: number;
  readonly ulid: LocatorPair;
  readonly pair_before: CurrentPairs;
  readonly pair_after: CurrentPairs;
  /** What the failure did to each host. */
  readonly hosts: { readonly a: HostStory; readonly b: HostStory };
  /** UDP only: both directions. */
  readonly datagrams?: { readonly a_to_b: DatagramCount; readonly b_to_a: DatagramCount };
  /** What the receiving program saw, in bins of 10 ms from its first arrival on; empty bins are left out. */
  readonly timeline: readonly { readonly t_ms: number; readonly bytes: number }[];
}

/** Datagrams of one direction. */
export interface DatagramCount {
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  /** Of the lost ones, those that were not sent during this direction's silence after the failure. */
  readonly lost_elsewhere: number;
  readonly duplicates: number;
  readonly reordered: number;
  readonly corrupt: number;
}

const PORT = 5001;
const ESTABLISH_TIMEOUT_MS = 20_000;
/** REAP's adaptive part learns what is usual before something unusual happens. */
const SETTLE_MS = 1_000;
/** The stream's tail after the recovery. */
const AFTERMATH_MS = 1_000;
/** The end of a TCP stream must get through, too; over a path with a delay it takes a few round trips. */
const END_TIMEOUT_MS = 15_000;
const PROGRESS_MS = 50;
const SITE = "2001:db8::/32";

/** Runs the experiment once. Whatever happens, nothing is left of the testbed. */
export function runFailover(options: FailoverOptions): Promise<FailoverResult> {
  return onTestbed(
    { name: options.name, plain: options.plain },
    options.logs,
    (topology, directory) => new FailoverRun(topology, directory, options).run(),
  );
}

class FailoverRun {
  readonly #topology: Topology;
  readonly #directory: string;
  readonly #options: FailoverOptions;
  /** As host a and host b see it. */
  readonly #ulid: CurrentPairs;
  readonly #logging: Promise<void>[] = [];
  #emulator: Emulator | undefined;

  constructor(topology: Topology, directory: string, options: FailoverOptions) {
    this.#topology = topology;
    this.#directory = directory;
    this.#options = options;
    const [a, b] = [topology.a.addresses[0], topology.b.addresses[0]];
    this.#ulid = { a: { local: a, peer: b }, b: { local: b, peer: a } };
  }

  async run(): Promise<FailoverResult> {
    this.#tell("testbed");
    if (this.#options.delayMs > 0) await this.#delayAllPaths();
    const [a, b] = await this.#startAgents();
    this.#tell("agents");
    const { receiver, sender } = await this.#startTraffic();
    const started = monotonicNow();
    this.#tell("stream");

    await waitFor("both hosts have a context", ESTABLISH_TIMEOUT_MS, async () => {
      const contexts = await this.#contexts(a, b);
      return contexts.every((context) => context?.state === "ESTABLISHED" && context.reap === "operational");
    });
    this.#tell("established");
    await sleep(Math.max(SETTLE_MS, started + this.#options.killAtMs - monotonicNow()));
    const before = await this.#pairs(a, b);
    const killedAt = monotonicNow();
    await this.#break(before);
    this.#tell("killed", killedAt);

    const recovered = await this.#awaitRecovery(a, b, receiver, killedAt);
    if (recovered) this.#tell("recovered");
    await sleep(Math.max(AFTERMATH_MS, started + this.#options.durationMs - monotonicNow()));
    const after = await this.#pairs(a, b);
    const until = monotonicNow();
    const [sent, received] = await this.#endTraffic(sender, receiver);
    this.#tell("ended");
    const stories = { a: a.events(this.#ulid.a), b: b.events(this.#ulid.b) };
    await this.#emulator?.close();
    await Promise.all([a.stop(), b.stop(), ...this.#logging]);

    const { transport, policy, profile, kill, delayMs, hold } = this.#options;
    const mover = kill === "b-to-a" ? "b" : "a", other = mover === "a" ? "b" : "a";
    const view = this.#receiverView(sent, received, killedAt, until);
    const silence = longestSilence(view.reception, killedAt, until);
    return {
      transport,
      policy,
      profile,
      kill,
      delay_ms: delayMs,
      hold,
      ...splitSilence(silence, killedAt, stories[mover], stories[other]),
      intact: view.intact,
      recovered,
      bytes_sent: view.bytesSent,
      bytes_received: view.bytesReceived,
      kill_t_ms: killedAt - view.reception.first,
      ulid: this.#ulid.a,
      pair_before: before,
      pair_after: after,
      hosts: { a: hostStory(stories.a, killedAt), b: hostStory(stories.b, killedAt) },
      ...(view.datagrams === undefined ? {} : { datagrams: view.datagrams }),
      timeline: timelineOf(view.reception),
    };
  }

  #tell(step: Exclude<FailoverProgress["step"], "received">, at = monotonicNow()): void {
    this.#options.onProgress?.({ step, at });
  }

  async #delayAllPaths(): Promise<void> {
    const { a, b, router } = this.#topology;
    const process = this.#spawn(router, ["emulator"], "piped");
    this.#emulator = await Emulator.attach(process);
    for (const [source, destination] of [[a, b], [b, a]]) {
      for (const from of source.providers) {
        for (const to of destination.providers) {
          await this.#emulator.setPath({
            from: this.#topology.prefixOf(from.address),
            to: this.#topology.prefixOf(to.address),
            delay_ms: this.#options.delayMs,
          });
          this.#topology.setPath(from.address, to.address, "emulated");
        }
      }
    }
  }

  async #startAgents(): Promise<[AgentProcess, AgentProcess]> {
    const { policy, profile, hold, executable, agentArgs } = this.#options;
    const args = ["--policy", policy, "--profile", profile, "--establish-always", SITE, ...agentArgs];
    if (!hold) args.push("--no-hold");
    const start = (host: LabHost) =>
      AgentProcess.start(this.#topology, host, { executable, args, directory: this.#directory });
    return await Promise.all([start(this.#topology.a), start(this.#topology.b)]);
  }

  /** Starts a lab program; its messages go to a file, as they would spoil what is on the terminal. */
  #spawn(node: LabNode, args: readonly string[], stdin: "piped" | "null"): Deno.ChildProcess {
    const { command, args: first } = this.#options.executable;
    const child = this.#topology.spawn(node, command, {
      args: [...first, "lab", ...args],
      stdin,
      stdout: "piped",
      stderr: "piped",
    });
    const log = Deno.openSync(`${this.#directory}/${node.name}.${args[0]}.log`, { append: true, create: true });
    this.#logging.push(child.stderr.pipeTo(log.writable));
    return child;
  }

  /** `receiver` is on host b, `sender` on host a; with UDP both do both. */
  async #startTraffic(): Promise<{ sender: TrafficProcess; receiver: TrafficProcess }> {
    const { transport, blockBytes, everyMs } = this.#options;
    const start = (host: LabHost, program: string, ...args: string[]) =>
      new TrafficProcess(this.#spawn(host, ["traffic", program, "--port", String(PORT), ...args], "null"));
    const { a, b } = this.#topology;
    const { local, peer } = this.#ulid.a;
    const pace = ["--block-bytes", String(blockBytes), "--every-ms", String(everyMs)];
    const progress = ["--progress-ms", String(PROGRESS_MS)];
    const receiver = transport === "tcp"
      ? start(b, "tcp-receive", "--local", peer, ...progress)
      : start(b, "udp", "--answer", "--local", peer, "--peer", local, ...pace, ...progress);
    await receiver.line("listening");
    const sender = transport === "tcp"
      ? start(a, "tcp-send", "--local", local, "--peer", peer, ...pace)
      : start(a, "udp", "--local", local, "--peer", peer, ...pace, ...progress);
    await sender.line(transport === "tcp" ? "connected" : "listening");
    receiver.onProgress = (at, bytes) => this.#options.onProgress?.({ step: "received", at, bytes });
    return { sender, receiver };
  }

  async #contexts(a: AgentProcess, b: AgentProcess): Promise<(ContextReport | undefined)[]> {
    return await Promise.all([a.context(this.#ulid.a), b.context(this.#ulid.b)]);
  }

  async #pairs(a: AgentProcess, b: AgentProcess): Promise<CurrentPairs> {
    const [ofA, ofB] = await this.#contexts(a, b);
    if (ofA === undefined || ofB === undefined) throw new CommandError("a host has lost its context");
    return { a: ofA.current, b: ofB.current };
  }

  async #break(pairs: CurrentPairs): Promise<void> {
    const { kill } = this.#options;
    const { local } = pairs.a;
    switch (kill) {
      case "both":
        await this.#cut(pairs.a);
        return await this.#cut(pairs.b);
      case "a-to-b":
        return await this.#cut(pairs.a);
      case "b-to-a":
        return await this.#cut(pairs.b);
      case "provider":
        for (const peer of this.#topology.b.addresses) {
          await this.#cut({ local, peer });
          await this.#cut({ local: peer, peer: local });
        }
        return;
      case "link":
        return this.#topology.setLink(local, "no-carrier");
      case "address":
        return this.#topology.setAddress(local, "absent");
    }
  }

  async #cut({ local, peer }: LocatorPair): Promise<void> {
    this.#topology.setPath(local, peer, "down");
    // What the emulator still holds is lost with the path.
    const from = this.#topology.prefixOf(local), to = this.#topology.prefixOf(peer);
    await this.#emulator?.setPath({ from, to, up: false });
  }

  /** Waits until an agent has moved, both are operational, and the receiving program hears something again. */
  async #awaitRecovery(
    a: AgentProcess,
    b: AgentProcess,
    receiver: TrafficProcess,
    killedAt: number,
  ): Promise<boolean> {
    try {
      await waitFor("the stream goes on", this.#options.patienceMs, async () => {
        const moved = [...a.events(this.#ulid.a), ...b.events(this.#ulid.b)]
          .some((event) => event.at >= killedAt && event.kind === "recovered");
        if (!moved) return false;
        const contexts = await this.#contexts(a, b);
        return contexts.every((context) => context?.reap === "operational");
      });
      const bytes = receiver.progress;
      await waitFor("the receiver hears again", this.#options.patienceMs, () => receiver.progress > bytes);
      return true;
    } catch (error) {
      if (error instanceof LabTimeout) return false;
      throw error;
    }
  }

  async #endTraffic(
    sender: TrafficProcess,
    receiver: TrafficProcess,
  ): Promise<(TrafficResult | undefined)[]> {
    sender.stop();
    // A TCP receiver ends with its stream.
    if (this.#options.transport === "udp") receiver.stop();
    const sent = await sender.result(END_TIMEOUT_MS);
    if (this.#options.transport === "tcp" && sent?.program === "tcp-send" && !sent.complete) receiver.stop();
    return [sent, await receiver.result(END_TIMEOUT_MS)];
  }

  /** What the program saw that the failure concerns. */
  #receiverView(
    sent: TrafficResult | undefined,
    received: TrafficResult | undefined,
    killedAt: number,
    until: number,
  ): ReceiverView {
    if (received === undefined) throw new CommandError("the receiving program gave no account of what it received");
    if (received.program === "tcp-receive") return tcpView(sent as TcpSent | undefined, received);
    if (sent?.program !== "udp" || received.program !== "udp") throw new CommandError("a side gave no account");
    return udpView(sent, received, this.#options.kill, killedAt, until);
  }
}

interface ReceiverView {
  readonly reception: ReceptionReport;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly intact: boolean;
  readonly datagrams?: FailoverResult["datagrams"];
}

function tcpView(sent: TcpSent | undefined, received: TcpReceived): ReceiverView {
  return {
    reception: received.reception,
    bytesSent: sent?.bytes ?? 0,
    bytesReceived: received.bytes,
    intact: sent !== undefined && sent.complete && received.complete && sent.sha256 === received.sha256,
  };
}

function udpView(a: UdpExchanged, b: UdpExchanged, kill: Kill, killedAt: number, until: number): ReceiverView {
  const count = (from: UdpExchanged, to: UdpExchanged): DatagramCount => {
    const silence = longestSilence(to.reception, killedAt, until);
    // The last ones that came before the silence were sent before the failure.
    const last = from.sent - 1 - to.highest;
    const runs = last > 0 ? [...to.missing, { count: last, after: to.reception.last, before: Infinity }] : to.missing;
    const elsewhere = runs.filter((run) => run.before < killedAt || run.after > silence.to);
    return {
      sent: from.sent,
      received: to.received,
      lost: from.sent - to.received,
      lost_elsewhere: elsewhere.reduce((sum, run) => sum + run.count, 0),
      duplicates: to.duplicates,
      reordered: to.reordered,
      corrupt: to.corrupt,
    };
  };
  const datagrams = { a_to_b: count(a, b), b_to_a: count(b, a) };
  const [sender, receiver] = kill === "b-to-a" ? [b, a] : [a, b];
  return {
    reception: receiver.reception,
    bytesSent: sender.bytes_sent,
    bytesReceived: receiver.bytes_received,
    intact: Object.values(datagrams).every((d) => d.lost_elsewhere === 0 && d.corrupt === 0),
    datagrams,
  };
}

function timelineOf({ bins, bin_ms }: ReceptionReport): { t_ms: number; bytes: number }[] {
  return bins.map((bytes, i) => ({ t_ms: i * bin_ms, bytes })).filter(({ bytes }) => bytes > 0);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}

const HELP = `usage: shim6-agent lab failover [options]

breaks the path in use under a stream between two hosts and prints as JSON what the receiving program saw

  --transport NAME     ${TRANSPORTS.join(", ")} (tcp)
  --policy NAME        path-selection policy of both agents (random)
  --profile NAME       timers of both agents (paper)
  --duration S         how long the stream lasts at least, in seconds (6)
  --kill-at S          when the path breaks, in seconds from the start (a third of the duration)
  --kill KIND          ${KILLS.join(", ")} (both)
  --delay-ms D         delay of every path, each way (0)
  --no-hold            the agents do not hold and release copies
  --plain              plain addresses, accepted without proof, in place of HBAs (RFC 5535)
  --every-ms E         a block every E ms; 0, with TCP: as fast as it goes (5 with TCP, 10 with UDP)
  --block-bytes B      octets of a block (32768 with TCP, 200 with UDP)
  --repeat N           so many runs, printed as a list (1)
  --patience S         how long the stream may take to come back (90)
  --executable PATH    run the agents from this file
  --agent-arg ARG      a further argument for both agents (repeatable)
  --logs DIR           keep logs and events there
  --name NAME          what the network namespaces are called (shim6-failover)`;

/** The settings that the command line leaves open. */
export const FAILOVER_DEFAULTS = {
  transport: "tcp",
  policy: "random",
  profile: "paper",
  durationMs: 6_000,
  kill: "both",
  delayMs: 0,
  hold: true,
  patienceMs: 90_000,
  name: "shim6-failover",
  agentArgs: [],
} as const;

/** Block and pace of a stream: some 50 Mbit/s of TCP, a datagram every 10 ms. */
export const PACE = {
  tcp: { blockBytes: 32_768, everyMs: 5 },
  udp: { blockBytes: 200, everyMs: 10 },
} as const;

/** Reads the command line of `lab failover`; undefined when help was asked for. Throws UsageError. */
export function readFailoverArguments(args: string[]): { options: FailoverOptions; repeat: number } | undefined {
  const numbers = ["duration", "kill-at", "delay-ms", "every-ms", "block-bytes", "repeat", "patience"] as const;
  const flags = parseArgs(args, {
    string: ["transport", "policy", "profile", "kill", "executable", "agent-arg", "logs", "name", ...numbers],
    boolean: ["hold", "plain", "help"],
    negatable: ["hold"],
    collect: ["agent-arg"],
    default: {
      transport: FAILOVER_DEFAULTS.transport,
      policy: FAILOVER_DEFAULTS.policy,
      profile: FAILOVER_DEFAULTS.profile,
      kill: FAILOVER_DEFAULTS.kill,
      name: FAILOVER_DEFAULTS.name,
      hold: true,
    },
    unknown: (flag: string) => {
      throw new UsageError(`unknown argument ${flag}; shim6-agent lab failover --help lists the options`);
    },
  });
  if (flags.help) return undefined;
  const number = (name: typeof numbers[number], otherwise: number): number => {
    const value = flags[name];
    if (value === undefined) return otherwise;
    if (!/^\d+(\.\d+)?$/.test(value)) throw new UsageError(`--${name} needs a number, got ${JSON.stringify(value)}`);
    return Number(value);
  };
  if (flags.executable !== undefined && !isFile(flags.executable)) {
    throw new UsageError(`--executable ${flags.executable}: there is no such file`);
  }
  const transport = oneOf("transport", TRANSPORTS, flags.transport);
  const durationMs = number("duration", FAILOVER_DEFAULTS.durationMs / 1000) * 1000;
  const everyMs = number("every-ms", PACE[transport].everyMs);
  if (transport === "udp" && everyMs === 0) throw new UsageError("--every-ms 0 is for TCP, which paces itself");
  return {
    repeat: Math.max(1, Math.floor(number("repeat", 1))),
    options: {
      transport,
      policy: flags.policy,
      profile: flags.profile,
      durationMs,
      kill: oneOf("kill", KILLS, flags.kill),
      killAtMs: number("kill-at", durationMs / 3000) * 1000,
      delayMs: number("delay-ms", FAILOVER_DEFAULTS.delayMs),
      hold: flags.hold,
      blockBytes: number("block-bytes", PACE[transport].blockBytes),
      everyMs,
      patienceMs: number("patience", FAILOVER_DEFAULTS.patienceMs / 1000) * 1000,
      name: flags.name,
      plain: flags.plain,
      executable: thisProgram(flags.executable),
      agentArgs: flags["agent-arg"],
      logs: flags.logs,
    },
  };
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

function oneOf<T extends string>(flag: string, values: readonly T[], given: string): T {
  const value = values.find((value) => value === given);
  if (value === undefined) throw new UsageError(`--${flag} ${given}: one of ${values.join(", ")}`);
  return value;
}

/** `lab failover`. Returns the exit code: 0 when every stream arrived whole. */
export async function failoverCommand(args: string[]): Promise<number> {
  const wanted = readFailoverArguments(args);
  if (wanted === undefined) {
    console.log(HELP);
    return 0;
  }
  const { options, repeat } = wanted;
  const results: FailoverResult[] = [];
  await withCleanEnd(async () => {
    for (let run = 1; run <= repeat; run++) {
      const logs = options.logs === undefined || repeat === 1 ? options.logs : `${options.logs}/${run}`;
      results.push(await runFailover({ ...options, logs }));
    }
  });
  console.log(formatResult(repeat === 1 ? results[0] : results));
  return results.every((result) => result.intact) ? 0 : 1;
}

/** JSON for people too: times to the microsecond, and a bin of the timeline a line. */
function formatResult(result: FailoverResult | FailoverResult[]): string {
  const round = (_key: string, value: unknown) => typeof value === "number" ? Math.round(value * 1000) / 1000 : value;
  return JSON.stringify(result, round, 2).replace(/\{\s+("t_ms": [\d.]+,)\s+("bytes": \d+)\s+\}/g, "{ $1 $2 }");
}
