import { assert, assertEquals } from "@std/assert";
import { CyclingPlan, Pacing, shuffled } from "../../policies/pacing.ts";
import type { ProbeTiming } from "../../policies/policy.ts";
import { RFC5534 } from "../../reap/profile.ts";
import { seeded } from "../reap/virtual_pair.ts";
import { pairs } from "./start.ts";

function gaps(count: number, burst?: number, timing: ProbeTiming = RFC5534): number[] {
  const pacing = new Pacing(timing, burst);
  return Array.from({ length: count }, () => pacing.next());
}

Deno.test("the gaps are 0.5 s until the fourth probe, then they double up to 60 s", () => {
  assertEquals(gaps(12), [500, 500, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
});

Deno.test("the gap stays at 60 s however long an exploration lasts", () => {
  assertEquals(gaps(5000).at(-1), 60_000);
});

Deno.test("a burst uses up the initial probes", () => {
  assertEquals(gaps(4, 1), [500, 500, 500, 1000]);
  assertEquals(gaps(5, 2), [0, 500, 500, 1000, 2000]);
  assertEquals(gaps(6, 4), [0, 0, 0, 1000, 2000, 4000]);
  assertEquals(gaps(11, 9), [0, 0, 0, 0, 0, 0, 0, 0, 1000, 2000, 4000]);
});

Deno.test("the timers are the profile's", () => {
  const timing = { initialProbeTimeoutMs: 100, initialProbes: 2, maxProbeTimeoutMs: 350 };
  assertEquals(gaps(5, 1, timing), [100, 200, 350, 350, 350]);
  assertEquals(gaps(3, 1, { ...timing, initialProbeTimeoutMs: 1000 }), [350, 350, 350]);
});

Deno.test("a restart begins with the first gap again", () => {
  const pacing = new Pacing(RFC5534, 2);
  for (let i = 0; i < 9; i++) pacing.next();
  pacing.restart();
  assertEquals([pacing.next(), pacing.next()], [0, 500]);
});

Deno.test("a shuffle keeps the pairs, leaves its input alone, and draws each order equally often", () => {
  const random = seeded(7);
  const three = pairs(1, 3);
  const seen = new Map<string, number>();
  for (let i = 0; i < 6000; i++) {
    const order = shuffled(three, random);
    assertEquals(new Set(order), new Set(three));
    const key = order.map((pair) => three.indexOf(pair)).join("");
    seen.set(key, (seen.get(key) ?? 0) + 1);
  }
  assertEquals(three, pairs(1, 3));
  assertEquals(seen.size, 6);
  for (const [order, count] of seen) assert(count > 850 && count < 1150, `${order}: ${count}`);
});

/** A plan over four pairs in order, the rounds counted. */
function inOrder(answerInReverse: boolean) {
  const four = pairs(2, 2);
  let rounds = 0;
  const draw = () => {
    rounds++;
    return four.map((pair, i) => ({ pair, reason: `step ${i}` }));
  };
  const plan = new CyclingPlan(draw, new Pacing(RFC5534), answerInReverse);
  return { four, plan, rounds: () => rounds };
}

Deno.test("a cycle draws a new round when it has gone through all pairs", () => {
  const { four, plan, rounds } = inOrder(true);
  assertEquals(Array.from({ length: 6 }, () => four.indexOf(plan.next(0).pair)), [0, 1, 2, 3, 0, 1]);
  assertEquals(rounds(), 2);
});

Deno.test("answers go on in the order of the pairs but not in the pacing", () => {
  const { four, plan } = inOrder(true);
  assertEquals(plan.next(0), { pair: four[0], reason: "step 0", waitMs: 500 });
  assertEquals(plan.answer(0), { pair: four[1], reason: "step 1" });
  assertEquals(plan.answer(0), { pair: four[2], reason: "step 2" });
  assertEquals(plan.next(0), { pair: four[3], reason: "step 3", waitMs: 500 });
  assertEquals(plan.next(0).waitMs, 500);
  assertEquals(plan.next(0).waitMs, 1000);
});

Deno.test("an answer takes the reverse of the peer's path out of turn, once a round", () => {
  const { four, plan } = inOrder(true);
  const answering = { ...four[2] };
  assertEquals(four.indexOf(plan.next(0, answering).pair), 2);
  assertEquals(four.indexOf(plan.answer(0, answering).pair), 0);
  assertEquals([plan.next(0), plan.next(0)].map(({ pair }) => four.indexOf(pair)), [1, 3]);
  assertEquals(four.indexOf(plan.answer(0, answering).pair), 2);
});

Deno.test("an answer to a path that is no candidate goes on in order", () => {
  const { four, plan } = inOrder(true);
  assertEquals(plan.answer(0, { local: "2001:db8::1", peer: "2001:db8::2" }).pair, four[0]);
});

Deno.test("the paper's cycle does not look at the peer's path", () => {
  const { four, plan } = inOrder(false);
  assertEquals(plan.next(0, four[2]).pair, four[0]);
  assertEquals(plan.answer(0, four[3]).pair, four[1]);
});

Deno.test("a restart keeps the order of the pairs", () => {
  const { four, plan } = inOrder(true);
  for (let i = 0; i < 6; i++) plan.next(0);
  plan.restart();
  assertEquals(plan.next(0), { pair: four[2], reason: "step 2", waitMs: 500 });
});
