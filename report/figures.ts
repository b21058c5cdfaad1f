/** The figures, as SVG. The libraries that draw are big: they are loaded when the first figure is drawn. */

import { PAPER_BEST_TWO, PAPER_FREQUENT_RTT_MS, PAPER_N16, PAPER_N2 } from "./paper_figures.ts";

/** Draws the figures; {@linkcode loadFigures} makes it. */
export interface Figures {
  /** Figure 5: cumulative distribution of exploration times (ms) for each number of broken paths. */
  explorationTimes(curves: readonly { readonly broken: number; readonly timesMs: readonly number[] }[]): string;
  /** Figure 6: share of failures by the round-trip time of the chosen paths. */
  roundTrips(policy: string, histogram: Readonly<Record<number, number>>): string;
  /** Figure 7: share of the one-way paths, which are 10 ms apart. */
  oneWay(policy: string, shares: readonly number[]): string;
  /** Figure 4: throughput seen by the receiver; `killMs` is when the path broke, on the same clock. */
  throughput(
    timeline: readonly { readonly t_ms: number; readonly bytes: number }[],
    killMs: number,
    title: string,
  ): string;
  /** 95th percentile of the exploration time against messages, one dot per policy; nearer to the lower left is better. */
  pareto(points: readonly ParetoPoint[], title: string): string;
}

/** A policy in the plane of time and messages. */
export interface ParetoPoint {
  readonly policy: string;
  readonly p95Ms: number;
  readonly messages: number;
}

const WIDTH = 680, HEIGHT = 380;
const INK = "#1f2933", PAPER_COLOUR = "#c0392b", MAIN_COLOUR = "#2c6fbb";
const THROUGHPUT_BIN_MS = 100;
/** A time of zero has no place on a logarithmic axis. */
const LEAST_S = 0.001;

