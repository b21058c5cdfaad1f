/**
 * IPv6 addresses as the control plane handles them: canonical text (RFC 5952). Text compares with `===`, works as a
 * key, and reads well in a log; octets exist only at the edge, where a packet is parsed or emitted.
 */

/** An IPv6 address in the canonical text form of RFC 5952, e.g. `2001:db8::1`. Always made by this module. */
export type Address = string;

/** An address prefix: the first `length` bits (0..128) of `address`. */
export interface Prefix {
  readonly address: Address;
  readonly length: number;
}

/** Octets of an IPv6 address. */
export const ADDRESS_LENGTH = 16;

/** The unspecified address. */
export const UNSPECIFIED: Address = "::";

/** Thrown when text is not an IPv6 address or prefix. */
export class InvalidAddress extends Error {
  override name = "InvalidAddress";
}

/** Formats the 16 octets at `offset` by the rules of RFC 5952. */
export function formatAddress(octets: Uint8Array, offset = 0): Address {
  let bestStart = -1, bestLength = 1; // a single zero group is never shortened (RFC 5952 §4.2.2)
  let start = -1;
  for (let group = 0; group <= 8; group++) {
    const zero = group < 8 && octets[offset + 2 * group] === 0 && octets[offset + 2 * group + 1] === 0;
    if (zero) {
      if (start < 0) start = group;
    } else if (start >= 0) {
      if (group - start > bestLength) {
        bestStart = start;
        bestLength = group - start;
      }
      start = -1;
    }
  }
  let text = "";
  for (let group = 0; group < 8; group++) {
    if (group === bestStart) {
      text += "::";
      group += bestLength - 1;
      continue;
    }
    if (text !== "" && !text.endsWith("::")) text += ":";
    text += (octets[offset + 2 * group] << 8 | octets[offset + 2 * group + 1]).toString(16);
  }
  return text;
}

const GROUP = /^[0-9a-fA-F]{1,4}$/;
const DOTTED_QUAD = /^(.*:)(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/;

/** Parses any RFC 4291 §2.2 text form into 16 octets. Throws {@linkcode InvalidAddress}. */
export function parseAddress(text: string): Uint8Array {
  const invalid = () => new InvalidAddress(`not an IPv6 address: ${JSON.stringify(text)}`);
  let groupsText = text;
  const quad = DOTTED_QUAD.exec(text);
  if (quad !== null) {
    const [a, b, c, d] = quad.slice(2).map(Number);
    if (a > 255 || b > 255 || c > 255 || d > 255) throw invalid();
    groupsText = quad[1] + (a << 8 | b).toString(16) + ":" + (c << 8 | d).toString(16);
  }
  const halves = groupsText.split("::");
  if (halves.length > 2) throw invalid();
  const head = halves[0] === "" ? [] : halves[0].split(":");
  const tail = halves.length < 2 || halves[1] === "" ? [] : halves[1].split(":");
  const present = head.length + tail.length;
  if (halves.length === 1 ? present !== 8 : present > 7) throw invalid();
  const octets = new Uint8Array(ADDRESS_LENGTH);
  const put = (group: string, index: number) => {
    if (!GROUP.test(group)) throw invalid();
    const value = parseInt(group, 16);
    octets[2 * index] = value >> 8;
    octets[2 * index + 1] = value & 0xff;
  };
  head.forEach(put);
  tail.forEach((group, i) => put(group, 8 - tail.length + i));
  return octets;
}

/** The canonical form of any text form of an address. Throws {@linkcode InvalidAddress}. */
export function canonicalAddress(text: string): Address {
  return formatAddress(parseAddress(text));
}

/** Parses `2001:db8::/32`; a bare address is a prefix of 128 bits. Throws {@linkcode InvalidAddress}. */
export function parsePrefix(text: string): Prefix {
  const slash = text.indexOf("/");
  if (slash < 0) return { address: canonicalAddress(text), length: 128 };
  const digits = text.slice(slash + 1);
  const length = Number(digits);
  if (!/^\d{1,3}$/.test(digits) || length > 128) {
    throw new InvalidAddress(`not a prefix length from 0 to 128: ${JSON.stringify(text)}`);
  }
  return { address: canonicalAddress(text.slice(0, slash)), length };
}

/** Whether `address` lies in `prefix`. */
export function inPrefix(address: Address, prefix: Prefix): boolean {
  const a = parseAddress(address), p = parseAddress(prefix.address);
  const whole = prefix.length >> 3, rest = prefix.length & 7;
  for (let i = 0; i < whole; i++) if (a[i] !== p[i]) return false;
  return rest === 0 || (a[whole] ^ p[whole]) >> (8 - rest) === 0;
}

/** `ff00::/8` (RFC 4291 §2.7). */
export function isMulticast(address: Address): boolean {
  return /^ff[0-9a-f]{2}:/.test(address);
}

/** `fe80::/10` (RFC 4291 §2.5.6). */
export function isLinkLocal(address: Address): boolean {
  return /^fe[89ab][0-9a-f]:/.test(address);
}

/** Whether an address may be a locator: global or unique-local unicast (RFC 5534 §3.1). */
export function isLocatorScope(address: Address): boolean {
  return address !== UNSPECIFIED && address !== "::1" && !isMulticast(address) && !isLinkLocal(address) &&
    !address.startsWith("::ffff:");
}
