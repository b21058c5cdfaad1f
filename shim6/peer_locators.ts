/** What a context knows of its peer's locator set Ls(peer) (RFC 5533 §6.1). */

import type { Address } from "../wire/address.ts";
import { type LocatorList, type LocatorPreferences, PreferenceFlag } from "../wire/message.ts";
import type { ContextView } from "./api.ts";

/** Bits of the sets below: one per locator, and a bit operation sees 31 without a sign. */
export const MAX_PEER_LOCATORS = 31;

/** Octets kept of a locator's preferences: flags, priority, weight. */
const PREFERENCE = 3;

/** So many lists back a replay is recognised. */
const PAST_LISTS = 16;

/**
 * Locators of a peer as plain data: addresses; generation, locators announced, bits of those verified and of those proven;
 * then, where there are any, preferences, past generations and Parameter Data Structure.
 */
export type PeerLocatorsData = readonly [
  addresses: readonly Address[],
  bits: readonly [number, number, number, number],
  rare?: readonly [readonly number[] | null, readonly number[] | null, readonly number[] | null],
];

/**
 * A peer's locators in the order of its list. The list itself never changes, a new one is a new object. Flags are bits
 * of small integers, because there is one such object per context.
 */
export class PeerLocators {
  readonly addresses: readonly Address[];
  /** Generation of the list as a signed 32-bit number, which costs no heap object; 0 when no list was given. */
  readonly #generation: number;
  /** How many locators the list had; it may have been longer than what is kept. */
  readonly announced: number;
  readonly #verified: number;
  #proven = 0;
  #preferences: Uint8Array | undefined;
  /** Generations of the lists that this one replaced; undefined for the first. */
  #past: readonly number[] | undefined;
  /** The CGA Parameter Data Structure that came with the list or before it. */
  readonly pds: Uint8Array | undefined;

  private constructor(
    addresses: readonly Address[],
    verified: number,
    generation: number,
    announced: number,
    pds: Uint8Array | undefined,
  ) {
    this.addresses = addresses;
    this.#verified = verified;
    this.#generation = generation | 0;
    this.announced = announced;
    this.pds = pds;
  }

  /** From a Locator List that was verified; `verified` in the order of the list. At most `limit` locators are kept. */
  static fromList(
    ulid: Address,
    list: LocatorList,
    verified: readonly boolean[],
    pds: Uint8Array | undefined,
    limit: number,
  ): PeerLocators {
    const addresses: Address[] = []; // grows with room to spare; the copy below is exact
    let bits = 0;
    for (let i = 0; i < list.locators.length && addresses.length < limit; i++) {
      const { address } = list.locators[i];
      if (verified[i]) bits |= 1 << i;
      addresses.push(address === ulid ? ulid : compact(address)); // one string for both
    }
    return new PeerLocators(addresses.slice(), bits, list.generation, list.locators.length, pds);
  }

  /** Of a peer that sent no list: the ULID, and the address it sent from if that was verified (RFC 5533 §7.6). */
  static withoutList(ulid: Address, source: Address, sourceVerified: boolean): PeerLocators {
    const single = source === ulid || !sourceVerified;
    const addresses = single ? [ulid] : [ulid, compact(source)];
    return new PeerLocators(addresses, single ? 1 : 3, 0, addresses.length, undefined);
  }

