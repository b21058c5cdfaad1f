/**
 * Which files make up the project.
 *
 * @module
 */

/** The project's root directory, with a trailing slash. */
export const ROOT: string = new URL("..", import.meta.url).pathname;

/** Built or installed, not written. */
const NOT_SOURCE = new Set(["dist", "coverage", "node_modules"]);

/** The files below a directory of the project (default: all of them), as sorted paths relative to the root. */
export function sourceFiles(directory = ""): string[] {
  const files: string[] = [];
  for (const entry of Deno.readDirSync(ROOT + directory)) {
    if (entry.name.startsWith(".") && entry.name !== ".ci") continue;
    if (directory === "" && NOT_SOURCE.has(entry.name)) continue;
    const path = directory === "" ? entry.name : `${directory}/${entry.name}`;
    if (entry.isDirectory) files.push(...sourceFiles(path));
    else if (entry.isFile) files.push(path);
  }
  return files.sort();
}
