/** `shim6-agent run`: flags and file to settings, checks, then the agent until a signal. */

import { parseArgs } from "@std/cli";
import type { Policy } from "../policies/policy.ts";
import { createPolicy, policyNames } from "../policies/registry.ts";
import { type Profile, PROFILES } from "../reap/profile.ts";
import { Agent } from "./agent.ts";
import {
  ACCOUNTINGS,
  type AgentConfig,
  checkConfig,
  type ConfigKey,
  DATAPATHS,
  DEFAULT_CONFIG_PATH,
  DEFAULT_CONTROL_PATH,
  LOG_LEVELS,
  type RawConfig,
  readConfigFile,
} from "./config.ts";
import { UsageError } from "./errors.ts";
import { log, startLogging } from "./logging.ts";
import { preflight } from "./preflight.ts";
import { giveUpStartRights } from "./privileges.ts";

/** A flag of `run`: the configuration key it sets and how its text is read. */
interface Flag {
  readonly key: ConfigKey;
  readonly value: string;
  readonly help: string;
  readonly read: "string" | "strings" | "number" | "numbers" | "true" | "false";
}

const FLAGS: Readonly<Record<string, Flag>> = {
  "policy": { key: "policy", value: "NAME", help: "path-selection policy (below; adaptive)", read: "string" },
  "profile": {
    key: "profile",
    value: "NAME",
    help: `timers: ${Object.keys(PROFILES).join(", ")} (fast)`,
    read: "string",
  },
  "datapath": { key: "datapath", value: "NAME", help: `backend: ${DATAPATHS.join(", ")}`, read: "string" },
  "accounting": {
    key: "accounting",
    value: "NAME",
    help: `how payload is counted: ${ACCOUNTINGS.join(", ")}`,
    read: "string",
  },
  "interface": {
    key: "interfaces",
    value: "NAME",
    help: "use the addresses of this interface (repeatable; default all)",
    read: "strings",
  },
  "locator": {
    key: "locators",
    value: "ADDR",
    help: "use this address as a locator (repeatable; default all)",
    read: "strings",
  },
  "control": { key: "control", value: "PATH", help: `control socket (${DEFAULT_CONTROL_PATH})`, read: "string" },
  "identity": {
    key: "identity",
    value: "FILE",
    help: "what proves this host's locators (made by hba new or cga new)",
    read: "string",
  },
  "prefer": {
    key: "prefer",
    value: "LOCATOR=PREF",
    help: "what to prefer of a locator, e.g. eth1=200,weight=5,transient (repeatable; priority 100, lower is better)",
    read: "strings",
  },
  "protocol": {
    key: "protocol",
    value: "N",
    help: "protocol number of Shim6 (140); others are for tests, and the peer must use the same",
    read: "number",
  },
  "insecure-locators": {
    key: "insecure_locators",
    value: "",
    help: "accept locators of peers that nothing proves: for testbeds only",
    read: "true",
  },
  "insecure-prefix": {
    key: "insecure_prefixes",
    value: "PREFIX",
    help: "accept unverified locators only in this prefix (repeatable)",
    read: "strings",
  },
  "log-level": { key: "log_level", value: "LEVEL", help: LOG_LEVELS.join(", "), read: "string" },
  "log-format": { key: "log_format", value: "FORMAT", help: "text or json", read: "string" },
  "events": { key: "events", value: "FILE", help: "append what happens to contexts as JSON lines", read: "string" },
  "pcap": { key: "pcap", value: "FILE", help: "capture control messages for Wireshark", read: "string" },
  "no-hold": {
    key: "hold",
    value: "",
    help: "do not hold and release copies while a path is in doubt",
    read: "false",
  },
  "coordinates": {
    key: "coordinates",
    value: "",
    help: "exchange network coordinates also with a policy that does not use them",
    read: "true",
  },
  "establish-after-packets": {
    key: "establish.after_packets",
    value: "N",
    help: "establish a context after N packets of a flow (50)",
    read: "number",
  },
  "establish-after-seconds": {
    key: "establish.after_seconds",
    value: "T",
    help: "or when a flow has lived T seconds (10)",
    read: "number",
  },
  "establish-always": {
    key: "establish.always",
    value: "PREFIX",
    help: "establish at once with peers in this prefix (repeatable)",
    read: "strings",
  },
  "establish-never": {
    key: "establish.never",
    value: "PREFIX",
    help: "never establish with peers in this prefix (repeatable)",
    read: "strings",
  },
  "exclude-port": {
    key: "establish.excluded_ports",
    value: "PORT",
    help: "flows of this port never establish a context (repeatable; 53 and 853)",
    read: "numbers",
  },
  "send-timeout-ms": { key: "timers.send_timeout_ms", value: "MS", help: "REAP Send Timeout", read: "number" },
};

function help(): string {
  const lines = Object.entries(FLAGS).map(([name, flag]) =>
    `  --${(flag.value === "" ? name : `${name} ${flag.value}`).padEnd(30)} ${flag.help}`
  );
  return [
    "usage: shim6-agent [run] [options]",
    "",
    `  --${"config FILE".padEnd(30)} settings in TOML (${DEFAULT_CONFIG_PATH} if it exists)`,
    ...lines,
    "",
    "policies:",
    ...policyNames().map((name) => `  ${name.padEnd(10)} ${createPolicy(name).summary}`),
  ].join("\n");
}

