/** Applications of the virtual network: packets at regular intervals, one way or both ways. */

import type { LocatorPair } from "../policies/policy.ts";
import type { TrafficStatistics, VirtualHost } from "./virtual_host.ts";
import type { VirtualNetwork } from "./virtual_network.ts";

/** A flow between two hosts. */
export interface TrafficOptions {
  readonly from: VirtualHost;
  readonly to: VirtualHost;
  /** ULIDs as `from` sees them. */
  readonly ulid: LocatorPair;
  readonly intervalMs: number;
  /** Whether `to` sends as well, at the same interval. */
  readonly bothWays: boolean;
  /** Each gap is longer or shorter by up to this share; 0: regular. */
  readonly jitter?: number;
  readonly bytes?: number;
}

/** Packets that flow until they are stopped. */
export class Traffic {
  readonly #network: VirtualNetwork;
  readonly #options: TrafficOptions;
  readonly #flow: number;
  #sequence = 0;
  #running = true;
  #sentForth = 0;
  #sentBack = 0;

  constructor(network: VirtualNetwork, options: TrafficOptions) {
    this.#network = network;
    this.#options = options;
    this.#flow = network.newFlow();
    this.#send(true);
    if (options.bothWays) network.clock.after(options.intervalMs / 2, () => this.#send(false));
  }

  /** Sends no more. */
  stop(): void {
    this.#running = false;
  }

  /** What `to` got. */
  get forth(): TrafficStatistics {
    return { ...this.#options.to.received(this.#flow), sent: this.#sentForth };
  }

  /** What `from` got. */
  get back(): TrafficStatistics {
    return { ...this.#options.from.received(this.#flow), sent: this.#sentBack };
  }

  #send(forth: boolean): void {
    if (!this.#running) return;
    const { from, to, ulid, intervalMs, jitter = 0, bytes = 100 } = this.#options;
    const { clock, random } = this.#network;
    const direction = forth
      ? { source: ulid.local, destination: ulid.peer }
      : { source: ulid.peer, destination: ulid.local };
    if (forth) this.#sentForth++;
    else this.#sentBack++;
    (forth ? from : to).send({
      ulid: direction,
      flow: this.#flow,
      sequence: this.#sequence++,
      bytes,
      sentAt: clock.now,
    });
    clock.after(intervalMs * (1 + jitter * (2 * random.next() - 1)), () => this.#send(forth));
  }
}
