/**
 * The paper's experiments on two real agents in the testbed (§5.3 and §5.4): one context, one UDP packet a second each
 * way, and again and again paths break, the agents get over it, and all paths are mended.
 *
 * The same failures are drawn as in the simulator, and the same figures put together. All processes read one clock.
 */

import { monotonicNow } from "deno-tun";
import { UsageError } from "../agent/errors.ts";
import type { LocatorPair } from "../policies/policy.ts";
import { Flags, formatReport, writeTimes } from "../sim/commands.ts";
import { delaysReport } from "../sim/experiments/delays.ts";
import { FailureChooser } from "../sim/experiments/failures.ts";
import type { FailureOutcome } from "../sim/experiments/host_pair.ts";
import { HostWatch } from "../sim/experiments/host_watch.ts";
import { COUNTED, explorationTimes, recoveryReport } from "../sim/experiments/trials.ts";
import { SeededRandom } from "../sim/random.ts";
import { AgentProcess, LabTimeout, waitFor } from "./agent_process.ts";
import { withCleanEnd } from "./clean_end.ts";
import { Emulator } from "./emulator.ts";
import { onTestbed } from "./experiment.ts";
import { type Executable, thisProgram } from "./self.ts";
import type { LabHost, LabNode, Topology } from "./topology.ts";
import { TrafficProcess } from "./traffic_process.ts";

/** Failures in the testbed. */
export interface LabTrialOptions {
  readonly policy: string;
  readonly profile: string;
  /** Locators of host a and host b. */
  readonly locators: readonly [number, number];
  /** Unidirectional paths that break each time: 1 to 2 × pairs - 2. */
  readonly broken: number;
  readonly trials: number;
  /** Of the choice of paths and of the phases of the traffic; the agents draw their own random numbers. */
  readonly seed: number;
  /** How long the agents live in peace before each failure. */
  readonly pauseMs: number;
  /** One-way delay in ms of the path with this index, in both directions; absent: no emulator. */
  readonly delayMs?: (index: number) => number;
  /** What the namespaces are called. */
  readonly name: string;
  readonly executable: Executable;
  /** Told after each failure. */
  readonly onTrial?: (done: number) => void;
}

const TRAFFIC_INTERVAL_MS = 1_000;
const ESTABLISH_TIMEOUT_MS = 30_000;
/** The gaps between probes grow to a minute (RFC 5534 §7), so a failure may well last several. */
const PATIENCE_MS = 300_000;
/** Longer than a probe or its answer is under way, and than a log line needs to reach its file. */
const AFTERMATH_MS = 250;
const TRAFFIC_END_MS = 5_000;
const PORT = 5002;
const SITE = "2001:db8::/32";

/** Runs the failures. Whatever happens, nothing is left of the testbed. */
export function runLabTrials(options: LabTrialOptions): Promise<FailureOutcome[]> {
  return onTestbed(
    { name: options.name, providers: options.locators },
    undefined,
    (topology, directory) => new LabTrials(topology, directory, options).run(),
  );
}

/** One host of the experiment. */
interface End {
  readonly agent: AgentProcess;
  readonly ulid: LocatorPair;
  readonly watch: HostWatch;
}

class LabTrials {
  readonly #topology: Topology;
  readonly #directory: string;
  readonly #options: LabTrialOptions;
  /** Paths from a to b, then those from b to a with the same pairs of prefixes. */
  readonly #paths: readonly LocatorPair[];
  readonly #up: boolean[];
  readonly #random: SeededRandom;
  readonly #logging: Promise<void>[] = [];
  #traffic: TrafficProcess[] = [];
  #emulator: Emulator | undefined;

  constructor(topology: Topology, directory: string, options: LabTrialOptions) {
    this.#topology = topology;
    this.#directory = directory;
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    const forth = topology.a.addresses.flatMap((local) => topology.b.addresses.map((peer) => ({ local, peer })));
    this.#paths = [...forth, ...forth.map(({ local, peer }) => ({ local: peer, peer: local }))];
    this.#up = this.#paths.map(() => true);
  }

