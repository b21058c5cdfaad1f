/** What a program has made must not outlive it, however it ends. */

/** Exit codes of a program that a signal ended, as shells count them. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

const steps: (() => Promise<void>)[] = [];
let ending = false;

/**
 * Remembers how to undo something. The result undoes it, once however often it is called; a signal does so inside
 * {@linkcode withCleanEnd}.
 */
export function mustUndo(undo: () => Promise<void> | void): () => Promise<void> {
  let done: Promise<void> | undefined;
  const once = (): Promise<void> =>
    done ??= (async () => {
      try {
        await undo();
      } finally {
        steps.splice(steps.indexOf(once), 1);
      }
    })();
  steps.push(once);
  return once;
}

/** Runs `work`. A signal that asks the program to end first undoes what must be undone, the newest first. */
export async function withCleanEnd<T>(work: () => Promise<T>): Promise<T> {
  const handlers = Object.entries(SIGNALS).map(([signal, code]) => {
    const handler = async () => {
      if (ending) return;
      ending = true;
      for (const step of steps.toReversed()) await step().catch(() => {}); // the others must still be undone
      Deno.exit(code);
    };
    Deno.addSignalListener(signal as Deno.Signal, handler);
    return [signal as Deno.Signal, handler] as const;
  });
  try {
    return await work();
  } catch (error) {
    // What fails because everything is being taken away is no news; the handler ends the program.
    if (ending) await new Promise(() => {});
    throw error;
  } finally {
    for (const [signal, handler] of handlers) Deno.removeSignalListener(signal, handler);
  }
}
