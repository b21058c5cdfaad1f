/**
 * What is possible when both directions of a path fail between two hosts with three locators each: the front of time
 * against messages, from a model without protocol. Each host knows all delays, 5 to 50 ms, and sends its probes in waves,
 * the fastest path foremost. The first host sends until it hears something; the second begins when it hears the first
 * one and sends until it is answered. All waves are tried that two hosts can send.
 *
 *     deno run -A bench/front.ts [BROKEN]
 */

import { SeededRandom } from "../sim/random.ts";

const LOCATORS = 3, PATHS = LOCATORS ** 2, CANDIDATES = PATHS - 1;
const SEARCH_TRIALS = 300, FINAL_TRIALS = 4_000;
/** The next wave leaves after this multiple of the longest round-trip time of the one before. */
const PATIENCES = [0.6, 1.01, 1.6];

/** One direction: the delays of the paths that may be tried, ascending, and whether each works. */
interface Direction {
  readonly delayMs: readonly number[];
  readonly works: readonly boolean[];
}

interface Schedule {
  readonly waves: readonly number[];
  readonly patience: number;
}

/** Probes of both hosts, and the exploration times in ms of the two. */
interface Outcome {
  readonly messages: number;
  readonly timesMs: readonly [number, number];
}

const broken = Number(Deno.args[0] ?? 16);
const random = new SeededRandom(1);

function drawTrial(): [Direction, Direction] {
  for (;;) {
    const order = Array.from({ length: 2 * CANDIDATES }, (_, i) => i);
    for (let i = order.length - 1; i > 0; i--) {
      const j = random.below(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    const dead = new Set(order.slice(0, broken - 2));
    const direction = (first: number): Direction => ({
      delayMs: Array.from({ length: CANDIDATES }, () => 5 + 45 * random.next()).sort((a, b) => a - b),
      works: Array.from({ length: CANDIDATES }, (_, i) => !dead.has(first + i)),
    });
    const both = [direction(0), direction(CANDIDATES)] as const;
    if (both.every(({ works }) => works.includes(true))) return [both[0], both[1]];
  }
}

/** When each probe leaves, in ms from the first one on. */
function departures({ waves, patience }: Schedule, { delayMs }: Direction, backMs: number): number[] {
  const times: number[] = [];
  let at = 0;
  for (const size of waves) {
    for (let i = 0; i < size; i++) times.push(at);
    at += patience * (delayMs[times.length - 1] + backMs);
  }
  return times;
}

/** The first probe to arrive: when it does, and the delay of its path. */
function firstArrival(times: readonly number[], { delayMs, works }: Direction): [atMs: number, delayMs: number] {
  let first: [number, number] = [Infinity, NaN];
  times.forEach((at, i) => {
    if (works[i] && at + delayMs[i] < first[0]) first = [at + delayMs[i], delayMs[i]];
  });
  return first;
}

function play(searching: Schedule, answering: Schedule, [out, back]: readonly [Direction, Direction]): Outcome {
  const sent = departures(searching, out, back.delayMs[0]);
  const [heardAt, outMs] = firstArrival(sent, out);
  const replies = departures(answering, back, outMs);
  const [replyMs] = firstArrival(replies, back);
  const foundMs = heardAt + replyMs, confirmedMs = replyMs + outMs;
  const isSentBefore = (limit: number) => (at: number) => at < limit;
  const messages = sent.filter(isSentBefore(foundMs)).length + replies.filter(isSentBefore(confirmedMs)).length + 1;
  return { messages, timesMs: [foundMs, confirmedMs] };
}

function measure(searching: Schedule, answering: Schedule, trials: readonly [Direction, Direction][]) {
  const outcomes = trials.map((trial) => play(searching, answering, trial));
  const times = outcomes.flatMap(({ timesMs }) => timesMs).sort((a, b) => a - b);
  const messages = outcomes.reduce((sum, outcome) => sum + outcome.messages, 0) / outcomes.length;
  return { messages, p95Ms: times[Math.ceil(0.95 * times.length) - 1] };
}

/** All ways to split `count` probes into waves. */
function splits(count: number): number[][] {
  if (count === 0) return [[]];
  return Array.from({ length: count }, (_, i) => splits(count - i - 1).map((rest) => [i + 1, ...rest])).flat();
}

function front<T extends { messages: number; p95Ms: number }>(points: T[]): T[] {
  let bestMs = Infinity;
  return points.sort((a, b) => a.messages - b.messages).filter(({ p95Ms }) => {
    if (p95Ms >= bestMs) return false;
    bestMs = p95Ms;
    return true;
  });
}

const trials = Array.from({ length: FINAL_TRIALS }, drawTrial);
const schedules = PATIENCES.flatMap((patience) => splits(CANDIDATES).map((waves) => ({ waves, patience })));
const few = trials.slice(0, SEARCH_TRIALS);
const points: { searching: Schedule; answering: Schedule; messages: number; p95Ms: number }[] = [];
for (const searching of schedules) {
  for (const answering of schedules) points.push({ searching, answering, ...measure(searching, answering, few) });
}
const best = front(points).map(({ searching, answering }) => ({
  searching,
  answering,
  ...measure(searching, answering, trials),
}));
for (const { searching, answering, messages, p95Ms } of front(best)) {
  const text = ({ waves, patience }: Schedule) => `${waves.join("+")} (${patience} RTT)`;
  console.log(
    `${messages.toFixed(1)} messages, p95 ${p95Ms.toFixed(0)} ms: searching ${text(searching)}, answering ${
      text(answering)
    }`,
  );
}
