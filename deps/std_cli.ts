/**
 * `@std/cli`, taken from npm: `deno-std` is the build of the same code that npm carries, without its types, which
 * `std_cli.d.ts` therefore states. To take it from JSR, set this one line of deno.json and delete both files:
 * `"@std/cli": "jsr:@std/cli@^1.0.0",`
 *
 * @module
 */
// @ts-types="./std_cli.d.ts"
export { parseArgs } from "deno-std/cli/parse_args.js";
