/**
 * What translation costs: TCP throughput, round-trip time, small datagrams, processor time. Needs root, iperf3 and ping.
 *
 *     deno run -A bench/datapath.ts [--rounds 5] [--seconds 2] [--translation loop|kernel]
 *
 * Two hosts in network namespaces of this machine, two links between them. Flows between the addresses of link 1 go
 * there directly, or are translated by both hosts and take link 2. The two take turns, and each translated run is
 * compared with the direct run of its round, since throughput wanders with the machine's other work.
 */

import { parseArgs } from "@std/cli";
import { type Host, twoHosts } from "../tests/datapath/two_hosts.ts";
import { openDatapath } from "../tests/datapath/hosts_datapath.ts";
import { cpuMs, median } from "./measures.ts";

const options = parseArgs(Deno.args, {
  string: ["rounds", "seconds", "translation"],
  default: { rounds: "5", seconds: "2", translation: "loop" },
});
const rounds = Number(options.rounds), seconds = Number(options.seconds);

function spawn(host: Host, command: string, ...args: string[]): Deno.ChildProcess {
  let child: Deno.ChildProcess | undefined;
  host.in(() => {
    child = new Deno.Command(command, { args, stdout: "piped", stderr: "null" }).spawn();
  });
  return child!;
}

/** Processor seconds that this process, and so the two packet loops, have used. */
function cpuSeconds(): number {
  return cpuMs(Deno.pid) / 1000;
}

interface Run {
  readonly perSecond: number;
  /** Processor seconds of the packet loops. */
  readonly cpu: number;
  readonly bytes: number;
  readonly packets: number;
  readonly lost: number;
  readonly retransmits: number;
}

async function iperf(a: Host, b: Host, ...args: string[]): Promise<Run> {
  const server = spawn(b, "iperf3", "--server", "--one-off", "--bind", b.address(1), "--forceflush", "--json");
  await new Promise((resolve) => setTimeout(resolve, 300));
  const before = cpuSeconds();
  const client = spawn(
    a,
    "iperf3",
    ...["--client", b.address(1), "--bind", a.address(1), "--time", String(seconds), "--json", ...args],
  );
  const { stdout } = await client.output();
  const cpu = cpuSeconds() - before;
  await server.output();
  const result = JSON.parse(new TextDecoder().decode(stdout));
  if (result.error !== undefined) throw new Error(`iperf3: ${result.error}`);
  const { sum, sum_received, sum_sent } = result.end;
  return {
    perSecond: sum_received.bits_per_second,
    cpu,
    bytes: sum_received.bytes,
    packets: sum_received.packets ?? sum?.packets ?? 0,
    lost: sum?.lost_packets ?? 0,
    retransmits: sum_sent.retransmits ?? 0,
  };
}

async function roundTripMs(a: Host, b: Host): Promise<number> {
  const args = ["-n", "-q", "-i", "0.005", "-c", "300", "-I", a.address(1), b.address(1)];
  const { stdout } = await spawn(a, "ping", ...args).output();
  return Number(/= [\d.]+\/([\d.]+)\//.exec(new TextDecoder().decode(stdout))![1]);
}

using hosts = twoHosts(2);
using translation = openDatapath(hosts, { translation: options.translation === "kernel" ? "kernel" : "loop" });
const { a, b } = hosts;
const tcp: { direct: Run; translated: Run }[] = [], udp: typeof tcp = [];
const rtt: { direct: number; translated: number }[] = [];
const UDP = ["--udp", "--length", "64", "--bitrate", "0"];
for (let round = 0; round < rounds; round++) {
  translation.direct();
  const direct = [await iperf(a, b), await iperf(a, b, ...UDP)], directRtt = await roundTripMs(a, b);
  translation.translate(2);
  const translated = [await iperf(a, b), await iperf(a, b, ...UDP)];
  tcp.push({ direct: direct[0], translated: translated[0] });
  udp.push({ direct: direct[1], translated: translated[1] });
  rtt.push({ direct: directRtt, translated: await roundTripMs(a, b) });
}

const of = <T>(runs: readonly T[], value: (run: T) => number, digits: number) =>
  median(runs.map(value)).toFixed(digits).padStart(8);
console.log(`median of ${rounds} rounds of ${seconds} s, both hosts translate`);
console.log(`TCP      direct ${of(tcp, (r) => r.direct.perSecond / 1e9, 2)} Gbit/s`);
console.log(`TCP      translated ${of(tcp, (r) => r.translated.perSecond / 1e9, 2)} Gbit/s`);
console.log(`TCP      ratio ${of(tcp, (r) => r.translated.perSecond / r.direct.perSecond, 3)}`);
console.log(`TCP      retransmits ${of(tcp, (r) => r.translated.retransmits, 0)}`);
console.log(
  `TCP      processor s per GB, both packet loops ${of(tcp, (r) => r.translated.cpu / (r.translated.bytes / 1e9), 2)}`,
);
const kpps = (run: Run) => (run.packets - run.lost) / seconds / 1e3;
console.log(
  `UDP 64 B direct ${of(udp, (r) => kpps(r.direct), 0)} kpps, translated ${of(udp, (r) => kpps(r.translated), 0)}`,
);
console.log(`UDP 64 B lost ${of(udp, (r) => 100 * r.translated.lost / Math.max(1, r.translated.packets), 1)} %`);
console.log(
  `RTT      direct ${of(rtt, (r) => r.direct, 3)} ms, added ${of(rtt, (r) => r.translated - r.direct, 3)} ms`,
);
