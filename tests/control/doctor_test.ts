import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { type CapabilityName, type FilterChain, type FilterRule, monotonicNow } from "deno-tun";
import { ask } from "../../control/client.ts";
import {
  type DoctorReport,
  filterFindings,
  type HostFacts,
  hostFindings,
  locatorFindings,
  type LocatorReport,
  mergeFindings,
  pairFindings,
  renderDoctor,
} from "../../control/doctor.ts";
import { echoRequest, type PairPassage, payload } from "../../control/path_probe.ts";
import type { ContextReport } from "../../control/protocol.ts";
import type { LabHost, LabNode, Topology } from "../../lab/topology.ts";
import { thisProgram } from "../../lab/self.ts";
import { onesComplementSum, pseudoHeaderSum } from "../../wire/checksum.ts";
import { finish, Hosts } from "../e2e/hosts.ts";
import { needsRoot } from "../lab/processes.ts";

const HEALTHY: HostFacts = {
  kernel: "6.18.1",
  capabilities: new Set<CapabilityName>(["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON"]),
  hasTunDevice: true,
  ipv6Disabled: false,
  bpfRefused: undefined,
  interfaces: [{ name: "eth0", acceptRa: 1, forwarding: false, learnsAddresses: true }],
  newInterfacesDisabled: false,
  rules: [
    { priority: 0, table: 255, discards: false, particular: false, byAddress: false },
    { priority: 5, table: 5533, discards: false, particular: false, byAddress: false },
    { priority: 100, table: 101, discards: false, particular: false, byAddress: true },
    { priority: 32766, table: 254, discards: false, particular: false, byAddress: false },
  ],
  filter: [],
  hasLegacyFilter: false,
  wallClock: Date.UTC(2026, 0, 1),
  clocksource: "tsc",
  leftoverRoutes: 0,
};

const RULE = { priority: 100, table: 101, discards: false, particular: false, byAddress: true };
const ANY_RULE: FilterRule = {
  verdict: undefined,
  unconditional: false,
  protocol: undefined,
  iif: undefined,
  checksReversePath: false,
};
const CHAIN: FilterChain = {
  family: "inet",
  table: "filter",
  name: "input",
  hook: "input",
  policy: "drop",
  rules: [],
};

function chain(...rules: Partial<FilterRule>[]): FilterChain {
  return { ...CHAIN, rules: rules.map((rule) => ({ ...ANY_RULE, ...rule })) };
}

Deno.test("a packet filter that lets the agent's packets pass is no finding", () => {
  const good = [
    { ...CHAIN, policy: "accept" as const },
    { ...CHAIN, hook: "forward" as const },
    chain({ unconditional: true, verdict: "accept" }),
    chain({ protocol: -1, verdict: "accept" }),
    chain({ protocol: 140, verdict: "accept" }, { iif: "lo", verdict: "accept" }),
    chain({ protocol: 140, verdict: "accept" }, { iif: "shim0" }, { iif: "eth0" }),
    chain(
      { iif: "shim0", verdict: "accept" },
      { protocol: 140, verdict: "accept" },
      { checksReversePath: true, verdict: "drop" },
    ),
  ];
  for (const one of good) assertEquals(filterFindings([one]), [], JSON.stringify(one));
  assertEquals(filterFindings([chain({ protocol: 140, verdict: "accept" })], 61).length, 1, "another protocol number");
});

Deno.test("nothing is found on a host that is ready", () => {
  assertEquals(hostFindings(HEALTHY), []);
  const router = { ...HEALTHY.interfaces[0], forwarding: true };
  assertEquals(hostFindings({ ...HEALTHY, interfaces: [{ ...router, acceptRa: 2 }] }), []);
  assertEquals(hostFindings({ ...HEALTHY, interfaces: [{ ...router, learnsAddresses: false }] }), []);
});

