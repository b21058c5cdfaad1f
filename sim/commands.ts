/** `shim6-agent sim …`: experiments in virtual time, with the engine that the agent runs. */

import { parseArgs } from "@std/cli";
import { CommandError, UsageError } from "../errors.ts";
import type { Policy } from "../policies/policy.ts";
import { createPolicy, UnknownPolicy } from "../policies/registry.ts";
import { type Profile, PROFILES } from "../reap/profile.ts";
import { runCoordinates } from "./experiments/coordinates.ts";
import { delaysReport, runDelays } from "./experiments/delays.ts";
import { runExploration } from "./experiments/exploration.ts";
import type { FailureOutcome } from "./experiments/host_pair.ts";
import { LIES } from "./experiments/liars.ts";
import { runProvider } from "./experiments/provider.ts";
import { DEFAULT_READING, type Reading, ReadingPolicy, READINGS } from "./experiments/readings.ts";
import { NOTICES, runStorm, stormReport } from "./experiments/storm.ts";
import { COUNTED, explorationTimes, recoveryReport } from "./experiments/trials.ts";

const HELP = `usage: shim6-agent sim COMMAND [options]

  exploration    how long hosts explore when N unidirectional paths break
  delays         which paths they choose when the paths have different delays
  provider       how long they explore when a provider dies
  storm          a host with very many peers loses a provider
  coordinates    hosts that have just met lose their path; some hosts may lie about where they are

experiments in virtual time with the engine of the agent; the result is JSON, the same seed gives the same octets.
each has --help`;

const COMMON = `  --policy P         path selection policy of both hosts (random)
  --profile P        timers: ${Object.keys(PROFILES).join(", ")} (paper)
  --seed S           seed of all randomness (1)
  --pause-s T        seconds of peace before each failure (20)
  --reading K=V,…    another reading of the paper's policy, see docs/paper.md; only with --policy random`;
const DELAY = `  --delay-ms LO-HI   one-way delay of each path, drawn uniformly (1-1)`;

const EXPLORATION_HELP = `usage: shim6-agent sim exploration [options]

breaks both paths in use and N - 2 others, T times (N = 1: only one direction, in turn), with one packet a second each way

  --broken N         unidirectional paths that break (2)
  --trials T         failures (200)
  --locators AxB     locators of the two hosts, 1 to 9 (3x3)
${DELAY}
  --times FILE       write the exploration times in seconds, one line per host that left Operational
  --count WHO        whose times count: each (the default), or only the first or last host that left Operational
${COMMON}`;

const DELAYS_HELP = `usage: shim6-agent sim delays [options]

breaks the paths in use, F times; of 3x3 locators, path i has a one-way delay of 10 i ms in both directions

  --failures F       failures (500)
${COMMON}`;

const PROVIDER_HELP = `usage: shim6-agent sim provider [options]

kills the provider in use at one host and K - 1 others of that host, T times, the two hosts in turn

  --locators AxB     locators of the two hosts, 2 to 9 (2x2)
  --down K           providers that die, fewer than the host has (1)
  --trials T         failures (200)
${DELAY}
  --times FILE       write the exploration times in seconds, one line per host that left Operational
  --count WHO        whose times count: each (the default), or only the first or last host that left Operational
${COMMON}`;

const STORM_HELP = `usage: shim6-agent sim storm [options]

a host with C peers, two providers at each end and a context with each peer, loses the provider in use

  --contexts C       peers (1000)
  --trials T         runs (1)
  --notice HOW       silent (the default): no host is told; link: the interface goes down
${DELAY}
${COMMON}`;

const COORDINATES_HELP = `usage: shim6-agent sim coordinates [options]

H hosts of a network with a geography talk to P others each for a while; then T times two that have never met establish a
context, and T seconds later the provider or the path in use fails

  --hosts H          hosts (60)
  --locators L       locators of each host, 2 to 9 (3)
  --peers P          others that each host begins to talk to in the warm-up (4)
  --warm-up-s T      seconds of that (300)
  --trials T         failures (200)
  --notice HOW       link (the default): an interface goes down, and its host is told; silent: only the paths in use break
  --liars PERCENT    hosts that lie about their coordinates (0)
  --lie HOW          ${LIES.join(", ")} (none)
${COMMON.replace("(20)", "(0)")}`;

