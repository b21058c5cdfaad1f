import { assert, assertEquals } from "@std/assert";
import { Bench, Exploring, InboundOk, InOrder, PAIRS, STEADY } from "./bench.ts";
import { RFC5534 } from "../../reap/profile.ts";
import type { Policy } from "../../policies/policy.ts";
import { seeded } from "./virtual_pair.ts";

/** Times of the probes that leave until `until`, the first of them at 0. */
function probeTimes(bench: Bench, until: number): number[] {
  bench.machine.handleFailure("operator", 0);
  const first = bench.probes().map(() => 0);
  return [...first, ...bench.run(until).filter(({ effect }) => effect.type === "send-probe").map(({ at }) => at)];
}

Deno.test("without jitter the probes leave at the nominal times, the gaps doubling after the fourth, up to 60 s", () => {
  const times = probeTimes(new Bench(), 250_000);
  assertEquals(times.map((ms) => ms / 1000), [
    ...[0, 0.5, 1, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5],
    ...[64.5, 124.5, 184.5, 244.5],
  ]);
});

Deno.test("each gap is multiplied by a factor of its own, uniform from 0.8 to 1.2", () => {
  const nominal = [500, 500, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
  const factors: number[] = [];
  for (let seed = 0; seed < 200; seed++) {
    const times = probeTimes(new Bench(RFC5534, new InOrder(), seeded(seed)), 400_000);
    nominal.forEach((gap, i) => factors.push((times[i + 1] - times[i]) / gap));
  }
  assert(factors.every((factor) => factor > 0.8 - 1e-9 && factor < 1.2 + 1e-9));
  for (let decile = 0; decile < 10; decile++) {
    const low = 0.8 + decile * 0.04;
    const share = factors.filter((factor) => factor >= low && factor < low + 0.04).length / factors.length;
    assert(Math.abs(share - 0.1) < 0.03, `${share} between ${low} and ${low + 0.04}`);
  }
});

Deno.test("probes go through all pairs in the policy's order", () => {
  const bench = new Bench();
  bench.machine.handleFailure("operator", 0);
  const pairs = bench.probes().map(({ pair }) => pair);
  for (const { effect } of bench.run(120_000)) if (effect.type === "send-probe") pairs.push(effect.pair);
  assertEquals(pairs, [...PAIRS, PAIRS[0]]);
});

Deno.test("InboundOk → Exploring restarts the schedule at the fast rate and goes on in the order of pairs", () => {
  const bench = new Bench({ ...STEADY, sendTimeoutMs: 3000 });
  bench.machine.handleFailure("operator", 0);
  bench.run(8500);
  bench.receive(bench.peerProbe(Exploring, { over: PAIRS[8] }), 9000);
  bench.effects();
  assertEquals(bench.machine.state, InboundOk);
  const seen = bench.run(15_000);
  const probes = seen.flatMap(({ at, effect }) => effect.type === "send-probe" ? [{ at, ...effect }] : []);
  assertEquals(probes.map(({ at, state }) => [at, state]), [
    [12_000, Exploring],
    [12_500, Exploring],
    [13_000, Exploring],
    [13_500, Exploring],
    [14_500, Exploring],
  ]);
  assertEquals(probes[0].pair, PAIRS[7]); // seven were probed before; the answer took the ninth
});

Deno.test("leaving Operational for InboundOk starts the schedule: the answer is its first probe", () => {
  const bench = new Bench();
  bench.receive(bench.peerProbe(Exploring, { over: PAIRS[4] }), 0);
  const [answer] = bench.probes();
  assertEquals(answer.pair, PAIRS[4]);
  bench.environment.profile = { ...STEADY, sendTimeoutMs: 1e6 };
  const probes = bench.run(4500).flatMap(({ at, effect }) => effect.type === "send-probe" ? [{ at, ...effect }] : []);
  assertEquals(probes.map(({ at }) => at), [500, 1000, 1500, 2500, 4500]);
  assertEquals(probes.map(({ pair }) => pair), [0, 1, 2, 3, 5].map((i) => PAIRS[i]));
});

Deno.test("steps without a wait leave at once, in the same call", () => {
  const bench = new Bench(STEADY, new InOrder(true, 9));
  const times = probeTimes(bench, 4000);
  assertEquals(times, [...Array(9).fill(0), 1000, 3000]);
});

Deno.test("a policy that never waits is stopped", () => {
  const eager: Policy = {
    name: "eager",
    summary: "",
    plan: ({ pairs }) => ({ next: () => ({ pair: pairs[0], waitMs: 0, reason: "" }) }),
  };
  const times = probeTimes(new Bench(STEADY, eager), 999);
  assertEquals(times.filter((at) => at === 0).length, 32);
  assertEquals(new Set(times), new Set([0, 500]));
});

Deno.test("a plan that knows only its next probe is asked for answers too, and made anew for a restart", () => {
  let plans = 0;
  const plain: Policy = {
    name: "plain",
    summary: "",
    plan({ pairs }) {
      plans++;
      let next = 0;
      return { next: () => ({ pair: pairs[next++ % pairs.length], waitMs: 700, reason: "plain" }) };
    },
  };
  const bench = new Bench({ ...STEADY, sendTimeoutMs: 3000 }, plain);
  bench.machine.handleFailure("operator", 0);
  bench.effects();
  bench.receive(bench.peerProbe(Exploring), 100);
  const [answer] = bench.probes();
  assertEquals([answer.pair, answer.reason], [PAIRS[1], "answer: plain"]);
  assertEquals(bench.machine.nextDeadline(), 700);
  bench.run(3100);
  assertEquals([plans, bench.machine.state], [2, Exploring]);
});

Deno.test("a call that comes too late does not make up for missed probes", () => {
  const bench = new Bench();
  bench.machine.handleFailure("operator", 0);
  bench.effects();
  bench.machine.handleTimeout(60_000);
  assertEquals(bench.probes().length, 1);
  assertEquals(bench.machine.nextDeadline(), 60_500);
});

Deno.test("a call that comes too early does nothing", () => {
  const bench = new Bench();
  bench.machine.handlePayloadSent(0);
  bench.machine.handleTimeout(14_999);
  assertEquals(bench.effects(), []);
  bench.machine.handleTimeout(15_000);
  assertEquals(bench.probes().length, 1);
});
