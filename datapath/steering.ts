/**
 * Steering: which ULID pairs the kernel hands to the agent's device instead of sending them natively.
 *
 * A steered pair is a route `peer/128 from ULID/128 dev shim0` with the MTU of the pair, as a lease: its lifetime is
 * short and renewed, so that a hung agent stops steering by itself. The routes stand in a table of their own, asked
 * before all others by a rule: many multihomed hosts choose the exit by rules of their own (`from PREFIX lookup N`),
 * and those would never get as far as a route of ours in the main table. The rule exists only while something is
 * steered; left behind by a killed agent it points to an empty table and does no harm.
 *
 * A connected socket keeps the route it has found until the kernel says that it is stale. A new, more specific route
 * does not make it stale when the old one stands in another table, or below another source prefix, which is the rule on
 * a multihomed host. Rules that change make everything stale; so after a new route a rule is changed that means nothing.
 */

import { type Netlink, type Route, type RouteSpec, type RuleSpec } from "deno-tun";
import { type LocatorPair, pairKey } from "../policies/policy.ts";
import type { Address } from "../wire/address.ts";

/** `rtm_protocol` of the steering routes. No routing daemon in /etc/iproute2/rt_protos has it. */
export const STEERING_PROTOCOL = 146;
/** The table of the steering routes: the number of the RFC. */
export const STEERING_TABLE = 5533;
/** Priority of the rule that asks this table: soon after the one for local addresses, which has 0. */
export const STEERING_PRIORITY = 5;
const RULE: RuleSpec = { table: STEERING_TABLE, priority: STEERING_PRIORITY };
const MEANINGLESS_RULE: RuleSpec = { table: STEERING_TABLE, priority: STEERING_PRIORITY + 1 };
/** The shortest lifetime that survives one missed renewal (one each 0.7 s) and a busy moment: the kernel counts seconds. */
const LEASE_SECONDS = 2;
/** Before any other route in the table, though nobody else should put one there. */
const METRIC = 1;

/** Steers ULID pairs into one device. */
export class Steering {
  readonly #netlink: Netlink;
  readonly #device: number;
  readonly #ulids = new Map<Address, number>();
  readonly #leases = new Map<string, RouteSpec>();
  /** Cached routes have been made stale in this turn of the event loop. */
  #staleMadeNow = false;
  /** They must be made stale once more. */
  #staleWanted = false;

  /** `deviceIndex` is the interface index of the agent's device. Nothing is changed yet. */
  constructor(netlink: Netlink, deviceIndex: number) {
    this.#netlink = netlink;
    this.#device = deviceIndex;
  }

