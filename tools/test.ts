/**
 * The gates of the project, in one command: format, lint, types, documentation, tests.
 *
 * Tests of the protocol core are pure and run in parallel. All others may touch the kernel (namespaces, devices,
 * routes) or measure time, and run one file after the other.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { runCommand } from "./command.ts";
import { documentationFaults } from "./doc_lint.ts";
import { addCounts, countTests, summaryLine, type TestCounts } from "./junit.ts";
import { ROOT, sourceFiles } from "./source_files.ts";

const HELP = `usage: deno task test [--quick] [--filter TEXT]

  --quick          leave out the end-to-end tests (tests/e2e)
  --filter TEXT    run only the tests whose name contains TEXT, and no other gate`;

/** Directories whose tests touch nothing outside their own memory. */
const PURE_TESTS = ["wire", "shim6", "reap", "policies", "sim", "fuzz"].map((name) => `tests/${name}/`);

/** Time limits in milliseconds: a hung gate must fail, not stall. */
const CHECK_TIMEOUT_MS = 180_000;
const TEST_TIMEOUT_MS = 600_000;

const PASSED: TestCounts = { passed: 1, failed: 0, skipped: 0 };
const FAILED: TestCounts = { passed: 0, failed: 1, skipped: 0 };

function report(gate: string, verdict: string, startedAt: number): void {
  console.log(`${gate.padEnd(18)} ${verdict} (${((performance.now() - startedAt) / 1000).toFixed(1)} s)`);
}

/**
 * A gate that holds or does not; its output is shown only if it does not. `faults` says what of the output of a failed
 * command counts (default: all of it).
 */
async function checkGate(
  name: string,
  args: readonly string[],
  faults = (output: string) => [output],
): Promise<TestCounts> {
  const startedAt = performance.now();
  const result = await runCommand(Deno.execPath(), args, { timeoutMs: CHECK_TIMEOUT_MS, cwd: ROOT });
  const found = result.code === 0 ? [] : faults(result.stdout + result.stderr);
  if (found.length === 0) {
    report(name, "ok", startedAt);
    return PASSED;
  }
  console.log(found.join(""));
  report(name, `FAILED: deno ${args[0]}`, startedAt);
  return FAILED;
}

/**
 * Runs test files and counts their tests. A run that fails without a failed test (a file that does not load) is one.
 * `quiet` shows the output only if something fails.
 */
async function testGate(
  name: string,
  files: readonly string[],
  flags: readonly string[],
  quiet = false,
): Promise<TestCounts> {
  if (files.length === 0) return addCounts([]);
  const startedAt = performance.now();
  const junitPath = await Deno.makeTempFile({ prefix: "shim6-agent-junit-" });
  console.log(`\n${name}: ${files.length} files`);
  try {
    // The check gate has looked at the types of all files already.
    const args = ["test", "-A", "--no-check", "--frozen", `--junit-path=${junitPath}`, ...flags, ...files];
    const result = await runCommand(Deno.execPath(), args, {
      timeoutMs: TEST_TIMEOUT_MS,
      cwd: ROOT,
      passOutput: !quiet,
    });
    // The dot reporter gives each dot a line of its own where there is no terminal.
    if (quiet && result.code !== 0) console.log((result.stdout + result.stderr).replaceAll(/^\.\n/gm, ""));
    const counts = countTests(await Deno.readTextFile(junitPath));
    if (result.code !== 0 && counts.failed === 0) {
      const end = result.code === null ? `not over after ${TEST_TIMEOUT_MS / 1000} s` : `exit code ${result.code}`;
      report(name, `FAILED: ${end}, without a failed test`, startedAt);
      return addCounts([counts, FAILED]);
    }
    report(name, summaryLine(counts), startedAt);
    return counts;
  } finally {
    await Deno.remove(junitPath);
  }
}

/** Runs what the options ask for and gives the sum over gates and tests. */
async function runGates(options: { quick: boolean; filter: string | undefined }): Promise<TestCounts> {
  const sources = sourceFiles().filter((path) => path.endsWith(".ts"));
  const tests = sources.filter((path) => path.endsWith("_test.ts"));
  const isPure = (path: string) => PURE_TESTS.some((directory) => path.startsWith(directory));
  const isEndToEnd = (path: string) => path.startsWith("tests/e2e/");
  const counts: TestCounts[] = [];

  if (options.filter === undefined) {
    const modules = sources.filter((path) => !path.startsWith("tests/"));
    counts.push(await checkGate("format", ["fmt", "--check"]));
    counts.push(await checkGate("lint", ["lint"]));
    counts.push(await checkGate("types", ["check", "--quiet", "--frozen", ...sources]));
    counts.push(await checkGate("documentation", ["doc", "--lint", ...modules], documentationFaults));
  }

  const flags = options.filter === undefined ? [] : [`--filter=${options.filter}`];
  counts.push(await testGate("core tests", tests.filter(isPure), [...flags, "--parallel", "--reporter=dot"], true));
  counts.push(await testGate("system tests", tests.filter((path) => !isPure(path) && !isEndToEnd(path)), flags));
  if (!options.quick) counts.push(await testGate("end-to-end tests", tests.filter(isEndToEnd), flags));
  return addCounts(counts);
}

if (import.meta.main) {
  let wrongUse = "";
  const args = parseArgs(Deno.args, {
    boolean: ["quick", "help"],
    string: ["filter"],
    unknown: (arg) => {
      wrongUse ||= `unknown argument ${arg}`;
      return false;
    },
  });
  if (args.help) {
    console.log(HELP);
  } else if (wrongUse !== "") {
    console.error(`${wrongUse}\n${HELP}`);
    Deno.exit(2);
  } else {
    const counts = await runGates(args);
    const ran = counts.passed + counts.failed > 0;
    if (!ran) console.log(`\nno test has "${args.filter}" in its name`);
    console.log(`\n${summaryLine(counts)}`);
    Deno.exit(ran && counts.failed === 0 ? 0 : 1);
  }
}
