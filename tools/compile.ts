/**
 * Builds the agent as one executable file, `dist/shim6-agent`: by `deno compile` where the runtime that it builds upon
 * can be had, else by packing the stock Deno and the bundled program into one file (elf.ts).
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { VERSION } from "../agent/version.ts";
import { type CommandResult, runCommand } from "./command.ts";
import { ElfError, packExecutable } from "./elf.ts";
import { evaluatingModule } from "./program_text.ts";
import { ROOT } from "./source_files.ts";

const HELP = `usage: deno task compile [--pack]

  --pack    pack the stock Deno even if deno compile would work`;

/** Time limits in milliseconds. `deno compile` may have to fetch some 40 MB. */
const COMPILE_TIMEOUT_MS = 180_000;
const BUNDLE_TIMEOUT_MS = 60_000;
const START_TIMEOUT_MS = 20_000;

/**
 * The collector's usual measure is the host's memory, and it lets garbage grow to a share of that. The agent is a guest
 * on the host: its live data are small, and a collection takes a few milliseconds beside the packet loop.
 */
const V8_FLAGS = ["--optimize-for-size", "--max-semi-space-size=2", "--max-old-space-size=512", "--no-maglev"];

/**
 * Deno's arguments in a packed file. All permissions, since the program reaches every system call through libc anyway;
 * nothing that depends on the folder the program is called from.
 */
const DENO_ARGUMENTS = [
  "run",
  "--allow-all",
  "--no-prompt",
  "--no-config",
  "--no-lock",
  "--no-remote",
  "--no-npm",
  "--no-code-cache",
  "--ext=js",
  `--v8-flags=${V8_FLAGS.join(",")}`,
  "--quiet", // the stub wants an odd number
];

/** A packed program leaves no caches behind (in /proc nobody can make a directory), and can tell that it is packed. */
const ENVIRONMENT = {
  DENO_NO_UPDATE_CHECK: "1",
  DENO_DIR: "/proc/self/no-cache",
  SHIM6_PACKED: "1",
  // Typed arrays that were outgrown go back to the kernel, instead of leaving holes in the C library's heap.
  MALLOC_MMAP_THRESHOLD_: "65536",
};

/** Why no executable could be built. */
export class BuildError extends Error {}

/** What to build. */
export interface BuildTarget {
  /** Path of the main module. */
  readonly entry: string;
  /** Path of the executable. */
  readonly output: string;
  /** What the executable prints when called with `--version`; one that does not is not kept. */
  readonly banner: string;
  /** Main modules of the Workers that load less than the whole program, by their names. */
  readonly threads?: Readonly<Record<string, string>>;
}

/** How an executable is made. `local` is `deno compile` only if its runtime is on this machine already. */
export type BuildMethod = "compile" | "local" | "pack";

/** What decides how an executable is made, besides its modules. */
const BUILD_FILES = [
  "deno.json",
  "deno.lock",
  "tools/compile.ts",
  "tools/elf.ts",
  "tools/elf_stub_x86_64.ts",
  "tools/program_text.ts",
];

const AGENT: BuildTarget = {
  entry: `${ROOT}main.ts`,
  output: `${ROOT}dist/shim6-agent`,
  banner: `shim6-agent ${VERSION}`,
  threads: { datapath: `${ROOT}datapath/tun_worker_entry.ts` },
};

/**
 * The path of the agent's executable, built from the present sources if need be. Downloads nothing where it can be
 * packed.
 *
 * @param say is told what is done and why
 * @throws {BuildError} if it cannot be built
 */
export async function ensureExecutable(say?: (line: string) => void): Promise<string> {
  await ensureBuilt(AGENT, say);
  return AGENT.output;
}

/**
 * Builds an executable unless there is one of the present sources already.
 *
 * @param say is told what is done and why
 * @throws {BuildError} if it cannot be built
 */
export async function ensureBuilt(target: BuildTarget, say?: (line: string) => void): Promise<void> {
  const size = await fileSize(target.output);
  if (size !== null && await readStamp(target) === stamp(await sourcesDigest(target), size)) return;
  await buildExecutable(target, canPack() ? "local" : "compile", say);
}

