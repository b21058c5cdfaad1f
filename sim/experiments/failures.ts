/** Which paths break, by their numbers: path i of the way back has the number paths + i. */

import type { SeededRandom } from "../random.ts";

/**
 * Both paths in use, and others of which no combination comes twice if that can be (paper §5.3), of `paths` unidirectional
 * paths in each direction.
 */
export class FailureChooser {
  readonly #paths: number;
  readonly #random: SeededRandom;
  readonly #used = new Map<string, Set<string>>();
  #alternate = 0;

  /** `paths`: locator pairs, at least 2. */
  constructor(paths: number, random: SeededRandom) {
    this.#paths = paths;
    this.#random = random;
  }

  /**
   * The numbers of `count` paths that break while `forth` and `back` are in use. With 1 only one direction breaks, the
   * other one the next time. Each direction keeps at least one path, so `count` is at most 2 × paths - 2.
   */
  next(count: number, forth: number, back: number): number[] {
    const inUse = [forth, this.#paths + back];
    if (count === 1) return [inUse[this.#alternate++ % 2]];
    const key = `${count} ${forth} ${back}`;
    let used = this.#used.get(key);
    if (used === undefined) this.#used.set(key, used = new Set());
    if (used.size === combinations(this.#paths, count - 2)) used.clear();
    const others = Array.from({ length: 2 * this.#paths }, (_, path) => path).filter((path) => !inUse.includes(path));
    for (;;) {
      const drawn = this.#draw(others, count - 2);
      const forthBroken = 1 + drawn.filter((path) => path < this.#paths).length;
      if (forthBroken === this.#paths || count - forthBroken === this.#paths) continue;
      const combination = drawn.toSorted((a, b) => a - b).join();
      if (used.has(combination)) continue;
      used.add(combination);
      return [...inUse, ...drawn];
    }
  }

  #draw(from: number[], count: number): number[] {
    for (let i = 0; i < count; i++) {
      const j = i + this.#random.below(from.length - i);
      [from[i], from[j]] = [from[j], from[i]];
    }
    return from.slice(0, count);
  }
}

/** In how many ways `count` more paths can break so that each direction keeps one. */
function combinations(paths: number, count: number): number {
  let sum = 0;
  for (let forth = Math.max(0, count - (paths - 2)); forth <= Math.min(count, paths - 2); forth++) {
    sum += binomial(paths - 1, forth) * binomial(paths - 1, count - forth);
  }
  return sum;
}

function binomial(n: number, k: number): number {
  let result = 1;
  for (let i = 1; i <= k; i++) result = result * (n - k + i) / i;
  return Math.round(result);
}

/** The numbers of the paths on which two hosts send. */
export interface PathsInUse {
  readonly forth: number;
  readonly back: number;
}

/** A failure that happens to a pair of hosts: the numbers of the paths that break. */
export type FailureKind = (inUse: PathsInUse, chooser: FailureChooser, random: SeededRandom) => number[];

/** Both paths in use and `broken` - 2 others break; with 1 a single one, in alternate directions. */
export function pathsBreak(broken: number): FailureKind {
  return ({ forth, back }, chooser) => chooser.next(broken, forth, back);
}

/**
 * The provider on which a host sends dies, and `down` - 1 others of that host, with all paths through them; host A and
 * host B in turn, which have so many `locators`, more than `down`.
 */
export function providerDies(locators: readonly [number, number], down: number): FailureKind {
  let turn = 0;
  return ({ forth, back }, _chooser, random) => {
    const atA = turn++ % 2 === 0;
    const locatorOf = (index: number) => atA ? Math.floor(index / locators[1]) : index % locators[1];
    const dead = [locatorOf(atA ? forth : back)];
    while (dead.length < down) {
      const drawn = random.below(locators[atA ? 0 : 1]);
      if (!dead.includes(drawn)) dead.push(drawn);
    }
    const paths = locators[0] * locators[1];
    const broken = Array.from({ length: paths }, (_, index) => index).filter((index) =>
      dead.includes(locatorOf(index))
    );
    return [...broken, ...broken.map((index) => index + paths)];
  };
}
