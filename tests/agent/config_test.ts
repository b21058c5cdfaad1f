import { MAX_CONTEXTS } from "../../datapath/accounting.ts";
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { checkConfig, parseConfig } from "../../agent/config.ts";
import { readRunArguments } from "../../agent/run.ts";
import { UsageError } from "../../agent/errors.ts";

const check = (text: string) => checkConfig(parseConfig(text, "config.toml"), (key) => `config.toml: ${key}`);

/** The message of the UsageError that `work` throws. */
function complaint(work: () => unknown): string {
  return assertThrows(work, UsageError).message;
}

Deno.test("an empty configuration gives the defaults", () => {
  const config = check("");
  assertEquals(config.policy, "adaptive");
  assertEquals(config.profile.name, "fast");
  assertEquals(config.profile.sendTimeoutMs, 10_000);
  assertEquals(config.insecureLocators, false);
  assertEquals([config.hold, config.endWithUlid], [true, false]);
  assertEquals(config.excludedPorts, [53, 853]);
  assertEquals(config.establish.afterPackets, 50);
  assertEquals(config.limits.contexts, MAX_CONTEXTS);
  assertEquals(config.probesPer100ms, 350);
});

Deno.test("a configuration file sets every kind of value", () => {
  const config = check(`
    policy = "burst4"
    profile = "paper"
    interfaces = ["eth0", "wlan0"]
    locators = ["2001:DB8::0:1"]
    insecure_locators = true
    end_with_ulid = true
    insecure_prefixes = ["2001:db8::/32"]
    [establish]
    after_packets = 3
    after_seconds = 1.5
    always = ["2001:db8:1::/48"]
    excluded_ports = [53, 123]
    [timers]
    send_timeout_ms = 5000
    [limits]
    probes_per_100ms = 40
  `);
  assertEquals(config.policy, "burst4");
  assertEquals(config.profile.sendTimeoutMs, 5_000);
  assertEquals(config.profile.initialProbeTimeoutMs, 500);
  assertEquals(config.interfaces, ["eth0", "wlan0"]);
  assertEquals(config.locators, ["2001:db8::1"]);
  assertEquals(config.insecurePrefixes, [{ address: "2001:db8::", length: 32 }]);
  assertEquals(config.endWithUlid, true);
  assertEquals(config.establish.afterMs, 1_500);
  assertEquals(config.excludedPorts, [53, 123]);
  assertEquals(config.probesPer100ms, 40);
});

Deno.test("a wrong value names the file, the key and what was expected", () => {
  assertEquals(
    complaint(() => check(`profile = "slow"`)),
    'config.toml: profile: expected one of rfc5534, paper, fast, got "slow"',
  );
  assertStringIncludes(complaint(() => check(`locators = ["fe80::g"]`)), "config.toml: locators: not an IPv6 address");
  assertStringIncludes(complaint(() => check(`[limits]\nprobes_per_100ms = 0`)), "a number from 10 to 1000000");
  assertStringIncludes(complaint(() => check(`[timers]\nsend_timeout_ms = 10`)), "a number from 1000 to 100000");
  assertStringIncludes(complaint(() => check(`[establish]\nexcluded_ports = [70000]`)), "0 to 65535");
  assertStringIncludes(complaint(() => check(`hold = "yes"`)), "expected true or false");
  assertStringIncludes(complaint(() => check(`policy = "best"`)), "random");
});

Deno.test("the protocol number is 140, or one that hosts use for nothing else", () => {
  assertEquals(check("").protocol, 140);
  assertEquals(check("protocol = 61").protocol, 61);
  assertEquals(readRunArguments(["--protocol", "253"])!.protocol, 253);
  for (const taken of [0, 6, 43, 44, 58, 255, 256, 61.5]) {
    assertStringIncludes(complaint(() => check(`protocol = ${taken}`)), "protocol: expected a");
  }
});

Deno.test("an unknown key and a broken file are refused", () => {
  assertStringIncludes(complaint(() => check(`polcy = "random"`)), "unknown key polcy");
  assertStringIncludes(complaint(() => check(`[timers]\nfoo = 1`)), "unknown key timers.foo");
  assertStringIncludes(complaint(() => check(`policy = `)), "not valid TOML");
});

Deno.test("flags override the file", () => {
  const path = Deno.makeTempFileSync({ suffix: ".toml" });
  try {
    Deno.writeTextFileSync(path, `policy = "burst4"\n[establish]\nafter_packets = 7\n`);
    const config = readRunArguments([
      "--config",
      path,
      "--policy",
      "disjoint",
      "--interface",
      "a1",
      "--interface",
      "a2",
    ])!;
    assertEquals(config.policy, "disjoint");
    assertEquals(config.establish.afterPackets, 7);
    assertEquals(config.interfaces, ["a1", "a2"]);
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("a wrong flag says what was expected", () => {
  assertStringIncludes(complaint(() => readRunArguments(["--polcy", "random"])), "unknown option --polcy");
  assertStringIncludes(complaint(() => readRunArguments(["burst4"])), "unexpected argument burst4");
  assertStringIncludes(complaint(() => readRunArguments(["--profile", "slow"])), "--profile: expected one of");
  assertStringIncludes(complaint(() => readRunArguments(["--locator", "nonsense"])), "--locator: not an IPv6 address");
  assertStringIncludes(
    complaint(() => readRunArguments(["--establish-after-packets", "many"])),
    '--establish-after-packets: expected a number, got "many"',
  );
  assertStringIncludes(complaint(() => readRunArguments(["--policy"])), "--policy needs a value");
  assertStringIncludes(
    complaint(() => readRunArguments(["--config", "/nonexistent/config.toml"])),
    "cannot read the configuration file /nonexistent/config.toml",
  );
});

Deno.test("--no-hold switches hold and release off, --insecure-locators verification", () => {
  const config = readRunArguments(["--no-hold", "--insecure-locators", "--insecure-prefix", "2001:db8::/32"])!;
  assertEquals(config.hold, false);
  assertEquals(config.insecureLocators, true);
  assertEquals(config.insecurePrefixes.length, 1);
});

Deno.test("--help asks for nothing else", () => {
  assertEquals(readRunArguments(["--help"]), undefined);
});
