/** A testbed for one experiment: whatever happens to it, nothing is left. */

import { mustUndo } from "./clean_end.ts";
import { hbaSets } from "./identities.ts";
import { Topology } from "./topology.ts";

/** The testbed that an experiment wants. */
export interface TestbedOptions {
  /** What the namespaces are called. */
  readonly name: string;
  /** Providers of host a and host b; three when absent. */
  readonly providers?: readonly [number, number];
  /** Plain addresses, which nothing proves, in place of HBAs. */
  readonly plain?: boolean;
}

/**
 * Runs `work` on a new testbed, with a directory for what the processes write: `keptIn`, or one that is removed at the
 * end. A signal takes everything away inside `withCleanEnd`.
 */
export async function onTestbed<T>(
  { name, providers = [3, 3], plain = false }: TestbedOptions,
  keptIn: string | undefined,
  work: (topology: Topology, directory: string) => Promise<T>,
): Promise<T> {
  const directory = keptIn ?? await Deno.makeTempDir({ prefix: "shim6-lab-" });
  if (keptIn !== undefined) await Deno.mkdir(keptIn, { recursive: true });
  const removeDirectory = mustUndo(() =>
    keptIn === undefined ? Deno.remove(directory, { recursive: true }) : undefined
  );
  try {
    const identities = plain ? undefined : await hbaSets(providers);
    const topology = Topology.create({ name, providers, identities });
    const removeTopology = mustUndo(() => topology.destroy());
    try {
      return await work(topology, directory);
    } finally {
      await removeTopology();
    }
  } finally {
    await removeDirectory();
  }
}

/** One of several testbeds of the same experiment. */
export interface Testbed {
  readonly topology: Topology;
  /** For what the processes write. */
  readonly directory: string;
}

/** Runs `work` on several new testbeds. As {@linkcode onTestbed}. */
export function onTestbeds<T>(
  options: readonly TestbedOptions[],
  work: (testbeds: readonly Testbed[]) => Promise<T>,
  built: readonly Testbed[] = [],
): Promise<T> {
  const [next, ...others] = options;
  if (next === undefined) return work(built);
  const goOn = (topology: Topology, directory: string) => onTestbeds(others, work, [...built, { topology, directory }]);
  return onTestbed(next, undefined, goOn);
}
