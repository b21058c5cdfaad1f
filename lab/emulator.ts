/**
 * The path emulator as a program of its own in the router's network namespace. The kernel routes the packets of
 * emulated paths into its TUN device; it holds each as long as its path asks for and writes it back into the device,
 * from where the kernel forwards it. It works in one thread that sleeps in poll(2).
 *
 * It obeys JSON lines on its standard input ({@linkcode EmulatorRequest}), answers each with a line on its standard
 * output, and ends with its input: when the lab dies, the device and its routes vanish.
 */

import {
  closeFd,
  FrameBuffer,
  monotonicNow,
  Netlink,
  openTun,
  PollEvent,
  PollSet,
  runInRealTime,
  setTunOffloads,
  TimerFd,
  TunOffload,
} from "deno-tun";
import { parseArgs } from "@std/cli";
import { parsePrefix } from "../wire/address.ts";
import {
  FRAME_HEADER,
  MAX_FRAME,
  type PathCounters,
  PathEmulator,
  type PathSettings,
  Verdict,
} from "./emulator_core.ts";
import { jsonLines } from "./json_lines.ts";

/** The emulator's TUN device, unless told otherwise. */
export const EMULATOR_DEVICE = "emu0";

/** How a path behaves, as it stands in a request: what is absent keeps its value. */
export interface PathRequest {
  /** /64 prefixes. */
  readonly from: string;
  readonly to: string;
  readonly delay_ms?: number;
  readonly jitter_ms?: number;
  readonly reorder?: boolean;
  readonly loss?: number;
  readonly rate_mbit?: number;
  readonly queue_ms?: number;
  readonly up?: boolean;
}

/** One line to the emulator: set a path, or without one just tell the state. */
export interface EmulatorRequest {
  readonly id: number;
  readonly path?: PathRequest;
}

/** What the emulator has done so far. */
export interface EmulatorState {
  readonly paths: readonly PathCounters[];
  /** Packets held now. */
  readonly held: number;
  /** Packets dropped because they were of no known path, because there was no room, or because the kernel refused. */
  readonly unclassified: number;
  readonly overflow: number;
  readonly refused: number;
  /** How much later than due packets left, in ms. */
  readonly lateness_ms: { readonly p50: number; readonly p99: number; readonly max: number };
}

/** One line from the emulator. The first one has the id 0 and says that the device is there. */
export type EmulatorReply =
  | { readonly id: number; readonly ok: true; readonly state: EmulatorState }
  | { readonly id: number; readonly ok: false; readonly error: string };

/** 1 Gbit/s for the longest delay of a path in the lab, 0.5 s. */
const ARENA = 64 << 20;
/** As many full-size packets as fit into the arena, and some small ones. */
const CAPACITY = 1 << 16;
/** Between two looks at the clock. */
const READ_BATCH = 16;
/** Between two looks at the control input. */
const ROUNDS = 64;

const STDIN = 0;
const INPUT_LENGTH = 65536;

class EmulatorProgram {
  readonly #frames = new FrameBuffer(ARENA + MAX_FRAME + FRAME_HEADER);
  readonly #core: PathEmulator;
  readonly #tun: number;
  readonly #offloads: number;
  readonly #timer = new TimerFd();
  readonly #poll = new PollSet();
  readonly #input = new FrameBuffer(INPUT_LENGTH);
  readonly #decoder = new TextDecoder();
  readonly #encoder = new TextEncoder();
  #line = "";
  #armedAt = Infinity;
  #refused = 0;

  constructor(device: string, seed: number) {
    this.#core = new PathEmulator(this.#frames.octets.subarray(0, ARENA), CAPACITY, seed);
    const tun = openTun(device);
    this.#tun = tun.fd;
    this.#offloads = tun.offloads;
    const netlink = new Netlink();
    try {
      // The kernel's own solicitations would only come back to it.
      netlink.setLink(tun.index, { ownAddresses: false });
      netlink.setLink(tun.index, { up: true });
    } finally {
      netlink.close();
    }
    this.#poll.set(this.#tun, PollEvent.IN);
    this.#poll.set(this.#timer.fd, PollEvent.IN);
    this.#poll.set(STDIN, PollEvent.IN);
  }

