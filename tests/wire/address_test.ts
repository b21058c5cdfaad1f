import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  canonicalAddress,
  formatAddress,
  inPrefix,
  InvalidAddress,
  isLinkLocal,
  isLocatorScope,
  isMulticast,
  parseAddress,
  parsePrefix,
  writeAddress,
} from "../../wire/address.ts";
import { address, octets } from "./arbitraries.ts";

Deno.test("an address is read back from its text", () => {
  fc.assert(fc.property(octets(16, 16), (octets) => assertEquals(parseAddress(formatAddress(octets)), octets)));
  fc.assert(fc.property(address, (text) => assertStrictEquals(canonicalAddress(text), text)));
});

Deno.test("an address with all groups spelled out, in any case and with leading zeros, means the same", () => {
  fc.assert(fc.property(octets(16, 16), (octets) => {
    const long = octets.toHex().replace(/(.{4})(?!$)/g, "$1:");
    assertEquals(parseAddress(long), octets);
    assertEquals(parseAddress(long.toUpperCase()), octets);
    assertStrictEquals(canonicalAddress(long), formatAddress(octets));
  }));
});

Deno.test("the last 32 bits may be written as a dotted quad", () => {
  fc.assert(fc.property(octets(16, 16), (octets) => {
    const head = octets.toHex().slice(0, 24).replace(/(.{4})/g, "$1:");
    assertEquals(parseAddress(head + octets.subarray(12).join(".")), octets);
  }));
  assertEquals(canonicalAddress("::ffff:192.0.2.1"), "::ffff:c000:201");
  assertEquals(canonicalAddress("::0.0.0.0"), "::");
  assertEquals(canonicalAddress("64:ff9b::192.0.2.33"), "64:ff9b::c000:221");
});

Deno.test("text follows RFC 5952", () => {
  const cases: [string, string][] = [
    ["2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"], // §4.1 leading zeros, §4.2.1 shortened all the way
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"], // §4.2.2 a single zero group stays
    ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"], // §4.2.3 the longest run
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"], // §4.2.3 the first of equals
    ["2001:DB8::ABCD", "2001:db8::abcd"], // §4.3 lower case
    ["0:0:0:0:0:0:0:0", "::"],
    ["0:0:0:0:0:0:0:1", "::1"],
    ["1:0:0:0:0:0:0:0", "1::"],
    ["1:2:3:4:5:6:0:0", "1:2:3:4:5:6::"],
    ["0:0:3:4:5:6:7:8", "::3:4:5:6:7:8"],
    ["0:2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"],
    ["::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
  ];
  for (const [text, canonical] of cases) assertStrictEquals(canonicalAddress(text), canonical);
});

Deno.test("text that is no address is refused", () => {
  const cases = [
    "",
    ":",
    ":::",
    "1",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7:8::",
    "::1:2:3:4:5:6:7:8",
    "1:2:3:4::5:6:7:8",
    "1::2::3",
    ":1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:",
    "1:::2",
    "::g",
    "::12345",
    "::00001",
    "2001:db8::1%eth0",
    "2001:db8::1 ",
    " 2001:db8::1",
    "2001:db8::1/64",
    "192.0.2.1",
    "::256.0.0.1",
    "::1.2.3",
    "::1.2.3.4.5",
    "::1.2.3.04",
    "::1.2.3.4:5",
    "1:2:3:4:5:6:7:1.2.3.4",
    "::-1",
    "::1\0",
    "::\u0661", // a digit, but not one of ours
  ];
  for (const text of cases) assertThrows(() => parseAddress(text), InvalidAddress, JSON.stringify(text));
});

Deno.test("any text is an address or refused with the typed error", () => {
  const soup = fc.string({ unit: fc.constantFrom(..."0123456789abcdefABCDEFg:.%/ ", "::", "0:", "ffff") });
  fc.assert(fc.property(fc.oneof(soup, fc.string()), (text) => {
    try {
      assertEquals(parseAddress(text).length, 16);
    } catch (error) {
      if (!(error instanceof InvalidAddress)) throw error;
    }
  }));
});

Deno.test("an address is written at its offset and nowhere else", () => {
  const into = new Uint8Array(20).fill(0xee);
  writeAddress("2001:db8::9", into, 2);
  assertEquals(into.toHex(), "eeee20010db8000000000000000000000009eeee");
});

Deno.test("a prefix is an address with a length, 128 when left out", () => {
  assertEquals(parsePrefix("2001:DB8::/32"), { address: "2001:db8::", length: 32 });
  assertEquals(parsePrefix("2001:db8::1"), { address: "2001:db8::1", length: 128 });
  assertEquals(parsePrefix("::/0"), { address: "::", length: 0 });
  for (const text of ["::/129", "::/", "::/-1", "::/1.5", "::/ 64", "::/64/", "/64", "x/64", "::/0x10"]) {
    assertThrows(() => parsePrefix(text), InvalidAddress);
  }
});

Deno.test("an address lies in a prefix when the first bits are equal", () => {
  fc.assert(fc.property(octets(16, 16), octets(16, 16), fc.nat(128), (a, b, length) => {
    const bits = (octets: Uint8Array) => [...octets].map((octet) => octet.toString(2).padStart(8, "0")).join("");
    const prefix = { address: formatAddress(b), length };
    assertStrictEquals(inPrefix(formatAddress(a), prefix), bits(a).slice(0, length) === bits(b).slice(0, length));
    assertStrictEquals(inPrefix(formatAddress(b), prefix), true);
  }));
});

Deno.test("an address tells its scope", () => {
  const cases: [string, { multicast?: true; linkLocal?: true; locator?: true }][] = [
    ["2001:db8::1", { locator: true }],
    ["fd00::1", { locator: true }],
    ["fe80::1", { linkLocal: true }],
    ["febf:ffff::1", { linkLocal: true }],
    ["fec0::1", { locator: true }], // deprecated, and to be treated as global unicast (RFC 3879 §4)
    ["ff02::1", { multicast: true }],
    ["ff::1", { locator: true }], // 00ff, not a multicast prefix
    ["::", {}],
    ["::1", {}],
    ["::ffff:c000:201", {}],
  ];
  for (const [text, { multicast, linkLocal, locator }] of cases) {
    assertStrictEquals(isMulticast(text), multicast ?? false, text);
    assertStrictEquals(isLinkLocal(text), linkLocal ?? false, text);
    assertStrictEquals(isLocatorScope(text), locator ?? false, text);
  }
});
