import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { CommandError, UsageError } from "../../errors.ts";
import { simCommand } from "../../sim/commands.ts";

/** What a command prints. */
async function output(command: string): Promise<string> {
  const lines: string[] = [];
  const { log } = console;
  console.log = (line: string) => lines.push(line);
  try {
    assertEquals(await simCommand(command.split(" ")), 0);
  } finally {
    console.log = log;
  }
  return lines.join("\n");
}

const QUANTILES = { p50: "number", p80: "number", p95: "number", p99: "number", max: "number" };
const RECOVERY = {
  exploration_ms: QUANTILES,
  share_below_390_ms: "number",
  share_below_600_ms: "number",
  unrecovered: "number",
  messages_per_recovery: "number",
  detection_ms: QUANTILES,
  recovery_ms: QUANTILES,
  best_rtt_ms: QUANTILES,
  excess_rtt_ms: "number",
  relapses: "number",
};
const PAIR = { locators: "string", trials: "number", seed: "number", delay_ms: "string", ...RECOVERY };

/** The names and types in a value. */
function shape(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shape);
  if (typeof value !== "object" || value === null) return typeof value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shape(inner)]));
}

const COMMANDS: Record<string, unknown> = {
  "exploration --policy random --profile paper --locators 3x3 --broken 5 --trials 6 --seed 3 --delay-ms 5-50": {
    policy: "string",
    profile: "string",
    broken: "number",
    ...PAIR,
  },
  "delays --policy burst18 --failures 40 --seed 3": {
    policy: "string",
    profile: "string",
    failures: "number",
    seed: "number",
    one_way_share: new Array(9).fill("number"),
    best_two_share: "number",
    rtt_histogram: { 0: "number", 20: "number" },
    ...RECOVERY,
  },
  "provider --policy disjoint --locators 2x3 --down 1 --trials 6 --seed 3": {
    policy: "string",
    profile: "string",
    down: "number",
    ...PAIR,
  },
  "storm --contexts 10 --seed 3": {
    policy: "string",
    profile: "string",
    contexts: "number",
    trials: "number",
    seed: "number",
    notice: "string",
    delay_ms: "string",
    exploration_ms: QUANTILES,
    share_below_390_ms: "number",
    share_below_600_ms: "number",
    unrecovered: "number",
    messages_per_recovery: "number",
    peak_messages_per_100_ms: "number",
    peak_messages_per_s: "number",
    first_detection_ms: QUANTILES,
    since_first_detection_ms: QUANTILES,
    recovery_ms: QUANTILES,
  },
  "coordinates --policy coord --hosts 12 --peers 4 --warm-up-s 60 --trials 4 --liars 20 --lie far --seed 3": {
    policy: "string",
    profile: "string",
    hosts: "number",
    locators: "number",
    peers: "number",
    warm_up_s: "number",
    pause_s: "number",
    notice: "string",
    trials: "number",
    seed: "number",
    liars_percent: "number",
    lie: "string",
    violations_share: "number",
    prediction: {
      median_error: "number",
      p90_error: "number",
      first_best_share: "number",
      first_excess_ms: "number",
      any_excess_ms: "number",
    },
    reported: { median_error: "number", rankings: "number", first_best_share: "number" },
    first_probe_best_share: "number",
    ...RECOVERY,
  },
};

for (const [command, expected] of Object.entries(COMMANDS)) {
  const name = command.split(" ")[0];
  Deno.test(`sim ${name} prints the fields that it promises, the same octets for the same seed`, async () => {
    const text = await output(command);
    assertEquals(shape(JSON.parse(text)), expected);
    assertEquals(await output(command), text);
    assertNotEquals(await output(command.replace("--seed 3", "--seed 4")), text);
  });
}

Deno.test("the times are written in seconds, one line per host that left Operational", async () => {
  const path = await Deno.makeTempFile({ prefix: "shim6-agent-times-" });
  try {
    const command = `exploration --broken 2 --trials 20 --times ${path}`;
    const { exploration_ms } = JSON.parse(await output(command));
    const lines = (await Deno.readTextFile(path)).trimEnd().split("\n");
    assertEquals(lines.length, 40);
    assert(lines.every((line) => /^\d+\.\d{6}$/.test(line)));
    assertEquals(Math.max(...lines.map(Number)), exploration_ms.max / 1_000);
    await output(`${command} --count first`);
    assertEquals((await Deno.readTextFile(path)).trimEnd().split("\n"), lines);
  } finally {
    await Deno.remove(path);
  }
  await assertRejects(() => simCommand(["exploration", "--trials", "1", "--times", "/dev/null/x"]), CommandError);
});

Deno.test("every command has a help text", async () => {
  for (const command of ["exploration", "delays", "provider", "storm", "coordinates"]) {
    const text = await output(`${command} --help`);
    assert(text.startsWith(`usage: shim6-agent sim ${command}`) && text.includes("--policy"));
  }
  assert((await output("--help")).includes("exploration"));
});

Deno.test("wrong use is refused with what was expected", async () => {
  const refused: [string, string][] = [
    ["explore", "unknown sim command explore"],
    ["exploration --brokn 3", "--brokn"],
    ["exploration 3", "unknown argument 3"],
    ["exploration --broken 17", "from 1 to 16"],
    ["exploration --broken 0", "from 1 to 16"],
    ["exploration --broken 1.5", "a whole number"],
    ["exploration --locators 1x1", "two paths at least"],
    ["exploration --locators 10x1", "as in 3x3"],
    ["exploration --delay-ms 50-5", "as in 5-50"],
    ["exploration --trials 0", "1 or more"],
    ["exploration --trials", "needs one value"],
    ["exploration --seed=-1", "from 0 to 4294967295"],
    ["exploration --count both", "each, first, last"],
    ["coordinates --hosts 1", "from 2 to 200"],
    ["coordinates --locators 1", "from 2 to 9"],
    ["coordinates --liars 30", "--lie"],
    ["coordinates --liars 30 --lie little", "none, random, far, collude"],
    ["exploration --policy best", "unknown policy"],
    ["exploration --profile slow", "paper"],
    ["exploration --reading order=never", "round, once"],
    ["exploration --reading nothing", "gap-ms"],
    ["exploration --reading gap-ms=x", "milliseconds"],
    ["exploration --policy burst4 --reading order=once", "--policy random"],
    ["delays --failures none", "a whole number"],
    ["provider --locators 1x2", "from 2 to 9"],
    ["provider --locators 2x2 --down 2", "from 1 to 1"],
    ["storm --contexts 0", "from 1 to 20000"],
    ["storm --notice loud", "silent, link"],
  ];
  for (const [command, expected] of refused) {
    const error = await assertRejects(() => simCommand(command.split(" ")), UsageError);
    assert(error.message.includes(expected), `${command}: ${error.message}`);
  }
});
