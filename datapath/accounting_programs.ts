/**
 * The programs that account payload inside the kernel, one for each direction of an interface. What happens to a
 * packet:
 *
 * 1. It must be unicast IPv6 beyond the link, not Shim6, and this host's own: not forwarded, not another machine's.
 * 2. Its address pair, seen from this host, is looked up among the contexts. If it is there, the context's slot gets
 *    the time and the count, and that is all.
 * 3. Otherwise, on egress, the pair is counted as a flow, unless its kind never makes one.
 *
 * The packet's fate is never touched. No link-layer header is assumed: offsets count from the network header.
 */

import {
  BpfAssembler,
  FP,
  FROM_NETWORK_HEADER,
  Helper,
  networkOrder16,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R7,
  R8,
  R9,
  type Register,
  SkBuff,
  TCX_NEXT,
} from "./bpf_assembler.ts";

/** What the programs share with the agent. File descriptors of maps. */
export interface AccountingMaps {
  /** Hash: {@linkcode PAIR_LENGTH} octets, the local address first → number of the slot, 32 bits. */
  readonly contexts: number;
  /** Array of {@linkcode SLOT_LENGTH} octets. */
  readonly slots: number;
  /** Hash: as `contexts` → {@linkcode FLOW_LENGTH} octets. */
  readonly flows: number;
}

/** Octets of an address pair as a key. */
export const PAIR_LENGTH = 32;

/**
 * A slot: 64-bit integers at these offsets; times in ns of CLOCK_MONOTONIC, 0 for never. One cache line. The first
 * unanswered packet is one as long as it is later than the last received, and so with the first unreplied: nobody
 * clears these, hence no two processors can disagree about it.
 */
export const Slot = {
  lastSent: 0,
  lastReceived: 8,
  firstUnanswered: 16,
  firstUnreplied: 24,
  sentPackets: 32,
  sentBytes: 40,
  receivedPackets: 48,
  receivedBytes: 56,
} as const;

/** The fields of a {@linkcode Slot} that a packet in one direction changes, and when one last went the other way. */
export interface SlotDirection {
  /** Time of the packet. */
  readonly last: number;
  /** Time of the first packet since the last one the other way. */
  readonly first: number;
  /** Time of the last packet the other way. */
  readonly lastOtherWay: number;
  /** Packets so far. */
  readonly packets: number;
  /** Octets so far. */
  readonly bytes: number;
}

/** What this host sends. */
export const SENT: SlotDirection = {
  last: Slot.lastSent,
  first: Slot.firstUnanswered,
  lastOtherWay: Slot.lastReceived,
  packets: Slot.sentPackets,
  bytes: Slot.sentBytes,
};

/** What the peer sends. */
export const RECEIVED: SlotDirection = {
  last: Slot.lastReceived,
  first: Slot.firstUnreplied,
  lastOtherWay: Slot.lastSent,
  packets: Slot.receivedPackets,
  bytes: Slot.receivedBytes,
};

/** Octets of a slot. */
export const SLOT_LENGTH = 64;

/** A flow: 64-bit integers at these offsets; times as in a {@linkcode Slot}. */
export const Flow = { firstSeen: 0, lastSeen: 8, packets: 16, bytes: 24 } as const;

/** Octets of a flow. */
export const FLOW_LENGTH = 32;

const ETHERTYPE_IPV6 = networkOrder16(0x86dd);
const PACKET_HOST = 0;
const VLAN_ID_MASK = 0x0fff;
/** fe80::/10 and its mask, as a 16-bit load yields them. */
const LINK_LOCAL = networkOrder16(0xfe80), LINK_LOCAL_MASK = networkOrder16(0xffc0);
const MULTICAST = 0xff;

const NEXT_HEADER_TCP = 6, NEXT_HEADER_UDP = 17, NEXT_HEADER_FRAGMENT = 44, NEXT_HEADER_ICMPV6 = 58;
/** ICMPv6 types of Neighbor Discovery: Router Solicitation to Redirect. */
const ND_FIRST_TYPE = 133, ND_LAST_TYPE = 137;
const IPV6_HEADER_LENGTH = 40, FRAGMENT_HEADER_LENGTH = 8, PORTS_LENGTH = 4;
const FRAGMENT_OFFSET_MASK = networkOrder16(0xfff8);
/** Octets of headers that are looked at, at most, with a link-layer header before them. */
const HEADERS_LENGTH = 128;

const BPF_NOEXIST = 1;

// The stack, downwards. The addresses of the IPv6 header are the key of the maps.
const HEADER = -IPV6_HEADER_LENGTH;
const PAYLOAD_LENGTH = HEADER + 4, NEXT_HEADER = HEADER + 6, SOURCE = HEADER + 8, DESTINATION = HEADER + 24;
const SLOT_NUMBER = HEADER - 8;
const UPPER_HEADER = SLOT_NUMBER - 8;
const FRAGMENT = UPPER_HEADER - 8;
const NEW_FLOW = FRAGMENT - FLOW_LENGTH;

