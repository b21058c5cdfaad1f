/** The lab's end of a running traffic program. */

import { CommandError } from "../agent/errors.ts";
import { jsonLines } from "./json_lines.ts";
import type { TrafficLine, TrafficResult } from "./traffic.ts";

/** A traffic program came to an end without a result. */
export class TrafficError extends CommandError {
  /** `TrafficError` */
  override name = "TrafficError";
}

/** A process that runs `lab traffic …`. */
export class TrafficProcess {
  readonly #process: Deno.ChildProcess;
  readonly #lines: TrafficLine[] = [];
  readonly #reading: Promise<void>;
  #ended = false;
  /** Called with the octets received so far whenever the program tells. */
  onProgress: (at: number, bytes: number) => void = () => {};
  #wake: (() => void)[] = [];

  /** `process`: with piped output. */
  constructor(process: Deno.ChildProcess) {
    this.#process = process;
    this.#reading = this.#read();
  }

  /** What it has said so far. */
  get lines(): readonly TrafficLine[] {
    return this.#lines;
  }

  /** Octets received so far, as it told last. */
  get progress(): number {
    const last = this.#lines.findLast((line) => line.event === "progress");
    return last?.event === "progress" ? last.bytes : 0;
  }

  /** Waits for the first line of a kind. Throws {@linkcode TrafficError} when the program ends without it. */
  async line<E extends TrafficLine["event"]>(event: E): Promise<Extract<TrafficLine, { event: E }>> {
    for (;;) {
      const found = this.#lines.find((line) => line.event === event);
      if (found !== undefined) return found as Extract<TrafficLine, { event: E }>;
      if (this.#ended) throw new TrafficError(`the traffic program ended without a ${event}`);
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  /** Asks it to come to an end. */
  stop(): void {
    this.#kill("SIGTERM");
  }

  /** Its result. When that does not come within `patienceMs`, the program is ended and the result is undefined. */
  async result(patienceMs: number): Promise<TrafficResult | undefined> {
    const timer = setTimeout(() => this.#kill("SIGKILL"), patienceMs);
    try {
      return (await this.line("result")).result;
    } catch (error) {
      if (error instanceof TrafficError) return undefined;
      throw error;
    } finally {
      clearTimeout(timer);
      await this.#process.status;
      await this.#reading;
    }
  }

  #kill(signal: Deno.Signal): void {
    try {
      this.#process.kill(signal);
    } catch { /* it has ended by itself */ }
  }

  async #read(): Promise<void> {
    for await (const line of jsonLines<TrafficLine>(this.#process.stdout)) {
      this.#lines.push(line);
      if (line.event === "progress") this.onProgress(line.at, line.bytes);
      this.#wakeAll();
    }
    this.#ended = true;
    this.#wakeAll();
  }

  #wakeAll(): void {
    const waiting = this.#wake;
    this.#wake = [];
    for (const resolve of waiting) resolve();
  }
}
