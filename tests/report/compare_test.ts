import { assert, assertEquals, assertRejects } from "@std/assert";
import { parseHTML } from "linkedom";
import { UsageError } from "../../errors.ts";
import { PAPER } from "../../reap/profile.ts";
import { compareCommand, renderComparison, runComparison } from "../../report/compare.ts";
import { loadFigures } from "../../report/figures.ts";
import type { Failover, Measured } from "../../report/measured.ts";

const OPTIONS = {
  policies: ["random", "burst4"],
  trials: 8,
  labTrials: 3,
  stormContexts: 20,
  seed: 3,
  curves: [2, 16],
  onProgress: () => {},
};
const RUN = { ...OPTIONS, profile: "paper" };

/** What the testbed might have found. */
function withTestbed(simulated: Measured): Measured {
  const timeline = [{ t_ms: 2_010, bytes: 30_000 }, { t_ms: 5_500, bytes: 30_000 }];
  const parts = { silence_ms: 1_490, detection_ms: 1_480, exploration_ms: 5, resume_ms: 5 };
  const failover = (policy: string): Failover => ({
    ...parts,
    policy,
    profile: "paper",
    delay_ms: 0,
    intact: true,
    kill_t_ms: 3_000,
    timeline,
  });
  return {
    ...simulated,
    recoveries: simulated.recoveries.map(({ experiment, found }) => ({
      experiment,
      found: { ...found, testbed: found.simulated },
    })),
    delays: { ...simulated.delays, testbed: simulated.delays.simulated },
    curves: simulated.curves.map((curve) => ({ ...curve, testbed: curve.simulated })),
    paperFailovers: [failover("random")],
    failovers: OPTIONS.policies.map(failover),
    latenessMs: 5,
  };
}

Deno.test("a comparison gives JSON, well-formed figures and one page, the same octets for the same seed", async () => {
  const figures = await loadFigures();
  const simulate = () => runComparison({ ...OPTIONS, profile: PAPER });
  const simulated = simulate();
  const alone = renderComparison(RUN, simulated, figures);
  assertEquals([...renderComparison(RUN, simulate(), figures)], [...alone]);

  const json = JSON.parse(alone.get("compare.json")!);
  assertEquals([json.policies, json.profile, json.trials, json.seed], [OPTIONS.policies, "paper", 8, 3]);
  assertEquals(json.experiments.length, 6);
  for (const policy of OPTIONS.policies) {
    for (const { simulated } of json.experiments) assert(simulated[policy].messages_per_recovery > 0);
    assertEquals(json.delays.simulated[policy].one_way_share.length, 9);
    assert(json.storm.simulated[policy].peak_messages_per_100_ms > 0);
  }
  assertEquals([json.testbed, json.failovers], [undefined, []]);

  const both = renderComparison(RUN, withTestbed(simulated), figures);
  for (const [files, figure4] of [[alone, 0], [both, 2]] as const) {
    const names = [...files.keys()].filter((name) => name.endsWith(".svg"));
    assertEquals(names.filter((name) => name.startsWith("figure4")).length, figure4);
    const wanted = ["figure5.svg", "figure6.svg", "figure7.svg", "exploration-16.svg", "provider-4x4.svg", "storm.svg"];
    for (const name of wanted) assert(names.includes(name), name);
    for (const name of names) {
      const text = files.get(name)!;
      assert(/^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/.test(text), name);
      assert(!/NaN|undefined/.test(text), name);
      assertBalanced(name, text);
    }
    const page = files.get("index.html")!;
    assert(!/NaN|undefined/.test(page));
    const { document } = parseHTML(page) as unknown as {
      document: { querySelectorAll(selector: string): { length: number } };
    };
    assertEquals(document.querySelectorAll("figure").length, names.length);
    assertEquals(document.querySelectorAll("table").length, 9 + figure4);
  }
  assertEquals(JSON.parse(both.get("compare.json")!).failovers.length, 3);
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
  const wrong = [[], ["--out", "x", "--policies", "cat"], ["--out", "x", "--trials", "0"], ["--fast"]];
  for (const args of [...wrong, ["--out", "x", "--lab-trials", "few"]]) {
    await assertRejects(() => compareCommand(args), UsageError);
  }
});
