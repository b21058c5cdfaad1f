/** `lab exploration`, `lab delays` and `lab provider`: the experiments of `sim` on real agents. */

import { UsageError } from "../agent/errors.ts";
import { Flags, formatReport, writeTimes } from "../sim/commands.ts";
import { delayOfPath, DELAYS_LOCATORS, delaysReport } from "../sim/experiments/delays.ts";
import { type FailureKind, pathsBreak, providerDies } from "../sim/experiments/failures.ts";
import { COUNTED, type DelayDraw, explorationTimes, recoveryReport } from "../sim/experiments/trials.ts";
import { quantiles } from "../sim/experiments/statistics.ts";
import { withCleanEnd } from "./clean_end.ts";
import { Progress } from "./progress.ts";
import { thisProgram } from "./self.ts";
import { type LabTrialOptions, runLabTrials } from "./trials.ts";

const PAUSE_S = 5, SETTLE_S = 10;
const TRIALS = 20;
const MAX_TESTBEDS = 64;
/** A testbed takes a few per cent of a processor, most of it for the start of its agents. */
const TESTBEDS_PER_PROCESSOR = 4;

const COMMON = `  --policy P         path selection policy of both agents (random)
  --profile P        timers (paper)
  --seed S           seed of the choice of paths and of the traffic's phases (1); the agents draw their own
  --pause-s T        seconds of peace before each failure (${PAUSE_S})
  --settle-s T       seconds of peace before the first one in addition, to learn the paths in (${SETTLE_S})
  --testbeds K       so many testbeds go through failures at the same time (${TESTBEDS_PER_PROCESSOR} for each processor)
  --name N           what the namespaces are called (shim6-trials)
  --executable FILE  the agent and the lab's programs, instead of this program`;
const TIMES = `  --times FILE       write the exploration times in seconds, one line per host that left Operational
  --count WHO        whose times count: each (the default), or only the first or last host that left Operational`;
const DELAY = `  --delay-ms LO-HI   one-way delay of each path of each testbed, drawn uniformly (none)`;

const EXPLORATION_HELP = `usage: shim6-agent lab exploration [options]

breaks both paths in use and N - 2 others, T times (N = 1: only one direction, in turn), with one packet a second each
way, on two real agents; the result is that of sim exploration

  --broken N         unidirectional paths that break (2)
  --trials T         failures (${TRIALS})
  --locators AxB     locators of the two hosts, 1 to 9 (3x3)
${DELAY}
${TIMES}
${COMMON}`;

const DELAYS_HELP = `usage: shim6-agent lab delays [options]

breaks the paths in use, F times, on two real agents; of 3x3 locators, path i has a one-way delay of 10 i ms in both
directions; the result is that of sim delays

  --failures F       failures (${TRIALS})
${COMMON}`;

const PROVIDER_HELP = `usage: shim6-agent lab provider [options]

kills the provider in use at one host and K - 1 others of that host, T times, the two hosts in turn, on two real agents;
the result is that of sim provider

  --locators AxB     locators of the two hosts, 2 to 9 (2x2)
  --down K           providers that die, fewer than the host has (1)
  --trials T         failures (${TRIALS})
${DELAY}
${TIMES}
${COMMON}`;

const OWN = ["settle-s", "testbeds", "name", "executable"];
const TWO_HOSTS = ["trials", "locators", "delay-ms", "times", "count", ...OWN];

/** `lab exploration`. Returns the exit code: 1 when a failure was not recovered. Throws UsageError and CommandError. */
export async function explorationCommand(args: string[]): Promise<number> {
  const flags = new Flags("lab exploration", EXPLORATION_HELP, args, [...TWO_HOSTS, "broken"]);
  if (flags.helped) return 0;
  const locators = flags.locators("3x3", 1);
  const paths = locators[0] * locators[1];
  if (paths < 2) throw new UsageError("--locators 1x1: two paths at least, else there is nothing to explore");
  const broken = flags.integer("broken", 2, 1, 2 * paths - 2);
  return await recover(flags, locators, { broken }, pathsBreak(broken), "lab exploration");
}

