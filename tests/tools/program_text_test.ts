import { assertEquals, assertThrows } from "@std/assert";
import { evaluatingModule, NotEvaluable } from "../../tools/program_text.ts";

/** Runs a module from its text. */
async function run(text: string): Promise<void> {
  const path = Deno.makeTempFileSync({ suffix: ".js" });
  try {
    Deno.writeTextFileSync(path, text);
    await import(new URL(`file://${path}`).href);
  } finally {
    Deno.removeSync(path);
  }
}

Deno.test("an evaluated bundle awaits, knows its module, and loads others", async () => {
  const seen: Record<string, unknown> = {};
  Object.assign(globalThis, { seen });
  await run(evaluatingModule(`
    seen.url = import.meta.url; seen.main = import.meta.main;
    import { basename as last, dirname } from "node:path";
    import path from "node:path";import * as all from "node:path";
    const { join } = await import("node:path");
    seen.base = [last("/a/b"), dirname("/a/b"), path.basename("/c"), all.basename("/d"), join("e", "f")];
    // a comment at the end`));
  assertEquals(typeof seen.url, "string");
  assertEquals(seen.main, false);
  assertEquals(seen.base, ["b", "/a", "c", "d", "e/f"]);
});

Deno.test("a bundle that imports or exports is refused, one that speaks of it is not", () => {
  for (
    const statement of [
      'import "./a.js";',
      'import fs from "https://example.com/a.js";',
      'import{a}from"./a.js";',
      'a();import*as b from"./a.js"',
      "export{a};",
      "export default 1;",
      "x(import.meta.dirname)",
    ]
  ) {
    assertThrows(() => evaluatingModule(statement), NotEvaluable);
  }
  for (const harmless of ['await import("node:fs")', "const exports={};", "f();exporter()", "important = 1"]) {
    evaluatingModule(harmless);
  }
});

Deno.test("a Worker with a text of its own evaluates that, any other the program", async () => {
  const path = Deno.makeTempFileSync({ suffix: ".js" });
  try {
    Deno.writeTextFileSync(path, evaluatingModule('self.postMessage("program")', { own: 'self.postMessage("own")' }));
    for (const [name, expected] of [["own", "own"], ["other", "program"], ["toString", "program"]]) {
      const worker = new Worker(new URL(`file://${path}`), { type: "module", name });
      const said = await new Promise((resolve) => worker.onmessage = (event) => resolve(event.data));
      worker.terminate();
      assertEquals(said, expected);
    }
  } finally {
    Deno.removeSync(path);
  }
});
