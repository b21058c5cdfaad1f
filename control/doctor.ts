/**
 * `doctor`: what on this host, or on the way to a peer, would keep a failover from working, and how to repair it. It
 * changes nothing and needs no agent; beside a running one it asks that for its locators.
 */

import { parseArgs } from "@std/cli";
import {
  BpfMap,
  BpfMapType,
  type CapabilityName,
  effectiveCapabilities,
  type FilterChain,
  filterChains,
  type FilterRule,
  Netlink,
  readSysctl,
  type Rule,
  SystemError,
} from "deno-tun";
import { DEFAULT_CONTROL_PATH } from "../agent/config.ts";
import { UsageError } from "../agent/errors.ts";
import { LocatorWatch } from "../agent/locators.ts";
import { VERSION } from "../agent/version.ts";
import { STEERING_PRIORITY, STEERING_PROTOCOL, STEERING_TABLE } from "../datapath/steering.ts";
import { type Address, canonicalAddress, InvalidAddress, isLocatorScope } from "../wire/address.ts";
import { SHIM6_PROTOCOL } from "../wire/message.ts";
import { ask } from "./client.ts";
import { type PairPassage, PathProber, type ProbeSource } from "./path_probe.ts";
import type { StatusReport } from "./protocol.ts";
import { pairText, table } from "./render.ts";

const HELP = `usage: shim6-agent doctor [PEER…] [--json] [--control PATH] [--interface NAME] [--protocol N]

finds out whether this host, and with addresses of a peer every path to it, is ready for a failover, and says how to
repair what is not. Give all addresses of the peer; those that a running agent knows are added. Nothing is changed.
--protocol is what the agent was given (140, or what a running one says).

exit code: 0 nothing found, 1 something to repair, 2 wrong use`;

/** Something to repair. */
export interface Finding {
  /** What it is about: the host, locators, or pairs. */
  readonly subjects: readonly string[];
  readonly problem: string;
  /** One sentence. */
  readonly repair: string;
}

/** What the host checks look at. */
export interface HostFacts {
  /** E.g. `6.18.1`. */
  readonly kernel: string;
  readonly capabilities: ReadonlySet<CapabilityName>;
  readonly hasTunDevice: boolean;
  /** `net.ipv6.conf.all.disable_ipv6`; undefined: this kernel has no IPv6. */
  readonly ipv6Disabled: boolean | undefined;
  /** Why bpf(2) is refused; undefined when it is not. */
  readonly bpfRefused: string | undefined;
  /** Interfaces with locators. `learnsAddresses`: some of them have a lifetime, so they came by advertisement. */
  readonly interfaces: readonly {
    readonly name: string;
    readonly acceptRa: number;
    readonly forwarding: boolean;
    readonly learnsAddresses: boolean;
  }[];
  /** `net.ipv6.conf.default.disable_ipv6`: what the agent's device would begin with. */
  readonly newInterfacesDisabled: boolean;
  /** The rules that choose a routing table. */
  readonly rules: readonly Rule[];
  /** What the packet filter does; undefined when it could not be read. */
  readonly filter: readonly FilterChain[] | undefined;
  /** Whether there are rules of the older ip6_tables as well, which are not read. */
  readonly hasLegacyFilter: boolean;
  /** Time of day, ms since 1970. */
  readonly wallClock: number;
  /** What the kernel's clock ticks by; undefined when it does not say. */
  readonly clocksource: string | undefined;
  /** Steering routes of a dead agent. */
  readonly leftoverRoutes: number;
}

/** A local locator, as it was found. */
export interface LocatorReport {
  readonly address: Address;
  readonly interface: string;
  readonly usable: boolean;
  /** Where the kernel sends packets with this source; null when nowhere. `steered`: into a running agent. */
  readonly exit: string | null;
  /** The router behind that exit; null on a link without one. */
  readonly gateway: Address | null;
  /** Whether the router answers; null when that was not tried. */
  readonly gateway_answers: boolean | null;
  /** Of the interface, in octets. */
  readonly mtu: number;
}

