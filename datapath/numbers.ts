/** Numbers for things that come and go, such as the slots of a table, without an object for any of them. */

/** Hands out the numbers below a capacity. One that was given back is not used again while any other is left. */
export class Numbers {
  readonly #capacity: number;
  /** A ring of those given back, the longest free first. */
  readonly #free: Int32Array;
  #oldest = 0;
  #freeCount = 0;
  /** Numbers from here on have never been in use. */
  #unused = 0;

  /** All numbers below `capacity` are free. */
  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#free = new Int32Array(capacity);
  }

  /** How many are in use. */
  get size(): number {
    return this.#unused - this.#freeCount;
  }

  /** Every number in use is below this one. */
  get limit(): number {
    return this.#unused;
  }

  /** A free number; -1 when all are in use. */
  take(): number {
    if (this.#unused < this.#capacity) return this.#unused++;
    if (this.#freeCount === 0) return -1;
    const number = this.#free[this.#oldest];
    this.#oldest = (this.#oldest + 1) % this.#capacity;
    this.#freeCount--;
    return number;
  }

  /** Gives back a number that is in use. */
  give(number: number): void {
    this.#free[(this.#oldest + this.#freeCount) % this.#capacity] = number;
    this.#freeCount++;
  }

  /** All numbers are free again, as if none had ever been in use. */
  clear(): void {
    this.#unused = this.#freeCount = this.#oldest = 0;
  }
}
