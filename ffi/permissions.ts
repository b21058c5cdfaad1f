/** Giving up Deno's permissions. */

/**
 * All but `ffi`, under which the addresses of new buffers are asked for. Whoever can call into libc can do without the
 * others, so this keeps mistakes and foreign code from doing harm, and nobody who has taken over the thread.
 */
const PERMISSIONS = ["run", "net", "env", "sys", "import", "read", "write"] as const;

/**
 * Gives up the permissions of this thread, and of the Workers that share them, as all do that were given none of their
 * own. Open files and sockets go on working. Nothing can
 * be opened, executed, listened on or imported any more.
 */
export function revokePermissions(): void {
  for (const name of PERMISSIONS) Deno.permissions.revokeSync({ name });
}