  /** All of it as plain data. */
  toJSON(): PeerLocatorsData {
    const { addresses, announced, pds } = this;
    const bits = [this.#generation, announced, this.#verified, this.#proven] as const;
    const preferences = this.#preferences && [...this.#preferences];
    const rare = [preferences ?? null, this.#past ?? null, pds === undefined ? null : [...pds]] as const;
    return rare.every((each) => each === null) ? [addresses, bits] : [addresses, bits, rare];
  }

  /** From what {@linkcode toJSON} gave. */
  static fromJSON([addresses, bits, rare]: PeerLocatorsData): PeerLocators {
    const [generation, announced, verified, proven] = bits;
    const [preferences, past, pds] = rare ?? [null, null, null];
    const octets = pds === null ? undefined : Uint8Array.from(pds);
    const locators = new PeerLocators(addresses, verified, generation, announced, octets);
    locators.#proven = proven;
    locators.#preferences = preferences === null ? undefined : Uint8Array.from(preferences);
    locators.#past = past ?? undefined;
    return locators;
  }

  /**
   * The same text for every context with the same host, whichever ULID of it they have. Nobody can pass for another host by
   * naming its address: only verified ones count. A list may have none, and be empty; then the ULID is all there is.
   */
  hostKey(ulid: Address): Address {
    const verified = this.addresses.filter((_, i) => this.verifiedAt(i));
    return verified.length === 0 ? ulid : verified.reduce((first, address) => address < first ? address : first);
  }

  /** Whether the address is in the set. */
  has(address: Address): boolean {
    return this.addresses.includes(address);
  }

  /** Whether the address is in the set and bound to the ULID. */
  isVerified(address: Address): boolean {
    return this.verifiedAt(this.addresses.indexOf(address));
  }

  /** As {@linkcode isVerified}, by place in the list. */
  verifiedAt(index: number): boolean {
    return index >= 0 && (this.#verified & 1 << index) !== 0;
  }

  /** Whether every locator is verified. */
  get allVerified(): boolean {
    return this.#verified === (1 << this.addresses.length) - 1;
  }

  /** Whether a probe of ours to this address was reported back, so that the peer does receive there (RFC 5533 §7.2). */
  isProven(address: Address): boolean {
    const index = this.addresses.indexOf(address);
    return index >= 0 && (this.#proven & 1 << index) !== 0;
  }

  /** Notes that the peer receives at this address. */
  prove(address: Address): void {
    const index = this.addresses.indexOf(address);
    if (index >= 0) this.#proven |= 1 << index;
  }

  /** Takes over what was learned about addresses that are in both sets. */
  inherit(previous: PeerLocators): void {
    for (const address of previous.addresses) if (previous.isProven(address)) this.prove(address);
  }

  /** Notes that this list replaces `previous` by an Update Request. */
  replace(previous: PeerLocators): void {
    this.inherit(previous);
    this.#past = previous.#past;
    // 0 is also that of a peer which had sent no list: its first one may have any generation.
    if (previous.#generation === this.#generation || previous.#generation === 0) return;
    this.#past = [previous.#generation, ...previous.#past ?? []].slice(0, PAST_LISTS);
  }

  /** Whether a list of this generation was replaced by this one or one before it: who sends it again is not the peer. */
  isPast(generation: number): boolean {
    return this.#past?.includes(generation | 0) ?? false;
  }

  /** Whether both hold the same addresses in the same order, equally verified. */
  sameAs(other: PeerLocators): boolean {
    return this.#verified === other.#verified && this.addresses.length === other.addresses.length &&
      this.addresses.every((address, i) => address === other.addresses[i]);
  }

  /** Whether preferences for list `generation` are about this list (RFC 5533 §10.4). */
  isGeneration(generation: number): boolean {
    return this.#generation === (generation | 0);
  }

  /** Stores preferences; the caller has checked generation and count. Returns whether they changed anything. */
  setPreferences(preferences: LocatorPreferences): boolean {
    const values = new Uint8Array(PREFERENCE * this.addresses.length);
    for (let i = 0; i < this.addresses.length; i++) {
      const element = preferences.elements[i];
      for (let k = 0; k < PREFERENCE; k++) values[PREFERENCE * i + k] = element[k] ?? 0;
    }
    const before = this.#preferences;
    if (before === undefined ? values.every((value) => value === 0) : values.every((value, i) => value === before[i])) {
      return false;
    }
    this.#preferences = values;
    return true;
  }

  /** Whether the peer marked the locator as BROKEN. */
  isBroken(index: number): boolean {
    return ((this.#preferences?.[PREFERENCE * index] ?? 0) & PreferenceFlag.BROKEN) !== 0;
  }

  /** Whether the peer marked the locator as TRANSIENT. */
  isTransient(index: number): boolean {
    return ((this.#preferences?.[PREFERENCE * index] ?? 0) & PreferenceFlag.TRANSIENT) !== 0;
  }

  /** Priority by SRV rules, lower first (RFC 5533 §5.15.3). */
  priority(index: number): number {
    return this.#preferences?.[PREFERENCE * index + 1] ?? 0;
  }

  /** Weight by SRV rules: share among locators of the same priority. */
  weight(index: number): number {
    return this.#preferences?.[PREFERENCE * index + 2] ?? 0;
  }

  /** What the console shows of a locator. */
  view(index: number): ContextView["peerLocators"][number] {
    const address = this.addresses[index], verified = this.verifiedAt(index);
    if (this.#preferences === undefined) return { address, verified };
    const preference = {
      priority: this.priority(index),
      weight: this.weight(index),
      transient: this.isTransient(index),
      broken: this.isBroken(index),
    };
    return { address, verified, preference };
  }
}

/**
 * The same address in one piece. Text that was put together from parts is kept by V8 as a tree of them, ten times as
 * large, until somebody needs it in one piece.
 */
export function compact(address: Address): Address {
  return address.split(":").join(":");
}
