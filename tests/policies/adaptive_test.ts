import { assertEquals, assertThrows } from "@std/assert";
import { AdaptivePolicy } from "../../policies/adaptive.ts";
import { PathBook } from "../../policies/path_book.ts";
import { pairKey, type ProbeStep } from "../../policies/policy.ts";
import { pairs, start, take } from "./start.ts";

const candidates = pairs(3, 3);

/** A book that knows these delays of the nine pairs, one way, in ms. */
function bookOf(delays: readonly number[]): PathBook {
  const book = new PathBook();
  candidates.forEach((pair, i) => book.roundTrip(pair, candidates[0], delays[i] + 10, i === 0));
  return book;
}

Deno.test("the best pair without a suspect locator comes first, then the fastest ones, and the failed pair last", () => {
  const book = bookOf([5, 10, 12, 14, 30, 22, 16, 25, 24]);
  book.failed(candidates[0], 0);
  const order = take(new AdaptivePolicy().plan(start({ pairs: candidates, book })), 9).map(({ pair }) =>
    candidates.indexOf(pair)
  );
  assertEquals(order, [5, 1, 2, 3, 6, 8, 7, 4, 0]);
});

Deno.test("while no delay is known, pairs come in the order of their suspect locators", () => {
  const book = new PathBook();
  book.failed(candidates[0], 0);
  const order = take(new AdaptivePolicy().plan(start({ pairs: candidates, book })), 9).map(({ pair }) =>
    candidates.indexOf(pair)
  );
  assertEquals(order, [4, 5, 7, 8, 1, 2, 3, 6, 0]);
});

Deno.test("a much faster pair that shares a locator with the failed one is tried along with the best of the others", () => {
  const book = bookOf([5, 10, 12, 14, 60, 62, 64, 66, 68]);
  book.failed(candidates[0], 0);
  const steps = take(new AdaptivePolicy().plan(start({ pairs: candidates, book })), 3);
  assertEquals(steps.slice(0, 2).map(({ pair, waitMs }) => [candidates.indexOf(pair), waitMs > 0]), [[1, false], [
    4,
    true,
  ]]);
});

Deno.test("nothing through a dead provider is tried before all else was", () => {
  const book = bookOf([5, 10, 12, 14, 60, 62, 64, 66, 68]);
  for (const failed of [0, 1]) book.failed(candidates[failed], 0);
  const order = take(new AdaptivePolicy().plan(start({ pairs: candidates, book })), 9).map(({ pair }) =>
    candidates.indexOf(pair)
  );
  assertEquals(order[0] >= 3, true);
  assertEquals(order.slice(-3).sort(), [0, 1, 2]);
});

Deno.test("the second probe waits until an answer to the first should have come", () => {
  const book = bookOf([5, 50, 50, 50, 40, 50, 50, 50, 50]);
  book.failed(candidates[0], 0);
  const [first] = take(new AdaptivePolicy().plan(start({ pairs: candidates, book })), 1);
  assertEquals([pairKey(first.pair), first.waitMs > 45], [pairKey(candidates[4]), true]);
});

Deno.test("each round is slower than the one before, up to the Max Probe Timeout, and every pair is in each", () => {
  const steps = take(new AdaptivePolicy().plan(start()), 90);
  for (let round = 0; round < 10; round++) {
    const keys = steps.slice(9 * round, 9 * round + 9).map(({ pair }) => pairKey(pair));
    assertEquals(new Set(keys).size, 9);
  }
  assertEquals(steps.at(-2)!.waitMs, 60_000);
});

Deno.test("a host that answers takes the reverse of a path of unknown delay", () => {
  const step = new AdaptivePolicy().plan(start({ pairs: candidates, cause: "peer-probe" })).next(0, candidates[8]);
  assertEquals(step.pair, candidates[8]);
});

/** Sizes of the waves of the first round. */
function waves(steps: readonly ProbeStep[]): number[] {
  const sizes = [0];
  for (const { waitMs } of steps) {
    sizes[sizes.length - 1]++;
    if (waitMs > 0) sizes.push(0);
  }
  return sizes.slice(0, -1);
}

Deno.test("a host that searches sends N probes at once, the others in two waves, and the failed pair alone", () => {
  const sizes = (first: number) => waves(take(new AdaptivePolicy(first).plan(start()), 9));
  assertEquals(sizes(1), [1, 4, 3, 1]);
  assertEquals(sizes(3), [3, 3, 2, 1]);
  assertEquals(sizes(5), [5, 2, 1, 1]);
  assertEquals(sizes(9), [8, 1]);
  assertThrows(() => new AdaptivePolicy(0), RangeError);
  assertThrows(() => new AdaptivePolicy(10), RangeError);
});

Deno.test("no wave has more than nine probes, however many pairs there are", () => {
  assertEquals(Math.max(...waves(take(new AdaptivePolicy().plan(start({ pairs: pairs(9, 9) })), 81))), 9);
});

Deno.test("a host that answers sends as many probes at once as the peer had sent in vain, and waits for as many answers as time allows", () => {
  const reply = (rttMs: number, peerSent: number) => {
    const plan = new AdaptivePolicy().plan(
      start({ cause: "peer-probe", book: bookOf(candidates.map(() => rttMs - 10)) }),
    );
    return waves(Array.from({ length: 9 }, () => plan.next(0, candidates[4], peerSent)));
  };
  assertEquals(reply(20, 1), [1, 2, 2, 1, 1, 1, 1]);
  assertEquals(reply(100, 1), [1, 7, 1]);
  assertEquals(reply(50, 3), [2, 3, 3, 1]);
  assertEquals(reply(50, 8), [4, 2, 2, 1]);
});

Deno.test("when both hosts began at once, one begins anew and the other goes on", () => {
  const swapped = candidates.map(({ local, peer }) => ({ local: peer, peer: local }));
  const restarts = [candidates, swapped].map((pairs) => {
    const plan = new AdaptivePolicy().plan(start({ pairs }));
    plan.next(0);
    return plan.restart!(10, pairs[4]);
  });
  assertEquals(restarts, [true, false]);
});

Deno.test("a host that has tried everything answers at once, whoever it is", () => {
  const swapped = candidates.map(({ local, peer }) => ({ local: peer, peer: local }));
  const plan = new AdaptivePolicy().plan(start({ pairs: swapped }));
  take(plan, 9);
  assertEquals(plan.restart!(10_000, swapped[4]), true);
});
