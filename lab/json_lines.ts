/** JSON lines as they come from a program that runs. */

/** The values in a stream of JSON lines; a last line without its end is left out. */
export async function* jsonLines<T>(octets: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<T> {
  let rest = "";
  for await (const text of octets.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) yield JSON.parse(line) as T;
  }
}
