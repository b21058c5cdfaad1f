/**
 * `@std/assert`, taken from npm: `deno-std` is the build of the same code that npm carries, without its types, which
 * `std_assert.d.ts` therefore states. To take it from JSR, set this one line of deno.json and delete both files:
 * `"@std/assert": "jsr:@std/assert@^1.0.0",`
 *
 * @module
 */
// @ts-types="./std_assert.d.ts"
export * from "deno-std/assert/mod.js";
