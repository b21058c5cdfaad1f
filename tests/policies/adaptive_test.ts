import { assertEquals, assertThrows } from "@std/assert";
import { AdaptivePolicy } from "../../policies/adaptive.ts";
import { PathBook } from "../../policies/path_book.ts";
import { pairKey } from "../../policies/policy.ts";
import { pairs, start, take } from "./start.ts";

const candidates = pairs(3, 3);

/** A book that knows these delays of the nine pairs, one way, in ms. */
function bookOf(delays: readonly number[]): PathBook {
  const book = new PathBook();
  candidates.forEach((pair, i) => book.roundTrip(pair, candidates[0], delays[i] + 10, i === 0));
  return book;
}

Deno.test("pairs that share no suspect locator come first, the fastest foremost, and the failed pair last", () => {
  const book = bookOf([5, 10, 12, 14, 30, 22, 16, 25, 24]);
  book.failed(candidates[0], 0);
  const order = take(new AdaptivePolicy().plan(start({ pairs: candidates, book })), 9).map(({ pair }) =>
    candidates.indexOf(pair)
  );
  assertEquals(order, [5, 8, 7, 4, 1, 2, 3, 6, 0]);
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

Deno.test("adaptiveN sends N probes at once", () => {
  for (const first of [2, 9]) {
    const waits = take(new AdaptivePolicy(first).plan(start()), 9).map(({ waitMs }) => waitMs);
    assertEquals(waits.filter((ms) => ms === 0).length, first - 1);
  }
  assertThrows(() => new AdaptivePolicy(0), RangeError);
  assertThrows(() => new AdaptivePolicy(10), RangeError);
});
