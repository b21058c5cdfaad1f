/**
 * The testbed gives what the simulator foretells: the distributions of what one and the other find are compared by the
 * two-sample Kolmogorov-Smirnov test, with room for what the machine adds.
 *
 * All is the same on both sides but the hosts: nine paths of 0 to 80 ms each way (paper §5.4), of which two or eight
 * break, under traffic that is quicker than the paper's so that more failures fit into the time.
 */

import { assert, assertEquals } from "@std/assert";
import { runLabTrials } from "../../lab/trials.ts";
import { LAB_DELAYS } from "../../lab/trial_commands.ts";
import { thisProgram } from "../../lab/self.ts";
import { createPolicy } from "../../policies/registry.ts";
import { PAPER } from "../../reap/profile.ts";
import { agreement } from "../../sim/experiments/agreement.ts";
import { type FailureKind, pathsBreak } from "../../sim/experiments/failures.ts";
import type { FailureOutcome } from "../../sim/experiments/host_pair.ts";
import { quantiles } from "../../sim/experiments/statistics.ts";
import { runTrials } from "../../sim/experiments/trials.ts";

const needsRoot = Deno.uid() !== 0;
if (needsRoot) console.log("the agreement of testbed and simulator is left out: not root");

const TRAFFIC_MS = 300, SEND_TIMEOUT_MS = 1_000;
const SIMULATED = 1_500;
/** Of each comparison; there are {@linkcode FEATURES} for each of three kinds of failure, so a false alarm takes 500 runs. */
const ALPHA = 1e-4;
/** Three messages through two hosts' event loops, and the timers of the agents, when nothing else runs. */
const NOISE_MS = 30;

/** What is compared, of each failure, and by how much each may differ: a time by the noise, a count by one message. */
const FEATURES: readonly {
  readonly name: string;
  readonly of: (outcome: FailureOutcome) => number;
  readonly tolerance: (noiseMs: number) => number;
}[] = [
  { name: "detection", of: ({ hosts }) => hosts[0]?.detectionMs ?? Infinity, tolerance: (noise) => noise },
  {
    name: "exploration of the first host",
    of: ({ hosts }) => hosts[0]?.explorationMs ?? 0,
    tolerance: (noise) => noise,
  },
  {
    name: "exploration of the last host",
    of: ({ hosts }) => hosts.at(-1)?.explorationMs ?? 0,
    tolerance: (noise) => noise,
  },
  { name: "recovery", of: ({ recoveryMs }) => recoveryMs, tolerance: (noise) => noise },
  { name: "round-trip time of the chosen paths", of: ({ rttMs }) => rttMs, tolerance: (noise) => noise },
  { name: "messages", of: ({ messages }) => messages, tolerance: () => 1 },
];

/** Runs the same failures in the simulator and in the testbed. */
async function both(policy: string, kind: () => FailureKind, trials: number, testbeds: number) {
  const common = { locators: LAB_DELAYS.locators, seed: 7, pauseMs: 2 * TRAFFIC_MS, trafficMs: TRAFFIC_MS };
  const profile = { ...PAPER, sendTimeoutMs: SEND_TIMEOUT_MS };
  const simulated = runTrials(
    { ...common, policy: () => createPolicy(policy), profile, trials: SIMULATED },
    LAB_DELAYS.delayMs,
    kind(),
  );
  const { outcomes, latenessMs } = await runLabTrials({
    ...common,
    policy,
    profile: PAPER.name,
    agentArgs: ["--send-timeout-ms", String(SEND_TIMEOUT_MS)],
    trials,
    testbeds,
    kind: kind(),
    delayMs: LAB_DELAYS.delayMs,
    name: `shim6-agree-${policy}`,
    executable: thisProgram(),
  });
  return { simulated, outcomes, noiseMs: NOISE_MS + quantiles(latenessMs).p95 };
}

Deno.test({
  name: "simulator and testbed agree on detection, exploration, recovery, chosen paths and messages, within the noise",
  ignore: needsRoot,
  sanitizeResources: false, // libc stays loaded
  fn: async () => {
    const twoOrEight = (): FailureKind => (inUse, chooser, random) =>
      pathsBreak(random.next() < 0.5 ? 2 : 8)(inUse, chooser, random);
    const runs = await Promise.all([
      both("random", twoOrEight, 84, 6),
      both("burst4", () => pathsBreak(2), 36, 3),
    ]);
    const disagreements: string[] = [];
    for (const { simulated, outcomes, noiseMs } of runs) {
      assertEquals(outcomes.filter(({ recovered }) => !recovered).length, 0);
      for (const broken of new Set(simulated.map((outcome) => outcome.broken))) {
        const those = (all: readonly FailureOutcome[]) => all.filter((outcome) => outcome.broken === broken);
        for (const { name, of, tolerance } of FEATURES) {
          const expected = those(simulated).map(of), measured = those(outcomes).map(of);
          const { gap, bound, agrees } = agreement(expected, measured, tolerance(noiseMs), ALPHA);
          if (agrees) continue;
          const told = [expected, measured].map((values) => JSON.stringify(quantiles(values)));
          disagreements.push(
            `${broken} broken, ${name}: simulated ${told[0]}, measured ${told[1]}, a gap of ${gap.toFixed(2)} ` +
              `where ${bound.toFixed(2)} may be accident (tolerance ${tolerance(noiseMs).toFixed(0)})`,
          );
        }
      }
    }
    assert(disagreements.length === 0, disagreements.join("\n"));
  },
});
