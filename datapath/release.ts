/** Which of the held copies are worth sending again. */

import { IPV6_HEADER_LENGTH, Ipv6Offset } from "../wire/ipv6.ts";
import { type HoldStore, NONE } from "./hold.ts";
import type { PacketMemory } from "./packet_memory.ts";
import { Protocol } from "./segment.ts";

/**
 * A TCP segment may live for two minutes (RFC 9293 §3.4.3), and after a long outage TCP's own timer is as slow: the
 * copy of its last attempt is what gets it going.
 */
const TCP_LIFETIME_MS = 120_000;
const TCP_SEQUENCE = 4, TCP_DATA_OFFSET = 12, TCP_FLAGS = 13;

/** Judges the copies of one context at the moment of release. */
export class ReleaseFilter {
  /** Copies refused because they were too old. */
  stale = 0;
  readonly #memory: PacketMemory;
  readonly #hold: HoldStore;
  readonly #lead: number;
  readonly #heard: number;
  readonly #now: number;
  readonly #datagramLifetime: number;
  /** The newest copy that says the same, by flow, sequence number and length. */
  readonly #newest = new Map<string, number>();

  /**
   * `lead` octets of each copy stand before its packet; the peer was last heard at `heard`. Copies of datagrams are good
   * for `datagramLifetime` ms.
   */
  constructor(
    memory: PacketMemory,
    hold: HoldStore,
    context: number,
    lead: number,
    heard: number,
    now: number,
    datagramLifetime: number,
  ) {
    this.#datagramLifetime = datagramLifetime;
    this.#memory = memory;
    this.#hold = hold;
    this.#lead = lead;
    this.#heard = heard;
    this.#now = now;
    for (let copy = hold.first(context); copy !== NONE; copy = hold.next(copy)) {
      const key = this.#tcpKey(copy);
      if (key !== undefined) this.#newest.set(key, copy);
    }
  }

  /** Whether a copy is to be sent: sent since the peer was heard, not too old, and no repetition of it is newer. */
  passes(copy: number): boolean {
    const time = this.#hold.time(copy);
    if (time <= this.#heard) return false;
    const key = this.#tcpKey(copy);
    if (this.#now - time > (key === undefined ? this.#datagramLifetime : TCP_LIFETIME_MS)) {
      this.stale++;
      return false;
    }
    return key === undefined || this.#newest.get(key) === copy;
  }

  /** What a TCP segment says; of those without data, only the last one of a flow with the same flags matters. */
  #tcpKey(copy: number): string | undefined {
    const { bytes, view } = this.#memory;
    const start = this.#hold.offset(copy) + this.#lead, tcp = start + IPV6_HEADER_LENGTH;
    const length = this.#hold.length(copy) - this.#lead;
    if (bytes[start + Ipv6Offset.NextHeader] !== Protocol.TCP || length < IPV6_HEADER_LENGTH + 20) return undefined;
    const payload = length - IPV6_HEADER_LENGTH - (bytes[tcp + TCP_DATA_OFFSET] >> 4) * 4;
    const flow = view.getUint32(tcp);
    return payload > 0
      ? `${flow} ${view.getUint32(tcp + TCP_SEQUENCE)} ${payload}`
      : `${flow} ${bytes[tcp + TCP_FLAGS]}`;
  }
}
