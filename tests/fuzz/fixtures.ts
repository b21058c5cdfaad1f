/** What the fuzzer found, made small: `tests/fixtures/fuzz/`. */

import { ROOT } from "../../tools/source_files.ts";
import { faultOf } from "./parsers.ts";
import { faultOfSequence, type Step } from "./sequences.ts";

/** What is kept of a fault. `error` is what went wrong before it was mended. */
export type Fixture =
  | { readonly kind: "octets"; readonly target: string; readonly hex: string; readonly error: string }
  | { readonly kind: "sequence"; readonly seed: number; readonly steps: readonly Step[]; readonly error: string };

const DIRECTORY = `${ROOT}tests/fixtures/fuzz/`;

/** Writes a fixture; returns its path. */
export function keepFixture(name: string, fixture: Fixture): string {
  Deno.mkdirSync(DIRECTORY, { recursive: true });
  const steps = fixture.kind === "sequence" ? fixture.steps.map((step) => `\n  ${JSON.stringify(step)}`).join(",") : "";
  const text = fixture.kind === "sequence"
    ? JSON.stringify({ ...fixture, steps: [] }, null, 1).replace('"steps": []', () => `"steps": [${steps}\n ]`)
    : JSON.stringify(fixture, null, 1);
  Deno.writeTextFileSync(`${DIRECTORY}${name}.json`, text + "\n");
  return `tests/fixtures/fuzz/${name}.json`;
}

/** All fixtures by name. */
export function fixtures(): [name: string, fixture: Fixture][] {
  return [...Deno.readDirSync(DIRECTORY)].map(({ name }) => name).sort()
    .map((name) => [name, JSON.parse(Deno.readTextFileSync(DIRECTORY + name))]);
}

/** The fault that a fixture shows, if it still does. */
export function faultOfFixture(fixture: Fixture): string | undefined {
  return fixture.kind === "octets"
    ? faultOf(fixture.target, Uint8Array.fromHex(fixture.hex))
    : faultOfSequence(fixture);
}
