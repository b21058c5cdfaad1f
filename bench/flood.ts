/**
 * What a flood does to a failover: recovery time without and with 50,000 I1 and 50,000 I2 with bad validators at full rate,
 * the agent's memory and processor time meanwhile, and the octets it sends to strangers.
 *
 *     deno run -A bench/flood.ts [--trials 3] [--messages 50000] [--profile rfc5534] [--policy adaptive]
 *                                [--executable dist/shim6-agent] [--json FILE]
 */

import { parseArgs } from "@std/cli";
import { closeFd, ControlReceiver, monotonicNow, openControlSocket, openSender, withNetns } from "deno-tun";
import type { StatusReport } from "../control/protocol.ts";
import { AgentProcess, waitFor } from "../lab/agent_process.ts";
import { withCleanEnd } from "../lab/clean_end.ts";
import { onTestbed } from "../lab/experiment.ts";
import { longestSilence } from "../lab/reception.ts";
import { type Executable, thisProgram } from "../lab/self.ts";
import type { LabHost, LabNode, Topology } from "../lab/topology.ts";
import type { TcpReceived, TcpSent } from "../lab/traffic.ts";
import { TrafficProcess } from "../lab/traffic_process.ts";
import type { LocatorPair } from "../policies/policy.ts";
import { SeededRandom } from "../sim/random.ts";
import type { Address } from "../wire/address.ts";
import { controlPacket, emitMessage, parseControlMessage } from "../wire/codec.ts";
import { type Message, MessageType } from "../wire/message.ts";
import { cpuMs, median, pidOf } from "./measures.ts";

/** Somebody in whose name half of the flood is sent. */
const VICTIM = "2001:db8:dead::1";
const LOOPBACK = 1;
const IPV6_HEADER = 40;
/** Octets of the messages that strangers can be answered with, from the IPv6 header on. */
const R1_OCTETS = IPV6_HEADER + 40, R1BIS_OCTETS = IPV6_HEADER + 40, LONGEST_ERROR_OCTETS = 1280;
const SETTLE_MS = 3_000;
const RECOVERY_MS = 40_000;
const SAMPLE_MS = 50;
const PORT = 5031;

/** One failover. Times in ms, memory in MiB. */
interface FloodedFailover {
  readonly silence_ms: number;
  readonly intact: boolean;
  readonly packets: number;
  readonly flood_ms: number;
  readonly octets_in: number;
  /** All control messages that the agent sent to anybody but its peer. */
  readonly octets_out: number;
  /** Messages of the flood that the agent read; the kernel dropped the others at the full socket. */
  readonly read: number;
  readonly cpu_ms: number;
  readonly memory_before_mib: Resident;
  readonly memory_peak_mib: Resident;
  readonly memory_after_mib: Resident;
  readonly contexts: number;
}

/** How to run {@linkcode failover}. */
interface FloodOptions {
  readonly executable: Executable;
  readonly args: readonly string[];
  /** I1s, and as many I2s; 0: a quiet failover. */
  readonly messages: number;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Resident memory in MiB: all of it, and without the pages of the executable file, which are there once for all. */
interface Resident {
  readonly all: number;
  readonly own: number;
}

function resident(pid: number): Resident {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  const mib = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)![1]) / 1024;
  return { all: mib("VmRSS"), own: mib("RssAnon") + mib("RssShmem") };
}

function larger(a: Resident, b: Resident): Resident {
  return { all: Math.max(a.all, b.all), own: Math.max(a.own, b.own) };
}

/** The Responder Nonce that the agent hands out, as anybody can learn it: else a bad validator is not even looked at. */
async function responderNonce(router: LabNode, target: Address): Promise<number> {
  const [fd, sender] = withNetns(router.netnsFd, () => [openControlSocket(), openSender(VICTIM, undefined)] as const);
  const receiver = new ControlReceiver(fd);
  try {
    const i1 = emitMessage({ type: MessageType.I1, initiatorTag: 1, initiatorNonce: 1 });
    for (;;) {
      sender.send(controlPacket(VICTIM, target, i1));
      await sleep(100);
      for (let message = receiver.next(); message !== undefined; message = receiver.next()) {
        const result = parseControlMessage(message.octets, message.source, message.destination);
        if (result.ok && result.packet.message.type === MessageType.R1) return result.packet.message.responderNonce;
      }
    }
  } finally {
    sender.close();
    closeFd(fd);
  }
}

