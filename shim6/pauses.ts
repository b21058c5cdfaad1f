/**
 * Contexts in a pause. The packet that ends a pause may be the first to meet a path that died meanwhile, and nothing is in
 * flight that would bring its loss to light; the transport repeats it after 200 ms or more, a new connection after a
 * second. So that it can be sent again as soon as the path is suspect, the datapath keeps a copy of what is sent after a
 * pause. Nothing of this is seen on the wire.
 */

import type { Activity } from "./api.ts";
import type { Context } from "./context.ts";
import type { Core } from "./core.ts";
import { Deadlines } from "./deadlines.ts";

/** A context without payload for so long pauses, in ms. */
const PAUSE_AFTER_MS = 1_000;
/** So many packets after a pause make it a stream again, which takes the kernel's own path. */
const WAKE_PACKETS = 20;
/** Contexts that pause at a time, those used last: each is a steering route that has to be renewed. */
const PAUSING_MAX = 64;

interface Pause {
  readonly context: Context;
  /** Whether it is in the queue of deadlines. */
  isQueued: boolean;
  lastPayload: number;
  /** Packets counted when the last pause ended. */
  packets: number;
}

/** Which contexts pause. Only for profiles that detect failures by suspicion. */
export class Pauses {
  readonly #core: Core;
  readonly #changed: (context: Context, now: number) => void;
  /** By the context's number. */
  readonly #pauses = new Map<number, Pause>();
  readonly #deadlines = new Deadlines();
  /** In the order in which their pauses began. */
  readonly #pausing = new Set<Context>();

  /** `changed` is called when a pause begins, or when a context has to make room for another. */
  constructor(core: Core, changed: (context: Context, now: number) => void) {
    this.#core = core;
    this.#changed = changed;
  }

  /** When {@linkcode handleTimeout} is due next; Infinity: never. */
  nextDeadline(): number {
    return this.#deadlines.next;
  }

  /** Whether copies are to be kept of what the context sends. */
  has(context: Context): boolean {
    return this.#pausing.has(context);
  }

  /** Payload was exchanged. */
  consider(context: Context, { sentPackets, receivedPackets }: Readonly<Activity>, now: number): void {
    if (this.#core.reap.profile.suspicion === undefined) return;
    const packets = sentPackets + receivedPackets;
    let pause = this.#pauses.get(context.id);
    if (pause?.context !== context) { // numbers are used again
      if (context.pairs().length < 2) return;
      this.#pauses.set(context.id, pause = { context, isQueued: false, lastPayload: now, packets });
    }
    if (now - pause.lastPayload >= PAUSE_AFTER_MS) pause.packets = packets;
    pause.lastPayload = now;
    if (packets - pause.packets > WAKE_PACKETS) this.#pausing.delete(context);
    if (pause.isQueued) return;
    pause.isQueued = true;
    this.#deadlines.set(context.id, now + PAUSE_AFTER_MS);
  }

  /** Whether there is something about the context that it does not know itself. */
  knows(context: Context): boolean {
    return this.#pauses.has(context.id);
  }

  /** The context is to take the kernel's own path until its next pause. */
  end(context: Context): void {
    if (this.#pausing.delete(context) && this.#pauses.get(context.id)?.isQueued === false) {
      this.#pauses.delete(context.id);
    }
  }

  /** The context is not used any more. */
  forget(context: Context): void {
    const pause = this.#pauses.get(context.id);
    if (pause === undefined) return;
    this.#pauses.delete(context.id);
    this.#pausing.delete(context);
    this.#deadlines.delete(context.id);
  }

  /** Begins the pauses that are due. */
  handleTimeout(now: number): void {
    for (let id = this.#deadlines.due(now); id !== undefined; id = this.#deadlines.due(now)) {
      const pause = this.#pauses.get(id)!;
      const at = pause.lastPayload + PAUSE_AFTER_MS;
      pause.isQueued = at > now;
      this.#deadlines.set(id, pause.isQueued ? at : Infinity);
      if (!pause.isQueued) this.#begin(pause.context, now);
    }
  }

  #begin(context: Context, now: number): void {
    if (!context.isEstablished) return this.forget(context);
    if (this.#pausing.has(context)) return;
    const [oldest] = this.#pausing;
    this.#pausing.add(context);
    this.#changed(context, now);
    if (this.#pausing.size <= PAUSING_MAX) return;
    this.end(oldest);
    this.#changed(oldest, now);
  }
}
