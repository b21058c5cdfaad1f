import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { monotonicNow, withNetns, writeSysctl } from "deno-tun";
import { CommandError, UsageError } from "../../agent/errors.ts";
import { hbaNew, loadIdentityFile, writeIdentityFile } from "../../agent/identity.ts";
import { identityCommand } from "../../control/identity_commands.ts";
import { parsePrefix } from "../../wire/address.ts";
import { VethPair } from "../agent/veth_pair.ts";

const noRoot = Deno.uid() !== 0;
if (noRoot) console.log("tests of hba new --install are left out: they need root");
else monotonicNow(); // opens the C library for the whole file, or the first test would count as leaking it

const PREFIXES = ["--prefix", "2001:db8:a1:1::/64", "--prefix", "2001:db8:a2:1::/64"];

/** A folder for the time of a test. */
class Folder implements Disposable {
  readonly path = Deno.makeTempDirSync({ prefix: "shim6-identity-" });
  readonly file = `${this.path}/identity.json`;
  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

/** Runs a command; what it prints, and its exit code. Starts it at once, so that it can be called in a namespace. */
function run(...args: string[]): Promise<{ code: number; lines: string[]; notes: string[] }> {
  const lines: string[] = [], notes: string[] = [];
  const { log, error } = console;
  console.log = (text: string) => lines.push(...text.split("\n"));
  console.error = (text: string) => notes.push(text);
  return identityCommand(args).then((code) => ({ code, lines, notes })).finally(() => {
    console.log = log;
    console.error = error;
  });
}

function refused(...args: string[]): Promise<Error> {
  return assertRejects(() => run(...args), UsageError);
}

Deno.test("hba new prints one address a line, and the file holds them", async () => {
  using folder = new Folder();
  const { code, lines } = await run("hba", "new", ...PREFIXES, "--sec", "0", "--out", folder.file);
  assertEquals(code, 0);
  const identity = loadIdentityFile(folder.file);
  assertEquals([lines, identity.kind, identity.sec], [[...identity.addresses], "HBA", 0]);
  assertMatch(lines[0], /^2001:db8:a1:1:/);
  assertMatch(lines[1], /^2001:db8:a2:1:/);
});

Deno.test("without --sec the identity has Sec 1; --key makes a CGA/HBA set, and --json says all of it", async () => {
  using folder = new Folder();
  const { code, lines } = await run("hba", "new", ...PREFIXES, "--key", "--json", "--out", folder.file);
  assertEquals(code, 0);
  const { addresses } = loadIdentityFile(folder.file);
  assertEquals(JSON.parse(lines.join("\n")), { kind: "CGA/HBA", sec: 1, addresses, file: folder.file });
});

Deno.test("cga new makes one address a prefix, under one key", async () => {
  using folder = new Folder();
  const { lines } = await run("cga", "new", ...PREFIXES, "--sec", "0", "--out", folder.file);
  const identity = loadIdentityFile(folder.file);
  assertEquals([identity.kind, identity.addresses], ["CGA", lines]);
  assertEquals((await run("cga", "verify", folder.file)).code, 0);
  const asSet = await run("hba", "verify", folder.file);
  assertEquals(asSet.code, 1);
  assertEquals(asSet.lines[0], `${lines[0]} fails: the parameters describe no set of addresses`);
});

Deno.test("hba verify tells of each address whether it belongs to the parameters", async () => {
  using folder = new Folder();
  const { lines } = await run("hba", "new", ...PREFIXES, "--sec", "0", "--out", folder.file);
  const all = await run("hba", "verify", folder.file);
  assertEquals(all, { code: 0, lines: lines.map((address) => `${address} verifies (HBA, Sec 0)`), notes: [] });
  const member = await run("hba", "verify", lines[1].toUpperCase(), "--parameters", folder.file, "--json");
  assertEquals(JSON.parse(member.lines.join("")), [{ address: lines[1], verified: true, sec: 0 }]);
  const foreign = await run("hba", "verify", "2001:db8:a2:1::1", "--parameters", folder.file);
  assertEquals(foreign, {
    code: 1,
    lines: ["2001:db8:a2:1::1 fails: the interface identifier is not the hash of the parameters"],
    notes: [],
  });
  const asCga = await run("cga", "verify", lines[0], "--parameters", folder.file);
  assertEquals([asCga.code, asCga.lines[0]], [0, `${lines[0]} verifies (CGA, Sec 0)`]);
});

Deno.test("an address in a file that does not belong there fails, and the others are told too", async () => {
  using folder = new Folder();
  const set = await hbaNew({ prefixes: [parsePrefix("2001:db8:a1:1::/64")], sec: 0 });
  writeIdentityFile(folder.file, { ...set, addresses: ["2001:db8:a1:1::1", ...set.addresses] });
  const { code, lines } = await run("hba", "verify", folder.file);
  assertEquals([code, lines.length], [1, 2]);
  assertStringIncludes(lines[1], "verifies");
});

Deno.test("wrong use is refused in one sentence, and leaves no file behind", async () => {
  using folder = new Folder();
  const out = ["--out", folder.file];
  const complaints: [string, string[]][] = [
    ["usage: shim6-agent hba new", ["hba"]],
    ["usage: shim6-agent cga new", ["cga", "frobnicate"]],
    ["unknown option --frob", ["hba", "new", "--frob"]],
    ["--out is missing", ["hba", "new", ...PREFIXES]],
    ["no prefix given", ["hba", "new", ...out]],
    ["--out needs a value", ["hba", "new", ...PREFIXES, "--out"]],
    ["--prefix needs a value", ["hba", "new", ...out, "--prefix"]],
    ["--prefix: not an IPv6 address", ["hba", "new", ...out, "--prefix", "10.0.0.0/8"]],
    ["a prefix of 64 bits is needed", ["hba", "new", ...out, "--prefix", "2001:db8::/48"]],
    ['--sec: expected 0, 1 or 2, got "3"', ["hba", "new", ...PREFIXES, ...out, "--sec", "3"]],
    ['--sec: expected 0, 1 or 2, got "one"', ["cga", "new", ...PREFIXES, ...out, "--sec", "one"]],
    ["a CGA always has a key", ["cga", "new", ...PREFIXES, ...out, "--key"]],
    ["once for all prefixes, or once for each", [
      ...["hba", "new", "--prefix", "2001:db8:1::/64", ...PREFIXES, ...out],
      ...["--install", "a", "--install", "b"],
    ]],
    ["--parameters FILE is needed to verify 2001:db8::1", ["hba", "verify", "2001:db8::1"]],
    ["verify: not an IPv6 address", ["hba", "verify", "nobody", "--parameters", folder.file]],
    ["cannot read", ["hba", "verify", `${folder.path}/none`]],
  ];
  const set = await hbaNew({ prefixes: [parsePrefix("2001:db8:a1:1::/64")], sec: 0 });
  for (const [expected, args] of complaints) {
    const isVerify = args[1] === "verify";
    if (isVerify) writeIdentityFile(folder.file, set);
    assertStringIncludes((await refused(...args)).message, expected);
    if (isVerify) Deno.removeSync(folder.file);
    assertEquals([...Deno.readDirSync(folder.path)], [], args.join(" "));
  }
});

Deno.test("both commands have a help text that names every option", async () => {
  for (const family of ["hba", "cga"]) {
    for (const args of [[family, "--help"], [family, "new", "--help"], [family, "verify", "--help"]]) {
      const { code, lines } = await run(...args);
      assertEquals(code, 0);
      for (const option of ["--prefix", "--sec", "--out", "--install", "--parameters", "--json"]) {
        assert(lines.join("\n").includes(option), `${args.join(" ")}: ${option}`);
      }
    }
  }
});

Deno.test({
  name: "--install assigns the addresses, one interface for all or one for each",
  ignore: noRoot,
  async fn() {
    using pair = new VethPair();
    using folder = new Folder();
    pair.left.createVeth("other", "rehto");
    withNetns(pair.leftFd, () => writeSysctl("net/ipv6/conf/other/dad_transmits", 0));
    for (const name of ["other", "rehto"]) pair.left.setLink(name, { up: true });
    for (const [name, interfaces] of [["a", ["left"]], ["b", ["left", "other"]]] as const) {
      const out = `${folder.path}/${name}.json`;
      const install = interfaces.flatMap((name) => ["--install", name]);
      let running!: ReturnType<typeof run>;
      withNetns(pair.leftFd, () => {
        running = run("hba", "new", ...PREFIXES, "--sec", "0", "--out", out, ...install);
      });
      const { lines, notes } = await running;
      const assigned = pair.left.addresses().filter(({ address }) => lines.includes(address));
      const names = lines.map((line) => pair.left.link(assigned.find(({ address }) => address === line)!.index)!.name);
      assertEquals(names, interfaces.length === 1 ? ["left", "left"] : ["left", "other"]);
      assertEquals(notes, []);
    }
  },
});

Deno.test({
  name: "a collision on the link gives other addresses, and the third one ends the attempt",
  ignore: noRoot,
  async fn() {
    using pair = new VethPair();
    for (const collisions of [1, 3]) {
      using folder = new Folder();
      let running!: ReturnType<typeof run>;
      withNetns(pair.leftFd, () => {
        running = run("hba", "new", ...PREFIXES, "--sec", "0", "--out", folder.file, "--install", "left");
      });
      const outcome = running.then((result) => result, (error: Error) => error);
      // Claims each new set's second address, as soon as the file tells it.
      const claimed = new Set<string>();
      let ended = false;
      outcome.finally(() => ended = true);
      while (!ended && claimed.size < collisions) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        try {
          const address = loadIdentityFile(folder.file).addresses[1];
          if (!claimed.has(address)) pair.right.addAddress(pair.rightIndex, address, 64, { nodad: true });
          claimed.add(address);
        } catch { /* not written yet */ }
      }
      const result = await outcome;
      const assigned = pair.left.addresses(pair.leftIndex).map(({ address }) => address);
      if (collisions === 1) {
        assert(!(result instanceof Error), String(result));
        assertStringIncludes(result.notes[0], "is taken by another host on the link");
        assertEquals(loadIdentityFile(folder.file).addresses, result.lines);
        assert(result.lines.every((address) => assigned.includes(address) && !claimed.has(address)));
        for (const address of result.lines) pair.left.deleteAddress(pair.leftIndex, address, 64);
      } else {
        assert(result instanceof CommandError, String(result));
        assertStringIncludes(result.message, "three collisions in a row");
        assertEquals(assigned.filter((address) => address.startsWith("2001:")), []);
      }
    }
  },
});
