/**
 * A failover that happens in memory only: what the engine, the protocol and a policy do in one is compiled when they do it
 * for the first time, which takes longer than the failover itself. An agent that has rehearsed is as quick at its first
 * real failure as at any later one.
 */

import type { Policy } from "../policies/policy.ts";
import type { Profile } from "../reap/profile.ts";
import { HostPair } from "./experiments/host_pair.ts";
import { SeededRandom } from "./random.ts";

const LOCATORS = 3, DELAY_MS = 10, TRAFFIC_MS = 100;
/** Long enough for background probes of all pairs. */
const PEACE_MS = 5_000;

/**
 * Two hosts establish a context, learn their paths and survive failures; yields after each step, of some ten ms. Throws an
 * Error when they do not survive.
 */
export function* rehearsal(policy: () => Policy, profile: Profile): Generator<void, void> {
  const hosts = new HostPair({
    locators: [LOCATORS, LOCATORS],
    profile,
    policy,
    delayMs: () => DELAY_MS,
    random: new SeededRandom(1),
    trafficMs: TRAFFIC_MS,
  });
  yield;
  const paths = hosts.pairs.length;
  for (const broken of [() => [hosts.forth, paths + hosts.back], () => [hosts.forth], () => [paths + hosts.back]]) {
    hosts.live(PEACE_MS);
    yield;
    if (!hosts.fail(broken()).recovered) throw new Error("the hosts did not get over a failure");
    yield;
  }
}
