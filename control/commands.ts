/** The console commands that talk to a running agent. */

import { parseArgs } from "@std/cli";
import { DEFAULT_CONTROL_PATH } from "../agent/config.ts";
import { UsageError } from "../agent/errors.ts";
import { ask, follow } from "./client.ts";
import type { ContextReport, PathReport, Request, StatusReport, WhyReport } from "./protocol.ts";
import { renderContexts, renderEvent, renderPaths, renderStatus, renderWhy } from "./render.ts";

/** A command that talks to a running agent. */
export interface ConsoleCommand {
  /** Operands, for usage and for counting. */
  readonly operands: readonly string[];
  /** One line for `--help`. */
  readonly summary: string;
  readonly request: (operands: readonly string[]) => Request;
  readonly render: (result: unknown) => string;
}

/** The console commands by name. */
export const CONSOLE_COMMANDS: Readonly<Record<string, ConsoleCommand>> = {
  status: {
    operands: [],
    summary: "what the agent is and does: locators, contexts, counters",
    request: () => ({ command: "status" }),
    render: (result) => renderStatus(result as StatusReport),
  },
  contexts: {
    operands: [],
    summary: "the contexts and the path each one uses",
    request: () => ({ command: "contexts" }),
    render: (result) => renderContexts(result as ContextReport[]),
  },
  paths: {
    operands: [],
    summary: "what is known about each locator pair",
    request: () => ({ command: "paths" }),
    render: (result) => renderPaths(result as PathReport[]),
  },
  why: {
    operands: ["CONTEXT"],
    summary: "the story of a context: failure, detection, probes with their reasons, choice",
    request: ([context]) => ({ command: "why", context }),
    render: (result) => renderWhy(result as WhyReport),
  },
  watch: {
    operands: [],
    summary: "events as they happen, until interrupted",
    request: () => ({ command: "watch" }),
    render: () => "",
  },
  explore: {
    operands: ["CONTEXT"],
    summary: "explore the paths of a context now, as after a failure",
    request: ([context]) => ({ command: "explore", context }),
    render: (result) => result as string,
  },
  switch: {
    operands: ["CONTEXT", "LOCAL", "PEER"],
    summary: "move a context to another locator pair, where it stays until that one fails",
    request: ([context, local, peer]) => ({ command: "switch", context, local, peer }),
    render: (result) => result as string,
  },
  prefer: {
    operands: ["LOCATOR=PREFERENCE"],
    summary:
      "what to prefer of a locator (an address, a prefix or an interface): its priority (lower is better; 100\n" +
      "unless set), then ,weight=W ,transient or ,broken as wanted, e.g. eth1=200 or eth1=broken; peers are told",
    request: ([preference]) => ({ command: "prefer", preference }),
    render: (result) => result as string,
  },
  fork: {
    operands: ["CONTEXT"],
    summary: "open another context between the same ULIDs (RFC 5533, 4.2)",
    request: ([context]) => ({ command: "fork", context }),
    render: (result) => result as string,
  },
  policy: {
    operands: ["NAME"],
    summary: "change the path-selection policy of the running agent",
    request: ([name]) => ({ command: "policy", name }),
    render: (result) => result as string,
  },
  forget: {
    operands: ["CONTEXT"],
    summary: "discard a context; its traffic goes on by the kernel's own path",
    request: ([context]) => ({ command: "forget", context }),
    render: (result) => result as string,
  },
};

/** Runs a console command. Returns the exit code; wrong use throws {@linkcode UsageError}. */
export async function consoleCommand(name: string, args: string[]): Promise<number> {
  const command = CONSOLE_COMMANDS[name];
  const usage = `usage: shim6-agent ${[name, ...command.operands].join(" ")} [--json] [--control PATH]`;
  const flags = parseArgs(args, {
    string: ["control", "_"],
    boolean: ["json", "help"],
    default: { control: DEFAULT_CONTROL_PATH },
    unknown: (flag: string) => {
      if (flag.startsWith("-")) throw new UsageError(`unknown option ${flag}; ${usage}`);
    },
  });
  if (flags.help) {
    console.log(`${usage}\n\n${command.summary}`);
    return 0;
  }
  const operands = flags._.map(String);
  if (operands.length !== command.operands.length) throw new UsageError(usage);
  const request = command.request(operands);
  if (request.command === "watch") {
    for await (const event of follow(flags.control)) {
      console.log(flags.json ? JSON.stringify(event) : renderEvent(event));
    }
    return 0;
  }
  const result = await ask(flags.control, request);
  console.log(flags.json ? JSON.stringify(result, null, 2) : command.render(result));
  return 0;
}
