/**
 * Two hosts with a context between them and the paper's traffic on it (§5.3): one packet a second each way, the two
 * directions out of step by chance. The context lives on from failure to failure, as in the paper's lab.
 */

import type { LocatorPair, Policy } from "../../policies/policy.ts";
import type { Profile } from "../../reap/profile.ts";
import type { EngineEvent } from "../../shim6/api.ts";
import type { Address } from "../../wire/address.ts";
import type { SeededRandom } from "../random.ts";
import { Traffic } from "../traffic.ts";
import { allPairs, type VirtualHost, VirtualNetwork } from "../virtual_network.ts";
import { type HostOutcome, hostOutcomes, HostWatch } from "./host_watch.ts";

/** How to build a pair of hosts. */
export interface HostPairOptions {
  /** Locators of host A and of host B, 1 to 9 each. */
  readonly locators: readonly [number, number];
  readonly profile: Profile;
  /** A policy of its own for each host: policies may remember. */
  readonly policy: () => Policy;
  /** One-way delay in ms of path `index` (0 … paths - 1), from A to B and from B to A. */
  readonly delayMs: (index: number, forth: boolean) => number;
  readonly random: SeededRandom;
  /** Each host sends a packet so often; {@linkcode TRAFFIC_INTERVAL_MS} when absent. */
  readonly trafficMs?: number;
}

/** What a failure did. */
export interface FailureOutcome {
  /** How many unidirectional paths broke. */
  readonly broken: number;
  /** The hosts that left Operational, in the order in which they did. */
  readonly hosts: readonly HostOutcome[];
  readonly recovered: boolean;
  /** From the failure until both hosts are Operational and send on paths that work. */
  readonly recoveryMs: number;
  /** Probes of both hosts, those included that were still under way when all was well again. */
  readonly messages: number;
  /** The paths chosen, by their numbers. */
  readonly forth: number;
  readonly back: number;
  /** Round-trip time of the two chosen paths, and of the two best ones that worked. */
  readonly rttMs: number;
  readonly bestRttMs: number;
}

/** The paper's traffic (§5.3): one packet a second. */
export const TRAFFIC_INTERVAL_MS = 1_000;
/** A failure that is not repaired in this time counts as unrecovered. */
const PATIENCE_MS = 3_600_000;
const ESTABLISHMENT_MS = 60_000;

/** The addresses of a host: `2001:db8:a1::1`, `2001:db8:a2::1` … for "a". */
export function addressesOf(host: string, count: number): Address[] {
  return Array.from({ length: count }, (_, i) => `2001:db8:${host}${i + 1}::1`);
}

/** The two hosts. */
export class HostPair {
  readonly network: VirtualNetwork;
  /** Paths from A to B as A sees them; the way back has the same numbers. */
  readonly pairs: readonly LocatorPair[];
  readonly #a: VirtualHost;
  readonly #b: VirtualHost;
  readonly #watchA: HostWatch;
  readonly #watchB: HostWatch;
  readonly #ulid: LocatorPair;
  readonly #longestDelayMs: number;
  readonly #trafficMs: number;
  #traffic: Traffic[] = [];
  #isWell = true;

