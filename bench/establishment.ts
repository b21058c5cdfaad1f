/**
 * How fast contexts come to be, and what that costs: the exchange of I1, R1, I2 and R2 between two engines in this process,
 * in virtual time, without proof of locators and with HBA sets of three; then between two agents over raw sockets, as
 * forks that one of them is asked for.
 *
 *     deno run -A bench/establishment.ts [--contexts 4000] [--forks 60] [--executable dist/shim6-agent] [--json FILE]
 */

import { parseArgs } from "@std/cli";
import { localIdentity } from "../agent/identity.ts";
import { ask } from "../control/client.ts";
import type { ContextReport, StatusReport } from "../control/protocol.ts";
import { AgentProcess, waitFor } from "../lab/agent_process.ts";
import { withCleanEnd } from "../lab/clean_end.ts";
import { onTestbed } from "../lab/experiment.ts";
import { hbaSets } from "../lab/identities.ts";
import { thisProgram } from "../lab/self.ts";
import type { LabHost, Topology } from "../lab/topology.ts";
import { TrafficProcess } from "../lab/traffic_process.ts";
import { RandomPolicy } from "../policies/random.ts";
import { RFC5534 } from "../reap/profile.ts";
import type { LocatorVerifier } from "../shim6/api.ts";
import { Engine } from "../shim6/engine.ts";
import type { LocatorProver } from "../shim6/identity.ts";
import { identityVerifier } from "../shim6/identity_verifier.ts";
import { insecureVerifier } from "../shim6/verifier.ts";
import type { Address } from "../wire/address.ts";
import { cpuMs, pidOf } from "./measures.ts";

/**
 * Time between two exchanges, ms: an address that has not paid for it gets four answers a second, an exchange takes two.
 * Virtual between engines, real between agents.
 */
const SPACING_MS = 550;
/** Contexts with one peer are at most 64, of which one is no fork. */
const MOST_FORKS = 60;
const WAIT_MS = 60_000;
const PORT = 5051;

interface EngineRate {
  readonly contexts: number;
  /** On one core, both ends together, with what it takes to forget the context again. */
  readonly per_second: number;
  readonly initiator_ms: number;
  readonly responder_ms: number;
}

interface Host {
  readonly addresses: readonly Address[];
  readonly identity: LocatorProver | undefined;
}

/** Establishes contexts between two engines, one after the other, and forgets each. */
function betweenEngines(hosts: readonly [Host, Host], verifier: LocatorVerifier, contexts: number): EngineRate {
  let now = 1_000;
  const engines = hosts.map(({ addresses, identity }) =>
    new Engine({
      profile: RFC5534,
      policy: new RandomPolicy(),
      locators: addresses.map((address, i) => ({
        address,
        interfaceIndex: i + 1,
        interfaceName: `eth${i}`,
        usable: true,
        deprecated: false,
      })),
      verifier,
      identity,
      establish: { afterPackets: Infinity, afterMs: Infinity, always: [], never: [] },
      random: Math.random,
      randomBytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
    }, now)
  );
  const spent = [0, 0];
  const timed = <T>(side: number, work: () => T): T => {
    const began = performance.now();
    try {
      return work();
    } finally {
      spent[side] += performance.now() - began;
    }
  };
  const owner = (address: Address) => hosts[0].addresses.includes(address) ? 0 : 1;
  const settle = () => {
    for (let idle = 0; idle < 2;) {
      idle = 0;
      for (const side of [0, 1]) {
        const effect = timed(side, () => engines[side].nextEffect());
        if (effect === undefined) idle++;
        else if (effect.type === "send") {
          const { message, source, destination } = effect;
          const to = owner(destination);
          timed(to, () => engines[to].handleControlMessage(message, source, destination, now));
        }
      }
    }
  };
  const establish = (count: number) => {
    for (let i = 0; i < count; i++) {
      now += SPACING_MS;
      const local = hosts[0].addresses[i % 3], peer = hosts[1].addresses[Math.floor(i / 3) % 3];
      const id = timed(0, () => engines[0].establish(local, peer, now));
      settle();
      const ofPeer = [...engines[1].contexts()][0];
      if (engines[0].context(id)?.state !== "ESTABLISHED" || ofPeer?.state !== "ESTABLISHED") {
        throw new Error(`exchange ${i} came to no context`);
      }
      timed(0, () => engines[0].forget(id, now));
      timed(1, () => engines[1].forget(ofPeer.id, now));
      settle();
    }
  };
  establish(Math.min(500, contexts)); // until the compiler is done
  spent.fill(0);
  establish(contexts);
  return {
    contexts,
    per_second: contexts / (spent[0] + spent[1]) * 1_000,
    initiator_ms: spent[0] / contexts,
    responder_ms: spent[1] / contexts,
  };
}

