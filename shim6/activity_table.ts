/** The payload activity of all contexts as it was last polled, in one block: objects would cost three times as much. */

import type { Activity } from "./api.ts";
import { enlarged } from "./typed_arrays.ts";

const COLUMNS = [
  "lastSent",
  "lastReceived",
  "firstUnanswered",
  "firstUnreplied",
  "sentPackets",
  "sentBytes",
  "receivedPackets",
  "receivedBytes",
] as const satisfies readonly (keyof Activity)[];

/** Columns of the datapath, and one of our own. */
const WIDTH = COLUMNS.length + 1;
const UNANSWERED_SINCE = COLUMNS.length;
const LAST_SENT = COLUMNS.indexOf("lastSent");
const LAST_RECEIVED = COLUMNS.indexOf("lastReceived");

/** One row per context, found by its number. */
export class ActivityTable {
  #rows = new Float64Array(64 * WIDTH);

  /** Stores what the datapath counted. */
  set(id: number, activity: Readonly<Activity>): void {
    const row = this.#row(id);
    for (let i = 0; i < COLUMNS.length; i++) this.#rows[row + i] = activity[COLUMNS[i]];
  }

  /** Forgets what was counted, for instance for an earlier context of that number. */
  clear(id: number): void {
    const row = this.#row(id);
    this.#rows.fill(0, row, row + WIDTH);
  }

  /** When payload was last sent, 0 for never. */
  lastSent(id: number): number {
    return this.#rows[this.#row(id) + LAST_SENT];
  }

  /** When payload was last received, 0 for never. */
  lastReceived(id: number): number {
    return this.#rows[this.#row(id) + LAST_RECEIVED];
  }

  /**
   * When the first payload was sent after anything was heard from the peer, control messages included, of which the
   * datapath does not know; 0 when nothing is unanswered.
   */
  unansweredSince(id: number): number {
    return this.#rows[this.#row(id) + UNANSWERED_SINCE];
  }

  /** Sets what {@linkcode unansweredSince} returns. */
  setUnansweredSince(id: number, at: number): void {
    this.#rows[this.#row(id) + UNANSWERED_SINCE] = at;
  }

  /** A copy of the row. */
  get(id: number): Activity {
    const row = this.#row(id);
    return Object.fromEntries(COLUMNS.map((column, i) => [column, this.#rows[row + i]])) as unknown as Activity;
  }

  #row(id: number): number {
    const row = id * WIDTH;
    if (row >= this.#rows.length) {
      this.#rows = enlarged(this.#rows, Math.max(2 * this.#rows.length, row + WIDTH));
    }
    return row;
  }
}
