/** How soon a thread runs when others want to run too (sched(7)). */

import { libc } from "./libc.ts";
import { stableBytes } from "./memory.ts";

const THIS_THREAD = 0;
const SCHED_FIFO = 1;
/** Of 1 to 99: before every ordinary thread, after everybody else who asked for real time. */
const LOWEST_PRIORITY = 1;

/** Lets the calling thread run before all ordinary ones, as soon as it is awake. False when that is not allowed. */
export function runInRealTime(): boolean {
  const parameters = stableBytes(4); // struct sched_param
  parameters[0] = LOWEST_PRIORITY;
  return libc().sched_setscheduler(THIS_THREAD, SCHED_FIFO, parameters) === 0;
}
