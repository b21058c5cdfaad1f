/** Packets for the datapath's unit tests, and a reference reading of them that shares no code with the datapath. */

import { onesComplementSum, pseudoHeaderSum } from "../../wire/checksum.ts";
import { parseAddress } from "../../wire/address.ts";

/** Addresses of the packets made here. */
export const LOCAL = "2001:db8:1::a", PEER = "2001:db8:2::b";

/** What a TCP packet is made of. */
export interface TcpPacket {
  readonly sequence: number;
  readonly flags: number;
  readonly payload: Uint8Array;
  readonly ports?: number;
  readonly acknowledgement?: number;
  readonly window?: number;
  /** A multiple of 4 octets. */
  readonly options?: Uint8Array;
  /** The first word of the IPv6 header without the version. */
  readonly flow?: number;
  readonly hopLimit?: number;
  readonly source?: string;
  readonly destination?: string;
}

/** An IPv6 packet with `nextHeader` and `body`. */
export function ipv6(
  nextHeader: number,
  body: Uint8Array,
  options: { source?: string; destination?: string; flow?: number; hopLimit?: number } = {},
): Uint8Array {
  const packet = new Uint8Array(40 + body.length);
  const view = new DataView(packet.buffer);
  view.setUint32(0, 0x60000000 + (options.flow ?? 0));
  view.setUint16(4, body.length & 0xffff);
  packet[6] = nextHeader;
  packet[7] = options.hopLimit ?? 64;
  packet.set(parseAddress(options.source ?? LOCAL), 8);
  packet.set(parseAddress(options.destination ?? PEER), 24);
  packet.set(body, 40);
  return packet;
}

function setChecksum(packet: Uint8Array, at: number, protocol: number): void {
  const pseudo = pseudoHeaderSum(packet, 8, packet.length - 40, protocol);
  const sum = ~onesComplementSum(packet, 40, packet.length, pseudo) & 0xffff;
  new DataView(packet.buffer).setUint16(at, sum || 0xffff);
}

/** A TCP packet with a right checksum. */
export function tcp(p: TcpPacket): Uint8Array {
  const options = p.options ?? new Uint8Array(0);
  const body = new Uint8Array(20 + options.length + p.payload.length);
  const view = new DataView(body.buffer);
  view.setUint32(0, p.ports ?? 0x1234_5678);
  view.setUint32(4, p.sequence);
  view.setUint32(8, p.acknowledgement ?? 77);
  body[12] = (20 + options.length) << 2;
  body[13] = p.flags;
  view.setUint16(14, p.window ?? 500);
  body.set(options, 20);
  body.set(p.payload, 20 + options.length);
  const packet = ipv6(6, body, p);
  setChecksum(packet, 56, 6);
  return packet;
}

/** A UDP packet with a right checksum. */
export function udp(payload: Uint8Array, options: Parameters<typeof ipv6>[2] = {}): Uint8Array {
  const body = new Uint8Array(8 + payload.length);
  const view = new DataView(body.buffer);
  view.setUint32(0, 0x1234_5678);
  view.setUint16(4, body.length);
  body.set(payload, 8);
  const packet = ipv6(17, body, options);
  setChecksum(packet, 46, 17);
  return packet;
}

/** A TCP packet, read. */
export function readTcp(packet: Uint8Array) {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const header = (packet[52] >> 4) * 4;
  const sum = onesComplementSum(packet, 40, packet.length, pseudoHeaderSum(packet, 8, packet.length - 40, 6));
  return {
    lengthMatches: view.getUint16(4) === packet.length - 40,
    good: sum === 0xffff,
    sequence: view.getUint32(44),
    acknowledgement: view.getUint32(48),
    flags: packet[53],
    options: [...packet.subarray(60, 40 + header)],
    payload: packet.slice(40 + header),
  };
}

/** Octets that differ from place to place. */
export function pattern(length: number, seed = 1): Uint8Array {
  const octets = new Uint8Array(length);
  for (let i = 0, state = seed; i < length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) | 0;
    octets[i] = state >>> 16;
  }
  return octets;
}
