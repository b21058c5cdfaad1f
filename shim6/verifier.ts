/**
 * Which locators of a peer may be used (RFC 5533 §4.4, §7.2). HBA and CGA will be verifiers like these two, which
 * prove nothing: one believes everything, the other nothing.
 */

import { type Address, inPrefix, type Prefix } from "../wire/address.ts";
import { type LocatorOptions, VerificationMethod } from "../wire/message.ts";
import type { LocatorVerifier } from "./api.ts";
import type { LocatorProver } from "./identity.ts";

/** Claims this host's locators without proof; the method is a mere placeholder. For peers with {@linkcode insecureVerifier}. */
export const unprovenClaims: LocatorProver = {
  covers: () => true,
  prove: (_ulid, addresses, generation) => ({
    locators: { generation, locators: addresses.map((address) => ({ address, method: VerificationMethod.HBA })) },
  }),
};

/** Whether the method is one of those that RFC 5533 §5.15.2 defines. A list with another one is ignored (§7.2). */
export function isKnownMethod(method: number): boolean {
  return method === VerificationMethod.HBA || method === VerificationMethod.CGA;
}

/** Believes in the ULID alone: a context with a peer that cannot prove its other locators stays on the ULID pair. */
export const ulidOnlyVerifier: LocatorVerifier = {
  name: "ulid-only",
  announcesUnproven: false,
  verify: (ulid, options) => ({ verified: addressesOf(options).map((address) => address === ulid) }),
};

/**
 * Believes a peer whatever locators inside `prefixes` it claims; no prefix given means all. Whoever can answer from an
 * address inside them can take over a flow: for tests, and for networks where every host is trusted.
 */
export function insecureVerifier(prefixes: readonly Prefix[] = []): LocatorVerifier {
  const inside = (address: Address) => prefixes.length === 0 || prefixes.some((prefix) => inPrefix(address, prefix));
  return {
    name: "insecure",
    announcesUnproven: true,
    verify: (ulid, options) => ({
      verified: addressesOf(options).map((address) => address === ulid || inside(address)),
    }),
  };
}

function addressesOf(options: LocatorOptions): Address[] {
  return options.locators?.locators.map((locator) => locator.address) ?? [];
}
