import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { Capability } from "deno-tun";
import { START_CAPABILITIES } from "../../agent/privileges.ts";
import { BuildError, buildExecutable, type BuildTarget, canPack, ensureBuilt } from "../../tools/compile.ts";
import { runCommand } from "../../tools/command.ts";
import { ROOT } from "../../tools/source_files.ts";

const ignore = !canPack();
if (ignore) console.log(`a packed executable cannot be made on ${Deno.build.os} ${Deno.build.arch}`);

function target(directory: string, banner = "fixture 1.2.3"): BuildTarget {
  return { entry: `${ROOT}tests/fixtures/packed/main.ts`, output: `${directory}/program`, banner };
}

Deno.test({
  name: "a packed program behaves as if it had been started by Deno",
  ignore,
  async fn(t) {
    const directory = await Deno.makeTempDir();
    const program = `${directory}/program`;
    const options = { timeoutMs: 20_000, cwd: directory };
    try {
      await buildExecutable(target(directory), "pack");
      await Deno.chmod(directory, 0o755);

      await t.step("it runs its threads, its dynamic imports and libc, and gets its own arguments only", async () => {
        const args = ["views", "--help", "--", "-x", "a b"];
        const result = await runCommand(program, args, options);
        assertEquals([result.code, result.stderr], [0, ""]);
        const seen = JSON.parse(result.stdout);
        assertEquals([seen.args, seen.packed, seen.executable, seen.loaded], [args, "1", program, "on demand"]);
        const [main, worker] = seen.views;
        assertMatch(main.module, /^file:\/\/\/proc\/self\/fd\/\d+$/);
        assertEquals(worker, { ...main, thread: "worker" });
      });

      await t.step("it passes standard input, exit code and signals through", async () => {
        assertEquals((await runCommand(program, ["exit", "5"], options)).code, 5);

        const copy = new Deno.Command(program, { args: ["copy"], stdin: "piped", stdout: "piped" }).spawn();
        const writer = copy.stdin.getWriter();
        await writer.write(new TextEncoder().encode("through\n"));
        await writer.close();
        assertEquals(new TextDecoder().decode((await copy.output()).stdout), "through\n");

        const wait = new Deno.Command(program, { args: ["wait"], stdout: "piped" }).spawn();
        const reader = wait.stdout.getReader();
        await reader.read();
        wait.kill("SIGTERM");
        await reader.cancel();
        assertEquals((await wait.status).code, 7);
      });

      await t.step("it keeps its program when the caller has closed the standard streams", async () => {
        const script = 'exec 0<&- 2>&-; exec "$0" views';
        const result = await runCommand("/bin/sh", ["-c", script, program], options);
        assertStringIncludes(result.stdout, '"loaded":"on demand"');
      });

      await t.step("it writes no file and needs no home directory", async () => {
        const home = await Deno.makeTempDir({ dir: directory });
        const env = { HOME: home, XDG_CACHE_HOME: home };
        assertEquals((await runCommand(program, ["views"], { ...options, env })).code, 0);
        assertEquals([...Deno.readDirSync(home)], []);
        assertEquals((await runCommand(program, ["views"], { ...options, clearEnv: true })).code, 0);
      });

      await t.step({
        name: "it runs as a user who may not write anything",
        ignore: Deno.uid() !== 0,
        async fn() {
          const result = await new Deno.Command(program, { args: ["views"], uid: 65534, gid: 65534, clearEnv: true })
            .output();
          assertEquals([result.code, new TextDecoder().decode(result.stderr)], [0, ""]);
        },
      });

      await t.step({
        name:
          "as the agent it has given up what root may do beside the agent's work in all threads, as a command nothing",
        ignore: Deno.uid() !== 0,
        async fn() {
          const rights = async (...args: string[]) => {
            const result = await runCommand(program, args, options);
            assertEquals([result.code, result.stderr], [0, ""]);
            return new Set<string>(JSON.parse(result.stdout));
          };
          const own = /^CapBnd:\s+(\w+)/m.exec(Deno.readTextFileSync("/proc/self/status"))![1];
          const kept = START_CAPABILITIES.reduce((sum, name) => sum | 1n << BigInt(Capability[name]), 0n);
          const agent = (kept & BigInt(`0x${own}`)).toString(16).padStart(16, "0");
          assertEquals(await rights("run", "rights"), new Set([`${agent} ${agent} 1`]));
          assertEquals(await rights("-x", "rights"), new Set([`${agent} ${agent} 1`]));
          const [command] = await rights("rights");
          assertEquals(command.split(" ")[1], own);
          assertEquals((await rights("runs", "rights")).has(command), true);
        },
      });
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});

Deno.test({
  name: "a file that does not call itself as expected is not kept, and the old one stays",
  ignore,
  async fn() {
    const directory = await Deno.makeTempDir();
    try {
      await Deno.writeTextFile(`${directory}/program`, "the old one");
      await assertRejects(
        () => buildExecutable(target(directory, "another 4.5.6"), "pack"),
        BuildError,
        'it calls itself "fixture 1.2.3"',
      );
      assertEquals(await Deno.readTextFile(`${directory}/program`), "the old one");
      assertEquals([...Deno.readDirSync(directory)].map((entry) => entry.name), ["program"]);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});

Deno.test({
  name: "an executable is built again only if it is not the one that was built from the present sources",
  ignore,
  async fn() {
    const directory = await Deno.makeTempDir();
    const built: string[] = [];
    const ensure = () => ensureBuilt(target(directory), (line) => built.push(line));
    try {
      await ensure();
      await ensure();
      assertEquals(built.length, 1);
      await Deno.truncate(`${directory}/program`, 1000);
      await ensure();
      assertEquals(built.length, 2);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
