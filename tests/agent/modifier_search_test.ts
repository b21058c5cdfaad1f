import { sha1 } from "@noble/hashes/legacy.js";
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { searchModifier, type SearchProgress } from "../../agent/modifier_search.ts";

const rest = new Uint8Array(110).map((_, i) => i);
const workerModule = new URL("./modifier_search_worker.ts", import.meta.url).href;

function zeroBits(modifier: Uint8Array): number {
  const digest = sha1(Uint8Array.of(...modifier, ...new Uint8Array(9), ...rest));
  return Math.clz32(digest[0] << 24 | digest[1] << 16 | digest[2] << 8 | digest[3]);
}

Deno.test("a search on one core finds a Modifier, another one each time", async () => {
  const first = await searchModifier(rest, 1), second = await searchModifier(rest, 1);
  assert(zeroBits(first) >= 16 && zeroBits(second) >= 16);
  assertNotEquals(first, second);
});

Deno.test("Workers find a Modifier together", async () => {
  assert(zeroBits(await searchModifier(rest, 1, { workerModule, workers: 2 })) >= 16);
});

Deno.test("a short search starts no Workers", async () => {
  const nowhere = new URL("./no_such_module.ts", import.meta.url).href;
  assertEquals((await searchModifier(rest, 0, { workerModule: nowhere })).length, 16);
});

Deno.test("a Worker that cannot start ends the search with a reason", async () => {
  const broken = "data:text/javascript,throw new Error('no such role')";
  await assertRejects(() => searchModifier(rest, 1, { workerModule: broken, workers: 1 }), Error, "no such role");
});

Deno.test("a long search tells how far it is, and can be left", async () => {
  // Sec 2 takes an hour: it is left at the third report.
  const seen: SearchProgress[] = [];
  class Enough extends Error {}
  const onProgress = (progress: SearchProgress) => {
    seen.push(progress);
    if (seen.length === 3) throw new Enough();
  };
  await assertRejects(() => searchModifier(rest, 2, { onProgress }), Enough);
  assertEquals(seen.map(({ tried }) => tried), [1, 2, 3].map((n) => n * seen[0].tried));
  assertEquals(seen[0].expected, 2 ** 32);
  assert(seen[0].elapsedMs > 0 && seen[2].elapsedMs > seen[0].elapsedMs);
});
