/**
 * Traffic programs for the testbed: ordinary programs with ordinary sockets that know nothing of Shim6. Each runs as a
 * process of its own, prints JSON lines, the last one its result, and comes to a clean end on SIGTERM.
 *
 * - `tcp-receive` takes one connection and hashes what comes.
 * - `tcp-send` sends one stream, as fast as it goes or a block every so often, and hashes what it sent.
 * - `udp` sends numbered datagrams at a steady pace and takes account of those of the other side.
 */

import { parseArgs } from "@std/cli";
import { monotonicNow } from "deno-tun";
import { CommandError, UsageError } from "../agent/errors.ts";
import { Reception, type ReceptionReport } from "./reception.ts";

// Not imported at the top: a bundle would load them at every start of the program, agents included, for 60 ms.
const { Buffer } = await import("node:buffer");
const { createHash } = await import("node:crypto");
const { default: dgram } = await import("node:dgram");
const { default: net } = await import("node:net");

/** A line of a traffic program. Times are monotonic ms. */
export type TrafficLine =
  /** The receiver may be connected to. */
  | { readonly event: "listening"; readonly address: string; readonly port: number }
  /** The connection stands. */
  | { readonly event: "connected"; readonly at: number }
  /** So many octets so far. */
  | { readonly event: "progress"; readonly at: number; readonly bytes: number }
  | { readonly event: "result"; readonly result: TrafficResult };

/** The last line of a traffic program. */
export type TrafficResult = TcpSent | TcpReceived | UdpExchanged;

/** What `tcp-send` did. */
export interface TcpSent {
  readonly program: "tcp-send";
  readonly bytes: number;
  readonly sha256: string;
  /** The receiver closed its end after ours: it has read everything. */
  readonly complete: boolean;
  readonly error: string | null;
}

/** What `tcp-receive` saw. */
export interface TcpReceived {
  readonly program: "tcp-receive";
  readonly bytes: number;
  readonly sha256: string;
  /** The stream ended because the sender closed it. */
  readonly complete: boolean;
  readonly error: string | null;
  readonly reception: ReceptionReport;
}

/** What one side of a UDP exchange did and saw. */
export interface UdpExchanged {
  readonly program: "udp";
  readonly sent: number;
  readonly bytes_sent: number;
  /** Sending failed: no route, no such address. Not counted in `sent`. */
  readonly send_errors: number;
  /** Different datagrams received, and their octets. */
  readonly received: number;
  readonly bytes_received: number;
  readonly duplicates: number;
  /** Arrived after one that was sent later. */
  readonly reordered: number;
  /** Not as they were sent. */
  readonly corrupt: number;
  /** Highest sequence number received, -1 when none; they count from 0. */
  readonly highest: number;
  /** Runs of datagrams that did not come, up to `highest`, in order. */
  readonly missing: readonly MissingRun[];
  /** One-way delay, ms (both sides read one clock). */
  readonly delay_ms: { readonly min: number; readonly mean: number; readonly max: number };
  readonly reception: ReceptionReport;
}

/** Consecutive datagrams that never arrived, sent after `after` and before `before` (monotonic ms). */
export interface MissingRun {
  readonly count: number;
  readonly after: number;
  readonly before: number;
}

const HELP = `usage: shim6-agent lab traffic tcp-receive --local ADDR --port N [--gap-ms G] [--progress-ms P]
       shim6-agent lab traffic tcp-send --local ADDR --peer ADDR --port N [--duration-ms D]
                                        [--block-bytes B] [--every-ms E]   (E 0: as fast as it goes)
       shim6-agent lab traffic udp --local ADDR --peer ADDR --port N [--duration-ms D] [--no-send] [--answer]
                                   [--block-bytes B] [--every-ms E] [--gap-ms G] [--progress-ms P]

ordinary sockets between two addresses; JSON lines, the last one the result; SIGTERM ends them. With --answer a side
sends only once it has heard the other.`;

interface Options {
  readonly local: string;
  readonly peer: string;
  readonly port: number;
  readonly durationMs: number;
  readonly blockBytes: number;
  readonly everyMs: number;
  readonly gapMs: number;
  readonly progressMs: number;
  readonly send: boolean;
  readonly answer: boolean;
}

/** `lab traffic PROGRAM …`. Returns the exit code. */
export async function trafficCommand(args: string[]): Promise<number> {
  const [program, ...rest] = args;
  if (program === undefined || program === "--help") {
    console.log(HELP);
    return 0;
  }
  const run = Object.hasOwn(PROGRAMS, program) ? PROGRAMS[program] : undefined;
  if (run === undefined) throw new UsageError(`unknown traffic program ${program}\n${HELP}`);
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  for (const signal of ["SIGTERM", "SIGINT"] as const) Deno.addSignalListener(signal, onSignal);
  try {
    say({ event: "result", result: await run(readOptions(rest), stop.signal) });
  } finally {
    for (const signal of ["SIGTERM", "SIGINT"] as const) Deno.removeSignalListener(signal, onSignal);
  }
  return 0;
}

