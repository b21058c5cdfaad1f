/** One queue of deadlines for all contexts, so that the cost of a timer does not depend on how many contexts exist. */

import { enlarged } from "./typed_arrays.ts";

/** A binary heap of small numbers, earliest deadline first. Setting a deadline again moves the number: O(log n). */
export class Deadlines {
  /** The heap, and the times in the same order. */
  #ids = new Int32Array(64);
  #times = new Float64Array(64);
  /** By number: its place in the heap plus 1; 0 when it is not queued. */
  #places = new Int32Array(64);
  #size = 0;

  /** The earliest deadline, Infinity when there is none. */
  get next(): number {
    return this.#size === 0 ? Infinity : this.#times[0];
  }

  /** How many are queued. */
  get size(): number {
    return this.#size;
  }

  /** Sets or changes the deadline of a number; Infinity takes it out. */
  set(id: number, time: number): void {
    if (time === Infinity) return this.delete(id);
    if (id >= this.#places.length) {
      this.#places = enlarged(this.#places, Math.max(2 * this.#places.length, id + 1));
    }
    let index = this.#places[id] - 1;
    if (index < 0) {
      index = this.#size++;
      if (index === this.#times.length) {
        this.#times = enlarged(this.#times, 2 * index);
        this.#ids = enlarged(this.#ids, 2 * index);
      }
    } else if (this.#times[index] === time) return;
    this.#place(id, time, index);
    this.#sift(index);
  }

  /** Takes a number out. */
  delete(id: number): void {
    const index = id < this.#places.length ? this.#places[id] - 1 : -1;
    if (index < 0) return;
    this.#places[id] = 0;
    const last = this.#ids[--this.#size];
    if (last === id) return;
    this.#place(last, this.#times[this.#size], index);
    this.#sift(index);
  }

  /** The number with the earliest deadline if that is not after `now`. It stays in the queue. */
  due(now: number): number | undefined {
    return this.next <= now ? this.#ids[0] : undefined;
  }

  /** Every number whose deadline is not after `now`, in no order. */
  allDue(now: number): number[] {
    const found: number[] = [];
    const visit = (index: number) => {
      if (index >= this.#size || this.#times[index] > now) return;
      found.push(this.#ids[index]);
      visit(2 * index + 1);
      visit(2 * index + 2);
    };
    visit(0);
    return found;
  }

  #place(id: number, time: number, index: number): void {
    this.#ids[index] = id;
    this.#times[index] = time;
    this.#places[id] = index + 1;
  }

  #sift(index: number): void {
    const id = this.#ids[index], time = this.#times[index];
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (this.#times[parent] <= time) break;
      this.#place(this.#ids[parent], this.#times[parent], index);
      index = parent;
    }
    for (;;) {
      let child = 2 * index + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && this.#times[child + 1] < this.#times[child]) child++;
      if (this.#times[child] >= time) break;
      this.#place(this.#ids[child], this.#times[child], index);
      index = child;
    }
    this.#place(id, time, index);
  }
}