  run(): void {
    this.#say({ id: 0, ok: true, state: this.#state() });
    for (;;) {
      const due = this.#core.nextDue();
      if (due !== this.#armedAt) {
        if (due === Infinity) this.#timer.disarm();
        else this.#timer.armAt(due);
        this.#armedAt = due;
      }
      this.#poll.wait(-1);
      if (this.#poll.ready(STDIN) !== 0 && !this.#control()) return;
      for (let round = 0; round < ROUNDS && this.#move(); round++);
    }
  }

  close(): void {
    this.#timer.close();
    closeFd(this.#tun);
  }

  /** Writes what is due and reads what has come. Returns whether there may be more at once. */
  #move(): boolean {
    const core = this.#core;
    let now = monotonicNow();
    for (let frame = core.takeDue(now); frame >= 0; frame = core.takeDue(now)) {
      this.#write(core.offsetOf(frame), core.lengthOf(frame));
      core.finish(frame);
      now = monotonicNow();
    }
    for (let i = 0; i < READ_BATCH; i++) {
      const place = core.reserve();
      const offset = place >= 0 ? place : ARENA;
      const length = this.#frames.read(this.#tun, offset, MAX_FRAME);
      if (length < 0) return false;
      if (place < 0) core.overflow++;
      else if (core.arrive(offset, length, now) === Verdict.FORWARD) this.#write(offset, length);
    }
    return true;
  }

  #write(offset: number, length: number): void {
    try {
      this.#frames.write(this.#tun, offset, length);
    } catch {
      this.#refused++; // as a real link would lose it
    }
  }

  /** Carries out what stands on standard input. Returns false at its end. */
  #control(): boolean {
    const length = this.#input.read(STDIN, 0, INPUT_LENGTH);
    if (length < 0) return true;
    if (length === 0) return false;
    const lines = (this.#line + this.#decoder.decode(this.#input.octets.subarray(0, length), { stream: true }))
      .split("\n");
    this.#line = lines.pop()!;
    for (const line of lines) this.#say(this.#answer(line));
    return true;
  }

  #answer(line: string): EmulatorReply {
    let id = -1;
    try {
      const request = JSON.parse(line) as EmulatorRequest;
      id = request.id;
      if (request.path !== undefined) this.#setPath(request.path);
      return { id, ok: true, state: this.#state() };
    } catch (error) {
      return { id, ok: false, error: error instanceof Error ? error.message : String(error) };
    }
  }

  #setPath(path: PathRequest): void {
    const wanted: { -readonly [K in keyof PathSettings]: PathSettings[K] | undefined } = {
      delayMs: path.delay_ms,
      jitterMs: path.jitter_ms,
      reorder: path.reorder,
      loss: path.loss,
      rateMbit: path.rate_mbit,
      queueMs: path.queue_ms,
      up: path.up,
    };
    const change = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined));
    this.#core.setPath(parsePrefix(path.from), parsePrefix(path.to), change);
    // A lost packet must be one packet of the wire, not a super-packet of forty.
    setTunOffloads(this.#tun, this.#core.needsSinglePackets ? this.#offloads & TunOffload.CSUM : this.#offloads);
  }

  #state(): EmulatorState {
    const core = this.#core;
    return {
      paths: core.counters(),
      held: core.held,
      unclassified: core.unclassified,
      overflow: core.overflow,
      refused: this.#refused,
      lateness_ms: {
        p50: core.latenessQuantile(0.5),
        p99: core.latenessQuantile(0.99),
        max: core.latenessQuantile(1),
      },
    };
  }

  #say(reply: EmulatorReply): void {
    const octets = this.#encoder.encode(JSON.stringify(reply) + "\n");
    for (let done = 0; done < octets.length;) done += Deno.stdout.writeSync(octets.subarray(done));
  }
}

/** Runs the emulator in the calling process's network namespace until its standard input ends. */
export function emulatorMain(device: string, seed: number): void {
  // Time on emulated paths must pass as asked for, however busy the machine is with what is tested.
  runInRealTime();
  const program = new EmulatorProgram(device, seed);
  try {
    program.run();
  } finally {
    program.close();
  }
}

/** The lab's end of a running emulator. */
export class Emulator {
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #waiting = new Map<number, (reply: EmulatorReply) => void>();
  readonly #encoder = new TextEncoder();
  readonly #reading: Promise<void>;
  #next = 1;
  #ended = false;

  private constructor(process: Deno.ChildProcess) {
    this.#process = process;
    this.#writer = process.stdin.getWriter();
    this.#reading = this.#read();
  }

  /** Takes over a process that runs {@linkcode emulatorMain}, with piped input and output; waits for its device. */
  static async attach(process: Deno.ChildProcess): Promise<Emulator> {
    const emulator = new Emulator(process);
    await emulator.#answerTo(0);
    return emulator;
  }

  /** Sets how a path behaves. Throws what the emulator refused. */
  async setPath(path: PathRequest): Promise<void> {
    await this.#ask({ path });
  }

  /** What it has done so far. */
  async state(): Promise<EmulatorState> {
    return await this.#ask({});
  }

  /** Ends it; its device is gone when this returns. */
  async close(): Promise<void> {
    this.#ended = true;
    await this.#writer.close().catch(() => {}); // it may be gone already
    await this.#process.status;
    await this.#reading;
  }

  async #ask(request: Omit<EmulatorRequest, "id">): Promise<EmulatorState> {
    const id = this.#next++;
    const answer = this.#answerTo(id);
    await this.#writer.write(this.#encoder.encode(JSON.stringify({ id, ...request }) + "\n"));
    return await answer;
  }

  async #answerTo(id: number): Promise<EmulatorState> {
    const reply = await new Promise<EmulatorReply>((resolve) => {
      if (this.#ended) resolve({ id, ok: false, error: "it has ended" });
      else this.#waiting.set(id, resolve);
    });
    if (reply.ok) return reply.state;
    throw new Error(`path emulator: ${reply.error}`);
  }

  async #read(): Promise<void> {
    for await (const reply of jsonLines<EmulatorReply>(this.#process.stdout)) {
      this.#waiting.get(reply.id)?.(reply);
      this.#waiting.delete(reply.id);
    }
    this.#ended = true;
    for (const [id, resolve] of this.#waiting) resolve({ id, ok: false, error: "it has ended" });
    this.#waiting.clear();
  }
}

/** `lab emulator`, which the testbed calls: not for the command line's help. Returns the exit code. */
export function emulatorCommand(args: string[]): number {
  const flags = parseArgs(args, { string: ["device", "seed"], default: { device: EMULATOR_DEVICE, seed: "1" } });
  emulatorMain(flags.device, Number(flags.seed));
  return 0;
}