const PROGRAMS: Readonly<Record<string, (options: Options, stop: AbortSignal) => Promise<TrafficResult>>> = {
  "tcp-receive": tcpReceive,
  "tcp-send": tcpSend,
  "udp": udpExchange,
};

function readOptions(args: string[]): Options {
  const flags = parseArgs(args, {
    string: ["local", "peer", "port", "duration-ms", "block-bytes", "every-ms", "gap-ms", "progress-ms"],
    boolean: ["send", "answer"],
    negatable: ["send"],
    default: {
      "duration-ms": "3600000",
      "block-bytes": "32768",
      "every-ms": "0",
      "gap-ms": "20",
      "progress-ms": "0",
      send: true,
    },
    unknown: (flag: string) => {
      throw new UsageError(`unknown argument ${flag}\n${HELP}`);
    },
  });
  const number = (name: "port" | "duration-ms" | "block-bytes" | "every-ms" | "gap-ms" | "progress-ms") => {
    const value = Number(flags[name]);
    if (!(value >= 0)) throw new UsageError(`--${name} needs a number, got ${flags[name]}`);
    return value;
  };
  if (flags.local === undefined) throw new UsageError(`--local is missing\n${HELP}`);
  return {
    local: flags.local,
    peer: flags.peer ?? "",
    port: number("port"),
    durationMs: number("duration-ms"),
    blockBytes: Math.max(UDP_HEADER, number("block-bytes")),
    everyMs: number("every-ms"),
    gapMs: number("gap-ms"),
    progressMs: number("progress-ms"),
    send: flags.send,
    answer: flags.answer,
  };
}

const encoder = new TextEncoder();

function say(line: TrafficLine): void {
  const octets = encoder.encode(JSON.stringify(line) + "\n");
  for (let done = 0; done < octets.length;) done += Deno.stdout.writeSync(octets.subarray(done));
}

/** Says how much has come, now and then. Returns what ends it. */
function reportProgress(reception: Reception, everyMs: number): () => void {
  if (everyMs === 0) return () => {};
  const timer = setInterval(() => {
    say({ event: "progress", at: monotonicNow(), bytes: reception.bytes });
  }, everyMs);
  return () => clearInterval(timer);
}

async function tcpReceive(options: Options, stop: AbortSignal): Promise<TcpReceived> {
  const listener = Deno.listen({ hostname: options.local, port: options.port });
  let connection: Deno.TcpConn | undefined;
  stop.addEventListener("abort", () => connection === undefined ? listener.close() : connection.close());
  say({ event: "listening", address: options.local, port: listener.addr.port });
  const reception = new Reception(options.gapMs);
  const hash = createHash("sha256");
  const endProgress = reportProgress(reception, options.progressMs);
  let complete = false, error: string | null = null;
  try {
    connection = await listener.accept();
    listener.close();
    say({ event: "connected", at: monotonicNow() });
    const buffer = new Uint8Array(1 << 18);
    for (;;) {
      const length = await connection.read(buffer);
      if (length === null) break;
      reception.add(monotonicNow(), length);
      hash.update(buffer.subarray(0, length));
    }
    complete = true;
    connection.close();
  } catch (failure) {
    error = stop.aborted ? "told to stop" : message(failure);
  } finally {
    endProgress();
  }
  const sha256 = hash.digest("hex");
  return { program: "tcp-receive", bytes: reception.bytes, sha256, complete, error, reception: reception.report() };
}

async function tcpSend(options: Options, stop: AbortSignal): Promise<TcpSent> {
  const socket = net.connect({ host: options.peer, port: options.port, localAddress: options.local });
  socket.setNoDelay(true);
  socket.resume();
  let error: string | null = null, over = false;
  let wake = () => {};
  socket.on("error", (failure: Error) => error = failure.message);
  socket.on("drain", () => wake());
  const closed = new Promise<void>((resolve) => {
    socket.once("close", () => {
      over = true;
      wake();
      resolve();
    });
  });
  const peerEnded = new Promise<void>((resolve) => socket.once("end", () => resolve()));
  await Promise.race([new Promise<void>((resolve) => socket.once("connect", () => resolve())), closed]);
  if (error !== null) throw new CommandError(`tcp ${options.local} to ${options.peer}: ${error}`);
  const start = monotonicNow();
  say({ event: "connected", at: start });

  const hash = createHash("sha256");
  const block = filler(options.blockBytes);
  const view = new DataView(block.buffer);
  let blocks = 0;
  while (!stop.aborted && !over && monotonicNow() < start + options.durationMs) {
    view.setUint32(0, blocks++); // no two blocks are alike, so that one lost or repeated shows in the hash
    hash.update(block);
    const drained = new Promise<void>((resolve) => wake = resolve);
    // A copy, since the socket keeps what it cannot send yet.
    if (!socket.write(Buffer.from(block)) && !over) await drained;
    if (options.everyMs > 0) await sleep(start + blocks * options.everyMs - monotonicNow(), stop);
  }
  // The receiver closes its end when it has read the end of the stream: then all has arrived.
  socket.end();
  await Promise.race([peerEnded, closed]);
  const complete = error === null;
  socket.destroy();
  await closed;
  return { program: "tcp-send", bytes: blocks * options.blockBytes, sha256: hash.digest("hex"), complete, error };
}

