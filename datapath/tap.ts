/**
 * Accounting by a packet socket, where eBPF cannot be used. The kernel copies the headers of payload packets on the
 * watched interfaces into a ring; they are counted when someone asks, all that have come in at once.
 *
 * What a fast flow costs is bounded: the ring holds {@linkcode RING_PACKETS} packets and is emptied at most every
 * {@linkcode BATCH_INTERVAL} ms. What does not fit is lost, which is harmless here: figures are then too low, and a time
 * stamp is older than the truth by no more than the time since the ring ran full.
 */

import { Ancillary, type ClassicInstruction, ClassicOpcode, monotonicNow, PacketRing } from "deno-tun";
import type { LocatorPair } from "../policies/policy.ts";
import type { Activity, FlowObservation } from "../shim6/api.ts";
import { AccountedPairs } from "./accounted_pairs.ts";
import { type Accounting, MAX_CONTEXTS, MAX_FLOWS, settle } from "./accounting.ts";
import { FlowTable } from "./flow_table.ts";

/** Packets between two readings. At 20 ms this is 200,000 a second, or tens of Gbit/s of super-packets. */
const RING_PACKETS = 4096;

/** Reading more often than this (ms) yields the same figures again. */
const BATCH_INTERVAL = 20;

/** IPv6 header, Fragment header, ports. */
const SNAP_LENGTH = 40 + 8 + 4;

/**
 * The socket tells the length of a super-packet, not that of its segments. This is what a segment has on nearly every
 * path of the Internet.
 */
const USUAL_MTU = 1500;

const ETHERTYPE_IPV6 = 0x86dd;
const PACKET_HOST = 0, PACKET_OUTGOING = 4;
const VLAN_ID_MASK = 0x0fff;
const NEXT_HEADER = 6, SOURCE = 8, DESTINATION = 24, HEADER_LENGTH = 40;
const NEXT_HEADER_TCP = 6, NEXT_HEADER_UDP = 17, NEXT_HEADER_FRAGMENT = 44, NEXT_HEADER_ICMPV6 = 58;
const ND_FIRST_TYPE = 133, ND_LAST_TYPE = 137;

// The figures of a context, in doubles.
const LAST_SENT = 0, LAST_RECEIVED = 1, FIRST_UNANSWERED = 2, FIRST_UNREPLIED = 3;
const SENT_PACKETS = 4, SENT_BYTES = 5, RECEIVED_PACKETS = 6, RECEIVED_BYTES = 7;
const CONTEXT_FIGURES = 8;

/** Passes headers of unicast IPv6 payload on the interfaces, sent by or meant for this host; Shim6 is `protocol`. */
export function tapFilter(interfaceIndexes: Iterable<number>, protocol: number): ClassicInstruction[] {
  const {
    LOAD_WORD,
    LOAD_HALF,
    LOAD_OCTET,
    AND,
    JUMP_IF_EQUAL,
    JUMP_IF_AT_LEAST,
    JUMP_IF_GREATER,
    JUMP_IF_SET,
    RETURN,
  } = ClassicOpcode;
  const drop: ClassicInstruction = [RETURN, 0, 0, 0];
  const filter: ClassicInstruction[] = [
    [LOAD_WORD, 0, 0, Ancillary.PROTOCOL],
    [JUMP_IF_EQUAL, 1, 0, ETHERTYPE_IPV6],
    drop,
    [LOAD_WORD, 0, 0, Ancillary.PACKET_TYPE],
    [JUMP_IF_EQUAL, 2, 0, PACKET_HOST],
    [JUMP_IF_EQUAL, 1, 0, PACKET_OUTGOING],
    drop,
    // A tagged packet belongs to a VLAN interface and is counted there; VLAN 0 is only a priority.
    [LOAD_WORD, 0, 0, Ancillary.VLAN_TAG],
    [JUMP_IF_SET, 0, 1, VLAN_ID_MASK],
    drop,
    [LOAD_OCTET, 0, 0, NEXT_HEADER],
    [JUMP_IF_EQUAL, 0, 1, protocol],
    drop,
    // Neighbor Discovery (RFC 4861) is the link's business: Router Solicitation to Redirect.
    [JUMP_IF_EQUAL, 0, 4, NEXT_HEADER_ICMPV6],
    [LOAD_OCTET, 0, 0, HEADER_LENGTH],
    [JUMP_IF_AT_LEAST, 0, 2, ND_FIRST_TYPE],
    [JUMP_IF_GREATER, 1, 0, ND_LAST_TYPE],
    drop,
    [LOAD_OCTET, 0, 0, DESTINATION],
    [JUMP_IF_EQUAL, 0, 1, 0xff],
    drop,
  ];
  for (const address of [SOURCE, DESTINATION]) {
    filter.push([LOAD_HALF, 0, 0, address], [AND, 0, 0, 0xffc0], [JUMP_IF_EQUAL, 0, 1, 0xfe80], drop);
  }
  filter.push([LOAD_WORD, 0, 0, Ancillary.INTERFACE]);
  for (const index of interfaceIndexes) filter.push([JUMP_IF_EQUAL, 0, 1, index], [RETURN, 0, 0, SNAP_LENGTH]);
  filter.push(drop);
  return filter;
}

/** Accounting by reading along. */
export class TapAccounting implements Accounting {
  /** `tap` */
  readonly name = "tap";
  /** Why eBPF is not in use. */
  readonly reason: string;

  readonly #ring: PacketRing;
  readonly #excludedPorts: ReadonlySet<number>;
  readonly #protocol: number;
  readonly #pairs = new AccountedPairs(MAX_CONTEXTS);
  readonly #figures = new Float64Array(MAX_CONTEXTS * CONTEXT_FIGURES);
  readonly #flows = new FlowTable(MAX_FLOWS, crypto.getRandomValues(new Uint32Array(1))[0]);
  #drainedAt = -Infinity;

