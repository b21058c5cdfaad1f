/** Virtual time: what is planned happens in order of time, and time passes only from one plan to the next. */

/** A queue of actions. Actions for the same time happen in the order in which they were planned. */
export class VirtualClock {
  // A binary heap in parallel arrays, keyed by time and then by order of planning.
  readonly #actions: (() => void)[] = [];
  readonly #times: number[] = [];
  readonly #orders: number[] = [];
  #planned = 0;
  // Not 0: in the counts of a datapath 0 means "never".
  #now = 1_000;

  /** Monotonic ms. */
  get now(): number {
    return this.#now;
  }

  /** When the next action happens, Infinity when none is planned. */
  get next(): number {
    return this.#times.length === 0 ? Infinity : this.#times[0];
  }

  /** Plans an action. A time that has passed means now. */
  at(time: number, action: () => void): void {
    let index = this.#times.length;
    const order = this.#planned++;
    const when = Math.max(time, this.#now);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (this.#times[parent] <= when) break; // the later plan stays behind
      this.#move(parent, index);
      index = parent;
    }
    this.#put(index, action, when, order);
  }

  /** Plans an action `delayMs` from now. */
  after(delayMs: number, action: () => void): void {
    this.at(this.#now + delayMs, action);
  }

  /** Lets time pass until `time`, carrying out everything planned until then, that included. */
  runUntil(time: number): void {
    while (this.next <= time) this.step();
    this.#now = Math.max(this.#now, time);
  }

  /** Carries out the next action. Returns false when none is planned. */
  step(): boolean {
    if (this.#times.length === 0) return false;
    const action = this.#actions[0];
    this.#now = this.#times[0];
    this.#removeFirst();
    action();
    return true;
  }

  #put(index: number, action: () => void, time: number, order: number): void {
    this.#actions[index] = action;
    this.#times[index] = time;
    this.#orders[index] = order;
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#actions[from], this.#times[from], this.#orders[from]);
  }

  #before(a: number, b: number): boolean {
    return this.#times[a] < this.#times[b] || this.#times[a] === this.#times[b] && this.#orders[a] < this.#orders[b];
  }

  #removeFirst(): void {
    const action = this.#actions.pop()!, time = this.#times.pop()!, order = this.#orders.pop()!;
    const size = this.#times.length;
    if (size === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#before(child + 1, child)) child++;
      if (this.#times[child] > time || this.#times[child] === time && this.#orders[child] > order) break;
      this.#move(child, index);
      index = child;
    }
    this.#put(index, action, time, order);
  }
}
