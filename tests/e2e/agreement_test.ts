/** The testbed gives what the simulator foretells, as far as few failures can tell. */

import { assert, assertEquals } from "@std/assert";
import { runLabTrials } from "../../lab/exploration.ts";
import { thisProgram } from "../../lab/self.ts";
import { createPolicy } from "../../policies/registry.ts";
import { PAPER } from "../../reap/profile.ts";
import { runExploration } from "../../sim/experiments/exploration.ts";
import { explorationTimes } from "../../sim/experiments/trials.ts";

const needsRoot = Deno.uid() !== 0;
if (needsRoot) console.log("the agreement of testbed and simulator is left out: not root");

const BELOW_MS = 390;
/** Rarer than this would be no accident. */
const ACCIDENT = 0.001;

/** The probability of at most `hits` of `count` at a probability of `p` each. */
function atMost(hits: number, count: number, p: number): number {
  let sum = 0, term = (1 - p) ** count;
  for (let i = 0; i <= hits; i++) {
    sum += term;
    term *= (count - i) / (i + 1) * p / (1 - p);
  }
  return sum;
}

/** Times of `policy` at n = 2 that are below the limit, in the testbed, and how likely so few would be. */
async function compare(policy: string) {
  const common = { locators: [3, 3], broken: 2, seed: 7 } as const;
  const simulated = explorationTimes(runExploration({
    ...common,
    policy: () => createPolicy(policy),
    profile: PAPER,
    trials: 200,
    pauseMs: 20_000,
    delayMs: [0, 0],
  }));
  const outcomes = await runLabTrials({
    ...common,
    policy,
    profile: PAPER.name,
    trials: 3,
    pauseMs: 2_000,
    name: `shim6-agree-${policy}`,
    executable: thisProgram(),
  });
  const measured = explorationTimes(outcomes);
  const below = (times: readonly number[]) => times.filter((ms) => ms < BELOW_MS).length;
  // Rule of succession: 200 of 200 is no certainty.
  const share = (below(simulated) + 1) / (simulated.length + 2);
  return { outcomes, measured, likelihood: atMost(below(measured), measured.length, share) };
}

Deno.test({
  name: "simulator and testbed agree on how often the first probe is answered, within the noise",
  ignore: needsRoot,
  sanitizeResources: false, // libc stays loaded
  fn: async () => {
    for (const { outcomes, measured, likelihood } of await Promise.all(["disjoint", "burst9"].map(compare))) {
      assertEquals(outcomes.filter(({ recovered }) => recovered).length, 3);
      assert(measured.length >= 3, `${measured.length} hosts left Operational in 3 failures`);
      assert(likelihood > ACCIDENT, `${measured} ms: a chance of ${likelihood}`);
    }
  },
});
