/**
 * The C library, each symbol once with its C type. Nothing else in the project calls `Deno.dlopen`.
 *
 * The library is opened on first use, so that parts of the program that need no system calls (help, simulator) run
 * without the permission. Every thread (the main one and each Worker) opens it for itself.
 *
 * `ssize_t` results are declared `i32`: no call here moves 2 GiB, and an `i32` costs no BigInt. Lengths are `usize`,
 * given as plain numbers. Variadic functions (`open`, `ioctl`, `fcntl`, `syscall`) take their arguments in registers
 * on every 64-bit Linux, so a fixed signature is right.
 */

/** Names, parameters and results, as Deno wants them. */
export const SYMBOLS = {
  /** int open(const char *path, int flags) */
  open: { parameters: ["buffer", "i32"], result: "i32" },
  /** int close(int fd) */
  close: { parameters: ["i32"], result: "i32" },
  /** ssize_t read(int fd, void *buf, size_t count) */
  read: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  /** ssize_t write(int fd, const void *buf, size_t count) */
  write: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  /** ssize_t readv(int fd, const struct iovec *iov, int iovcnt) */
  readv: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  /** ssize_t writev(int fd, const struct iovec *iov, int iovcnt) */
  writev: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  /** int ioctl(int fd, unsigned long request, void *argument) */
  ioctl: { parameters: ["i32", "usize", "buffer"], result: "i32" },
  /** int ioctl(int fd, unsigned long request, unsigned long argument) */
  ioctl_value: { name: "ioctl", parameters: ["i32", "usize", "usize"], result: "i32" },
  /** int fcntl(int fd, int command, int argument) */
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  /** int socket(int domain, int type, int protocol) */
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  /** int bind(int fd, const struct sockaddr *address, socklen_t length) */
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  /** int connect(int fd, const struct sockaddr *address, socklen_t length) */
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  /** int listen(int fd, int backlog) */
  listen: { parameters: ["i32", "i32"], result: "i32" },
  /** int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) */
  accept4: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  /** int getsockname(int fd, struct sockaddr *address, socklen_t *length) */
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  /** int setsockopt(int fd, int level, int name, const void *value, socklen_t length) */
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  /** int getsockopt(int fd, int level, int name, void *value, socklen_t *length) */
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  /** ssize_t sendto(int fd, const void *buf, size_t length, int flags, const struct sockaddr *to, socklen_t tolen) */
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "i32" },
  /** ssize_t recv(int fd, void *buf, size_t length, int flags) */
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "i32" },
  /** ssize_t recvmsg(int fd, struct msghdr *message, int flags) */
  recvmsg: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  /** int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) */
  sendmmsg: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  /** int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout) */
  recvmmsg: { parameters: ["i32", "buffer", "u32", "i32", "buffer"], result: "i32" },
  /** int poll(struct pollfd *fds, nfds_t count, int timeout) */
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
  /** poll(2) on another thread, awaited. Its errno is that thread's: only the result can be used. */
  poll_async: { name: "poll", parameters: ["buffer", "usize", "i32"], result: "i32", nonblocking: true },
  /** int eventfd(unsigned initial, int flags) */
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  /** int timerfd_create(int clock, int flags) */
  timerfd_create: { parameters: ["i32", "i32"], result: "i32" },
  /** int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old) */
  timerfd_settime: { parameters: ["i32", "i32", "buffer", "buffer"], result: "i32" },
  /** int clock_gettime(clockid_t clock, struct timespec *time) */
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  /** void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) */
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "usize"], result: "pointer" },
  /** int munmap(void *address, size_t length) */
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  /** long bpf(2) through long syscall(long number, int command, union bpf_attr *attr, unsigned size) */
  syscall_bpf: { name: "syscall", parameters: ["i64", "i32", "buffer", "u32"], result: "i64" },
  /** long capget(2) through syscall(long number, struct __user_cap_header_struct *, struct __user_cap_data_struct *) */
  syscall_capget: { name: "syscall", parameters: ["i64", "buffer", "buffer"], result: "i64" },
  /** long capset(2) through syscall(long number, struct __user_cap_header_struct *, struct __user_cap_data_struct *) */
  syscall_capset: { name: "syscall", parameters: ["i64", "buffer", "buffer"], result: "i64" },
  /** int execv(const char *path, char *const argv[]) */
  execv: { parameters: ["buffer", "buffer"], result: "i32" },
  /** unsigned if_nametoindex(const char *name) */
  if_nametoindex: { parameters: ["buffer"], result: "u32" },
  /** int setns(int fd, int type) */
  setns: { parameters: ["i32", "i32"], result: "i32" },
  /** int unshare(int flags) */
  unshare: { parameters: ["i32"], result: "i32" },
  /** int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data) */
  mount: { parameters: ["buffer", "buffer", "buffer", "usize", "buffer"], result: "i32" },
  /** int umount2(const char *target, int flags) */
  umount2: { parameters: ["buffer", "i32"], result: "i32" },
  /** int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) */
  prctl: { parameters: ["i32", "usize", "usize", "usize", "usize"], result: "i32" },
  /** int sched_setscheduler(pid_t pid, int policy, const struct sched_param *param) */
  sched_setscheduler: { parameters: ["i32", "i32", "buffer"], result: "i32" },
  /** int getpriority(int which, id_t who) */
  getpriority: { parameters: ["i32", "u32"], result: "i32" },
  /** int setpriority(int which, id_t who, int value) */
  setpriority: { parameters: ["i32", "u32", "i32"], result: "i32" },
  /** int malloc_trim(size_t keep): glibc's own */
  malloc_trim: { parameters: ["usize"], result: "i32", optional: true },
  /** pid_t gettid(void) */
  gettid: { parameters: [], result: "i32" },
  /** uid_t geteuid(void) */
  geteuid: { parameters: [], result: "u32" },
  /** int *__errno_location(void): where this thread's errno lives */
  __errno_location: { parameters: [], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Functions that take plain numbers for 64-bit parameters: Deno types those as `bigint`, but numbers cost a fraction. */
export type TakingNumbers<Symbols> = {
  [Name in keyof Symbols]: NonNullable<Symbols[Name]> extends (...values: infer Values) => infer Result ?
      | ((...values: { [I in keyof Values]: Values[I] extends bigint ? number | bigint : Values[I] }) => Result)
      | Extract<Symbols[Name], null>
    : never;
};

/** The opened symbols. */
export type Libc = TakingNumbers<Deno.DynamicLibrary<typeof SYMBOLS>["symbols"]>;

/** Where glibc and musl put their C library; the loader's own search finds most. */
const CANDIDATES = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];

let opened: Libc | undefined;

/**
 * `threadErrno[0]` is this thread's errno once the library is open. It has to be read in the expression that makes the
 * call, or in the next one: wherever a function is entered the runtime may do some work of its own, as collecting garbage
 * or waiting for a lock, and leave its own errno there (seen once in ten million calls: EAGAIN for ENOENT).
 */
export let threadErrno = new Int32Array(1);

/** The C library of this thread, opened on first use. Throws when `--allow-ffi` is missing or none is found. */
export function libc(): Libc {
  if (opened !== undefined) return opened;
  let failure: unknown;
  for (const name of CANDIDATES) {
    try {
      const symbols = Deno.dlopen(name, SYMBOLS).symbols as Libc;
      threadErrno = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(symbols.__errno_location()!, 4));
      return opened = symbols;
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw error;
      failure ??= error;
    }
  }
  throw failure;
}
