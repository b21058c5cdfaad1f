/** An agent of the testbed: a process of its own on one of its hosts. */

import { monotonicNow } from "deno-tun";
import { CommandError } from "../agent/errors.ts";
import type { LoggedEvent } from "../agent/event_log.ts";
import { ask } from "../control/client.ts";
import type { ContextReport, StatusReport } from "../control/protocol.ts";
import type { LocatorPair } from "../policies/policy.ts";
import { samePair } from "../policies/policy.ts";
import { trustArguments } from "./identities.ts";
import type { Executable } from "./self.ts";
import type { LabHost, Topology } from "./topology.ts";

/** How to start an agent. */
export interface AgentOptions {
  readonly executable: Executable;
  /** Its arguments beside those that the testbed needs. */
  readonly args: readonly string[];
  /** A folder for its control socket, its identity, event log and messages. */
  readonly directory: string;
}

/** Something in the testbed did not happen in time. */
export class LabTimeout extends CommandError {
  /** `LabTimeout` */
  override name = "LabTimeout";
}

const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 5_000;
const PAUSE_MS = 20;

/** Waits, asking every `pauseMs`, until `done` says so. Throws {@linkcode LabTimeout}. */
export async function waitFor(
  what: string,
  timeoutMs: number,
  done: () => Promise<boolean> | boolean,
  pauseMs: number = PAUSE_MS,
): Promise<void> {
  const deadline = monotonicNow() + timeoutMs;
  while (!await done()) {
    if (monotonicNow() > deadline) throw new LabTimeout(`${what}: not within ${timeoutMs / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

const NEWLINE = 10;

/** The events of one context in lines of an event log; a last line without its end is left out. */
function parseEvents(text: string, ulid: LocatorPair): LoggedEvent[] {
  return text.split("\n").slice(0, -1).map((line) => JSON.parse(line) as LoggedEvent)
    .filter((event) => event.ulid !== undefined && samePair(event.ulid, ulid));
}

/** A running agent. */
export class AgentProcess {
  readonly host: LabHost;
  readonly #process: Deno.ChildProcess;
  readonly #control: string;
  readonly #eventsFile: string;
  readonly #logFile: string;
  readonly #logging: Promise<void>;
  #exit: Deno.CommandStatus | undefined;
  /** Octets of the event log. */
  #eventsRead = 0;

  private constructor(topology: Topology, host: LabHost, options: AgentOptions, trust: readonly string[]) {
    this.host = host;
    this.#control = `${options.directory}/${host.name}.sock`;
    this.#eventsFile = `${options.directory}/${host.name}.events.jsonl`;
    this.#logFile = `${options.directory}/${host.name}.log`;
    const { command, args } = options.executable;
    this.#process = topology.spawn(host, command, {
      args: [
        ...args,
        "run",
        ...trust,
        ...host.providers.flatMap((provider) => ["--interface", provider.interface]),
        "--control",
        this.#control,
        "--events",
        this.#eventsFile,
        ...options.args,
      ],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    });
    this.#process.status.then((status) => this.#exit = status);
    const log = Deno.openSync(this.#logFile, { write: true, create: true, truncate: true });
    this.#logging = this.#process.stderr.pipeTo(log.writable);
  }

  /** Starts an agent and waits until it answers. Throws CommandError when it does not come up. */
  static async start(topology: Topology, host: LabHost, options: AgentOptions): Promise<AgentProcess> {
    const trust = await trustArguments(host, `${options.directory}/${host.name}.identity`);
    const agent = new AgentProcess(topology, host, options, trust);
    await waitFor(`the agent of host ${host.name} answers`, START_TIMEOUT_MS, async () => {
      if (agent.#exit !== undefined) {
        await agent.#logging;
        throw new CommandError(
          `the agent of host ${host.name} ended at once: ${Deno.readTextFileSync(agent.#logFile)}`,
        );
      }
      return await agent.#answers();
    });
    return agent;
  }

  async #answers(): Promise<boolean> {
    try {
      await this.status();
      return true;
    } catch (error) {
      if (error instanceof CommandError || error instanceof Deno.errors.ConnectionReset) return false; // not ready yet
      throw error;
    }
  }

  /** As `status --json` shows it. */
  async status(): Promise<StatusReport> {
    return await ask<StatusReport>(this.#control, { command: "status" });
  }

  /** The context between two ULIDs, if there is one. */
  async context(ulid: LocatorPair): Promise<ContextReport | undefined> {
    return (await this.status()).contexts.find((context) => samePair(context.ulid, ulid));
  }

  /** The events of the context between two ULIDs so far, oldest first. */
  events(ulid: LocatorPair): LoggedEvent[] {
    const text = Deno.readTextFileSync(this.#eventsFile);
    return parseEvents(text, ulid);
  }

  /** As {@linkcode events}, but only those that were logged since the last call. */
  newEvents(ulid: LocatorPair): LoggedEvent[] {
    using file = Deno.openSync(this.#eventsFile);
    const octets = new Uint8Array(file.seekSync(0, Deno.SeekMode.End) - this.#eventsRead);
    file.seekSync(this.#eventsRead, Deno.SeekMode.Start);
    const length = file.readSync(octets) ?? 0;
    const whole = octets.subarray(0, length).lastIndexOf(NEWLINE) + 1;
    this.#eventsRead += whole;
    return parseEvents(new TextDecoder().decode(octets.subarray(0, whole)), ulid);
  }

  /** Ends it as its user would. */
  async stop(): Promise<void> {
    const kill = (signal: Deno.Signal) => {
      try {
        this.#process.kill(signal);
      } catch { /* it has ended by itself */ }
    };
    kill("SIGTERM");
    const timer = setTimeout(() => kill("SIGKILL"), STOP_TIMEOUT_MS);
    await this.#process.status;
    clearTimeout(timer);
    await this.#logging;
  }
}
