/** The testbed without root: where the kernel allows it, a user is root of a user and network namespace of his own. */

import type { Executable } from "./self.ts";

/** Maps the user to root of a new user namespace, and gives him a network namespace in it (util-linux). */
const UNSHARE = ["-Urn"];

/**
 * Runs a program as root of a user and network namespace of its own, on the terminal of this one. Returns its exit code;
 * undefined when there is no `unshare`, or when this machine does not let users have namespaces. There, namespaces have
 * no names, eBPF is not allowed, and the TUN device's permissions decide.
 */
export async function runInUserNamespace(program: Executable, args: readonly string[]): Promise<number | undefined> {
  try {
    const attempt = await new Deno.Command("unshare", { args: [...UNSHARE, "true"], stderr: "null" }).output();
    if (!attempt.success) return undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  const inside = [...UNSHARE, program.command, ...program.args, ...args];
  const { code } = await new Deno.Command("unshare", { args: inside, stdin: "inherit" }).spawn().status;
  return code;
}
