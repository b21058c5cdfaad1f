/** This host's locator set Ls(local) and what of it is told to peers (RFC 5533 §5.15.2, §5.15.3). */

import { type Address, isLocatorScope } from "../wire/address.ts";
import { type LocatorPreferences, PreferenceFlag } from "../wire/message.ts";
import type { LocalLocator } from "./api.ts";

/** The most locators that are used: SHIM_MAX_LOCATORS (RFC 6316). */
const MAX_LOCATORS = 32;
/** Priority of a locator that has none of its own; one octet on the wire. */
const DEFAULT_PRIORITY = 100;

/** One state of the locator set. Immutable, and shared by all contexts that know it. */
export class LocalLocators {
  /** All that packets may be sent from. */
  readonly all: readonly LocalLocator[];
  /** Those that peers are told of, in the order of the Locator List. */
  readonly announced: readonly LocalLocator[];
  /** Random per list of addresses, so that nobody can guess it (RFC 5533 §10.1). */
  readonly generation: number;

  /** `covers`: whether a peer can be made to believe in the address. */
  constructor(locators: readonly LocalLocator[], generation: number, covers: (address: Address) => boolean) {
    this.all = locators.filter((locator) => isLocatorScope(locator.address)).slice(0, MAX_LOCATORS);
    this.announced = this.all.filter((locator) => covers(locator.address));
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

  /** Whether peers are told of the address. */
  announces(address: Address): boolean {
    return this.announced.some((locator) => locator.address === address);
  }

  /** Whether both hold the same addresses in the same order. */
  sameAddresses(other: LocalLocators): boolean {
    return sameAddresses(this.all, other.all);
  }

  /** Whether both hold the same locators in the same order, equally usable and preferred. */
  sameAs(other: LocalLocators): boolean {
    return this.sameAddresses(other) && samePreferences(this.all, other.all);
  }

  /** Whether peers are told the same addresses in the same order, so that the generation can stay. */
  sameList(other: LocalLocators): boolean {
    return sameAddresses(this.announced, other.announced);
  }

  /** Whether peers are told the same preferences. Only asked when the lists are the same. */
  samePreferences(other: LocalLocators): boolean {
    return samePreferences(this.announced, other.announced);
  }

  /** The Locator Preferences option. Undefined when there is nothing to say. */
  preferences(): LocatorPreferences | undefined {
    const plain = this.announced.every((locator) =>
      locator.usable && priorityOf(locator) === DEFAULT_PRIORITY && !locator.transient && weightOf(locator) === 0
    );
    return plain ? undefined : this.explicitPreferences();
  }

  /** As {@linkcode preferences}, also when it only takes back what an earlier one said. */
  explicitPreferences(): LocatorPreferences {
    const withWeights = this.announced.some((locator) => weightOf(locator) > 0);
    return {
      generation: this.generation,
      elementLength: withWeights ? 3 : 2,
      elements: this.announced.map((locator) => {
        const flags = (locator.usable ? 0 : PreferenceFlag.BROKEN) | (locator.transient ? PreferenceFlag.TRANSIENT : 0);
        return [flags, priorityOf(locator), ...withWeights ? [weightOf(locator)] : []];
      }),
    };
  }
}

/** Lower is better; a deprecated address only when nothing else is left. */
export function priorityOf(locator: LocalLocator): number {
  const priority = Math.min(255, Math.max(0, Math.round(locator.priority ?? DEFAULT_PRIORITY)));
  return locator.deprecated ? 255 : priority;
}

/** Share among locators of the same priority. */
export function weightOf(locator: LocalLocator): number {
  return Math.min(255, Math.max(0, Math.round(locator.weight ?? 0)));
}

function sameAddresses(a: readonly LocalLocator[], b: readonly LocalLocator[]): boolean {
  return a.length === b.length && a.every((locator, i) => locator.address === b[i].address);
}

function samePreferences(a: readonly LocalLocator[], b: readonly LocalLocator[]): boolean {
  return a.every((locator, i) =>
    locator.usable === b[i].usable && priorityOf(locator) === priorityOf(b[i]) &&
    weightOf(locator) === weightOf(b[i]) && (locator.transient ?? false) === (b[i].transient ?? false)
  );
}
