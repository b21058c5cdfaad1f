/**
 * The programs that translate inside the kernel (RFC 5533 §5.2): between ULIDs without, and locators with a payload
 * extension header.
 *
 * Out, where packets that were steered into the device come out of its other end, each one cut to size and with its
 * checksum complete:
 * 1. The ULID pair is looked up. What is not there, does not fit the path, or has headers that belong in front of the
 *    Shim6 header goes to the packet loop.
 * 2. The context's slot gets the time and the count.
 * 3. Locators and payload header go in; the packet leaves by the local locator's interface, and the kernel finds the
 *    next hop.
 *
 * In, where packets come from the network:
 * 1. A payload header right behind the IPv6 header is looked up by its tag. What is not there goes on unchanged, to the
 *    sockets for control messages or to the packet loop.
 * 2. The slot gets the time and the count.
 * 3. The header goes out, the ULIDs go in; the kernel goes on with the packet as if it had come like that.
 */

import { copyOctets, countInSlot, RECEIVED, SENT, skipForeign, type SlotDirection } from "./accounting_programs.ts";
import {
  BpfAssembler,
  FP,
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
  SkBuff,
  TCX_DROP,
  TCX_NEXT,
} from "./bpf_assembler.ts";

/** What a context's way out is made of: octets at these offsets. Its key is the ULID pair, the local one first. */
export const WayOut = {
  localLocator: 0,
  peerLocator: 16,
  /** 8 octets, with a next header of 0. */
  payloadHeader: 32,
  /** Of the local locator. 32 bits, as are the following. */
  interfaceIndex: 40,
  /** Of the locator pair. */
  mtu: 44,
  slot: 48,
} as const;

/** Octets of a {@linkcode WayOut}. */
export const WAY_OUT_LENGTH = 56;

/** Likewise for the way in. Its key has 8 octets: the last 6 of the payload header, and zeros. */
export const WayIn = { peerUlid: 0, localUlid: 16, slot: 32 } as const;

/** Octets of a {@linkcode WayIn}. */
export const WAY_IN_LENGTH = 40;

/** Octets of the key of a {@linkcode WayIn}. */
export const TAG_KEY_LENGTH = 8;

/** File descriptors of maps. */
export interface TranslationMaps {
  /** Hash: address pair → {@linkcode WayOut}. */
  readonly out: number;
  /** Hash: tag → {@linkcode WayIn}. */
  readonly in: number;
  /** The array of slots of the accounting. */
  readonly slots: number;
  /** Array of one value: {@linkcode TRANSLATED_LENGTH} octets. */
  readonly translated: number;
}

/** Packets translated in all: 64-bit integers at these offsets. */
export const Translated = { out: 0, in: 8 } as const;

/** Octets of {@linkcode Translated}. */
export const TRANSLATED_LENGTH = 16;

const ETHERTYPE_IPV6 = networkOrder16(0x86dd);
const NEXT_HEADER_HOP_BY_HOP = 0, NEXT_HEADER_ROUTING = 43, NEXT_HEADER_DESTINATION = 60;
const IPV6_HEADER_LENGTH = 40, PAYLOAD_HEADER_LENGTH = 8, ETHERNET_HEADER_LENGTH = 14;
/** Of the octet behind the tag's first one in the payload header: as bits of its first 32. */
const P_BIT = 0x80 << 16, LENGTH_OCTET = 0xff << 8;

/** Room is made or taken behind the network header. */
const BPF_ADJ_ROOM_NET = 0;
const BPF_F_RECOMPUTE_CSUM = 1;

// The stack, downwards: both headers as they stand in the packet.
const SHIM = -PAYLOAD_HEADER_LENGTH;
const HEADER = SHIM - IPV6_HEADER_LENGTH;
const PAYLOAD_LENGTH = HEADER + 4, NEXT_HEADER = HEADER + 6, SOURCE = HEADER + 8;
const KEY = HEADER - 8;

/**
 * The way out, for the ingress of an Ethernet device. `loopIndex` is the interface of the packet loop, `protocol` the
 * next header of Shim6. Registers
 * throughout: R6 the packet, R7 the way, R8 the slot, R9 octets.
 */
export function translateOutProgram(maps: TranslationMaps, loopIndex: number, protocol: number): Uint8Array {
  const asm = new BpfAssembler();
  asm.set(R6, R1).load("u32", R2, R6, SkBuff.protocol).jumpIf(R2, "!=", ETHERTYPE_IPV6, "drop");
  copyOctets(asm, 0, IPV6_HEADER_LENGTH, HEADER).jumpIf(R0, "!=", 0, "loop")
    // Kinds of super-packets that the device takes all the same.
    .load("u32", R1, R6, SkBuff.gsoSize).jumpIf(R1, "!=", 0, "loop")
    .load("u8", R1, FP, NEXT_HEADER);
  for (const header of [NEXT_HEADER_HOP_BY_HOP, NEXT_HEADER_ROUTING, NEXT_HEADER_DESTINATION, protocol]) {
    asm.jumpIf(R1, "==", header, "loop");
  }
  lookup(asm, maps.out, SOURCE, "loop");
  asm.load("u16", R9, FP, PAYLOAD_LENGTH).toBigEndian(R9, 16).add(R9, IPV6_HEADER_LENGTH)
    .load("u32", R1, R7, WayOut.mtu).subtract(R1, PAYLOAD_HEADER_LENGTH).jumpIf(R9, ">", R1, "loop")
    // The device may have become narrower, or be gone: the loop learns it when it sends, and tells.
    .store("u32", FP, KEY, R9).set(R1, R6).load("u32", R2, R7, WayOut.interfaceIndex).set(R3, FP).add(R3, KEY)
    .set(R4, PAYLOAD_HEADER_LENGTH).set(R5, 0).call(Helper.checkMtu).jumpIf(R0, "!=", 0, "loop");
  countPacket(asm, maps, WayOut.slot, SENT, Translated.out);

  asm.load("u64", R1, R7, WayOut.payloadHeader).load("u8", R2, FP, NEXT_HEADER).or(R1, R2)
    .store("u64", FP, SHIM, R1).store("u8", FP, NEXT_HEADER, protocol);
  setPayloadLength(asm, PAYLOAD_HEADER_LENGTH - IPV6_HEADER_LENGTH);
  setAddresses(asm, WayOut.localLocator);
  adjustRoom(asm, PAYLOAD_HEADER_LENGTH);
  storeHeaders(asm, ETHERNET_HEADER_LENGTH, IPV6_HEADER_LENGTH + PAYLOAD_HEADER_LENGTH);
  asm.load("u32", R1, R7, WayOut.interfaceIndex).set(R2, 0).set(R3, 0).set(R4, 0).call(Helper.redirectNeigh).exit();

  asm.label("loop").set(R1, loopIndex).set(R2, 0).call(Helper.redirect).exit();
  return asm.label("drop").exitWith(TCX_DROP).assemble();
}

