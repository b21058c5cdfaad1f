import { assertEquals } from "@std/assert";
import { PathBook } from "../../policies/path_book.ts";
import { RttPolicy } from "../../policies/rtt.ts";
import { pairs, start, take } from "./start.ts";

const candidates = pairs(2, 2);

/** A book that measured these round-trip times, all with the same way back. */
function bookOf(rtts: readonly number[]): PathBook {
  const book = new PathBook();
  rtts.forEach((ms, i) => {
    for (let repeat = 0; repeat < 20; repeat++) {
      book.probeAnswered(candidates[i], ms, 0);
      book.roundTrip(candidates[i], candidates[0], ms, i === 0 && repeat === 0);
    }
  });
  return book;
}

Deno.test("known pairs come first by their delay, then the unknown ones, then the failed one", () => {
  const steps = take(new RttPolicy().plan(start({ pairs: candidates, book: bookOf([20, 90, 40]) })), 4);
  assertEquals(steps.map(({ pair }) => candidates.indexOf(pair)), [2, 1, 3, 0]);
});

Deno.test("the gaps fit the longest known round-trip time and double after one round", () => {
  const steps = take(new RttPolicy().plan(start({ pairs: candidates, book: bookOf([20, 90, 40, 50]) })), 30);
  assertEquals(steps.slice(0, 3).map(({ waitMs }) => Math.round(waitMs)), [117, 117, 117]);
  assertEquals([Math.round(steps[3].waitMs), steps.at(-1)!.waitMs], [234, 60_000]);
});

Deno.test("a switch needs a clear gain", () => {
  const policy = new RttPolicy(), book = bookOf([50, 48, 20]);
  assertEquals(policy.better(candidates, candidates[0], book), candidates[2]);
  assertEquals(policy.better(candidates.slice(0, 2), candidates[0], book), undefined);
  assertEquals(policy.better(candidates, candidates[3], book), undefined);
});
