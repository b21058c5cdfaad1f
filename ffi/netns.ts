/**
 * Network namespaces (network_namespaces(7)). A thread has one; what is opened or spawned on the thread belongs to it.
 * All functions here are synchronous and leave the calling thread in the namespace in which it was.
 */

import { check, SystemError } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { cString } from "./memory.ts";

const O_RDONLY = 0;
const O_WRONLY = 1;
const O_CLOEXEC = 0x80000;
const CLONE_NEWNET = 0x40000000;
const MS_BIND = 0x1000;
const MS_REC = 0x4000;
const MS_SHARED = 1 << 20;
const MNT_DETACH = 2;

/** Where `ip netns` looks for names. */
const NAMES = "/run/netns";

function open(path: string, flags: number): number {
  return check(libc().open(cString(path), flags | O_CLOEXEC), threadErrno[0], `open ${path}`);
}

/** A file descriptor of the calling thread's network namespace. Throws {@linkcode SystemError}. */
export function currentNetns(): number {
  return open("/proc/thread-self/ns/net", O_RDONLY);
}

/**
 * Creates a network namespace; it lives as long as the returned file descriptor is open, or a process, a name or an
 * interface holds it. Needs CAP_SYS_ADMIN in the user namespace. Throws {@linkcode SystemError}.
 */
export function createNetns(): number {
  const own = currentNetns();
  try {
    check(libc().unshare(CLONE_NEWNET), threadErrno[0], "unshare CLONE_NEWNET");
    try {
      return currentNetns();
    } finally {
      enter(own);
    }
  } finally {
    libc().close(own);
  }
}

/**
 * Runs `fn` with the calling thread in another network namespace. `fn` must be synchronous: after an `await` it would
 * go on in the wrong one. A process spawned inside belongs to that namespace for good, a socket opened inside too.
 */
export function withNetns<T>(fd: number, fn: () => T extends PromiseLike<unknown> ? never : T): T {
  const own = currentNetns();
  try {
    check(libc().setns(fd, CLONE_NEWNET), threadErrno[0], "setns");
    try {
      return fn();
    } finally {
      enter(own);
    }
  } finally {
    libc().close(own);
  }
}

/** The way back. Failing here would leave the process in a foreign namespace: nothing may go on after that. */
function enter(fd: number): void {
  check(libc().setns(fd, CLONE_NEWNET), threadErrno[0], "setns back to the own network namespace");
}

/**
 * Gives a namespace a name, so that `ip netns exec NAME` finds it and it outlives this process. Throws
 * {@linkcode SystemError} or `Deno.errors.AlreadyExists`.
 */
export function nameNetns(fd: number, name: string): void {
  Deno.mkdirSync(NAMES, { recursive: true });
  const nothing = cString("");
  // Shared, as `ip netns add` makes it: a name taken away later must vanish from other mount namespaces too, else the
  // network namespace would stay alive there. The first attempt fails where the folder is no mount point yet.
  if (libc().mount(nothing, cString(NAMES), cString("none"), MS_SHARED | MS_REC, nothing) < 0) {
    check(
      libc().mount(cString(NAMES), cString(NAMES), cString("none"), MS_BIND | MS_REC, nothing),
      threadErrno[0],
      `mount ${NAMES}`,
    );
    check(
      libc().mount(nothing, cString(NAMES), cString("none"), MS_SHARED | MS_REC, nothing),
      threadErrno[0],
      `share ${NAMES}`,
    );
  }
  const path = `${NAMES}/${name}`;
  Deno.writeFileSync(path, new Uint8Array(0), { createNew: true, mode: 0o444 });
  try {
    const source = `/proc/thread-self/fd/${fd}`;
    check(
      libc().mount(cString(source), cString(path), cString("none"), MS_BIND, nothing),
      threadErrno[0],
      `name netns ${name}`,
    );
  } catch (error) {
    Deno.removeSync(path);
    throw error;
  }
}

/** Opens a namespace by its name; undefined when there is none. The caller closes the file descriptor. */
export function openNamedNetns(name: string): number | undefined {
  try {
    return open(`${NAMES}/${name}`, O_RDONLY);
  } catch (error) {
    if (error instanceof SystemError && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Takes a name away; the namespace ends when nothing else holds it. False when there was no such name. */
export function deleteNamedNetns(name: string): boolean {
  const path = `${NAMES}/${name}`;
  libc().umount2(cString(path), MNT_DETACH); // fails where a killed run left the bare file: that is removed below
  try {
    Deno.removeSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Closes a namespace's file descriptor. */
export function closeNetns(fd: number): void {
  libc().close(fd);
}

/**
 * Writes a network setting of the calling thread's namespace, e.g. `net/ipv6/conf/all/forwarding`. Slashes separate,
 * since interface names may contain dots. Throws {@linkcode SystemError}.
 */
export function writeSysctl(name: string, value: string | number): void {
  const fd = open(`/proc/sys/${name}`, O_WRONLY);
  try {
    const text = cString(String(value));
    check(libc().write(fd, text, text.length - 1), threadErrno[0], `sysctl ${name}=${value}`);
  } finally {
    libc().close(fd);
  }
}

/** Reads a network setting of the calling thread's namespace. Throws {@linkcode SystemError}. */
export function readSysctl(name: string): string {
  const fd = open(`/proc/sys/${name}`, O_RDONLY);
  try {
    const buffer = new Uint8Array(new ArrayBuffer(4096));
    const length = check(libc().read(fd, buffer, buffer.length), threadErrno[0], `read sysctl ${name}`);
    return new TextDecoder().decode(buffer.subarray(0, length)).trimEnd();
  } finally {
    libc().close(fd);
  }
}
