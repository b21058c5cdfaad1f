/**
 * What a running agent costs a healthy flow: TCP throughput between two hosts with the agents running and without, in
 * turn, and whether any packet of the flow entered the agents' device. Needs root and iperf3.
 *
 *     deno run -A bench/healthy.ts [--executable dist/shim6-agent] [--rounds 5] [--seconds 3]
 */

import { parseArgs } from "@std/cli";
import { ask } from "../control/client.ts";
import type { StatusReport } from "../control/protocol.ts";
import { thisProgram } from "../lab/self.ts";
import { type LabHost, Topology } from "../lab/topology.ts";

const flags = parseArgs(Deno.args, {
  string: ["executable", "rounds", "seconds"],
  default: { rounds: "5", seconds: "3" },
});
const rounds = Number(flags.rounds), seconds = Number(flags.seconds);
const program = thisProgram(flags.executable);
const directory = Deno.makeTempDirSync({ prefix: "shim6-healthy-" });
const PORT = "5201";

await using topology = Topology.create({ name: "shim6-healthy" });
const { a, b } = topology;
const socket = (host: LabHost) => `${directory}/${host.name}.sock`;
const status = (host: LabHost) => ask<StatusReport>(socket(host), { command: "status" });
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function startAgent(host: LabHost): Promise<Deno.ChildProcess> {
  const agent = topology.spawn(host, program.command, {
    args: [...program.args, "run", "--control", socket(host), "--insecure-locators", "--establish-after-packets", "1"],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  });
  while (!await status(host).then(() => true, () => false)) await sleep(20);
  return agent;
}

/** Gbit/s of one TCP stream from a to b, as the receiver counts. */
async function throughput(): Promise<number> {
  const server = topology.spawn(b, "iperf3", {
    args: ["-s", "-1", "-B", b.addresses[0], "-p", PORT],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  });
  await sleep(300);
  const client = await topology.spawn(a, "iperf3", {
    args: ["-c", b.addresses[0], "-B", a.addresses[0], "-p", PORT, "-t", String(seconds), "-O", "1", "-J"],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).output();
  await server.status;
  return JSON.parse(new TextDecoder().decode(client.stdout)).end.sum_received.bits_per_second / 1e9;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((x, y) => x - y);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

const without: number[] = [], with_: number[] = [];
let entered = 0;
for (let round = 0; round < rounds; round++) {
  // Which comes first changes, so that what warms up or drifts does not favour one.
  for (const agentsRun of round % 2 === 0 ? [false, true] : [true, false]) {
    const agents = agentsRun ? await Promise.all([startAgent(a), startAgent(b)]) : [];
    (agentsRun ? with_ : without).push(await throughput());
    if (!agentsRun) continue;
    for (const host of [a, b]) {
      const { contexts, counters } = await status(host);
      if (!contexts.some((context) => context.state === "ESTABLISHED")) throw new Error("no context was established");
      for (const name of ["translated-out", "translated-in", "sent-unchanged"]) entered += counters.datapath[name] ?? 0;
    }
    for (const agent of agents) {
      agent.kill("SIGTERM");
      await agent.status;
    }
  }
  console.log(`round ${round + 1}: without ${without[round].toFixed(2)}, with ${with_[round].toFixed(2)} Gbit/s`);
}
console.log(JSON.stringify({
  without_gbit_s: Number(median(without).toFixed(3)),
  with_gbit_s: Number(median(with_).toFixed(3)),
  ratio: Number((median(with_) / median(without)).toFixed(3)),
  ratio_of_pairs: Number(median(with_.map((value, i) => value / without[i])).toFixed(3)),
  packets_in_the_device: entered,
}));
Deno.removeSync(directory, { recursive: true });
