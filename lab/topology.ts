/**
 * The testbed: two multihomed hosts and a router between them, in network namespaces of their own.
 *
 * ```text
 *   host a                      router                      host b
 *   a1 2001:db8:a1::a/64 ──── r-a1        r-b1 ──── 2001:db8:b1::b/64 b1
 *   a2 2001:db8:a2::a/64 ──── r-a2        r-b2 ──── 2001:db8:b2::b/64 b2
 *   a3 2001:db8:a3::a/64 ──── r-a3        r-b3 ──── 2001:db8:b3::b/64 b3
 * ```
 *
 * These are the plain addresses. Given an identity (HBA or CGA), a host has the addresses that it binds instead.
 *
 * Each link stands for a provider with a prefix of its own: its default route on the host counts for its prefix only,
 * and the router takes nothing else from it (ingress filtering, BCP 38). Each ordered pair of prefixes is a
 * unidirectional path: the router normally forwards it, but drops it, refuses it or hands it to the path emulator when a
 * route `to PREFIX from PREFIX` says so.
 */

import {
  closeNetns,
  createNetns,
  deleteNamedNetns,
  nameNetns,
  Netlink,
  type RouteSpec,
  RTPROT_STATIC,
  withNetns,
  writeSysctl,
} from "deno-tun";
import type { Identity } from "../agent/identity.ts";
import { type Address, inPrefix, type Prefix } from "../wire/address.ts";
import { EMULATOR_DEVICE } from "./emulator.ts";
import { waitUntil, waitUntilReady } from "./ready.ts";
import { advertise } from "./router_advertisement.ts";

/** How the router treats the packets of a unidirectional path. */
export type PathState =
  | "up"
  /** Dropped in silence. */
  | "down"
  /** Refused with an ICMPv6 error. */
  | "unreachable"
  /** Handed to the path emulator, whose device must exist. */
  | "emulated";

/** The link between a host and a provider. */
export type LinkState =
  | "up"
  /** Up on the host's side, but nobody is there: the host keeps its address. */
  | "no-carrier"
  /** Set down on the host's side: the kernel takes the addresses and routes away. */
  | "down";

/** What becomes of a host's address. */
export type AddressState = "preferred" | "deprecated" | "absent";

/** A provider of a host: a link with a prefix. */
export interface Provider {
  /** Interface on the host, e.g. `a1`. */
  readonly interface: string;
  /** The router's end of the link, e.g. `r-a1`. */
  readonly routerInterface: string;
  /** What the provider has delegated. */
  readonly prefix: Prefix;
  /** The host's address in the prefix. */
  readonly address: Address;
}

/** One of the three namespaces. */
export interface LabNode {
  /** `a`, `b` or `r`. */
  readonly name: string;
  /** For `ip netns exec`; undefined where namespaces cannot be named. */
  readonly namespace: string | undefined;
  /** The network namespace. */
  readonly netnsFd: number;
  /** Opened in the namespace. */
  readonly netlink: Netlink;
}

/** A host. */
export interface LabHost extends LabNode {
  readonly providers: readonly Provider[];
  /** Of the providers, in their order. */
  readonly addresses: readonly Address[];
  /** Of the providers, in their order. */
  readonly prefixes: readonly Prefix[];
  /** What binds the addresses; undefined for plain ones. */
  readonly identity: Identity | undefined;
}

/** How to build a testbed. */
export interface TopologyOptions {
  /** The namespaces are called `NAME-a`, `NAME-b` and `NAME-r`; `shim6` when absent. */
  readonly name?: string;
  /** Providers of host a and host b, 1 to 9 each; three when absent. */
  readonly providers?: readonly [number, number];
  /** The addresses come by router advertisement; set by hand when absent. */
  readonly advertised?: boolean;
  /** Of host a and host b. Where one has no address in a prefix, the host's address there is a plain one. */
  readonly identities?: readonly [Identity | undefined, Identity | undefined];
  /** Where namespaces are named. Tried when absent: a user namespace has no right to. */
  readonly named?: boolean;
}

/** Something that the testbed does not have, or that is not possible now. */
export class TopologyError extends Error {
  /** `TopologyError` */
  override name = "TopologyError";
}

