/**
 * The fuzzer: damaged messages for every parser, then random sequences for two hosts in virtual time. What it finds is
 * made small and written to `tests/fixtures/fuzz/`, which the tests replay.
 */

import { parseArgs } from "@std/cli";
import { type Fixture, keepFixture } from "../tests/fuzz/fixtures.ts";
import { minimise } from "../tests/fuzz/minimise.ts";
import { faultOf, fuzzParsers, type Tally } from "../tests/fuzz/parsers.ts";
import { faultOfSequence, randomSequence } from "../tests/fuzz/sequences.ts";

const HELP = `usage: deno task fuzz [options]

  --minutes N      stop after N minutes (default 10)
  --messages N     damaged messages for the parsers (default 1000000)
  --sequences N    random sequences for two hosts (default 100000)
  --seed N         where to begin (default: the time of day)`;

function keep(name: string, fixture: Fixture): void {
  console.log(`${fixture.error}\nkept as ${keepFixture(name, fixture)}`);
}

function tell(what: string, tally: Tally): void {
  console.log(`\n${what}`);
  for (const [outcome, times] of [...tally].sort(([a], [b]) => a < b ? -1 : 1)) {
    console.log(`  ${String(times).padStart(9)}  ${outcome}`);
  }
}

function main(): number {
  const flags = parseArgs(Deno.args, { string: ["minutes", "messages", "sequences", "seed"], boolean: ["help"] });
  if (flags.help) {
    console.log(HELP);
    return 0;
  }
  const number = (name: "minutes" | "messages" | "sequences" | "seed", otherwise: number) => {
    const value = flags[name] === undefined ? otherwise : Number(flags[name]);
    if (!(value >= 0)) throw new RangeError(`--${name} needs a number`);
    return value;
  };
  let limits;
  try {
    limits = {
      until: performance.now() + number("minutes", 10) * 60_000,
      messages: number("messages", 1_000_000),
      sequences: number("sequences", 100_000),
      seed: number("seed", Date.now() % 2 ** 31),
    };
  } catch (error) {
    console.error(`${(error as Error).message}\n${HELP}`);
    return 2;
  }
  const { until, messages, sequences, seed } = limits;
  const isOver = () => performance.now() > until;
  console.log(`seed ${seed}`);

  const parsed: Tally = new Map();
  const { played, fault } = fuzzParsers(seed, messages, parsed, isOver);
  tell(`${played} damaged messages`, parsed);
  if (fault !== undefined) {
    const { target } = fault;
    const octets = minimise([...fault.octets], (list) => faultOf(target, Uint8Array.from(list)) !== undefined);
    const error = faultOf(target, Uint8Array.from(octets))!;
    keep(`${target}-${seed}`, { kind: "octets", target, hex: Uint8Array.from(octets).toHex(), error });
    return 1;
  }

  const counted: Tally = new Map();
  let run = 0;
  for (; run < sequences && !isOver(); run++) {
    const sequence = randomSequence(seed + run);
    if (faultOfSequence(sequence, counted) === undefined) continue;
    console.log(`\nthe sequence of seed ${sequence.seed} fails`);
    const steps = minimise(sequence.steps, (steps) => faultOfSequence({ ...sequence, steps }) !== undefined);
    const error = faultOfSequence({ ...sequence, steps })!;
    keep(`sequence-${sequence.seed}`, { kind: "sequence", seed: sequence.seed, steps, error });
    return 1;
  }
  tell(`${run} sequences; control messages of both hosts:`, counted);
  return 0;
}

if (import.meta.main) Deno.exit(main());