Deno.test("each thing that is wrong with a host is told with its repair", () => {
  const wrong: [Partial<HostFacts>, string, string][] = [
    [{ capabilities: new Set(["CAP_NET_ADMIN"]) }, "no path could be tried", "setcap"],
    [{ capabilities: new Set(["CAP_NET_RAW"]) }, "CAP_NET_ADMIN missing", "setcap"],
    [{ hasTunDevice: false }, "/dev/net/tun", "modprobe tun"],
    [{ ipv6Disabled: undefined }, "no IPv6", "kernel"],
    [{ ipv6Disabled: true }, "switched off", "sysctl"],
    [{ kernel: "6.5.0-14-generic" }, "cannot count payload by eBPF", "6.6"],
    [{ kernel: "5.19" }, "cannot count payload by eBPF", "6.6"],
    [{ bpfRefused: "BPF_MAP_CREATE: EPERM" }, "EPERM", "cap_bpf"],
    [
      { interfaces: [{ name: "eth0", acceptRa: 1, forwarding: true, learnsAddresses: true }] },
      "forwarding is on",
      "accept_ra=2",
    ],
    [{ newInterfacesDisabled: true }, "new interfaces", "default.disable_ipv6=0"],
    [{ hasLegacyFilter: true }, "ip6_tables", "ip6tables-legacy-save"],
    [{ rules: [{ ...RULE, priority: 3 }] }, "before the agent's rule", "ip -6 rule del priority 3"],
    [{ rules: [{ ...RULE, particular: true }] }, "mark, user or port", "ip -6 rule show priority 100"],
    [{ rules: [{ ...RULE, particular: true, discards: true }] }, "discards packets", "ip -6 rule show priority 100"],
    [{ rules: [{ ...RULE, table: 255, byAddress: false, priority: 50 }] }, "local addresses", "priority 0 table local"],
    [{ filter: [CHAIN] }, "no rule names protocol 140", "nft add rule inet filter input meta l4proto 140 accept"],
    [{ filter: [chain({ protocol: 140, verdict: "drop" })] }, "a rule drops protocol 140", "nft -a list chain"],
    [
      { filter: [chain({ protocol: 140, verdict: "accept" }, { iif: "eth0", verdict: "accept" })] },
      "no rule names shim0",
      "iifname shim0",
    ],
    [
      { filter: [{ ...chain({ checksReversePath: true, verdict: "drop" }), policy: "accept", hook: "prerouting" }] },
      "no way back",
      "nft insert rule inet filter input iifname shim0 accept",
    ],
    [{ wallClock: 0 }, "1970", "synchronisation"],
    [{ clocksource: "jiffies" }, "jiffies", "clocksource"],
    [{ leftoverRoutes: 2 }, "2 steering routes", "start the agent"],
  ];
  for (const [change, problem, repair] of wrong) {
    const findings = hostFindings({ ...HEALTHY, ...change });
    assertEquals(findings.length, 1, problem);
    assertStringIncludes(findings[0].problem, problem);
    assertStringIncludes(findings[0].repair, repair);
  }
});

const LOCATOR: LocatorReport = {
  address: "2001:db8:a1::a",
  interface: "a1",
  usable: true,
  exit: "a1",
  gateway: "fe80::1",
  gateway_answers: true,
  mtu: 1500,
};
const SECOND: LocatorReport = { ...LOCATOR, address: "2001:db8:a2::a", interface: "a2", exit: "a2" };

Deno.test("a source that leaves by the wrong interface is found, one that the agent steers is not", () => {
  assertEquals(locatorFindings([LOCATOR, SECOND]), []);
  assertEquals(locatorFindings([LOCATOR, { ...SECOND, exit: "shim0" }]), []);
  const [wrong] = locatorFindings([LOCATOR, { ...SECOND, exit: "a1" }]);
  assertStringIncludes(wrong.problem, "leave by a1, not by a2");
  assertStringIncludes(wrong.repair, "ip -6 route add default from 2001:db8:a2::a");
  assertStringIncludes(locatorFindings([LOCATOR, { ...SECOND, exit: null }])[0].problem, "no default route");
  assertStringIncludes(locatorFindings([LOCATOR])[0].problem, "only one usable locator");
  assertStringIncludes(locatorFindings([])[0].problem, "no usable locator");
  assertEquals(locatorFindings([LOCATOR, SECOND, { ...SECOND, usable: false }]).length, 1);
});

const PAIR: PairPassage = {
  local: LOCATOR.address,
  peer: "2001:db8:b1::b",
  ping: "passes",
  control: "passes",
  payload: "passes",
  mtu: 1500,
  sendError: null,
};

Deno.test("what becomes of the packets of a pair tells where the fault is", () => {
  const sources = [{ address: LOCATOR.address, interfaceName: "a1", mtu: 1500 }];
  const problem = (change: Partial<PairPassage>) =>
    pairFindings([{ ...PAIR, ...change }], sources).map((finding) => finding.problem).join("; ");
  assertEquals(problem({}), "");
  assertEquals(problem({ ping: "lost" }), ""); // many filter pings
  assertEquals(problem({ mtu: 1400 }), "");
  assertStringIncludes(problem({ mtu: null }), "packets of 1500 octets vanish");
  assertStringIncludes(problem({ payload: "lost" }), "payload with a Shim6 header does not");
  assertStringIncludes(problem({ control: "lost" }), "control messages do not");
  assertStringIncludes(problem({ control: "lost", payload: "lost" }), "nothing of protocol 140");
  assertStringIncludes(problem({ ping: "lost", control: "lost", payload: "lost" }), "not even a ping");
  assertStringIncludes(problem({ control: "no-agent", payload: "no-agent" }), "no agent");
  assertStringIncludes(problem({ control: "unreachable", payload: "lost" }), "a router says");
  assertStringIncludes(problem({ control: "not-sent", sendError: "ENETUNREACH" }), "cannot send: ENETUNREACH");
});