/** Flags of the experiments with two hosts. */
const TWO_HOSTS = ["locators", "trials", "delay-ms", "times", "count"];

/** Runs `sim` with its arguments. Returns the exit code; throws UsageError and CommandError. */
export async function simCommand(args: string[]): Promise<number> {
  const [command, ...rest] = args;
  switch (command) {
    case undefined:
      console.error(HELP);
      return 2;
    case "--help":
    case "-h":
      console.log(HELP);
      return 0;
    case "exploration":
      return await explorationCommand(rest);
    case "delays":
      return delaysCommand(rest);
    case "provider":
      return await providerCommand(rest);
    case "storm":
      return stormCommand(rest);
    case "coordinates":
      return coordinatesCommand(rest);
    default:
      throw new UsageError(`unknown sim command ${command}; shim6-agent sim --help lists the commands`);
  }
}

async function explorationCommand(args: string[]): Promise<number> {
  const flags = new Flags("sim exploration", EXPLORATION_HELP, args, TWO_HOSTS.concat("broken"));
  if (flags.helped) return 0;
  const common = flags.common();
  const locators = flags.locators("3x3", 1);
  const paths = locators[0] * locators[1];
  if (paths < 2) throw new UsageError("--locators 1x1: two paths at least, else there is nothing to explore");
  const broken = flags.integer("broken", 2, 1, 2 * paths - 2);
  const trials = flags.integer("trials", 200, 1);
  const delayMs = flags.range("delay-ms", [1, 1]);
  const counted = flags.oneOf("count", COUNTED);
  const outcomes = runExploration({ ...common, locators, broken, trials, delayMs });
  await writeTimes(flags.text("times"), outcomes);
  print({
    ...flags.described(),
    locators: locators.join("x"),
    broken,
    trials,
    seed: common.seed,
    delay_ms: delayMs.join("-"),
    ...recoveryReport(outcomes, explorationTimes(outcomes, counted)),
  });
  return 0;
}

function delaysCommand(args: string[]): number {
  const flags = new Flags("sim delays", DELAYS_HELP, args, ["failures"]);
  if (flags.helped) return 0;
  const common = flags.common();
  const failures = flags.integer("failures", 500, 1);
  const outcomes = runDelays({ ...common, trials: failures });
  print({ ...flags.described(), failures, seed: common.seed, ...delaysReport(outcomes) });
  return 0;
}

async function providerCommand(args: string[]): Promise<number> {
  const flags = new Flags("sim provider", PROVIDER_HELP, args, TWO_HOSTS.concat("down"));
  if (flags.helped) return 0;
  const common = flags.common();
  const locators = flags.locators("2x2", 2);
  const down = flags.integer("down", 1, 1, Math.min(...locators) - 1);
  const trials = flags.integer("trials", 200, 1);
  const delayMs = flags.range("delay-ms", [1, 1]);
  const counted = flags.oneOf("count", COUNTED);
  const outcomes = runProvider({ ...common, locators, down, trials, delayMs });
  await writeTimes(flags.text("times"), outcomes);
  print({
    ...flags.described(),
    locators: locators.join("x"),
    down,
    trials,
    seed: common.seed,
    delay_ms: delayMs.join("-"),
    ...recoveryReport(outcomes, explorationTimes(outcomes, counted)),
  });
  return 0;
}

function stormCommand(args: string[]): number {
  const flags = new Flags("sim storm", STORM_HELP, args, ["contexts", "trials", "notice", "delay-ms"]);
  if (flags.helped) return 0;
  const common = flags.common();
  const contexts = flags.integer("contexts", 1_000, 1, 20_000);
  const trials = flags.integer("trials", 1, 1);
  const notice = flags.oneOf("notice", NOTICES);
  const delayMs = flags.range("delay-ms", [1, 1]);
  const outcomes = runStorm({ ...common, contexts, trials, notice, delayMs });
  print({
    ...flags.described(),
    contexts,
    trials,
    seed: common.seed,
    notice,
    delay_ms: delayMs.join("-"),
    ...stormReport(outcomes),
  });
  return 0;
}