/** Sequence number (4 octets), then when it was sent (8 octets, monotonic ms). */
const UDP_HEADER = 12;
/** When it has stopped sending, it goes on listening for what is under way: longer than the longest path. */
const LINGER_MS = 700;

async function udpExchange(options: Options, stop: AbortSignal): Promise<UdpExchanged> {
  const socket = dgram.createSocket({ type: "udp6" });
  const reception = new Reception(options.gapMs);
  const pattern = filler(options.blockBytes);
  /** By sequence number, when each was sent. */
  const arrived = new Map<number, number>();
  let bytesReceived = 0, duplicates = 0, reordered = 0, corrupt = 0, highest = -1;
  let delayLeast = Infinity, delaySum = 0, delayMost = 0;
  socket.on("message", (datagram: Uint8Array) => {
    const now = monotonicNow();
    const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
    if (datagram.length !== pattern.length || !samePattern(datagram, pattern)) {
      corrupt++;
      return;
    }
    const sequence = view.getUint32(0);
    if (arrived.has(sequence)) {
      duplicates++;
      return;
    }
    const sentAt = view.getFloat64(4);
    arrived.set(sequence, sentAt);
    reception.add(now, datagram.length);
    bytesReceived += datagram.length;
    if (sequence < highest) reordered++;
    highest = Math.max(highest, sequence);
    const delay = now - sentAt;
    delayLeast = Math.min(delayLeast, delay);
    delaySum += delay;
    delayMost = Math.max(delayMost, delay);
  });
  let bindError: string | undefined;
  await new Promise<void>((resolve) => {
    socket.once("error", (failure: Error) => {
      bindError = failure.message;
      resolve();
    });
    socket.bind(options.port, options.local, () => resolve());
  });
  if (bindError !== undefined) throw new CommandError(`udp ${options.local}: ${bindError}`);
  socket.on("error", () => {}); // an ICMP error of an earlier datagram: the next one may get through
  say({ event: "listening", address: options.local, port: options.port });
  const endProgress = reportProgress(reception, options.progressMs);

  const start = monotonicNow();
  let sent = 0, sendErrors = 0, bytesSent = 0;
  const datagram = filler(options.blockBytes);
  const view = new DataView(datagram.buffer);
  for (let tick = 1; !stop.aborted && monotonicNow() < start + options.durationMs; tick++) {
    if (options.send && (!options.answer || arrived.size > 0)) {
      view.setUint32(0, sent);
      view.setFloat64(4, monotonicNow());
      const failure = await new Promise<Error | null>((resolve) => {
        socket.send(datagram, options.port, options.peer, (error: Error | null) => resolve(error));
      });
      if (failure === null) {
        sent++;
        bytesSent += datagram.length;
      } else sendErrors++;
    }
    await sleep(start + tick * options.everyMs - monotonicNow(), stop);
  }
  await new Promise((resolve) => setTimeout(resolve, LINGER_MS));
  endProgress();
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  return {
    program: "udp",
    sent,
    bytes_sent: bytesSent,
    send_errors: sendErrors,
    received: arrived.size,
    bytes_received: bytesReceived,
    duplicates,
    reordered,
    corrupt,
    highest,
    missing: missingRuns(arrived, highest),
    delay_ms: { min: arrived.size === 0 ? 0 : delayLeast, mean: delaySum / Math.max(1, arrived.size), max: delayMost },
    reception: reception.report(),
  };
}

function missingRuns(arrived: ReadonlyMap<number, number>, highest: number): MissingRun[] {
  const runs: MissingRun[] = [];
  let count = 0, after = 0;
  for (let sequence = 0; sequence <= highest; sequence++) {
    const sentAt = arrived.get(sequence);
    if (sentAt === undefined) {
      count++;
      continue;
    }
    if (count > 0) runs.push({ count, after, before: sentAt });
    count = 0;
    after = sentAt;
  }
  return runs;
}

/** Octets without a short period, the same in every process. */
function filler(length: number): Uint8Array<ArrayBuffer> {
  const octets = new Uint8Array(length);
  for (let i = 0, state = 1; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0; // Numerical Recipes' generator
    octets[i] = state >>> 24;
  }
  return octets;
}

function samePattern(datagram: Uint8Array, pattern: Uint8Array): boolean {
  for (let i = UDP_HEADER; i < pattern.length; i++) if (datagram[i] !== pattern[i]) return false;
  return true;
}

/** Waits `ms`, or until told to stop. */
async function sleep(ms: number, stop: AbortSignal): Promise<void> {
  if (ms <= 0 || stop.aborted) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer);
      stop.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    stop.addEventListener("abort", done);
  });
}

function message(failure: unknown): string {
  return failure instanceof Error ? failure.message : String(failure);
}
