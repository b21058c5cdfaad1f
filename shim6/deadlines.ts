/** One queue of deadlines for all contexts, so that the cost of a timer does not depend on how many contexts exist. */

/** Something with a deadline. The queue keeps its position in it. */
export interface Timed {
  /** Position in the queue, -1 when not queued. Only {@linkcode Deadlines} writes it. */
  queueIndex: number;
}

/** A binary heap, earliest deadline first. Setting a deadline again moves the item: O(log n). */
export class Deadlines<T extends Timed> {
  readonly #items: T[] = [];
  // Beside the items instead of in them: a time in an object's field would cost a heap number each.
  #times = new Float64Array(64);

  /** The earliest deadline, Infinity when there is none. */
  get next(): number {
    return this.#items.length === 0 ? Infinity : this.#times[0];
  }

  /** Number of queued items. */
  get size(): number {
    return this.#items.length;
  }

  /** Sets or changes the deadline of an item; Infinity takes it out. */
  set(item: T, time: number): void {
    if (time === Infinity) return this.delete(item);
    let index = item.queueIndex;
    if (index < 0) {
      index = this.#items.length;
      this.#items.push(item);
      item.queueIndex = index;
      if (index === this.#times.length) {
        const larger = new Float64Array(2 * index);
        larger.set(this.#times);
        this.#times = larger;
      }
    } else if (this.#times[index] === time) return;
    this.#times[index] = time;
    this.#sift(index);
  }

  /** Takes an item out. */
  delete(item: T): void {
    const index = item.queueIndex;
    if (index < 0) return;
    item.queueIndex = -1;
    const last = this.#items.pop()!;
    if (last === item) return;
    this.#place(last, this.#times[this.#items.length], index);
    this.#sift(index);
  }

  /** The item with the earliest deadline if that is not after `now`. It stays in the queue. */
  due(now: number): T | undefined {
    return this.next <= now ? this.#items[0] : undefined;
  }

  /** Every item whose deadline is not after `now`, in no order. */
  allDue(now: number): T[] {
    const found: T[] = [];
    const visit = (index: number) => {
      if (index >= this.#items.length || this.#times[index] > now) return;
      found.push(this.#items[index]);
      visit(2 * index + 1);
      visit(2 * index + 2);
    };
    visit(0);
    return found;
  }

  #place(item: T, time: number, index: number): void {
    this.#items[index] = item;
    this.#times[index] = time;
    item.queueIndex = index;
  }

  #sift(index: number): void {
    const item = this.#items[index], time = this.#times[index];
    const size = this.#items.length;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (this.#times[parent] <= time) break;
      this.#place(this.#items[parent], this.#times[parent], index);
      index = parent;
    }
    for (;;) {
      let child = 2 * index + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#times[child + 1] < this.#times[child]) child++;
      if (this.#times[child] >= time) break;
      this.#place(this.#items[child], this.#times[child], index);
      index = child;
    }
    this.#place(item, time, index);
  }
}