function coordinatesCommand(args: string[]): number {
  const names = ["hosts", "locators", "peers", "warm-up-s", "trials", "notice", "liars", "lie"];
  const flags = new Flags("sim coordinates", COORDINATES_HELP, args, names);
  if (flags.helped) return 0;
  const common = flags.common(0);
  const hosts = flags.integer("hosts", 60, 2, 200);
  const locators = flags.integer("locators", 3, 2, 9);
  const peers = flags.integer("peers", 4, 0, hosts - 1);
  const warmUpS = flags.integer("warm-up-s", 300, 0, 86_400);
  const trials = flags.integer("trials", 200, 1);
  const notice = flags.oneOf("notice", ["link", "silent"]);
  const liars = flags.integer("liars", 0, 0, 90);
  const lie = flags.oneOf("lie", LIES);
  if (liars > 0 && lie === "none") throw new UsageError(`--liars ${liars} needs --lie, one of ${LIES.join(", ")}`);
  const { encounters, report } = runCoordinates({
    ...common,
    hosts,
    locators,
    peers,
    warmUpMs: warmUpS * 1_000,
    notice,
    trials,
    liars: liars / 100,
    lie,
  });
  print({
    ...flags.described(),
    hosts,
    locators,
    peers,
    warm_up_s: warmUpS,
    pause_s: common.pauseMs / 1_000,
    notice,
    trials: encounters.length,
    seed: common.seed,
    liars_percent: liars,
    lie,
    ...report,
  });
  return 0;
}

/** A result as JSON, with what has no depth on one line. */
export function formatReport(report: Record<string, unknown>): string {
  const text = JSON.stringify(report, null, 2);
  return text.replace(
    /([[{])\s+([^[\]{}]+?)\s+([\]}])/g,
    (_, open, content: string, close) => `${open} ${content.replace(/\s*\n\s*/g, " ")} ${close}`,
  );
}

function print(report: Record<string, unknown>): void {
  console.log(formatReport(report));
}

/** Writes exploration times in seconds, a line each; nowhere without a path. Throws CommandError. */
export async function writeTimes(path: string | undefined, outcomes: readonly FailureOutcome[]): Promise<void> {
  if (path === undefined) return;
  const lines = explorationTimes(outcomes).map((ms) => `${ms === Infinity ? "inf" : (ms / 1_000).toFixed(6)}\n`);
  try {
    await Deno.writeTextFile(path, lines.join(""));
  } catch (error) {
    throw new CommandError(`cannot write ${path}: ${error instanceof Error ? error.message : error}`);
  }
}

/** The flags of one experiment. Its methods throw UsageError. */
export class Flags {
  /** Whether the help text was asked for, and given. */
  readonly helped: boolean;
  readonly #flags: Record<string, unknown>;

