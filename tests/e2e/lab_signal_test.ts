/** The testbed goes away with the command that built it, whenever that is told to end. */

import { assert, assertEquals } from "@std/assert";
import { monotonicNow } from "deno-tun";
import { thisProgram } from "../../lab/self.ts";

monotonicNow(); // opens the C library, which stays open, before a test begins and counts what it leaves behind

const needsRoot = Deno.uid() !== 0;
if (needsRoot) console.log("ending the testbed by signals is left out: not root");

const NAME = "shim6-test-signal";

/** What a run leaves in the file system and among the processes. */
function traces(): string[] {
  const found: string[] = [];
  for (const folder of ["/run/netns", "/tmp"]) {
    for (const { name } of Deno.readDirSync(folder)) {
      if (name.startsWith(NAME) || name.startsWith("shim6-lab-")) found.push(`${folder}/${name}`);
    }
  }
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const command = Deno.readTextFileSync(`/proc/${name}/cmdline`).replaceAll("\0", " ");
      if (command.includes(NAME) || command.includes("shim6-lab-")) found.push(command);
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

for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
  Deno.test({
    name: `a failover that ${signal} ends leaves no namespace, no process and no file`,
    ignore: needsRoot,
    fn: async () => {
      const before = traces();
      const { command, args } = thisProgram();
      const child = new Deno.Command(command, {
        args: [...args, "lab", "failover", "--name", NAME, "--duration", "60"],
        stdout: "null",
      }).spawn();
      await until("both agents run", () => traces().filter((t) => t.includes(" run --identity")).length >= 2);
      child.kill(signal);
      assertEquals((await child.status).code, code);
      await until(`all is gone: ${traces()}`, () => traces().join() === before.join());
    },
  });
}
