import { assertEquals, assertGreater } from "@std/assert";
import { ROOT } from "../../tools/source_files.ts";

const table = Deno.readTextFileSync(`${ROOT}docs/conformance.md`);
const places = [...table.matchAll(/`([^`\n]+)`/g)].map(([, text]) => text);

function read(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(ROOT + path);
  } catch {
    return undefined;
  }
}

/** What of a list of places does not exist: `file.ts#name`, or `file_test.ts: beginning of a test's name`. */
function missing(places: readonly string[]): string[] {
  return places.filter((place) => {
    const [, test, name] = /^([\w/]+_test\.ts): (.+)$/.exec(place) ?? [];
    if (test !== undefined) return read(`tests/${test}`)?.includes(name) !== true;
    const [, file, symbol] = /^([\w/]+\.ts)(?:#(\w+))?$/.exec(place) ?? [];
    if (file === undefined) return false;
    const text = read(file);
    return text === undefined || symbol !== undefined && !new RegExp(`\\b${symbol}\\b`).test(text);
  });
}

Deno.test("every file, name and test in the conformance table exists", () => {
  assertGreater(places.length, 150);
  assertEquals(missing(places.filter((place) => place !== "file.ts#name" && !place.startsWith("file_test.ts"))), []);
});

Deno.test("a place that does not exist is found", () => {
  const wrong = ["main.ts#nowhere", "none.ts", "project/conformance_test.ts: no such " + "test", "e2e/none_test.ts: x"];
  assertEquals(missing([...wrong, "main.ts#main", "project/conformance_test.ts: a place that", "RFC 5533"]), wrong);
});

Deno.test("every row of the conformance table that demands something names code or says why not", () => {
  const rows = table.split("\n").filter((line) => /^\| (MUST|SHOULD|MUST NOT|SHOULD NOT|RECOMMENDED) \|/.test(line));
  assertGreater(rows.length, 80);
  const empty = rows.filter((row) => {
    const [, , , where, test] = row.split("|").map((cell) => cell.trim());
    return where === "" || test === "" && !where.includes("**open**");
  });
  assertEquals(empty, []);
});
