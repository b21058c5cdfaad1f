/** This host's locator set Ls(local) and how it is told to peers (RFC 5533 §5.15.2, §5.15.3). */

import { type Address, isLocatorScope } from "../wire/address.ts";
import { type LocatorList, type LocatorPreferences, PreferenceFlag } from "../wire/message.ts";
import type { LocalLocator } from "./api.ts";

/** The most locators that are announced: SHIM_MAX_LOCATORS (RFC 6316). They fit into every message. */
const MAX_LOCATORS = 32;
/** Priority of a locator that has none of its own; one octet on the wire. */
const DEFAULT_PRIORITY = 100;

/** One state of the locator set. Immutable, and shared by all contexts that know it. */
export class LocalLocators {
  /** In the order of the announced list. */
  readonly all: readonly LocalLocator[];
  /** Random per list of addresses, so that nobody can guess it (RFC 5533 §10.1). */
  readonly generation: number;

  constructor(locators: readonly LocalLocator[], generation: number) {
    this.all = locators.filter((locator) => isLocatorScope(locator.address)).slice(0, MAX_LOCATORS);
    this.generation = generation;
  }

  /** The locator with this address. */
  get(address: Address): LocalLocator | undefined {
    for (const locator of this.all) if (locator.address === address) return locator;
  }

  /** Whether the address is one of this host's. */
  has(address: Address): boolean {
    return this.get(address) !== undefined;
  }

  /** Whether packets can be sent from the address now. */
  isUsable(address: Address): boolean {
    return this.get(address)?.usable ?? false;
  }

  /** Whether both hold the same addresses in the same order, so that the generation can stay. */
  sameAddresses(other: LocalLocators): boolean {
    return this.all.length === other.all.length &&
      this.all.every((locator, i) => locator.address === other.all[i].address);
  }

  /** Whether both tell a peer the same preferences. Only asked when the addresses are the same. */
  samePreferences(other: LocalLocators): boolean {
    return this.all.every((locator, i) =>
      locator.usable === other.all[i].usable && priorityOf(locator) === priorityOf(other.all[i])
    );
  }

  /** The Locator List option; `method` is how peers can verify the locators. */
  list(method: number): LocatorList {
    return { generation: this.generation, locators: this.all.map(({ address }) => ({ address, method })) };
  }

  /** The Locator Preferences option: flags and priority. Undefined when there is nothing to say. */
  preferences(): LocatorPreferences | undefined {
    const plain = this.all.every((locator) => locator.usable && priorityOf(locator) === DEFAULT_PRIORITY);
    return plain ? undefined : this.explicitPreferences();
  }

  /** As {@linkcode preferences}, also when it only takes back what an earlier one said. */
  explicitPreferences(): LocatorPreferences {
    return {
      generation: this.generation,
      elementLength: 2,
      elements: this.all.map((locator) => [locator.usable ? 0 : PreferenceFlag.BROKEN, priorityOf(locator)]),
    };
  }
}

/** Lower is better; a deprecated address only when nothing else is left. */
export function priorityOf(locator: LocalLocator): number {
  const priority = Math.min(255, Math.max(0, Math.round(locator.priority ?? DEFAULT_PRIORITY)));
  return locator.deprecated ? 255 : priority;
}