  /** `protocol`: next header of Shim6. Throws `SystemError` without CAP_NET_RAW. */
  constructor(excludedPorts: readonly number[], reason: string, protocol: number) {
    this.reason = reason;
    this.#protocol = protocol;
    this.#excludedPorts = new Set(excludedPorts);
    this.#ring = new PacketRing(RING_PACKETS);
  }

  setInterfaces(indexes: readonly number[]): void {
    this.#ring.setFilter(tapFilter(new Set(indexes), this.#protocol));
  }

  add(id: number, ulid: LocatorPair): void {
    this.remove(id);
    this.#drain();
    const pair = this.#pairs.add(id, ulid);
    if (this.#pairs.users(pair) > 1) return;
    this.#figures.fill(0, pair * CONTEXT_FIGURES, (pair + 1) * CONTEXT_FIGURES);
    const octets = this.#pairs.octets(pair);
    this.#flows.forget(new Uint32Array(octets.buffer, octets.byteOffset, 8), 0, 4);
  }

  remove(id: number): void {
    if (this.#pairs.of(id) >= 0) this.#pairs.remove(id);
  }

  mark(id: number): number {
    const pair = this.#pairs.of(id);
    if (pair < 0) return 0;
    this.#drainIfDue();
    const base = pair * CONTEXT_FIGURES;
    return this.#figures[base + SENT_PACKETS] + this.#figures[base + RECEIVED_PACKETS];
  }

  read(id: number, into: Activity): boolean {
    const pair = this.#pairs.of(id);
    if (pair < 0) return false;
    this.#drainIfDue();
    const figures = this.#figures, base = pair * CONTEXT_FIGURES;
    into.lastSent = figures[base + LAST_SENT];
    into.lastReceived = figures[base + LAST_RECEIVED];
    into.firstUnanswered = figures[base + FIRST_UNANSWERED];
    into.firstUnreplied = figures[base + FIRST_UNREPLIED];
    into.sentPackets = figures[base + SENT_PACKETS];
    into.sentBytes = figures[base + SENT_BYTES];
    into.receivedPackets = figures[base + RECEIVED_PACKETS];
    into.receivedBytes = figures[base + RECEIVED_BYTES];
    settle(into);
    return true;
  }

  flows(): FlowObservation[] {
    this.#drainIfDue();
    return this.#flows.report();
  }

  close(): void {
    this.#pairs.clear();
    this.#ring.close();
  }

  #drainIfDue(): void {
    if (monotonicNow() - this.#drainedAt >= BATCH_INTERVAL) this.#drain();
  }

  /** Counts what is in the ring: at most one ring full, so that a flood cannot keep the caller here. */
  #drain(): void {
    this.#drainedAt = monotonicNow();
    const ring = this.#ring;
    for (let left = ring.startBatch(); left > 0 && ring.next(); left--) this.#count(ring);
  }

  #count(ring: PacketRing): void {
    if (ring.captured < HEADER_LENGTH) return;
    const source = (ring.offset + SOURCE) / 4, destination = (ring.offset + DESTINATION) / 4;
    const local = ring.outgoing ? source : destination, peer = ring.outgoing ? destination : source;
    const payload = ring.octets[ring.offset + 4] << 8 | ring.octets[ring.offset + 5];
    const bytes = payload === 0 ? ring.length : payload + HEADER_LENGTH; // 0 in a jumbogram
    const packets = Math.ceil(bytes / USUAL_MTU);

    const pair = this.#pairs.find(ring.words, local, peer);
    if (pair >= 0) {
      const figures = this.#figures, base = pair * CONTEXT_FIGURES;
      const last = ring.outgoing ? LAST_SENT : LAST_RECEIVED;
      const first = ring.outgoing ? FIRST_UNANSWERED : FIRST_UNREPLIED;
      const lastOtherWay = ring.outgoing ? LAST_RECEIVED : LAST_SENT;
      figures[base + last] = Math.max(figures[base + last], ring.time);
      if (figures[base + first] <= figures[base + lastOtherWay]) figures[base + first] = ring.time;
      figures[base + (ring.outgoing ? SENT_PACKETS : RECEIVED_PACKETS)] += packets;
      figures[base + (ring.outgoing ? SENT_BYTES : RECEIVED_BYTES)] += bytes;
    } else if (ring.outgoing && this.#makesFlow(ring, local, peer)) {
      this.#flows.count(ring.words, local, peer, ring.time, packets, bytes);
    }
  }

  /** Whether the packet's kind makes a flow. A fragment without ports counts where its flow is known already. */
  #makesFlow(ring: PacketRing, local: number, peer: number): boolean {
    let header = ring.octets[ring.offset + NEXT_HEADER], ports = ring.offset + HEADER_LENGTH;
    if (header === NEXT_HEADER_FRAGMENT) {
      if (ring.captured < HEADER_LENGTH + 8) return false;
      const later = (ring.octets[ports + 2] << 8 | ring.octets[ports + 3] & 0xf8) !== 0;
      if (later) return this.#flows.has(ring.words, local, peer);
      header = ring.octets[ports];
      ports += 8;
    }
    if (header === NEXT_HEADER_ICMPV6) return false;
    if (header !== NEXT_HEADER_TCP && header !== NEXT_HEADER_UDP) return true;
    if (ring.captured < ports - ring.offset + 4) return false;
    const octets = ring.octets;
    return !this.#excludedPorts.has(octets[ports] << 8 | octets[ports + 1]) &&
      !this.#excludedPorts.has(octets[ports + 2] << 8 | octets[ports + 3]);
  }
}
