import { assertEquals } from "@std/assert";
import { addCounts, countTests, summaryLine } from "../../tools/junit.ts";

/** As `deno test` writes it; a test left out by `--filter` carries no time. */
const REPORT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test" tests="7" failures="1" errors="1" time="0.652">
    <testsuite name="./a_test.ts" tests="7" disabled="2" errors="1" failures="1">
        <testcase name="holds &gt; with a &lt;failure&gt; in its name" classname="./a_test.ts" time="0.000" line="5" col="6">
        </testcase>
        <testcase name="also holds" classname="./a_test.ts" time="0.000" line="6" col="6"/>
        <testcase name="fails" classname="./a_test.ts" time="0.005" line="1" col="6">
            <failure message="Uncaught Error: boo">Error: boo
    at file:///a_test.ts:1:66</failure>
        </testcase>
        <testcase name="was cancelled" classname="./a_test.ts" time="0.000" line="2" col="6">
            <error message="Cancelled"/>
        </testcase>
        <testcase name="is ignored" classname="./a_test.ts" time="0.000" line="2" col="6">
            <skipped/>
        </testcase>
        <testcase name="was filtered out" classname="./a_test.ts" line="3" col="6">
            <skipped/>
        </testcase>
    </testsuite>
</testsuites>
`;

Deno.test("failures and errors count as failed, ignored tests as skipped, filtered ones not at all", () => {
  assertEquals(countTests(REPORT), { passed: 2, failed: 2, skipped: 1 });
});

Deno.test("an empty report, as a killed run leaves it, counts nothing", () => {
  assertEquals(countTests(""), { passed: 0, failed: 0, skipped: 0 });
});

Deno.test("the closing line names skipped tests only if there are any", () => {
  assertEquals(summaryLine({ passed: 12, failed: 0, skipped: 0 }), "12 passed, 0 failed");
  assertEquals(summaryLine({ passed: 12, failed: 3, skipped: 2 }), "12 passed, 3 failed, 2 skipped");
});

Deno.test("counts add up", () => {
  const one = { passed: 1, failed: 2, skipped: 3 };
  assertEquals(addCounts([one, one]), { passed: 2, failed: 4, skipped: 6 });
  assertEquals(addCounts([]), { passed: 0, failed: 0, skipped: 0 });
});
