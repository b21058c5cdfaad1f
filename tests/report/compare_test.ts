import { assert, assertEquals, assertRejects } from "@std/assert";
import { parseHTML } from "linkedom";
import { UsageError } from "../../errors.ts";
import { PAPER } from "../../reap/profile.ts";
import { compareCommand, renderComparison, runComparison } from "../../report/compare.ts";
import { loadFigures } from "../../report/figures.ts";

const OPTIONS = {
  policies: ["random", "burst4"],
  profile: PAPER,
  trials: 8,
  seed: 3,
  curves: [2, 16],
  onProgress: () => {},
};

Deno.test("a comparison gives JSON, well-formed figures and one page, the same octets for the same seed", async () => {
  const figures = await loadFigures();
  const timeline = [{ t_ms: 10, bytes: 30_000 }, { t_ms: 1_500, bytes: 30_000 }];
  const parts = { silence_ms: 1_490, detection_ms: 1_480, exploration_ms: 5, resume_ms: 5 };
  const testbed = [{ policy: "random", ...parts, intact: true, kill_t_ms: 10, timeline }];
  const render = () => renderComparison(OPTIONS, runComparison(OPTIONS), testbed, figures);
  const files = render();
  assertEquals([...render()], [...files]);

  const json = JSON.parse(files.get("compare.json")!);
  assertEquals([json.policies, json.profile, json.trials, json.seed], [OPTIONS.policies, "paper", 8, 3]);
  assertEquals(json.experiments.length, 6);
  for (const { results } of json.experiments) {
    for (const policy of OPTIONS.policies) assert(results[policy].messages_per_recovery > 0);
  }
  assertEquals(json.delays.burst4.one_way_share.length, 9);

  const names = [...files.keys()].filter((name) => name.endsWith(".svg"));
  for (
    const name of ["figure4-random.svg", "figure5.svg", "figure6-burst4.svg", "figure7-burst4.svg", "pareto-1.svg"]
  ) {
    assert(names.includes(name), name);
  }
  for (const name of names) {
    const text = files.get(name)!;
    assert(/^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/.test(text), name);
    assert(!/NaN|undefined/.test(text), name);
    assertBalanced(name, text);
  }
  const { document } = parseHTML(files.get("index.html")!) as unknown as {
    document: { querySelectorAll(selector: string): { length: number } };
  };
  assertEquals(document.querySelectorAll("figure").length, names.length);
  assertEquals(document.querySelectorAll("table").length, 8);
});

/** Each element that begins ends, in the right order. */
function assertBalanced(name: string, svg: string): void {
  const open: string[] = [];
  for (const [, closing, tag, , alone] of svg.matchAll(/<(\/?)([\w:]+)((?:"[^"]*"|[^">])*?)(\/?)>/g)) {
    if (closing) assertEquals(open.pop(), tag, name);
    else if (!alone) open.push(tag);
  }
  assertEquals(open, [], name);
}

Deno.test("compare tells wrong use before it begins", async () => {
  for (const args of [[], ["--out", "x", "--policies", "cat"], ["--out", "x", "--trials", "0"], ["--fast"]]) {
    await assertRejects(() => compareCommand(args), UsageError);
  }
});
