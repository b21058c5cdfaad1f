/** What several benchmarks measure in the same way. */

const CLOCK_TICK_MS = 10; // USER_HZ is 100 on every Linux that Deno runs on

/** Processor time that a process has used, of all its threads, ms. */
export function cpuMs(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) * CLOCK_TICK_MS;
}

/** The process whose command line names a control socket. */
export function pidOf(control: string): number {
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (Deno.readTextFileSync(`/proc/${name}/cmdline`).split("\0").includes(control)) return Number(name);
    } catch { /* it has ended */ }
  }
  throw new Error(`no process has the control socket ${control}`);
}

/** The middle one of the values; of an even number the upper one. */
export function median(values: readonly number[]): number {
  return values.toSorted((x, y) => x - y)[values.length >> 1];
}
