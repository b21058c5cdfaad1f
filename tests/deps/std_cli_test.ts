import { parseArgs } from "@std/cli";
import { assertEquals } from "@std/assert";

/** Compiles only if `T` is exactly `E`. */
function assertType<E>() {
  return <T>(_value: T, ..._same: [T] extends [E] ? ([E] extends [T] ? [] : [never]) : [never]) => {};
}

Deno.test("options have the type that their declaration gives them", () => {
  const args = parseArgs(["--json", "--policy", "rtt", "--locator", "2001:db8::1", "-l", "7", "run"], {
    boolean: ["json", "verbose"],
    string: ["policy", "profile", "locator", "log-level"],
    collect: ["locator"],
    alias: { "log-level": ["l", "level"] },
    default: { policy: "adaptive", verbose: true },
    "--": true,
  });
  assertType<boolean>()(args.json);
  assertType<string>()(args.policy);
  assertType<string | undefined>()(args.profile);
  assertType<string[]>()(args.locator);
  assertType<string | undefined>()(args.l);
  assertType<string | undefined>()(args.level);
  assertType<(string | number)[]>()(args._);
  assertType<string[]>()(args["--"]);
  assertEquals([args.json, args.verbose, args.policy, args.profile], [true, true, "rtt", undefined]);
  assertEquals([args.locator, args.l, args.level, args["log-level"]], [["2001:db8::1"], "7", "7", "7"]);
  assertEquals(args._, ["run"]);
});

Deno.test("an option that was not declared is a type error", () => {
  const args = parseArgs(["--policy", "rtt"], { string: ["policy"] });
  // @ts-expect-error: misspelt
  assertEquals(args.polcy, undefined);
});

Deno.test("unknown options reach the unknown function, which can keep them out of the result", () => {
  const seen: string[] = [];
  const args = parseArgs(["--colour", "red", "--json"], {
    boolean: ["json"],
    unknown: (arg) => {
      seen.push(arg);
      return false;
    },
  });
  assertEquals(seen, ["--colour"]);
  assertEquals(args, { json: true, _: [] });
});

Deno.test("a negatable option is switched off by --no-, and a single name needs no array", () => {
  const args = parseArgs(["--no-steer"], { boolean: "steer", negatable: "steer", default: { steer: true } });
  assertType<boolean>()(args.steer);
  assertEquals(args.steer, false);
});
