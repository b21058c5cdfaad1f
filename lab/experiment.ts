/** A testbed for one experiment: whatever happens to it, nothing is left. */

import { mustUndo } from "./clean_end.ts";
import { Topology, type TopologyOptions } from "./topology.ts";

/**
 * Runs `work` on a new testbed, with a directory for what the processes write: `keptIn`, or one that is removed at the
 * end. A signal takes everything away inside `withCleanEnd`.
 */
export async function onTestbed<T>(
  options: TopologyOptions,
  keptIn: string | undefined,
  work: (topology: Topology, directory: string) => Promise<T>,
): Promise<T> {
  const directory = keptIn ?? await Deno.makeTempDir({ prefix: "shim6-lab-" });
  if (keptIn !== undefined) await Deno.mkdir(keptIn, { recursive: true });
  const removeDirectory = mustUndo(() =>
    keptIn === undefined ? Deno.remove(directory, { recursive: true }) : undefined
  );
  try {
    const topology = Topology.create(options);
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
