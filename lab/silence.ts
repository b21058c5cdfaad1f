/** Takes a failover's silence apart, from the agents' event logs and what the receiving program saw. Pure. */

import type { FailureCause } from "../policies/policy.ts";
import type { EngineEvent } from "../shim6/api.ts";
import { ReapState } from "../wire/message.ts";
import type { Gap } from "./reception.ts";

/** A silence and its parts, in ms; the parts add up to the silence. */
export interface SilenceParts {
  readonly silence_ms: number;
  /** From the last arrival to the first host's leaving Operational. */
  readonly detection_ms: number;
  /** From there until the host that must move its packets has found a path. */
  readonly exploration_ms: number;
  /** From there to the next arrival. */
  readonly resume_ms: number;
}

/** What one host's agent went through after a failure. Durations in ms. */
export interface HostStory {
  /** From the failure to leaving Operational; null when it never left. */
  readonly left_after_ms: number | null;
  readonly cause: FailureCause | "answered" | null;
  /** The paper's exploration time: from leaving Operational to being back; null when it is not back. */
  readonly exploration_ms: number | null;
  readonly probes: number;
}

/** What happened on a host, from the events after the failure at `failedAt` (monotonic ms). */
export function hostStory(events: readonly EngineEvent[], failedAt: number): HostStory {
  const left = leftOperational(events, failedAt);
  if (left === undefined) return { left_after_ms: null, cause: null, exploration_ms: null, probes: 0 };
  const back = backOperational(events, left.at);
  const until = back?.at ?? Infinity;
  return {
    left_after_ms: left.at - failedAt,
    cause: left.cause,
    exploration_ms: back === undefined ? null : back.at - left.at,
    probes: events.filter((e) => e.kind === "probe-sent" && e.at >= left.at && e.at <= until).length,
  };
}

/**
 * Splits `silence`. `mover` are the events of the host whose packets were lost, `other` those of its peer, of one
 * context each.
 */
export function splitSilence(
  silence: Gap,
  failedAt: number,
  mover: readonly EngineEvent[],
  other: readonly EngineEvent[],
): SilenceParts {
  const detections = [leftOperational(mover, failedAt)?.at, leftOperational(other, failedAt)?.at];
  const detected = Math.min(...detections.map((at) => at ?? Infinity));
  const back = backOperational(mover, leftOperational(mover, failedAt)?.at ?? Infinity)?.at ?? Infinity;
  // A program may hear from its peer before the agents are done, or be silent only later: what lies outside the
  // silence is no part of it.
  const t1 = Math.min(Math.max(detected, silence.from), silence.to);
  const t2 = Math.min(Math.max(back, t1), silence.to);
  return {
    silence_ms: silence.to - silence.from,
    detection_ms: t1 - silence.from,
    exploration_ms: t2 - t1,
    resume_ms: silence.to - t2,
  };
}

/** When a host noticed the failure. One that knew where to go left Operational for no time at all. */
function leftOperational(events: readonly EngineEvent[], from: number) {
  for (const event of events) {
    if (event.at < from) continue;
    if (event.kind === "reap" && event.from === ReapState.Operational) return { at: event.at, cause: event.cause };
    if (event.kind === "recovered") return { at: Math.max(from, event.at - event.explorationMs), cause: event.cause };
  }
}

function backOperational(events: readonly EngineEvent[], from: number) {
  for (const event of events) {
    if (event.at < from) continue;
    if (event.kind === "recovered" || event.kind === "reap" && event.to === ReapState.Operational) return event;
  }
}
