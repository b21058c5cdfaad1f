/** The testbed from the command line, as somebody uses it who wants to try things by hand. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { IdentityError, loadIdentityFile } from "../../agent/identity.ts";
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
      const identity = loadIdentityFile(`/run/${NAME}-a.identity`);
      assertEquals(identity.addresses.length, 2);
      for (
        const words of [
          `a1  ${identity.addresses[0]}/64`,
          `a2  ${identity.addresses[1]}/64`,
          "b3  2001:db8:b3:",
          `ip netns exec ${NAME}-a shim6-agent run --identity /run/${NAME}-a.identity`,
        ]
      ) assert(up.stdout.includes(words), up.stdout);
      assert(!up.stdout.includes("a3  "), up.stdout);
      const again = await lab("up", "--name", NAME, "--plain"); // in place of the first one
      assertEquals(again.code, 0, again.stderr);
      for (const words of ["a3  2001:db8:a3::a/64", "run --insecure-locators"]) {
        assert(again.stdout.includes(words), again.stdout);
      }
      const down = await lab("down", "--name", NAME);
      assertEquals([down.code, down.stdout.trim()], [0, `removed ${NAME}`]);
      assertEquals(namespaces(), []);
      assertThrows(() => loadIdentityFile(`/run/${NAME}-a.identity`), IdentityError, "cannot read");
      assertEquals((await lab("down", "--name", NAME)).stdout.trim(), `there is no testbed ${NAME}`);
    } finally {
      await lab("down", "--name", NAME);
    }
  },
});

Deno.test("every lab command explains itself, and wrong use is told in one sentence with exit code 2", async () => {
  const commands = ["up", "down", "failover", "exploration", "delays", "provider", "traffic"];
  for (const args of [[], ...commands.map((command) => [command])]) {
    const help = await lab(...args, "--help");
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
    [["exploration", "--broken", "17"], "--broken 17"],
    [["exploration", "--testbeds", "0"], "--testbeds 0"],
    [["delays", "--reading", "current=last"], "--reading"],
    [["provider", "--locators", "1x2"], "--locators 1x2"],
  ];
  for (const [args, words] of wrong) {
    const result = await lab(...args);
    assertEquals(result.code, 2, `${args.join(" ")}: ${result.stderr}`);
    assert(result.stderr.startsWith("shim6-agent: ") && result.stderr.includes(words), result.stderr);
  }
});