/** Everything that `doctor --json` prints. */
export interface DoctorReport {
  readonly version: string;
  readonly kernel: string;
  /** Whether an agent answers on the control socket. */
  readonly agent: boolean;
  readonly locators: readonly LocatorReport[];
  readonly pairs: readonly PairPassage[];
  readonly findings: readonly Finding[];
}

/** The agent's device: what is steered goes there, which is no wrong exit. */
const AGENT_DEVICE = "shim0";
/** The table of local addresses, which a rule of priority 0 asks. */
const LOCAL_TABLE = 255;
/** For looking up where a default route leads; no packet is sent there. */
const SOMEWHERE = "2000::1";
/** eBPF accounting attaches by tcx. */
const TCX_KERNEL: readonly [number, number] = [6, 6];
/** Before this program was written; a clock that says so has not been set. */
const EARLIEST_TIME = Date.UTC(2025, 0, 1);

/** Runs `doctor`. Returns the exit code; wrong use throws {@linkcode UsageError}. */
export async function doctorCommand(args: string[]): Promise<number> {
  const flags = parseArgs(args, {
    string: ["control", "interface", "protocol", "_"],
    boolean: ["json", "help"],
    collect: ["interface"],
    default: { control: DEFAULT_CONTROL_PATH },
    unknown: (flag: string) => {
      if (flag.startsWith("-")) throw new UsageError(`unknown option ${flag}; shim6-agent doctor --help lists them`);
    },
  });
  if (flags.help) {
    console.log(HELP);
    return 0;
  }
  const { protocol } = flags;
  if (protocol !== undefined && !/^([1-9]|[1-9]\d|1\d\d|2[0-4]\d|25[0-4])$/.test(protocol)) {
    throw new UsageError(`--protocol: expected a number from 1 to 254, got ${JSON.stringify(protocol)}`);
  }
  const report = await diagnose({
    peers: flags._.map((text) => peerAddress(String(text))),
    control: flags.control,
    interfaces: flags.interface,
    protocol: protocol === undefined ? undefined : Number(protocol),
  });
  console.log(flags.json ? JSON.stringify(report, null, 2) : renderDoctor(report));
  return report.findings.length === 0 ? 0 : 1;
}

function peerAddress(text: string): Address {
  try {
    const address = canonicalAddress(text);
    if (isLocatorScope(address)) return address;
  } catch (error) {
    if (!(error instanceof InvalidAddress)) throw error;
  }
  throw new UsageError(`${text} is no IPv6 address that a peer can have`);
}

/** What to look at. */
interface Subject {
  readonly peers: readonly Address[];
  /** Control socket of an agent that may run. */
  readonly control: string;
  /** Empty for all. */
  readonly interfaces: readonly string[];
  /** Next header of Shim6; what a running agent uses when absent. */
  readonly protocol: number | undefined;
}

/** Looks at everything. Throws `SystemError` only when the kernel refuses what it grants to everybody. */
async function diagnose({ peers, control, interfaces, protocol: wanted }: Subject): Promise<DoctorReport> {
  const status = await ask<StatusReport>(control, { command: "status" }).catch(() => undefined);
  const protocol = wanted ?? status?.protocol ?? SHIM6_PROTOCOL;
  const netlink = new Netlink();
  let prober: PathProber | undefined;
  try {
    const { locators, sources } = findLocators(netlink, status, interfaces);
    const facts = gatherFacts(netlink, new Set(sources.map((source) => source.interfaceName)), status !== undefined);
    const findings = [...hostFindings(facts, protocol), ...locatorFindings(locators)];
    let pairs: PairPassage[] = [];
    if (facts.capabilities.has("CAP_NET_RAW") && sources.length > 0) {
      prober = new PathProber(protocol);
      const wanted = new Set([...peers, ...knownLocators(status, peers)]);
      const probed = peers.length === 0 ? Promise.resolve([]) : prober.pairs(sources, [...wanted]);
      pairs = await probed;
      for (const [i, locator] of locators.entries()) {
        const source = sources.find(({ address }) => address === locator.address);
        if (locator.gateway === null || source === undefined || locator.exit !== source.interfaceName) continue;
        const answers = await gatewayAnswers(netlink, prober, source, locator.gateway);
        locators[i] = { ...locator, gateway_answers: answers };
      }
      findings.push(...gatewayFindings(locators));
      findings.push(...exitFindings(netlink, sources, [...wanted]), ...pairFindings(pairs, sources, protocol));
    }
    return {
      version: VERSION,
      kernel: facts.kernel,
      agent: status !== undefined,
      locators,
      pairs,
      findings: mergeFindings(findings),
    };
  } finally {
    prober?.close();
    netlink.close();
  }
}

