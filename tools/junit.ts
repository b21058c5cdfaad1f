/**
 * Reads the JUnit report of `deno test`: Deno's own closing line counts steps and tests apart, and is missing when the
 * run is cut short.
 *
 * @module
 */

/** How many tests (steps count too) ended how. */
export interface TestCounts {
  /** Ran and held. */
  readonly passed: number;
  /** Ran and failed, or could not run because its file failed. */
  readonly failed: number;
  /** Left out by the test itself (`ignore`), not by a filter. */
  readonly skipped: number;
}

/** One `<testcase>`: its attributes, then its content if it has any. */
const TEST_CASE = /<testcase\s([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g;

/** Counts the test cases of a JUnit report. A case left out by `--filter` carries no time and is not counted. */
export function countTests(junit: string): TestCounts {
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  for (const [, attributes, content = ""] of junit.matchAll(TEST_CASE)) {
    if (/<(failure|error)\b/.test(content)) failed++;
    else if (!/<skipped\b/.test(content)) passed++;
    else if (/\btime=/.test(attributes)) skipped++;
  }
  return { passed, failed, skipped };
}

/** The closing line: `N passed, N failed`, with the skipped ones if there are any. */
export function summaryLine(counts: TestCounts): string {
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : "";
  return `${counts.passed} passed, ${counts.failed} failed${skipped}`;
}

/** The sum of several counts. */
export function addCounts(counts: readonly TestCounts[]): TestCounts {
  return counts.reduce((sum, c) => ({
    passed: sum.passed + c.passed,
    failed: sum.failed + c.failed,
    skipped: sum.skipped + c.skipped,
  }), { passed: 0, failed: 0, skipped: 0 });
}