/** The way in, for the ingress of an interface whose link-layer header has so many octets. */
export function translateInProgram(maps: TranslationMaps, linkHeaderLength: number, protocol: number): Uint8Array {
  const asm = new BpfAssembler();
  asm.set(R6, R1);
  skipForeign(asm, "ingress", "not ours");
  copyOctets(asm, 0, IPV6_HEADER_LENGTH + PAYLOAD_HEADER_LENGTH, HEADER).jumpIf(R0, "!=", 0, "not ours")
    .load("u8", R1, FP, NEXT_HEADER).jumpIf(R1, "!=", protocol, "not ours")
    .load("u32", R1, FP, SHIM).jumpIf(R1, "&", LENGTH_OCTET, "not ours")
    .set(R2, R1).and(R2, P_BIT).jumpIf(R2, "==", 0, "not ours")
    // A control message inside would look like one from the peer's ULID, which it need not be.
    .and(R1, 0xff).jumpIf(R1, "==", protocol, "not ours")
    .load("u16", R9, FP, PAYLOAD_LENGTH).toBigEndian(R9, 16).jumpIf(R9, "<", PAYLOAD_HEADER_LENGTH, "not ours")
    .load("u64", R1, FP, SHIM).shiftRight(R1, 16).store("u64", FP, KEY, R1);
  lookup(asm, maps.in, KEY, "not ours");
  asm.add(R9, IPV6_HEADER_LENGTH - PAYLOAD_HEADER_LENGTH);
  countPacket(asm, maps, WayIn.slot, RECEIVED, Translated.in);

  asm.load("u8", R1, FP, SHIM).store("u8", FP, NEXT_HEADER, R1);
  setPayloadLength(asm, -IPV6_HEADER_LENGTH);
  setAddresses(asm, WayIn.peerUlid);
  adjustRoom(asm, -PAYLOAD_HEADER_LENGTH);
  storeHeaders(asm, linkHeaderLength, IPV6_HEADER_LENGTH);
  asm.label("not ours").exitWith(TCX_NEXT);
  return asm.label("drop").exitWith(TCX_DROP).assemble();
}

/** Finds the value for the key on the stack and puts its address into R7. */
function lookup(asm: BpfAssembler, map: number, key: number, otherwise: string): void {
  asm.setMap(R1, map).set(R2, FP).add(R2, key).call(Helper.mapLookup).jumpIf(R0, "==", 0, otherwise).set(R7, R0);
}

/** Counts one packet of R9 octets in all and in the slot whose number stands in the way R7. */
function countPacket(
  asm: BpfAssembler,
  maps: TranslationMaps,
  slot: number,
  direction: SlotDirection,
  total: number,
): void {
  const element = (map: number) =>
    asm.store("u32", FP, KEY, R1).setMap(R1, map).set(R2, FP).add(R2, KEY).call(Helper.mapLookup)
      .jumpIf(R0, "==", 0, "drop"); // never: the verifier wants it
  asm.set(R1, 0);
  element(maps.translated).set(R1, 1).atomicAdd("u64", R0, total, R1);
  asm.load("u32", R1, R7, slot);
  element(maps.slots).set(R8, R0).call(Helper.ktimeGetNs).set(R3, 1);
  countInSlot(asm, direction, { slot: R8, packets: R3, bytes: R9 });
}

/** Writes R9 and a difference into the header on the stack. */
function setPayloadLength(asm: BpfAssembler, difference: number): void {
  asm.add(R9, difference).toBigEndian(R9, 16).store("u16", FP, PAYLOAD_LENGTH, R9);
}

/** Copies source and destination from the way R7 to the header on the stack. */
function setAddresses(asm: BpfAssembler, from: number): void {
  for (let i = 0; i < 32; i += 8) asm.load("u64", R1, R7, from + i).store("u64", FP, SOURCE + i, R1);
}

function adjustRoom(asm: BpfAssembler, difference: number): void {
  asm.set(R1, R6).set(R2, difference).set(R3, BPF_ADJ_ROOM_NET).set(R4, 0).call(Helper.skbAdjustRoom)
    .jumpIf(R0, "!=", 0, "drop");
}

/** Writes headers from the stack into the packet. */
function storeHeaders(asm: BpfAssembler, offset: number, length: number): void {
  asm.set(R1, R6).set(R2, offset).set(R3, FP).add(R3, HEADER).set(R4, length).set(R5, BPF_F_RECOMPUTE_CSUM)
    .call(Helper.skbStoreBytes).jumpIf(R0, "!=", 0, "drop");
}
