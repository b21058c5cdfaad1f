/**
 * What network coordinates are worth: hosts that have talked to some others meet new ones, and the path in use fails before
 * much could be measured. Some hosts may lie about where they are.
 */

import { distanceMs } from "../../policies/coordinates.ts";
import type { LocatorPair, Policy } from "../../policies/policy.ts";
import type { Profile } from "../../reap/profile.ts";
import type { EngineEvent } from "../../shim6/api.ts";
import type { Address } from "../../wire/address.ts";
import { SeededRandom } from "../random.ts";
import { Traffic } from "../traffic.ts";
import { allPairs, type VirtualHost, VirtualNetwork } from "../virtual_network.ts";
import { Geography } from "./geography.ts";
import type { FailureOutcome } from "./host_pair.ts";
import { hostOutcomes, HostWatch } from "./host_watch.ts";
import { type LIES, makeLiar } from "./liars.ts";
import type { NOTICES } from "./storm.ts";
import { mean, quantile, round } from "./statistics.ts";
import { explorationTimes, type RecoveryReport, recoveryReport } from "./trials.ts";

/** What the experiment is told. */
export interface CoordinatesOptions {
  readonly policy: () => Policy;
  readonly profile: Profile;
  readonly hosts: number;
  /** Locators of each host. */
  readonly locators: number;
  /** Others with whom each host begins to talk in the warm-up; the same number begins with it, on average. */
  readonly peers: number;
  readonly warmUpMs: number;
  /** How long two hosts that have met live in peace before the path between them fails. */
  readonly pauseMs: number;
  readonly notice: typeof NOTICES[number];
  readonly trials: number;
  readonly seed: number;
  /** Share of the hosts that lie, 0 … 1. */
  readonly liars: number;
  readonly lie: typeof LIES[number];
}

/** A failure between two hosts that have just met. */
export interface Encounter extends FailureOutcome {
  /** Whether the first probe of the host that noticed first left on its fastest working path; undefined: none left. */
  readonly firstProbeBest: boolean | undefined;
}

/** What the coordinates of honest hosts that never met say of the paths between them. NaN without coordinates. */
export interface PredictionReport {
  /** Of |predicted - real| / real over all locator pairs. */
  readonly median_error: number;
  readonly p90_error: number;
  /** How often the locator pair of the shortest prediction is the fastest one of all. */
  readonly first_best_share: number;
  /** By how much its round-trip time is longer than that one's on average, ms; and that of any pair. */
  readonly first_excess_ms: number;
  readonly any_excess_ms: number;
}

/** What happened. */
export interface CoordinatesReport extends RecoveryReport {
  /** Share of triangles with a side that is longer than the two others. */
  readonly violations_share: number;
  /** Null when the policy has no coordinates. */
  readonly prediction: PredictionReport | null;
  /** What the honest hosts report of themselves; null as above. */
  readonly reported:
    | { readonly median_error: number; readonly rankings: number; readonly first_best_share: number }
    | null;
  /** How often the first probe left on the fastest working path. */
  readonly first_probe_best_share: number;
}

/** Delays so close are the same, ms one way. */
const SAME_MS = 0.5;
const TRAFFIC_INTERVAL_MS = 1_000;
const PATIENCE_MS = 3_600_000, ESTABLISHMENT_MS = 60_000;
/** Contexts of the warm-up begin so far apart, ms. */
const SPACING_MS = 50;
const TRIANGLES = 5_000;

/** A network whose hosts have warmed up. */
export class CoordinatesLab {
  readonly #options: CoordinatesOptions;
  readonly #random: SeededRandom;
  readonly #network: VirtualNetwork;
  readonly #geography: Geography;
  readonly #hosts: readonly VirtualHost[];
  readonly #addresses: readonly (readonly Address[])[];
  readonly #met = new Set<string>();
  readonly #liars: number;

