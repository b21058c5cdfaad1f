/** What binds this host's own locators to its ULIDs, and how peers are told (RFC 5533 §5.15.2 to §5.15.5). */

import { type Address, parseAddress } from "../wire/address.ts";
import { type LocatorList, type LocatorOptions, VerificationMethod } from "../wire/message.ts";
import { signatureInput } from "./cga.ts";
import { verifyHba } from "./hba.ts";
import { withPrefixOf } from "./pds.ts";

/** Signs octets by RSASSA-PKCS1-v1_5 with SHA-1 and the private half of the PDS's key. */
export type Sign = (message: Uint8Array) => Uint8Array;

/** The options by which a peer verifies a list of locators. */
export type LocatorProof = Pick<LocatorOptions, "locators" | "pds" | "signature">;

/** Tells peers why they may believe this host's locators. */
export interface LocatorProver {
  /** Whether a peer can be convinced of this locator. Others must not be announced: peers ignore the whole message. */
  covers(address: Address): boolean;
  /**
   * The options that bind `addresses` to `ulid`, in this order, in a list of this generation. Undefined when there is
   * no proof: the ULID does not belong to the identity, or an address is not covered.
   */
  prove(ulid: Address, addresses: readonly Address[], generation: number): LocatorProof | undefined;
}

/**
 * Addresses of this host that one CGA Parameters data structure stands for. Without `sign` they are an HBA set, which
 * cannot change. With it, further locators are bound by a signature.
 */
export class LocalIdentity implements LocatorProver {
  readonly #pds: Uint8Array;
  /** Which addresses may be ULIDs, and whether their prefix is in the set, so that the hash alone proves them. */
  readonly #inSet: ReadonlyMap<Address, boolean>;
  readonly #sign: Sign | undefined;
  /** What was signed last: the same for all contexts until the list changes, and a signature takes milliseconds. */
  #signed: { readonly input: Uint8Array; readonly signature: Uint8Array } | undefined;

  /** `addresses` verify by `pds`, which may be that of any of them. */
  constructor(pds: Uint8Array, addresses: readonly Address[], sign?: Sign) {
    this.#pds = pds;
    this.#inSet = new Map(addresses.map((address) => [address, verifyHba(address, pds) === undefined]));
    this.#sign = sign;
  }

  covers(address: Address): boolean {
    return this.#sign !== undefined || this.#inSet.get(address) === true;
  }

  prove(ulid: Address, addresses: readonly Address[], generation: number): LocatorProof | undefined {
    if (!this.#inSet.has(ulid) || !addresses.every((address) => this.covers(address))) return undefined;
    const locators = addresses.map((address) => ({
      address,
      method: this.#inSet.get(address) === true ? VerificationMethod.HBA : VerificationMethod.CGA,
    }));
    // Each peer gets the PDS with the prefix of the ULID that it knows: some accept no other one (LinShim6).
    const pds = withPrefixOf(this.#pds, parseAddress(ulid));
    const list = { generation, locators };
    return { locators: list, pds, signature: this.#signatureOf(list) };
  }

  #signatureOf(list: LocatorList): Uint8Array | undefined {
    if (!list.locators.some(({ method }) => method === VerificationMethod.CGA)) return undefined;
    const input = signatureInput(list);
    const last = this.#signed;
    if (last?.input.length === input.length && input.every((octet, i) => octet === last.input[i])) {
      return last.signature;
    }
    const signature = this.#sign!(input);
    this.#signed = { input, signature };
    return signature;
  }
}
