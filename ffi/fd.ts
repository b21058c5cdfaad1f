/** File descriptors: closing, event and timer files, and waiting for several at once. */

import { check, Errno, SystemError } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { stableBytes } from "./memory.ts";

/** Closes a descriptor. Errors are ignored: nothing can be done about them, and the descriptor is gone either way. */
export function closeFd(fd: number): void {
  libc().close(fd);
}

const EFD_NONBLOCK_CLOEXEC = 0x80800;
const ONE = new Uint8Array(stableBytes(8).buffer, 0, 8);
ONE[0] = 1;
const drained = stableBytes(8);

/** A non-blocking event file: readable after {@linkcode signalEventFd} until {@linkcode drainEventFd}. */
export function createEventFd(): number {
  return check(libc().eventfd(0, EFD_NONBLOCK_CLOEXEC), threadErrno[0], "eventfd");
}

/** Makes an event file readable; any thread may do so. */
export function signalEventFd(fd: number): void {
  const written = libc().write(fd, ONE, 8), code = threadErrno[0];
  // EAGAIN means that it has been signalled 2^64 - 2 times and is readable anyway.
  if (written < 0 && code !== Errno.EAGAIN) throw new SystemError("write eventfd", code);
}

/** Makes an event file unreadable again. Returns whether it had been signalled. */
export function drainEventFd(fd: number): boolean {
  return libc().read(fd, drained, 8) === 8;
}

const CLOCK_MONOTONIC = 1;
const TFD_NONBLOCK_CLOEXEC = 0x80800;
const TFD_TIMER_ABSTIME = 1;

/** A timer as a descriptor: readable when its time has come. */
export class TimerFd {
  /** For a poll set. */
  readonly fd: number;
  /** struct itimerspec: interval, then value, each seconds and nanoseconds of 64 bits. */
  readonly #spec = new Uint32Array(stableBytes(32).buffer, 0, 8);
  readonly #specBytes = new Uint8Array(this.#spec.buffer, 0, 32);

  /** Opens it, disarmed. Throws SystemError. */
  constructor() {
    this.fd = check(libc().timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK_CLOEXEC), threadErrno[0], "timerfd_create");
  }

  /** Goes off once, at the time `at` (monotonic ms; at once when it has passed). Replaces what was set before. */
  armAt(at: number): void {
    // All zero would disarm, so a time in the past becomes the first nanosecond.
    const ms = Math.max(at, 1e-6);
    const seconds = Math.floor(ms / 1000);
    this.#spec[4] = seconds >>> 0;
    this.#spec[5] = Math.floor(seconds / 4294967296);
    this.#spec[6] = Math.max(1, Math.floor((ms - seconds * 1000) * 1e6));
    this.#set();
  }

  /** Does not go off any more. */
  disarm(): void {
    this.#spec[4] = this.#spec[5] = this.#spec[6] = 0;
    this.#set();
  }

  #set(): void {
    check(libc().timerfd_settime(this.fd, TFD_TIMER_ABSTIME, this.#specBytes, null), threadErrno[0], "timerfd_settime");
  }

  /** Makes it unreadable until it goes off again. Returns whether it had gone off. */
  drain(): boolean {
    return libc().read(this.fd, drained, 8) === 8;
  }

  /** Closes the descriptor. */
  close(): void {
    closeFd(this.fd);
  }
}

/** Events of poll(2). ERR and HUP are reported without being asked for. */
export const PollEvent = { IN: 1, OUT: 4, ERR: 8, HUP: 16, NVAL: 32 } as const;

const single = new Int32Array(stableBytes(8).buffer, 0, 2);
const singleBytes = new Uint8Array(single.buffer, 0, 8);

/** Blocks this thread until `events` occur on one descriptor. Returns those that did; 0 after `timeoutMs`. */
export function waitFor(fd: number, events: number, timeoutMs: number): number {
  single[0] = fd;
  single[1] = events;
  return libc().poll(singleBytes, 1, timeoutMs) > 0 ? single[1] >>> 16 : 0;
}

/** A set of descriptors to wait for. */
export class PollSet {
  readonly #events = new Map<number, number>();
  /** struct pollfd: descriptor (32 bits), events and revents (16 bits each). */
  #pollfds = new Int32Array(0);
  #bytes = new Uint8Array(0);
  #count = 0;
  #stale = true;

  /** Adds a descriptor, or changes the events awaited on it. */
  set(fd: number, events: number): void {
    if (this.#events.get(fd) === events) return;
    this.#events.set(fd, events);
    this.#stale = true;
  }

  /** Takes a descriptor out. */
  remove(fd: number): void {
    if (this.#events.delete(fd)) this.#stale = true;
  }

  #prepare(): void {
    if (!this.#stale) return;
    // A new array on each change: a waitAsync that is under way goes on writing into the old one.
    this.#count = this.#events.size;
    this.#bytes = stableBytes(8 * this.#count);
    this.#pollfds = new Int32Array(this.#bytes.buffer, 0, 2 * this.#count);
    let i = 0;
    for (const [fd, events] of this.#events) {
      this.#pollfds[i++] = fd;
      this.#pollfds[i++] = events;
    }
    this.#stale = false;
  }

  /** Blocks this thread for at most `timeoutMs` (-1: without end). Returns how many descriptors are ready. */
  wait(timeoutMs: number): number {
    this.#prepare();
    const ready = libc().poll(this.#bytes, this.#count, timeoutMs), code = threadErrno[0];
    if (ready < 0 && code !== Errno.EINTR) throw new SystemError("poll", code);
    return Math.max(ready, 0);
  }

  /**
   * Waits on another thread while this one goes on; one wait at a time. Changes of the set take effect with the next
   * wait: end one that is under way through an event file in the set.
   */
  async waitAsync(timeoutMs: number): Promise<number> {
    this.#prepare();
    return Math.max(await libc().poll_async(this.#bytes, this.#count, timeoutMs), 0);
  }

  /** The events found on a descriptor by the last wait; 0 when there were none. */
  ready(fd: number): number {
    for (let i = 0; i < this.#pollfds.length; i += 2) {
      if (this.#pollfds[i] === fd) return this.#pollfds[i + 1] >>> 16;
    }
    return 0;
  }
}
