/** Router Advertisements (RFC 4861 §4.2) for the testbed: how hosts come by prefixes and addresses in the real world. */

import { sendIcmp6 } from "deno-tun";
import { parseAddress, type Prefix } from "../wire/address.ts";

/** Lifetimes in seconds. */
export interface AdvertisementOptions {
  /** Of the addresses the hosts make from the prefix; they are deprecated when it is 0. Four hours when absent. */
  readonly preferredLifetime?: number;
  /** Of the same addresses. A day when absent. */
  readonly validLifetime?: number;
  /** Of the default route; 0 takes it away. Two and a half hours, the longest there is, when absent. */
  readonly routerLifetime?: number;
}

const ALL_NODES = "ff02::1";
const ROUTER_ADVERTISEMENT = 134;
const PREFIX_INFORMATION = 3;
const PREFIX_INFORMATION_UNITS = 4; // of 8 octets
const ON_LINK = 0x80, AUTONOMOUS = 0x40;
const HEADER_LENGTH = 16;
const CURRENT_HOP_LIMIT = 64;

/** The octets of an advertisement of one prefix, with a zero checksum. */
export function routerAdvertisement(prefix: Prefix, options: AdvertisementOptions = {}): Uint8Array {
  const { preferredLifetime = 14_400, validLifetime = 86_400, routerLifetime = 9_000 } = options;
  const octets = new Uint8Array(HEADER_LENGTH + 8 * PREFIX_INFORMATION_UNITS);
  const view = new DataView(octets.buffer);
  view.setUint8(0, ROUTER_ADVERTISEMENT);
  view.setUint8(4, CURRENT_HOP_LIMIT);
  view.setUint16(6, routerLifetime);
  view.setUint8(HEADER_LENGTH, PREFIX_INFORMATION);
  view.setUint8(HEADER_LENGTH + 1, PREFIX_INFORMATION_UNITS);
  view.setUint8(HEADER_LENGTH + 2, prefix.length);
  view.setUint8(HEADER_LENGTH + 3, ON_LINK | AUTONOMOUS);
  view.setUint32(HEADER_LENGTH + 4, validLifetime);
  view.setUint32(HEADER_LENGTH + 8, preferredLifetime);
  octets.set(parseAddress(prefix.address), HEADER_LENGTH + 16);
  return octets;
}

/** Advertises a prefix to all hosts on an interface of the calling thread's network namespace. Throws `SystemError`. */
export function advertise(interfaceName: string, prefix: Prefix, options?: AdvertisementOptions): void {
  sendIcmp6(interfaceName, ALL_NODES, routerAdvertisement(prefix, options));
}
