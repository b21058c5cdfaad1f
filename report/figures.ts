/** The figures, as SVG. The libraries that draw are big: they are loaded when the first figure is drawn. */

import { shareBelow } from "../sim/experiments/statistics.ts";
import type { ByPolicy, Curve, Failover, Found } from "./measured.ts";
import {
  PAPER_BEST_TWO,
  PAPER_FREQUENT_RTT_MS,
  PAPER_N16,
  PAPER_N2,
  PAPER_SEND_TIMER_MS,
  PAPER_SMALL_N_LONGEST,
} from "./paper_figures.ts";

/** Draws the figures; {@linkcode loadFigures} makes it. */
export interface Figures {
  /** Figure 4: throughput that the receiver saw, a row for each stream, from the failure on. `paper`: mark its Send Timer. */
  throughput(rows: readonly Failover[], label: (row: Failover) => string, title: string, paper: boolean): string;
  /** Figure 5: cumulative distribution of exploration times for each number of broken paths. */
  explorationTimes(curves: readonly Curve[]): string;
  /** Figure 6: share of failures by the round-trip time of the chosen paths, in ms, a row for each policy. */
  roundTrips(histograms: Found<Readonly<Record<number, number>>>): string;
  /** Figure 7: share of the one-way paths, which are 10 ms apart, a row for each policy. */
  oneWay(shares: Found<readonly number[]>): string;
  /** Time against messages, one dot per policy; nearer to the lower left is better. */
  pareto(points: Found<ParetoPoint>, title: string, timeLabel: string): string;
}

/** A policy in the plane of time and messages. */
export interface ParetoPoint {
  readonly timeMs: number;
  readonly messages: number;
}

const WIDTH = 680, HEIGHT = 380;
const ROW_HEIGHT = 84;
const INK = "#1f2933", FAINT = "#9aa5b1", PAPER_COLOUR = "#c0392b", MAIN_COLOUR = "#2c6fbb", LAB_COLOUR = "#d98e04";
const COLOURS = ["#2c6fbb", "#1b9e77", "#d98e04", "#7b4fa3", "#444444", "#b8336a"];
/** Room for the name of the rightmost policy. */
const PARETO_RIGHT = 90;
const MARGINS = { marginLeft: 60, marginRight: 30, marginTop: 56, marginBottom: 46 };

const THROUGHPUT_BIN_MS = 100;
/** What is shown around a failure. */
const BEFORE_MS = 1_000, AFTER_MS = 5_000;
/** A time of zero has no place on a logarithmic axis. */
const LEAST_S = 0.001;
/** More would only make the file bigger. */
const CURVE_POINTS = 250;
/** Where the names of curves stand. */
const LABEL_S = 0.005;
/** The paper's nine paths. */
const DELAY_STEP_MS = 10, ONE_WAY_PATHS = 9;
/** How far above its plot a legend stands: below the label of the axis. */
const LEGEND_DY = -24;
/** Of a policy's name, pixels. */
const LABEL_WIDTH = 70, LABEL_HEIGHT = 14;

