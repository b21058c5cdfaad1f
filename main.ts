/**
 * The command line: which command was meant. Commands are loaded when they are called, so that the agent does not carry
 * the testbed and `--help` needs no permission.
 */

import { CommandError, UsageError } from "./agent/errors.ts";
import { VERSION } from "./agent/version.ts";

const HELP = `shim6-agent ${VERSION}: IPv6 multihoming that survives path failures (RFC 5533, RFC 5534)

usage: shim6-agent [run] [options]       run the agent (see run --help)
       shim6-agent COMMAND [--help]

  status | contexts | paths | watch      what a running agent knows
  why CONTEXT                            the story of a context's path
  explore | fork | forget CONTEXT        act on a context
  switch CONTEXT LOCAL PEER              move a context to another locator pair
  policy NAME                            change the policy of a running agent
  prefer LOCATOR=PREFERENCE              tell peers which locators to use
  hba | cga new | verify                 addresses that prove that they belong together
  doctor [PEER…]                         what would keep a failover from working, and its repair
  lab up|down|failover|exploration|…     a testbed of network namespaces on this machine
  sim exploration|delays|…               experiments in virtual time, with the agent's engine
  compare --out DIR                      policies side by side: JSON, figures, one HTML page

every listing takes --json; --version prints the version`;

async function main(args: string[]): Promise<number> {
  const [first, ...rest] = args;
  if (first === "--version") {
    console.log(`shim6-agent ${VERSION}`);
    return 0;
  }
  if (first === "--help" || first === "-h" || first === "help") {
    console.log(HELP);
    return 0;
  }
  if (first === undefined || first === "run" || first.startsWith("-")) {
    // Before all that the agent loads: what starts anew should have done as little as possible.
    const { becomeUnprivileged } = await import("./agent/privileges.ts");
    const keptRights = args.includes("--help") ? undefined : becomeUnprivileged();
    const { runCommand } = await import("./agent/run.ts");
    return await runCommand(first === "run" ? rest : args, {
      moduleUrl: import.meta.url,
      keptRights,
      loadRehearsal: async () => (await import("./sim/rehearsal.ts")).rehearsal,
    });
  }
  if (first === "lab") {
    const { labCommand } = await import("./lab/commands.ts");
    return await labCommand(rest);
  }
  if (first === "hba" || first === "cga") {
    const { identityCommand } = await import("./control/identity_commands.ts");
    return await identityCommand(args, import.meta.url);
  }
  if (first === "doctor") {
    const { doctorCommand } = await import("./control/doctor.ts");
    return await doctorCommand(rest);
  }
  if (first === "sim") {
    const { simCommand } = await import("./sim/commands.ts");
    return await simCommand(rest);
  }
  if (first === "compare") {
    return await (await loadCompare())(rest);
  }
  const { CONSOLE_COMMANDS, consoleCommand } = await import("./control/commands.ts");
  if (Object.hasOwn(CONSOLE_COMMANDS, first)) return await consoleCommand(first, rest);
  throw new UsageError(`unknown command ${first}; shim6-agent --help lists the commands`);
}

/** The figures need more code than the whole agent, so the executable is built without: the name is hidden from bundlers. */
async function loadCompare(): Promise<(args: string[]) => Promise<number>> {
  const path = "./report/compare.ts";
  try {
    const { compareCommand }: { compareCommand: (args: string[]) => Promise<number> } = await import(path);
    return compareCommand;
  } catch (error) {
    if (error instanceof TypeError) {
      throw new CommandError("this executable is built without the figures; run deno task compare in the sources");
    }
    throw error;
  }
}

if ("WorkerGlobalScope" in globalThis && self.name === "datapath") {
  // This module again, as the datapath's thread: one file holds both roles.
  const { tunWorkerMain } = await import("./datapath/tun_worker.ts");
  tunWorkerMain();
} else if ("WorkerGlobalScope" in globalThis && self.name === "modifier-search") {
  const { modifierSearchWorker } = await import("./agent/modifier_search.ts");
  modifierSearchWorker();
} else if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    if (error instanceof UsageError || error instanceof CommandError) {
      console.error(`shim6-agent: ${error.message}`);
      Deno.exit(error instanceof UsageError ? 2 : 1);
    }
    throw error;
  }
}
