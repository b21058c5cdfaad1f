/** The testbed goes away with the command that built it, whenever that is told to end. */

import { assert, assertEquals } from "@std/assert";
import { monotonicNow } from "deno-tun";
import { thisProgram } from "../../lab/self.ts";

monotonicNow(); // opens the C library, which stays open, before a test begins and counts what it leaves behind

const needsRoot = Deno.uid() !== 0;
if (needsRoot) console.log("ending the testbed by signals is left out: not root");

const NAME = "shim6-test-signal";

/** What a run that makes its temporary files in `directory` has made and not taken away. */
function traces(directory: string): string[] {
  Deno.mkdirSync("/run/netns", { recursive: true }); // it comes with the first name
  const named = [...Deno.readDirSync("/run/netns")].filter(({ name }) => name.startsWith(NAME));
  const found = [...named, ...Deno.readDirSync(directory)].map(({ name }) => name);
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (!Deno.readTextFileSync(`/proc/${name}/environ`).includes(`TMPDIR=${directory}\0`)) continue;
      found.push(Deno.readTextFileSync(`/proc/${name}/cmdline`).replaceAll("\0", " "));
    } catch { /* it has ended meanwhile */ }
  }
  return found;
}

async function until(what: string, done: () => boolean): Promise<void> {
  const deadline = monotonicNow() + 20_000;
  while (!done()) {
    assert(monotonicNow() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const QUICK = ["--policies", "disjoint", "--trials", "1", "--quick", "--name", NAME];
const COMMANDS = {
  failover: ["lab", "failover", "--name", NAME, "--duration", "60"],
  exploration: ["lab", "exploration", "--name", NAME, "--testbeds", "2", "--trials", "50"],
  compare: ["compare", "--lab", "--out", "/dev/null/never", ...QUICK],
};

for (
  const [what, signal, code, agents] of [
    ["failover", "SIGINT", 130, 2],
    ["failover", "SIGTERM", 143, 2],
    ["exploration", "SIGINT", 130, 4],
    ["compare", "SIGINT", 130, 1],
    ["compare", "SIGTERM", 143, 4],
  ] as const
) {
  Deno.test({
    name: `${what}, ended by ${signal} when ${agents} agents run, leaves no namespace, no process and no file`,
    ignore: needsRoot,
    fn: async () => {
      const directory = await Deno.makeTempDir();
      try {
        const { command, args } = thisProgram();
        const child = new Deno.Command(command, {
          args: [...args, ...COMMANDS[what]],
          env: { TMPDIR: directory },
          stdout: "null",
          stderr: "null",
        }).spawn();
        const running = () => traces(directory).filter((trace) => trace.includes(" run --identity")).length;
        await until(`${agents} agents run`, () => running() >= agents);
        child.kill(signal);
        assertEquals((await child.status).code, code);
        await until(`all is gone: ${traces(directory)}`, () => traces(directory).length === 0);
      } finally {
        await Deno.remove(directory, { recursive: true });
      }
    },
  });
}
