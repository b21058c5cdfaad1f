/** The testbed from the command line, as somebody uses it who wants to try things by hand. */

import { assert, assertEquals } from "@std/assert";
import { thisProgram } from "../../lab/self.ts";
import { runCommand } from "../../tools/command.ts";

const needsRoot = Deno.uid() !== 0;
if (needsRoot) console.log("the testbed's commands are left out: not root");

const NAME = "shim6-test-up";

function lab(...args: string[]) {
  const { command, args: first } = thisProgram();
  return runCommand(command, [...first, "lab", ...args], { timeoutMs: 30_000 });
}

function namespaces(): string[] {
  try {
    return [...Deno.readDirSync("/run/netns")].map(({ name }) => name).filter((name) => name.startsWith(NAME)).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

Deno.test({
  name: "lab up leaves a testbed standing, tells how to use it, and lab down removes it",
  ignore: needsRoot,
  fn: async () => {
    try {
      const up = await lab("up", "--name", NAME, "--providers", "2x3");
      assertEquals([up.code, up.stderr], [0, ""]);
      assertEquals(namespaces(), [`${NAME}-a`, `${NAME}-b`, `${NAME}-r`]);
      for (const words of ["a2  2001:db8:a2::a/64", "b3  2001:db8:b3::b/64", `ip netns exec ${NAME}-a shim6-agent`]) {
        assert(up.stdout.includes(words), up.stdout);
      }
      assert(!up.stdout.includes("a3  "), up.stdout);
      const again = await lab("up", "--name", NAME); // in place of the first one
      assertEquals(again.code, 0, again.stderr);
      const down = await lab("down", "--name", NAME);
      assertEquals([down.code, down.stdout.trim()], [0, `removed ${NAME}`]);
      assertEquals(namespaces(), []);
      assertEquals((await lab("down", "--name", NAME)).stdout.trim(), `there is no testbed ${NAME}`);
    } finally {
      await lab("down", "--name", NAME);
    }
  },
});

Deno.test("every lab command explains itself, and wrong use is told in one sentence with exit code 2", async () => {
  for (
    const args of [["--help"], ["up", "--help"], ["down", "--help"], ["failover", "--help"], ["traffic", "--help"]]
  ) {
    const help = await lab(...args);
    assertEquals([help.code, help.stderr], [0, ""]);
    assert(help.stdout.startsWith("usage: shim6-agent lab"), help.stdout);
  }
  const wrong: [string[], string][] = [
    [["over"], "unknown lab command over"],
    [["up", "--providers", "3x0"], "--providers 3x0"],
    [["up", "--fast"], "--fast"],
    [["failover", "--kill", "cat"], "--kill cat"],
    [["failover", "--transport", "sctp"], "--transport sctp"],
    [["failover", "--duration", "long"], "--duration"],
    [["failover", "--executable", "/no/such/file"], "/no/such/file"],
    [["failover", "--transport", "udp", "--every-ms", "0"], "--every-ms 0"],
  ];
  for (const [args, words] of wrong) {
    const result = await lab(...args);
    assertEquals(result.code, 2, `${args.join(" ")}: ${result.stderr}`);
    assert(result.stderr.startsWith("shim6-agent: ") && result.stderr.includes(words), result.stderr);
  }
});