  async run(): Promise<FailureOutcome[]> {
    const { trials, broken, pauseMs, policy, profile, executable } = this.#options;
    if (this.#options.delayMs !== undefined) await this.#emulate(this.#options.delayMs);
    const args = ["--policy", policy, "--profile", profile, "--establish-always", SITE];
    const ends = await Promise.all(this.#topology.hosts.map(async (host, i): Promise<End> => {
      const ulid = { local: host.addresses[0], peer: this.#topology.hosts[1 - i].addresses[0] };
      const agent = await AgentProcess.start(this.#topology, host, { executable, args, directory: this.#directory });
      return { agent, ulid, watch: new HostWatch(ulid) };
    }));
    await this.#restartTraffic();
    await waitFor("both hosts have a context", ESTABLISH_TIMEOUT_MS, async () => {
      const contexts = await Promise.all(ends.map(({ agent, ulid }) => agent.context(ulid)));
      return contexts.every((context) => context?.state === "ESTABLISHED" && context.reap === "operational");
    });
    const chooser = new FailureChooser(this.#paths.length / 2, this.#random.fork());
    const outcomes: FailureOutcome[] = [];
    while (outcomes.length < trials) {
      if (outcomes.length > 0) await this.#restartTraffic();
      await sleep(Math.max(pauseMs, 2 * TRAFFIC_INTERVAL_MS) + TRAFFIC_INTERVAL_MS * this.#random.next());
      outcomes.push(await this.#fail(ends, chooser, broken));
      this.#options.onTrial?.(outcomes.length);
    }
    await this.#endTraffic();
    await this.#emulator?.close();
    await Promise.all([...ends.map(({ agent }) => agent.stop()), ...this.#logging]);
    return outcomes;
  }

  async #fail(ends: readonly End[], chooser: FailureChooser, broken: number): Promise<FailureOutcome> {
    this.#follow(ends, -Infinity);
    for (const { watch } of ends) watch.reset();
    const failedAt = monotonicNow();
    const numbers = chooser.next(broken, this.#current(ends[0]), this.#current(ends[1]) - this.#paths.length / 2);
    for (const number of numbers) await this.#set(number, false);
    const isWell = () => {
      this.#follow(ends, failedAt);
      return ends.every((end) => end.watch.operational && this.#up[this.#current(end)]);
    };
    let recovered = true;
    try {
      do {
        await waitFor("the hosts send on paths that work", PATIENCE_MS, isWell);
        await sleep(AFTERMATH_MS);
      } while (!isWell());
    } catch (error) {
      if (!(error instanceof LabTimeout)) throw error;
      recovered = false;
    }
    const outcome = this.#outcome(ends, failedAt, recovered);
    for (const number of numbers) await this.#set(number, true);
    await waitFor("the hosts are well on mended paths", PATIENCE_MS, isWell);
    return outcome;
  }

  /** Tells the watches what the agents have logged since. Probes from before `since` are not counted. */
  #follow(ends: readonly End[], since: number): void {
    for (const { agent, ulid, watch } of ends) {
      for (const event of agent.newEvents(ulid)) {
        if (event.kind === "probe-sent" && event.at < since) continue;
        watch.handle(event);
        if (event.kind === "reap" || event.kind === "switch") this.#lastChange = event.at;
      }
    }
  }

  /** When an agent last changed its state or its pair, monotonic ms. */
  #lastChange = 0;

  #outcome(ends: readonly End[], failedAt: number, recovered: boolean): FailureOutcome {
    const half = this.#paths.length / 2;
    const [forth, back] = [this.#current(ends[0]), this.#current(ends[1]) - half];
    const delay = this.#options.delayMs ?? (() => 0);
    const best = (first: number) =>
      Math.min(...Array.from({ length: half }, (_, i) => this.#up[first + i] ? delay(i) : Infinity));
    const left = ends.map(({ watch }) => watch).filter((watch) => watch.departures > 0);
    return {
      hosts: left.toSorted((x, y) => x.leftAt - y.leftAt).map((watch) => ({
        detectionMs: watch.leftAt - failedAt,
        explorationMs: watch.explorationMs,
        departures: watch.departures,
        cause: watch.cause,
      })),
      recovered,
      recoveryMs: recovered ? this.#lastChange - failedAt : Infinity,
      messages: ends.reduce((sum, { watch }) => sum + watch.probes, 0),
      forth,
      back,
      rttMs: delay(forth) + delay(back),
      bestRttMs: best(0) + best(half),
    };
  }

  /** The number of the path on which a host sends. */
  #current({ watch }: End): number {
    const { local, peer } = watch.current;
    return this.#paths.findIndex((path) => path.local === local && path.peer === peer);
  }

  async #set(number: number, up: boolean): Promise<void> {
    const { local, peer } = this.#paths[number];
    this.#up[number] = up;
    // What the emulator still holds is lost with the path.
    await this.#emulator?.setPath({ from: this.#topology.prefixOf(local), to: this.#topology.prefixOf(peer), up });
    this.#topology.setPath(local, peer, !up ? "down" : this.#emulator === undefined ? "up" : "emulated");
  }

  async #emulate(delayMs: (index: number) => number): Promise<void> {
    this.#emulator = await Emulator.attach(this.#spawn(this.#topology.router, ["emulator"], "piped"));
    for (const [number, { local, peer }] of this.#paths.entries()) {
      const delay_ms = delayMs(number % (this.#paths.length / 2));
      const from = this.#topology.prefixOf(local), to = this.#topology.prefixOf(peer);
      await this.#emulator.setPath({ from, to, delay_ms });
      this.#topology.setPath(local, peer, "emulated");
    }
  }

  /** Traffic both ways in new phases, else the same host would notice first each time. */
  async #restartTraffic(): Promise<void> {
    await this.#endTraffic();
    const { a, b } = this.#topology;
    const start = async (host: LabHost, other: LabHost) => {
      const args = [
        "traffic",
        "udp",
        "--port",
        String(PORT),
        "--local",
        host.addresses[0],
        "--peer",
        other.addresses[0],
      ];
      const pace = ["--block-bytes", "64", "--every-ms", String(TRAFFIC_INTERVAL_MS)];
      const traffic = new TrafficProcess(this.#spawn(host, [...args, ...pace], "null"));
      this.#traffic.push(traffic);
      await traffic.line("listening");
    };
    await start(a, b);
    await sleep(TRAFFIC_INTERVAL_MS * this.#random.next());
    await start(b, a);
  }

  async #endTraffic(): Promise<void> {
    const traffic = this.#traffic;
    this.#traffic = [];
    for (const program of traffic) program.stop();
    await Promise.all(traffic.map((program) => program.result(TRAFFIC_END_MS)));
  }

  /** Starts a lab program; its messages go to a file. */
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
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const DELAY_STEP_MS = 10;
const PAUSE_S = 5;

const COMMON = `  --policy P         path selection policy of both agents (random)
  --profile P        timers (paper)
  --seed S           seed of the choice of paths and of the traffic's phases (1); the agents draw their own
  --pause-s T        seconds of peace before each failure (${PAUSE_S})
  --name N           what the namespaces are called (shim6-trials)
  --executable FILE  the agent and the lab's programs, instead of this program`;

const EXPLORATION_HELP = `usage: shim6-agent lab exploration [options]

breaks both paths in use and N - 2 others, T times (N = 1: only one direction, in turn), with one packet a second each
way, on two real agents; the result is that of sim exploration

  --broken N         unidirectional paths that break (2)
  --trials T         failures (20)
  --locators AxB     locators of the two hosts, 1 to 9 (3x3)
  --times FILE       write the exploration times in seconds, one line per host that left Operational
  --count WHO        whose times count: each (the default), or only the first or last host that left Operational
${COMMON}`;

const DELAYS_HELP = `usage: shim6-agent lab delays [options]

breaks the paths in use, F times, on two real agents; of 3x3 locators, path i has a one-way delay of 10 i ms in both
directions; the result is that of sim delays

  --failures F       failures (20)
${COMMON}`;

/** `lab exploration`. Returns the exit code: 1 when a failure was not recovered. Throws UsageError and CommandError. */
export async function explorationCommand(args: string[]): Promise<number> {
  const names = ["broken", "trials", "locators", "times", "count", "name", "executable"];
  const flags = new Flags("lab exploration", EXPLORATION_HELP, args, names);
  if (flags.helped) return 0;
  const common = labOptions(flags);
  const locators = flags.locators("3x3", 1);
  const paths = locators[0] * locators[1];
  if (paths < 2) throw new UsageError("--locators 1x1: two paths at least, else there is nothing to explore");
  const broken = flags.integer("broken", 2, 1, 2 * paths - 2);
  const trials = flags.integer("trials", 20, 1);
  const counted = flags.oneOf("count", COUNTED);
  const outcomes = await withCleanEnd(() => runLabTrials({ ...common, locators, broken, trials }));
  await writeTimes(flags.text("times"), outcomes);
  console.log(formatReport({
    ...flags.described(),
    locators: locators.join("x"),
    broken,
    trials,
    seed: common.seed,
    ...recoveryReport(outcomes, explorationTimes(outcomes, counted)),
  }));
  return outcomes.every(({ recovered }) => recovered) ? 0 : 1;
}

/** `lab delays`. As {@linkcode explorationCommand}. */
export async function delaysCommand(args: string[]): Promise<number> {
  const flags = new Flags("lab delays", DELAYS_HELP, args, ["failures", "name", "executable"]);
  if (flags.helped) return 0;
  const common = labOptions(flags);
  const failures = flags.integer("failures", 20, 1);
  const outcomes = await withCleanEnd(() => runLabTrials({ ...common, ...DELAYS, trials: failures }));
  console.log(formatReport({ ...flags.described(), failures, seed: common.seed, ...delaysReport(outcomes) }));
  return outcomes.every(({ recovered }) => recovered) ? 0 : 1;
}

/** What the paper's §5.4 asks of {@linkcode runLabTrials}. */
export const DELAYS = {
  locators: [3, 3],
  broken: 2,
  delayMs: (index: number) => DELAY_STEP_MS * index,
} as const;

function labOptions(flags: Flags) {
  if (flags.text("reading") !== undefined) {
    throw new UsageError("--reading is for the simulator: agents have one reading");
  }
  const { profile, seed, pauseMs } = flags.common(PAUSE_S);
  const path = flags.text("executable");
  if (path !== undefined && !exists(path)) throw new UsageError(`--executable ${path}: there is no such file`);
  const policy = flags.described().policy;
  const name = flags.text("name") ?? "shim6-trials";
  return { policy, profile: profile.name, seed, pauseMs, name, executable: thisProgram(path) };
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
