import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { RandomPolicy } from "../../policies/random.ts";
import { seeded } from "../reap/virtual_pair.ts";
import { start, take } from "./start.ts";

Deno.test("each round tries every pair once, the one in use included, in a new order", () => {
  const from = start({ random: seeded(3) });
  const steps = take(new RandomPolicy().plan(from), 27).map(({ pair }) => pair);
  const rounds = [steps.slice(0, 9), steps.slice(9, 18), steps.slice(18)];
  for (const round of rounds) assertEquals(new Set(round), new Set(from.pairs));
  assertNotEquals(rounds[0], rounds[1]);
  assertNotEquals(rounds[1], rounds[2]);
});

Deno.test("every pair comes first equally often", () => {
  const random = seeded(11);
  const counts = new Map<string, number>();
  for (let i = 0; i < 9000; i++) {
    const { pair } = new RandomPolicy().plan(start({ random })).next(0);
    counts.set(pair.local + pair.peer, (counts.get(pair.local + pair.peer) ?? 0) + 1);
  }
  assertEquals(counts.size, 9);
  for (const count of counts.values()) assert(count > 850 && count < 1150, `${count}`);
});

Deno.test("the pace is that of RFC 5534, and answers are not bound to the peer's path", () => {
  const from = start({ random: seeded(3) });
  const blind = take(new RandomPolicy().plan(start({ random: seeded(3) })), 1)[0].pair;
  const plan = new RandomPolicy().plan(from);
  const other = from.pairs.find((pair) => pair !== blind)!;
  assertEquals(plan.next(0, other).pair, blind);
  assertEquals(take(new RandomPolicy().plan(from), 6).map(({ waitMs }) => waitMs), [500, 500, 500, 1000, 2000, 4000]);
});

Deno.test("a single pair is tried again and again", () => {
  const pairs = start().pairs.slice(0, 1);
  assertEquals(take(new RandomPolicy().plan(start({ pairs })), 3).map(({ pair }) => pair), [
    pairs[0],
    pairs[0],
    pairs[0],
  ]);
});