/** Loads what draws. */
export async function loadFigures(): Promise<Figures> {
  const [Plot, { parseHTML }] = await Promise.all([import("@observablehq/plot"), import("linkedom")]);

  function draw(options: Record<string, unknown>, title: string): string {
    const { document } = parseHTML("<html><body></body></html>") as unknown as { document: unknown };
    const svg = Plot.plot(
      {
        width: WIDTH,
        height: HEIGHT,
        ...MARGINS,
        style: { background: "white", color: INK, fontFamily: "sans-serif", fontSize: "12px" },
        ...options,
        document,
      } as Parameters<typeof Plot.plot>[0],
    );
    svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", title);
    return svg.toString();
  }

  /** Options of a figure with a row for each name, which stands at the right end of its row. */
  const rowOptions = (names: readonly string[]) => ({
    height: MARGINS.marginTop + MARGINS.marginBottom + ROW_HEIGHT * names.length,
    fy: { domain: names, label: null, axis: null, padding: 0.25 },
  });
  const rowNames = (names: readonly string[]) =>
    Plot.text(names, {
      fy: (name: string) => name,
      text: (name: string) => name,
      frameAnchor: "top-right",
      fontWeight: "bold",
      dy: -3,
    });
  /** A line above a figure that tells what its signs mean. */
  const legend = (
    entries: readonly { readonly sign: string; readonly text: string; readonly colour: string }[],
    firstRow?: string,
  ) => {
    let x = 0;
    return entries.map(({ sign, text, colour }) => {
      const mark = Plot.text([`${sign} ${text}`], {
        text: (line: string) => line,
        frameAnchor: "top-left",
        fill: colour,
        dx: x,
        dy: LEGEND_DY,
        ...(firstRow === undefined ? {} : { fy: () => firstRow }),
      });
      x += 7 * (sign.length + text.length) + 24;
      return mark;
    });
  };
  const SIMULATED = { sign: "■", text: "simulated", colour: MAIN_COLOUR };
  const TESTBED = { sign: "○", text: "testbed", colour: LAB_COLOUR };

  return {
    throughput(rows, label, title, paper) {
      const names = rows.map(label);
      const points = rows.flatMap((row) => throughputOf(row).map((point) => ({ ...point, name: label(row) })));
      const send = PAPER_SEND_TIMER_MS / 1_000;
      return draw({
        ...rowOptions(names),
        x: { label: "seconds from the failure", domain: [-BEFORE_MS / 1_000, AFTER_MS / 1_000], grid: true },
        y: { label: "received, Mbit/s", grid: true, zero: true, ticks: 3 },
        marks: [
          ...(paper
            ? [
              Plot.rectX(names, { fy: (n: string) => n, x1: 0, x2: send, fill: PAPER_COLOUR, fillOpacity: 0.08 }),
              ...legend([{ sign: "■", text: "the paper's Send Timer of 3 s", colour: PAPER_COLOUR }], names[0]),
            ]
            : []),
          Plot.ruleY([0], { stroke: INK }),
          Plot.areaY(points, {
            fy: "name",
            x: "seconds",
            y: "mbit",
            fill: MAIN_COLOUR,
            fillOpacity: 0.25,
            curve: "step-after",
          }),
          Plot.line(points, { fy: "name", x: "seconds", y: "mbit", stroke: MAIN_COLOUR, curve: "step-after" }),
          Plot.ruleX([0], { stroke: PAPER_COLOUR, strokeDasharray: "4 3" }),
          rowNames(names),
        ],
      }, title);
    },
    explorationTimes(curves) {
      const name = (broken: number) => `n = ${broken}`;
      const steps = (broken: number, timesMs: readonly number[]) => {
        const ascending = timesMs.filter(Number.isFinite).sort((a, b) => a - b);
        const stride = Math.ceil(ascending.length / CURVE_POINTS);
        return ascending.flatMap((ms, i) => {
          const share = (i + 1) / timesMs.length;
          const isDrawn = i % stride === 0 || i === ascending.length - 1;
          return isDrawn ? [{ n: name(broken), seconds: Math.max(LEAST_S, ms / 1_000), share }] : [];
        });
      };
      const simulated = curves.flatMap(({ broken, simulated }) => steps(broken, simulated));
      const testbed = curves.flatMap(({ broken, testbed }) => testbed === undefined ? [] : steps(broken, testbed));
      const paper = [
        { ...PAPER_N2, text: "86 % by the first probe", anchor: "end", dx: -8, dy: 3 },
        { ...PAPER_SMALL_N_LONGEST, text: "n = 2: all", anchor: "middle", dx: 0, dy: -9 },
        ...PAPER_N16.map((at) => ({
          ...at,
          text: `${100 * at.share} % < ${at.seconds} s`,
          anchor: "start",
          dx: 8,
          dy: 3,
        })),
      ];
      const names = curves.map(({ broken }) => name(broken));
      return draw({
        x: {
          type: "log",
          label: "exploration time (s)",
          domain: [LEAST_S, 100],
          grid: true,
          tickFormat: String,
          ticks: 6,
        },
        y: { label: "share of explorations", domain: [0, 1], grid: true, tickFormat: ".0%" },
        color: { domain: names, range: COLOURS },
        marginRight: 40,
        marks: [
          Plot.ruleY([0], { stroke: INK }),
          Plot.line(simulated, { x: "seconds", y: "share", stroke: "n", curve: "step-after", strokeWidth: 1.8 }),
          Plot.line(testbed, {
            x: "seconds",
            y: "share",
            stroke: "n",
            curve: "step-after",
            strokeWidth: 1.4,
            strokeDasharray: "3 3",
          }),
          // Where the curves are level: sooner than the second probe nearly all that ends has ended at once.
          Plot.text(curves, {
            x: () => LABEL_S,
            y: ({ simulated }) => shareBelow(simulated, 1_000 * LABEL_S),
            text: ({ broken }) => name(broken),
            fill: ({ broken }) => name(broken),
            textAnchor: "start",
            dy: -7,
            fontWeight: "bold",
            stroke: "white",
          }),
          Plot.dot(paper, { x: "seconds", y: "share", stroke: PAPER_COLOUR, symbol: "times", r: 5, strokeWidth: 2 }),
          ...paper.map((at) =>
            Plot.text([at], {
              x: "seconds",
              y: "share",
              text: "text",
              fill: PAPER_COLOUR,
              stroke: "white",
              textAnchor: at.anchor as "start",
              dx: at.dx,
              dy: at.dy,
            })
          ),
          ...legend([
            { sign: "—", text: "simulated", colour: INK },
            ...(testbed.length > 0 ? [{ sign: "┄", text: "testbed", colour: INK }] : []),
            { sign: "×", text: "the paper", colour: PAPER_COLOUR },
          ]),
        ],
      }, "Figure 5: exploration times");
    },
    roundTrips(histograms) {
      const names = Object.keys(histograms.simulated);
      const bars = (by: ByPolicy<Readonly<Record<number, number>>> = {}) =>
        Object.entries(by).flatMap(([name, histogram]) => {
          const total = Object.values(histogram).reduce((sum, count) => sum + count, 0);
          return Array.from({ length: 2 * ONE_WAY_PATHS - 1 }, (_, i) => DELAY_STEP_MS * i)
            .map((rtt) => ({ name, rtt, share: (histogram[rtt] ?? 0) / total }));
        });
      const testbed = bars(histograms.testbed);
      const marked = names.filter((name) => name === "burst4");
      return draw({
        ...rowOptions(names),
        x: { label: "round-trip time of the chosen paths (ms)", type: "band" },
        y: { label: "share of failures", grid: true, tickFormat: ".0%", ticks: 3 },
        marks: [
          Plot.barY(bars(histograms.simulated), { fy: "name", x: "rtt", y: "share", fill: MAIN_COLOUR }),
          Plot.dot(testbed, { fy: "name", x: "rtt", y: "share", stroke: LAB_COLOUR, r: 3, strokeWidth: 1.8 }),
          Plot.ruleY([0], { stroke: INK }),
          Plot.text(marked, {
            fy: (name: string) => name,
            x: () => PAPER_FREQUENT_RTT_MS,
            text: () => "▾ the paper's most frequent",
            frameAnchor: "top",
            textAnchor: "start",
            fill: PAPER_COLOUR,
            dx: -4,
            dy: 4,
          }),
          rowNames(names),
          ...legend([SIMULATED, ...(testbed.length > 0 ? [TESTBED] : [])], names[0]),
        ],
      }, "Figure 6: round-trip times of the chosen paths");
    },
    oneWay(shares) {
      const names = Object.keys(shares.simulated);
      const bars = (by: ByPolicy<readonly number[]> = {}) =>
        Object.entries(by).flatMap(([name, list]) =>
          list.map((share, i) => ({ name, delay: DELAY_STEP_MS * i, share }))
        );
      const testbed = bars(shares.testbed);
      const paper = Object.entries(PAPER_BEST_TWO).filter(([name]) => names.includes(name))
        .flatMap(([name, share]) => [0, DELAY_STEP_MS].map((delay) => ({ name, delay, share })));
      return draw({
        ...rowOptions(names),
        x: { label: "one-way delay of the chosen path (ms)", type: "band" },
        y: { label: "share of choices", grid: true, tickFormat: ".0%", ticks: 3 },
        marks: [
          Plot.barY(bars(shares.simulated), { fy: "name", x: "delay", y: "share", fill: MAIN_COLOUR }),
          Plot.dot(testbed, { fy: "name", x: "delay", y: "share", stroke: LAB_COLOUR, r: 3, strokeWidth: 1.8 }),
          Plot.ruleY([0], { stroke: INK }),
          Plot.tickY(paper, {
            fy: "name",
            x: "delay",
            y: (at) => at.share / 2,
            stroke: PAPER_COLOUR,
            strokeWidth: 2.5,
          }),
          Plot.text(paper.filter(({ delay }) => delay > 0), {
            fy: "name",
            text: (at) => `the paper: ${(100 * at.share).toFixed(1)} % for the best two`,
            frameAnchor: "top",
            fill: PAPER_COLOUR,
            dy: 2,
          }),
          rowNames(names),
          ...legend([SIMULATED, ...(testbed.length > 0 ? [TESTBED] : [])], names[0]),
        ],
      }, "Figure 7: one-way delays of the chosen paths");
    },
    pareto(points, title, timeLabel) {
      const plotted = (by: ByPolicy<ParetoPoint> = {}) =>
        Object.entries(by).map(([policy, { timeMs, messages }]) => ({ policy, timeMs: Math.max(1, timeMs), messages }))
          .filter(({ timeMs, messages }) => Number.isFinite(timeMs) && Number.isFinite(messages));
      const simulated = plotted(points.simulated), testbed = plotted(points.testbed);
      const links = testbed.flatMap((at) => {
        const from = simulated.find(({ policy }) => policy === at.policy);
        return from === undefined ? [] : [{ x1: from.messages, y1: from.timeMs, x2: at.messages, y2: at.timeMs }];
      });
      const best = front(simulated);
      const times = [...simulated, ...testbed].map(({ timeMs }) => timeMs);
      const domain = [Math.min(...times) / 1.6, Math.max(...times) * 1.3];
      const most = Math.max(...[...simulated, ...testbed].map(({ messages }) => messages));
      const width = WIDTH - MARGINS.marginLeft - PARETO_RIGHT,
        height = HEIGHT - MARGINS.marginTop - MARGINS.marginBottom;
      const place = ({ messages, timeMs }: PlottedPoint) => ({
        x: width * messages / most,
        y: height * Math.log(domain[1] / timeMs) / Math.log(domain[1] / domain[0]),
      });
      return draw({
        x: { label: "messages per recovery", grid: true, domain: [0, 1.05 * most] },
        y: { type: "log", label: timeLabel, grid: true, domain, tickFormat: String, ticks: 5 },
        marginRight: PARETO_RIGHT,
        marks: [
          Plot.frame({ stroke: "#cbd2d9" }),
          Plot.line(best, {
            x: "messages",
            y: "timeMs",
            stroke: FAINT,
            curve: "step-after",
            strokeDasharray: "2 3",
          }),
          Plot.link(links, { x1: "x1", y1: "y1", x2: "x2", y2: "y2", stroke: LAB_COLOUR, strokeOpacity: 0.5 }),
          Plot.dot(testbed, { x: "messages", y: "timeMs", stroke: LAB_COLOUR, r: 4, strokeWidth: 1.8, fill: "white" }),
          Plot.dot(simulated, { x: "messages", y: "timeMs", fill: MAIN_COLOUR, r: 5 }),
          ...labelsApart(simulated, place).map(({ policy, messages, timeMs, down }) =>
            Plot.text([policy], {
              x: () => messages,
              y: () => timeMs,
              text: () => policy,
              textAnchor: "start",
              dx: 9,
              dy: down,
              stroke: "white",
              fill: INK,
            })
          ),
          ...legend([
            { ...SIMULATED, sign: "●" },
            ...(testbed.length > 0 ? [TESTBED] : []),
            ...(best.length > 1 ? [{ sign: "┄", text: "nothing is better in both", colour: FAINT }] : []),
          ]),
        ],
      }, title);
    },
  };
}

