import { assertEquals } from "@std/assert";
import { runCommand } from "../../tools/command.ts";
import { ROOT, sourceFiles } from "../../tools/source_files.ts";

const files = sourceFiles();
const documents = files.filter((path) => path.endsWith(".md")).map((path) => ({
  path,
  text: Deno.readTextFileSync(ROOT + path),
}));

/** The anchors of a document's headings, as Git hosts make them. */
function anchors(text: string): Set<string> {
  const headings = text.replace(/^```[\s\S]*?^```/gm, "").matchAll(/^#+ +(.*)$/gm);
  return new Set(
    [...headings].map(([, heading]) => heading.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")),
  );
}

/** Links that lead nowhere inside the project. */
function brokenLinks(path: string, text: string): string[] {
  const broken = [];
  for (const [, link] of text.replace(/^```[\s\S]*?^```/gm, "").matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(link)) continue;
    const [target, anchor] = link.split("#");
    const targetPath = new URL(target, `file:///${path}`).pathname.slice(1).replace(/\/$/, "");
    const exists = target === "" || files.some((file) => file === targetPath || file.startsWith(`${targetPath}/`));
    const hasAnchor = () =>
      anchor === undefined || !targetPath.endsWith(".md") ||
      anchors(target === "" ? text : Deno.readTextFileSync(ROOT + targetPath)).has(anchor);
    if (!exists || !hasAnchor()) broken.push(`${path}: ${link}`);
  }
  return broken;
}

/** The words that follow `command` in code, apart from options. */
function wordsAfter(command: string): Set<string> {
  const words = documents.flatMap(({ text }) => {
    const code = [...text.matchAll(/^```[\s\S]*?^```|`[^`\n]+`/gm)].map(([part]) => part).join("\n");
    return [...code.matchAll(new RegExp(`(?<![\\w./-])${command} +([a-z][a-z-]*)`, "g"))].map(([, word]) => word);
  });
  return new Set(words);
}

Deno.test("relative links in the documents lead somewhere", () => {
  assertEquals(documents.flatMap(({ path, text }) => brokenLinks(path, text)), []);
});

Deno.test("a link to a missing file or heading is found", () => {
  const text = "# A heading: with (signs)\n[a](docs_test.ts) [b](missing.md) [c](#a-heading-with-signs) [d](#none)" +
    " [e](https://example.org/x) [f](../../tools)\n```\n# no heading [g](not-a-link)\n```\n";
  assertEquals(anchors(text), new Set(["a-heading-with-signs"]));
  assertEquals(brokenLinks("tests/project/x.md", text), [
    "tests/project/x.md: missing.md",
    "tests/project/x.md: #none",
  ]);
});

Deno.test("every task that the documents name exists", () => {
  const { tasks } = JSON.parse(Deno.readTextFileSync(`${ROOT}deno.json`));
  assertEquals([...wordsAfter("task")].filter((task) => !Object.hasOwn(tasks, task)), []);
});

Deno.test("every command that the documents name exists and has a help text", async () => {
  const unknown = [];
  for (const command of wordsAfter("(?:dist/)?shim6-agent")) {
    const args = ["run", "-A", "--no-check", `${ROOT}main.ts`, command, "--help"];
    const result = await runCommand(Deno.execPath(), args, { timeoutMs: 20_000 });
    if (result.code !== 0 || result.stdout.trim() === "") unknown.push(command);
  }
  assertEquals(unknown, []);
});
