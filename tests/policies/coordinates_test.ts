import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { type Coordinate, Coordinates, distanceMs, isCoordinate } from "../../policies/coordinates.ts";
import { predictAll, rankedRight } from "../../policies/coordinate_ranking.ts";
import { PathBook } from "../../policies/path_book.ts";
import { SeededRandom } from "../../sim/random.ts";
import { pairs } from "./start.ts";

const GOOD: Coordinate = { x: 3, y: -4, height: 2, error: 0.3 };
const [PAIR] = pairs(1, 1);

function coordinates(seed = 1): Coordinates {
  return new Coordinates(new SeededRandom(seed).next);
}

/** Hosts on a plane that measure each other without error, all pairs in each round. */
class Plane {
  readonly hosts: { readonly own: Coordinates; readonly x: number; readonly y: number; readonly height: number }[];
  /** What host `from` says to host `to`; the truth by default. */
  claim = (from: number, _to: number): Coordinate => this.hosts[from].own.own(`${from}`);

  constructor(count: number, seed = 1) {
    const random = new SeededRandom(seed);
    this.hosts = Array.from({ length: count }, () => ({
      own: new Coordinates(random.next),
      x: 80 * random.next(),
      y: 50 * random.next(),
      height: 1 + 9 * random.next(),
    }));
  }

  rttMs(a: number, b: number): number {
    const [from, to] = [this.hosts[a], this.hosts[b]];
    return Math.hypot(from.x - to.x, from.y - to.y) + from.height + to.height;
  }

  run(rounds: number): void {
    for (let round = 0; round < rounds; round++) {
      this.hosts.forEach(({ own }, a) =>
        this.hosts.forEach((_, b) => {
          if (a === b) return;
          own.learn(`${b}`, this.claim(b, a));
          own.observe({ local: `${a}`, peer: `${b}` }, this.rttMs(a, b));
        })
      );
    }
  }

  /** Median relative error between the hosts from `first` on. */
  error(first = 0): number {
    const errors: number[] = [];
    for (let a = first; a < this.hosts.length; a++) {
      for (let b = a + 1; b < this.hosts.length; b++) {
        const predicted = distanceMs(this.hosts[a].own.own(`${a}`), this.hosts[b].own.own(`${b}`));
        errors.push(Math.abs(predicted - this.rttMs(a, b)) / this.rttMs(a, b));
      }
    }
    return errors.sort((x, y) => x - y)[errors.length >> 1];
  }
}

Deno.test("the distance of two coordinates is the length between them and both heights", () => {
  assertEquals(distanceMs(GOOD, { x: 0, y: 0, height: 1, error: 1 }), 5 + 2 + 1);
});

Deno.test("what cannot be a coordinate is refused, counted, and changes nothing", () => {
  const known = coordinates();
  known.learn("p", GOOD);
  const bad: Partial<Coordinate>[] = [
    { x: NaN },
    { y: NaN },
    { height: NaN },
    { error: NaN },
    { x: Infinity },
    { y: -Infinity },
    { height: Infinity },
    { x: 1e9 },
    { x: 8e3, y: 8e3 },
    { height: 0 },
    { height: -1 },
    { height: 2e4 },
    { error: -0.1 },
    { error: 1.01 },
    { error: Infinity },
  ];
  for (const change of bad) {
    assertEquals(isCoordinate({ ...GOOD, ...change }), false, JSON.stringify(change));
    known.learn("p", { ...GOOD, ...change });
    known.learn("q", { ...GOOD, ...change });
  }
  assertEquals([known.peer("p"), known.peer("q"), known.accuracy.refused], [GOOD, undefined, 2 * bad.length]);
});

Deno.test("nothing is predicted while either end knows nothing", () => {
  const known = coordinates();
  assertEquals(known.predictMs(PAIR), NaN);
  known.learn(PAIR.peer, { ...GOOD, error: 1 });
  assertEquals(known.predictMs(PAIR), NaN);
  known.learn(PAIR.peer, GOOD);
  assertEquals(known.predictMs(PAIR), NaN, "we know nothing ourselves");
  known.observe(PAIR, 20);
  assert(known.predictMs(PAIR) > 0);
});

Deno.test("round-trip times that cannot be, or to an unknown place, move nothing", () => {
  const known = coordinates();
  known.observe(PAIR, 20);
  known.learn(PAIR.peer, GOOD);
  const before = known.own(PAIR.local);
  for (const rttMs of [NaN, 0, -5, Infinity, 20_000]) known.observe(PAIR, rttMs);
  assertEquals([known.own(PAIR.local), known.accuracy.predictions], [before, 0]);
});

Deno.test("hosts that all begin in one place part, and predict each other well", () => {
  for (const seed of [1, 2, 3]) {
    const plane = new Plane(30, seed);
    plane.run(15);
    assert(plane.error() < 0.1, `seed ${seed}: median relative error ${plane.error()}`);
    for (const { own: { accuracy } } of plane.hosts) assert(accuracy.medianError < 0.15, `${accuracy.medianError}`);
  }
});

