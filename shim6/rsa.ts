/**
 * RSA as CGA signatures use it: RSASSA-PKCS1-v1_5 with SHA-1 (RFC 8017 §8.2, RFC 3972 §6). Verification only. It works
 * on public values, so that it may take a time that depends on them, and it is cheap: a tenth of a millisecond for 2048
 * bits. That is why it is done here, in the middle of the engine, and no verdict has to be waited for.
 */

import { sha1 } from "@noble/hashes/legacy.js";
import { DerTag, readDer } from "./der.ts";

/** Shorter keys do not count as keys (RFC 5533 §16). */
export const MIN_RSA_BITS = 1024;
/** A limit to what a peer can make us compute. */
export const MAX_RSA_BITS = 4096;
/** Another one: an exponent of 32 bits. */
const MAX_EXPONENT = 0xffff_ffff;

/** An RSA public key. */
export interface RsaPublicKey {
  /** Odd. */
  readonly modulus: bigint;
  /** Length of the modulus. */
  readonly bits: number;
  /** Odd, from 3 to 2³²-1. */
  readonly exponent: number;
}

/** AlgorithmIdentifier of rsaEncryption with its parameters, NULL. */
const RSA_ENCRYPTION = "300d06092a864886f70d0101010500";
const RSA_ENCRYPTION_LENGTH = RSA_ENCRYPTION.length / 2;
/** DigestInfo of SHA-1 up to the digest (RFC 8017 §9.2). */
const SHA1_DIGEST_INFO = "3021300906052b0e03021a05000414";
const SHA1_LENGTH = 20;

/**
 * Parses the DER of a SubjectPublicKeyInfo. Undefined when it is none of an RSA key that may sign: of 1024 to 4096
 * bits, with an exponent of at most 32 bits.
 */
export function parseRsaKey(der: Uint8Array): RsaPublicKey | undefined {
  const info = readDer(der, 0, der.length);
  if (info?.tag !== DerTag.SEQUENCE || info.end !== der.length) return undefined;
  const algorithmEnd = info.start + RSA_ENCRYPTION_LENGTH;
  if (der.subarray(info.start, algorithmEnd).toHex() !== RSA_ENCRYPTION) return undefined;
  const bitString = readDer(der, algorithmEnd, info.end);
  if (bitString?.tag !== DerTag.BIT_STRING || bitString.end !== info.end || der[bitString.start] !== 0) {
    return undefined;
  }
  const key = readDer(der, bitString.start + 1, bitString.end);
  if (key?.tag !== DerTag.SEQUENCE || key.end !== bitString.end) return undefined;
  const modulus = readPositive(der, key.start, key.end);
  if (modulus === undefined) return undefined;
  const exponent = readPositive(der, modulus.end, key.end);
  if (exponent?.end !== key.end) return undefined;

  const bits = modulus.octets.length * 8 - Math.clz32(modulus.octets[0]) + 24;
  if (bits < MIN_RSA_BITS || bits > MAX_RSA_BITS || exponent.octets.length > 4) return undefined;
  const n = toBigInt(modulus.octets), e = Number(toBigInt(exponent.octets));
  if ((n & 1n) === 0n || (e & 1) === 0 || e < 3 || e > MAX_EXPONENT) return undefined;
  return { modulus: n, bits, exponent: e };
}

/** A DER INTEGER above zero, without the octet that only says that it is not negative. */
function readPositive(der: Uint8Array, offset: number, limit: number): { octets: Uint8Array; end: number } | undefined {
  const value = readDer(der, offset, limit);
  if (value?.tag !== DerTag.INTEGER || der[value.start] >= 0x80) return undefined;
  const start = der[value.start] === 0 ? value.start + 1 : value.start;
  if (start >= value.end || der[start] === 0) return undefined;
  return { octets: der.subarray(start, value.end), end: value.end };
}

/** Verifies a signature over `message` (RFC 8017 §8.2.2). */
export function verifyRsaSignature(key: RsaPublicKey, message: Uint8Array, signature: Uint8Array): boolean {
  const length = (key.bits + 7) >> 3;
  if (signature.length !== length) return false;
  const s = toBigInt(signature);
  if (s >= key.modulus) return false;
  // What a right signature must give is built and compared as a whole. Reading the padding instead is how forgeries
  // got past other implementations.
  const padding = "ff".repeat(length - 3 - SHA1_DIGEST_INFO.length / 2 - SHA1_LENGTH);
  const expected = BigInt(`0x0001${padding}00${SHA1_DIGEST_INFO}${sha1(message).toHex()}`);
  return power(s, key.exponent, key.modulus) === expected;
}

function power(base: bigint, exponent: number, modulus: bigint): bigint {
  let result = 1n;
  for (let square = base, rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result = result * square % modulus;
    square = square * square % modulus;
  }
  return result;
}

function toBigInt(octets: Uint8Array): bigint {
  return BigInt(`0x${octets.toHex()}`);
}
