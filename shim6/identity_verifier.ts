/** Locators of a peer are believed when they are bound to its ULID by HBA or CGA (RFC 5533 §4.4, §7.2). */

import type { Address } from "../wire/address.ts";
import { type LocatorList, type LocatorOptions, VerificationMethod } from "../wire/message.ts";
import type { LocatorVerifier } from "./api.ts";
import { signatureInput } from "./cga.ts";
import { verifyBinding, verifyHba } from "./hba.ts";
import { parsePds } from "./pds.ts";
import { parseRsaKey, verifyRsaSignature } from "./rsa.ts";

type Verdict = ReturnType<LocatorVerifier["verify"]>;

/** `locatorIndex` of a message that is ignored without a word. */
const SILENTLY = -1;

/**
 * Verifies by HBA and by CGA signature, all in the call: two hashes a locator, and at most one RSA operation a message.
 * A message is ignored as a whole when
 * - its PDS does not belong to the ULID: silently (RFC 5533 §7.13);
 * - a locator does not verify by the method that the list names for it: with an Error (§7.2).
 *
 * A list of a peer that never sent a PDS is no reason to ignore the message: verification may wait until a locator is to
 * be used (§7.2), and none but the ULID ever will be. The context works, on the ULID pair.
 */
export const identityVerifier: LocatorVerifier = { name: "hba-cga", announcesUnproven: false, verify };

function verify(ulid: Address, options: LocatorOptions, storedPds: Uint8Array | undefined): Verdict {
  if (options.pds !== undefined) {
    const fault = verifyBinding(ulid, options.pds);
    if (fault !== undefined) return { refused: `PDS is not that of the ULID: ${fault}`, locatorIndex: SILENTLY };
  }
  const list = options.locators;
  const pds = options.pds ?? storedPds;
  if (list === undefined) return { verified: [] };
  if (pds === undefined) return { verified: list.locators.map(({ address }) => address === ulid) };

  for (const [locatorIndex, { address, method }] of list.locators.entries()) {
    if (method === VerificationMethod.CGA) continue; // one signature over all of these, below
    const fault = method === VerificationMethod.HBA ? verifyHba(address, pds) : `unknown method ${method}`;
    if (fault !== undefined) return { refused: `${address} does not verify: ${fault}`, locatorIndex };
  }
  const signed = list.locators.findIndex(({ method }) => method === VerificationMethod.CGA);
  const fault = signed < 0 ? undefined : signatureFault(list, pds, options.signature);
  if (fault !== undefined) {
    return { refused: `${list.locators[signed].address} is not signed: ${fault}`, locatorIndex: signed };
  }
  return { verified: list.locators.map(() => true) };
}

/** Why the list's locators with method CGA are not signed by the owner of the key (RFC 5533 §5.15.5). */
function signatureFault(list: LocatorList, pds: Uint8Array, signature: Uint8Array | undefined): string | undefined {
  if (signature === undefined) return "no signature";
  const parsed = parsePds(pds);
  if (typeof parsed === "string") return parsed;
  const key = parseRsaKey(parsed.publicKey);
  if (key === undefined) return "the PDS has no RSA key of 1024 to 4096 bits";
  return verifyRsaSignature(key, signatureInput(list), signature) ? undefined : "wrong signature";
}
