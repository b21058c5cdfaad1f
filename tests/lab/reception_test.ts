import { assertEquals } from "@std/assert";
import { longestSilence, Reception } from "../../lab/reception.ts";

function received(...arrivals: [at: number, bytes: number][]): Reception {
  const reception = new Reception(20);
  for (const [at, bytes] of arrivals) reception.add(at, bytes);
  return reception;
}

Deno.test("octets are counted in bins of 10 ms since the first arrival", () => {
  const report = received([1003, 5], [1012.9, 7], [1013, 1], [1045, 2]).report();
  assertEquals(report.bins, [12, 1, 0, 0, 2]);
  assertEquals([report.first, report.last, report.bytes], [1003, 1045, 15]);
});

Deno.test("only gaps of the wanted length are reported", () => {
  assertEquals(received([100, 1], [119, 1], [139, 1], [150, 1]).report().gaps, [{ from: 119, to: 139 }]);
});

Deno.test("the silence after a failure is the longest gap that ends after it", () => {
  const report = received([100, 1], [400, 1], [500, 1], [600, 1], [700, 1], [850, 1]).report();
  assertEquals(longestSilence(report, 550, 860), { from: 700, to: 850 });
  assertEquals(longestSilence(report, 350, 650), { from: 100, to: 400 }); // it began before the failure
  assertEquals(longestSilence(report, 900, 860), { from: 900, to: 900 });
});

Deno.test("a stream that never comes back is silent until the end", () => {
  assertEquals(longestSilence(received([100, 1], [130, 1]).report(), 120, 5000), { from: 130, to: 5000 });
});