Deno.test("the same finding about several pairs is told once", () => {
  const pairs = [PAIR, { ...PAIR, peer: "2001:db8:b2::b" }].map((pair) => ({ ...pair, payload: "lost" as const }));
  const merged = mergeFindings(pairFindings(pairs, []));
  assertEquals(merged.length, 1);
  assertEquals(merged[0].subjects, ["2001:db8:a1::a > 2001:db8:b1::b", "2001:db8:a1::a > 2001:db8:b2::b"]);
  const text = renderDoctor({
    version: "0",
    kernel: "6.18",
    agent: false,
    locators: [LOCATOR, { ...SECOND, gateway_answers: false }],
    pairs,
    findings: merged,
  });
  for (const part of ["fe80::1 SILENT", "FOUND  control messages pass", "→ some firewall"]) {
    assertStringIncludes(text, part);
  }
});

Deno.test("an Echo Request has the checksum of its pseudo-header, and payload the size that is asked for", () => {
  const packet = echoRequest(PAIR, 0x1234, 0x5678);
  const sum = onesComplementSum(packet, 40, packet.length, pseudoHeaderSum(packet, 8, packet.length - 40, 58));
  assertEquals(sum, 0xffff);
  assertEquals(payload(PAIR, 1, 1280).length, 1280);
  assertEquals(payload(PAIR, 1, 0).length, 56);
});

