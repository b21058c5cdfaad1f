import { assert, assertEquals, assertFalse } from "@std/assert";
import { type ChartStyle, drawChart, type Story, tellStory, toColumns } from "../../lab/chart.ts";

const PLAIN: ChartStyle = { unicode: false, color: false };
const RICH: ChartStyle = { unicode: true, color: true };
const ESCAPES = new RegExp("\x1b\\[[0-9;]*m", "g");

/** 40 Mbit/s, a silence, what was missed, 40 Mbit/s. */
const COLUMNS = [500_000, 500_000, 0, 0, 5_000_000, 500_000];

Deno.test("the chart shows bars, the silence, a burst cut at the top, and where the path broke", () => {
  assertEquals(drawChart({ columns: COLUMNS, columnMs: 100, brokenAt: 2, width: 12 }, PLAIN), [
    "   60 |    +        Mbit/s",
    "      |    #",
    "      |    #",
    "      |##  ##",
    "      |##  ##",
    "      |##  ##",
    "      |##  ##",
    "    0 |##  ##",
    "      +------------",
    "       0 s       1 s",
    "         ^ path broken",
  ]);
});

Deno.test("with colours and Unicode the chart has the same shape", () => {
  const plain = drawChart({ columns: COLUMNS, columnMs: 100, brokenAt: 2 }, PLAIN);
  const rich = drawChart({ columns: COLUMNS, columnMs: 100, brokenAt: 2 }, RICH);
  assert(rich.some((line) => line.includes("\x1b[")) && rich.some((line) => line.includes("█")));
  assertEquals(rich.length, plain.length);
  const bare = rich.map((line) => line.replace(ESCAPES, ""));
  assertEquals(bare.slice(-3).map((line) => line.length), plain.slice(-3).map((line) => line.length));
  assertEquals(bare.slice(1, 3), ["      ┤    █ ", "      ┤▃▃  █▃"]);
});

Deno.test("a chart of nothing can be drawn, too", () => {
  const lines = drawChart({ columns: [], columnMs: 100, width: 20 }, PLAIN);
  assertEquals(lines.length, 10);
  assert(lines.every((line) => !line.includes("#") && !line.includes("NaN")));
});

Deno.test("a trickle is visible in the lowest row", () => {
  assert(drawChart({ columns: [1e6, 1e6, 10], columnMs: 100 }, PLAIN)[7].endsWith("###"));
});

Deno.test("a timeline is summed into columns, and what comes too late into the last one", () => {
  const timeline = [{ t_ms: 0, bytes: 1 }, { t_ms: 90, bytes: 2 }, { t_ms: 210, bytes: 4 }, { t_ms: 900, bytes: 8 }];
  assertEquals(toColumns(timeline, 100, 4), [3, 0, 4, 8]);
});

Deno.test("the story tells the pairs, the silence and its parts; a stream that did not come back is not praised", () => {
  const pair = (local: string, peer: string) => ({ local, peer });
  const story: Story = {
    kill: "both",
    recovered: true,
    intact: true,
    silence_ms: 3057,
    detection_ms: 3000,
    exploration_ms: 40,
    resume_ms: 7.25,
    pair_before: { a: pair("fd00::a1", "fd00::b1"), b: pair("fd00::b1", "fd00::a1") },
    pair_after: { a: pair("fd00::a3", "fd00::b2"), b: pair("fd00::b2", "fd00::a2") },
  };
  const told = tellStory(story, "all is well", PLAIN).join("\n");
  for (
    const words of [
      "fd00::a1 -> fd00::b1",
      "fd00::a3 -> fd00::b2   and back   fd00::b2 -> fd00::a2",
      "silence 3057 ms = detection 3000 ms + exploration 40 ms + resume 7.3 ms",
      "all is well",
    ]
  ) assert(told.includes(words), told);
  assertFalse(told.includes("\x1b"));
  const lost = tellStory({ ...story, recovered: false }, "", PLAIN).join("\n");
  assert(lost.includes("did not come back") && !lost.includes("resume"), lost);
});
