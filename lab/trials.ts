/**
 * The paper's experiments on two real agents in the testbed (§5.3 and §5.4): one context, one UDP packet a second each
 * way, and again and again paths break, the agents get over it, and all paths are mended.
 *
 * Nearly all of a failure is waiting, so several testbeds go through failures at the same time, each with agents of its
 * own. The same failures are drawn as in the simulator, and the same figures put together. All processes read one clock.
 */

import { monotonicNow, preferThisThread } from "deno-tun";
import type { LocatorPair } from "../policies/policy.ts";
import { FailureChooser, type FailureKind } from "../sim/experiments/failures.ts";
import { type FailureOutcome, TRAFFIC_INTERVAL_MS } from "../sim/experiments/host_pair.ts";
import { hostOutcomes, HostWatch } from "../sim/experiments/host_watch.ts";
import type { DelayDraw } from "../sim/experiments/trials.ts";
import { SeededRandom } from "../sim/random.ts";
import { AgentProcess, LabTimeout, waitFor } from "./agent_process.ts";
import { Emulator } from "./emulator.ts";
import { onTestbeds, type Testbed } from "./experiment.ts";
import { Flow } from "./flow.ts";
import type { Executable } from "./self.ts";
import type { Topology } from "./topology.ts";

/** Failures in the testbed. */
export interface LabTrialOptions {
  readonly policy: string;
  readonly profile: string;
  /** Locators of host a and host b. */
  readonly locators: readonly [number, number];
  readonly trials: number;
  /** Of the choice of paths and of the phases of the traffic; the agents draw their own random numbers. */
  readonly seed: number;
  /** How long the agents live in peace before each failure. */
  readonly pauseMs: number;
  /** And before the first one in addition, for policies that learn by probing in peace; not at all when absent. */
  readonly settleMs?: number;
  /** Each host sends a packet so often; a second, as in the paper, when absent. */
  readonly trafficMs?: number;
  /** What breaks. */
  readonly kind: FailureKind;
  /** Draws the delay of each path of each testbed; absent: no emulator, and none but the kernel's. */
  readonly delayMs?: DelayDraw;
  /** How many testbeds there are at the same time. */
  readonly testbeds: number;
  /** What the namespaces are called, before the number of the testbed. */
  readonly name: string;
  readonly executable: Executable;
  /** Further arguments of the agents. */
  readonly agentArgs?: readonly string[];
}

/** What came of it. */
export interface LabTrials {
  readonly outcomes: readonly FailureOutcome[];
  /** How late this program's own timers were, ms: below this, times in the testbed say nothing. */
  readonly latenessMs: readonly number[];
}

/** More at once would be late for the timers of the agents that run already. */
const STARTED_TOGETHER = 2;
const ESTABLISH_TIMEOUT_MS = 30_000;
/** The gaps between probes grow to a minute (RFC 5534 §7), so a failure may well last several. */
const PATIENCE_MS = 300_000;
/** Times are from the agents' logs, so this only sets how soon the next failure may come. */
const LOOK_MS = 50;
/** Longer than a probe or its answer is under way, and than a log line needs to reach its file. */
const AFTERMATH_MS = 250;
const SITE = "2001:db8::/32";

/**
 * Runs the failures. Whatever happens, nothing is left of the testbeds. Throws CommandError when an agent does not start,
 * and LabTimeout when two get no context, or do not get well on mended paths.
 */
export async function runLabTrials(
  options: LabTrialOptions,
  onProgress?: (what: string) => void,
): Promise<LabTrials> {
  const [trials] = await runLabTrialsTogether([options], onProgress);
  return trials;
}

/** As {@linkcode runLabTrials}, for several runs at the same time, whose names differ. */
export async function runLabTrialsTogether(
  runs: readonly LabTrialOptions[],
  onProgress?: (what: string) => void,
): Promise<LabTrials[]> {
  const wanted = runs.flatMap(({ name, locators, trials, testbeds }) =>
    Array.from({ length: Math.min(testbeds, trials) }, (_, i) => ({ name: `${name}-${i + 1}`, providers: locators }))
  );
  // Waiting for a processor would count as delay of the network.
  const noLongerPreferred = preferThisThread();
  try {
    return await onTestbeds(wanted, async (testbeds) => {
      let next = 0;
      const groups = runs.map((run) =>
        new TrialRun(run, testbeds.slice(next, next += Math.min(run.testbeds, run.trials)))
      );
      try {
        const labs = groups.flatMap(({ labs }) => labs);
        for (let started = 0; started < labs.length; started += STARTED_TOGETHER) {
          onProgress?.(`testbed ${started + 1} of ${labs.length}`);
          await Promise.all(labs.slice(started, started + STARTED_TOGETHER).map((lab) => lab.start()));
        }
        const settleMs = Math.max(0, ...runs.map(({ settleMs = 0 }) => settleMs));
        if (settleMs > 0) onProgress?.(`${settleMs / 1_000} s of peace`);
        await sleep(settleMs);
        const all = runs.reduce((sum, { trials }) => sum + trials, 0);
        let done = 0;
        const results = await Promise.all(
          groups.map((group) => group.run(labs, () => onProgress?.(`${++done} of ${all} failures`))),
        );
        await Promise.all(groups.flatMap(({ labs }) => labs.map((lab) => lab.stop())));
        return results.map((outcomes, i) => ({
          outcomes,
          latenessMs: groups[i].labs.flatMap((lab) => lab.latenessMs),
        }));
      } finally {
        for (const { labs } of groups) for (const lab of labs) lab.endTraffic();
      }
    });
  } finally {
    noLongerPreferred();
  }
}