/** Runs `doctor --json` on a host of the testbed. */
async function doctor(topology: Topology, host: LabHost, args: readonly string[]) {
  const program = thisProgram();
  const process = topology.spawn(host, program.command, {
    args: [...program.args, "doctor", "--json", ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
  const { code, stdout, stderr } = await process.output();
  const text = new TextDecoder().decode(stdout);
  assert(text !== "", new TextDecoder().decode(stderr));
  return { code, report: JSON.parse(text) as DoctorReport };
}

const passages = (report: DoctorReport, kind: "ping" | "control" | "payload") =>
  new Set(report.pairs.map((pair) => pair[kind]));
const problems = (report: DoctorReport) => report.findings.map(({ problem }) => problem).join("\n");

/** Runs nft in a namespace. */
async function nft(topology: Topology, node: LabNode, ruleset: string): Promise<void> {
  const process = topology.spawn(node, "nft", { args: [ruleset], stdin: "null", stdout: "null", stderr: "inherit" });
  assertEquals((await process.status).code, 0, ruleset);
}

const hasNft = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].some((path) => {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
});
if (!hasNft) console.log("the test with a firewall is left out: no nft");
if (!needsRoot) monotonicNow(); // opens the C library outside of any test

Deno.test({
  name: "doctor finds nothing in a sound testbed, without an agent and beside one, whose contexts it leaves alone",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("at-sound");
    const { topology } = hosts, { a, b } = topology;
    await hosts.start(b);
    const control = `${hosts.directory}/a.sock`;
    const without = await doctor(topology, a, [...b.addresses, "--control", control]);
    assertEquals(without.report.findings, []);
    assertEquals(without.code, 0);
    assertEquals([without.report.agent, without.report.pairs.length], [false, 9]);
    assert(without.report.pairs.every((pair) => pair.mtu === 1500 && pair.ping === "passes"));
    assert(without.report.locators.every((locator) => locator.gateway_answers));

    const agent = await hosts.start(a);
    const stream = await hosts.stream(5031);
    const settled = (context: ContextReport) => context.state === "ESTABLISHED" && context.reap === "operational";
    await agent.context("established context", settled);
    await ask(agent.control, { command: "switch", context: "1", local: a.addresses[1], peer: b.addresses[2] });
    const moved = await agent.context("moved context", (context) => context.switches === 1);
    topology.setMtu(a.addresses[1], b.addresses[1], 1400);
    const beside = await doctor(topology, a, [b.addresses[1], "--control", control]);
    assertEquals(beside.report.findings, []);
    assertEquals([beside.code, beside.report.agent], [0, true]);
    assertEquals(beside.report.pairs.length, 9); // the agent knows the other addresses
    const narrow = beside.report.pairs.filter((pair) => pair.mtu === 1400);
    assertEquals(narrow.map(({ local, peer }) => [local, peer]), [[a.addresses[1], b.addresses[1]]]);
    const after = await agent.contexts();
    assertEquals(after.map(({ current, switches }) => [current, switches]), [[moved.current, 1]]);
    await finish(stream);
  },
});

Deno.test({
  name: "doctor names a prefix without a source-specific route, a dead path and a peer without agent",
  ignore: needsRoot,
  async fn() {
    await using hosts = new Hosts("at-routes");
    const { topology } = hosts, { a, b } = topology;
    const control = `${hosts.directory}/a.sock`;
    const { prefix, interface: name } = a.providers[1];
    a.netlink.deleteRoute({ source: prefix, dev: a.netlink.link(name)!.index });
    const alone = await doctor(topology, a, ["--control", control]);
    assertEquals(alone.code, 1);
    assertEquals(alone.report.findings.map(({ subjects }) => subjects), [[a.addresses[1]]]);
    assertStringIncludes(problems(alone.report), "leave by a1, not by a2");
    assertStringIncludes(alone.report.findings[0].repair, `from ${a.addresses[1]}/64`);

    topology.setPath(a.addresses[2], b.addresses[0], "down");
    const { code, report } = await doctor(topology, a, [b.addresses[0], "--control", control]);
    assertEquals(code, 1);
    assertStringIncludes(problems(report), "not even a ping");
    assertStringIncludes(problems(report), "the peer runs no agent");
    const lost = report.pairs.filter((pair) => pair.ping === "lost").map((pair) => pair.local);
    assertEquals(lost, [a.addresses[2]]);
  },
});

Deno.test({
  name: "doctor tells a router that drops protocol 140, or its payload only, from a dead path",
  ignore: needsRoot || !hasNft,
  async fn() {
    await using hosts = new Hosts("at-firewall");
    const { topology } = hosts, { a, b, router } = topology;
    await hosts.start(b);
    const arguments_ = [b.addresses[0], "--control", `${hosts.directory}/a.sock`];
    await nft(
      topology,
      router,
      "table inet t { chain c { type filter hook forward priority 0; meta l4proto 140 @th,16,1 1 drop; }; }",
    );
    const payloadOnly = (await doctor(topology, a, arguments_)).report;
    assertEquals(passages(payloadOnly, "control"), new Set(["passes"]));
    assertEquals(passages(payloadOnly, "payload"), new Set(["lost"]));
    assertStringIncludes(problems(payloadOnly), "payload with a Shim6 header does not");

    await nft(topology, router, "add rule inet t c meta l4proto 140 drop");
    const all = (await doctor(topology, a, arguments_)).report;
    assertEquals(passages(all, "control"), new Set(["lost"]));
    assertEquals(passages(all, "ping"), new Set(["passes"]));
    assertStringIncludes(problems(all), "nothing of protocol 140 comes back");
    assertEquals(all.findings.length, 1);
    assertEquals(all.findings[0].subjects.length, 3);
  },
});

Deno.test({
  name: "doctor reads the rules of this host: of its packet filter, and those that choose routing tables",
  ignore: needsRoot || !hasNft,
  async fn() {
    await using hosts = new Hosts("at-rules");
    const { topology } = hosts, { a } = topology;
    const look = async () => (await doctor(topology, a, ["--control", `${hosts.directory}/a.sock`])).report;
    await nft(
      topology,
      a,
      `table inet filter {
        chain input {
          type filter hook input priority 0; policy drop;
          ct state established,related accept
          iifname "a1" tcp dport 22 accept
          meta l4proto { tcp, udp, icmpv6 } accept
        }
        chain output { type filter hook output priority 0; policy drop; ip6 nexthdr 140 accept; meta l4proto 58 accept; }
        chain unused { ip6 nexthdr 140 drop; }
      }`,
    );
    a.netlink.addRule({ table: 77, priority: 3, from: a.providers[0].prefix });
    a.netlink.addRule({ table: 77, priority: 90, iif: "a2" });
    const { findings } = await look();
    const of = (subject: string) => findings.filter(({ subjects }) => subjects.includes(subject));
    assertEquals(of("nft chain inet filter input").map(({ problem }) => problem.slice(0, 20)), [
      "a rule drops protocol 140".slice(0, 20),
      "it lets pass by interface name".slice(0, 20),
    ]);
    assertEquals(of("nft chain inet filter output").length, 1);
    assertStringIncludes(of("rule 3")[0].problem, "before the agent's rule");
    assertStringIncludes(of("rule 90")[0].problem, "interface, mark, user or port");
    await nft(topology, a, "flush ruleset");
    for (const rule of [{ priority: 3, from: a.providers[0].prefix }, { priority: 90, iif: "a2" }]) {
      a.netlink.deleteRule({ table: 77, ...rule });
    }
    assertEquals((await look()).findings, []);
    await nft(
      topology,
      a,
      "table ip6 raw { chain pre { type filter hook prerouting priority -300; fib saddr . iif oif missing drop; }; }",
    );
    const filtered = await look();
    assertStringIncludes(problems(filtered), "no way back by the interface of arrival");
    await nft(topology, a, 'insert rule ip6 raw pre iifname "shim0" accept');
    assertEquals((await look()).findings, []);
  },
});
