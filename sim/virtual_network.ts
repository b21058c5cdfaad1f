/**
 * Hosts that run the real engine over a network of unidirectional paths in virtual time. One path per ordered address
 * pair, each with its own delay, loss and reordering, each of which can be cut. Same seed, same run.
 */

import type { LocatorPair } from "../policies/policy.ts";
import type { Address } from "../wire/address.ts";
import type { ContextTag } from "../wire/message.ts";
import { SeededRandom } from "./random.ts";
import { VirtualClock } from "./virtual_clock.ts";
import { VirtualHost, type VirtualHostOptions } from "./virtual_host.ts";

export type { TrafficStatistics, VirtualHostOptions } from "./virtual_host.ts";
export { VirtualHost } from "./virtual_host.ts";

/** A unidirectional path. Change it at will while the network runs. */
export interface VirtualPath {
  up: boolean;
  delayMs: number;
  /** Up to so much is added to the delay of each packet, so that packets overtake each other. */
  jitterMs: number;
  /** Share of packets that are lost, 0 … 1. */
  loss: number;
}

/** A packet of an application between two ULIDs, as it travels. */
export interface VirtualPayload {
  readonly ulid: { readonly source: Address; readonly destination: Address };
  readonly flow: number;
  readonly sequence: number;
  readonly bytes: number;
  /** When the application sent it. */
  readonly sentAt: number;
}

/** What travels on a path. */
export type VirtualPacket =
  & { readonly source: Address; readonly destination: Address }
  & (
    | { readonly kind: "control"; readonly octets: Uint8Array }
    /** With a tag when a payload header is present. */
    | { readonly kind: "payload"; readonly payload: VirtualPayload; readonly tag: ContextTag | undefined }
    /** ICMPv6 Parameter Problem: "I know no next header 140". Quotes a packet from `destination` to `source`. */
    | { readonly kind: "no-shim6"; readonly tag: ContextTag | undefined }
  );

/** How to build a network. The values are those of a path until it is changed. */
export interface VirtualNetworkOptions extends Partial<VirtualPath> {
  readonly seed: number;
}

/** The network and its clock. */
export class VirtualNetwork {
  readonly clock = new VirtualClock();
  readonly random: SeededRandom;
  readonly hosts: VirtualHost[] = [];
  /** Sees each packet as it is sent; returning false loses it. */
  filter: ((packet: VirtualPacket, now: number) => boolean) | undefined;
  readonly #paths = new Map<string, VirtualPath>();
  readonly #owners = new Map<Address, VirtualHost>();
  readonly #defaults: VirtualPath;
  #flows = 0;

  constructor({ seed, up = true, delayMs = 1, jitterMs = 0, loss = 0 }: VirtualNetworkOptions) {
    this.random = new SeededRandom(seed);
    this.#defaults = { up, delayMs, jitterMs, loss };
  }

  /** Adds a host with these addresses, each on an interface of its own, and starts its agent. */
  addHost(name: string, addresses: readonly Address[], options: VirtualHostOptions = {}): VirtualHost {
    const host = new VirtualHost(this, name, addresses, options);
    this.hosts.push(host);
    for (const address of addresses) this.own(address, host);
    host.startAgent();
    return host;
  }

  /** A number for a new flow. */
  newFlow(): number {
    return ++this.#flows;
  }

  /** Packets to `address` reach `host` from now on. */
  own(address: Address, host: VirtualHost): void {
    this.#owners.set(address, host);
  }

  /** The path from one address to another. */
  path(source: Address, destination: Address): VirtualPath {
    const key = source + ">" + destination;
    let path = this.#paths.get(key);
    if (path === undefined) this.#paths.set(key, path = { ...this.#defaults });
    return path;
  }

  /** Cuts the path of a pair, as its sender sees it; with `bothWays` also the reverse. */
  cut(pair: LocatorPair, bothWays = false): void {
    this.path(pair.local, pair.peer).up = false;
    if (bothWays) this.path(pair.peer, pair.local).up = false;
  }

  /** Mends the path of a pair; with `bothWays` also the reverse. */
  mend(pair: LocatorPair, bothWays = false): void {
    this.path(pair.local, pair.peer).up = true;
    if (bothWays) this.path(pair.peer, pair.local).up = true;
  }

  /** Mends every path. */
  mendAll(): void {
    for (const path of this.#paths.values()) path.up = true;
  }

  /** Puts a packet on its path. */
  send(packet: VirtualPacket): void {
    if (this.filter !== undefined && !this.filter(packet, this.clock.now)) return;
    const { up, delayMs, jitterMs, loss } = this.path(packet.source, packet.destination);
    if (!up || loss > 0 && this.random.next() < loss) return;
    const delay = jitterMs > 0 ? delayMs + jitterMs * this.random.next() : delayMs;
    this.clock.after(delay, () => this.#owners.get(packet.destination)?.receive(packet));
  }

  /** Lets time pass. */
  run(ms: number): void {
    this.clock.runUntil(this.clock.now + ms);
  }

  /** Lets time pass until `done` holds, at most `limitMs`. Returns whether it holds. */
  runUntil(done: () => boolean, limitMs: number): boolean {
    const limit = this.clock.now + limitMs;
    while (!done()) {
      if (this.clock.next > limit) {
        this.clock.runUntil(limit);
        return done();
      }
      this.clock.step();
    }
    return true;
  }
}

/** All ordered pairs between two address lists. */
export function allPairs(local: readonly Address[], peer: readonly Address[]): LocatorPair[] {
  return local.flatMap((l) => peer.map((p) => ({ local: l, peer: p })));
}