/**
 * Assembles the program for one direction. `excludedPorts` are TCP and UDP ports, at either end, that do not make a
 * flow; `protocol` is the next header of Shim6. Registers throughout: R6 the packet, R7 the slot or flow, R8 packets, R9 octets.
 */
export function accountingProgram(
  direction: "ingress" | "egress",
  maps: AccountingMaps,
  excludedPorts: readonly number[],
  protocol: number,
): Uint8Array {
  const asm = new BpfAssembler();
  asm.set(R6, R1);
  skipForeign(asm, direction, "out");
  loadHeader(asm);
  skipNoPayload(asm, protocol);
  if (direction === "ingress") swapAddresses(asm);
  countPackets(asm);

  asm.setMap(R1, maps.contexts).set(R2, FP).add(R2, SOURCE).call(Helper.mapLookup)
    .jumpIf(R0, "==", 0, "no context")
    .load("u32", R1, R0, 0).store("u32", FP, SLOT_NUMBER, R1)
    .setMap(R1, maps.slots).set(R2, FP).add(R2, SLOT_NUMBER).call(Helper.mapLookup)
    .jumpIf(R0, "==", 0, "out")
    .set(R7, R0).call(Helper.ktimeGetNs);
  countInSlot(asm, direction === "egress" ? SENT : RECEIVED, { slot: R7, packets: R8, bytes: R9 });
  asm.exitWith(TCX_NEXT);

  asm.label("no context");
  if (direction === "egress") {
    skipByKind(asm, maps, excludedPorts);
    countFlow(asm, maps);
  }
  return asm.label("out").exitWith(TCX_NEXT).assemble();
}

/** Goes on only with IPv6 packets that are this host's own and that the network layer will get from this interface. */
export function skipForeign(asm: BpfAssembler, direction: "ingress" | "egress", foreign: string): void {
  asm.load("u32", R2, R6, SkBuff.protocol).jumpIf(R2, "!=", ETHERTYPE_IPV6, foreign)
    // A tagged packet belongs to a VLAN interface and is counted there; VLAN 0 is only a priority.
    .load("u32", R2, R6, SkBuff.vlanTci).jumpIf(R2, "&", VLAN_ID_MASK, foreign);
  if (direction === "ingress") asm.load("u32", R2, R6, SkBuff.pktType).jumpIf(R2, "!=", PACKET_HOST, foreign);
  else asm.load("u32", R2, R6, SkBuff.ingressIfindex).jumpIf(R2, "!=", 0, foreign);
}

/** Copies octets of the packet, counted from the IPv6 header, to the stack. R0 is 0 when they are there. */
export function copyOctets(asm: BpfAssembler, from: number, length: number, to: number): BpfAssembler {
  return asm.set(R1, R6).set(R2, from).set(R3, FP).add(R3, to).set(R4, length).set(R5, FROM_NETWORK_HEADER)
    .call(Helper.skbLoadBytesRelative);
}

/** Likewise; a packet without these octets is left out. */
function loadOctets(asm: BpfAssembler, from: number, length: number, to: number): BpfAssembler {
  return copyOctets(asm, from, length, to).jumpIf(R0, "!=", 0, "out");
}

/** Copies the IPv6 header to the stack. */
function loadHeader(asm: BpfAssembler): void {
  const copy = () => copyOctets(asm, 0, IPV6_HEADER_LENGTH, HEADER);
  copy().jumpIf(R0, "==", 0, "loaded")
    // Some drivers deliver headers in page fragments, which this helper does not read.
    .set(R1, R6).load("u32", R2, R6, SkBuff.len).jumpIf(R2, "<=", HEADERS_LENGTH, "short").set(R2, HEADERS_LENGTH)
    .label("short").call(Helper.skbPullData);
  copy().jumpIf(R0, "!=", 0, "out").label("loaded");
}

/** Leaves out Shim6, multicast, link-local packets and Neighbor Discovery (RFC 4861), which is the link's business. */
function skipNoPayload(asm: BpfAssembler, protocol: number): void {
  asm.load("u8", R1, FP, DESTINATION).jumpIf(R1, "==", MULTICAST, "out");
  for (const address of [SOURCE, DESTINATION]) {
    asm.load("u16", R1, FP, address).and(R1, LINK_LOCAL_MASK).jumpIf(R1, "==", LINK_LOCAL, "out");
  }
  asm.load("u8", R1, FP, NEXT_HEADER)
    .jumpIf(R1, "==", protocol, "out")
    .jumpIf(R1, "!=", NEXT_HEADER_ICMPV6, "payload");
  loadOctets(asm, IPV6_HEADER_LENGTH, 1, UPPER_HEADER)
    .load("u8", R1, FP, UPPER_HEADER)
    .jumpIf(R1, "<", ND_FIRST_TYPE, "payload").jumpIf(R1, "<=", ND_LAST_TYPE, "out")
    .label("payload");
}

/** The local address comes first in the key, also when the packet is the peer's. */
function swapAddresses(asm: BpfAssembler): void {
  for (const half of [0, 8]) {
    asm.load("u64", R1, FP, SOURCE + half).load("u64", R2, FP, DESTINATION + half)
      .store("u64", FP, DESTINATION + half, R1).store("u64", FP, SOURCE + half, R2);
  }
}

