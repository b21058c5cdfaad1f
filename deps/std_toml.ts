/**
 * `@std/toml`, taken from npm: `deno-std` is the build of the same code that npm carries, without its types, which
 * `std_toml.d.ts` therefore states. To take it from JSR, set this one line of deno.json and delete both files:
 * `"@std/toml": "jsr:@std/toml@^1.0.0",`
 *
 * @module
 */
// @ts-types="./std_toml.d.ts"
export { parse, stringify } from "deno-std/toml/mod.js";