/** Reads the command line of `run`. Throws {@linkcode UsageError}; undefined when help was asked for. */
export function readRunArguments(args: string[]): AgentConfig | undefined {
  const names = (...reads: Flag["read"][]) => Object.keys(FLAGS).filter((name) => reads.includes(FLAGS[name].read));
  const values = [...names("string", "strings", "number", "numbers"), "config"];
  const flags = parseArgs(args, {
    string: values,
    boolean: [...names("true", "false"), "help"],
    collect: names("strings", "numbers"),
    unknown: (flag: string) => {
      throw new UsageError(
        flag.startsWith("-")
          ? `unknown option ${flag}; shim6-agent run --help lists the options`
          : `unexpected argument ${flag}; shim6-agent run takes options only`,
      );
    },
  }) as Record<string, unknown>;
  if (flags.help === true) return undefined;

  const file = flags.config as string | undefined;
  const fromFile = readConfigFile(file ?? DEFAULT_CONFIG_PATH, file !== undefined);
  const raw: Record<string, unknown> = { ...fromFile };
  const flagOf = new Map<ConfigKey, string>();
  for (const [name, flag] of Object.entries(FLAGS)) {
    const given = flags[name];
    // parseArgs fills in false and [] for flags that were not given.
    if (given === undefined || given === false || (Array.isArray(given) && given.length === 0)) continue;
    if (given === "") throw new UsageError(`--${name} needs a value: --${name} ${flag.value}`);
    if (!flag.read.endsWith("s") && Array.isArray(given)) throw new UsageError(`--${name} was given twice`);
    flagOf.set(flag.key, `--${name}`);
    raw[flag.key] = readFlag(name, flag, given);
  }
  const origin = file ?? DEFAULT_CONFIG_PATH;
  return checkConfig(raw as RawConfig, (key) => flagOf.get(key) ?? `${origin}: ${key}`);
}

function readFlag(name: string, flag: Flag, given: unknown): unknown {
  const number = (text: string): number => {
    if (!/^\d+(\.\d+)?$/.test(text)) throw new UsageError(`--${name}: expected a number, got ${JSON.stringify(text)}`);
    return Number(text);
  };
  switch (flag.read) {
    case "true":
      return true;
    case "false":
      return false;
    case "number":
      return number(given as string);
    case "numbers":
      return (given as string[]).map(number);
    case "string":
    case "strings":
      return given;
  }
}

/** Lets the engine do in memory what it will have to do when a path fails; a step at a time. */
export type Rehearsal = (policy: () => Policy, profile: Profile) => Iterable<void>;

/** The rehearsal begins so long after the start, in ms, and pauses so long between its steps. */
const REHEARSE_AFTER_MS = 100, REHEARSAL_PAUSE_MS = 20;

/** What the program knows and the agent does not. */
export interface RunOptions {
  /** The program's own module, for the datapath's thread. */
  readonly moduleUrl: string;
  /** Why threads of the runtime have more rights than they need, if they have. */
  readonly keptRights?: string;
  /** Loads the rehearsal. */
  readonly loadRehearsal: () => Promise<Rehearsal>;
}

/** Runs the agent until SIGTERM or SIGINT. */
export async function runCommand(
  args: string[],
  { moduleUrl, keptRights, loadRehearsal }: RunOptions,
): Promise<number> {
  const config = readRunArguments(args);
  if (config === undefined) {
    console.log(help());
    return 0;
  }
  preflight();
  const stopLogging = await startLogging(config.logLevel, config.logFormat);
  try {
    // This thread waits for the one of the packet loop, which cannot load by itself what no run has compiled before.
    await import("../datapath/tun_worker.ts");
    const agent = await Agent.start(config, moduleUrl);
    giveUpStartRights();
    if (keptRights !== undefined) log.warn("threads of the runtime keep all of root's rights", { because: keptRights });
    const isOver = new AbortController();
    const rehearsed = rehearse(loadRehearsal, config, isOver.signal);
    const stop = () => agent.stop();
    Deno.addSignalListener("SIGTERM", stop);
    Deno.addSignalListener("SIGINT", stop);
    try {
      await agent.finished;
    } finally {
      Deno.removeSignalListener("SIGTERM", stop);
      Deno.removeSignalListener("SIGINT", stop);
      isOver.abort();
      await rehearsed;
    }
  } finally {
    await stopLogging();
  }
  return 0;
}

/** Between the agent's turns. What goes wrong in it harms nothing. */
async function rehearse(
  load: RunOptions["loadRehearsal"],
  { policy, profile }: AgentConfig,
  isOver: AbortSignal,
): Promise<void> {
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  const begun = performance.now();
  let busyMs = 0, since: number;
  try {
    await pause(REHEARSE_AFTER_MS);
    if (isOver.aborted) return;
    since = performance.now();
    const rehearsal = await load();
    for (const _ of rehearsal(() => createPolicy(policy), profile)) {
      busyMs += performance.now() - since;
      await pause(REHEARSAL_PAUSE_MS);
      if (isOver.aborted) return;
      since = performance.now();
    }
    log.debug("failover rehearsed", { ms: Math.round(performance.now() - begun), busy_ms: Math.round(busyMs) });
  } catch (error) {
    log.warn("the rehearsal of a failover went wrong", { error });
  }
}