function findLocators(
  netlink: Netlink,
  status: StatusReport | undefined,
  interfaces: readonly string[],
): { locators: LocatorReport[]; sources: ProbeSource[] } {
  const links = netlink.links();
  let found: readonly { address: Address; interface: string; usable: boolean }[];
  if (status !== undefined) {
    found = status.locators.filter((locator) => interfaces.length === 0 || interfaces.includes(locator.interface));
  } else {
    const watch = new LocatorWatch(netlink, { interfaces });
    found = watch.locators().map(({ address, interfaceName, usable }) => ({
      address,
      interface: interfaceName,
      usable,
    }));
    watch.close();
  }
  const locators = found.map(({ address, interface: name, usable }): LocatorReport => {
    const link = links.find((link) => link.name === name);
    const bound = netlink.lookupRoute(SOMEWHERE, { source: address, dev: link?.index });
    const free = netlink.lookupRoute(SOMEWHERE, { source: address });
    const exit = links.find((link) => link.index === free?.dev)?.name ?? null;
    return {
      address,
      interface: name,
      usable,
      exit,
      gateway: (exit === name ? free : bound)?.via ?? null,
      gateway_answers: null,
      mtu: link?.mtu ?? 0,
    };
  });
  const sources = locators.filter((locator) => locator.usable)
    .map(({ address, interface: interfaceName, mtu }) => ({ address, interfaceName, mtu }));
  return { locators, sources };
}

/** What a running agent knows of the peer beside the addresses that were given. */
function knownLocators(status: StatusReport | undefined, peers: readonly Address[]): Address[] {
  return (status?.contexts ?? []).filter((context) =>
    peers.includes(context.ulid.peer) || context.peer_locators.some(({ address }) => peers.includes(address))
  ).flatMap((context) => context.peer_locators.map(({ address }) => address));
}

function gatherFacts(netlink: Netlink, interfaces: ReadonlySet<string>, hasAgent: boolean): HostFacts {
  const sysctl = (name: string) => attempt(() => readSysctl(name).trim());
  const links = netlink.links().filter((link) => interfaces.has(link.name));
  const addresses = netlink.addresses();
  const disabled = sysctl("net/ipv6/conf/all/disable_ipv6");
  const capabilities = effectiveCapabilities();
  return {
    kernel: Deno.osRelease(),
    capabilities,
    hasTunDevice: attempt(() => Deno.statSync("/dev/net/tun")) !== undefined,
    ipv6Disabled: disabled === undefined ? undefined : disabled === "1",
    bpfRefused: bpfRefusal(),
    interfaces: links.map(({ name, index }) => ({
      name,
      acceptRa: Number(sysctl(`net/ipv6/conf/${name}/accept_ra`) ?? 0),
      forwarding: sysctl(`net/ipv6/conf/${name}/forwarding`) === "1",
      learnsAddresses: addresses.some((entry) => entry.index === index && entry.scope === "global" && !entry.permanent),
    })),
    newInterfacesDisabled: sysctl("net/ipv6/conf/default/disable_ipv6") === "1",
    rules: netlink.rules(),
    filter: attempt(filterChains),
    hasLegacyFilter: (attempt(() => Deno.readTextFileSync("/proc/net/ip6_tables_names")) ?? "").trim() !== "",
    wallClock: Date.now(),
    clocksource: attempt(() =>
      Deno.readTextFileSync("/sys/devices/system/clocksource/clocksource0/current_clocksource").trim()
    ),
    leftoverRoutes: hasAgent ? 0 : netlink.routes({ protocol: STEERING_PROTOCOL }).length,
  };
}

