import { assert, assertEquals } from "@std/assert";
import { PathBook } from "../../policies/path_book.ts";
import { pairs } from "./start.ts";

const [pair, other, third] = pairs(3, 3);

Deno.test("the first round-trip time counts as it is, later ones with the weights of RFC 6298", () => {
  const book = new PathBook();
  book.probeAnswered(pair, 80, 1000);
  assertEquals([book.get(pair)?.rttMs, book.get(pair)?.rttVarianceMs], [80, 40]);
  book.probeAnswered(pair, 160, 2000);
  assertEquals([book.get(pair)?.rttMs, book.get(pair)?.rttVarianceMs], [90, 50]);
  assertEquals([book.get(pair)?.source, book.get(pair)?.lastSuccess], ["measured", 2000]);
});

Deno.test("an answer that says nothing about the delay counts as a success only", () => {
  const book = new PathBook();
  book.probeSent(pair);
  book.probeAnswered(pair, NaN, 1000);
  const record = book.get(pair)!;
  assertEquals([record.probesSent, record.probesAnswered, record.lastSuccess, record.source], [1, 1, 1000, "none"]);
  assert(Number.isNaN(record.rttMs));
  book.probeAnswered(pair, 30, 2000);
  book.probeAnswered(pair, NaN, 3000);
  assertEquals([record.rttMs, record.source, record.lastSuccess], [30, "measured", 3000]);
});

Deno.test("a measurement replaces an estimate instead of being averaged with it", () => {
  const book = new PathBook();
  book.probeSent(pair);
  Object.assign(book.get(pair)!, { rttMs: 200, source: "coordinate" });
  book.probeAnswered(pair, 40, 1000);
  assertEquals([book.get(pair)?.rttMs, book.get(pair)?.source], [40, "measured"]);
});

Deno.test("failures are kept with their time", () => {
  const book = new PathBook();
  assertEquals(book.get(pair), undefined);
  book.failed(pair, 500);
  assertEquals([book.get(pair)?.lastFailure, book.get(pair)?.lastSuccess], [500, -Infinity]);
});

Deno.test("a full book forgets the pair that was touched longest ago", () => {
  const book = new PathBook(2);
  book.probeSent(pair);
  book.probeSent(other);
  book.probeSent(pair);
  book.probeSent(third);
  assertEquals(book.size, 2);
  assertEquals([book.get(pair)?.probesSent, book.get(other), book.get(third)?.probesSent], [2, undefined, 1]);
});

Deno.test("shares of round-trip times compare paths although the answers came back on different ones", () => {
  const book = new PathBook();
  book.roundTrip(pair, pair, 30, true); // 10 there, 20 back
  book.roundTrip(other, pair, 60, false); // 40 there
  book.roundTrip(other, other, 90, false); // 50 back
  book.roundTrip(third, other, 55, false); // 5 there
  const out = [pair, other, third].map((each) => book.get(each)!.outMs);
  assertEquals([out[1] - out[0], out[2] - out[0]], [30, -5]);
});

Deno.test("a shorter round-trip time than expected is believed at once, a longer one by half", () => {
  const book = new PathBook();
  const rttMs = () => book.get(pair)!.outMs + book.get(pair)!.inMs;
  book.roundTrip(pair, pair, 50, true);
  book.roundTrip(pair, pair, 20, false);
  assertEquals(rttMs(), 20);
  book.roundTrip(pair, pair, 40, false);
  assertEquals(rttMs(), 30);
});

Deno.test("a round-trip time over two unknown paths cannot be compared and is not used", () => {
  const book = new PathBook();
  book.roundTrip(pair, other, 30, false);
  assert(Number.isNaN(book.get(pair)!.outMs));
});

Deno.test("a locator is suspect after a failure, dead after failures with two others, and clear when heard", () => {
  const book = new PathBook();
  book.failed(pair, 1_000);
  assertEquals([book.isSuspect(pair.local, 1_001), book.deadSince(pair.local, 1_001)], [true, NaN]);
  book.failed(other, 1_100); // the same local locator, another of the peer
  assertEquals(book.deadSince(pair.local, 1_101), 1_000);
  book.heard(third);
  assertEquals([book.isSuspect(pair.local, 1_102), book.isSuspect(pair.peer, 1_102)], [false, true]);
  assertEquals(book.isSuspect(pair.peer, 40_000), false);
});

Deno.test("a pair is tried at once, again when it may have changed, and ever later while it does not answer", () => {
  const book = new PathBook();
  assertEquals(book.trialDue(pair, 600_000), -Infinity);
  book.tried(pair, 1_000);
  assertEquals(book.trialDue(pair, 600_000), 11_000);
  book.tried(pair, 11_000);
  assertEquals(book.trialDue(pair, 600_000), 31_000);
  book.probeAnswered(pair, 10, 11_010);
  assertEquals(book.trialDue(pair, 600_000), 611_010);
});

Deno.test("a pair that failed for a known reason throws no suspicion on its locators", () => {
  const book = new PathBook();
  const pair = { local: "2001:db8:a1::1", peer: "2001:db8:b1::1" };
  book.failed(pair, 1_000, null);
  assertEquals(book.get(pair)?.lastFailure, 1_000);
  assertEquals([book.isSuspect(pair.local, 1_001), book.isSuspect(pair.peer, 1_001)], [false, false]);
});
