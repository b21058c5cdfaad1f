import { assertEquals } from "@std/assert";
import { insecureVerifier, ulidOnlyVerifier } from "../../shim6/verifier.ts";
import { parsePrefix } from "../../wire/address.ts";
import { B1, B2, B3, list } from "./bench.ts";

const options = { locators: list(1, B1, B2, B3) };

Deno.test("the ULID-only verifier believes in the ULID alone", () => {
  assertEquals(ulidOnlyVerifier.verify(B2, options, undefined), { verified: [false, true, false] });
  assertEquals(ulidOnlyVerifier.verify(B2, {}, undefined), { verified: [] });
});

Deno.test("the insecure verifier believes everything, or what lies inside its prefixes, and the ULID always", () => {
  assertEquals(insecureVerifier().verify(B1, options, undefined), { verified: [true, true, true] });
  const inside = insecureVerifier([parsePrefix("2001:db8:b2::/48")]);
  assertEquals(inside.verify(B1, options, undefined), { verified: [true, true, false] });
});