/** Loads what draws. */
export async function loadFigures(): Promise<Figures> {
  const [Plot, { parseHTML }] = await Promise.all([import("@observablehq/plot"), import("linkedom")]);

  function draw(options: Record<string, unknown>, title: string): string {
    const { document } = parseHTML("<html><body></body></html>") as unknown as { document: unknown };
    const svg = Plot.plot(
      {
        width: WIDTH,
        height: HEIGHT,
        marginLeft: 60,
        marginRight: 30,
        marginTop: 40,
        marginBottom: 46,
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

  const rule = (marks: unknown[]) => [Plot.ruleY([0], { stroke: INK }), ...marks];

  return {
    explorationTimes(curves) {
      const steps = curves.flatMap(({ broken, timesMs }) => {
        const ascending = timesMs.toSorted((a, b) => a - b);
        return ascending.map((ms, i) => ({
          n: `n = ${broken}`,
          seconds: Math.max(LEAST_S, ms / 1_000),
          share: (i + 1) / ascending.length,
        }));
      });
      const paper = [...PAPER_N16.map((at) => ({ ...at, n: "n = 16" })), { ...PAPER_N2, n: "n = 2" }];
      return draw({
        x: { type: "log", label: "exploration time (s)", domain: [LEAST_S, 100], grid: true, tickFormat: String },
        y: { label: "share of explorations", domain: [0, 1], grid: true },
        color: { domain: curves.map(({ broken }) => `n = ${broken}`), range: COLOURS },
        marks: rule([
          Plot.line(steps, {
            x: "seconds",
            y: "share",
            stroke: "n",
            curve: "step-after",
            strokeWidth: 1.8,
          }),
          Plot.text(curves.map(({ broken }, i) => ({ n: `n = ${broken}`, y: 0.98 - 0.06 * i })), {
            x: () => LEAST_S * 1.3,
            y: "y",
            text: "n",
            fill: "n",
            textAnchor: "start",
            fontWeight: "bold",
          }),
          Plot.dot(paper, { x: "seconds", y: "share", stroke: PAPER_COLOUR, symbol: "times", r: 5, strokeWidth: 2 }),
          Plot.text(paper, {
            x: "seconds",
            y: "share",
            text: (d: { n: string }) => `paper, ${d.n}`,
            fill: PAPER_COLOUR,
            dy: 13,
          }),
        ]),
      }, "Figure 5: exploration times");
    },
    roundTrips(policy, histogram) {
      const total = Object.values(histogram).reduce((sum, count) => sum + count, 0);
      const bars = Array.from({ length: 17 }, (_, i) => ({ rtt: 10 * i, share: (histogram[10 * i] ?? 0) / total }));
      const top = Math.max(...bars.map(({ share }) => share)) * 1.15;
      const isBurst = policy === "burst4";
      return draw({
        x: { label: "round-trip time of the chosen paths (ms)", type: "band" },
        y: { label: "share of failures", domain: [0, top], grid: true, percent: false, tickFormat: ".0%" },
        marks: rule([
          Plot.barY(bars, { x: "rtt", y: "share", fill: MAIN_COLOUR }),
          ...(isBurst
            ? [Plot.text([{ rtt: PAPER_FREQUENT_RTT_MS }], {
              x: "rtt",
              y: () => top * 0.97,
              text: () => "paper: most frequent ▾",
              fill: PAPER_COLOUR,
            })]
            : []),
        ]),
      }, `Figure 6: round-trip times chosen by ${policy}`);
    },
    oneWay(policy, shares) {
      const bars = shares.map((share, i) => ({ delay: 10 * i, share }));
      const paper = policy === "random" || policy === "burst4" ? PAPER_BEST_TWO[policy] : undefined;
      const top = Math.max(...shares, 0.3) * 1.15;
      return draw({
        x: { label: "one-way delay of the chosen path (ms)", type: "band" },
        y: { label: "share of choices", domain: [0, top], grid: true, tickFormat: ".0%" },
        marks: rule([
          Plot.barY(bars, { x: "delay", y: "share", fill: MAIN_COLOUR }),
          ...(paper === undefined ? [] : [
            Plot.tickY([0, 10], { x: (d: number) => d, y: () => paper / 2, stroke: PAPER_COLOUR, strokeWidth: 3 }),
            Plot.text([{ delay: 40 }], {
              x: "delay",
              y: () => top * 0.93,
              text: () => `paper: best two together ${(100 * paper).toFixed(1)} % (marks: half of it each)`,
              fill: PAPER_COLOUR,
            }),
          ]),
        ]),
      }, `Figure 7: one-way paths chosen by ${policy}`);
    },
    throughput(timeline, killMs, title) {
      const last = Math.max(0, ...timeline.map(({ t_ms }) => t_ms));
      const bins = new Array<number>(Math.floor(last / THROUGHPUT_BIN_MS) + 1).fill(0);
      for (const { t_ms, bytes } of timeline) bins[Math.floor(t_ms / THROUGHPUT_BIN_MS)] += bytes;
      const points = bins.map((bytes, i) => ({
        seconds: i * THROUGHPUT_BIN_MS / 1_000,
        mbit: bytes * 8 / THROUGHPUT_BIN_MS / 1_000,
      }));
      return draw({
        x: { label: "time (s)", grid: true },
        y: { label: "received (Mbit/s)", grid: true, zero: true },
        marks: rule([
          Plot.areaY(points, { x: "seconds", y: "mbit", fill: MAIN_COLOUR, fillOpacity: 0.2, curve: "step-after" }),
          Plot.line(points, { x: "seconds", y: "mbit", stroke: MAIN_COLOUR, curve: "step-after" }),
          Plot.ruleX([killMs / 1_000], { stroke: PAPER_COLOUR, strokeDasharray: "4 3" }),
          Plot.text([killMs / 1_000], {
            x: (d: number) => d,
            frameAnchor: "top",
            text: () => "the path breaks",
            fill: PAPER_COLOUR,
            dy: -12,
          }),
        ]),
      }, title);
    },
    pareto(points, title) {
      const shown = points.filter(({ p95Ms, messages }) => Number.isFinite(p95Ms) && Number.isFinite(messages));
      return draw({
        x: { label: "messages per recovery", grid: true, zero: true, nice: true },
        y: { type: "log", label: "exploration time, 95th percentile (ms)", grid: true, nice: true, tickFormat: String },
        marks: [
          Plot.frame({ stroke: "#cbd2d9" }),
          Plot.dot(shown, { x: "messages", y: (d: ParetoPoint) => Math.max(1, d.p95Ms), fill: MAIN_COLOUR, r: 5 }),
          Plot.text(shown, {
            x: "messages",
            y: (d: ParetoPoint) => Math.max(1, d.p95Ms),
            text: "policy",
            textAnchor: "start",
            dx: 9,
            fill: INK,
          }),
        ],
        marginRight: 90,
      }, title);
    },
  };
}

const COLOURS = ["#2c6fbb", "#1b9e77", "#d98e04", "#7b4fa3", "#444444", "#b8336a"];
