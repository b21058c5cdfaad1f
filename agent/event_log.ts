/** What happened to the contexts: kept in a ring for `why`, appended to a file as JSON lines, shown to watchers. */

import type { EngineEvent } from "../shim6/api.ts";
import { writeWhole } from "./pcap.ts";

/** An event with the time of day, as it stands in the file and goes to watchers. */
export type LoggedEvent = EngineEvent & { readonly wall: string };

/** Enough for the story of several failures of several contexts; about 2 MB when full. */
const RING_SIZE = 8192;

/** The event log of one agent. */
export class EventLog {
  readonly #ring: LoggedEvent[] = [];
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
    const logged = { wall: new Date(wallMs).toISOString(), ...event } as LoggedEvent;
    this.#ring[this.#next] = logged;
    this.#next = (this.#next + 1) % RING_SIZE;
    if (this.#file !== undefined) writeWhole(this.#file, this.#encoder.encode(JSON.stringify(logged) + "\n"));
    for (const watcher of this.#watchers) watcher(logged);
  }

  /** The events still in the ring, oldest first; of one context, or of all. */
  recent(context?: number): LoggedEvent[] {
    const ordered = [...this.#ring.slice(this.#next), ...this.#ring.slice(0, this.#next)];
    return context === undefined ? ordered : ordered.filter((event) => event.context === context);
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
