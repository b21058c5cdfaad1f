/**
 * Shows what the agent is for: a stream between two hosts, the path in use breaks, the stream goes on. On the real
 * testbed, with the executable; where that cannot stand, the same story in the simulator.
 *
 * @module
 */

import { parseArgs } from "@std/cli";
import { CommandError, UsageError } from "../agent/errors.ts";
import { type ChartStyle, drawChart, tellStory, toColumns } from "../lab/chart.ts";
import { mustUndo, withCleanEnd } from "../lab/clean_end.ts";
import {
  FAILOVER_DEFAULTS,
  type FailoverProgress,
  type FailoverResult,
  type Kill,
  KILLS,
  PACE,
  runFailover,
} from "../lab/failover.ts";
import { testbedRefusal } from "../lab/refusal.ts";
import { runInUserNamespace } from "../lab/user_namespace.ts";
import { PROFILES } from "../reap/profile.ts";
import { BuildError, ensureExecutable } from "./compile.ts";
import { ROOT } from "./source_files.ts";
import { simulateFailover } from "./simulated_failover.ts";

const HELP = `usage: deno task demo [--kill KIND] [--policy NAME] [--profile NAME] [--simulate]

  --kill KIND      what breaks: ${KILLS.join(", ")} (both)
  --policy NAME    path-selection policy of both agents (burst4)
  --profile NAME   timers of both agents: ${Object.keys(PROFILES).join(", ")} (paper)
  --simulate       in the simulator, as where the testbed cannot stand`;

const KILL_AT_MS = 3_000;
const DURATION_MS = 9_000;
const FINEST_COLUMN_MS = 100;
const REDRAW_MS = 100;
/** The demo inside a user namespace could not build the testbed there either. */
const IMPOSSIBLE = 77;

/** The cursor would flicker through the chart. */
const HIDE_CURSOR = "\x1b[?25l", SHOW_CURSOR = "\x1b[?25h";

const encoder = new TextEncoder();

function write(text: string): void {
  const octets = encoder.encode(text);
  for (let done = 0; done < octets.length;) done += Deno.stdout.writeSync(octets.subarray(done));
}

function say(line = ""): void {
  write(line + "\n");
}

/** What the terminal can show, and how many columns a chart may have. */
interface Screen {
  readonly style: ChartStyle;
  readonly live: boolean;
  readonly width: number;
}

function screen(): Screen {
  const terminal = Deno.stdout.isTerminal() && Deno.env.get("TERM") !== "dumb";
  const rich = terminal && (Deno.env.get("NO_COLOR") ?? "") === "";
  const columns = terminal ? Deno.consoleSize().columns : 80;
  return { style: { unicode: rich, color: rich }, live: rich, width: Math.max(20, Math.min(columns, 120) - 16) };
}

interface DemoOptions {
  readonly kill: Kill;
  readonly policy: string;
  readonly profile: string;
  readonly simulate: boolean;
  /** This process was started inside a user namespace by another demo. */
  readonly inside: boolean;
}

function readOptions(args: string[]): DemoOptions | undefined {
  const flags = parseArgs(args, {
    string: ["kill", "policy", "profile"],
    boolean: ["simulate", "inside", "help"],
    default: { kill: "both", policy: "burst4", profile: "paper" },
    unknown: (flag: string) => {
      throw new UsageError(`unknown argument ${flag}\n${HELP}`);
    },
  });
  if (flags.help) return undefined;
  const kill = KILLS.find((kill) => kill === flags.kill);
  if (kill === undefined) throw new UsageError(`--kill ${flags.kill}: one of ${KILLS.join(", ")}`);
  if (PROFILES[flags.profile] === undefined) {
    throw new UsageError(`--profile ${flags.profile}: one of ${Object.keys(PROFILES).join(", ")}`);
  }
  return { kill, policy: flags.policy, profile: flags.profile, simulate: flags.simulate, inside: flags.inside };
}

