/**
 * Failovers on the testbed, many of each kind: do all streams arrive whole, and how long are they silent? Prints a table
 * on standard error as it goes, and JSON on standard output.
 *
 *     deno run -A bench/acceptance.ts [--runs N] [--transports tcp,udp] [--kills both,link] [--policy P] [--profile P]
 *
 * @module
 */

import { parseArgs } from "@std/cli";
import { withCleanEnd } from "../lab/clean_end.ts";
import {
  FAILOVER_DEFAULTS,
  type FailoverResult,
  type Kill,
  KILLS,
  PACE,
  runFailover,
  type Transport,
  TRANSPORTS,
} from "../lab/failover.ts";
import { thisProgram } from "../lab/self.ts";

/** Percentiles of a time in ms. */
interface Spread {
  readonly p50: number;
  readonly p95: number;
  readonly max: number;
}

interface Row {
  readonly transport: Transport;
  readonly kill: Kill;
  readonly runs: number;
  readonly intact: number;
  readonly recovered: number;
  readonly silence_ms: Spread;
  readonly detection_ms: Spread;
  readonly exploration_ms: Spread;
  readonly resume_ms: Spread;
  /** What each run that failed had to say. */
  readonly errors: readonly string[];
}

function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((x, y) => x - y);
  const at = (q: number) => Math.round(sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] * 10) / 10;
  return sorted.length === 0 ? { p50: NaN, p95: NaN, max: NaN } : { p50: at(0.5), p95: at(0.95), max: at(1) };
}

const flags = parseArgs(Deno.args, {
  string: ["runs", "transports", "kills", "policy", "profile", "executable", "agent-arg", "name"],
  boolean: ["hold"],
  negatable: ["hold"],
  collect: ["agent-arg"],
  default: {
    runs: "10",
    transports: TRANSPORTS.join(),
    kills: KILLS.join(),
    policy: FAILOVER_DEFAULTS.policy,
    profile: FAILOVER_DEFAULTS.profile,
    name: "shim6-acceptance",
    hold: true,
  },
});
const chosen = <T extends string>(all: readonly T[], names: string) => all.filter((x) => names.split(",").includes(x));

const LINE = [4, 9, 7, 7, 22, 22, 23, 20];

function print(...cells: string[]): void {
  console.error(cells.map((cell, i) => cell.padStart(LINE[i])).join("  "));
}

async function measure(transport: Transport, kill: Kill): Promise<Row> {
  const results: FailoverResult[] = [], errors: string[] = [];
  for (let run = 0; run < Number(flags.runs); run++) {
    try {
      results.push(
        await runFailover({
          ...FAILOVER_DEFAULTS,
          ...PACE[transport],
          transport,
          kill,
          name: flags.name,
          policy: flags.policy,
          profile: flags.profile,
          hold: flags.hold,
          killAtMs: 0,
          durationMs: 0,
          executable: thisProgram(flags.executable),
          agentArgs: flags["agent-arg"],
        }),
      );
    } catch (error) {
      errors.push(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
    }
  }
  const times = (of: (result: FailoverResult) => number) => spread(results.map(of));
  return {
    transport,
    kill,
    runs: Number(flags.runs),
    intact: results.filter((result) => result.intact).length,
    recovered: results.filter((result) => result.recovered).length,
    silence_ms: times((result) => result.silence_ms),
    detection_ms: times((result) => result.detection_ms),
    exploration_ms: times((result) => result.exploration_ms),
    resume_ms: times((result) => result.resume_ms),
    errors,
  };
}

if (import.meta.main) {
  await withCleanEnd(async () => {
    console.error(`${flags.runs} runs each, policy ${flags.policy}, profile ${flags.profile}; times in ms`);
    print(
      "",
      "kill",
      "intact",
      "back",
      ...["silence", "detection", "exploration", "resume"].map((x) => `${x} p50/p95/max`),
    );
    const rows: Row[] = [];
    for (const transport of chosen(TRANSPORTS, flags.transports)) {
      for (const kill of chosen(KILLS, flags.kills)) {
        const row = await measure(transport, kill);
        rows.push(row);
        const cell = ({ p50, p95, max }: Spread) => [p50, p95, max].map((ms) => ms.toFixed(0)).join(" / ");
        const counts = [row.intact, row.recovered].map((count) => `${count}/${row.runs}`);
        const spreads = [row.silence_ms, row.detection_ms, row.exploration_ms, row.resume_ms];
        print(transport, kill, ...counts, ...spreads.map(cell));
        for (const error of row.errors) console.error(`      ${error}`);
      }
    }
    console.log(JSON.stringify({ policy: flags.policy, profile: flags.profile, rows }, null, 2));
  });
}
