/** Return codes of the C library as typed errors that carry the errno's name. */

/** The errno values of Linux that this project meets (asm-generic/errno.h). */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EMFILE: 24,
  ENOSPC: 28,
  ENOSYS: 38,
  EMSGSIZE: 90,
  EPROTONOSUPPORT: 93,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ECONNREFUSED: 111,
  ENOBUFS: 105,
  EHOSTUNREACH: 113,
  ESRCH: 3,
  ENXIO: 6,
  E2BIG: 7,
  ENOTSUP: 95,
  ETIMEDOUT: 110,
  EINPROGRESS: 115,
} as const;

const NAMES = new Map<number, string>();
for (const [name, value] of Object.entries(Errno)) if (!NAMES.has(value)) NAMES.set(value, name);

/** The name of an errno value, e.g. `EPERM`; `errno 999` when it has none here. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}

/** A failed system call: `TUNSETIFF: EPERM`. */
export class SystemError extends Error {
  override name = "SystemError";
  /** The errno value. */
  readonly errno: number;
  /** The errno's name, e.g. `EPERM`. */
  readonly code: string;
  /** What was attempted, e.g. `TUNSETIFF` or `bind fd00::1`. */
  readonly call: string;
  constructor(call: string, errno: number) {
    super(`${call}: ${errnoName(errno)}`);
    this.call = call;
    this.errno = errno;
    this.code = errnoName(errno);
  }
}

/**
 * Passes a non-negative result through; throws {@linkcode SystemError} for a negative one. `code`: `threadErrno[0]`, as the
 * call left it.
 */
export function check(result: number, code: number, call: string): number {
  if (result < 0) throw new SystemError(call, code);
  return result;
}
