/**
 * Runs programs for the tools: with a time limit, with their output kept, and without the questions and update notices
 * that Deno would otherwise mix into it.
 *
 * @module
 */

/** How a program ended. */
export interface CommandResult {
  /** Exit code; null if it could not be started or exceeded its time. */
  readonly code: number | null;
  /** What it wrote to standard output; empty if that was passed on. */
  readonly stdout: string;
  /** What it wrote to standard error, or why it did not run to its end; empty if that was passed on. */
  readonly stderr: string;
}

/** How to run a program. */
export interface CommandOptions {
  /** Time limit in milliseconds; the program is killed when it is over. */
  readonly timeoutMs: number;
  /** Environment variables besides the inherited ones. */
  readonly env?: Record<string, string>;
  /** Run it with these variables only. */
  readonly clearEnv?: boolean;
  /** Pass its output on instead of keeping it (default false). */
  readonly passOutput?: boolean;
  /** Working directory. */
  readonly cwd?: string;
}

/** No notices of new versions, no backtraces of Deno itself. */
const QUIET = { DENO_NO_UPDATE_CHECK: "1", RUST_BACKTRACE: "0" };

/** Runs `command` to its end. Never throws: what went wrong is in the result. */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<CommandResult> {
  const output = options.passOutput ? "inherit" : "piped";
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(command, {
      args: [...args],
      cwd: options.cwd,
      clearEnv: options.clearEnv,
      env: { ...QUIET, ...(output === "inherit" && Deno.stdout.isTerminal() ? {} : { NO_COLOR: "1" }), ...options.env },
      stdin: "null",
      stdout: output,
      stderr: output,
    }).spawn();
  } catch (error) {
    return { code: null, stdout: "", stderr: error instanceof Error ? error.message : String(error) };
  }
  let expired = false;
  const timer = setTimeout(() => {
    expired = true;
    child.kill("SIGKILL");
  }, options.timeoutMs);
  try {
    if (options.passOutput) {
      const { code } = await child.status;
      return expired ? timedOut("", "", options.timeoutMs) : { code, stdout: "", stderr: "" };
    }
    const result = await child.output();
    const stdout = new TextDecoder().decode(result.stdout);
    const stderr = new TextDecoder().decode(result.stderr);
    return expired ? timedOut(stdout, stderr, options.timeoutMs) : { code: result.code, stdout, stderr };
  } finally {
    clearTimeout(timer);
  }
}

function timedOut(stdout: string, stderr: string, timeoutMs: number): CommandResult {
  return { code: null, stdout, stderr: `${stderr}killed after ${timeoutMs / 1000} s` };
}