interface Path {
  readonly source: Provider;
  readonly destination: Provider;
  state: PathState;
  mtu: number | undefined;
}

const ROUTER_ADDRESS = "fe80::1";
const MAX_PROVIDERS = 9;
const IPV6_MIN_MTU = 1280;
const RT_TABLE_MAIN = 254;
/**
 * The paths that are not simply up. A table apart: where a destination has routes with a source, the kernel overlooks the
 * route to the same destination without one.
 */
const TABLE_PATHS = 100;
const RULE_PATHS = 10, RULE_OWN_PREFIX = 20, RULE_FOREIGN_PREFIX = 30;
const NETNS_NAMES = "/run/netns";

/** What is delegated to a host (`a` or `b`) with so many providers. */
export function providerPrefixes(letter: string, count: number): Prefix[] {
  return Array.from({ length: count }, (_, i) => ({ address: `2001:db8:${letter}${i + 1}::`, length: 64 }));
}

/** The testbed. */
export class Topology {
  /** The host with the prefixes `2001:db8:a1::/64` and on. */
  readonly a: LabHost;
  /** The host with the prefixes `2001:db8:b1::/64` and on. */
  readonly b: LabHost;
  /** The router. */
  readonly router: LabNode;
  readonly #advertised: boolean;
  readonly #paths: readonly Path[];
  readonly #addressStates = new Map<Address, AddressState>();
  readonly #children = new Set<Deno.ChildProcess>();

  private constructor(options: TopologyOptions) {
    const { name = "shim6", providers = [3, 3], advertised = false, identities = [] } = options;
    if (!providers.every((count) => Number.isInteger(count) && count >= 1 && count <= MAX_PROVIDERS)) {
      throw new TopologyError(`a host has 1 to ${MAX_PROVIDERS} providers, not ${providers.join(" and ")}`);
    }
    this.#advertised = advertised;
    const undo: (() => void)[] = [];
    try {
      const nodes = ["a", "b", "r"].map((letter) => createNode(letter, `${name}-${letter}`, options.named, undo));
      this.router = nodes[2];
      withNetns(this.router.netnsFd, () => writeSysctl("net/ipv6/conf/all/forwarding", 1));
      this.a = this.#createHost(nodes[0], providers[0], identities[0]);
      this.b = this.#createHost(nodes[1], providers[1], identities[1]);
      this.#paths = [...pathsBetween(this.a, this.b), ...pathsBetween(this.b, this.a)];
      for (const host of this.hosts) for (const provider of host.providers) this.#bringUp(host, provider);
    } catch (error) {
      for (const step of undo.reverse()) step();
      throw error;
    }
  }

  /**
   * Builds a testbed and returns when all its links are ready. One that an earlier run left behind under the same name
   * is removed first, with the processes in it. Needs root, or a user namespace of its own. Throws `SystemError`.
   */
  static create(options: TopologyOptions = {}): Topology {
    if (options.named !== false) Topology.remove(options.name);
    return new Topology(options);
  }

  /**
   * Removes a testbed by its name, with the processes in it, whoever built it. Returns whether there was one. Unnamed
   * ones vanish with their last process.
   */
  static remove(name = "shim6"): boolean {
    const namespaces = ["a", "b", "r"].map((letter) => `${name}-${letter}`);
    killProcessesIn(namespaces);
    return namespaces.filter(deleteNamedNetns).length > 0;
  }

  /** Both hosts. */
  get hosts(): readonly [LabHost, LabHost] {
    return [this.a, this.b];
  }