/** Puts the number of packets on the wire into R8 and the octets into R9. */
function countPackets(asm: BpfAssembler): void {
  asm.load("u16", R9, FP, PAYLOAD_LENGTH).toBigEndian(R9, 16).jumpIf(R9, "!=", 0, "sized")
    .load("u32", R9, R6, SkBuff.len) // a jumbogram
    .label("sized").add(R9, IPV6_HEADER_LENGTH)
    .load("u32", R8, R6, SkBuff.gsoSegs).jumpIf(R8, "!=", 0, "counted")
    // A super-packet from a hypervisor comes with the size of its segments, but not with their number.
    .set(R8, 1).load("u32", R1, R6, SkBuff.gsoSize).jumpIf(R1, "==", 0, "counted")
    .set(R8, R9).divide(R8, R1).jumpIf(R8, "!=", 0, "counted").set(R8, 1)
    .label("counted");
}

/**
 * Writes the time R0 and the counts into a slot, whose address and the counts are in registers other than R1 and R2.
 * `first` is kept while nothing came the other way since.
 */
export function countInSlot(
  asm: BpfAssembler,
  fields: SlotDirection,
  registers: { readonly slot: Register; readonly packets: Register; readonly bytes: Register },
): void {
  const { slot, packets, bytes } = registers;
  asm.store("u64", slot, fields.last, R0)
    .load("u64", R1, slot, fields.first).load("u64", R2, slot, fields.lastOtherWay)
    .jumpIf(R1, ">", R2, "not the first").store("u64", slot, fields.first, R0)
    .label("not the first")
    .atomicAdd("u64", slot, fields.packets, packets).atomicAdd("u64", slot, fields.bytes, bytes);
}

/** Leaves out what never makes a flow. A fragment without ports counts where its flow is known already. */
function skipByKind(asm: BpfAssembler, maps: AccountingMaps, excludedPorts: readonly number[]): void {
  const comparePorts = (from: number) => {
    loadOctets(asm, from, PORTS_LENGTH, UPPER_HEADER).load("u16", R1, FP, UPPER_HEADER).load(
      "u16",
      R2,
      FP,
      UPPER_HEADER + 2,
    );
    for (const port of excludedPorts) {
      asm.jumpIf(R1, "==", networkOrder16(port), "out").jumpIf(R2, "==", networkOrder16(port), "out");
    }
    asm.jump("count flow");
  };
  asm.load("u8", R1, FP, NEXT_HEADER)
    .jumpIf(R1, "==", NEXT_HEADER_ICMPV6, "out")
    .jumpIf(R1, "==", NEXT_HEADER_TCP, "ports")
    .jumpIf(R1, "==", NEXT_HEADER_UDP, "ports")
    .jumpIf(R1, "!=", NEXT_HEADER_FRAGMENT, "count flow");

  loadOctets(asm, IPV6_HEADER_LENGTH, FRAGMENT_HEADER_LENGTH, FRAGMENT)
    .load("u16", R1, FP, FRAGMENT + 2).jumpIf(R1, "&", FRAGMENT_OFFSET_MASK, "later fragment")
    .load("u8", R1, FP, FRAGMENT)
    .jumpIf(R1, "==", NEXT_HEADER_ICMPV6, "out")
    .jumpIf(R1, "==", NEXT_HEADER_TCP, "ports after fragment header")
    .jumpIf(R1, "!=", NEXT_HEADER_UDP, "count flow")
    .label("ports after fragment header");
  comparePorts(IPV6_HEADER_LENGTH + FRAGMENT_HEADER_LENGTH);

  asm.label("later fragment")
    .setMap(R1, maps.flows).set(R2, FP).add(R2, SOURCE).call(Helper.mapLookup)
    .jumpIf(R0, "==", 0, "out").jump("count flow");

  asm.label("ports");
  comparePorts(IPV6_HEADER_LENGTH);
}

/** Adds the packets to their flow, or starts one. */
function countFlow(asm: BpfAssembler, maps: AccountingMaps): void {
  asm.label("count flow")
    .setMap(R1, maps.flows).set(R2, FP).add(R2, SOURCE).call(Helper.mapLookup)
    .set(R7, R0).call(Helper.ktimeGetNs)
    .jumpIf(R7, "==", 0, "new flow")
    .store("u64", R7, Flow.lastSeen, R0)
    .atomicAdd("u64", R7, Flow.packets, R8).atomicAdd("u64", R7, Flow.bytes, R9)
    .exitWith(TCX_NEXT)
    .label("new flow")
    .store("u64", FP, NEW_FLOW + Flow.firstSeen, R0).store("u64", FP, NEW_FLOW + Flow.lastSeen, R0)
    .store("u64", FP, NEW_FLOW + Flow.packets, R8).store("u64", FP, NEW_FLOW + Flow.bytes, R9)
    .setMap(R1, maps.flows).set(R2, FP).add(R2, SOURCE).set(R3, FP).add(R3, NEW_FLOW).set(R4, BPF_NOEXIST)
    // Fails when another processor was quicker; then one packet goes uncounted.
    .call(Helper.mapUpdate);
}
