import { assert, assertEquals } from "@std/assert";
import type { LocatorPair, PairPreference, Policy } from "../../policies/policy.ts";
import { drawn, preferredFirst } from "../../policies/preference.ts";
import { createPolicy } from "../../policies/registry.ts";
import { SeededRandom } from "../../sim/random.ts";
import { pairs, start, take } from "./start.ts";

const candidates = pairs(3, 3);

function seeded(seed: number): () => number {
  const random = new SeededRandom(seed);
  return () => random.next();
}

/** Of the peer's first locator the rank 200, of its second 100, of its third 300. */
function byPeer({ peer }: LocatorPair): PairPreference {
  const rank = [200, 100, 300][Number(peer[10]) - 1];
  return { rank, weight: 1, broken: false };
}

const peers = (order: readonly LocatorPair[]) => order.map(({ peer }) => Number(peer[10]));

Deno.test("pairs of a lower rank are drawn before others, in random order among themselves", () => {
  const random = seeded(1), firsts = new Set<string>();
  for (let i = 0; i < 50; i++) {
    const order = drawn({ random, preference: byPeer }, candidates);
    assertEquals(peers(order), [2, 2, 2, 1, 1, 1, 3, 3, 3]);
    firsts.add(order[0].local);
  }
  assertEquals(firsts.size, 3);
});

Deno.test("among equal ranks a pair is the first one with a probability in proportion to its weight", () => {
  const random = seeded(2), counts = [0, 0, 0], rounds = 6_000;
  const weights = [6, 3, 0.01];
  const preference = ({ peer }: LocatorPair) => ({ rank: 0, weight: weights[Number(peer[10]) - 1], broken: false });
  for (let i = 0; i < rounds; i++) counts[peers(drawn({ random, preference }, pairs(1, 3)))[0] - 1]++;
  const [six, three, none] = counts.map((count) => count / rounds);
  assert(Math.abs(six - 6 / 9.01) < 0.02 && Math.abs(three - 3 / 9.01) < 0.02 && none < 0.01, `${counts}`);
});

Deno.test("without a difference the order is that of a plain shuffle", () => {
  const alike = () => ({ rank: 7, weight: 3, broken: false });
  const plain = drawn({ random: seeded(3) }, candidates);
  assertEquals(drawn({ random: seeded(3), preference: alike }, candidates), plain);
  assertEquals(preferredFirst({}, candidates.map((pair) => ({ pair }))).map(({ pair }) => pair), candidates);
});

for (const name of ["random", "burst4", "disjoint", "rtt", "adaptive"]) {
  Deno.test(`${name}: what the hosts prefer is probed first, and all the rest in the same round`, () => {
    const policy: Policy = createPolicy(name);
    const current = candidates[2]; // of the peer's third locator
    const order = take(policy.plan(start({ pairs: candidates, current, preference: byPeer, random: seeded(4) })), 9)
      .map((s) => s.pair);
    assertEquals(new Set(order).size, 9);
    const others = peers(order.filter((pair) => pair !== current));
    assertEquals(others, [2, 2, 2, 1, 1, 1, 3, 3]);
  });
}

Deno.test("adaptive: a locator that its host calls broken is as bad as a dead one", () => {
  const broken = ({ peer }: LocatorPair) => ({ rank: 0, weight: 1, broken: peer[10] === "2" });
  const order = take(createPolicy("adaptive").plan(start({ preference: broken })), 9).map((s) => s.pair);
  const at = peers(order).indexOf(2);
  assert(at >= 5, `${peers(order)}`);
});