  /** Removes everything, after ending the processes that {@linkcode spawn} started. */
  async destroy(): Promise<void> {
    const children = [...this.#children];
    for (const child of children) kill(() => child.kill("SIGKILL"));
    await Promise.all(children.map((child) => child.status));
    this.#close();
    for (const { namespace } of this.#nodes()) if (namespace !== undefined) deleteNamedNetns(namespace);
  }

  /** Lets go of the testbed and leaves it standing, with its processes; {@linkcode remove} ends it. */
  release(): void {
    const { namespace } = this.router;
    if (namespace === undefined) throw new TopologyError("without a name the testbed ends with this process");
    this.#close();
  }

  /** As `destroy()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }

  /** Starts a program in a namespace. {@linkcode destroy} ends it if it still runs then. */
  spawn(node: LabNode, command: string | URL, options: Deno.CommandOptions = {}): Deno.ChildProcess {
    const child = withNetns(node.netnsFd, () => new Deno.Command(command, options).spawn());
    this.#children.add(child);
    child.status.finally(() => this.#children.delete(child));
    return child;
  }

  /** All unidirectional paths, in both directions. */
  paths(): { readonly from: Address; readonly to: Address; readonly state: PathState }[] {
    return this.#paths.map(({ source, destination, state }) => ({
      from: source.address,
      to: destination.address,
      state,
    }));
  }

  /** Sets how the router treats what goes from the prefix of one host's address to that of the other's. */
  setPath(from: Address, to: Address, state: PathState): void {
    const path = this.#path(from, to);
    this.#apply({ ...path, state });
    path.state = state;
  }

  /**
   * Sets the MTU (octets, from 1280 on) of a path: the router answers what is larger with Packet Too Big. Undefined: as
   * large as the links.
   */
  setMtu(from: Address, to: Address, mtu: number | undefined): void {
    if (mtu !== undefined && mtu < IPV6_MIN_MTU) throw new TopologyError(`an MTU of ${mtu} is below ${IPV6_MIN_MTU}`);
    const path = this.#path(from, to);
    this.#apply({ ...path, mtu });
    path.mtu = mtu;
  }

  /** Sets all paths from and to the prefix of an address: its provider has failed, or works again. */
  setProvider(address: Address, state: PathState): void {
    const [host] = this.#find(address);
    const other = host === this.a ? this.b : this.a;
    for (const peer of other.addresses) {
      this.setPath(address, peer, state);
      this.setPath(peer, address, state);
    }
  }

  /** The prefix of one of the hosts' addresses, as `2001:db8:a1::/64`. */
  prefixOf(address: Address): string {
    const { prefix } = this.#find(address)[1];
    return `${prefix.address}/${prefix.length}`;
  }

  /** Sets the state of the link on which an address is. Blocks until a link that comes up is ready. */
  setLink(address: Address, state: LinkState): void {
    const [host, provider] = this.#find(address);
    host.netlink.setLink(provider.interface, { up: state !== "down" });
    this.router.netlink.setLink(provider.routerInterface, { up: state !== "no-carrier" });
    if (state === "up") this.#bringUp(host, provider);
  }

  /**
   * Sets what becomes of a host's address, which is deleted, deprecated, or assigned; its routes stay. On a link that is
   * not up this takes effect when the link comes up.
   */
  setAddress(address: Address, state: AddressState): void {
    const [host, provider] = this.#find(address);
    this.#addressStates.set(provider.address, state);
    if (host.netlink.link(provider.interface)?.running) this.#assign(host, provider);
  }

