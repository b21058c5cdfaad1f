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

const PRIO_PROCESS = 0;
/** Of -20 to 19: some ten times the share of an ordinary thread. */
const PREFERRED = -10;

/**
 * Prefers the calling thread, and the processes that it starts from now on, to ordinary ones. Nothing changes when that is
 * not allowed. Returns what gives the thread its former place again.
 */
export function preferThisThread(): () => void {
  const before = libc().getpriority(PRIO_PROCESS, THIS_THREAD);
  libc().setpriority(PRIO_PROCESS, THIS_THREAD, PREFERRED);
  return () => void libc().setpriority(PRIO_PROCESS, THIS_THREAD, before);
}