/** Undefined where the kernel has no such thing, or does not show it. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function bpfRefusal(): string | undefined {
  try {
    new BpfMap({ type: BpfMapType.ARRAY, keySize: 4, valueSize: 8, maxEntries: 1, name: "shim6_doctor" }).close();
    return undefined;
  } catch (error) {
    if (error instanceof SystemError) return error.message;
    throw error;
  }
}

/** What is wrong with the host itself. Pure. `protocol`: next header of Shim6. */
export function hostFindings(facts: HostFacts, protocol = SHIM6_PROTOCOL): Finding[] {
  const findings: Finding[] = [];
  const found = (problem: string, repair: string, subject = "host") =>
    findings.push({ subjects: [subject], problem, repair });
  const missing = (["CAP_NET_ADMIN", "CAP_NET_RAW"] as const).filter((name) => !facts.capabilities.has(name));
  if (missing.length > 0) {
    found(
      `${missing.join(" and ")} missing` + (facts.capabilities.has("CAP_NET_RAW") ? "" : "; no path could be tried"),
      "run as root, or give the file its capabilities: setcap cap_net_admin,cap_net_raw,cap_bpf+ep FILE",
    );
  }
  if (!facts.hasTunDevice) found("/dev/net/tun does not exist", "load the module: modprobe tun");
  if (facts.ipv6Disabled === undefined) found("this kernel has no IPv6", "boot a kernel with IPv6");
  if (facts.ipv6Disabled === true) found("IPv6 is switched off", "sysctl net.ipv6.conf.all.disable_ipv6=0");
  if (!isAtLeast(facts.kernel, TCX_KERNEL)) {
    found(
      `kernel ${facts.kernel} cannot count payload by eBPF; a packet tap does it, at a higher price`,
      `use a kernel of version ${TCX_KERNEL.join(".")} or later`,
    );
  } else if (facts.bpfRefused !== undefined) {
    found(
      `payload cannot be counted by eBPF (${facts.bpfRefused}); a packet tap does it, at a higher price`,
      "run as root, or add cap_bpf to the file's capabilities; in a container, allow bpf(2)",
    );
  }
  for (const { name, acceptRa, forwarding, learnsAddresses } of facts.interfaces) {
    if (!forwarding || acceptRa === 2 || !learnsAddresses) continue;
    found(
      "forwarding is on, so the router advertisements that its addresses live on are ignored",
      `sysctl net.ipv6.conf.${name}.accept_ra=2`,
      name,
    );
  }
  if (facts.newInterfacesDisabled) {
    found(
      "new interfaces begin with IPv6 switched off, and so would the agent's device",
      "sysctl net.ipv6.conf.default.disable_ipv6=0",
    );
  }
  findings.push(...ruleFindings(facts.rules), ...filterFindings(facts.filter ?? [], protocol));
  if (facts.hasLegacyFilter) {
    found(
      "there are rules of the older ip6_tables, which were not looked at",
      `look at ip6tables-legacy-save: protocol ${protocol} and interface ${AGENT_DEVICE} have to pass`,
    );
  }
  if (facts.wallClock < EARLIEST_TIME) {
    found(
      `the clock says ${new Date(facts.wallClock).toISOString()}: events would be told at a wrong time`,
      "start time synchronisation (timers are not affected)",
    );
  }
  if (facts.clocksource === "jiffies") {
    found(
      "the kernel's clock ticks in whole jiffies: delays are measured too coarsely to compare paths",
      "choose another clock in /sys/devices/system/clocksource/clocksource0",
    );
  }
  if (facts.leftoverRoutes > 0) {
    found(
      `${facts.leftoverRoutes} steering routes of an agent that does not answer any more`,
      "start the agent, which removes them, or ip -6 route flush table 5533; with another --control name it here",
    );
  }
  return findings;
}

