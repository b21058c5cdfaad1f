/** The little of DER (X.690) that an RSA public key needs. */

/** Tags of the values in a SubjectPublicKeyInfo. */
export const DerTag = { INTEGER: 0x02, BIT_STRING: 0x03, SEQUENCE: 0x30 } as const;

/** Where one DER value lies in its surroundings. */
export interface DerValue {
  /** The identifier octet. */
  readonly tag: number;
  /** Offset of the first octet of its contents. */
  readonly start: number;
  /** Offset behind its contents. */
  readonly end: number;
}

/**
 * Reads the header of the DER value at `offset`, which must end at `limit` or before. Undefined when it does not, or
 * when its length is indefinite or takes more than three octets to write.
 */
export function readDer(octets: Uint8Array, offset: number, limit: number): DerValue | undefined {
  if (limit - offset < 2) return undefined;
  let start = offset + 2;
  let length = octets[offset + 1];
  if (length >= 0x80) {
    const width = length & 0x7f;
    if (width < 1 || width > 3 || limit - start < width) return undefined;
    length = 0;
    for (const end = start + width; start < end; start++) length = length << 8 | octets[start];
  }
  const end = start + length;
  return end > limit ? undefined : { tag: octets[offset], start, end };
}
