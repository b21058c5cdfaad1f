/** The search for a Modifier (RFC 3972 §4), on one core where it is short and on all where it is long. */

import { expectedHashes, Hash2Search } from "../shim6/hash2_search.ts";
import { MODIFIER_LENGTH } from "../shim6/pds.ts";

/** Name of the Workers, by which the program's module knows its role. */
export const MODIFIER_SEARCH_ROLE = "modifier-search";

/** How far a search has come. */
export interface SearchProgress {
  /** Modifiers tried so far. */
  readonly tried: number;
  /** How many it takes on average. What was tried before does not make the rest shorter. */
  readonly expected: number;
  /** Since the search began, ms. */
  readonly elapsedMs: number;
}

/** How to search. */
export interface SearchOptions {
  /** Called a few times a second. */
  readonly onProgress?: (progress: SearchProgress) => void;
  /**
   * URL of a module that calls {@linkcode modifierSearchWorker} in a Worker named {@linkcode MODIFIER_SEARCH_ROLE}.
   * Without it one core is used.
   */
  readonly workerModule?: string;
  /** Number of Workers; as many as there are cores when absent. */
  readonly workers?: number;
}

interface Task {
  readonly keyAndExtensions: Uint8Array;
  readonly sec: number;
  readonly modifier: Uint8Array;
}

/** Modifiers tried between two reports: about a quarter of a second. */
const CHUNK = 1 << 18;
/** Shorter searches are over before a Worker has started. */
const WORTH_WORKERS = 1 << 22;

/** Finds a Modifier for this Sec, starting from random ones. */
export async function searchModifier(
  keyAndExtensions: Uint8Array,
  sec: number,
  options: SearchOptions = {},
): Promise<Uint8Array> {
  const { workerModule, workers, onProgress } = options;
  const expected = expectedHashes(sec);
  const startedAt = performance.now();
  let tried = 0;
  const report = () => {
    tried += CHUNK;
    onProgress?.({ tried, expected, elapsedMs: performance.now() - startedAt });
  };
  const task = () => ({ keyAndExtensions, sec, modifier: crypto.getRandomValues(new Uint8Array(MODIFIER_LENGTH)) });
  if (workerModule !== undefined && (workers !== undefined || expected > WORTH_WORKERS)) {
    return await searchInWorkers(workerModule, workers ?? navigator.hardwareConcurrency, task, report);
  }
  const { modifier } = task();
  const search = new Hash2Search(keyAndExtensions, sec, modifier);
  for (;;) {
    const found = search.run(CHUNK);
    if (found !== undefined) return found;
    report();
  }
}

/** The first hit of any Worker ends them all. */
async function searchInWorkers(
  module: string,
  count: number,
  task: () => Task,
  report: () => void,
): Promise<Uint8Array> {
  const workers: Worker[] = [];
  try {
    return await new Promise((resolve, reject) => {
      for (let i = 0; i < count; i++) {
        const worker = new Worker(module, { type: "module", name: MODIFIER_SEARCH_ROLE });
        workers.push(worker);
        worker.onmessage = ({ data }: MessageEvent<Uint8Array | null>) => data === null ? report() : resolve(data);
        worker.onerror = (event) => {
          event.preventDefault();
          reject(new Error(`search for a Modifier: ${event.message}`));
        };
        worker.postMessage(task());
      }
    });
  } finally {
    for (const worker of workers) worker.terminate();
  }
}

/** The Worker's part: searches from the Modifier that it is given, without end. */
export function modifierSearchWorker(): void {
  self.onmessage = ({ data }: MessageEvent<Task>) => {
    const search = new Hash2Search(data.keyAndExtensions, data.sec, data.modifier);
    let found: Uint8Array | undefined;
    while ((found = search.run(CHUNK)) === undefined) self.postMessage(null);
    self.postMessage(found);
  };
}
