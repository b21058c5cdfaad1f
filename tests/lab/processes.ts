/** Runs this program's lab commands as processes for tests. */

import { thisProgram } from "../../lab/self.ts";

/** Skips a test that needs root, and says so. */
export const needsRoot = Deno.uid() !== 0;
if (needsRoot) console.log("tests with network namespaces are left out: not root");

const program = thisProgram();

/** A running `lab …` command with piped output. */
export function spawnLab(args: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(program.command, {
    args: [...program.args, "lab", ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}