/** The flood: half of it in the victim's name, half from an address for each packet. */
function flood(targets: readonly Address[], messages: number, nonce: number): Uint8Array<ArrayBuffer>[] {
  const random = new SeededRandom(1);
  return Array.from({ length: 2 * messages }, (_, i) => {
    const stranger = i % 4 < 2 ? VICTIM : `2001:db8:ffff::${(i >> 16).toString(16)}:${(i & 0xffff).toString(16)}`;
    const common = { initiatorTag: random.uint32(), initiatorNonce: random.uint32() };
    const message: Message = i % 2 === 0
      ? { type: MessageType.I1, ...common }
      : { type: MessageType.I2, ...common, responderNonce: nonce, validator: random.bytes(20) };
    return controlPacket(stranger, targets[i % targets.length], emitMessage(message));
  });
}

/** Octets of what the agent sent to strangers between two reports. */
function octetsToStrangers(before: StatusReport, after: StatusReport): number {
  const sent = (type: string) => (after.counters.sent[type] ?? 0) - (before.counters.sent[type] ?? 0);
  return sent("R1") * R1_OCTETS + sent("R1bis") * R1BIS_OCTETS + sent("Error") * LONGEST_ERROR_OCTETS;
}

/** A failover of a stream from host a to host b while strangers flood host a. Host b is left alone. */
async function failover(topology: Topology, directory: string, options: FloodOptions): Promise<FloodedFailover> {
  const { a, b, router } = topology;
  const { executable, args, messages } = options;
  const ulid: LocatorPair = { local: a.addresses[0], peer: b.addresses[0] };
  router.netlink.addAddress(LOOPBACK, VICTIM, 128, { nodad: true });
  const [agent, peer] = await Promise.all(
    [a, b].map((host) =>
      AgentProcess.start(topology, host, {
        executable,
        args: ["--establish-always", "2001:db8::/32", ...args],
        directory,
      })
    ),
  );
  const traffic = (host: LabHost, ...rest: string[]) =>
    new TrafficProcess(topology.spawn(host, executable.command, {
      args: [...executable.args, "lab", "traffic", ...rest, "--port", String(PORT)],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }));
  const receiver = traffic(b, "tcp-receive", "--local", ulid.peer);
  await receiver.line("listening");
  const pace = ["--block-bytes", "1000", "--every-ms", "10"];
  const sender = traffic(a, "tcp-send", "--local", ulid.local, "--peer", ulid.peer, ...pace);
  await sender.line("connected");
  await waitFor("both hosts have a context", RECOVERY_MS, async () => {
    const contexts = [await agent.context(ulid), await peer.context({ local: ulid.peer, peer: ulid.local })];
    return contexts.every((context) => context?.state === "ESTABLISHED" && context.reap === "operational");
  });
  await sleep(SETTLE_MS);
  const packets = messages === 0 ? [] : flood(a.addresses, messages, await responderNonce(router, ulid.local));

  const pid = pidOf(`${directory}/${a.name}.sock`);
  const before = await agent.status();
  const memoryBefore = resident(pid), cpuBefore = cpuMs(pid);
  const attacker = withNetns(router.netnsFd, () => openSender(VICTIM, undefined));
  const killed = monotonicNow();
  let peak = memoryBefore, sent = 0, octetsIn = 0;
  topology.setProvider(ulid.local, "down");
  try {
    for (const packet of packets) {
      // The router is full now and then; what it does not take is not part of the flood.
      if (attacker.send(packet) === 0) {
        sent++;
        octetsIn += packet.length;
      }
      if (sent % 1_000 === 0) {
        peak = larger(peak, resident(pid));
        await sleep(0);
      }
    }
  } finally {
    attacker.close();
  }
  const floodMs = monotonicNow() - killed;
  await waitFor("the context recovers", RECOVERY_MS, async () => {
    peak = larger(peak, resident(pid));
    const context = await agent.context(ulid);
    return context !== undefined && context.reap === "operational" && context.current.local !== ulid.local;
  });
  for (let at = 0; at < SETTLE_MS; at += SAMPLE_MS) {
    peak = larger(peak, resident(pid));
    await sleep(SAMPLE_MS);
  }
  const cpu = cpuMs(pid) - cpuBefore;
  const after = await agent.status();
  const memoryAfter = resident(pid);
  const until = monotonicNow();
  sender.stop();
  const result = await sender.result(RECOVERY_MS) as TcpSent | undefined;
  const received = await receiver.result(RECOVERY_MS) as TcpReceived | undefined;
  await Promise.all([agent.stop(), peer.stop()]);
  topology.setProvider(ulid.local, "up");
  router.netlink.deleteAddress(LOOPBACK, VICTIM, 128);
  if (received === undefined || result === undefined) throw new Error("the stream came to no end");
  const silence = longestSilence(received.reception, killed, until);
  const count = ({ counters: { sent, dropped } }: StatusReport) =>
    (sent.R1 ?? 0) + (dropped["rate-limited"] ?? 0) + (dropped.validator ?? 0);
  return {
    silence_ms: silence.to - silence.from,
    intact: result.complete && received.complete && result.sha256 === received.sha256,
    packets: sent,
    flood_ms: floodMs,
    octets_in: octetsIn,
    octets_out: octetsToStrangers(before, after),
    read: count(after) - count(before),
    cpu_ms: cpu,
    memory_before_mib: memoryBefore,
    memory_peak_mib: peak,
    memory_after_mib: memoryAfter,
    contexts: after.contexts.length,
  };
}

