/** The one clock of the program: CLOCK_MONOTONIC, which is also the clock of eBPF time stamps and of timer files. */

import { libc } from "./libc.ts";
import { stableBytes } from "./memory.ts";

const CLOCK_MONOTONIC = 1;

const timespec = new Uint32Array(stableBytes(16).buffer, 0, 4);
const timespecBytes = new Uint8Array(timespec.buffer, 0, 16);

/** Milliseconds since some fixed point (the boot of the machine, without time asleep), with fractions. */
export function monotonicNow(): number {
  libc().clock_gettime(CLOCK_MONOTONIC, timespecBytes);
  return (timespec[0] + timespec[1] * 4294967296) * 1000 + timespec[2] / 1e6;
}