/**
 * Builds an executable and puts it in the place of an older one in one step, once it has been seen to run.
 *
 * @param say is told what is done and why
 * @throws {BuildError} if it cannot be built
 */
export async function buildExecutable(
  target: BuildTarget,
  method: BuildMethod,
  say: (line: string) => void = () => {},
): Promise<void> {
  const directory = target.output.slice(0, target.output.lastIndexOf("/"));
  const digest = await sourcesDigest(target);
  await Deno.mkdir(directory, { recursive: true });
  // Beside the output, since a file can be renamed only within a file system.
  const workDirectory = await Deno.makeTempDir({ dir: directory, prefix: ".build-" });
  try {
    const built = `${workDirectory}/executable`;
    const problem = await compile(target, method, built);
    if (problem === null) {
      say(`${target.output}: made by deno compile`);
    } else {
      await pack(target, built, workDirectory, problem);
      say(`${target.output}: Deno ${Deno.version.deno} and the program packed into one file (${problem})`);
    }
    const { size } = await Deno.stat(built);
    await Deno.rename(built, target.output);
    await Deno.writeTextFile(`${target.output}.stamp`, stamp(digest, size));
  } finally {
    await Deno.remove(workDirectory, { recursive: true });
  }
}

/** Whether an executable can be made without the runtime of `deno compile`. */
export function canPack(): boolean {
  return Deno.build.os === "linux" && Deno.build.arch === "x86_64";
}

/** Makes `built` by `deno compile`, or says why not. */
async function compile(target: BuildTarget, method: BuildMethod, built: string): Promise<string | null> {
  if (method === "pack") return "as asked for";
  if (method === "local" && !await hasRuntime()) return "the runtime of deno compile is not on this machine";
  const args = [
    ...["compile", "--no-check", "--frozen", "--allow-all", "--no-prompt", `--v8-flags=${V8_FLAGS.join(",")}`],
    ...[`--output=${built}`, target.entry],
  ];
  const result = await deno(args, COMPILE_TIMEOUT_MS);
  if (result.code !== 0) return `deno compile: ${reason(result)}`;
  // Given the stock Deno for its runtime, deno compile succeeds as well, but what it makes is just another Deno.
  const problem = await startProblem(built, target.banner);
  return problem === null ? null : `what deno compile made does not run: ${problem}`;
}

/** Makes `built` from the stock Deno that runs this. `problem` is why that is needed. */
async function pack(target: BuildTarget, built: string, workDirectory: string, problem: string): Promise<void> {
  if (!canPack()) {
    throw new BuildError(
      `${problem}. On ${Deno.build.arch} the executable can be made by deno compile only, which needs the runtime ` +
        `"denort" of Deno ${Deno.version.deno}: let it download that, or set DENORT_BIN to it`,
    );
  }
  const threads: Record<string, string> = {};
  for (const [name, entry] of Object.entries(target.threads ?? {})) threads[name] = await bundled(entry, workDirectory);
  const code = new TextEncoder().encode(evaluatingModule(await bundled(target.entry, workDirectory), threads));
  const program = { code, denoArguments: DENO_ARGUMENTS, environment: ENVIRONMENT };
  try {
    const executable = packExecutable(await Deno.readFile(Deno.execPath()), program);
    await Deno.writeFile(built, executable, { mode: 0o755 });
  } catch (error) {
    if (!(error instanceof ElfError)) throw error;
    throw new BuildError(`${problem}, and ${Deno.execPath()} cannot be packed: it ${error.message}`);
  }
  const startFailure = await startProblem(built, target.banner);
  if (startFailure !== null) throw new BuildError(`the packed file does not run: ${startFailure}`);
}

/** The text of a module and all that it needs. */
async function bundled(entry: string, workDirectory: string): Promise<string> {
  const output = `${workDirectory}/bundle.js`;
  const args = ["bundle", "--frozen", "--platform=deno", "--minify", "--keep-names", `--output=${output}`, entry];
  const result = await deno(args, BUNDLE_TIMEOUT_MS);
  if (result.code !== 0) throw new BuildError(`deno bundle: ${reason(result)}`);
  return await Deno.readTextFile(output);
}