/** `lab provider`. As {@linkcode explorationCommand}. */
export async function providerCommand(args: string[]): Promise<number> {
  const flags = new Flags("lab provider", PROVIDER_HELP, args, [...TWO_HOSTS, "down"]);
  if (flags.helped) return 0;
  const locators = flags.locators("2x2", 2);
  const down = flags.integer("down", 1, 1, Math.min(...locators) - 1);
  return await recover(flags, locators, { down }, providerDies(locators, down), "lab provider");
}

/** `lab delays`. As {@linkcode explorationCommand}. */
export async function delaysCommand(args: string[]): Promise<number> {
  const flags = new Flags("lab delays", DELAYS_HELP, args, ["failures", ...OWN]);
  if (flags.helped) return 0;
  const common = readCommon(flags);
  const failures = flags.integer("failures", TRIALS, 1);
  const { outcomes, lateness } = await run({ ...common, ...LAB_DELAYS, trials: failures }, "lab delays");
  console.log(
    formatReport({ ...flags.described(), failures, seed: common.seed, ...delaysReport(outcomes), ...lateness }),
  );
  return outcomes.every(({ recovered }) => recovered) ? 0 : 1;
}

/** What the paper's §5.4 asks of {@linkcode runLabTrials}. */
export const LAB_DELAYS = {
  locators: DELAYS_LOCATORS,
  kind: pathsBreak(2),
  delayMs: (_random: unknown, index: number): number => delayOfPath(index),
} as const;

/** What is the same for failures of paths and of providers. */
async function recover(
  flags: Flags,
  locators: readonly [number, number],
  what: Record<string, number>,
  kind: FailureKind,
  title: string,
): Promise<number> {
  const common = readCommon(flags);
  const trials = flags.integer("trials", TRIALS, 1);
  const counted = flags.oneOf("count", COUNTED);
  const [low, high] = flags.range("delay-ms", [0, 0]);
  const isDelayed = flags.text("delay-ms") !== undefined;
  const delayMs: DelayDraw | undefined = isDelayed ? (random) => low + (high - low) * random.next() : undefined;
  const { outcomes, lateness } = await run({ ...common, locators, trials, kind, delayMs }, title);
  await writeTimes(flags.text("times"), outcomes);
  console.log(formatReport({
    ...flags.described(),
    locators: locators.join("x"),
    ...what,
    trials,
    seed: common.seed,
    ...(isDelayed ? { delay_ms: `${low}-${high}` } : {}),
    ...recoveryReport(outcomes, explorationTimes(outcomes, counted)),
    ...lateness,
  }));
  return outcomes.every(({ recovered }) => recovered) ? 0 : 1;
}

async function run(options: LabTrialOptions, title: string) {
  const progress = new Progress(title);
  try {
    const onProgress = (what: string) => progress.at(what);
    const { outcomes, latenessMs } = await withCleanEnd(() => runLabTrials(options, onProgress));
    return { outcomes, lateness: { lateness_ms: quantiles(latenessMs) } };
  } finally {
    progress.end();
  }
}

/** How many testbeds this machine carries without being late for their timers. */
export function defaultTestbeds(): number {
  return Math.min(MAX_TESTBEDS, TESTBEDS_PER_PROCESSOR * navigator.hardwareConcurrency);
}

function readCommon(flags: Flags) {
  if (flags.text("reading") !== undefined) {
    throw new UsageError("--reading is for the simulator: agents have one reading");
  }
  const { profile, seed, pauseMs } = flags.common(PAUSE_S);
  const path = flags.text("executable");
  if (path !== undefined && !exists(path)) throw new UsageError(`--executable ${path}: there is no such file`);
  return {
    policy: flags.described().policy,
    profile: profile.name,
    seed,
    pauseMs,
    settleMs: 1_000 * flags.integer("settle-s", SETTLE_S, 0, 3_600),
    testbeds: flags.integer("testbeds", defaultTestbeds(), 1, MAX_TESTBEDS),
    name: flags.text("name") ?? "shim6-trials",
    executable: thisProgram(path),
  };
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
