/**
 * Least privilege: the agent is started by root, and keeps of root's rights what it needs of the network.
 *
 * Capabilities belong to threads, and when the first line of this program runs, the runtime has started a dozen threads
 * with all of root's rights, which nobody can take from them any more. The packed executable has given them up before
 * (tools/elf_stub_x86_64.S). Otherwise the agent, before it does anything, executes itself again
 * ({@linkcode becomeUnprivileged}), with a bounding set that leaves no thread of the new program more than
 * {@linkcode START_CAPABILITIES}. When it has started, the main thread gives up what only the start needed
 * ({@linkcode giveUpStartRights}), and the packet loop's thread everything. docs/privileges.md tells it as a table.
 */

import {
  boundCapabilities,
  type CapabilityName,
  effectiveCapabilities,
  forbidNewPrivileges,
  keepCapabilities,
  mayDoMoreThan,
  replaceProgram,
  revokePermissions,
  SystemError,
  withCapabilities,
} from "deno-tun";

/** What the start needs: device and routes, raw sockets, eBPF programs. */
export const START_CAPABILITIES: readonly CapabilityName[] = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"];
/** What the running agent needs, since addresses, routes and interfaces change. */
const RUN_CAPABILITIES: readonly CapabilityName[] = ["CAP_NET_ADMIN", "CAP_NET_RAW"];

/**
 * Starts this program anew with no more than {@linkcode START_CAPABILITIES}, and so does not return. Returns why not
 * where it has more and must keep it; undefined where it has no more anyway: a service of systemd's, or an ordinary user
 * with a file that has capabilities.
 */
export function becomeUnprivileged(): string | undefined {
  if (Deno.build.os !== "linux") return undefined;
  forbidNewPrivileges();
  if (Deno.uid() !== 0 || !mayDoMoreThan(START_CAPABILITIES)) return undefined;
  if (!effectiveCapabilities().has("CAP_SETPCAP")) return "without CAP_SETPCAP nothing can be taken away";
  const unreadable = withCapabilities(START_CAPABILITIES, unreadableSource);
  if (unreadable !== undefined) return `root may read ${unreadable} only by its right to the files of others`;
  try {
    boundCapabilities(START_CAPABILITIES);
    // As the kernel got them: with the runtime's own arguments, and without those that a packed file adds for itself.
    replaceProgram(Deno.execPath(), Deno.readTextFileSync("/proc/self/cmdline").split("\0").slice(0, -1));
  } catch (error) {
    if (error instanceof SystemError) return error.message;
    throw error;
  }
}

/** The main module, where it is a file that the new program could not read. */
function unreadableSource(): string | undefined {
  const main = new URL(Deno.mainModule);
  if (main.protocol !== "file:" || Deno.build.standalone) return undefined;
  try {
    Deno.openSync(main).close();
    return undefined;
  } catch {
    return main.pathname;
  }
}

/** Gives up what this thread needs no more once the agent has started, and Deno's permissions for all threads. */
export function giveUpStartRights(): void {
  keepCapabilities(RUN_CAPABILITIES);
  revokePermissions();
}
