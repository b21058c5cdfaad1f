/** Becoming another program (execve(2)). */

import { check } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { addressOf, cString, putAddress, stableBytes } from "./memory.ts";

/**
 * Replaces this process by the program at `path` with these arguments, the first of which is its name: the same process
 * with the same environment and standard streams, but all of its threads are gone. Returns only by throwing
 * `SystemError`.
 */
export function replaceProgram(path: string, args: readonly string[]): never {
  const strings = args.map(cString);
  const pointers = new Uint32Array(stableBytes(8 * (args.length + 1)).buffer);
  strings.forEach((string, i) => putAddress(pointers, 2 * i, addressOf(string)));
  check(libc().execv(cString(path), new Uint8Array(pointers.buffer)), threadErrno[0], `execute ${path}`);
  throw new Error("unreachable: this process is another program now");
}