  constructor({ locators: [countA, countB], profile, policy, delayMs, random, trafficMs }: HostPairOptions) {
    this.#trafficMs = trafficMs ?? TRAFFIC_INTERVAL_MS;
    const network = this.network = new VirtualNetwork({ seed: random.uint32() });
    const addressesA = addressesOf("a", countA), addressesB = addressesOf("b", countB);
    this.pairs = allPairs(addressesA, addressesB);
    this.#ulid = this.pairs[0];
    let longest = 0;
    this.pairs.forEach(({ local, peer }, index) => {
      const forth = network.path(local, peer), back = network.path(peer, local);
      forth.delayMs = delayMs(index, true);
      back.delayMs = delayMs(index, false);
      longest = Math.max(longest, forth.delayMs, back.delayMs);
    });
    this.#longestDelayMs = longest;
    this.#a = network.addHost("A", addressesA, { profile, policy: policy() });
    this.#b = network.addHost("B", addressesB, { profile, policy: policy() });
    this.#watchA = new HostWatch(this.#ulid);
    this.#watchB = new HostWatch({ local: this.#ulid.peer, peer: this.#ulid.local });
    this.#a.onEvent = (event) => this.#handle(this.#watchA, event);
    this.#b.onEvent = (event) => this.#handle(this.#watchB, event);
    this.#a.establish(this.#ulid.local, this.#ulid.peer);
    const isEstablished = () =>
      [this.#a, this.#b].every((host) => [...host.engine!.contexts()].some(({ state }) => state === "ESTABLISHED"));
    if (!network.runUntil(isEstablished, ESTABLISHMENT_MS)) throw new Error("the hosts got no context");
  }

  /** The number of the path on which A sends now. */
  get forth(): number {
    return this.#indexOf(this.#watchA.current);
  }

  /** The number of the path on which B sends now. */
  get back(): number {
    const { local, peer } = this.#watchB.current;
    return this.#indexOf({ local: peer, peer: local });
  }

  /** Lets the hosts live in peace for about `ms`, with traffic whose phases are new. */
  live(ms: number): void {
    const { clock, random } = this.network, intervalMs = this.#trafficMs;
    for (const traffic of this.#traffic) traffic.stop();
    this.#traffic = [];
    const ulidB = { local: this.#ulid.peer, peer: this.#ulid.local };
    const flows = [{ from: this.#a, to: this.#b, ulid: this.#ulid }, { from: this.#b, to: this.#a, ulid: ulidB }];
    for (const flow of flows) {
      clock.after(intervalMs * random.next(), () => {
        const options = { ...flow, intervalMs, bothWays: false };
        this.#traffic.push(new Traffic(this.network, options));
      });
    }
    this.network.run(Math.max(ms, 2 * intervalMs) + intervalMs * random.next());
  }

  /** Breaks the unidirectional paths with these numbers, waits until the hosts have got over it, and mends them. */
  fail(broken: readonly number[]): FailureOutcome {
    const { network } = this;
    const { clock } = network;
    for (const watch of [this.#watchA, this.#watchB]) watch.reset();
    const failedAt = clock.now;
    for (const number of broken) this.#path(number).up = false;
    this.#judge();
    let recoveredAt = Infinity;
    do {
      recoveredAt = network.runUntil(() => this.#isWell, PATIENCE_MS) ? clock.now : Infinity;
      if (recoveredAt === Infinity) break;
      // Packets that are still under way may be answered, and may even make a host explore again.
      network.run(2 * this.#longestDelayMs + 1);
    } while (!this.#isWell);
    const outcome = this.#outcome(broken.length, failedAt, recoveredAt);
    network.mendAll();
    this.#judge();
    network.runUntil(() => this.#isWell, PATIENCE_MS);
    return outcome;
  }

  #outcome(broken: number, failedAt: number, recoveredAt: number): FailureOutcome {
    const { forth, back } = this;
    return {
      broken,
      hosts: hostOutcomes([this.#watchA, this.#watchB], failedAt),
      recovered: recoveredAt < Infinity,
      recoveryMs: recoveredAt - failedAt,
      messages: this.#watchA.probes + this.#watchB.probes,
      forth,
      back,
      rttMs: this.#path(forth).delayMs + this.#path(this.pairs.length + back).delayMs,
      bestRttMs: this.#best(0) + this.#best(this.pairs.length),
    };
  }

  #handle(watch: HostWatch, event: EngineEvent): void {
    watch.handle(event);
    if (event.kind === "reap" || event.kind === "switch") this.#judge();
  }

  /** Looks again whether both hosts are Operational and send on paths that are up. */
  #judge(): void {
    this.#isWell = [this.#watchA, this.#watchB].every(({ operational, current }) =>
      operational && this.network.path(current.local, current.peer).up
    );
  }

  /** The smallest delay of the paths of one direction that are up. */
  #best(first: number): number {
    let best = Infinity;
    for (let number = first; number < first + this.pairs.length; number++) {
      const { up, delayMs } = this.#path(number);
      if (up) best = Math.min(best, delayMs);
    }
    return best;
  }

  #path(number: number) {
    const { local, peer } = this.pairs[number % this.pairs.length];
    return number < this.pairs.length ? this.network.path(local, peer) : this.network.path(peer, local);
  }

  #indexOf({ local, peer }: LocatorPair): number {
    return this.pairs.findIndex((pair) => pair.local === local && pair.peer === peer);
  }
}
