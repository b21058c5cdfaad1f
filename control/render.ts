/** What the console prints for people: plain text, one fact a line, readable at 3 in the morning. */

import type { LocatorPair } from "../policies/policy.ts";
import { samePair } from "../policies/policy.ts";
import { ReapState } from "../wire/message.ts";
import type { LoggedEvent } from "../agent/event_log.ts";
import type { ContextReport, CoordinatesReport, PathReport, ReapName, StatusReport, WhyReport } from "./protocol.ts";

/** The name of a REAP state on the outside. */
export function reapName(state: ReapState): ReapName {
  switch (state) {
    case ReapState.Operational:
      return "operational";
    case ReapState.Exploring:
      return "exploring";
    case ReapState.InboundOk:
      return "inbound-ok";
  }
}

/** Milliseconds for people: `0.4 ms`, `12 ms`, `3.20 s`, `5 min`, `2.0 h`. */
export function duration(ms: number): string {
  if (ms < 1) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(2)} s`;
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`;
  return `${(ms / 3_600_000).toFixed(1)} h`;
}

/** An ordered address pair, as its sender sees it. */
export function pairText(pair: LocatorPair): string {
  return `${pair.local} > ${pair.peer}`;
}

/** Rows under a head, in columns as wide as their widest cell. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  return [head, ...rows]
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd())
    .join("\n");
}

function contextState(context: ContextReport): string {
  if (context.state !== "ESTABLISHED") return context.state;
  return samePair(context.current, context.ulid) ? context.reap : `${context.reap}, translated`;
}

/** `contexts`. */
export function renderContexts(contexts: readonly ContextReport[]): string {
  if (contexts.length === 0) return "no contexts: no flow has lived long enough yet, or no peer speaks Shim6";
  return table(
    ["ID", "ULID PAIR", "STATE", "PATH NOW", "SINCE", "RTT", "SWITCHES", "LAST FAILURE"],
    contexts.map((context) => [
      String(context.id) + (context.fii === 0 ? "" : ` fii ${context.fii}`),
      pairText(context.ulid),
      contextState(context),
      samePair(context.current, context.ulid) ? "ULID pair, native" : pairText(context.current),
      duration(context.since_ms),
      context.rtt_ms === null ? "-" : duration(context.rtt_ms),
      String(context.switches),
      context.last_failure === null
        ? "-"
        : `${context.last_failure.cause}: ${duration(context.last_failure.detection_ms)} to notice, ` +
          `${duration(context.last_failure.exploration_ms)} to find`,
    ]),
  );
}

/** `status`. */
export function renderStatus(status: StatusReport): string {
  const lines = [
    `shim6-agent ${status.version}: policy ${status.policy}, profile ${status.profile}, ` +
    `datapath ${status.datapath}, accounting ${status.accounting}, up ${duration(status.uptime_s * 1_000)}`,
    ...status.warnings.map((warning) => `WARNING: ${warning}`),
    "",
    status.locators.length === 0 ? "no locators: no global address on a running interface" : table(
      ["LOCATOR", "INTERFACE", "USABLE", "PRIORITY"],
      status.locators.map((locator) => [
        locator.address,
        locator.interface,
        locator.usable ? locator.deprecated ? "yes, deprecated" : "yes" : "NO",
        `${locator.priority}${locator.weight > 0 ? `, weight ${locator.weight}` : ""}` +
        (locator.transient ? ", transient" : ""),
      ]),
    ),
    "",
    ...coordinateLines(status.coordinates),
    renderContexts(status.contexts),
  ];
  const dropped = Object.entries(status.counters.dropped).filter(([, count]) => count > 0);
  if (dropped.length > 0) {
    lines.push("", "dropped: " + dropped.map(([reason, count]) => `${reason} ${count}`).join(", "));
  }
  return lines.join("\n");
}

