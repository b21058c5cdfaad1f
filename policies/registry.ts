/** The policies by their names on the command line. */

import { AdaptivePolicy, MAX_FIRST } from "./adaptive.ts";
import { BurstPolicy, MAX_BURST } from "./burst.ts";
import { CoordPolicy } from "./coord.ts";
import { DisjointPolicy } from "./disjoint.ts";
import type { Policy } from "./policy.ts";
import { RandomPolicy } from "./random.ts";
import { RttPolicy } from "./rtt.ts";

const FACTORIES = new Map<string, () => Policy>([["random", () => new RandomPolicy()]]);
for (let size = 1; size <= MAX_BURST; size++) FACTORIES.set(`burst${size}`, () => new BurstPolicy(size));
FACTORIES.set("disjoint", () => new DisjointPolicy());
FACTORIES.set("rtt", () => new RttPolicy());
FACTORIES.set("coord", () => new CoordPolicy());
for (let first = 1; first <= MAX_FIRST; first++) {
  const policy = () => new AdaptivePolicy(first);
  FACTORIES.set(policy().name, policy);
}

/** Thrown for a policy name that does not exist; the message lists those that do. */
export class UnknownPolicy extends Error {
  /** The class name. */
  override name = "UnknownPolicy";
  /** `policy`: the name that was asked for. */
  constructor(readonly policy: string) {
    const known = policyNames().filter((name) => !/\d$/.test(name));
    const numbered = `adaptive2 to adaptive${MAX_FIRST}, and burst1 to burst${MAX_BURST}`;
    super(`unknown policy ${JSON.stringify(policy)}; there are ${known.join(", ")}, ${numbered}`);
  }
}

/** All policy names. */
export function policyNames(): string[] {
  return [...FACTORIES.keys()];
}

/** Makes the policy of that name. Throws {@linkcode UnknownPolicy}. */
export function createPolicy(name: string): Policy {
  const make = FACTORIES.get(name);
  if (make === undefined) throw new UnknownPolicy(name);
  return make();
}
