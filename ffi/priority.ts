/** How soon a thread runs when others want to run too (setpriority(2), nice(7)). */

import { libc } from "./libc.ts";

const PRIO_PROCESS = 0;
const THIS_THREAD = 0;

/** Sets the calling thread's niceness, -20 (soonest) to 19. Returns false when that is not allowed. */
export function setNiceness(niceness: number): boolean {
  return libc().setpriority(PRIO_PROCESS, THIS_THREAD, niceness) === 0;
}