/** Rules that keep packets from the agent, or lead them where a lookup by addresses does not show. Pure. */
export function ruleFindings(rules: readonly Rule[]): Finding[] {
  const findings: Finding[] = [];
  for (const { priority, table, discards, particular, byAddress } of rules) {
    const subjects = [`rule ${priority}`];
    const isLocal = table === LOCAL_TABLE && !particular && !byAddress;
    if (isLocal || table === STEERING_TABLE) {
      if (priority <= STEERING_PRIORITY) continue;
      if (isLocal) {
        findings.push({
          subjects,
          problem: "local addresses are looked up after the agent's rule, or not first",
          repair: "ip -6 rule add priority 0 table local",
        });
      }
      continue;
    }
    if (priority <= STEERING_PRIORITY) {
      findings.push({
        subjects,
        problem:
          `it is asked before the agent's rule (priority ${STEERING_PRIORITY}): what it decides on cannot be moved`,
        repair: `give it a priority above ${
          STEERING_PRIORITY + 1
        }: ip -6 rule add priority N …, ip -6 rule del priority ${priority}`,
      });
    } else if (particular) {
      findings.push({
        subjects,
        problem: discards
          ? "it discards packets by interface, mark, user or port, which the checks here do not try"
          : "it chooses routes by interface, mark, user or port: applications may take another path than was checked",
        repair: `see that ip -6 rule show priority ${priority} does not concern traffic between locators`,
      });
    }
  }
  return findings;
}

/** Where the packet filter would drop what the agent sends, receives, or hands in by its device. Pure. */
export function filterFindings(chains: readonly FilterChain[], protocol = SHIM6_PROTOCOL): Finding[] {
  const findings: Finding[] = [];
  for (const { family, table, name, hook, policy, rules } of chains) {
    if (hook === "forward") continue;
    const place = `${family} ${table} ${name}`;
    const found = (problem: string, repair: string) =>
      findings.push({ subjects: [`nft chain ${place}`], problem, repair });
    const passes = (rule: FilterRule) => rule.verdict === "accept" && rule.unconditional;
    if (rules.some((rule) => rule.verdict === "drop" && rule.protocol === protocol)) {
      found(`a rule drops protocol ${protocol}`, `remove it: nft -a list chain ${place}`);
    } else if (policy === "drop" && !rules.some((rule) => passes(rule) || names(rule.protocol, protocol, -1))) {
      found(
        `${hook} drops what no rule lets pass, and no rule names protocol ${protocol}`,
        `nft add rule ${place} meta l4proto ${protocol} accept`,
      );
    }
    if (hook === "output" || hook === "postrouting") continue;
    // "lo" alone says nothing of the others.
    const byInterface = rules.filter((rule) => rule.iif !== undefined && rule.iif !== "lo");
    if (policy === "drop" && byInterface.length > 0 && !rules.some(passes)) {
      if (!byInterface.some((rule) => names(rule.iif, AGENT_DEVICE, ""))) {
        found(
          `it lets pass by interface name, and no rule names ${AGENT_DEVICE}, by which translated payload comes in`,
          `nft add rule ${place} iifname ${AGENT_DEVICE} …, with what may come in by the other interfaces`,
        );
      }
    }
    if (rules.some((rule) => rule.checksReversePath && rule.verdict === "drop")) {
      if (!rules.some((rule) => rule.iif === AGENT_DEVICE && rule.verdict === "accept")) {
        found(
          `a rule drops what has no way back by the interface of arrival: payload that comes in by ${AGENT_DEVICE} has none`,
          `nft insert rule ${place} iifname ${AGENT_DEVICE} accept`,
        );
      }
    }
  }
  return findings;
}

/** Whether a rule asks for `wanted`, or looks it up in a set, which is not read: then it may. */
function names<T>(asked: T | undefined, wanted: T, unknown: T): boolean {
  return asked === wanted || asked === unknown;
}

