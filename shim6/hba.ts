/** Hash-based addresses: a set of addresses that are bound to each other by a hash over all their prefixes (RFC 5535). */

import { type Address, parseAddress } from "../wire/address.ts";
import { put32 } from "../wire/octets.ts";
import { type CgaFault, verifyCga } from "./cga.ts";
import { parsePds, type Pds, type PdsExtension, SUBNET_PREFIX_LENGTH, withPrefixOf } from "./pds.ts";

/** Extension type of the Multi-Prefix extension (RFC 5535 §5). */
const MULTI_PREFIX = 0x0012;
/** P flag and reserved bits in front of the prefixes. */
const FLAGS_LENGTH = 4;
/** P: the Public Key is a real one and not a nonce. */
const P_FLAG = 0x8000_0000;

/** Octets of an Extended Modifier: 384 bits (RFC 5535 §6). */
export const EXTENDED_MODIFIER_LENGTH = 48;

/** Why an address is not of the set that a CGA Parameters data structure describes. */
export type HbaFault =
  | CgaFault
  | "no-multi-prefix"
  /** The Multi-Prefix extension does not hold whole prefixes. */
  | "bad-multi-prefix"
  /** The prefix of the address is not in the list (RFC 5535 §7.2 step 1). */
  | "prefix-not-in-set";

/** The Multi-Prefix extension for prefixes of 64 bits each, in this order. */
export function multiPrefixExtension(prefixes: readonly Uint8Array[], realKey: boolean): PdsExtension {
  const data = new Uint8Array(FLAGS_LENGTH + prefixes.length * SUBNET_PREFIX_LENGTH);
  put32(data, 0, realKey ? P_FLAG : 0);
  prefixes.forEach((prefix, i) => data.set(prefix, FLAGS_LENGTH + i * SUBNET_PREFIX_LENGTH));
  return { type: MULTI_PREFIX, data };
}

/** The data of the Multi-Prefix extension; undefined when there is none. */
function multiPrefixData(pds: Pds): Uint8Array | undefined {
  return pds.extensions.find(({ type }) => type === MULTI_PREFIX)?.data;
}

/** Whether the structure describes a set of addresses and not a single one. */
export function isHba(pds: Pds): boolean {
  return multiPrefixData(pds) !== undefined;
}

/** The prefixes of the set, 64 bits each, in order; a string says why there are none. */
export function prefixesOf(pds: Pds): Uint8Array[] | HbaFault {
  const data = multiPrefixData(pds);
  if (data === undefined) return "no-multi-prefix";
  // The P flag is not looked at: one implementation writes it into the wrong octet, and whether a key can sign shows
  // when it is parsed.
  if (data.length < FLAGS_LENGTH || (data.length - FLAGS_LENGTH) % SUBNET_PREFIX_LENGTH !== 0) {
    return "bad-multi-prefix";
  }
  const prefixes = [];
  for (let at = FLAGS_LENGTH; at < data.length; at += SUBNET_PREFIX_LENGTH) {
    prefixes.push(data.subarray(at, at + SUBNET_PREFIX_LENGTH));
  }
  return prefixes;
}

/**
 * Verifies that an address is of the set that the structure of any of its members describes (RFC 5535 §7.2). Undefined
 * when it is.
 */
export function verifyHba(address: Address, pds: Uint8Array): HbaFault | undefined {
  const parsed = parsePds(pds);
  if (typeof parsed === "string") return parsed;
  const prefixes = prefixesOf(parsed);
  if (typeof prefixes === "string") return prefixes;
  const octets = parseAddress(address);
  if (!prefixes.some((prefix) => prefix.every((octet, i) => octet === octets[i]))) return "prefix-not-in-set";
  return verifyCga(address, withPrefixOf(pds, octets));
}

/** Verifies an address by the rules for what the structure describes: a set, or a single address (RFC 5535 §8). */
export function verifyBinding(address: Address, pds: Uint8Array): HbaFault | undefined {
  const parsed = parsePds(pds);
  if (typeof parsed === "string") return parsed;
  return isHba(parsed) ? verifyHba(address, pds) : verifyCga(address, pds);
}

/**
 * DER of an RSA key whose modulus is the nonce and whose exponent is 65537: RFC 5535 §6 wants the Extended Modifier
 * encoded as a public key and leaves the exponent open. The nonce's top bit is set, so that the length never varies.
 */
export function extendedModifierKey(nonce: Uint8Array): Uint8Array {
  const key = new Uint8Array(EXTENDED_MODIFIER_KEY_HEAD.length + EXTENDED_MODIFIER_LENGTH + EXPONENT_65537.length);
  key.set(EXTENDED_MODIFIER_KEY_HEAD);
  key.set(nonce.subarray(0, EXTENDED_MODIFIER_LENGTH), EXTENDED_MODIFIER_KEY_HEAD.length);
  key[EXTENDED_MODIFIER_KEY_HEAD.length] |= 0x80;
  key.set(EXPONENT_65537, EXTENDED_MODIFIER_KEY_HEAD.length + EXTENDED_MODIFIER_LENGTH);
  return key;
}

/** SubjectPublicKeyInfo of rsaEncryption, up to the first octet of a modulus of 384 bits. */
const EXTENDED_MODIFIER_KEY_HEAD = Uint8Array.of(
  ...[0x30, 0x4c, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00],
  ...[0x03, 0x3b, 0x00, 0x30, 0x38, 0x02, 0x31, 0x00],
);
const EXPONENT_65537 = Uint8Array.of(0x02, 0x03, 0x01, 0x00, 0x01);
