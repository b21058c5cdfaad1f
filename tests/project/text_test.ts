import { assertEquals, assertNotMatch } from "@std/assert";
import { VERSION } from "../../agent/version.ts";
import { ROOT, sourceFiles } from "../../tools/source_files.ts";

/** This file has to name what it looks for. */
const texts = sourceFiles().filter((path) => path !== "tests/project/text_test.ts").map((path) => ({
  path,
  text: Deno.readTextFileSync(ROOT + path),
}));

/** `path:line: match` for everything that matches. */
function findAll(pattern: RegExp): string[] {
  return texts.flatMap(({ path, text }) =>
    text.split("\n").flatMap((line, index) => {
      const match = pattern.exec(line);
      return match === null ? [] : [`${path}:${index + 1}: ${match[0]}`];
    })
  );
}

Deno.test("no file names a folder of the machine it was written on", () => {
  const found = findAll(/(?<![\w.:/-])\/(work|home|Users|mnt)\/[\w.-]+/);
  assertEquals(found, []);
  const here = ROOT.slice(0, -1);
  assertEquals(texts.filter(({ text }) => here.length > 1 && text.includes(here)).map(({ path }) => path), []);
});

Deno.test("no file names the host of a package registry", () => {
  assertEquals(findAll(/\b(registry|deb|archive|security|proxy|crates|files)\.[a-z0-9-]+\.(org|com|io|dev)\b/i), []);
});

Deno.test("nothing is left to be done later", () => {
  assertEquals(findAll(/\b(TODO|FIXME|XXX|HACK)\b/), []);
});

Deno.test("the license is the one that deno.json names, and the version is the same everywhere", () => {
  const { license, version } = JSON.parse(Deno.readTextFileSync(`${ROOT}deno.json`));
  assertEquals([license, version], ["MIT", VERSION]);
  const text = Deno.readTextFileSync(`${ROOT}LICENSE`);
  assertEquals(text.split("\n")[0], "MIT License");
  assertNotMatch(text, /[<[](year|fullname|name)[\]>]/i);
});