function isAtLeast(kernel: string, [major, minor]: readonly [number, number]): boolean {
  const [, a, b] = /^(\d+)\.(\d+)/.exec(kernel) ?? [];
  return Number(a) > major || Number(a) === major && Number(b) >= minor;
}

/** What is wrong with the locators as such. Pure. */
export function locatorFindings(locators: readonly LocatorReport[]): Finding[] {
  const findings: Finding[] = [];
  const usable = locators.filter((locator) => locator.usable);
  if (usable.length < 2) {
    findings.push({
      subjects: ["host"],
      problem: usable.length === 0
        ? "no usable locator: no global IPv6 address on a running interface"
        : `only one usable locator, ${usable[0].address}: there is no path to fall back to`,
      repair: "give the host an address of each provider",
    });
  }
  for (const { address, interface: name, usable, exit } of locators) {
    if (!usable) {
      findings.push({
        subjects: [address],
        problem: `cannot be used: ${name} is down or has no carrier, or the address is tentative or duplicate`,
        repair: `look at ip -6 address show dev ${name}`,
      });
    } else if (exit === null) {
      findings.push({
        subjects: [address],
        problem: "no default route for packets with this source",
        repair: sourceRoute(address, name),
      });
    } else if (exit !== name && exit !== AGENT_DEVICE) {
      findings.push({
        subjects: [address],
        problem: `packets with this source leave by ${exit}, not by ${name}: that provider will drop them`,
        repair: sourceRoute(address, name),
      });
    }
  }
  return findings;
}

function sourceRoute(address: Address, name: string): string {
  return `ip -6 route add default from ${address}/64 via ROUTER dev ${name} (with the prefix and router of that provider)`;
}

/** Routes to the peer that are more specific than the default and lead a source out of the wrong provider. */
function exitFindings(netlink: Netlink, sources: readonly ProbeSource[], peers: readonly Address[]): Finding[] {
  const links = netlink.links();
  const findings: Finding[] = [];
  for (const { address, interfaceName } of sources) {
    for (const peer of peers) {
      const free = netlink.lookupRoute(peer, { source: address });
      const exit = links.find((link) => link.index === free?.dev)?.name;
      const general = netlink.lookupRoute(SOMEWHERE, { source: address });
      // What also holds for the default route was said of the locator.
      if (exit === interfaceName || exit === AGENT_DEVICE || free?.dev === general?.dev) continue;
      findings.push({
        subjects: [pairText({ local: address, peer })],
        problem: exit === undefined
          ? "a route refuses packets with this source to this peer"
          : `a conflicting route sends packets with this source out of ${exit}, not ${interfaceName}`,
        repair: `remove the route that ip -6 route get ${peer} from ${address} shows, or give it a source prefix`,
      });
    }
  }
  return findings;
}

async function gatewayAnswers(
  netlink: Netlink,
  prober: PathProber,
  source: ProbeSource,
  gateway: Address,
): Promise<boolean> {
  if (await prober.ping(source, gateway) === "passes") return true;
  // Not every router answers pings, but it has to answer neighbour solicitations.
  const index = netlink.link(source.interfaceName)?.index;
  return index !== undefined && (netlink.neighbour(index, gateway)?.valid ?? false);
}

function gatewayFindings(locators: readonly LocatorReport[]): Finding[] {
  return locators.filter((locator) => locator.gateway_answers === false).map((locator) => ({
    subjects: [locator.address],
    problem: `its router ${locator.gateway} on ${locator.interface} does not answer`,
    repair: `check the link ${locator.interface}, the router, and the via of its route`,
  }));
}

