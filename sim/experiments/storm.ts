/** A host with very many peers loses a provider: all its contexts fail at once (paper §5.4, §6). */

import type { Policy } from "../../policies/policy.ts";
import type { Profile } from "../../reap/profile.ts";
import type { EngineEvent } from "../../shim6/api.ts";
import type { Address } from "../../wire/address.ts";
import { SeededRandom } from "../random.ts";
import { Traffic } from "../traffic.ts";
import { allPairs, type VirtualHost, VirtualNetwork } from "../virtual_network.ts";
import { HostWatch } from "./host_watch.ts";
import { peakInWindow, type Quantiles, quantiles, round, shareBelow } from "./statistics.ts";

/** How the host learns of it: not at all, or its interface goes down. */
export const NOTICES = ["silent", "link"] as const;

/** What the experiment is told. */
export interface StormOptions {
  readonly policy: () => Policy;
  readonly profile: Profile;
  /** Peers of the host, one context with each; at most 65,535. */
  readonly contexts: number;
  readonly trials: number;
  readonly seed: number;
  /** The delay of each path is drawn uniformly between these, in ms. */
  readonly delayMs: readonly [number, number];
  readonly pauseMs: number;
  readonly notice: typeof NOTICES[number];
}

/** What happened to the contexts. */
export interface StormReport {
  readonly exploration_ms: Quantiles;
  readonly share_below_390_ms: number;
  readonly share_below_600_ms: number;
  /** Contexts without a working path after an hour. */
  readonly unrecovered: number;
  /** Probes of both hosts for each context. */
  readonly messages_per_recovery: number;
  /** Probes of all hosts in any 100 ms, and in any second. */
  readonly peak_messages_per_100_ms: number;
  readonly peak_messages_per_s: number;
  /** From the failure until the first host left Operational. */
  readonly first_detection_ms: Quantiles;
  /** From then until a context's two hosts send on paths that work. */
  readonly since_first_detection_ms: Quantiles;
  /** From the failure until then. */
  readonly recovery_ms: Quantiles;
}

/** One run. Times in ms from the failure on. */
export interface StormOutcome {
  readonly explorationMs: readonly number[];
  readonly recoveryMs: readonly number[];
  readonly firstDetectionMs: number;
  /** When each probe was sent, ascending. */
  readonly probesAt: readonly number[];
}

/** The host's locators: the provider of the first one dies. Those of the peers differ in the third group. */
const HOST_LOCATORS: readonly Address[] = ["2001:db8:0:1::1", "2001:db8:0:2::1"];
const TRAFFIC_INTERVAL_MS = 1_000;
const PATIENCE_MS = 3_600_000;
/** Contexts are established this far apart: nobody talks to a thousand peers at the same moment. */
const ESTABLISHMENT_SPACING_MS = 5;

/** Runs the storms. */
export function runStorm(options: StormOptions): StormOutcome[] {
  const master = new SeededRandom(options.seed);
  return Array.from({ length: options.trials }, () => new StormLab(options, master.fork()).run());
}

/** Puts the figures together. */
export function stormReport(outcomes: readonly StormOutcome[]): StormReport {
  const explorations = outcomes.flatMap((outcome) => outcome.explorationMs);
  const recoveries = outcomes.flatMap((outcome) => outcome.recoveryMs);
  const probes = outcomes.reduce((sum, { probesAt }) => sum + probesAt.length, 0);
  return {
    exploration_ms: quantiles(explorations),
    share_below_390_ms: shareBelow(explorations, 390),
    share_below_600_ms: shareBelow(explorations, 600),
    unrecovered: recoveries.filter((ms) => ms === Infinity).length,
    messages_per_recovery: round(probes / recoveries.length, 3),
    peak_messages_per_100_ms: Math.max(...outcomes.map(({ probesAt }) => peakInWindow(probesAt, 100))),
    peak_messages_per_s: Math.max(...outcomes.map(({ probesAt }) => peakInWindow(probesAt, 1_000))),
    first_detection_ms: quantiles(outcomes.map(({ firstDetectionMs }) => firstDetectionMs)),
    since_first_detection_ms: quantiles(
      outcomes.flatMap(({ recoveryMs, firstDetectionMs }) => recoveryMs.map((ms) => ms - firstDetectionMs)),
    ),
    recovery_ms: quantiles(recoveries),
  };
}

/** A context between the host and one of its peers. */
class WatchedContext {
  readonly host: HostWatch;
  readonly peer: HostWatch;
  /** When both hosts last began to send on paths that work, monotonic ms; Infinity while they do not. */
  wellSince = 0;
  readonly #network: VirtualNetwork;

  constructor(network: VirtualNetwork, local: Address, peer: Address) {
    this.#network = network;
    this.host = new HostWatch({ local, peer });
    this.peer = new HostWatch({ local: peer, peer: local });
  }