function growth(results: readonly FloodedFailover[], of: keyof Resident): number {
  return median(results.map((result) => result.memory_peak_mib[of] - result.memory_before_mib[of]));
}

function text({ all, own }: Resident): string {
  return `${all.toFixed(1)} (own ${own.toFixed(1)})`;
}

async function main(): Promise<number> {
  const flags = parseArgs(Deno.args, {
    string: ["trials", "messages", "profile", "policy", "executable", "json"],
    default: { trials: "3", messages: "50000" },
  });
  const args = [
    ...(flags.profile === undefined ? [] : ["--profile", flags.profile]),
    ...(flags.policy === undefined ? [] : ["--policy", flags.policy]),
  ];
  const executable = thisProgram(flags.executable);
  const quiet: FloodedFailover[] = [], flooded: FloodedFailover[] = [];
  await withCleanEnd(() =>
    onTestbed({ name: "shim6-flood" }, undefined, async (topology, directory) => {
      for (let trial = 0; trial < Number(flags.trials); trial++) {
        for (const [results, messages] of [[quiet, 0], [flooded, Number(flags.messages)]] as const) {
          const result = await failover(topology, directory, { executable, args, messages });
          results.push(result);
          console.log(
            `${messages === 0 ? "quiet  " : "flooded"} silence ${result.silence_ms.toFixed(0)} ms, ` +
              `${result.packets} packets in ${result.flood_ms.toFixed(0)} ms, ${result.read} read, ` +
              `processor ${result.cpu_ms} ms, octets in ${result.octets_in}, out ${result.octets_out}, memory ` +
              `${text(result.memory_before_mib)} → peak ${text(result.memory_peak_mib)}, ` +
              `then ${text(result.memory_after_mib)} MiB, ${result.intact ? "intact" : "DAMAGED"}`,
          );
        }
      }
    })
  );
  const summary = {
    quiet_silence_ms: median(quiet.map((result) => result.silence_ms)),
    flooded_silence_ms: median(flooded.map((result) => result.silence_ms)),
    silence_ratio: median(flooded.map((result) => result.silence_ms)) /
      median(quiet.map((result) => result.silence_ms)),
    quiet_growth_mib: growth(quiet, "all"),
    flooded_growth_mib: growth(flooded, "all"),
    quiet_own_growth_mib: growth(quiet, "own"),
    flooded_own_growth_mib: growth(flooded, "own"),
    octets_out_per_octet_in: Math.max(...flooded.map((result) => result.octets_out / result.octets_in)),
  };
  console.log(summary);
  if (flags.json) {
    Deno.writeTextFileSync(flags.json, JSON.stringify({ ...summary, quiet, flooded }, null, 2) + "\n");
  }
  return 0;
}

if (import.meta.main) Deno.exit(await main());
