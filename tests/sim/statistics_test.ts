import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { peakInWindow, quantile, quantiles, shareBelow } from "../../sim/experiments/statistics.ts";

Deno.test("a quantile is the smallest value that the share does not exceed", () => {
  const values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
  assertEquals([0, 0.05, 0.5, 0.8, 0.81, 1].map((q) => quantile(values, q)), [1, 1, 5, 8, 9, 10]);
  assertEquals(quantile([], 0.5), NaN);
});

Deno.test("a host that never came back counts as the slowest", () => {
  assertEquals(quantiles([Infinity, 3, 1.23456]), {
    p50: 3,
    p80: Infinity,
    p95: Infinity,
    p99: Infinity,
    max: Infinity,
  });
  assertEquals(shareBelow([Infinity, 3, 1], 3), 0.3333);
});

Deno.test("the peak is the largest number of events in any window", () => {
  const times = fc.array(fc.nat(1_000), { maxLength: 60 }).map((list) => list.sort((a, b) => a - b));
  fc.assert(fc.property(times, fc.integer({ min: 1, max: 200 }), (times, window) => {
    const counts = times.map((from) => times.filter((time) => time >= from && time < from + window).length);
    assertEquals(peakInWindow(times, window), Math.max(0, ...counts));
  }));
});
