/** Cryptographically generated addresses: addresses that are a hash of a public key and a prefix (RFC 3972, RFC 4982). */

import { sha1 } from "@noble/hashes/legacy.js";
import { type Address, ADDRESS_LENGTH, formatAddress, parseAddress, writeAddress } from "../wire/address.ts";
import { type LocatorList, VerificationMethod } from "../wire/message.ts";
import { put32 } from "../wire/octets.ts";
import {
  COLLISION_COUNT_OFFSET,
  MAX_COLLISION_COUNT,
  parsePds,
  type PdsFault,
  PUBLIC_KEY_OFFSET,
  SUBNET_PREFIX_LENGTH,
  SUBNET_PREFIX_OFFSET,
} from "./pds.ts";

/** The largest Sec that has a meaning: SHA-1 and 16·Sec bits of Hash2 (RFC 4982 §6). */
export const MAX_SEC = 2;

/** Why an address does not belong to a CGA Parameters data structure. */
export type CgaFault =
  | PdsFault
  /** The Collision Count is neither 0, 1 nor 2 (RFC 3972 §5 step 1). */
  | "collision-count"
  /** Another Subnet Prefix than that of the address (step 2). */
  | "prefix"
  /** The interface identifier is not Hash1 (step 4). */
  | "hash1"
  /** Sec of the address has no meaning (RFC 4982 §6). */
  | "unknown-sec"
  /** Hash2 has too few zero bits for the Sec of the address (RFC 3972 §5 step 7). */
  | "hash2";

const INTERFACE_ID_LENGTH = 8;
const HASH2_LENGTH = 14;
const SEC_SHIFT = 5;
/** Bits of the first octet of an interface identifier that are hash bits: neither Sec nor u nor g. */
const HASH_BITS = 0x1c;

/** Hash1, 64 bits (RFC 3972 §3). */
export function hash1(pds: Uint8Array): Uint8Array {
  return sha1(pds).subarray(0, INTERFACE_ID_LENGTH);
}

/** Hash2, 112 bits (RFC 3972 §3): it depends neither on the prefix nor on the Collision Count. */
export function hash2(pds: Uint8Array): Uint8Array {
  const input = new Uint8Array(pds);
  input.fill(0, SUBNET_PREFIX_OFFSET, PUBLIC_KEY_OFFSET);
  return sha1(input).subarray(0, HASH2_LENGTH);
}

/** Sec of an address, 0..7 (RFC 3972 §2). */
export function secOf(address: Address): number {
  return parseAddress(address)[SUBNET_PREFIX_LENGTH] >> SEC_SHIFT;
}

/** The address that a CGA Parameters data structure gives with this Sec. */
export function cgaAddress(pds: Uint8Array, sec: number): Address {
  const octets = new Uint8Array(ADDRESS_LENGTH);
  octets.set(pds.subarray(SUBNET_PREFIX_OFFSET, COLLISION_COUNT_OFFSET));
  octets.set(hash1(pds), SUBNET_PREFIX_LENGTH);
  octets[SUBNET_PREFIX_LENGTH] = octets[SUBNET_PREFIX_LENGTH] & HASH_BITS | sec << SEC_SHIFT;
  return formatAddress(octets);
}

/**
 * Verifies that an address belongs to a CGA Parameters data structure (RFC 3972 §5). Undefined when it does. The u and
 * g bits do not matter, and an address with a lower Sec than the Modifier was searched for verifies too.
 */
export function verifyCga(address: Address, pds: Uint8Array): CgaFault | undefined {
  const parsed = parsePds(pds);
  if (typeof parsed === "string") return parsed;
  if (parsed.collisionCount > MAX_COLLISION_COUNT) return "collision-count";
  const octets = parseAddress(address);
  for (let i = 0; i < SUBNET_PREFIX_LENGTH; i++) if (octets[i] !== parsed.subnetPrefix[i]) return "prefix";
  const expected = hash1(pds);
  for (let i = 0; i < INTERFACE_ID_LENGTH; i++) {
    const difference = octets[SUBNET_PREFIX_LENGTH + i] ^ expected[i];
    if ((i === 0 ? difference & HASH_BITS : difference) !== 0) return "hash1";
  }
  const sec = octets[SUBNET_PREFIX_LENGTH] >> SEC_SHIFT;
  if (sec > MAX_SEC) return "unknown-sec";
  return sec === 0 || hasZeroBits(hash2(pds), sec) ? undefined : "hash2";
}

/** Whether the 16·Sec leftmost bits of Hash2 are zero. */
export function hasZeroBits(hash: Uint8Array, sec: number): boolean {
  return hash.subarray(0, 2 * sec).every((octet) => octet === 0);
}

/** CGA Message Type tag of Shim6 (RFC 5533 §5.15.5): what is signed for Shim6 means nothing elsewhere. */
const SHIM6_MESSAGE_TYPE_TAG = Uint8Array.of(
  ...[0x4a, 0x30, 0x56, 0x62, 0x48, 0x58, 0x57, 0x4b, 0x36, 0x55, 0x41, 0x6f, 0x50, 0x6a, 0x6d, 0x48],
);

/** What a CGA Signature signs: tag, generation and the locators whose method is CGA, in list order (RFC 5533 §5.15.5). */
export function signatureInput(list: LocatorList): Uint8Array<ArrayBuffer> {
  const signed = list.locators.filter(({ method }) => method === VerificationMethod.CGA);
  const start = SHIM6_MESSAGE_TYPE_TAG.length + 4;
  const input = new Uint8Array(start + signed.length * ADDRESS_LENGTH);
  input.set(SHIM6_MESSAGE_TYPE_TAG);
  put32(input, SHIM6_MESSAGE_TYPE_TAG.length, list.generation);
  signed.forEach(({ address }, i) => writeAddress(address, input, start + i * ADDRESS_LENGTH));
  return input;
}
