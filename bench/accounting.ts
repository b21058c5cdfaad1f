/**
 * What accounting costs: TCP throughput through a veth pair without and with it, time for a packet in the kernel, time
 * to read. Needs root and iperf3.
 *
 *     deno run -A bench/accounting.ts [--rounds 5] [--seconds 1]
 *
 * The variants take turns, and each is compared with the plain run of its round, since throughput wanders with the
 * machine's other work. Both ends run on this machine.
 */

import { parseArgs } from "@std/cli";
import { BpfMap, BpfMapType, BpfProgram } from "deno-tun";
import { type Accounting, noActivity, openAccounting } from "../datapath/accounting.ts";
import { accountingProgram, FLOW_LENGTH, PAIR_LENGTH, SLOT_LENGTH } from "../datapath/accounting_programs.ts";
import { parseAddress } from "../wire/address.ts";
import { SHIM6_PROTOCOL } from "../wire/message.ts";
import { type Host, twoHosts } from "../tests/datapath/two_hosts.ts";
import { median } from "./measures.ts";

const EXCLUDED_PORTS = [53, 853];
const CONTEXTS = 10_000;

type Variant = "plain" | "ebpf, context" | "ebpf, flow" | "tap, context";
const VARIANTS: readonly Variant[] = ["plain", "ebpf, context", "ebpf, flow", "tap, context"];

const options = parseArgs(Deno.args, { string: ["rounds", "seconds"], default: { rounds: "5", seconds: "1" } });

/** Accounting on the only link of a host. */
function open(host: Host, peer: Host, variant: Variant): Accounting {
  const index = host.netlink.link("eth1")!.index;
  let accounting: Accounting | undefined;
  host.in(() => {
    accounting = openAccounting({ excludedPorts: EXCLUDED_PORTS, force: variant.startsWith("tap") ? "tap" : "ebpf" });
    accounting.setInterfaces([index]);
  });
  if (variant.endsWith("context")) accounting!.add(1, { local: host.address(1), peer: peer.address(1) });
  return accounting!;
}

/** Gbit/s of one TCP connection. */
async function throughput(a: Host, b: Host): Promise<number> {
  const spawn = (host: Host, ...args: string[]) => {
    let child: Deno.ChildProcess | undefined;
    host.in(() => {
      child = new Deno.Command("iperf3", { args, stdout: "piped", stderr: "null" }).spawn();
    });
    return child!;
  };
  const server = spawn(b, "--server", "--one-off", "--bind", b.address(1), "--forceflush");
  const lines = server.stdout.getReader();
  await lines.read(); // it listens
  lines.releaseLock();
  const client = spawn(a, "--client", b.address(1), "--time", options.seconds, "--json");
  const { stdout } = await client.output();
  await server.output();
  return JSON.parse(new TextDecoder().decode(stdout)).end.sum_received.bits_per_second / 1e9;
}

async function measureThroughput(): Promise<void> {
  using hosts = twoHosts(1);
  const results = new Map<Variant, number[]>(VARIANTS.map((variant) => [variant, []]));
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const variant of VARIANTS) {
      const both = variant === "plain" ? [] : [open(hosts.a, hosts.b, variant), open(hosts.b, hosts.a, variant)];
      const reading = setInterval(() => both.forEach((accounting) => accounting.flows()), 100);
      results.get(variant)!.push(await throughput(hosts.a, hosts.b));
      clearInterval(reading);
      both.forEach((accounting) => accounting.close());
    }
  }
  console.log(`TCP through veth, both ends accounted, median of ${options.rounds} runs of ${options.seconds} s:`);
  for (const [variant, values] of results) {
    const ratio = median(values.map((value, round) => value / results.get("plain")![round]));
    console.log(`  ${variant.padEnd(14)} ${median(values).toFixed(2).padStart(6)} Gbit/s   ratio ${ratio.toFixed(3)}`);
  }
}

/** An Ethernet frame with UDP. */
function frame(source: string, destination: string, nextHeader = 17): Uint8Array {
  const octets = new Uint8Array(14 + 40 + 1000);
  octets.set([0x86, 0xdd], 12);
  octets.set([0x60, 0, 0, 0, 1000 >> 8, 1000 & 0xff, nextHeader, 64], 14);
  octets.set(parseAddress(source), 22);
  octets.set(parseAddress(destination), 38);
  return octets;
}

function measurePrograms(): void {
  const contexts = new BpfMap({
    type: BpfMapType.HASH,
    keySize: PAIR_LENGTH,
    valueSize: 4,
    maxEntries: 16_384,
    name: "a",
  });
  const slots = new BpfMap({
    type: BpfMapType.ARRAY,
    keySize: 4,
    valueSize: SLOT_LENGTH,
    maxEntries: 16_384,
    name: "b",
  });
  const flows = new BpfMap({
    type: BpfMapType.LRU_HASH,
    keySize: PAIR_LENGTH,
    valueSize: FLOW_LENGTH,
    maxEntries: 8192,
    name: "c",
  });
  const key = new Uint8Array(PAIR_LENGTH);
  key.set(parseAddress("fd00::a"));
  key.set(parseAddress("fd00::b"), 16);
  contexts.update(key, new Uint8Array(4));
  const maps = { contexts: contexts.fd, slots: slots.fd, flows: flows.fd };
  console.log("a packet in the kernel, ns:");
  for (const direction of ["egress", "ingress"] as const) {
    const program = new BpfProgram("bench", accountingProgram(direction, maps, EXCLUDED_PORTS, SHIM6_PROTOCOL));
    const [us, peer, stranger] = direction === "egress"
      ? ["fd00::a", "fd00::b", "fd00::c"]
      : ["fd00::b", "fd00::a", "fd00::d"];
    for (
      const [name, packet] of [
        ["of a context", frame(us, peer)],
        ["without context", frame(us, stranger)],
        ["Shim6", frame(us, peer, 140)],
        ["not IPv6", new Uint8Array(1054)],
      ] as const
    ) {
      const runs = Array.from({ length: 5 }, () => program.testRun(packet, 200_000).nanoseconds);
      console.log(`  ${direction.padEnd(8)} ${name.padEnd(16)} ${median(runs)}`);
    }
    program.close();
  }
  for (const map of [contexts, slots, flows]) map.close();
}

function measureReading(force: "ebpf" | "tap"): void {
  const accounting = openAccounting({ excludedPorts: EXCLUDED_PORTS, force });
  const added = performance.now();
  for (let id = 0; id < CONTEXTS; id++) {
    accounting.add(id, { local: "fd00::1", peer: `fd01::${(id >> 8).toString(16)}:${(id & 0xff).toString(16)}` });
  }
  const adding = performance.now() - added;
  const activity = noActivity();
  const passes = Array.from({ length: 50 }, () => {
    const start = performance.now();
    for (let id = 0; id < CONTEXTS; id++) accounting.read(id, activity);
    return performance.now() - start;
  });
  const flows = Array.from({ length: 50 }, () => {
    const start = performance.now();
    accounting.flows();
    return performance.now() - start;
  });
  accounting.close();
  console.log(
    `${force}: add ${CONTEXTS} contexts ${adding.toFixed(1)} ms, read them all ${median(passes).toFixed(2)} ms, ` +
      `flows() ${median(flows).toFixed(2)} ms`,
  );
}

await measureThroughput();
measurePrograms();
measureReading("ebpf");
measureReading("tap");
