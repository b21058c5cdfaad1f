/**
 * The bundle as Deno loads it fastest. Deno analyses every module before V8 sees it: 160 ms for the 390 kB of the bundle,
 * and as much again in each Worker. A string costs it 15 ms, and V8 compiles of it what is called. So the module that
 * is packed holds the bundle as a string and evaluates it.
 *
 * @module
 */

/** Imports of what is built into Deno, which a function can have as well. */
const BUILTIN_IMPORT = /\bimport\s*(?:([\w$]+)|\*\s*as\s+([\w$]+)|\{([^}]*)\})\s*from\s*("node:[\w/]+");?/g;

/** What of a module cannot stand in a function. */
const MODULE_SYNTAX = /(?:^|[;}\n])\s*(?:import\s*(?:["'{*]|[\w$]+\s*(?:,|from\b))|export\b\s*[{*\w])/;

/** The bundle says something that only a module can say. */
export class NotEvaluable extends Error {
  /** `NotEvaluable` */
  override name = "NotEvaluable";
}

/**
 * A module that does what `bundle` does, a module that imports nothing but Deno's own and exports nothing; or, in a
 * Worker with one of the names in `threads`, what the bundle of that name does. Throws {@linkcode NotEvaluable} for any
 * other bundle.
 */
export function evaluatingModule(bundle: string, threads: Readonly<Record<string, string>> = {}): string {
  const texts = Object.entries(threads).map(([name, text]) => `${JSON.stringify(name)}: ${asText(text)}`);
  return [
    `const threads = { __proto__: null, ${texts.join(", ")} };`,
    `const own = "WorkerGlobalScope" in globalThis ? threads[self.name] : undefined;`,
    `await (0, eval)(own ?? ${asText(bundle)})({ url: import.meta.url, main: import.meta.main });`,
  ].join("\n");
}

/** The text of a function of a module's bundle, as a string literal. */
function asText(bundle: string): string {
  const body = bundle
    .replaceAll("import.meta.url", "$module.url")
    .replaceAll("import.meta.main", "$module.main")
    .replace(BUILTIN_IMPORT, (_, byDefault, all, names, specifier) => {
      if (byDefault !== undefined) return `const {default: ${byDefault}} = await import(${specifier});`;
      return `const ${all ?? `{${names.replace(/\bas\b/g, ":")}}`} = await import(${specifier});`;
    })
    .replace(/\/\/# sourceMappingURL=.*$/m, "");
  const syntax = MODULE_SYNTAX.exec(body)?.[0] ?? /import\.meta\b/.exec(body)?.[0];
  if (syntax !== undefined) throw new NotEvaluable(`the bundle has a statement of modules: ${syntax.trim()}`);
  // The line breaks keep a comment at the end of the bundle from swallowing the brace.
  return JSON.stringify(`(async ($module) => {\n${body}\n})\n//# sourceURL=shim6-agent.js`);
}