  /** Looks again whether all is well. */
  judge(now: number): void {
    const isWell = [this.host, this.peer].every(({ operational, current }) =>
      operational && this.#network.path(current.local, current.peer).up
    );
    if (!isWell) this.wellSince = Infinity;
    else if (this.wellSince === Infinity) this.wellSince = now;
  }
}

/** One host and its peers. */
class StormLab {
  readonly #network: VirtualNetwork;
  readonly #host: VirtualHost;
  readonly #contexts = new Map<number, WatchedContext>();
  readonly #peerLocators: Address[] = [];
  readonly #options: StormOptions;
  readonly #random: SeededRandom;
  readonly #probesAt: number[] = [];
  #unwell = 0;

  constructor(options: StormOptions, random: SeededRandom) {
    const network = this.#network = new VirtualNetwork({ seed: random.uint32() });
    const { policy, profile, contexts } = options;
    this.#options = options;
    this.#random = random;
    const host = this.#host = network.addHost("H", HOST_LOCATORS, { profile, policy: policy() });
    host.onEvent = (event) => {
      const context = this.#contexts.get(event.context ?? NaN);
      if (context !== undefined) this.#handle(context, context.host, event);
    };
    for (let i = 1; i <= contexts; i++) {
      this.#addPeer(i);
      network.run(ESTABLISHMENT_SPACING_MS);
    }
  }

  run(): StormOutcome {
    const { notice, pauseMs, delayMs } = this.#options;
    const network = this.#network, { clock } = network;
    network.run(Math.max(pauseMs, 2 * TRAFFIC_INTERVAL_MS));
    for (const { host, peer } of this.#contexts.values()) {
      host.reset();
      peer.reset();
    }
    const failedAt = clock.now;
    this.#probesAt.length = 0;
    for (const peer of this.#peerLocators) network.cut({ local: HOST_LOCATORS[0], peer }, true);
    for (const context of this.#contexts.values()) this.#judge(context, failedAt);
    if (notice === "link") this.#host.setUsable(HOST_LOCATORS[0], false);
    // Packets that are still under way may be answered, and may even make a host explore again.
    while (network.runUntil(() => this.#unwell === 0, PATIENCE_MS)) {
      network.run(2 * delayMs[1] + 1);
      if (this.#unwell === 0) break;
    }
    const contexts = [...this.#contexts.values()];
    const left = contexts.flatMap(({ host, peer }) => [host, peer]).filter(({ departures }) => departures > 0);
    return {
      explorationMs: left.map(({ explorationMs }) => explorationMs),
      recoveryMs: contexts.map(({ wellSince }) => Math.max(0, wellSince - failedAt)),
      firstDetectionMs: left.reduce((first, { leftAt }) => Math.min(first, leftAt), Infinity) - failedAt,
      probesAt: this.#probesAt.map((at) => at - failedAt),
    };
  }

  /** A peer with two locators, a context with it, and its traffic. */
  #addPeer(number: number): void {
    const { delayMs: [low, high], policy, profile } = this.#options;
    const network = this.#network, random = this.#random;
    const locators = [1, 2].map((provider) => `2001:db8:${number.toString(16)}:${provider}::1`);
    this.#peerLocators.push(...locators);
    for (const { local, peer } of allPairs(HOST_LOCATORS, locators)) {
      network.path(local, peer).delayMs = low + (high - low) * random.next();
      network.path(peer, local).delayMs = low + (high - low) * random.next();
    }
    const peer = network.addHost("P", locators, { profile, policy: policy() });
    const context = new WatchedContext(network, HOST_LOCATORS[0], locators[0]);
    peer.onEvent = (event) => this.#handle(context, context.peer, event);
    this.#contexts.set(this.#host.establish(HOST_LOCATORS[0], locators[0]), context);
    for (
      const [from, to, ulid] of [[this.#host, peer, context.host.current], [
        peer,
        this.#host,
        context.peer.current,
      ]] as const
    ) {
      const start = () => new Traffic(network, { from, to, ulid, intervalMs: TRAFFIC_INTERVAL_MS, bothWays: false });
      network.clock.after(TRAFFIC_INTERVAL_MS * (1 + random.next()), start);
    }
  }

  #handle(context: WatchedContext, end: HostWatch, event: EngineEvent): void {
    end.handle(event);
    if (event.kind === "probe-sent") this.#probesAt.push(event.at);
    else if (event.kind === "reap" || event.kind === "switch") this.#judge(context, event.at);
  }

  #judge(context: WatchedContext, now: number): void {
    const wasWell = context.wellSince < Infinity;
    context.judge(now);
    const isWell = context.wellSince < Infinity;
    if (wasWell !== isWell) this.#unwell += isWell ? -1 : 1;
  }
}