  constructor(options: CoordinatesOptions) {
    this.#options = options;
    const { policy, profile, hosts, locators, seed } = options;
    const random = this.#random = new SeededRandom(seed);
    const network = this.#network = new VirtualNetwork({ seed: random.uint32() });
    const geography = this.#geography = new Geography(hosts, locators, random.fork());
    this.#addresses = Array.from(
      { length: hosts },
      (_, host) => Array.from({ length: locators }, (_, i) => `2001:db8:${(host + 1).toString(16)}:${i + 1}::1`),
    );
    this.#addresses.forEach((own, a) =>
      this.#addresses.forEach((theirs, b) =>
        own.forEach((source, i) =>
          theirs.forEach((destination, j) => {
            if (a !== b) network.path(source, destination).delayMs = geography.delayMs(a, i, b, j);
          })
        )
      )
    );
    this.#hosts = this.#addresses.map((own, host) => network.addHost(`${host}`, own, { profile, policy: policy() }));
    for (const host of this.#hosts) host.onEvent = () => {};
    this.#liars = Math.round(options.liars * hosts);
    const liarRandom = random.fork();
    for (const host of this.#hosts.slice(0, this.#liars)) makeLiar(host, options.lie, liarRandom.fork());
    this.#warmUp();
  }

  /** Two honest hosts meet, the path in use fails, and is mended. Undefined when all have met. */
  meet(): Encounter | undefined {
    const strangers = this.#strangers();
    if (strangers.length === 0) return undefined;
    const [a, b] = strangers[this.#random.below(strangers.length)];
    this.#met.add(`${a} ${b}`);
    return this.#fail(a, b);
  }

  /** What coordinates say of honest hosts that never met. */
  predictions(): PredictionReport | null {
    if (this.#hosts[0].engine!.predictionAccuracy === undefined) return null;
    const errors: number[] = [], excess: number[] = [], any: number[] = [];
    let best = 0;
    for (const [a, b] of this.#strangers()) {
      const paths = allPairs(this.#addresses[a], this.#addresses[b]).map(({ local, peer }) => ({
        rttMs: this.#network.path(local, peer).delayMs + this.#network.path(peer, local).delayMs,
        predictedMs: distanceMs(this.#coordinatesOf(a).own(local), this.#coordinatesOf(b).own(peer)),
      }));
      for (const { rttMs, predictedMs } of paths) errors.push(Math.abs(predictedMs - rttMs) / rttMs);
      const shortest = Math.min(...paths.map(({ rttMs }) => rttMs));
      const first = paths.reduce((x, y) => y.predictedMs < x.predictedMs ? y : x);
      if (first.rttMs <= shortest + 2 * SAME_MS) best++;
      excess.push(first.rttMs - shortest);
      any.push(mean(paths.map(({ rttMs }) => rttMs)) - shortest);
    }
    errors.sort((x, y) => x - y);
    return {
      median_error: round(quantile(errors, 0.5), 3),
      p90_error: round(quantile(errors, 0.9), 3),
      first_best_share: round(best / excess.length, 3),
      first_excess_ms: round(mean(excess), 2),
      any_excess_ms: round(mean(any), 2),
    };
  }

  /** Puts the figures together. `prediction`: from before the encounters. */
  report(encounters: readonly Encounter[], prediction: PredictionReport | null): CoordinatesReport {
    const judged = encounters.filter(({ firstProbeBest }) => firstProbeBest !== undefined);
    return {
      violations_share: round(this.#geography.violations(TRIANGLES, this.#random.fork()), 3),
      prediction,
      reported: this.#reported(),
      first_probe_best_share: round(judged.filter((each) => each.firstProbeBest).length / judged.length, 3),
      ...recoveryReport(encounters, explorationTimes(encounters)),
    };
  }

  #reported(): CoordinatesReport["reported"] {
    const accuracies = this.#hosts.slice(this.#liars).map((host) => host.engine!.predictionAccuracy);
    if (accuracies[0] === undefined) return null;
    const errors = accuracies.map((each) => each!.medianError).filter((error) => !Number.isNaN(error));
    const rankings = accuracies.reduce((sum, each) => sum + each!.rankings, 0);
    return {
      median_error: round(quantile(errors.sort((x, y) => x - y), 0.5), 3),
      rankings,
      first_best_share: round(accuracies.reduce((sum, each) => sum + each!.firstBest, 0) / rankings, 3),
    };
  }

  #coordinatesOf(host: number) {
    return this.#hosts[host].engine!.book.coordinates!;
  }

  /** Pairs of honest hosts that have not met, the lower number first. */
  #strangers(): [number, number][] {
    const pairs: [number, number][] = [];
    for (let a = this.#liars; a < this.#hosts.length; a++) {
      for (let b = a + 1; b < this.#hosts.length; b++) if (!this.#met.has(`${a} ${b}`)) pairs.push([a, b]);
    }
    return pairs;
  }

  /** Everybody talks to some others, honest or not. */
  #warmUp(): void {
    const { hosts, peers, warmUpMs } = this.#options;
    const traffic: Traffic[] = [];
    for (let a = 0; a < hosts; a++) {
      for (let chosen = 0; chosen < Math.min(peers, hosts - 1);) {
        const b = this.#random.below(hosts);
        if (a === b) continue;
        chosen++;
        const key = `${Math.min(a, b)} ${Math.max(a, b)}`;
        if (this.#met.has(key)) continue;
        this.#met.add(key);
        this.#hosts[a].establish(this.#addresses[a][0], this.#addresses[b][0]);
        this.#network.run(SPACING_MS);
        traffic.push(...this.#talk(a, b));
      }
    }
    this.#network.run(warmUpMs);
    for (const flow of traffic) flow.stop();
    this.#network.run(TRAFFIC_INTERVAL_MS);
    for (const host of this.#hosts) forgetAll(host);
  }

  /** A packet a second each way, out of step. */
  #talk(a: number, b: number): Traffic[] {
    const flows: Traffic[] = [];
    for (const [from, to] of [[a, b], [b, a]]) {
      const ulid = { local: this.#addresses[from][0], peer: this.#addresses[to][0] };
      const options = { from: this.#hosts[from], to: this.#hosts[to], ulid, intervalMs: TRAFFIC_INTERVAL_MS };
      flows.push(new Traffic(this.#network, { ...options, bothWays: false }));
      this.#network.run(TRAFFIC_INTERVAL_MS * this.#random.next() / 10);
    }
    return flows;
  }

  #fail(a: number, b: number): Encounter {
    const network = this.#network, { clock } = network;
    const ulid = { local: this.#addresses[a][0], peer: this.#addresses[b][0] };
    const ends = [a, b].map((host) => {
      const ownUlid = host === a ? ulid : { local: ulid.peer, peer: ulid.local };
      const watch = new HostWatch(ownUlid);
      const end = { host: this.#hosts[host], ulid: ownUlid, watch, firstProbe: undefined as LocatorPair | undefined };
      end.host.onEvent = (event: EngineEvent) => {
        if (event.ulid?.local !== ownUlid.local || event.ulid.peer !== ownUlid.peer) return;
        watch.handle(event);
        if (event.kind === "probe-sent" && !watch.operational) end.firstProbe ??= event.pair;
      };
      return end;
    });
    const works = ({ local, peer }: LocatorPair) => network.path(local, peer).up;
    const isWell = () => ends.every(({ watch }) => watch.operational && works(watch.current));
    this.#hosts[a].establish(ulid.local, ulid.peer);
    const isThere = () => ends.every(({ host, ulid }) => host.context(ulid.local, ulid.peer)?.state === "ESTABLISHED");
    if (!network.runUntil(isThere, ESTABLISHMENT_MS)) throw new Error("the hosts got no context");
    const traffic = this.#talk(a, b);
    network.run(this.#options.pauseMs);

    for (const { watch } of ends) watch.reset();
    const failedAt = clock.now;
    if (this.#options.notice === "link") {
      for (const peer of this.#addresses[b]) network.cut({ local: ulid.local, peer }, true);
      this.#hosts[a].setUsable(ulid.local, false);
    } else for (const { watch } of ends) network.cut(watch.current);
    let recoveredAt = Infinity;
    do {
      if (!network.runUntil(isWell, PATIENCE_MS)) break;
      recoveredAt = clock.now;
      network.run(200); // packets that are under way may be answered
    } while (!isWell());
    const recovered = isWell();
    const left = ends.filter(({ watch }) => watch.departures > 0)
      .toSorted((x, y) => x.watch.leftAt - y.watch.leftAt);
    const first = left.find(({ firstProbe }) => firstProbe !== undefined);
    const delayMs = ({ local, peer }: LocatorPair) => network.path(local, peer).delayMs;
    const best = ({ ulid: { local } }: { ulid: LocatorPair }) => {
      const [from, to] = local === ulid.local ? [a, b] : [b, a];
      return Math.min(...allPairs(this.#addresses[from], this.#addresses[to]).filter(works).map(delayMs));
    };
    const outcome: Encounter = {
      hosts: hostOutcomes(ends.map(({ watch }) => watch), failedAt),
      recovered,
      recoveryMs: recovered ? recoveredAt - failedAt : Infinity,
      messages: ends.reduce((sum, { watch }) => sum + watch.probes, 0),
      broken: this.#options.notice === "link" ? 2 * this.#options.locators : 2,
      forth: NaN,
      back: NaN,
      rttMs: ends.reduce((sum, { watch }) => sum + delayMs(watch.current), 0),
      bestRttMs: ends.reduce((sum, end) => sum + best(end), 0),
      firstProbeBest: first && works(first.firstProbe!) && delayMs(first.firstProbe!) <= best(first) + SAME_MS,
    };
    for (const flow of traffic) flow.stop();
    for (const { host } of ends) {
      host.onEvent = () => {};
      forgetAll(host);
    }
    network.mendAll();
    this.#hosts[a].setUsable(ulid.local, true);
    network.run(TRAFFIC_INTERVAL_MS);
    return outcome;
  }
}

/** Ends all contexts of a host. What it has learnt stays. */
function forgetAll(host: VirtualHost): void {
  host.with((engine, now) => {
    for (const { id } of [...engine.contexts()]) engine.forget(id, now);
  });
}

/** Runs the experiment; ends early when all hosts have met. */
export function runCoordinates(options: CoordinatesOptions): { encounters: Encounter[]; report: CoordinatesReport } {
  const lab = new CoordinatesLab(options);
  const prediction = lab.predictions();
  const encounters: Encounter[] = [];
  while (encounters.length < options.trials) {
    const encounter = lab.meet();
    if (encounter === undefined) break;
    encounters.push(encounter);
  }
  return { encounters, report: lab.report(encounters, prediction) };
}