/** What is wrong on the way to the peer. Pure. */
export function pairFindings(
  pairs: readonly PairPassage[],
  sources: readonly ProbeSource[],
  protocol = SHIM6_PROTOCOL,
): Finding[] {
  const findings: Finding[] = [];
  for (const pair of pairs) {
    const { ping, control, payload, mtu, sendError } = pair;
    const subjects = [pairText(pair)];
    const found = (problem: string, repair: string) => findings.push({ subjects, problem, repair });
    const link = sources.find((source) => source.address === pair.local)?.mtu ?? 0;
    const speaks = control === "passes" || payload === "passes";
    if (control === "not-sent" || payload === "not-sent") {
      found(
        `this host cannot send: ${sendError}`,
        sendError === "EPERM"
          ? `let the firewall of this host pass protocol ${protocol}: nft add rule inet filter output meta l4proto ${protocol} accept`
          : "give this source a route by its own interface",
      );
    } else if (control === "no-agent" || payload === "no-agent") {
      found("the peer runs no agent, or this is an address of another host", "start shim6-agent there");
    } else if (control === "unreachable" || payload === "unreachable" || ping === "unreachable") {
      found("a router says that the peer cannot be reached", "check the routes to the peer's prefix and its link");
    } else if (!speaks && ping === "passes") {
      found(
        `the peer answers pings, but nothing of protocol ${protocol} comes back`,
        `let every firewall on the way, and the peer's own, pass protocol ${protocol} both ways (or the peer runs no agent)`,
      );
    } else if (!speaks) {
      found(
        "nothing comes back on this pair, not even a ping",
        "check that packets with this source leave by its own provider, and that the peer's address is up",
      );
    } else if (payload !== "passes") {
      found(
        "control messages pass, but payload with a Shim6 header does not",
        `some firewall looks inside protocol ${protocol}: let all of it pass, both ways`,
      );
    } else if (control !== "passes") {
      found(
        "payload with a Shim6 header passes, but control messages do not",
        `some firewall looks inside protocol ${protocol}: let all of it pass, both ways`,
      );
    } else if (mtu === null) {
      found(
        `packets of ${link} octets vanish without Packet Too Big`,
        "let ICMPv6 Packet Too Big (type 2) pass, or lower the MTU of the interface",
      );
    }
  }
  return findings;
}

/** The same problem with the same repair is told once. */
export function mergeFindings(findings: readonly Finding[]): Finding[] {
  const merged = new Map<string, Finding>();
  for (const finding of findings) {
    const key = `${finding.problem}\n${finding.repair}`;
    const known = merged.get(key);
    merged.set(key, known === undefined ? finding : { ...known, subjects: [...known.subjects, ...finding.subjects] });
  }
  return [...merged.values()];
}

/** What `doctor` prints for people. */
export function renderDoctor(report: DoctorReport): string {
  const { locators, pairs, findings } = report;
  const parts = [
    `shim6-agent ${report.version} doctor, kernel ${report.kernel}, ` +
    (report.agent ? "an agent is running" : "no agent answers on the control socket"),
  ];
  if (locators.length > 0) {
    const answer = (answers: boolean | null) => answers === null ? "" : answers ? " answers" : " SILENT";
    parts.push(table(
      ["LOCATOR", "INTERFACE", "USABLE", "EXIT", "ROUTER", "MTU"],
      locators.map((locator) => [
        locator.address,
        locator.interface,
        locator.usable ? "yes" : "NO",
        locator.exit ?? "NONE",
        locator.gateway === null ? "-" : locator.gateway + answer(locator.gateway_answers),
        String(locator.mtu),
      ]),
    ));
  }
  if (pairs.length > 0) {
    parts.push(table(
      ["LOCATOR PAIR", "PING", "CONTROL", "PAYLOAD", "PATH MTU"],
      pairs.map((pair) => [
        pairText(pair),
        pair.ping,
        pair.control,
        pair.payload,
        pair.mtu === null ? "-" : String(pair.mtu),
      ]),
    ));
  }
  if (findings.length === 0) parts.push("nothing to repair");
  for (const { subjects, problem, repair } of findings) {
    parts.push(
      [`FOUND  ${problem}`, ...subjects.map((subject) => `       ${subject}`), `       → ${repair}`].join("\n"),
    );
  }
  return parts.join("\n\n");
}
