/** The agent's settings: the TOML file, overridden by flags, checked value by value. */

import { parse as parseToml } from "@std/toml";
import { type Address, canonicalAddress, InvalidAddress, parsePrefix, type Prefix } from "../wire/address.ts";
import { createPolicy, UnknownPolicy } from "../policies/registry.ts";
import { type Profile, PROFILES } from "../reap/profile.ts";
import type { EngineLimits, EstablishOptions } from "../shim6/api.ts";
import { PROBES_PER_100_MS } from "../shim6/probe_budget.ts";
import { SHIM6_PROTOCOL } from "../wire/message.ts";
import { UsageError } from "./errors.ts";
import { parsePreference, type Preference } from "./preferences.ts";

/** Read when no `--config` is given, if it exists. */
export const DEFAULT_CONFIG_PATH = "/etc/shim6-agent/config.toml";
/** Where the control socket is, unless configured otherwise. */
export const DEFAULT_CONTROL_PATH = "/run/shim6-agent/control.sock";

/** Log levels, quietest last. */
export const LOG_LEVELS = ["debug", "info", "warning", "error"] as const;
/** One of {@linkcode LOG_LEVELS}. */
export type LogLevel = typeof LOG_LEVELS[number];

/** As many as the datapath has room for. */
const MAX_CONTEXTS = 16_384;

/** Fewer would keep a single exploration waiting. */
const LEAST_PROBES_PER_100_MS = 10;

/**
 * Protocol numbers that cannot be Shim6's: extension headers, what the kernel handles by itself, and 255, which raw
 * sockets use otherwise.
 */
const TAKEN_PROTOCOLS: ReadonlySet<number> = new Set([
  ...[0, 43, 44, 50, 51, 60, 135, 139],
  ...[1, 2, 4, 6, 17, 33, 41, 46, 47, 58, 59, 89, 103, 112, 115, 132, 136, 255],
]);

/** Datapath backends the agent can be told to use. */
export const DATAPATHS = ["auto", "tun", "bpf"] as const;
/** Ways of counting payload on the kernel's own path. */
export const ACCOUNTINGS = ["auto", "ebpf", "tap"] as const;

/** Everything `run` can be told. */
export interface AgentConfig {
  readonly policy: string;
  readonly profile: Profile;
  readonly datapath: typeof DATAPATHS[number];
  readonly accounting: typeof ACCOUNTINGS[number];
  /** Interfaces whose addresses are locators; empty for all. */
  readonly interfaces: readonly string[];
  /** Addresses to use as locators; empty for all of the interfaces. */
  readonly locators: readonly Address[];
  readonly control: string;
  /** File with the parameters, and perhaps the key, that prove this host's locators (`hba new`, `cga new`). */
  readonly identity?: string;
  /** What peers, and this host, should prefer of its locators. */
  readonly preferences: readonly Preference[];
  /** Next header of Shim6: 140 (RFC 5533 §5.1), or what another implementation uses. */
  readonly protocol: number;
  readonly insecureLocators: boolean;
  /** Where unverified locators are accepted; empty for everywhere. Only with `insecureLocators`. */
  readonly insecurePrefixes: readonly Prefix[];
  readonly logLevel: LogLevel;
  readonly logFormat: "text" | "json";
  /** JSON lines of everything that happened to contexts. */
  readonly events?: string;
  /** Capture file of control messages. */
  readonly pcap?: string;
  readonly establish: EstablishOptions;
  /** Flows from or to these TCP and UDP ports never establish a context. */
  readonly excludedPorts: readonly number[];
  /** Keep copies of what is sent while a path is in doubt and send them when one is chosen. */
  readonly hold: boolean;
  /** End a context when its ULID is no longer an address of this host, as RFC 5533 §1.5 says. */
  readonly endWithUlid: boolean;
  /** Exchange network coordinates whatever the policy. */
  readonly coordinates: boolean;
  readonly limits: Partial<EngineLimits>;
  /** Probes of this host and their answers in any 100 ms, all contexts together. */
  readonly probesPer100ms: number;
  /** Idle time after which a context is discarded, ms. */
  readonly idleTeardownMs: number;
}

/** What each key of the file holds, for the sentence that says so. */
export type Kind = "string" | "strings" | "number" | "numbers" | "boolean";

