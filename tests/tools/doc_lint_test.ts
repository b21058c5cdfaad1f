import { assertEquals } from "@std/assert";
import { documentationFaults } from "../../tools/doc_lint.ts";

const MEMBER = `error[missing-jsdoc]: exported symbol is missing JSDoc documentation
  --> /a.ts:12:3
   |
12 |   address: string;
   |   ^


`;
const SYMBOL = `error[missing-jsdoc]: exported symbol is missing JSDoc documentation
 --> /a.ts:3:14
  |
3 | export const A: number = 1;
  |              ^


`;
const PRIVATE_TYPE = `error[private-type-ref]: public type 'A["b"]' references private type 'B'
  --> /a.ts:12:3
   |
12 |   b: B;
   |   ^
   = hint: make the referenced type public or remove the reference
`;
const CLOSING = "error: Found 3 documentation lint errors.\n";

Deno.test("an undocumented member is not a fault, an undocumented symbol is", () => {
  assertEquals(documentationFaults(`Check a.ts\n${MEMBER}${SYMBOL}${CLOSING}`), [SYMBOL]);
});

Deno.test("a member whose type is not exported is a fault", () => {
  assertEquals(documentationFaults(`${MEMBER}${PRIVATE_TYPE}${CLOSING}`), [PRIVATE_TYPE]);
});

Deno.test("what keeps the modules from being read is a fault", () => {
  const missing = 'error: Module not found "file:///b.ts".\n    at file:///a.ts:1:1\n';
  assertEquals(documentationFaults(missing), [missing]);
  assertEquals(documentationFaults(`Checked 3 files\n${MEMBER}${CLOSING}`), []);
});
