/** What happened to the contexts: kept in a ring for `why`, appended to a file as JSON lines, shown to watchers. */

import type { EngineEvent } from "../shim6/api.ts";
import { writeWhole } from "./pcap.ts";

/** An event with the time of day, as it stands in the file and goes to watchers. */
export type LoggedEvent = EngineEvent & { readonly wall: string };

/** Enough for the story of a hundred failures; about 0.5 MB when full. */
const RING_SIZE = 4096;

/** The event log of one agent. */
export class EventLog {
  readonly #ring: EngineEvent[] = [];
  /** Apart from the events, as numbers: the ring is most of what a busy agent remembers. */
  readonly #wall = new Float64Array(RING_SIZE);
  #next = 0;
  readonly #file: Deno.FsFile | undefined;
  readonly #watchers = new Set<(event: LoggedEvent) => void>();
  readonly #encoder = new TextEncoder();

  /** `path`: the JSON lines file to append to, if any. */
  constructor(path?: string) {
    if (path !== undefined) this.#file = Deno.openSync(path, { append: true, create: true, mode: 0o600 });
  }

  /** Records an event. `wallMs`: milliseconds since 1970. */
  add(event: EngineEvent, wallMs: number): void {
    this.#ring[this.#next] = event;
    this.#wall[this.#next] = wallMs;
    this.#next = (this.#next + 1) % RING_SIZE;
    if (this.#file === undefined && this.#watchers.size === 0) return;
    const logged = withWall(event, wallMs);
    if (this.#file !== undefined) writeWhole(this.#file, this.#encoder.encode(JSON.stringify(logged) + "\n"));
    for (const watcher of this.#watchers) watcher(logged);
  }

  /** The events still in the ring, oldest first; of one context, or of all. */
  recent(context?: number): LoggedEvent[] {
    const events: LoggedEvent[] = [];
    for (let i = 0; i < this.#ring.length; i++) {
      const at = this.#ring.length < RING_SIZE ? i : (this.#next + i) % RING_SIZE;
      const event = this.#ring[at];
      if (context === undefined || event.context === context) events.push(withWall(event, this.#wall[at]));
    }
    return events;
  }

  /** Calls `watcher` for each event from now on; returns what ends it. */
  watch(watcher: (event: LoggedEvent) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  close(): void {
    this.#file?.close();
  }
}

function withWall(event: EngineEvent, wallMs: number): LoggedEvent {
  return { wall: new Date(wallMs).toISOString(), ...event };
}
