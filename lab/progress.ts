/** Tells on stderr how far something is: one line that is written over on a terminal, else a line now and then. */

import { monotonicNow } from "deno-tun";

/** Where nothing can be written over, a line every so often is enough to see that it goes on. */
const QUIET_MS = 10_000;

/** How far one command is. */
export class Progress {
  readonly #title: string;
  readonly #onTerminal = Deno.stderr.isTerminal();
  readonly #encoder = new TextEncoder();
  #toldAt = -Infinity;
  #width = 0;

  /** `title` begins each line. */
  constructor(title: string) {
    this.#title = title;
  }

  /** Something new begins: told at once, and it stays to be read. */
  begin(what: string): void {
    this.end();
    this.#toldAt = monotonicNow();
    this.#write(`${this.#title}: ${what}\n`);
  }

  /** So far it is. */
  at(what: string): void {
    const line = `${this.#title}: ${what}`;
    if (this.#onTerminal) {
      this.#write(`\r${line.padEnd(this.#width)}`);
      this.#width = line.length;
      return;
    }
    const now = monotonicNow();
    if (now - this.#toldAt < QUIET_MS) return;
    this.#toldAt = now;
    this.#write(`${line}\n`);
  }

  /** Takes away the line that is written over. */
  end(): void {
    if (this.#width > 0) this.#write(`\r${" ".repeat(this.#width)}\r`);
    this.#width = 0;
  }

  #write(text: string): void {
    const octets = this.#encoder.encode(text);
    for (let done = 0; done < octets.length;) done += Deno.stderr.writeSync(octets.subarray(done));
  }
}