  #nodes(): LabNode[] {
    return [this.a, this.b, this.router];
  }

  #close(): void {
    for (const node of this.#nodes()) {
      node.netlink.close();
      closeNetns(node.netnsFd);
    }
  }

  #createHost(node: LabNode, count: number, identity: Identity | undefined): LabHost {
    withNetns(node.netnsFd, () => {
      writeSysctl("net/ipv6/conf/default/accept_ra", this.#advertised ? 1 : 0);
      writeSysctl("net/ipv6/conf/default/use_tempaddr", 0);
    });
    const letter = node.name;
    const providers = providerPrefixes(letter, count).map((prefix, i): Provider => {
      // The modified EUI-64 (RFC 4291, appendix A) of the link-layer address below.
      const identifier = this.#advertised ? `ff:fe00:${letter}00${i + 1}` : letter;
      return {
        interface: `${letter}${i + 1}`,
        routerInterface: `r-${letter}${i + 1}`,
        prefix,
        address: boundAddress(identity, prefix) ?? prefix.address + identifier,
      };
    });
    const host: LabHost = {
      ...node,
      providers,
      addresses: providers.map((p) => p.address),
      prefixes: providers.map((p) => p.prefix),
      identity,
    };
    for (const [i, provider] of providers.entries()) {
      const base = letter === "a" ? 100 : 200;
      host.netlink.createVeth(provider.interface, provider.routerInterface, {
        peerNetnsFd: this.router.netnsFd,
        address: `02:00:00:00:${letter}0:0${i + 1}`,
        peerAddress: `02:00:00:01:${letter}0:0${i + 1}`,
        // Different at both ends: else a lost carrier may take a second to be known.
        index: base + i + 1,
        peerIndex: base + i + 51,
      });
      this.router.netlink.setLink(provider.routerInterface, { ownAddresses: false });
      const bound = boundAddress(identity, provider.prefix);
      host.netlink.setLink(provider.interface, {
        ownAddresses: this.#advertised,
        interfaceIdentifier: this.#advertised ? bound : undefined,
      });
      // What comes out of the emulator asks the main table alone: else it would go in again.
      const own = { iif: provider.routerInterface, from: provider.prefix };
      this.router.netlink.addRule({ ...own, table: TABLE_PATHS, priority: RULE_PATHS });
      this.router.netlink.addRule({ ...own, table: RT_TABLE_MAIN, priority: RULE_OWN_PREFIX });
      this.router.netlink.addRule({ iif: provider.routerInterface, priority: RULE_FOREIGN_PREFIX });
      host.netlink.setLink(provider.interface, { up: true });
      this.router.netlink.setLink(provider.routerInterface, { up: true });
      this.#addressStates.set(provider.address, "preferred");
    }
    return host;
  }

  /** Sets everything that goes away when an interface is set down. Both ends are up; what is there may stay. */
  #bringUp(host: LabHost, provider: Provider): void {
    const { prefix, routerInterface } = provider;
    const router = this.router.netlink;
    const routerIndex = indexOf(router, routerInterface);
    router.addAddress(routerIndex, ROUTER_ADDRESS, 64, { nodad: true });
    // The source of the router's ICMPv6 errors; the route to the prefix comes with it.
    router.addAddress(routerIndex, `${prefix.address}1`, 64, { nodad: true });
    waitUntilReady(router, routerInterface);
    const index = indexOf(host.netlink, provider.interface);
    if (!this.#advertised) {
      host.netlink.addAddress(index, `fe80::${host.name}`, 64, { nodad: true });
      // For sockets that have not chosen a source yet: they take the first provider that works.
      host.netlink.replaceRoute({ via: ROUTER_ADDRESS, dev: index, metric: 1024 + index });
    }
    host.netlink.replaceRoute({ source: prefix, via: ROUTER_ADDRESS, dev: index });
    waitUntilReady(host.netlink, provider.interface);
    this.#assign(host, provider);
    for (const path of this.#paths) if (path.destination === provider) this.#apply(path);
  }

  #assign(host: LabHost, provider: Provider): void {
    const { address, prefix } = provider;
    const index = indexOf(host.netlink, provider.interface);
    const state = this.#addressStates.get(address);
    if (state === "absent") {
      host.netlink.deleteAddress(index, address, prefix.length);
      return;
    }
    const preferredLifetime = state === "deprecated" ? 0 : undefined;
    if (!this.#advertised) {
      host.netlink.addAddress(index, address, prefix.length, { nodad: true, preferredLifetime });
    } else {
      const deprecated = state === "deprecated", { routerInterface } = provider;
      withNetns(this.router.netnsFd, () => advertise(routerInterface, prefix, { preferredLifetime }));
      waitUntil(
        () =>
          host.netlink.addresses(index).some((a) =>
            a.address === address && !a.tentative && a.deprecated === deprecated
          ),
        `${address} by router advertisement`,
      );
    }
    waitUntilReady(host.netlink, provider.interface);
  }

  /** The host and the provider whose prefix an address has. */
  #find(address: Address): [LabHost, Provider] {
    for (const host of this.hosts) {
      const provider = host.providers.find((p) => inPrefix(address, p.prefix));
      if (provider !== undefined) return [host, provider];
    }
    throw new TopologyError(`no provider has delegated the prefix of ${address}`);
  }

  #path(from: Address, to: Address): Path {
    const [, source] = this.#find(from), [, destination] = this.#find(to);
    const path = this.#paths.find((p) => p.source === source && p.destination === destination);
    if (path === undefined) throw new TopologyError(`${from} and ${to} are of the same host`);
    return path;
  }

  #apply({ source, destination, state, mtu }: Path): void {
    const router = this.router.netlink;
    const route: RouteSpec = {
      destination: destination.prefix,
      source: source.prefix,
      table: TABLE_PATHS,
      protocol: RTPROT_STATIC,
    };
    if (state === "down") router.replaceRoute({ ...route, type: "blackhole" });
    else if (state === "unreachable") router.replaceRoute({ ...route, type: "unreachable" });
    else if (state === "emulated") {
      const emulator = router.link(EMULATOR_DEVICE);
      if (emulator === undefined) throw new TopologyError(`no path emulator: there is no ${EMULATOR_DEVICE}`);
      router.replaceRoute({ ...route, dev: emulator.index, mtu, mtuLocked: true });
    } else {
      const exit = router.link(destination.routerInterface);
      // Without a carrier there is nothing to set; it is set when the link comes up.
      if (mtu !== undefined && exit?.up) router.replaceRoute({ ...route, dev: exit.index, mtu, mtuLocked: true });
      else router.deleteRoute(route);
    }
  }
}