const BROKEN: Readonly<Record<Kill, string>> = {
  "both": "the path in use is cut, both ways: no signal, packets just vanish",
  "a-to-b": "the path in use is cut from a to b; from b to a all is well",
  "b-to-a": "the path in use is cut from b to a; from a to b all is well",
  "provider": "the provider in use at host a fails, with all its paths",
  "link": "the link in use at host a loses its carrier",
  "address": "the address in use is taken from host a",
};

/** Follows a run on the screen. */
class LiveView {
  readonly #screen: Screen;
  readonly #kill: Kill;
  readonly #started = performance.now();
  readonly #timeline: { t_ms: number; bytes: number }[] = [];
  #first = 0;
  #last = { at: 0, bytes: 0 };
  #brokenAt: number | undefined;
  #drawnLines = 0;
  #drawnAt = 0;
  #step = "";

  constructor(screen: Screen, kill: Kill) {
    this.#screen = screen;
    this.#kill = kill;
  }

  show(progress: FailoverProgress): void {
    if (progress.step === "received") return this.#received(progress.at, progress.bytes);
    if (progress.step === "killed") this.#brokenAt = progress.at - this.#first;
    const text = this.#textOf(progress.step);
    if (text === undefined) return;
    this.#step = `${((performance.now() - this.#started) / 1000).toFixed(1).padStart(5)} s  ${text}`;
    if (!this.#screen.live) return say(this.#step);
    this.clear();
    say(this.#step);
    this.#draw();
  }

  #textOf(step: Exclude<FailoverProgress["step"], "received">): string | undefined {
    switch (step) {
      case "testbed":
        return "two hosts with three providers each, and a router: 18 one-way paths, in network namespaces";
      case "agents":
        return "an agent on each host";
      case "stream":
        return "a TCP stream from a to b, between two programs that know nothing of all this";
      case "established":
        return "the agents have a context for it; the kernel still carries every packet by itself";
      case "killed":
        return BROKEN[this.#kill];
      case "recovered":
        return "the agents have moved the stream to another path";
      case "ended":
        return undefined;
    }
  }

  /** Spreads what came since the last word evenly, so that columns do not beat with the words' rhythm. */
  #received(at: number, bytes: number): void {
    if (this.#first === 0) {
      if (bytes === 0) return;
      this.#first = at;
    } else {
      const pieces = Math.max(1, Math.round((at - this.#last.at) / 10));
      for (let piece = 0; piece < pieces; piece++) {
        this.#timeline.push({
          t_ms: this.#last.at - this.#first + (at - this.#last.at) * piece / pieces,
          bytes: (bytes - this.#last.bytes) / pieces,
        });
      }
    }
    this.#last = { at, bytes };
    if (this.#screen.live && performance.now() - this.#drawnAt > REDRAW_MS) this.#draw();
  }

  #draw(): void {
    this.#drawnAt = performance.now();
    const lines = chart(this.#timeline, this.#brokenAt, this.#screen);
    const up = this.#drawnLines === 0 ? "" : `\x1b[${this.#drawnLines}A\x1b[0J`;
    write(up + lines.map((line) => line + "\n").join(""));
    this.#drawnLines = lines.length;
  }

  /** Takes the chart off the screen. */
  clear(): void {
    if (this.#drawnLines > 0) write(`\x1b[${this.#drawnLines}A\x1b[0J`);
    this.#drawnLines = 0;
  }
}

function chart(
  timeline: readonly { readonly t_ms: number; readonly bytes: number }[],
  brokenAtMs: number | undefined,
  { width, style }: Screen,
): string[] {
  let columnMs = FINEST_COLUMN_MS;
  while ((timeline.at(-1)?.t_ms ?? 0) >= columnMs * width) columnMs *= 2;
  const columns = toColumns(timeline, columnMs, width);
  const brokenAt = brokenAtMs === undefined ? undefined : Math.floor(brokenAtMs / columnMs);
  return drawChart({ columns, columnMs, brokenAt, width }, style);
}

/** Builds the agent if need be. Returns the path of the executable. */
async function executable(): Promise<string> {
  const before = new Set(workDirectories());
  const removeUnfinished = mustUndo(() => {
    for (const path of workDirectories()) if (!before.has(path)) Deno.removeSync(path, { recursive: true });
  });
  try {
    return await ensureExecutable((line) => say(`         ${line}`));
  } finally {
    await removeUnfinished();
  }
}

/** Where executables are being built. */
function workDirectories(): string[] {
  try {
    return [...Deno.readDirSync(`${ROOT}dist`)].map(({ name }) => `${ROOT}dist/${name}`)
      .filter((path) => path.startsWith(`${ROOT}dist/.build-`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** On the testbed. Returns whether the stream arrived whole. */
async function realDemo(options: DemoOptions, screen: Screen): Promise<boolean> {
  const command = await executable();
  const view = new LiveView(screen, options.kill);
  if (screen.live) write(HIDE_CURSOR);
  const showCursor = mustUndo(() => screen.live ? write(SHOW_CURSOR) : undefined);
  let result: FailoverResult;
  try {
    result = await runFailover({
      ...FAILOVER_DEFAULTS,
      ...PACE.tcp,
      name: "shim6-demo",
      policy: options.policy,
      profile: options.profile,
      kill: options.kill,
      killAtMs: KILL_AT_MS,
      durationMs: DURATION_MS,
      patienceMs: 30_000,
      executable: { command, args: [] },
      onProgress: (progress) => view.show(progress),
    });
  } finally {
    view.clear();
    await showCursor();
  }
  say();
  for (const line of chart(result.timeline, result.kill_t_ms, screen)) say(line);
  say();
  const mb = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
  const verdict = result.intact
    ? `${
      mb(result.bytes_received)
    } sent and received, with the same SHA-256: of the failure the programs saw only the pause`
    : `${mb(result.bytes_sent)} sent, ${mb(result.bytes_received)} received: the stream did NOT arrive whole`;
  for (const line of tellStory(result, verdict, screen.style)) say(line);
  return result.intact && result.recovered;
}

/** In the simulator. Returns whether all arrived but what was sent into the silence. */
function simulatedDemo(options: DemoOptions, screen: Screen): boolean {
  const result = simulateFailover({
    policy: options.policy,
    profile: PROFILES[options.profile],
    kill: options.kill,
    killAtMs: KILL_AT_MS,
    durationMs: DURATION_MS,
    seed: 1,
  });
  say("SIMULATED: real engines, virtual time, virtual network; a stream of datagrams instead of TCP");
  say(`           ${BROKEN[options.kill]}`);
  say();
  for (const line of chart(result.timeline, result.kill_t_ms, screen)) say(line);
  say();
  const lost = result.sent - result.received;
  const verdict = `simulated: ${result.sent} packets sent, ${result.received} received` +
    (result.intact ? `; the ${lost} lost ones were sent into the silence` : ": more lost than the silence explains");
  for (const line of tellStory(result, verdict, screen.style)) say(line);
  return result.intact && result.recovered;
}

async function demo(options: DemoOptions): Promise<number> {
  const display = screen();
  const code = (whole: boolean) => whole ? 0 : 1;
  if (options.simulate) return code(simulatedDemo(options, display));
  const refusal = testbedRefusal();
  if (refusal === undefined) return code(await withCleanEnd(() => realDemo(options, display)));
  if (options.inside) return IMPOSSIBLE;
  if (Deno.uid() !== 0) {
    const self = { command: Deno.execPath(), args: ["run", "--allow-all", import.meta.filename!] };
    const inside = await runInUserNamespace(self, [...Deno.args, "--inside"]);
    if (inside !== undefined && inside !== IMPOSSIBLE) return inside;
  }
  say(`The testbed of network namespaces cannot stand here (${refusal}); as root it can on most machines.`);
  return code(simulatedDemo(options, display));
}

if (import.meta.main) {
  try {
    const options = readOptions(Deno.args);
    if (options === undefined) say(HELP);
    else Deno.exit(await demo(options));
  } catch (error) {
    const known = error instanceof UsageError || error instanceof CommandError || error instanceof BuildError;
    if (!known) throw error;
    console.error(error.message);
    Deno.exit(error instanceof UsageError ? 2 : 1);
  }
}
