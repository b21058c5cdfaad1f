/**
 * IPv6 addresses as the control plane handles them: canonical text (RFC 5952). Text compares with `===`, works as a
 * key, and reads well in a log; octets exist only at the edge, where a packet is parsed or emitted.
 */

/** An IPv6 address in the canonical text form of RFC 5952, e.g. `2001:db8::1`. Always made by this module. */
export type Address = string;

/** An address prefix: the first `length` bits (0..128) of `address`. */
export interface Prefix {
  /** Bits behind the prefix have no meaning. */
  readonly address: Address;
  /** In bits. */
  readonly length: number;
}

/** Octets of an IPv6 address. */
export const ADDRESS_LENGTH = 16;

/** The unspecified address. */
export const UNSPECIFIED: Address = "::";

/** Thrown when text is not an IPv6 address or prefix. */
export class InvalidAddress extends Error {
  /** Tells it from other errors in a log. */
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
    if (group > 0 && group !== bestStart + bestLength) text += ":";
    text += (octets[offset + 2 * group] << 8 | octets[offset + 2 * group + 1]).toString(16);
  }
  return text;
}

/** Parses any RFC 4291 §2.2 text form into 16 octets. Throws {@linkcode InvalidAddress}. */
export function parseAddress(text: string): Uint8Array<ArrayBuffer> {
  const octets = new Uint8Array(ADDRESS_LENGTH);
  writeAddress(text, octets, 0);
  return octets;
}

/**
 * Parses any RFC 4291 §2.2 text form into the 16 octets at `offset`. Throws {@linkcode InvalidAddress}; part of the
 * octets may have been overwritten then. A zone (`%eth0`) is not part of an address.
 */
export function writeAddress(text: string, into: Uint8Array, offset: number): void {
  let groups = 0; // written so far
  let gap = -1; // how many of them stand before the "::"
  let at = 0;
  if (text.startsWith("::")) {
    gap = 0;
    at = 2;
  }
  while (at < text.length) {
    if (groups === 8) throw invalid(text);
    const start = at;
    let value = 0;
    for (let digit; at < text.length && (digit = hexDigit(text.charCodeAt(at))) >= 0; at++) value = value << 4 | digit;
    if (text[at] === ".") {
      if (groups > 6 || !writeDottedQuad(text.slice(start), into, offset + 2 * groups)) throw invalid(text);
      groups += 2;
      break;
    }
    if (at === start || at - start > 4) throw invalid(text);
    into[offset + 2 * groups] = value >> 8;
    into[offset + 2 * groups + 1] = value;
    groups++;
    if (at === text.length) break;
    if (text[at] !== ":" || at + 1 === text.length) throw invalid(text);
    at++;
    if (text[at] === ":") {
      if (gap >= 0) throw invalid(text);
      gap = groups;
      at++;
    }
  }
  if (gap < 0 ? groups !== 8 : groups > 7) throw invalid(text);
  if (gap >= 0) {
    const end = offset + ADDRESS_LENGTH, tail = 2 * (groups - gap);
    into.copyWithin(end - tail, offset + 2 * gap, offset + 2 * groups);
    into.fill(0, offset + 2 * gap, end - tail);
  }
}

const DOTTED_QUAD = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/;

function writeDottedQuad(text: string, into: Uint8Array, offset: number): boolean {
  const quad = DOTTED_QUAD.exec(text)?.slice(1).map(Number);
  if (quad === undefined || quad.some((octet) => octet > 255)) return false;
  into.set(quad, offset);
  return true;
}

/** The value of a hexadecimal digit's character code, or -1. */
function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20; // lower case
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

function invalid(text: string): InvalidAddress {
  return new InvalidAddress(`not an IPv6 address: ${JSON.stringify(text)}`);
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
