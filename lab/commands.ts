/** `shim6-agent lab …`: the testbed of network namespaces on this machine. */

import { parseArgs } from "@std/cli";
import { SystemError } from "deno-tun";
import { CommandError, UsageError } from "../agent/errors.ts";
import { hbaSets, removeIdentityFile, trustArguments } from "./identities.ts";
import { type LabHost, Topology, TopologyError } from "./topology.ts";

const HELP = `usage: shim6-agent lab COMMAND [options]

  up [--name N] [--providers AxB] [--advertised] [--plain]
                                                    build the testbed and leave it standing
  down [--name N]                                   remove it, with the processes in it
  failover [options]                                break the path of a stream and measure what happens
  exploration [options]                             break paths again and again: how long the agents explore
  delays [options]                                  which paths they choose when the paths have different delays
  provider [options]                                kill a provider again and again: how long the agents explore
  traffic PROGRAM [options]                         an ordinary program that sends or receives

each has --help`;

/** Runs `lab` with its arguments. Returns the exit code; throws UsageError and CommandError. */
export async function labCommand(args: string[]): Promise<number> {
  const [command, ...rest] = args;
  switch (command) {
    case undefined:
      console.error(HELP);
      return 2;
    case "--help":
    case "-h":
      console.log(HELP);
      return 0;
    case "up":
      return explained(() => upCommand(rest));
    case "down":
      return explained(() => downCommand(rest));
    case "failover": {
      const { failoverCommand } = await import("./failover.ts");
      return await explained(() => failoverCommand(rest));
    }
    case "exploration": {
      const { explorationCommand } = await import("./trial_commands.ts");
      return await explained(() => explorationCommand(rest));
    }
    case "delays": {
      const { delaysCommand } = await import("./trial_commands.ts");
      return await explained(() => delaysCommand(rest));
    }
    case "provider": {
      const { providerCommand } = await import("./trial_commands.ts");
      return await explained(() => providerCommand(rest));
    }
    case "traffic": {
      const { trafficCommand } = await import("./traffic.ts");
      return await trafficCommand(rest);
    }
    case "emulator": {
      const { emulatorCommand } = await import("./emulator.ts");
      return emulatorCommand(rest);
    }
    default:
      throw new UsageError(`unknown lab command ${command}; shim6-agent lab --help lists the commands`);
  }
}

/** Says in one sentence what keeps the testbed from standing on this machine. */
async function explained(run: () => number | Promise<number>): Promise<number> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof TopologyError) throw new CommandError(error.message);
    if (error instanceof SystemError && (error.code === "EPERM" || error.code === "EACCES")) {
      throw new CommandError(`the testbed needs root or a user namespace of its own (${error.message})`);
    }
    throw error;
  }
}

async function upCommand(args: string[]): Promise<number> {
  const usage = "usage: shim6-agent lab up [--name N] [--providers AxB] [--advertised] [--plain]";
  const flags = parseArgs(args, {
    string: ["name", "providers"],
    boolean: ["advertised", "plain", "help"],
    default: { name: "shim6", providers: "3x3" },
    unknown: (flag: string) => {
      throw new UsageError(`unknown argument ${flag}; ${usage}`);
    },
  });
  if (flags.help) {
    console.log(`${usage}

builds two hosts and a router in the network namespaces N-a, N-b and N-r, and leaves them standing; --providers says how
many links host a and host b have (3x3), --advertised lets their addresses come by router advertisement; the addresses of
a host are a set of HBAs (RFC 5535), which its agent can prove, or with --plain ordinary ones`);
    return 0;
  }
  const providers = /^([1-9])x([1-9])$/.exec(flags.providers);
  if (providers === null) throw new UsageError(`--providers ${flags.providers}: two numbers from 1 to 9, as in 3x3`);
  const counts = [Number(providers[1]), Number(providers[2])] as const;
  const topology = Topology.create({
    name: flags.name,
    providers: counts,
    advertised: flags.advertised,
    identities: flags.plain ? undefined : await hbaSets(counts),
    named: true,
  });
  const { a, b } = topology;
  console.log(`router ${topology.router.namespace}`);
  for (const host of [a, b]) {
    console.log(`host   ${host.namespace}`);
    for (const provider of host.providers) console.log(`         ${provider.interface}  ${provider.address}/64`);
  }
  const agent = async (host: LabHost) => {
    const trust = await trustArguments(host, identityFile(host.namespace!));
    return `  ip netns exec ${host.namespace} shim6-agent run ${trust.join(" ")} --control /run/${host.namespace}.sock`;
  };
  console.log(`
an agent on each host, in two terminals:
${await agent(a)}
${await agent(b)}
a flow between them: ip netns exec ${a.namespace} ping -I ${a.addresses[0]} ${b.addresses[0]}
break its path:      ip -n ${topology.router.namespace} route add blackhole ${b.addresses[0]} from ${a.addresses[0]}
remove all:          shim6-agent lab down${flags.name === "shim6" ? "" : ` --name ${flags.name}`}`);
  topology.release();
  return 0;
}

function downCommand(args: string[]): number {
  const usage = "usage: shim6-agent lab down [--name N]";
  const flags = parseArgs(args, {
    string: ["name"],
    boolean: ["help"],
    default: { name: "shim6" },
    unknown: (flag: string) => {
      throw new UsageError(`unknown argument ${flag}; ${usage}`);
    },
  });
  if (flags.help) {
    console.log(`${usage}\n\nends the processes in the testbed and removes its network namespaces`);
    return 0;
  }
  console.log(Topology.remove(flags.name) ? `removed ${flags.name}` : `there is no testbed ${flags.name}`);
  for (const letter of ["a", "b"]) removeIdentityFile(identityFile(`${flags.name}-${letter}`));
  return 0;
}

/** Where the identity of a standing host is, as long as it stands. */
function identityFile(namespace: string): string {
  return `/run/${namespace}.identity`;
}