function coordinateLines(coordinates: CoordinatesReport | null): string[] {
  if (coordinates === null) return [];
  const { locators, predictions, median_error, rankings, first_best, refused } = coordinates;
  const told = predictions === 0
    ? "coordinates: nothing was predicted and measured yet"
    : `coordinates: of ${predictions} predictions the last ones were off by ${Math.round(100 * median_error!)} % ` +
      `(median); the pair ranked first was the best working one with ${first_best} of ${rankings} peers`;
  return [
    refused === 0 ? told : `${told}; ${refused} announcements of peers were refused`,
    table(
      ["LOCATOR", "X", "Y", "HEIGHT", "ERROR"],
      locators.map(({ address, x_ms, y_ms, height_ms, error }) => [
        address,
        ...[x_ms, y_ms, height_ms].map((ms) => `${ms.toFixed(1)} ms`),
        `${Math.round(100 * error)} %`,
      ]),
    ),
    "",
  ];
}

/** `paths`. */
export function renderPaths(paths: readonly PathReport[]): string {
  if (paths.length === 0) return "no locator pair is known yet";
  const ago = (ms: number | null) => ms === null ? "never" : `${duration(ms)} ago`;
  return table(
    ["LOCATOR PAIR", "RTT", "KNOWN FROM", "ANSWERED", "LAST SUCCESS", "LAST FAILURE", "USED BY"],
    paths.map((path) => [
      pairText(path),
      path.rtt_ms === null
        ? path.predicted_rtt_ms === null ? "-" : `about ${duration(path.predicted_rtt_ms)}`
        : `${duration(path.rtt_ms)} ± ${duration(path.rtt_variance_ms ?? 0)}`,
      path.source,
      `${path.probes_answered}/${path.probes_sent}`,
      ago(path.last_success_ms),
      ago(path.last_failure_ms),
      path.contexts.length === 0 ? "-" : path.contexts.join(" "),
    ]),
  );
}

/** One event as a line, without its time. */
export function eventText(event: LoggedEvent): string {
  switch (event.kind) {
    case "state":
      return `${event.from} → ${event.to}: ${event.reason}`;
    case "reap":
      return `${reapName(event.from)} → ${reapName(event.to)}: ${event.cause}`;
    case "suspect":
      return `no answer for ${duration(event.silentMs)} (usually ${duration(event.usualMs)}): copies are held`;
    case "probe-sent":
      return `probe sent on ${pairText(event.pair)} (${reapName(event.state)}): ${event.reason}`;
    case "probe-answered":
      return `the peer received our probe on ${pairText(event.pair)}, round trip ${duration(event.rttMs)}`;
    case "probe-received":
      return `probe received on ${pairText(event.pair)}, the peer is ${reapName(event.state)}`;
    case "switch":
      return `switch from ${pairText(event.from)} to ${pairText(event.to)}: ${event.cause}`;
    case "switch-failed":
      return `switch to ${pairText(event.pair)} failed: ${event.reason}`;
    case "recovered":
      return `recovered from ${event.cause} on ${pairText(event.pair)}: detection ${duration(event.detectionMs)}, ` +
        `exploration ${duration(event.explorationMs)}, ${event.probes} probes`;
    case "locators":
      return `${event.reason}: ${event.locators.join(" ")}`;
    case "unverified":
    case "peer-without-shim6":
      return event.reason;
    case "error-received":
      return `the peer reports error ${event.code} at octet ${event.pointer} of our message`;
  }
}

/** `why`: the story of the context, newest chapter last. */
export function renderWhy(why: WhyReport): string {
  const lines = [renderContexts([why.context]), ""];
  if (why.events.length === 0) lines.push("nothing is remembered of this context");
  for (const event of why.events) lines.push(`${event.wall.slice(11, 23)}  ${eventText(event)}`);
  return lines.join("\n");
}

/** One line of `watch`. */
export function renderEvent(event: LoggedEvent): string {
  const context = event.context === undefined ? "" : `[${event.context}] `;
  return `${event.wall.slice(11, 23)}  ${context}${eventText(event)}`;
}
