/** The CGA Parameters data structure (RFC 3972 §3) with its extension fields (RFC 4581 §2). */

import { get16, put16 } from "../wire/octets.ts";
import { DerTag, readDer } from "./der.ts";

/** Octets of the Modifier. */
export const MODIFIER_LENGTH = 16;
/** Octets of a Subnet Prefix: prefixes of CGAs and HBAs are always /64. */
export const SUBNET_PREFIX_LENGTH = 8;
/** Offset of the Subnet Prefix. */
export const SUBNET_PREFIX_OFFSET = 16;
/** Offset of the Collision Count. */
export const COLLISION_COUNT_OFFSET = 24;
/** Offset of the Public Key. */
export const PUBLIC_KEY_OFFSET = 25;
/** The Collision Count is 0, 1 or 2 (RFC 3972 §4). */
export const MAX_COLLISION_COUNT = 2;

/** Why octets are no CGA Parameters data structure. */
export type PdsFault =
  | "too-short"
  /** The Public Key is no SubjectPublicKeyInfo, or it reaches past the end. */
  | "bad-public-key"
  /** An extension field reaches past the end. */
  | "bad-extension";

/** An extension field (RFC 4581 §2). Unknown ones mean nothing, but are hashed like all others. */
export interface PdsExtension {
  /** 16 bits. */
  readonly type: number;
  /** Without type and length. */
  readonly data: Uint8Array;
}

/** A CGA Parameters data structure. The parts are views of `octets`. */
export interface Pds {
  /** As it is sent and hashed. */
  readonly octets: Uint8Array;
  /** {@linkcode MODIFIER_LENGTH} octets. */
  readonly modifier: Uint8Array;
  /** {@linkcode SUBNET_PREFIX_LENGTH} octets. */
  readonly subnetPrefix: Uint8Array;
  /** Not checked here; see {@linkcode MAX_COLLISION_COUNT}. */
  readonly collisionCount: number;
  /** DER of a SubjectPublicKeyInfo, of which only the outer length was looked at. */
  readonly publicKey: Uint8Array;
  /** In the order in which they stand. */
  readonly extensions: readonly PdsExtension[];
}

/** Parses a CGA Parameters data structure; a string says what is wrong with it. */
export function parsePds(octets: Uint8Array): Pds | PdsFault {
  if (octets.length <= PUBLIC_KEY_OFFSET) return "too-short";
  const key = readDer(octets, PUBLIC_KEY_OFFSET, octets.length);
  if (key?.tag !== DerTag.SEQUENCE) return "bad-public-key";
  const extensions: PdsExtension[] = [];
  for (let at = key.end; at < octets.length;) {
    const start = at + 4;
    if (start > octets.length) return "bad-extension";
    const end = start + get16(octets, at + 2);
    if (end > octets.length) return "bad-extension";
    extensions.push({ type: get16(octets, at), data: octets.subarray(start, end) });
    at = end;
  }
  return {
    octets,
    modifier: octets.subarray(0, MODIFIER_LENGTH),
    subnetPrefix: octets.subarray(SUBNET_PREFIX_OFFSET, COLLISION_COUNT_OFFSET),
    collisionCount: octets[COLLISION_COUNT_OFFSET],
    publicKey: octets.subarray(PUBLIC_KEY_OFFSET, key.end),
    extensions,
  };
}

/** The octets of a CGA Parameters data structure made of these parts. */
export function emitPds(parts: Omit<Pds, "octets">): Uint8Array {
  const tail = keyAndExtensions(parts.publicKey, parts.extensions);
  const octets = new Uint8Array(PUBLIC_KEY_OFFSET + tail.length);
  octets.set(parts.modifier);
  octets.set(parts.subnetPrefix, SUBNET_PREFIX_OFFSET);
  octets[COLLISION_COUNT_OFFSET] = parts.collisionCount;
  octets.set(tail, PUBLIC_KEY_OFFSET);
  return octets;
}

/** What follows the Collision Count: the part that the search for a Modifier leaves alone. */
export function keyAndExtensions(publicKey: Uint8Array, extensions: readonly PdsExtension[]): Uint8Array {
  const length = extensions.reduce((sum, { data }) => sum + 4 + data.length, publicKey.length);
  const octets = new Uint8Array(length);
  octets.set(publicKey);
  let at = publicKey.length;
  for (const { type, data } of extensions) {
    put16(octets, at, type);
    put16(octets, at + 2, data.length);
    octets.set(data, at + 4);
    at += 4 + data.length;
  }
  return octets;
}

/** A copy of the structure's octets for another prefix: that of the first 64 bits of `address`. */
export function withPrefixOf(pds: Uint8Array, address: Uint8Array): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(pds);
  copy.set(address.subarray(0, SUBNET_PREFIX_LENGTH), SUBNET_PREFIX_OFFSET);
  return copy;
}
