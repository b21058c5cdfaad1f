/**
 * Which addresses of this host are locators now (RFC 5534 §3.1, §3.2): the driver waits on {@linkcode LocatorWatch.fd}
 * beside everything else, so that a link that goes down is known at once, long before any timer of REAP.
 *
 * An event only says that something changed. What is true is then read from the kernel as a whole: there is no second
 * copy of its state that could drift away, and lost events cost nothing but the same reading.
 *
 * The kernel reports a lost carrier at once, unless it reported one within the last second (its linkwatch spares
 * everybody a flapping cable): then it may take that second. Administrative changes are always immediate.
 */

import { type InterfaceAddress, type Link, monotonicNow, type Netlink, NetlinkEvents } from "deno-tun";
import type { LocalLocator } from "../shim6/api.ts";
import { type Address, isLocatorScope } from "../wire/address.ts";

/**
 * An address that went with its link is awaited so long (ms) after the link is back: three router solicitations
 * (RFC 4861 §10), duplicate address detection, and a slow DHCPv6 server fit into it.
 */
const RETURN_MS = 30_000;

/** What counts as a locator. */
export interface LocatorWatchOptions {
  /** Only addresses of these interfaces; all when absent or empty. */
  readonly interfaces?: readonly string[];
  /** Only these addresses; all when absent or empty. */
  readonly locators?: readonly Address[];
  /** Interfaces that never count: the agent's own device when absent. */
  readonly exclude?: readonly string[];
  /** Privacy addresses (RFC 8981) count too. They come and go, so they make poor ULIDs. */
  readonly temporary?: boolean;
}

interface Known extends LocalLocator {
  /** When its link was first seen running without it; undefined while the address is there or the link is down. */
  readonly missingSince?: number;
}

/** Follows the addresses of the calling thread's network namespace. */
export class LocatorWatch {
  readonly #netlink: Netlink;
  readonly #events: NetlinkEvents;
  readonly #interfaces: ReadonlySet<string>;
  readonly #wanted: ReadonlySet<Address>;
  readonly #excluded: ReadonlySet<string>;
  readonly #temporary: boolean;
  /** In the order in which they were first seen. */
  #known = new Map<Address, Known>();

  /** Both sockets must belong to the same network namespace. Throws `SystemError`. */
  constructor(netlink: Netlink, options: LocatorWatchOptions = {}) {
    this.#netlink = netlink;
    this.#interfaces = new Set(options.interfaces);
    this.#wanted = new Set(options.locators);
    this.#excluded = new Set(options.exclude ?? ["shim0"]);
    this.#temporary = options.temporary ?? false;
    this.#events = new NetlinkEvents(); // before the first reading, so that nothing falls between
    try {
      this.#known = this.#look(new Set());
    } catch (error) {
      this.#events.close();
      throw error;
    }
  }

  /** Readable when something may have changed: call {@linkcode read}. */
  get fd(): number {
    return this.#events.fd;
  }

  /** Takes in what has changed. Returns whether {@linkcode locators} now says something else. Throws `SystemError`. */
  read(): boolean {
    let changed = false;
    /** Links that were down in the meantime, though they may be up again by now. */
    const flapped = new Set<number>();
    for (let event = this.#events.next(); event !== undefined; event = this.#events.next()) {
      changed = true;
      if (event.type === "link" && !(event.link.up && event.link.running)) flapped.add(event.link.index);
    }
    if (!changed) return false;
    const before = this.locators();
    this.#known = this.#look(flapped);
    return !sameLocators(before, this.locators());
  }

  /**
   * The locators, first seen first. One that went away together with its link (the kernel takes the addresses of an
   * interface that is set down) stays in the list as not usable, since it comes back with the link; one that was removed
   * from a running interface is gone.
   */
  locators(): LocalLocator[] {
    return Array.from(this.#known.values(), ({ missingSince: _, ...locator }) => locator);
  }

  /** Stops following. */
  close(): void {
    this.#events.close();
  }

  #look(flapped: ReadonlySet<number>): Map<Address, Known> {
    // Addresses first: should a link go down between the two, its addresses must not seem removed from a running link.
    const addresses = this.#netlink.addresses();
    const links = new Map(this.#netlink.links().map((link) => [link.index, link]));
    const present = new Map<Address, LocalLocator>();
    for (const entry of addresses) {
      const link = links.get(entry.index);
      if (link === undefined || !this.#counts(link, entry)) continue;
      // The same address may be on two interfaces: the one that works counts.
      if (present.get(entry.address)?.usable) continue;
      present.set(entry.address, {
        address: entry.address,
        interfaceIndex: link.index,
        interfaceName: link.name,
        usable: link.up && link.running && !entry.tentative && !entry.dadFailed,
        deprecated: entry.deprecated,
      });
    }

    const now = monotonicNow();
    const known = new Map<Address, Known>();
    for (const old of this.#known.values()) {
      const locator = present.get(old.address) ??
        lost(old, links.get(old.interfaceIndex), flapped.has(old.interfaceIndex), now);
      if (locator !== undefined) known.set(old.address, locator);
    }
    for (const locator of present.values()) {
      // One that has never been usable is no locator yet: tentative, or its link has never been up.
      if (locator.usable) known.set(locator.address, locator);
    }
    return known;
  }

  #counts(link: Link, entry: InterfaceAddress): boolean {
    if (link.loopback || this.#excluded.has(link.name)) return false;
    if (this.#interfaces.size > 0 && !this.#interfaces.has(link.name)) return false;
    if (entry.scope !== "global" || !isLocatorScope(entry.address)) return false;
    if (this.#wanted.size > 0) return this.#wanted.has(entry.address);
    return !entry.temporary || this.#temporary;
  }
}

/** What becomes of a locator whose address is no longer there: undefined when it is gone for good. */
function lost(old: Known, link: Link | undefined, flapped: boolean, now: number): Known | undefined {
  const { missingSince, ...locator } = old;
  const unusable = { ...locator, usable: false };
  if (link === undefined || !link.up || !link.running) return unusable;
  if (old.usable && !flapped) return undefined; // the link has run all the time: somebody removed the address
  const since = missingSince ?? now;
  return now - since < RETURN_MS ? { ...unusable, missingSince: since } : undefined;
}

function sameLocators(a: readonly LocalLocator[], b: readonly LocalLocator[]): boolean {
  return a.length === b.length && a.every((one, i) => {
    const other = b[i];
    return one.address === other.address && one.interfaceIndex === other.interfaceIndex &&
      one.interfaceName === other.interfaceName && one.usable === other.usable && one.deprecated === other.deprecated;
  });
}