/** Whether `deno compile` finds its runtime without a download. */
async function hasRuntime(): Promise<boolean> {
  const candidates = [Deno.env.get("DENORT_BIN")];
  const info = await deno(["info", "--json"], START_TIMEOUT_MS);
  if (info.code === 0) {
    const { denoDir }: { denoDir: string } = JSON.parse(info.stdout);
    const archive = `denort-${Deno.build.target}.zip`;
    candidates.push(`${denoDir}/dl/release/v${Deno.version.deno}/${archive}`);
  }
  for (const path of candidates) {
    if (path !== undefined && await fileSize(path) !== null) return true;
  }
  return false;
}

/** Why an executable does not print its banner; null if it does. */
async function startProblem(path: string, banner: string): Promise<string | null> {
  const result = await runCommand(path, ["--version"], { timeoutMs: START_TIMEOUT_MS });
  if (result.code !== 0) return reason(result);
  return result.stdout.trim() === banner ? null : `it calls itself ${JSON.stringify(result.stdout.split("\n")[0])}`;
}

function deno(args: readonly string[], timeoutMs: number): Promise<CommandResult> {
  return runCommand(Deno.execPath(), args, { timeoutMs, cwd: ROOT });
}

/** The line that tells why a program failed: of Deno's error the innermost cause, if it gives one. */
function reason(result: CommandResult): string {
  const lines = (result.stderr || result.stdout).split("\n").map((line) => line.trim());
  const message = lines.findLast((line) => /^\d+: /.test(line)) ?? lines.find((line) => line.startsWith("error:")) ??
    lines.findLast((line) => line !== "");
  return message?.replace(/^(\d+|error): /, "") ?? `exit code ${result.code}`;
}

/** What identifies an executable: what it was made from, and its length in octets. */
function stamp(sourcesDigest: string, size: number): string {
  return `${sourcesDigest} ${size}\n`;
}

async function readStamp(target: BuildTarget): Promise<string | null> {
  try {
    return await Deno.readTextFile(`${target.output}.stamp`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

/** SHA-256 of all that an executable is made from, in hexadecimal. */
async function sourcesDigest(target: BuildTarget): Promise<string> {
  const parts = [`${Deno.version.deno} ${Deno.build.target}\n`];
  for (const path of [...await localModules(target.entry), ...BUILD_FILES.map((name) => ROOT + name)]) {
    parts.push(`${path}\n${await Deno.readTextFile(path)}`);
  }
  const digest = await crypto.subtle.digest("SHA-256", await new Blob(parts).arrayBuffer());
  return new Uint8Array(digest).toHex();
}

/** The project's modules that a module leads to, itself included. */
async function localModules(entry: string): Promise<string[]> {
  const result = await deno(["info", "--json", entry], START_TIMEOUT_MS);
  if (result.code !== 0) throw new BuildError(`deno info: ${reason(result)}`);
  const { modules }: { modules: { local?: string }[] } = JSON.parse(result.stdout);
  return modules.flatMap(({ local }) => local?.startsWith(ROOT) ? [local] : []).sort();
}

async function fileSize(path: string): Promise<number | null> {
  try {
    return (await Deno.stat(path)).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

if (import.meta.main) {
  let wrongUse = "";
  const args = parseArgs(Deno.args, {
    boolean: ["pack", "help"],
    unknown: (arg) => {
      wrongUse ||= `unknown argument ${arg}`;
      return false;
    },
  });
  if (args.help) {
    console.log(HELP);
  } else if (wrongUse !== "") {
    console.error(`${wrongUse}\n${HELP}`);
    Deno.exit(2);
  } else {
    try {
      await buildExecutable(AGENT, args.pack ? "pack" : "compile", (line) => console.log(line));
    } catch (error) {
      if (!(error instanceof BuildError)) throw error;
      console.error(error.message);
      Deno.exit(1);
    }
  }
}