/** Every key of the file; tables are written `table.key`. */
export const KEYS = {
  "policy": { kind: "string" },
  "profile": { kind: "string" },
  "datapath": { kind: "string" },
  "accounting": { kind: "string" },
  "interfaces": { kind: "strings" },
  "locators": { kind: "strings" },
  "control": { kind: "string" },
  "identity": { kind: "string" },
  "prefer": { kind: "strings" },
  "protocol": { kind: "number" },
  "insecure_locators": { kind: "boolean" },
  "insecure_prefixes": { kind: "strings" },
  "log_level": { kind: "string" },
  "log_format": { kind: "string" },
  "events": { kind: "string" },
  "pcap": { kind: "string" },
  "hold": { kind: "boolean" },
  "end_with_ulid": { kind: "boolean" },
  "coordinates": { kind: "boolean" },
  "establish.after_packets": { kind: "number" },
  "establish.after_seconds": { kind: "number" },
  "establish.always": { kind: "strings" },
  "establish.never": { kind: "strings" },
  "establish.excluded_ports": { kind: "numbers" },
  "timers.send_timeout_ms": { kind: "number" },
  "timers.keepalive_timeout_ms": { kind: "number" },
  "timers.initial_probe_timeout_ms": { kind: "number" },
  "timers.initial_probes": { kind: "number" },
  "timers.max_probe_timeout_ms": { kind: "number" },
  "timers.idle_teardown_seconds": { kind: "number" },
  "limits.contexts": { kind: "number" },
  "limits.contexts_per_peer": { kind: "number" },
  "limits.probes_per_100ms": { kind: "number" },
} as const satisfies Record<string, { readonly kind: Kind }>;

/** A key of the configuration file. */
export type ConfigKey = keyof typeof KEYS;

/** Settings as they come from a file or from flags, before they are checked. */
export type RawConfig = Partial<Record<ConfigKey, unknown>>;

/** Reads a TOML file into settings. Throws {@linkcode UsageError} naming the file and the key. */
export function readConfigFile(path: string, required: boolean): RawConfig {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (!required && error instanceof Deno.errors.NotFound) return {};
    throw new UsageError(`cannot read the configuration file ${path}: ${(error as Error).message}`);
  }
  return parseConfig(text, path);
}

/** Parses the text of a configuration file; `path` is for the messages. */
export function parseConfig(text: string, path: string): RawConfig {
  let document: Record<string, unknown>;
  try {
    document = parseToml(text);
  } catch (error) {
    throw new UsageError(`${path} is not valid TOML: ${(error as Error).message}`);
  }
  const raw: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(document)) {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      for (const [inner, innerValue] of Object.entries(value)) raw[`${key}.${inner}`] = innerValue;
    } else raw[key] = value;
  }
  for (const key of Object.keys(raw)) {
    if (!(key in KEYS)) throw new UsageError(`${path}: unknown key ${key}; known are ${Object.keys(KEYS).join(", ")}`);
  }
  return raw as RawConfig;
}

