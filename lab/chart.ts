/** Draws a stream's throughput over time for a terminal, and tells a failover's story in figures. Pure. */

import type { LocatorPair } from "../policies/policy.ts";
import type { SilenceParts } from "./silence.ts";

/** What the terminal can show. */
export interface ChartStyle {
  /** Block elements and arrows; plain ASCII otherwise. */
  readonly unicode: boolean;
  readonly color: boolean;
}

/** What to draw. */
export interface ChartData {
  /** Octets received in each column. */
  readonly columns: readonly number[];
  readonly columnMs: number;
  /** The column in which the path broke, if it has. */
  readonly brokenAt?: number;
  /** Columns to make room for; as many as there are when absent. */
  readonly width?: number;
}

const ROWS = 8;
const BLOCKS = " ▁▂▃▄▅▆▇█";
/** The highest bar in terms of the usual one: catching up after a failure would else flatten everything. */
const HEADROOM = 1.5;
const AXIS_WIDTH = 7;

const ESC = "\x1b[";

function paint(style: ChartStyle, code: number, text: string): string {
  return style.color && text !== "" ? `${ESC}${code}m${text}${ESC}0m` : text;
}

const GREEN = 32, RED = 31, CYAN = 36, BOLD = 1, DIM = 2;

/** The chart as lines of text: bars, an axis in seconds, and a mark where the path broke. */
export function drawChart(data: ChartData, style: ChartStyle): string[] {
  const { columns, columnMs, brokenAt } = data;
  const width = data.width ?? columns.length;
  const toMbit = (bytes: number) => bytes * 8 / 1000 / columnMs;
  const busy = columns.filter((bytes) => bytes > 0).sort((a, b) => a - b);
  const usual = busy.length === 0 ? 0 : busy[busy.length >> 1];
  const top = Math.max(1, usual * HEADROOM);
  const lines: string[] = [];
  for (let row = ROWS - 1; row >= 0; row--) {
    const label = row === ROWS - 1 ? toMbit(top).toFixed(0) : row === 0 ? "0" : "";
    const bars = columns.map((bytes) => bar(bytes / top, row, style));
    const split = brokenAt ?? columns.length;
    const drawn = paint(style, GREEN, bars.slice(0, split).join("")) + paint(style, CYAN, bars.slice(split).join(""));
    lines.push(`${label.padStart(AXIS_WIDTH - 2)} ${style.unicode ? "┤" : "|"}${drawn}`);
  }
  lines[0] += " ".repeat(Math.max(0, width - columns.length)) + paint(style, DIM, " Mbit/s");
  const pad = " ".repeat(AXIS_WIDTH - 1);
  lines.push(pad + (style.unicode ? "└" + "─".repeat(width) : "+" + "-".repeat(width)));
  const perSecond = 1000 / columnMs;
  let axis = "";
  for (let second = 0; second * perSecond < width; second += Math.max(1, Math.ceil(6 / perSecond))) {
    axis = axis.padEnd(Math.round(second * perSecond)) + `${second} s`;
  }
  lines.push(pad + " " + axis);
  if (brokenAt !== undefined) {
    lines.push(pad + " " + " ".repeat(brokenAt) + paint(style, RED, `${style.unicode ? "▲" : "^"} path broken`));
  }
  return lines.map((line) => line.trimEnd());
}

/** One character of a bar: how much of `row` a bar of the height `share` (1 is the top) fills. */
function bar(share: number, row: number, { unicode }: ChartStyle): string {
  const eighths = Math.round(Math.min(1, share) * ROWS * 8) - row * 8;
  if (share > 1 && row === ROWS - 1) return unicode ? "▀" : "+"; // higher than the chart
  if (unicode) return BLOCKS[Math.max(0, Math.min(8, eighths))];
  return eighths >= 4 || (row === 0 && share > 0) ? "#" : " ";
}

/** What the story needs to know of a failover, real or simulated. */
export interface Story extends SilenceParts {
  readonly kill: string;
  readonly recovered: boolean;
  readonly intact: boolean;
  readonly pair_before: { readonly a: LocatorPair; readonly b: LocatorPair };
  readonly pair_after: { readonly a: LocatorPair; readonly b: LocatorPair };
}

/** The story in a few lines. `verdict` says what it means that all arrived, or did not. */
export function tellStory(story: Story, verdict: string, style: ChartStyle): string[] {
  const arrow = style.unicode ? "→" : "->";
  const pair = ({ local, peer }: LocatorPair) => `${local} ${arrow} ${peer}`;
  const ms = (value: number) => `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
  const { a, b } = story.pair_before, { a: newA, b: newB } = story.pair_after;
  return [
    `ULIDs    ${pair(a)}   what both programs see, from beginning to end`,
    `before   ${pair(a)}   and back   ${pair(b)}`,
    `after    ${paint(style, CYAN, pair(newA))}   and back   ${paint(style, CYAN, pair(newB))}`,
    "",
    story.recovered
      ? `silence ${paint(style, BOLD, ms(story.silence_ms))} = detection ${ms(story.detection_ms)} + exploration ` +
        `${ms(story.exploration_ms)} + resume ${ms(story.resume_ms)}`
      : paint(style, RED, `the stream did not come back; silent for ${ms(story.silence_ms)}`),
    story.intact ? paint(style, GREEN, verdict) : paint(style, RED, verdict),
  ];
}

/** Sums a timeline into columns of `columnMs`; at most `most` of them. */
export function toColumns(
  timeline: readonly { readonly t_ms: number; readonly bytes: number }[],
  columnMs: number,
  most: number,
): number[] {
  const columns: number[] = [];
  for (const { t_ms, bytes } of timeline) {
    const column = Math.min(most - 1, Math.floor(t_ms / columnMs));
    while (columns.length <= column) columns.push(0);
    columns[column] += bytes;
  }
  return columns;
}
