import { assert, assertEquals } from "@std/assert";
import { AdaptivePolicy } from "../../policies/adaptive.ts";
import { CoordPolicy } from "../../policies/coord.ts";
import { Coordinates } from "../../policies/coordinates.ts";
import { PathBook } from "../../policies/path_book.ts";
import type { Policy } from "../../policies/policy.ts";
import { pairs, start, take } from "./start.ts";

const candidates = pairs(3, 3);
const [P1, P2, P3] = candidates.map(({ peer }) => peer);

/** A book with coordinates: each peer locator is as far away as its height says. */
function bookOf(heights: Readonly<Record<string, number>>): PathBook {
  const coordinates = new Coordinates(() => 0.5);
  coordinates.learn("elsewhere", { x: 1, y: 1, height: 1, error: 0.2 });
  for (const local of new Set(candidates.map(({ local }) => local))) {
    coordinates.observe({ local, peer: "elsewhere" }, 4);
  }
  for (const [peer, height] of Object.entries(heights)) coordinates.learn(peer, { x: 0, y: 0, height, error: 0.2 });
  return new PathBook(100, coordinates);
}

function peersInOrder(book: PathBook, policy: Policy = new CoordPolicy()): string[] {
  const three = pairs(1, 3);
  return take(policy.plan(start({ pairs: [...three, ...candidates.slice(3, 4)], current: candidates[3], book })), 3)
    .map(({ pair }) => pair.peer);
}

Deno.test("pairs that were never measured are tried in the order of their predicted delay", () => {
  const book = bookOf({ [P1]: 40, [P2]: 10, [P3]: 20 });
  assertEquals(peersInOrder(book), [P2, P3, P1]);
  assertEquals(peersInOrder(book, new AdaptivePolicy()), [P1, P2, P3], "adaptive knows of no coordinates");
  const [step] = take(new CoordPolicy().plan(start({ pairs: pairs(1, 3), current: candidates[3], book })), 1);
  assert(step.reason.startsWith("shortest predicted delay first"), step.reason);
});

Deno.test("a measured delay wins over a prediction, and a pair without either comes last", () => {
  const book = bookOf({ [P1]: 40, [P2]: 10 });
  assertEquals(peersInOrder(book), [P2, P1, P3]);
  const [p1] = pairs(1, 3);
  book.probeAnswered(p1, 6, 1);
  book.roundTrip(p1, p1, 6, true);
  assertEquals(peersInOrder(book), [P1, P2, P3]);
  book.probeAnswered(pairs(1, 3)[2], 4, 1); // of which only the round trip is known, not the shares
  assertEquals(peersInOrder(book), [P3, P1, P2]);
});

Deno.test("a suspect is not tried first, however near it is, and the failed pair comes last", () => {
  const book = bookOf({ [P1]: 1, [P2]: 30, [P3]: 20 });
  book.failed(candidates[0], 0);
  const order = take(new CoordPolicy().plan(start({ pairs: candidates, book })), 9).map(({ pair }) => pair);
  assert(order[0].local !== candidates[0].local && order[0].peer !== P1);
  assertEquals(order.at(-1), candidates[0]);
});

Deno.test("the pace is never faster than that of adaptive with delays unknown: a short prediction costs no probe", () => {
  const book = bookOf({ [P1]: 1, [P2]: 1, [P3]: 1 });
  const waits = (policy: AdaptivePolicy | CoordPolicy, book: PathBook) =>
    take(policy.plan(start({ book })), 20).map(({ waitMs }) => waitMs);
  const unknown = waits(new AdaptivePolicy(), new PathBook());
  waits(new CoordPolicy(), book).forEach((ms, i) => assert(ms >= unknown[i], `probe ${i}: ${ms} ms`));
});

Deno.test("no path is left for another one on the strength of a prediction", () => {
  const book = bookOf({ [P1]: 90, [P2]: 1 });
  const [current, near] = pairs(1, 2);
  for (let i = 0; i < 20; i++) book.probeAnswered(current, 100, 1); // so that its deviation is known
  book.roundTrip(current, current, 100, true);
  assertEquals(new CoordPolicy().better([current, near], current, book), undefined);
  book.probeAnswered(near, 60, 1);
  book.roundTrip(near, current, 60, false); // 50 of it are the way back
  assertEquals(new CoordPolicy().better([current, near], current, book), near);
});
