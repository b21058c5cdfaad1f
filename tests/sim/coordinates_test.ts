import { assert, assertEquals } from "@std/assert";
import { createPolicy } from "../../policies/registry.ts";
import { PAPER } from "../../reap/profile.ts";
import { type CoordinatesOptions, runCoordinates } from "../../sim/experiments/coordinates.ts";
import { Geography } from "../../sim/experiments/geography.ts";
import { SeededRandom } from "../../sim/random.ts";

/** Small enough to be quick; the documents have the figures of larger runs. */
const OPTIONS: CoordinatesOptions = {
  policy: () => createPolicy("coord"),
  profile: PAPER,
  hosts: 24,
  locators: 3,
  peers: 4,
  warmUpMs: 600_000,
  pauseMs: 0,
  notice: "link",
  trials: 40,
  seed: 1,
  liars: 0,
  lie: "none",
};

Deno.test("paths have delays of 0.5 to 100 ms, nearly the same in both directions, and violate triangle inequalities", () => {
  const geography = new Geography(20, 3, new SeededRandom(1));
  for (let a = 0; a < 20; a++) {
    for (let b = 0; b < 20; b++) {
      if (a === b) continue;
      const forth = geography.delayMs(a, 1, b, 2), back = geography.delayMs(b, 2, a, 1);
      assert(forth > 0.5 && forth < 100 && Math.abs(forth / back - 1) < 0.11, `${forth} ${back}`);
    }
  }
  const share = geography.violations(2_000, new SeededRandom(2));
  assert(share > 0.05 && share < 0.3, `${share}`);
});

Deno.test("coordinates make the first probe to a new peer a better guess than adaptive's, for no more probes", () => {
  const coord = runCoordinates(OPTIONS).report;
  const adaptive = runCoordinates({ ...OPTIONS, policy: () => createPolicy("adaptive") }).report;
  assertEquals([coord.unrecovered, adaptive.unrecovered, adaptive.prediction], [0, 0, null]);
  assert(coord.prediction!.median_error < 0.35, `${coord.prediction!.median_error}`);
  assert(coord.prediction!.first_excess_ms < 0.75 * coord.prediction!.any_excess_ms);
  assert(coord.first_probe_best_share > adaptive.first_probe_best_share);
  assert(coord.excess_rtt_ms < adaptive.excess_rtt_ms, `${coord.excess_rtt_ms} ${adaptive.excess_rtt_ms}`);
  assert(coord.messages_per_recovery <= adaptive.messages_per_recovery + 0.3);
});

for (const lie of ["random", "far", "collude"] as const) {
  Deno.test(`with 30 % liars (${lie}) honest hosts stay in bounds: all recover, no order is worse than chance`, () => {
    const { encounters, report } = runCoordinates({ ...OPTIONS, liars: 0.3, lie });
    assertEquals([report.unrecovered, encounters.length], [0, OPTIONS.trials]);
    assert(report.prediction!.median_error < 0.8, `median error ${report.prediction!.median_error}`);
    assert(report.prediction!.first_excess_ms <= report.prediction!.any_excess_ms);
    assert(report.messages_per_recovery < 4, `${report.messages_per_recovery} messages`);
    assert(report.exploration_ms.p95 < 300, `p95 ${report.exploration_ms.p95} ms`);
  });
}

Deno.test("hosts without coordinates recover from the same failures, also from silent ones", () => {
  const options = { ...OPTIONS, warmUpMs: 10_000, trials: 8 };
  for (const [name, notice] of [["random", "link"], ["rtt", "link"], ["coord", "silent"]] as const) {
    const { report } = runCoordinates({ ...options, notice, policy: () => createPolicy(name) });
    assertEquals(report.unrecovered, 0, name);
  }
});
