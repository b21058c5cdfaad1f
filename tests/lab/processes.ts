/** Runs this program's lab commands as processes for tests, and reads their JSON lines. */

import { thisProgram } from "../../lab/self.ts";
import type { TrafficLine, TrafficResult } from "../../lab/traffic.ts";

/** Skips a test that needs root, and says so. */
export const needsRoot = Deno.uid() !== 0;
if (needsRoot) console.log("tests with network namespaces are left out: not root");

const program = thisProgram();

/** A running `lab …` command with piped input and output. */
export function spawnLab(args: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(program.command, {
    args: [...program.args, "lab", ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}

/** A traffic program that has been started. */
export class Traffic {
  readonly lines: TrafficLine[] = [];
  readonly #process: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  #wake = () => {};

  constructor(process: Deno.ChildProcess) {
    this.#process = process;
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const text of this.#process.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      this.lines.push(...lines.map((line) => JSON.parse(line) as TrafficLine));
      this.#wake();
    }
  }

  /** Waits for the first line of a kind. */
  async line<E extends TrafficLine["event"]>(event: E): Promise<Extract<TrafficLine, { event: E }>> {
    for (;;) {
      const found = this.lines.find((line) => line.event === event);
      if (found !== undefined) return found as Extract<TrafficLine, { event: E }>;
      await Promise.race([new Promise<void>((resolve) => this.#wake = resolve), this.#reading]);
    }
  }

  stop(): void {
    this.#process.kill("SIGTERM");
  }

  /** Waits for the end. */
  async result(): Promise<TrafficResult> {
    await this.#process.stdin.close();
    const [{ result }] = await Promise.all([this.line("result"), this.#process.status, this.#reading]);
    return result;
  }
}
