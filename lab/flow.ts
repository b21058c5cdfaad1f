/** The paper's traffic in the testbed: one datagram every so often. */

import { monotonicNow, UdpSource, withNetns } from "deno-tun";
import type { LabHost } from "./topology.ts";

const PORT = 5002;
const LENGTH = 64;

/** What one host sends to another. Whatever comes back is dropped: the agents have counted it before. */
export class Flow {
  readonly #source: UdpSource;
  readonly #intervalMs: number;
  /** How much later than planned each datagram left, ms: a measure of how busy the machine is. */
  readonly latenessMs: number[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Opens the flow between the first addresses of two hosts; nothing is sent yet. Throws SystemError. */
  constructor(from: LabHost, to: LabHost, intervalMs: number) {
    const open = () => UdpSource.open(from.addresses[0], to.addresses[0], PORT, LENGTH);
    this.#source = withNetns(from.netnsFd, open);
    this.#intervalMs = intervalMs;
  }

  /** Sends the next datagram after `phaseMs`, and one every interval from then on. */
  restart(phaseMs: number): void {
    clearTimeout(this.#timer);
    const due = monotonicNow() + phaseMs;
    this.#timer = setTimeout(() => {
      this.latenessMs.push(Math.max(0, monotonicNow() - due));
      this.#source.send(); // that a path is dead is no news here
      this.restart(this.#intervalMs);
    }, phaseMs);
  }

  /** Ends the flow. */
  close(): void {
    clearTimeout(this.#timer);
    this.#source.close();
  }
}
