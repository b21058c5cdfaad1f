import { assert, assertEquals } from "@std/assert";
import { ROOT } from "../../tools/source_files.ts";
import { type ModuleSyntax, readProject, readSyntax, resolveImport } from "./syntax.ts";

/** Directories of the protocol core, which knows of no operating system. */
const CORE = ["wire", "shim6", "reap", "policies"];

/** Libraries that only compute. */
const PURE_LIBRARIES = ["@noble/hashes/"];

/** Whatever would give the core a clock, a random source or a way out of its own memory. */
const WORLD = [
  "Deno",
  "process",
  "globalThis",
  "self",
  "console",
  "performance",
  "Date",
  "crypto",
  "fetch",
  "Worker",
  "setTimeout",
  "setInterval",
  "setImmediate",
  "queueMicrotask",
];

const importMap: Record<string, string> = JSON.parse(Deno.readTextFileSync(`${ROOT}deno.json`)).imports;
const project = readProject();

function directoryOf(path: string): string {
  return path.includes("/") ? path.slice(0, path.indexOf("/")) : "";
}

/** The project's modules that `path` imports. */
function importedModules(path: string): { target: string; dynamic: boolean }[] {
  const found = [];
  for (const { specifier, dynamic } of project.get(path)?.imports ?? []) {
    const target = resolveImport(path, specifier, importMap);
    if (target !== null) found.push({ target, dynamic });
  }
  return found;
}

/** Everything that gets loaded with a module; `follow` says which imports are followed. */
function reachable(from: string, follow: (target: string, dynamic: boolean) => boolean = () => true): Set<string> {
  const seen = new Set([from]);
  for (const path of seen) {
    for (const { target, dynamic } of importedModules(path)) {
      if (follow(target, dynamic)) seen.add(target);
    }
  }
  return seen;
}

/** One line for each offence, so that a failure shows them all. */
function offences(judge: (path: string, module: ModuleSyntax) => string[]): string[] {
  return [...project].flatMap(([path, module]) => judge(path, module).map((offence) => `${path}: ${offence}`));
}

Deno.test("the protocol core imports only itself and libraries that compute", () => {
  const found = offences((path, { imports }) => {
    if (!CORE.includes(directoryOf(path))) return [];
    return imports.map(({ specifier }) => specifier).filter((specifier) => {
      const target = resolveImport(path, specifier, importMap);
      if (target !== null) return !CORE.includes(directoryOf(target));
      return !PURE_LIBRARIES.some((library) => specifier.startsWith(library));
    });
  });
  assertEquals(found, []);
});

Deno.test("the protocol core has no clock, no random source and no way to the operating system", () => {
  const found = offences((path, { names, properties }) => {
    if (!CORE.includes(directoryOf(path))) return [];
    const random = properties.has("Math.random") ? ["Math.random"] : [];
    return [...WORLD.filter((name) => names.has(name)), ...random];
  });
  assertEquals(found, []);
});

Deno.test("only ffi/ calls into libc and touches raw memory", () => {
  const found = offences((path, { properties }) =>
    directoryOf(path) === "ffi" ? [] : [...properties].filter((name) => /^Deno\.(dlopen|Unsafe)/.test(name))
  );
  assertEquals(found, []);
});

Deno.test("ffi/ is imported as deno-tun only", () => {
  const found = offences((path) => {
    if (directoryOf(path) === "ffi") return [];
    return importedModules(path).map(({ target }) => target)
      .filter((target) => directoryOf(target) === "ffi" && target !== "ffi/mod.ts");
  });
  assertEquals(found, []);
});

Deno.test("simulator and agent never load each other", () => {
  const crossings = (from: string, to: string) =>
    [...project.keys()].filter((path) => directoryOf(path) === from)
      .flatMap((path) =>
        [...reachable(path)].filter((target) => directoryOf(target) === to).map((target) => `${path} loads ${target}`)
      );
  assertEquals([...crossings("sim", "agent"), ...crossings("agent", "sim")], []);
});

Deno.test("testbed and report are loaded by their own commands only", () => {
  const isApart = (path: string) => ["lab", "report"].includes(directoryOf(path));
  const loaded = reachable("main.ts", (target, dynamic) => !(dynamic && isApart(target)));
  assert(loaded.has("agent/run.ts"), "main.ts does not lead to the agent");
  assertEquals([...loaded].filter(isApart), []);
});

Deno.test("only what is started by itself asks whether it is the main module", () => {
  // In the executable all modules are one, and each of them would be told that it is.
  const found = offences((path) => {
    if (path === "main.ts" || ["tools", "bench"].includes(directoryOf(path))) return [];
    return /\bimport\.meta\.main\b/.test(Deno.readTextFileSync(ROOT + path)) ? ["import.meta.main"] : [];
  });
  assertEquals(found, []);
});

Deno.test("the rules see imports of every kind, and tell names from properties", () => {
  const { imports, names, properties } = readSyntax(
    "wire/example.ts",
    `import { a } from "./a.ts";
    import type { B } from "./b.ts";
    import "./c.ts";
    export * from "./d.ts";
    export { e } from "./e.ts";
    const f = await import("./f.ts");
    type G = import("./g.ts").G;
    // Date.now() and "./comment.ts" in a comment
    const text = "performance";
    const object = { crypto: 1, Worker };
    object.crypto;
    interface I { console: string; process(): void }
    class C { fetch = 1; self() { return this.fetch; } }
    const conn: Deno.Conn | null = null;
    Math.random();
    a[setTimeout];`,
  );
  assertEquals(imports.map(({ specifier, dynamic }) => specifier + (dynamic ? " dynamic" : "")), [
    "./a.ts",
    "./b.ts",
    "./c.ts",
    "./d.ts",
    "./e.ts",
    "./f.ts dynamic",
    "./g.ts",
  ]);
  assertEquals(WORLD.filter((name) => names.has(name)), ["Deno", "Worker", "setTimeout"]);
  assert(properties.has("Math.random") && properties.has("Deno.Conn"));
});
