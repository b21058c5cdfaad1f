/** A queue of fixed-size records from one thread to another, in shared memory; no locks, nothing allocated. */

/** Where the writer's and the reader's counts stand: in cache lines of their own. Both only grow, modulo 2^32. */
const WRITTEN = 0, READ = 16, FIRST_RECORD = 32;

/** One end of the queue; both ends look at the same memory. One thread writes, one other reads. */
export class SharedRing {
  /** To be given to the other thread. */
  readonly memory: SharedArrayBuffer;
  /** Records it holds at most. */
  readonly capacity: number;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #recordWords: number;

  /** Looks at `memory`, or makes it. `capacity` must be a power of two, `recordBytes` a multiple of 8. */
  constructor(capacity: number, recordBytes: number, memory?: SharedArrayBuffer) {
    this.memory = memory ?? new SharedArrayBuffer(FIRST_RECORD * 4 + capacity * recordBytes);
    this.capacity = capacity;
    this.#words = new Int32Array(this.memory);
    this.#recordWords = recordBytes / 4;
  }

  #offset(count: number): number {
    return (FIRST_RECORD + (count & (this.capacity - 1)) * this.#recordWords) * 4;
  }

  /** Where in the memory the next record is to be written, in octets; -1 when the queue is full. */
  writeOffset(): number {
    const written = this.#words[WRITTEN];
    return ((written - Atomics.load(this.#words, READ)) | 0) >= this.capacity ? -1 : this.#offset(written);
  }

  /** Hands the record at {@linkcode writeOffset} over. */
  commit(): void {
    Atomics.store(this.#words, WRITTEN, (this.#words[WRITTEN] + 1) | 0);
  }

  /** Where in the memory the oldest record stands, in octets; -1 when the queue is empty. */
  readOffset(): number {
    const read = this.#words[READ];
    return Atomics.load(this.#words, WRITTEN) === read ? -1 : this.#offset(read);
  }

  /** Gives the place of the record at {@linkcode readOffset} back, and wakes a writer that waits for it. */
  release(): void {
    Atomics.store(this.#words, READ, (this.#words[READ] + 1) | 0);
    Atomics.notify(this.#words, READ);
  }

  /**
   * Writer: blocks until the reader has taken the record before the last `pending` ones, or `timeoutMs` have passed.
   * Returns false in the latter case.
   */
  waitForReader(pending: number, timeoutMs: number): boolean {
    const end = performance.now() + timeoutMs;
    while (true) {
      const read = Atomics.load(this.#words, READ);
      if (((this.#words[WRITTEN] - read) | 0) <= pending) return true;
      const left = end - performance.now();
      if (left <= 0) return false;
      Atomics.wait(this.#words, READ, read, left);
    }
  }
}