interface AgentRate {
  readonly contexts: number;
  readonly wall_ms: number;
  /** Processor time of each agent for one context beyond that of an idle time as long: exchange, datapath, console. */
  readonly initiator_ms: number;
  readonly responder_ms: number;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Forks one context again and again. */
async function betweenAgents(
  topology: Topology,
  directory: string,
  executablePath: string | undefined,
  forks: number,
): Promise<AgentRate> {
  const executable = thisProgram(executablePath);
  const { a, b } = topology;
  const args = ["--log-level", "warning"];
  const start = (host: LabHost, more: readonly string[]) =>
    AgentProcess.start(topology, host, { executable, args: [...args, ...more], directory });
  const agent = await start(a, ["--establish-after-packets", "2"]);
  await start(b, []);
  const controls = [a, b].map((host) => `${directory}/${host.name}.sock`);
  const pids = controls.map(pidOf);
  // A short stream for the first context.
  const traffic = (host: LabHost, ...rest: string[]) =>
    new TrafficProcess(topology.spawn(host, executable.command, {
      args: [...executable.args, "lab", "traffic", ...rest, "--port", String(PORT)],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }));
  const receiver = traffic(b, "tcp-receive", "--local", b.addresses[0]);
  await receiver.line("listening");
  const ends = ["--local", a.addresses[0], "--peer", b.addresses[0]];
  const sender = traffic(a, "tcp-send", ...ends, "--block-bytes", "1000", "--every-ms", "20");
  await waitFor(
    "a context",
    WAIT_MS,
    async () => (await agent.status()).contexts.some((c) => c.state === "ESTABLISHED"),
  );
  sender.stop();
  await Promise.all([sender.result(WAIT_MS), receiver.result(WAIT_MS)]);
  const contextsOf = async (control: string): Promise<readonly ContextReport[]> =>
    (await ask<StatusReport>(control, { command: "status" })).contexts;
  const original = (await contextsOf(controls[0])).find(({ fii }) => fii === 0)!;
  const began = performance.now(), cpu = [pids.map(cpuMs)];
  for (let i = 0; i < forks; i++) {
    await ask(controls[0], { command: "fork", context: String(original.id) });
    await sleep(SPACING_MS);
  }
  cpu.push(pids.map(cpuMs));
  await waitFor(
    "all forks",
    WAIT_MS,
    async () =>
      (await contextsOf(controls[0])).filter(({ fii, state }) => fii !== 0 && state === "ESTABLISHED").length === forks,
  );
  const wall = performance.now() - began;
  cpu.push(pids.map(cpuMs));
  await sleep(forks * SPACING_MS);
  cpu.push(pids.map(cpuMs));
  const each = (side: number) => (cpu[1][side] - cpu[0][side] - (cpu[3][side] - cpu[2][side])) / forks;
  return { contexts: forks, wall_ms: wall, initiator_ms: each(0), responder_ms: each(1) };
}

async function main(): Promise<number> {
  const flags = parseArgs(Deno.args, {
    string: ["contexts", "forks", "executable", "json"],
    default: { contexts: "4000", forks: "60" },
  });
  const contexts = Number(flags.contexts), forks = Math.min(MOST_FORKS, Number(flags.forks));
  const sets = await hbaSets([3, 3]);
  const [a, b] = sets.map((set): Host => ({ addresses: set.addresses, identity: localIdentity(set) }));
  const unproven = [a, b].map(({ addresses }): Host => ({ addresses, identity: undefined })) as [Host, Host];
  const result = {
    without_proof: betweenEngines(unproven, insecureVerifier(), contexts),
    with_hba: betweenEngines([a, b], identityVerifier, contexts),
    agents_with_hba: forks === 0 ? undefined : await withCleanEnd(() =>
      onTestbed(
        { name: "shim6-est" },
        undefined,
        (topology, directory) => betweenAgents(topology, directory, flags.executable, forks),
      )
    ),
  };
  console.log(result);
  if (flags.json !== undefined) Deno.writeTextFileSync(flags.json, JSON.stringify(result, null, 2) + "\n");
  return 0;
}

if (import.meta.main) Deno.exit(await main());