function pathsBetween(source: LabHost, destination: LabHost): Path[] {
  return source.providers.flatMap((from) =>
    destination.providers.map((to): Path => ({ source: from, destination: to, state: "up", mtu: undefined }))
  );
}

/** The address that an identity has in a prefix. */
function boundAddress(identity: Identity | undefined, prefix: Prefix): Address | undefined {
  return identity?.addresses.find((address) => inPrefix(address, prefix));
}

function indexOf(netlink: Netlink, name: string): number {
  const link = netlink.link(name);
  if (link === undefined) throw new TopologyError(`the testbed has lost its interface ${name}`);
  return link.index;
}

/** Creates a namespace and what is the same in all of them. What must be undone when a later step fails goes to `undo`. */
function createNode(name: string, namespace: string, named: boolean | undefined, undo: (() => void)[]): LabNode {
  const netnsFd = createNetns();
  undo.push(() => closeNetns(netnsFd));
  let hasName = false;
  if (named !== false) {
    try {
      nameNetns(netnsFd, namespace);
      hasName = true;
      undo.push(() => deleteNamedNetns(namespace));
    } catch (error) {
      // In a user namespace nobody may mount there.
      if (named === true || error instanceof Deno.errors.AlreadyExists) throw error;
    }
  }
  const netlink = withNetns(netnsFd, () => {
    // Nothing here is ever duplicate, and detecting it would take a second.
    for (const key of ["all", "default"]) writeSysctl(`net/ipv6/conf/${key}/accept_dad`, 0);
    return new Netlink();
  });
  undo.push(() => netlink.close());
  netlink.setLink("lo", { up: true });
  return { name, namespace: hasName ? namespace : undefined, netnsFd, netlink };
}

/** Ends the processes in named network namespaces: those of a testbed whose owner was killed. */
function killProcessesIn(namespaces: readonly string[]): void {
  const inodes = new Set(namespaces.map((name) => inodeOf(`${NETNS_NAMES}/${name}`)));
  inodes.delete(undefined);
  if (inodes.size === 0) return;
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === Deno.pid) continue;
    if (inodes.has(inodeOf(`/proc/${name}/ns/net`))) kill(() => Deno.kill(Number(name), "SIGKILL"));
  }
}

/** The inode of a namespace's file, which identifies it; undefined when it or its process is gone. */
function inodeOf(path: string): number | undefined {
  try {
    return Deno.statSync(path).ino ?? undefined;
  } catch {
    return undefined;
  }
}

/** Sends a signal to a process that may have ended by itself. */
function kill(send: () => void): void {
  try {
    send();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound || error instanceof TypeError)) throw error;
  }
}
