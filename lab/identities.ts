/** What binds the addresses of a host of the testbed to each other, so that its peer needs no trust. */

import type { Identity } from "../agent/identity.ts";
import { type LabHost, providerPrefixes } from "./topology.ts";

/**
 * A set of HBAs for each host of a testbed with so many providers. With Sec 0, which takes a few milliseconds: nobody
 * attacks a testbed that lives for seconds.
 */
export async function hbaSets([a, b]: readonly [number, number]): Promise<readonly [Identity, Identity]> {
  const { hbaNew } = await import("../agent/identity.ts");
  const set = (letter: string, count: number) => hbaNew({ prefixes: providerPrefixes(letter, count), sec: 0 });
  return await Promise.all([set("a", a), set("b", b)]);
}

/**
 * The arguments that make an agent on this host and its peer believe each other: `--identity` with what binds the host's
 * addresses, which is written to `path` in the place of what was there; on plain addresses nothing can be proved.
 */
export async function trustArguments(host: LabHost, path: string): Promise<string[]> {
  if (host.identity === undefined) return ["--insecure-locators"];
  const { writeIdentityFile } = await import("../agent/identity.ts");
  removeIdentityFile(path);
  writeIdentityFile(path, host.identity);
  return ["--identity", path];
}

/** Removes the file of an earlier testbed, if there is one. */
export function removeIdentityFile(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
