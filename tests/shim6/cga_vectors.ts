/** The examples in `tests/fixtures/cga-hba-vectors.json`. */

import vectorFile from "../fixtures/cga-hba-vectors.json" with { type: "json" };
import type { HbaFault } from "../../shim6/hba.ts";
import { type LocatorList, VerificationMethod } from "../../wire/message.ts";

/** The examples as the file has them. */
export const { cga, hba, negative, signature, keys } = vectorFile;

/** Octets from hexadecimal text. */
export const fromHex = (hex: string): Uint8Array<ArrayBuffer> => Uint8Array.fromHex(hex);

/** Our name for what the file says of the step at which verification fails. */
export const FAULTS: Readonly<Record<string, HbaFault>> = {
  "1-collision-count": "collision-count",
  "2-prefix": "prefix",
  "4-hash1": "hash1",
  "7-hash2": "hash2",
  "7-hash2 (or earlier as unsupported Sec)": "unknown-sec",
  "parse: short": "too-short",
  "parse: spki overruns": "bad-public-key",
  "parse: ext overruns": "bad-extension",
  "1-prefix-not-in-set": "prefix-not-in-set",
  "no-multiprefix": "no-multi-prefix",
};

/** The example with that name. */
export function named<T extends { readonly name: string }>(examples: readonly T[], name: string): T {
  const found = examples.find((example) => example.name === name);
  if (found === undefined) throw new Error(`no vector ${name}`);
  return found;
}

/** The Locator List that a signature example is about. */
export function listOf(example: typeof signature[number]): LocatorList {
  const locators = example.locators.map((address, i) => ({ address, method: example.verificationMethods[i] }));
  return { generation: example.generation, locators };
}

/** The members of a set as a Locator List. */
export function hbaList(members: readonly { readonly address: string }[], generation = 7): LocatorList {
  return { generation, locators: members.map(({ address }) => ({ address, method: VerificationMethod.HBA })) };
}
