/** Structured logs on stderr: text for people, JSON lines for machines. */

import { configure, dispose, getLogger, jsonLinesFormatter, type LogRecord } from "@logtape/logtape";
import type { LogLevel } from "./config.ts";

/** Writes a line of the log. Properties are structured fields, never part of the message text. */
export type Write = (message: string, properties?: Record<string, unknown>) => void;

/** The agent's logger. */
export const log: Readonly<Record<"debug" | "info" | "warn" | "error", Write>> = getLogger(["shim6"]);

const encoder = new TextEncoder();

function textLine(record: LogRecord): string {
  const fields = Object.entries(record.properties)
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  const time = new Date(record.timestamp).toISOString().slice(11, 23);
  return [time, record.level.toUpperCase().padEnd(7), record.message.join(""), ...fields].join(" ") + "\n";
}

/** Starts logging; the result ends it, with everything written. */
export async function startLogging(level: LogLevel, format: "text" | "json"): Promise<() => Promise<void>> {
  const formatter = format === "json" ? jsonLinesFormatter : textLine;
  await configure({
    reset: true,
    sinks: {
      // Written at once: what an agent said last before it died is what one wants to read.
      stderr: (record) => {
        const octets = encoder.encode(formatter(record));
        try {
          for (let done = 0; done < octets.length;) done += Deno.stderr.writeSync(octets.subarray(done));
        } catch { /* stderr is closed or full: the log must not stop the agent */ }
      },
    },
    loggers: [
      { category: ["shim6"], sinks: ["stderr"], lowestLevel: level },
      { category: ["logtape", "meta"], sinks: ["stderr"], lowestLevel: "warning" },
    ],
  });
  return dispose;
}
