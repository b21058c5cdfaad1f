/**
 * A network with a geography: hosts in cities on a plane, each locator with an access line and an exit of its own, and
 * paths that are longer than the straight way by a factor of their own. A few take a great detour, so that the way over a
 * third host is often shorter than the direct one: no coordinates can fit that (triangle-inequality violations).
 */

import type { SeededRandom } from "../random.ts";

/** The plane, in ms one way: about as wide as a continent. */
const WIDTH_MS = 36, DEPTH_MS = 20;
const CITIES = 12;
/** A locator's exit is so far from the city at most in x and in y, ms; providers meet elsewhere. */
const EXIT_MS = 4;
/** Delay of access lines, ms one way: fibre to mobile. */
const ACCESS_MS = [0.5, 5] as const;
/** Paths are longer than the straight way by up to this share … */
const WINDING = 0.3;
/** … and this share of them takes a detour of this factor. */
const DETOUR_SHARE = 0.12, DETOUR = [1.5, 2.5] as const;
/** The two directions of a path differ from their mean by up to this share. */
const ASYMMETRY = 0.05;

/** Where a locator is connected. */
interface Site {
  readonly x: number;
  readonly y: number;
  readonly accessMs: number;
}

/** The delays between the locators of many hosts. */
export class Geography {
  readonly #sites: readonly (readonly Site[])[];
  readonly #random: SeededRandom;
  readonly #delays = new Map<string, readonly [number, number]>();

  constructor(hosts: number, locators: number, random: SeededRandom) {
    const between = (low: number, high: number) => low + (high - low) * random.next();
    const cities = Array.from({ length: CITIES }, () => ({ x: between(0, WIDTH_MS), y: between(0, DEPTH_MS) }));
    this.#sites = Array.from({ length: hosts }, () => {
      const city = cities[random.below(CITIES)];
      return Array.from({ length: locators }, () => ({
        x: city.x + between(-EXIT_MS, EXIT_MS),
        y: city.y + between(-EXIT_MS, EXIT_MS),
        accessMs: between(...ACCESS_MS),
      }));
    });
    this.#random = random.fork();
  }

  /** One-way delay in ms from locator i of host a to locator j of host b. */
  delayMs(a: number, i: number, b: number, j: number): number {
    const isForth = a < b || a === b && i < j;
    const key = isForth ? `${a} ${i} ${b} ${j}` : `${b} ${j} ${a} ${i}`;
    let delays = this.#delays.get(key);
    if (delays === undefined) this.#delays.set(key, delays = this.#draw(this.#sites[a][i], this.#sites[b][j]));
    return delays[isForth ? 0 : 1];
  }

  /** Share of the triangles of `samples` random ones whose longest side is longer than the two others together. */
  violations(samples: number, random: SeededRandom): number {
    const hosts = this.#sites.length, locators = this.#sites[0].length;
    let violated = 0;
    for (let sample = 0; sample < samples; sample++) {
      const [a, b, c] = [0, 1, 2].map(() => random.below(hosts));
      if (a === b || b === c || a === c) {
        sample--;
        continue;
      }
      const [i, j, k] = [0, 1, 2].map(() => random.below(locators));
      const rtt = (a: number, i: number, b: number, j: number) => this.delayMs(a, i, b, j) + this.delayMs(b, j, a, i);
      const sides = [rtt(a, i, b, j), rtt(b, j, c, k), rtt(c, k, a, i)].sort((x, y) => x - y);
      if (sides[2] > sides[0] + sides[1]) violated++;
    }
    return violated / samples;
  }

  #draw(from: Site, to: Site): readonly [number, number] {
    const random = this.#random;
    const detour = random.next() < DETOUR_SHARE ? DETOUR[0] + (DETOUR[1] - DETOUR[0]) * random.next() : 1;
    const straight = Math.hypot(from.x - to.x, from.y - to.y);
    const mean = from.accessMs + to.accessMs + straight * detour * (1 + WINDING * random.next());
    const skew = ASYMMETRY * (2 * random.next() - 1);
    return [mean * (1 + skew), mean * (1 - skew)];
  }
}