interface PlottedPoint {
  readonly policy: string;
  readonly timeMs: number;
  readonly messages: number;
}

/** The points that no other one beats in both, by rising number of messages. */
function front(points: readonly PlottedPoint[]): PlottedPoint[] {
  let best = Infinity;
  return points.toSorted((a, b) => a.messages - b.messages || a.timeMs - b.timeMs)
    .filter(({ timeMs }) => timeMs < best && ((best = timeMs), true));
}

/** Moves labels down until none lies on another; `place` says where a point is drawn, in pixels. */
function labelsApart(
  points: readonly PlottedPoint[],
  place: (point: PlottedPoint) => { readonly x: number; readonly y: number },
): (PlottedPoint & { down: number })[] {
  const taken: { x: number; y: number }[] = [];
  return points.toSorted((a, b) => b.timeMs - a.timeMs).map((point) => {
    const { x, y } = place(point);
    let down = 0;
    const lies = (at: { x: number; y: number }) =>
      Math.abs(at.x - x) < LABEL_WIDTH && Math.abs(at.y - y - down) < LABEL_HEIGHT;
    for (let other = taken.find(lies); other !== undefined; other = taken.find(lies)) down = other.y - y + LABEL_HEIGHT;
    taken.push({ x, y: y + down });
    return { ...point, down };
  });
}

/** What the receiver got, in bins around the failure. */
function throughputOf({ timeline, kill_t_ms }: Failover): { seconds: number; mbit: number }[] {
  const bins = new Array<number>((BEFORE_MS + AFTER_MS) / THROUGHPUT_BIN_MS).fill(0);
  for (const { t_ms, bytes } of timeline) {
    const bin = Math.floor((t_ms - kill_t_ms + BEFORE_MS) / THROUGHPUT_BIN_MS);
    if (bin >= 0 && bin < bins.length) bins[bin] += bytes;
  }
  return bins.map((bytes, i) => ({
    seconds: (i * THROUGHPUT_BIN_MS - BEFORE_MS) / 1_000,
    mbit: bytes * 8 / THROUGHPUT_BIN_MS / 1_000,
  }));
}
