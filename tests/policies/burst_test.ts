import { assertEquals, assertThrows } from "@std/assert";
import { BurstPolicy, MAX_BURST } from "../../policies/burst.ts";
import { seeded } from "../reap/virtual_pair.ts";
import { pairs, start, take } from "./start.ts";

Deno.test("the first N probes leave at once, on different pairs, then the schedule goes on", () => {
  const candidates = pairs(5, 5);
  for (let size = 1; size <= MAX_BURST; size++) {
    const steps = take(new BurstPolicy(size).plan(start({ pairs: candidates, random: seeded(size) })), 25);
    assertEquals(steps.slice(0, size - 1).map(({ waitMs }) => waitMs), Array(size - 1).fill(0));
    assertEquals(steps[size - 1].waitMs, size < 4 ? 500 : 1000);
    assertEquals(new Set(steps.map(({ pair }) => pair)), new Set(candidates));
  }
});

Deno.test("with fewer pairs than N each gets one probe of the burst", () => {
  const steps = take(new BurstPolicy(18).plan(start({ pairs: pairs(2, 2) })), 6);
  assertEquals(steps.map(({ waitMs }) => waitMs), [0, 0, 0, 1000, 2000, 4000]);
  assertEquals(new Set(steps.slice(0, 4).map(({ pair }) => pair)), new Set(pairs(2, 2)));
  assertEquals(take(new BurstPolicy(4).plan(start({ pairs: pairs(1, 1) })), 2).map(({ waitMs }) => waitMs), [500, 500]);
});

Deno.test("a burst of four has the gaps of the paper: 0 ms instead of 500 ms", () => {
  const steps = take(new BurstPolicy(4).plan(start()), 7);
  assertEquals(steps.map(({ waitMs }) => waitMs), [0, 0, 0, 1000, 2000, 4000, 8000]);
});

Deno.test("burst sizes from 1 to 18 exist, no others", () => {
  for (const size of [0, -1, 19, 1.5, NaN]) assertThrows(() => new BurstPolicy(size), RangeError);
  assertEquals(new BurstPolicy(7).name, "burst7");
});