Deno.test("no measurement moves a coordinate by more than 10 ms for itself and each that is applied again", () => {
  const random = new SeededRandom(5);
  const known = new Coordinates(random.next);
  for (let i = 0; i < 500; i++) {
    const peer = `p${random.below(20)}`;
    known.learn(peer, { x: 9e3 * random.next(), y: -9e3 * random.next(), height: 1 + 100 * random.next(), error: 0 });
    const before = known.own("l");
    known.observe({ local: "l", peer }, 1 + 9_000 * random.next());
    const { x, y, height, error } = known.own("l");
    assert(Math.hypot(x - before.x, y - before.y) <= 17 * 10.01 && Math.abs(height - before.height) <= 17 * 10.01);
    assert(height > 0 && error >= 0 && error <= 1 && isCoordinate({ x, y, height, error }));
  }
});

Deno.test("a peer that talks much moves nobody: only measurements do", () => {
  const known = coordinates();
  known.learn(PAIR.peer, GOOD);
  known.observe(PAIR, 20);
  const before = known.own(PAIR.local);
  for (let i = 0; i < 1_000; i++) known.learn(PAIR.peer, { x: i, y: i, height: 1, error: 0 });
  assertEquals(known.own(PAIR.local), before);
});

Deno.test("a host among 30 % liars that name places far away keeps an error below 0.5", () => {
  const lies: Record<string, (plane: Plane, random: SeededRandom) => Plane["claim"]> = {
    random: (_, random) => () => ({
      x: 1_000 * random.next() - 500,
      y: 1_000 * random.next() - 500,
      height: 1 + 50 * random.next(),
      error: 0,
    }),
    far: () => (from) => ({ x: 500 * Math.cos(from), y: 500 * Math.sin(from), height: 1, error: 0 }),
    collude: (plane) => (_, to) => {
      const { x, y } = plane.hosts[to].own.own(`${to}`);
      const dx = 300 - x, dy = 300 - y, length = Math.hypot(dx, dy);
      return { x: x + 150 * dx / length, y: y + 150 * dy / length, height: 0.01, error: 0 };
    },
  };
  for (const [name, lie] of Object.entries(lies)) {
    const plane = new Plane(20, 4), honest = plane.claim, lying = lie(plane, new SeededRandom(9));
    plane.claim = (from, to) => from < 6 ? lying(from, to) : honest(from, to);
    plane.run(10);
    assert(plane.error(6) < 0.5, `${name}: median relative error ${plane.error(6)}`);
  }
});

Deno.test("tables are bounded, and what was told longest ago makes room", () => {
  const known = coordinates();
  for (let i = 0; i < 5_000; i++) {
    known.learn(`p${i}`, GOOD);
    known.observe({ local: `l${i}`, peer: `p${i}` }, 20);
  }
  assertEquals([known.peer("p0"), known.peer("p4999")], [undefined, GOOD]);
  assertEquals(known.own("l0").error, 1);
  assert(known.own("l4999").error < 1);
});

Deno.test("the same random numbers give the same coordinates", () => {
  const [one, two] = [new Plane(10, 7), new Plane(10, 7)];
  for (const plane of [one, two]) plane.run(3);
  assertEquals(one.hosts.map(({ own }, i) => own.own(`${i}`)), two.hosts.map(({ own }, i) => own.own(`${i}`)));
});

Deno.test("the path book feeds coordinates, with half of the way back taken off when the answer came another way", () => {
  const known = coordinates();
  const book = new PathBook(10, known);
  const [first, second] = pairs(1, 2);
  for (const { peer } of [first, second]) known.learn(peer, GOOD);
  book.probeAnswered(first, 40, 0);
  book.roundTrip(first, first, 40, true);
  const before = known.own(first.local);
  book.roundTrip(second, first, 60, false); // 20 of it are the way back, so there and back it is 80
  const direct = coordinates();
  for (const { peer } of [first, second]) direct.learn(peer, GOOD);
  direct.observe(first, 40);
  assertEquals(direct.own(first.local), before);
  direct.observe(second, 80);
  assertEquals(known.own(first.local), direct.own(first.local));
});

Deno.test("a ranking is right when the shortest prediction is the fastest of the pairs that work", () => {
  const known = coordinates();
  const book = new PathBook(10, known);
  const [a, b, c] = pairs(1, 3);
  assertEquals(predictAll([a, b, c], book), undefined, "nothing is known");
  known.learn("other", GOOD);
  known.observe({ local: a.local, peer: "other" }, 20);
  [a, b, c].forEach(({ peer }, i) => known.learn(peer, { ...GOOD, height: 1 + 10 * i }));
  const predictions = predictAll([a, b, c], book)!;
  assertAlmostEquals(predictions[1].rttMs - predictions[0].rttMs, 10);
  assertEquals(rankedRight(predictions, book), undefined, "nothing was measured");
  for (const [pair, ms] of [[b, 30], [c, 40]] as const) {
    book.probeAnswered(pair, ms, 1);
    book.roundTrip(pair, b, ms, pair === b);
  }
  assertEquals(rankedRight(predictions, book), true, "the first does not work");
  book.probeAnswered(a, 90, 1);
  book.roundTrip(a, b, 90, false);
  assertEquals(rankedRight(predictions, book), false);
  assertEquals(predictAll([a, b, c], book), undefined, "all were measured before");
});