/** Checks settings and fills in the defaults. Throws {@linkcode UsageError}. `origin` names a key for the reader. */
export function checkConfig(raw: RawConfig, origin: (key: ConfigKey) => string): AgentConfig {
  const wrong = (key: ConfigKey, expected: string): UsageError =>
    new UsageError(`${origin(key)}: expected ${expected}, got ${JSON.stringify(raw[key])}`);

  const string = (key: ConfigKey, fallback: string): string => {
    const value = raw[key] ?? fallback;
    if (typeof value !== "string" || (value === "" && fallback !== "")) throw wrong(key, "a string");
    return value;
  };
  const oneOf = <T extends string>(key: ConfigKey, choices: readonly T[], fallback: T): T => {
    const value = raw[key] ?? fallback;
    if (!choices.includes(value as T)) throw wrong(key, `one of ${choices.join(", ")}`);
    return value as T;
  };
  const strings = (key: ConfigKey): string[] => {
    const value = raw[key] ?? [];
    if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
      throw wrong(key, "a list of strings");
    }
    return value;
  };
  const boolean = (key: ConfigKey, fallback: boolean): boolean => {
    const value = raw[key] ?? fallback;
    if (typeof value !== "boolean") throw wrong(key, "true or false");
    return value;
  };
  const number = (key: ConfigKey, fallback: number, low: number, high: number): number => {
    const value = raw[key] ?? fallback;
    if (typeof value !== "number" || !(value >= low && value <= high)) {
      throw wrong(key, `a number from ${low} to ${high}`);
    }
    return value;
  };
  const integer = (key: ConfigKey, fallback: number, low: number, high: number): number => {
    const value = number(key, fallback, low, high);
    if (!Number.isInteger(value)) throw wrong(key, `a whole number from ${low} to ${high}`);
    return value;
  };
  const addresses = <T>(key: ConfigKey, parse: (text: string) => T): T[] =>
    strings(key).map((text) => {
      try {
        return parse(text);
      } catch (error) {
        if (error instanceof InvalidAddress) throw new UsageError(`${origin(key)}: ${error.message}`);
        throw error;
      }
    });

  const policy = string("policy", "adaptive");
  try {
    createPolicy(policy);
  } catch (error) {
    if (error instanceof UnknownPolicy) throw new UsageError(`${origin("policy")}: ${error.message}`);
    throw error;
  }

  const named = PROFILES[oneOf("profile", Object.keys(PROFILES), "fast")];
  const profile: Profile = {
    ...named,
    // Below one second the peer could not be told: the option counts whole seconds (RFC 5534 §5.3).
    sendTimeoutMs: number("timers.send_timeout_ms", named.sendTimeoutMs, 1_000, 100_000),
    keepaliveTimeoutMs: number("timers.keepalive_timeout_ms", named.keepaliveTimeoutMs, 1_000, 100_000),
    initialProbeTimeoutMs: number("timers.initial_probe_timeout_ms", named.initialProbeTimeoutMs, 10, 60_000),
    initialProbes: integer("timers.initial_probes", named.initialProbes, 1, 100),
    maxProbeTimeoutMs: number("timers.max_probe_timeout_ms", named.maxProbeTimeoutMs, 100, 600_000),
  };

  const ports = raw["establish.excluded_ports"] ?? [53, 853];
  if (!Array.isArray(ports) || !ports.every((port) => Number.isInteger(port) && port >= 0 && port <= 65_535)) {
    throw wrong("establish.excluded_ports", "a list of port numbers from 0 to 65535");
  }

  const protocol = integer("protocol", SHIM6_PROTOCOL, 0, 255);
  if (TAKEN_PROTOCOLS.has(protocol)) throw wrong("protocol", "a protocol number that nothing else here has");

  const optional = (key: ConfigKey): string | undefined => raw[key] === undefined ? undefined : string(key, "");
  return {
    policy,
    profile,
    datapath: oneOf("datapath", DATAPATHS, "auto"),
    accounting: oneOf("accounting", ACCOUNTINGS, "auto"),
    interfaces: strings("interfaces"),
    locators: addresses("locators", canonicalAddress),
    control: string("control", DEFAULT_CONTROL_PATH),
    identity: optional("identity"),
    preferences: strings("prefer").map((text) => parsePreference(text, origin("prefer"))),
    protocol,
    insecureLocators: boolean("insecure_locators", false),
    insecurePrefixes: addresses("insecure_prefixes", parsePrefix),
    logLevel: oneOf("log_level", LOG_LEVELS, "info"),
    logFormat: oneOf("log_format", ["text", "json"] as const, "text"),
    events: optional("events"),
    pcap: optional("pcap"),
    establish: {
      afterPackets: integer("establish.after_packets", 50, 1, 1e9),
      afterMs: number("establish.after_seconds", 10, 0, 1e6) * 1_000,
      always: addresses("establish.always", parsePrefix),
      never: addresses("establish.never", parsePrefix),
    },
    excludedPorts: ports,
    hold: boolean("hold", true),
    endWithUlid: boolean("end_with_ulid", false),
    coordinates: boolean("coordinates", false),
    limits: {
      contexts: integer("limits.contexts", MAX_CONTEXTS, 1, MAX_CONTEXTS),
      ...(raw["limits.contexts_per_peer"] === undefined
        ? {}
        : { contextsPerPeer: integer("limits.contexts_per_peer", 1, 1, MAX_CONTEXTS) }),
    },
    probesPer100ms: integer("limits.probes_per_100ms", PROBES_PER_100_MS, LEAST_PROBES_PER_100_MS, 1e6),
    idleTeardownMs: number("timers.idle_teardown_seconds", 600, 1, 1e9) * 1_000,
  };
}
