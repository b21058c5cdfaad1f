import { assert, assertEquals } from "@std/assert";
import { KILLS } from "../../lab/failover.ts";
import { PAPER } from "../../reap/profile.ts";
import { runCommand } from "../../tools/command.ts";
import { simulateFailover } from "../../tools/simulated_failover.ts";
import { ROOT } from "../../tools/source_files.ts";

function demo(...args: string[]) {
  return runCommand(Deno.execPath(), ["run", "--allow-all", `${ROOT}tools/demo.ts`, ...args], { timeoutMs: 30_000 });
}

for (const kill of KILLS) {
  Deno.test(`the simulated story comes to a good end: ${kill}`, () => {
    const options = { policy: "burst4", profile: PAPER, kill, killAtMs: 2_000, durationMs: 5_000, seed: 7 };
    const result = simulateFailover(options);
    assert(result.recovered && result.intact, JSON.stringify({ ...result, timeline: [] }));
    const { silence_ms, detection_ms, exploration_ms, resume_ms } = result;
    assert(Math.abs(detection_ms + exploration_ms + resume_ms - silence_ms) < 1e-6);
    const noticed = kill === "link" || kill === "address";
    assert(noticed ? silence_ms < 500 : silence_ms > 2_500 && silence_ms < 6_000, `${silence_ms} ms`);
    assertEquals(simulateFailover(options), result);
  });
}

Deno.test("a simulated demo says so, in plain text where there is no terminal, and succeeds", async () => {
  const { code, stdout } = await demo("--simulate");
  assertEquals(code, 0);
  assert(stdout.startsWith("SIMULATED"), stdout);
  assert(/silence \d+ ms = detection \d+ ms \+ exploration/.test(stdout), stdout);
  assert(/^[\x20-\x7e\n]*$/.test(stdout), "only ASCII");
});

Deno.test("the demo explains itself and refuses what it does not know", async () => {
  const help = await demo("--help");
  assertEquals([help.code, help.stdout.startsWith("usage: deno task demo")], [0, true]);
  const wrong = await demo("--kill", "everything");
  assertEquals([wrong.code, wrong.stderr.includes("--kill everything")], [2, true]);
});