  /** `command`: as on the command line, for its error message. `names`: of the flags beside the common ones. */
  constructor(command: string, help: string, args: string[], names: readonly string[]) {
    this.#flags = parseArgs(args, {
      string: ["policy", "profile", "seed", "pause-s", "reading", ...names],
      boolean: ["help"],
      unknown: (flag: string) => {
        throw new UsageError(`unknown argument ${flag}; shim6-agent ${command} --help lists the options`);
      },
    });
    this.helped = this.#flags.help === true;
    if (this.helped) console.log(help);
  }

  /** What every experiment is told. `pauseS` unless the user says otherwise. */
  common(pauseS = 20): { policy: () => Policy; profile: Profile; seed: number; pauseMs: number } {
    return {
      policy: this.#policy(),
      profile: this.#profile(),
      seed: this.integer("seed", 1, 0, 0xffff_ffff),
      pauseMs: this.integer("pause-s", pauseS, 0, 86_400) * 1_000,
    };
  }

  /** How the result begins. */
  described(): Record<string, string> {
    const reading = this.text("reading");
    const { name } = this.#policy()();
    return {
      policy: reading === undefined ? name : "random",
      ...(reading === undefined ? {} : { reading }),
      profile: this.#profile().name,
    };
  }

  /** A flag's value; undefined when absent. */
  text(name: string): string | undefined {
    const value = this.#flags[name];
    if (value === undefined) return undefined;
    if (typeof value !== "string" || value === "") throw new UsageError(`--${name} needs one value`);
    return value;
  }

  /** A whole number from `least` to `most`. */
  integer(name: string, otherwise: number, least: number, most = Number.MAX_SAFE_INTEGER): number {
    const text = this.text(name);
    if (text === undefined && otherwise <= most) return otherwise;
    const value = Number(text);
    if (!/^\d+$/.test(text ?? "") || value < least || value > most) {
      const bounds = most === Number.MAX_SAFE_INTEGER ? `${least} or more` : `from ${least} to ${most}`;
      throw new UsageError(`--${name} ${text ?? otherwise}: a whole number, ${bounds}`);
    }
    return value;
  }

  /** One of the choices, the first when absent. */
  oneOf<T extends string>(name: string, choices: readonly [T, ...T[]]): T {
    const text = this.text(name) ?? choices[0];
    const choice = choices.find((choice) => choice === text);
    if (choice === undefined) throw new UsageError(`--${name} ${text}: one of ${choices.join(", ")}`);
    return choice;
  }

  /** Milliseconds from - to. */
  range(name: string, otherwise: readonly [number, number]): readonly [number, number] {
    const text = this.text(name);
    if (text === undefined) return otherwise;
    const match = /^(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?$/.exec(text);
    const low = Number(match?.[1]), high = Number(match?.[2] ?? match?.[1]);
    if (match === null || low > high) throw new UsageError(`--${name} ${text}: milliseconds from - to, as in 5-50`);
    return [low, high];
  }

  /** Counts of locators, as in 3x3. */
  locators(otherwise: string, least: number): readonly [number, number] {
    const text = this.text("locators") ?? otherwise;
    const match = /^([1-9])x([1-9])$/.exec(text);
    const counts = [Number(match?.[1]), Number(match?.[2])] as const;
    if (match === null || Math.min(...counts) < least) {
      throw new UsageError(`--locators ${text}: two numbers from ${least} to 9, as in 3x3`);
    }
    return counts;
  }

  #policy(): () => Policy {
    const name = this.text("policy") ?? "random";
    const reading = this.text("reading");
    try {
      createPolicy(name);
    } catch (error) {
      if (error instanceof UnknownPolicy) throw new UsageError(error.message);
      throw error;
    }
    if (reading === undefined) return () => createPolicy(name);
    if (name !== "random") throw new UsageError("--reading is about the paper's policy: only with --policy random");
    const parsed = parseReading(reading);
    return () => new ReadingPolicy(parsed);
  }

  #profile(): Profile {
    const name = this.text("profile") ?? "paper";
    if (!Object.hasOwn(PROFILES, name)) {
      throw new UsageError(`unknown profile ${name}; there are ${Object.keys(PROFILES).join(", ")}`);
    }
    return PROFILES[name];
  }
}

function parseReading(text: string): Reading {
  const reading: Record<string, string | number> = { ...DEFAULT_READING };
  for (const part of text.split(",")) {
    const [key, value = ""] = part.split("=");
    if (key === "gap-ms") {
      if (!/^\d+(\.\d+)?$/.test(value)) throw new UsageError(`--reading ${part}: a gap in milliseconds`);
      reading.gapMs = Number(value);
      continue;
    }
    const choices: readonly string[] | undefined = Object.hasOwn(READINGS, key)
      ? READINGS[key as keyof typeof READINGS]
      : undefined;
    if (choices === undefined) {
      throw new UsageError(`--reading ${part}: there are ${Object.keys(READINGS).join(", ")} and gap-ms`);
    }
    if (!choices.includes(value)) throw new UsageError(`--reading ${part}: ${key} is one of ${choices.join(", ")}`);
    reading[key] = value;
  }
  return reading as unknown as Reading;
}
