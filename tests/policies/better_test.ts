import { assertEquals } from "@std/assert";
import { clearlySlower } from "../../policies/better.ts";
import { PathBook } from "../../policies/path_book.ts";

const ulid = { local: "a1", peer: "b1" }, other = { local: "a2", peer: "b2" };

/** A book in which both pairs are known, as shares of round-trip times in ms: out and back. */
function bookOf(ulidMs: readonly [number, number], otherMs: readonly [number, number]): PathBook {
  const book = new PathBook();
  const learn = (pair: typeof ulid, [outMs, inMs]: readonly [number, number]) => {
    book.tried(pair, 0);
    Object.assign(book.get(pair)!, { outMs, inMs });
  };
  learn(ulid, ulidMs);
  learn(other, otherMs);
  return book;
}

Deno.test("a pair is clearly slower when both ways together are, by 10 ms and 15 % of the time", () => {
  assertEquals(clearlySlower(ulid, other, bookOf([20, 20], [20, 20])), false);
  assertEquals(clearlySlower(ulid, other, bookOf([20, 29], [20, 20])), false);
  assertEquals(clearlySlower(ulid, other, bookOf([20, 30], [20, 20])), true);
  assertEquals(clearlySlower(ulid, other, bookOf([100, 120], [100, 100])), false);
  assertEquals(clearlySlower(ulid, other, bookOf([100, 140], [100, 100])), true);
});

Deno.test("what one way costs the other one may save", () => {
  assertEquals(clearlySlower(ulid, other, bookOf([50, 20], [10, 60])), false);
});

Deno.test("where a way back is unknown the way out decides, and what is unknown is not slower", () => {
  assertEquals(clearlySlower(ulid, other, bookOf([50, 20], [10, NaN])), true);
  assertEquals(clearlySlower(ulid, other, bookOf([10, 90], [10, NaN])), false);
  assertEquals(clearlySlower(ulid, other, bookOf([NaN, NaN], [10, 10])), false);
  assertEquals(clearlySlower(ulid, other, new PathBook()), false);
});
