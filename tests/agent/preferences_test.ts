import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../agent/errors.ts";
import { checkConfig, parseConfig } from "../../agent/config.ts";
import { parsePreference, withPreferences } from "../../agent/preferences.ts";
import { readRunArguments } from "../../agent/run.ts";
import type { LocalLocator } from "../../shim6/api.ts";

function locator(address: string, interfaceName: string): LocalLocator {
  return { address, interfaceName, interfaceIndex: 1, usable: true, deprecated: false };
}

const parse = (text: string) => parsePreference(text, "--prefer");

Deno.test("a preference has a locator, a priority, a weight and flags, of which some may be left out", () => {
  const plain = { priority: 100, weight: 0, transient: false, broken: false };
  assertEquals(parse("eth1=200"), { subject: "eth1", ...plain, priority: 200 });
  assertEquals(parse("2001:db8::1=7,weight=5"), { subject: "2001:db8::1", ...plain, priority: 7, weight: 5 });
  assertEquals(parse("2001:db8::/64=transient"), { subject: "2001:db8::/64", ...plain, transient: true });
  assertEquals(parse("eth1=broken"), { subject: "eth1", ...plain, broken: true });
  assertEquals(parse("eth1=weight=3,transient"), { subject: "eth1", ...plain, weight: 3, transient: true });
});

Deno.test("a preference that cannot be read is refused with what was expected", () => {
  for (const text of ["eth1", "=5", "eth1=255", "eth1=-1", "eth1=5,weight=256", "eth1=5,fast", "2001:db8::g=5", ""]) {
    assertThrows(() => parse(text), UsageError, "--prefer", text);
  }
});

Deno.test("an interface, an address or a prefix names locators, and the last preference for one counts", () => {
  const locators = [
    locator("2001:db8:1::1", "eth0"),
    locator("2001:db8:2::1", "eth1"),
    locator("2001:db8:2::2", "eth1"),
  ];
  const preferences = ["eth1=50,weight=2", "2001:db8:2::2=60", "2001:db8:1::/48=broken"].map(parse);
  const [first, second, third] = withPreferences(locators, preferences);
  assertEquals([first.usable, first.priority], [false, 100]);
  assertEquals([second.usable, second.priority, second.weight], [true, 50, 2]);
  assertEquals([third.priority, third.weight], [60, 0]);
  assertEquals(withPreferences(locators, []), locators);
});

Deno.test("preferences come from the file and from flags", () => {
  const origin = (key: string) => `config.toml: ${key}`;
  const config = checkConfig(parseConfig(`prefer = ["eth1=200"]`, "config.toml"), origin);
  assertEquals(config.preferences.map(({ subject, priority }) => [subject, priority]), [["eth1", 200]]);
  assertEquals(readRunArguments(["--prefer", "a1=1", "--prefer", "a2=2"])!.preferences.length, 2);
  const error = assertThrows(() => checkConfig(parseConfig(`prefer = ["eth1"]`, "config.toml"), origin), UsageError);
  assertStringIncludes(error.message, "config.toml: prefer");
});
