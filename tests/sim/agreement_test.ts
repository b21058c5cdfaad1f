import { assert, assertEquals } from "@std/assert";
import { PAPER } from "../../reap/profile.ts";
import { createPolicy } from "../../policies/registry.ts";
import { agreement } from "../../sim/experiments/agreement.ts";
import { runExploration } from "../../sim/experiments/exploration.ts";
import { DEFAULT_READING, ReadingPolicy } from "../../sim/experiments/readings.ts";
import { explorationTimes } from "../../sim/experiments/trials.ts";
import { SeededRandom } from "../../sim/random.ts";

Deno.test("the gap is the largest difference of the distribution functions, less what is tolerated", () => {
  assertEquals(agreement([1, 2, 3, 4], [1, 2, 3, 4], 0, 0.05).gap, 0);
  assertEquals(agreement([1, 2, 3, 4], [3, 4, 5, 6], 0, 0.05).gap, 0.5);
  assertEquals(agreement([3, 4, 5, 6], [1, 2, 3, 4], 0, 0.05).gap, 0.5);
  assertEquals(agreement([1, 2, 3, 4], [3, 4, 5, 6], 2, 0.05).gap, 0);
  assertEquals(agreement([1, 2], [Infinity, Infinity], 10, 0.05).gap, 1);
});

Deno.test("the bound is Smirnov's, and accident exceeds it about as often as it may", () => {
  // 1.358 √(1/n + 1/m) at 5 %, as in any table.
  assert(Math.abs(agreement(Array(50).fill(0), Array(200).fill(0), 0, 0.05).bound - 1.358 * Math.sqrt(0.025)) < 1e-3);
  const random = new SeededRandom(1);
  const sample = (count: number) => Array.from({ length: count }, random.next);
  let rejected = 0;
  for (let i = 0; i < 1_000; i++) if (!agreement(sample(200), sample(50), 0, 0.05).agrees) rejected++;
  assert(rejected > 10 && rejected < 70, `${rejected} of 1000`);
});

Deno.test("as few failures as the testbed has time for tell another reading of the protocol apart", () => {
  const random = () => createPolicy("random");
  const run = (trials: number, seed: number, policy = random, broken = 8) => {
    const common = { profile: PAPER, locators: [3, 3], pauseMs: 2_000, delayMs: [0, 0] } as const;
    return explorationTimes(runExploration({ ...common, broken, trials, seed, policy }), "first");
  };
  const expected = run(1_000, 1);
  const judge = (measured: number[]) => agreement(expected, measured, 60, 1e-4).agrees;
  const other = (reading: Partial<typeof DEFAULT_READING>) => () =>
    new ReadingPolicy({ ...DEFAULT_READING, ...reading });
  for (let seed = 2; seed < 12; seed++) assert(judge(run(60, seed)), `seed ${seed}`);
  for (let seed = 2; seed < 6; seed++) {
    assert(!judge(run(60, seed, other({ current: "first" }))), `the pair in use first, seed ${seed}`);
    assert(!judge(run(60, seed, other({ gapMs: 100 }))), `probes 100 ms apart, seed ${seed}`);
    assert(!judge(run(60, seed, random, 2)), `two broken paths, seed ${seed}`);
    assert(!judge(run(60, seed, random, 12)), `twelve broken paths, seed ${seed}`);
  }
});