  /**
   * Keeps a ULID on the device, so that its flows outlive the interface it belongs to. Deprecated, so that no new flow
   * chooses it from there. Counted: as many {@linkcode removeUlid} take it away. Throws `NetlinkError`.
   */
  addUlid(address: Address): void {
    const users = this.#ulids.get(address) ?? 0;
    if (users === 0) {
      this.#netlink.addAddress(this.#device, address, 128, {
        nodad: true,
        noPrefixRoute: true,
        preferredLifetime: 0,
      });
    }
    this.#ulids.set(address, users + 1);
  }

  /** The counterpart of {@linkcode addUlid}. */
  removeUlid(address: Address): void {
    const users = this.#ulids.get(address);
    if (users === undefined) return;
    if (users > 1) {
      this.#ulids.set(address, users - 1);
      return;
    }
    this.#ulids.delete(address);
    this.#netlink.deleteAddress(this.#device, address, 128);
  }

  /**
   * Steers a pair, or changes the MTU (octets) of one that is steered. Connected sockets follow with their next packet; of
   * several pairs steered in one go all but the first wait for the end of this turn of the event loop. The lease holds for
   * two seconds from here. Throws `NetlinkError`.
   */
  steer(ulid: LocatorPair, mtu: number): void {
    const key = pairKey(ulid);
    const lease: RouteSpec = {
      destination: { address: ulid.peer, length: 128 },
      source: { address: ulid.local, length: 128 },
      dev: this.#device,
      table: STEERING_TABLE,
      protocol: STEERING_PROTOCOL,
      metric: METRIC,
      expires: LEASE_SECONDS,
      mtu,
    };
    const known = this.#leases.has(key);
    const native = known ? undefined : this.#netlink.lookupRoute(ulid.peer, { source: ulid.local });
    this.#netlink.replaceRoute(lease);
    this.#leases.set(key, lease);
    if (known) return;
    if (this.#leases.size > 1 || !this.#netlink.addRule(RULE)) this.#makeCachedRoutesStale();
    if (native !== undefined) this.#dropWaiting(native, ulid.peer);
  }

  /**
   * Drops what waits for a next hop that does not answer, as behind a link that has lost its carrier. It would wait for
   * three seconds, and until then TCP does not send it again: to TCP it is still on its way out.
   */
  #dropWaiting({ dev, via }: Route, peer: Address): void {
    if (dev === undefined || dev === this.#device) return;
    const nextHop = via ?? peer;
    const neighbour = this.#netlink.neighbour(dev, nextHop);
    if (neighbour?.valid === false) this.#netlink.deleteNeighbour(dev, nextHop);
  }

  /** Gives a pair back to the kernel's own path. */
  unsteer(ulid: LocatorPair): void {
    const key = pairKey(ulid);
    const lease = this.#leases.get(key);
    if (lease === undefined) return;
    this.#leases.delete(key);
    this.#netlink.deleteRoute(lease);
    if (this.#leases.size === 0) this.#removeRules();
  }

  /**
   * Renews all leases, and sets again what somebody else removed, as network managers do when they start. Due at least
   * once a second. Tries all of them, then throws the first `NetlinkError`, if any.
   */
  renew(): void {
    if (this.#leases.size === 0) return;
    this.#netlink.addRule(RULE);
    let failure: unknown;
    for (const lease of this.#leases.values()) {
      try {
        this.#netlink.refreshRoute(lease);
      } catch (error) {
        failure ??= error;
      }
    }
    // Each time: a socket that connects without a source address looks its route up before it has one, so it finds the
    // ordinary route and keeps it. When leases lapsed, sockets have gone back meanwhile as well.
    this.#changeMeaninglessRule();
    if (failure !== undefined) throw failure;
  }

  /** Removes all routes, rules and addresses. The device stays: it is its owner's. */
  close(): void {
    for (const lease of this.#leases.values()) this.#netlink.deleteRoute(lease);
    this.#leases.clear();
    this.#removeRules();
    for (const address of this.#ulids.keys()) this.#netlink.deleteAddress(this.#device, address, 128);
    this.#ulids.clear();
  }

  /**
   * Removes what a killed agent left behind: steering routes, rules, and the device when it is a virtual one. Only when
   * no other agent runs in this network namespace. Returns how many things were removed. Throws `NetlinkError`.
   */
  static removeLeftovers(netlink: Netlink, deviceName: string): number {
    let removed = 0;
    for (const rule of [RULE, MEANINGLESS_RULE]) while (netlink.deleteRule(rule)) removed++;
    for (const route of netlink.routes({ protocol: STEERING_PROTOCOL })) {
      const { destination, source, table, metric, dev } = route;
      if (netlink.deleteRoute({ destination, source, table, metric, dev, protocol: STEERING_PROTOCOL })) removed++;
    }
    const device = netlink.link(deviceName);
    if (device !== undefined && (device.kind === "veth" || device.kind === "tun")) {
      if (netlink.deleteLink(device.index)) removed++;
    }
    return removed;
  }

  /**
   * Costs time in proportion to all routes of the host (18 ms with 100 000), so a provider that takes a thousand contexts
   * along must not ask for it a thousand times.
   */
  #makeCachedRoutesStale(): void {
    if (this.#staleMadeNow) {
      this.#staleWanted = true;
      return;
    }
    this.#changeMeaninglessRule();
    this.#staleMadeNow = true;
    queueMicrotask(() => {
      this.#staleMadeNow = false;
      try {
        this.makeStale();
      } catch {
        // It is still wanted: the next renewal tries again, and reports what is wrong.
      }
    });
  }

  /** Makes connected sockets follow to all pairs that have been steered, without waiting for the end of this turn. */
  makeStale(): void {
    if (this.#staleWanted && this.#leases.size > 0) this.#changeMeaninglessRule();
  }

  #changeMeaninglessRule(): void {
    if (!this.#netlink.deleteRule(MEANINGLESS_RULE)) this.#netlink.addRule(MEANINGLESS_RULE);
    this.#staleWanted = false;
  }

  #removeRules(): void {
    for (const rule of [RULE, MEANINGLESS_RULE]) this.#netlink.deleteRule(rule);
    this.#staleWanted = false;
  }
}
