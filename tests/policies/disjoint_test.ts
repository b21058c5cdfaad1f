import { assert, assertEquals } from "@std/assert";
import { DisjointPolicy } from "../../policies/disjoint.ts";
import { seeded } from "../reap/virtual_pair.ts";
import { start, take } from "./start.ts";

Deno.test("pairs that share no address with the failed one come first, the failed one comes last, in each round", () => {
  const orders = new Set<string>();
  for (let seed = 0; seed < 50; seed++) {
    const from = start({ random: seeded(seed), current: start().pairs[4] });
    const steps = take(new DisjointPolicy().plan(from), 18).map(({ pair }) => pair);
    for (const round of [steps.slice(0, 9), steps.slice(9)]) {
      const shared = round.map(({ local, peer }) =>
        Number(local === from.current.local) + Number(peer === from.current.peer)
      );
      assertEquals(shared, [0, 0, 0, 0, 1, 1, 1, 1, 2]);
    }
    orders.add(JSON.stringify(steps.slice(0, 4)));
  }
  assert(orders.size > 10, "the order within a group is random");
});

Deno.test("a failed pair that is no candidate any more is not probed", () => {
  const from = start({ current: { local: "2001:db8:a1::1", peer: "2001:db8:ff::1" } });
  const steps = take(new DisjointPolicy().plan(from), 9).map(({ pair }) => pair);
  assertEquals(new Set(steps), new Set(from.pairs));
  assertEquals(steps.map(({ local }) => local === "2001:db8:a1::1"), [...Array(6).fill(false), ...Array(3).fill(true)]);
});

Deno.test("an answer leaves on the reverse of the peer's path", () => {
  const from = start();
  const plan = new DisjointPolicy().plan(from);
  assertEquals(plan.next(0, from.pairs[0]).pair, from.pairs[0]);
});

Deno.test("the pace is that of RFC 5534, and each step says why", () => {
  const steps = take(new DisjointPolicy().plan(start()), 9);
  assertEquals(steps.slice(0, 5).map(({ waitMs }) => waitMs), [500, 500, 500, 1000, 2000]);
  assertEquals([steps[0], steps[4], steps[8]].map(({ reason }) => reason), [
    "shares no address with the failed pair",
    "shares one address with the failed pair",
    "the failed pair itself, last",
  ]);
});
