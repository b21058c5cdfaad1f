/** How the testbed starts this very program again: as an agent, a traffic program, the path emulator. */

/** A program and the arguments that come before its own. */
export interface Executable {
  readonly command: string;
  readonly args: readonly string[];
}

/**
 * This program: packed into one file, bundled, or from its sources; or the executable at `path`, e.g. one that was
 * built.
 */
export function thisProgram(path?: string): Executable {
  if (path !== undefined) return { command: path, args: [] };
  if (Deno.build.standalone || Deno.env.get("SHIM6_PACKED") === "1") return { command: Deno.execPath(), args: [] };
  // In a bundle this module has no file of its own.
  const own = new URL(import.meta.url);
  const main = own.pathname.endsWith("/lab/self.ts") ? new URL("../main.ts", own).href : Deno.mainModule;
  return { command: Deno.execPath(), args: ["run", "--allow-all", "--no-prompt", main] };
}