/** The failures of one run, on testbeds of its own. */
class TrialRun {
  readonly labs: readonly TrialLab[];
  readonly #options: LabTrialOptions;
  readonly #chooser: FailureChooser;
  readonly #random: SeededRandom;

  constructor(options: LabTrialOptions, testbeds: readonly Testbed[]) {
    const random = new SeededRandom(options.seed);
    const [ofA, ofB] = options.locators;
    this.#options = options;
    this.#chooser = new FailureChooser(ofA * ofB, random.fork());
    this.#random = random.fork();
    this.labs = testbeds.map((testbed) => new TrialLab(testbed, options, random.fork()));
  }

  /**
   * Whichever testbed is ready takes the next failure. They take turns with `all` others: agents that recover at the same
   * moment would wait for each other's processor.
   */
  async run(all: readonly TrialLab[], onTrial: () => void): Promise<FailureOutcome[]> {
    const { trials, kind, pauseMs } = this.#options;
    const outcomes: FailureOutcome[] = [];
    let begun = 0;
    await Promise.all(this.labs.map(async (lab) => {
      await sleep(pauseMs * all.indexOf(lab) / all.length);
      while (begun++ < trials) {
        await lab.live();
        outcomes.push(await lab.fail((inUse) => kind(inUse, this.#chooser, this.#random)));
        onTrial();
      }
    }));
    return outcomes;
  }
}

/** One host of the experiment. */
interface End {
  readonly agent: AgentProcess;
  readonly ulid: LocatorPair;
  readonly watch: HostWatch;
}

/** A unidirectional path. */
interface TrialPath {
  readonly pair: LocatorPair;
  readonly delayMs: number;
  up: boolean;
}

/** The agents of one testbed, and what happens to them. */
class TrialLab {
  readonly #topology: Topology;
  readonly #directory: string;
  readonly #options: LabTrialOptions;
  readonly #random: SeededRandom;
  /** Paths from a to b, then those from b to a with the same pairs of prefixes. */
  readonly #paths: readonly TrialPath[];
  readonly #half: number;
  #ends: readonly End[] = [];
  #flows: readonly Flow[] = [];
  /** See {@linkcode LabTrials}. */
  readonly latenessMs: number[] = [];
  #emulator: Emulator | undefined;
  #emulatorLog: Promise<void> | undefined;
  /** When an agent last changed its state or its pair, monotonic ms. */
  #lastChange = 0;

  constructor({ topology, directory }: Testbed, options: LabTrialOptions, random: SeededRandom) {
    this.#topology = topology;
    this.#directory = directory;
    this.#options = options;
    this.#random = random;
    const { delayMs = () => 0 } = options;
    const forth = topology.a.addresses.flatMap((local) => topology.b.addresses.map((peer) => ({ local, peer })));
    this.#half = forth.length;
    this.#paths = [
      ...forth.map((pair, i) => ({ pair, delayMs: delayMs(random, i, true), up: true })),
      ...forth.map(({ local, peer }, i) => ({
        pair: { local: peer, peer: local },
        delayMs: delayMs(random, i, false),
        up: true,
      })),
    ];
  }

  /** Starts the agents and waits until they have a context. */
  async start(): Promise<void> {
    const { policy, profile, executable, agentArgs = [], trafficMs = TRAFFIC_INTERVAL_MS } = this.#options;
    const { hosts } = this.#topology;
    if (this.#options.delayMs !== undefined) await this.#emulate();
    const args = ["--policy", policy, "--profile", profile, "--establish-always", SITE, ...agentArgs];
    this.#ends = await Promise.all(hosts.map(async (host, i): Promise<End> => {
      const ulid = { local: host.addresses[0], peer: hosts[1 - i].addresses[0] };
      const agent = await AgentProcess.start(this.#topology, host, { executable, args, directory: this.#directory });
      return { agent, ulid, watch: new HostWatch(ulid) };
    }));
    this.#flows = hosts.map((host, i) => new Flow(host, hosts[1 - i], trafficMs));
    this.#newPhases();
    await waitFor("both hosts have a context", ESTABLISH_TIMEOUT_MS, async () => {
      const contexts = await Promise.all(this.#ends.map(({ agent, ulid }) => agent.context(ulid)));
      return contexts.every((context) => context?.state === "ESTABLISHED" && context.reap === "operational");
    });
  }

  /** Lets the hosts live in peace, with traffic in new phases: else the same host would notice first each time. */
  async live(): Promise<void> {
    const { pauseMs, trafficMs = TRAFFIC_INTERVAL_MS } = this.#options;
    this.#newPhases();
    await sleep(Math.max(pauseMs, 2 * trafficMs) + trafficMs * this.#random.next());
  }

  /** Breaks the paths that `choose` names, waits until the hosts have got over it, and mends them. */
  async fail(choose: (inUse: { forth: number; back: number }) => number[]): Promise<FailureOutcome> {
    const ends = this.#ends;
    this.#follow(-Infinity);
    for (const { watch } of ends) watch.reset();
    const [a, b] = ends.map((end) => this.#current(end));
    const broken = choose({ forth: a, back: b - this.#half }).map((number) => this.#paths[number]);
    const failedAt = monotonicNow();
    // The kernel's routes first, all at the same moment; what the emulator still holds is lost with the path.
    for (const path of broken) {
      path.up = false;
      this.#topology.setPath(path.pair.local, path.pair.peer, "down");
    }
    await this.#emulateState(broken);
    const isWell = () => {
      this.#follow(failedAt);
      return ends.every((end) => end.watch.operational && this.#paths[this.#current(end)].up);
    };
    let recovered = true;
    try {
      do {
        await waitFor("the hosts send on paths that work", PATIENCE_MS, isWell, LOOK_MS);
        await sleep(AFTERMATH_MS);
      } while (!isWell());
    } catch (error) {
      if (!(error instanceof LabTimeout)) throw error;
      recovered = false;
    }
    const outcome = this.#outcome(broken.length, failedAt, recovered);
    for (const path of broken) path.up = true;
    await this.#emulateState(broken);
    const state = this.#emulator === undefined ? "up" : "emulated";
    for (const { pair } of broken) this.#topology.setPath(pair.local, pair.peer, state);
    await waitFor("the hosts are well on mended paths", PATIENCE_MS, isWell, LOOK_MS);
    return outcome;
  }

  /** Ends the agents as their user would, and the emulator. */
  async stop(): Promise<void> {
    this.endTraffic();
    await Promise.all(this.#ends.map(({ agent }) => agent.stop()));
    await this.#emulator?.close();
    await this.#emulatorLog;
  }

  /** Closes what this process itself has open. */
  endTraffic(): void {
    for (const flow of this.#flows) {
      flow.close();
      this.latenessMs.push(...flow.latenessMs);
    }
    this.#flows = [];
  }

  #newPhases(): void {
    const { trafficMs = TRAFFIC_INTERVAL_MS } = this.#options;
    for (const flow of this.#flows) flow.restart(trafficMs * this.#random.next());
  }

  /** Tells the watches what the agents have logged since. Probes from before `since` are not counted. */
  #follow(since: number): void {
    for (const { agent, ulid, watch } of this.#ends) {
      for (const event of agent.newEvents(ulid)) {
        if (event.kind === "probe-sent" && event.at < since) continue;
        watch.handle(event);
        if (event.kind === "reap" || event.kind === "switch") this.#lastChange = event.at;
      }
    }
  }

  #outcome(broken: number, failedAt: number, recovered: boolean): FailureOutcome {
    const [forth, back] = this.#ends.map((end) => this.#current(end));
    const best = (paths: readonly TrialPath[]) =>
      paths.reduce((least, { up, delayMs }) => up ? Math.min(least, delayMs) : least, Infinity);
    return {
      broken,
      hosts: hostOutcomes(this.#ends.map(({ watch }) => watch), failedAt),
      recovered,
      recoveryMs: recovered ? this.#lastChange - failedAt : Infinity,
      messages: this.#ends.reduce((sum, { watch }) => sum + watch.probes, 0),
      forth,
      back: back - this.#half,
      rttMs: this.#paths[forth].delayMs + this.#paths[back].delayMs,
      bestRttMs: best(this.#paths.slice(0, this.#half)) + best(this.#paths.slice(this.#half)),
    };
  }

  /** The number of the path on which a host sends. */
  #current({ watch }: End): number {
    const { local, peer } = watch.current;
    return this.#paths.findIndex(({ pair }) => pair.local === local && pair.peer === peer);
  }

  async #emulateState(paths: readonly TrialPath[]): Promise<void> {
    const emulator = this.#emulator;
    if (emulator === undefined) return;
    await Promise.all(paths.map(({ pair, up }) => emulator.setPath({ ...this.#prefixes(pair), up })));
  }

  async #emulate(): Promise<void> {
    const { command, args } = this.#options.executable;
    const process = this.#topology.spawn(this.#topology.router, command, {
      args: [...args, "lab", "emulator"],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    });
    const log = Deno.openSync(`${this.#directory}/emulator.log`, { append: true, create: true });
    this.#emulatorLog = process.stderr.pipeTo(log.writable);
    const emulator = this.#emulator = await Emulator.attach(process);
    for (const { pair, delayMs } of this.#paths) {
      await emulator.setPath({ ...this.#prefixes(pair), delay_ms: delayMs });
      this.#topology.setPath(pair.local, pair.peer, "emulated");
    }
  }

  #prefixes({ local, peer }: LocatorPair): { from: string; to: string } {
    return { from: this.#topology.prefixOf(local), to: this.#topology.prefixOf(peer) };
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
