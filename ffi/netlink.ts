/**
 * rtnetlink (RFC 3549, rtnetlink(7)): links, addresses, routes, rules and neighbours of one network namespace.
 *
 * A socket belongs to the namespace in which it was opened and stays there; open it inside `withNetns` to manage
 * another one. Requests are synchronous: the kernel carries them out inside the send call, so the answer is there when
 * it returns.
 */

import { type Address, formatAddress, parseAddress, type Prefix } from "../wire/address.ts";
import { check, Errno, SystemError } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { stableBytes } from "./memory.ts";
import {
  Attributes,
  MessageBuilder,
  type NetlinkMessage,
  NLMSG_HEADER,
  readMessages,
  readU32,
} from "./netlink_message.ts";

// socket(2), linux/netlink.h
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const NETLINK_ROUTE = 0;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_RCVTIMEO = 20;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const MSG_TRUNC = 0x20;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_DUMP = 0x300;
const NLM_F_REPLACE = 0x100;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
const NLM_F_CAPPED = 0x100;
const NLMSGERR_ATTR_MSG = 1;

// linux/rtnetlink.h
const RTM_NEWLINK = 16, RTM_DELLINK = 17, RTM_GETLINK = 18;
const RTM_NEWADDR = 20, RTM_DELADDR = 21, RTM_GETADDR = 22;
const RTM_NEWROUTE = 24, RTM_DELROUTE = 25, RTM_GETROUTE = 26;
const RTM_DELNEIGH = 29, RTM_GETNEIGH = 30;
const RTM_NEWRULE = 32, RTM_DELRULE = 33, RTM_GETRULE = 34;
const RTMGRP_LINK = 1, RTMGRP_IPV6_IFADDR = 0x100, RTMGRP_IPV6_ROUTE = 0x400;
const RTA_DST = 1, RTA_SRC = 2, RTA_OIF = 4, RTA_GATEWAY = 5, RTA_PRIORITY = 6, RTA_PREFSRC = 7, RTA_METRICS = 8;
const RTA_CACHEINFO = 12, RTA_TABLE = 15, RTA_EXPIRES = 23;
const RTAX_LOCK = 1, RTAX_MTU = 2;
const RTMSG_LENGTH = 12;
const RTEXT_FILTER_SKIP_STATS = 8;
/** `expires` in a dump counts in ticks of USER_HZ, which is 100 on every Linux that Deno runs on. */
const USER_HZ = 100;

// linux/if_link.h, linux/if.h, linux/veth.h
const IFLA_ADDRESS = 1, IFLA_IFNAME = 3, IFLA_MTU = 4, IFLA_LINK = 5, IFLA_LINKINFO = 18, IFLA_AF_SPEC = 26;
const IFLA_NET_NS_FD = 28, IFLA_EXT_MASK = 29, IFLA_GSO_MAX_SEGS = 40, IFLA_GSO_MAX_SIZE = 41;
const IFLA_INFO_KIND = 1, IFLA_INFO_DATA = 2, VETH_INFO_PEER = 1, IFLA_INET6_TOKEN = 7, IFLA_INET6_ADDR_GEN_MODE = 8;
const IN6_ADDR_GEN_MODE_EUI64 = 0, IN6_ADDR_GEN_MODE_NONE = 1;
const IFINFOMSG_LENGTH = 16;
const IFF_UP = 1, IFF_LOOPBACK = 8, IFF_RUNNING = 0x40, IFF_NOARP = 0x80, IFF_LOWER_UP = 0x10000;

// linux/if_addr.h
const IFA_ADDRESS = 1, IFA_LOCAL = 2, IFA_CACHEINFO = 6, IFA_FLAGS = 8;
const IFADDRMSG_LENGTH = 8;
const IFA_F_TEMPORARY = 1, IFA_F_NODAD = 2, IFA_F_DADFAILED = 8, IFA_F_DEPRECATED = 0x20, IFA_F_TENTATIVE = 0x40;
const IFA_F_PERMANENT = 0x80, IFA_F_NOPREFIXROUTE = 0x200;
const INFINITE_LIFETIME = 0xffffffff;

// linux/fib_rules.h
const FRA_DST = 1, FRA_SRC = 2, FRA_IIFNAME = 3, FRA_PRIORITY = 6, FRA_TABLE = 15;
const FIB_RULE_HEADER = 12, FIB_RULE_ACTION = 7;
/** What every rule has: priority, table, the suppressing of prefixes (-1: none), protocol. */
const COMMON_RULE_ATTRIBUTES: ReadonlySet<number> = new Set([FRA_PRIORITY, FRA_TABLE, 14, 21]);
const FR_ACT_TO_TBL = 1, FR_ACT_BLACKHOLE = 6;

// linux/neighbour.h
const NDA_DST = 1, NDA_LLADDR = 2;
const NDMSG_LENGTH = 12;
const NUD_VALID = 0xde; // REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT: the link-layer address may be used

const AF_INET6 = 10;

/** `rtm_protocol` of a route set by hand (`static` in iproute2). */
export const RTPROT_STATIC = 4;
/** The main routing table. */
export const RT_TABLE_MAIN = 254;

/** The kernel refused a request. `reason` is its own explanation, where it gives one. */
export class NetlinkError extends SystemError {
  /** `NetlinkError` */
  override name = "NetlinkError";
  /** Extended acknowledgement (NLMSGERR_ATTR_MSG), or "". */
  readonly reason: string;
  /** `call` says what was attempted. */
  constructor(call: string, errno: number, reason: string) {
    super(call, errno);
    this.reason = reason;
    if (reason !== "") this.message += ` (${reason})`;
  }
}

/** A network interface. */
export interface Link {
  /** Unique in its namespace, never 0. */
  readonly index: number;
  /** E.g. `eth0`. */
  readonly name: string;
  /** IFF_UP: administratively up. */
  readonly up: boolean;
  /**
   * Up, and there is a carrier: IFF_RUNNING and IFF_LOWER_UP, as the first of them lags behind a carrier that was lost.
   */
  readonly running: boolean;
  /** IFF_LOOPBACK. */
  readonly loopback: boolean;
  /** No address resolution, as on a TUN device. */
  readonly noarp: boolean;
  /** In octets. */
  readonly mtu: number;
  /** `veth`, `tun` …; "" for a physical one. */
  readonly kind: string;
  /** Link-layer address, `02:00:00:00:00:01`; "" when it has none. */
  readonly address: string;
  /** Index of the device this one is stacked on, or of a veth's peer; 0 when there is none. */
  readonly linkedIndex: number;
}

/** An IPv6 address of an interface. */
export interface InterfaceAddress {
  /** Interface index. */
  readonly index: number;
  /** The address. */
  readonly address: Address;
  /** Bits of the on-link prefix. */
  readonly prefixLength: number;
  /** Unique-local addresses are global in this sense. */
  readonly scope: "global" | "site" | "link" | "host" | "other";
  /** Duplicate address detection still runs. */
  readonly tentative: boolean;
  /** Somebody else on the link has it. */
  readonly dadFailed: boolean;
  /** The preferred lifetime is over. */
  readonly deprecated: boolean;
  /** A privacy address (RFC 8981). */
  readonly temporary: boolean;
  /** Set by hand, without a lifetime. */
  readonly permanent: boolean;
  /** In seconds; Infinity when it never ends. */
  readonly preferredLifetime: number;
  /** In seconds; Infinity when it never ends. */
  readonly validLifetime: number;
}

/** What a route does with a packet. */
export type RouteType = "unicast" | "local" | "anycast" | "multicast" | "blackhole" | "unreachable" | "prohibit";

const ROUTE_TYPES: Record<RouteType, number> = {
  unicast: 1,
  local: 2,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
};
const ROUTE_TYPE_NAMES = new Map(Object.entries(ROUTE_TYPES).map(([name, value]) => [value, name as RouteType]));

/** Every destination. */
export const DEFAULT_DESTINATION: Prefix = { address: "::", length: 0 };

/** An IPv6 route to be set. */
export interface RouteSpec {
  /** The default route when absent. */
  readonly destination?: Prefix;
  /** Only packets from here (source-specific routing, RFC 8504 §5.6 calls for it on multihomed hosts). */
  readonly source?: Prefix;
  /** Next hop; on-link when absent. */
  readonly via?: Address;
  /** Interface index. */
  readonly dev?: number;
  /** {@linkcode RT_TABLE_MAIN} when absent. */
  readonly table?: number;
  /** {@linkcode RTPROT_STATIC} when absent; any when deleting. */
  readonly protocol?: number;
  /** `unicast` when absent; any when deleting. */
  readonly type?: RouteType;
  /** 1024 when absent; any when deleting. */
  readonly metric?: number;
  /** In octets; the interface's when absent. */
  readonly mtu?: number;
  /** The MTU also binds packets that are forwarded; else only those of this host. */
  readonly mtuLocked?: boolean;
  /** Lifetime in whole seconds; none when absent. */
  readonly expires?: number;
  /** Source address for sockets that have not chosen one. */
  readonly preferredSource?: Address;
}

/** An IPv6 route as the kernel holds it. */
export interface Route {
  /** Where to. */
  readonly destination: Prefix;
  /** Only packets from here. */
  readonly source?: Prefix;
  /** Next hop; on-link when absent. */
  readonly via?: Address;
  /** Interface index. */
  readonly dev?: number;
  /** Routing table. */
  readonly table: number;
  /** Who set it (`rtm_protocol`). */
  readonly protocol: number;
  /** Undefined for a type not named here. */
  readonly type: RouteType | undefined;
  /** Smaller is preferred. */
  readonly metric: number;
  /** In octets; absent when the interface's counts. */
  readonly mtu?: number;
  /** Seconds left, in hundredths; below zero when it has lapsed and waits to be collected. */
  readonly expires?: number;
  /** Source address for sockets that have not chosen one. */
  readonly preferredSource?: Address;
}

/** A rule that picks a routing table, or discards. */
export interface RuleSpec {
  /** Name of the interface the packet came in by. */
  readonly iif?: string;
  /** Only packets from here. */
  readonly from?: Prefix;
  /** Only packets to here. */
  readonly to?: Prefix;
  /** Where to look for the route; the packet is discarded when absent. */
  readonly table?: number;
  /** Smaller is asked earlier; the main table has 32766. */
  readonly priority: number;
}

/** A rule as it stands. */
export interface Rule {
  /** Smaller is asked earlier. */
  readonly priority: number;
  /** Where it looks for the route; undefined when it discards, or jumps. */
  readonly table: number | undefined;
  /** Whether it discards. */
  readonly discards: boolean;
  /** Whether it asks for more than the addresses, such as an interface, a mark, a user or a port. */
  readonly particular: boolean;
  /** Whether it asks for a source or a destination address. */
  readonly byAddress: boolean;
}

/** Settings of an interface to be changed; what is absent stays. */
export interface LinkChange {
  /** Administratively up (IFF_UP). */
  readonly up?: boolean;
  /** Address resolution (IFF_NOARP off). */
  readonly arp?: boolean;
  /** In octets. */
  readonly mtu?: number;
  /** A new name; the interface must be down for it. */
  readonly name?: string;
  /** Link-layer address. */
  readonly address?: string;
  /** Moves the interface into this network namespace. */
  readonly netnsFd?: number;
  /** Whether the kernel makes link-local and advertised addresses itself (addr_gen_mode `eui64` or `none`). */
  readonly ownAddresses?: boolean;
  /**
   * The last 64 bits of this address become those of each advertised one, in place of what the kernel would choose. The
   * interface must accept router advertisements.
   */
  readonly interfaceIdentifier?: Address;
  /** Largest super-packet the kernel hands to the device, in octets. */
  readonly gsoMaxSize?: number;
  /** Most segments in a super-packet. */
  readonly gsoMaxSegments?: number;
}

/** How to create a veth pair. */
export interface VethOptions {
  /** Namespace of the peer; the socket's own when absent. */
  readonly peerNetnsFd?: number;
  /** Link-layer address; random when absent. */
  readonly address?: string;
  /** The peer's link-layer address; random when absent. */
  readonly peerAddress?: string;
  /** Of both ends, in octets. */
  readonly mtu?: number;
  /** Interface index; the next free one when absent. */
  readonly index?: number;
  /**
   * The peer's interface index. The kernel reports a lost carrier at once only where the indexes of the two ends differ;
   * else it may take a second over it, as with a physical link that flaps.
   */
  readonly peerIndex?: number;
}

/** How to assign an address. */
export interface AddressOptions {
  /** Without duplicate address detection: usable at once. */
  readonly nodad?: boolean;
  /** No route to the prefix comes with it. */
  readonly noPrefixRoute?: boolean;
  /** In seconds; never ends when absent. Zero makes the address deprecated. */
  readonly preferredLifetime?: number;
  /** In seconds; never ends when absent. */
  readonly validLifetime?: number;
}

/** A neighbour cache entry. */
export interface Neighbour {
  /** Interface index. */
  readonly index: number;
  /** The neighbour's address. */
  readonly address: Address;
  /** Link-layer address; "" while it is being resolved. */
  readonly linkAddress: string;
  /** The link-layer address may be used. */
  readonly valid: boolean;
}

const RECEIVE_BUFFER = 65536;
const ANSWER_TIMEOUT_S = 5;
const DUMP_ATTEMPTS = 8;

function openSocket(flags: number, groups: number): number {
  const fd = check(
    libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, NETLINK_ROUTE),
    threadErrno[0],
    "socket AF_NETLINK",
  );
  const name = stableBytes(12); // struct sockaddr_nl; the kernel chooses the port id
  const view = new DataView(name.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(8, groups, true);
  try {
    check(libc().bind(fd, name, name.length), threadErrno[0], "bind AF_NETLINK");
  } catch (error) {
    libc().close(fd);
    throw error;
  }
  return fd;
}

function parseRule(body: Uint8Array): Rule | undefined {
  if (body.length < FIB_RULE_HEADER) return undefined;
  const attributes = new Attributes(body, FIB_RULE_HEADER);
  const action = body[FIB_RULE_ACTION];
  const types = [...attributes.types()].filter((type) => !COMMON_RULE_ATTRIBUTES.has(type));
  return {
    priority: attributes.u32(FRA_PRIORITY) ?? 0,
    table: action === FR_ACT_TO_TBL ? attributes.u32(FRA_TABLE) : undefined,
    discards: action >= FR_ACT_BLACKHOLE,
    particular: types.some((type) => type !== FRA_SRC && type !== FRA_DST),
    byAddress: attributes.octets(FRA_SRC) !== undefined || attributes.octets(FRA_DST) !== undefined,
  };
}

function setOption(fd: number, level: number, name: number, ...words: number[]): boolean {
  const value = stableBytes(4 * words.length);
  const view = new DataView(value.buffer);
  words.forEach((word, i) => view.setUint32(4 * i, word, true));
  return libc().setsockopt(fd, level, name, value, value.length) === 0;
}

/** Requests to one network namespace. Not for use inside a callback of its own. */
export class Netlink {
  readonly #fd: number;
  readonly #request = new MessageBuilder();
  readonly #reply = stableBytes(RECEIVE_BUFFER);
  #sequence = 0;
  #closed = false;

  /** Opens a socket in the calling thread's network namespace. Throws {@linkcode SystemError}. */
  constructor() {
    this.#fd = openSocket(0, 0);
    setOption(this.#fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
    setOption(this.#fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
    setOption(this.#fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1); // filters dumps in the kernel
    // The answer is always there already; should a kernel ever disagree, the caller's thread must not hang for good.
    setOption(this.#fd, SOL_SOCKET, SO_RCVTIMEO, ANSWER_TIMEOUT_S, 0, 0, 0);
  }

  /** Closes the socket. Further calls do nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    libc().close(this.#fd);
  }

  /** Closes the socket. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** All interfaces. */
  links(): Link[] {
    return this.#dump(RTM_GETLINK, "list links", (m) => {
      m.u32(0, 0, 0, 0).attributeU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    }, parseLink);
  }

  /** The interface with this name or index; undefined when there is none. */
  link(which: string | number): Link | undefined {
    const call = `look up link ${which}`;
    return this.#get(RTM_GETLINK, call, [Errno.ENODEV], (m) => {
      linkHeader(m, which);
      m.attributeU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    }, parseLink);
  }

  /** IPv6 addresses, of one interface or of all. */
  addresses(index = 0): InterfaceAddress[] {
    return this.#dump(RTM_GETADDR, "list addresses", (m) => m.u8(AF_INET6, 0, 0, 0).u32(index), parseInterfaceAddress)
      .filter((a) => index === 0 || a.index === index);
  }

  /** IPv6 routes of all tables, without cached exceptions; where a filter is given, only those that match. */
  routes(filter: { readonly table?: number; readonly protocol?: number; readonly dev?: number } = {}): Route[] {
    return this.#dump(
      RTM_GETROUTE,
      "list routes",
      (m) => {
        m.u8(AF_INET6, 0, 0, 0, 0, filter.protocol ?? 0, 0, 0).u32(0);
        if (filter.table !== undefined) m.attributeU32(RTA_TABLE, filter.table);
        if (filter.dev !== undefined) m.attributeU32(RTA_OIF, filter.dev);
      },
      parseRoute,
      [Errno.ENOENT],
    ).filter((route) =>
      (filter.table ?? route.table) === route.table && (filter.protocol ?? route.protocol) === route.protocol &&
      (filter.dev ?? route.dev) === route.dev
    );
  }

  /**
   * The route that a packet would take, as the kernel resolves it now: of a socket bound to no interface, or to the one
   * with the index `dev`. Undefined when there is none, or one that discards.
   */
  lookupRoute(
    destination: Address,
    options: { readonly source?: Address; readonly dev?: number } = {},
  ): Route | undefined {
    const { source, dev } = options;
    const unreachable = [Errno.ENETUNREACH, Errno.EHOSTUNREACH, Errno.EINVAL, Errno.EACCES];
    return this.#get(RTM_GETROUTE, `look up route to ${destination}`, unreachable, (m) => {
      m.u8(AF_INET6, 128, source === undefined ? 0 : 128, 0, 0, 0, 0, 0).u32(0);
      m.attribute(RTA_DST, parseAddress(destination));
      if (source !== undefined) m.attribute(RTA_SRC, parseAddress(source));
      if (dev !== undefined) m.attributeU32(RTA_OIF, dev);
    }, parseRoute);
  }

  /** The neighbour cache's entry for an address on an interface; undefined when there is none. */
  neighbour(index: number, address: Address): Neighbour | undefined {
    return this.#get(RTM_GETNEIGH, `look up neighbour ${address}`, [Errno.ENOENT, Errno.ENODEV], (m) => {
      m.u8(AF_INET6, 0, 0, 0).u32(index, 0).attribute(NDA_DST, parseAddress(address));
    }, parseNeighbour);
  }

  /** Forgets a neighbour, and drops the packets that wait for its link-layer address; false when there was none. */
  deleteNeighbour(index: number, address: Address): boolean {
    return this.#change(RTM_DELNEIGH, 0, `delete neighbour ${address}`, [Errno.ENOENT, Errno.ENODEV], (m) => {
      m.u8(AF_INET6, 0, 0, 0).u32(index, 0).attribute(NDA_DST, parseAddress(address));
    });
  }

  /** Assigns an address or changes its lifetimes. */
  addAddress(index: number, address: Address, prefixLength: number, options: AddressOptions = {}): void {
    const { preferredLifetime, validLifetime } = options;
    this.#change(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, `add address ${address}/${prefixLength}`, [], (m) => {
      addressHeader(m, index, address, prefixLength);
      m.attributeU32(
        IFA_FLAGS,
        (options.nodad ? IFA_F_NODAD : 0) | (options.noPrefixRoute ? IFA_F_NOPREFIXROUTE : 0),
      );
      if (preferredLifetime !== undefined || validLifetime !== undefined) {
        const cacheInfo = new Uint8Array(16);
        const view = new DataView(cacheInfo.buffer);
        view.setUint32(0, seconds(preferredLifetime), true);
        view.setUint32(4, seconds(validLifetime), true);
        m.attribute(IFA_CACHEINFO, cacheInfo);
      }
    });
  }

  /** Removes an address; false when it was not there. */
  deleteAddress(index: number, address: Address, prefixLength: number): boolean {
    const absent = [Errno.EADDRNOTAVAIL, Errno.ENODEV];
    return this.#change(RTM_DELADDR, 0, `delete address ${address}/${prefixLength}`, absent, (m) => {
      addressHeader(m, index, address, prefixLength);
    });
  }

  /** Sets a route, in place of the one with the same destination, source, table and metric if there is one. */
  replaceRoute(route: RouteSpec): void {
    this.#change(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, `set route ${describeRoute(route)}`, [], (m) => {
      routeMessage(m, route, RTPROT_STATIC, ROUTE_TYPES.unicast);
    });
  }

  /**
   * Renews the lifetime of a route that is there, without a trace anywhere else: the kernel keeps what it has cached for
   * it and tells no listener. Sets the route when it is not there. Returns whether it had to be set.
   */
  refreshRoute(route: RouteSpec): boolean {
    // Adding an IPv6 route once more copies the new lifetime into the old one, and then says EEXIST.
    return this.#change(RTM_NEWROUTE, NLM_F_CREATE, `refresh route ${describeRoute(route)}`, [Errno.EEXIST], (m) => {
      routeMessage(m, route, RTPROT_STATIC, ROUTE_TYPES.unicast);
    });
  }

  /**
   * Removes the first route that fits all that is given; false when there was none. Where no route to the destination
   * has a source, the kernel overlooks the one that is given and takes the route without one: `protocol` keeps it from
   * that, and without it the routes are read first, which costs time on a large table.
   */
  deleteRoute(route: RouteSpec): boolean {
    const { source, destination = DEFAULT_DESTINATION, table = RT_TABLE_MAIN } = route;
    if (source !== undefined && route.protocol === undefined) {
      const same = (a: Prefix, b: Prefix | undefined) => a.length === b?.length && a.address === b.address;
      const present = this.routes({ table }).some((r) => same(destination, r.destination) && same(source, r.source));
      if (!present) return false;
    }
    const absent = [Errno.ESRCH, Errno.ENODEV];
    return this.#change(RTM_DELROUTE, 0, `delete route ${describeRoute(route)}`, absent, (m) => {
      routeMessage(m, route, 0, 0);
    });
  }

  /** The IPv6 rules, in the order in which they are asked. */
  rules(): Rule[] {
    return this.#dump(RTM_GETRULE, "list rules", (m) => m.u8(AF_INET6, 0, 0, 0, 0, 0, 0, 0).u32(0), parseRule)
      .sort((a, b) => a.priority - b.priority);
  }

  /** Adds a rule; false when the same one is there already. */
  addRule(rule: RuleSpec): boolean {
    return this.#change(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, `add rule ${rule.priority}`, [Errno.EEXIST], (m) => {
      ruleMessage(m, rule);
    });
  }

  /** Removes a rule; false when there was none. */
  deleteRule(rule: RuleSpec): boolean {
    return this.#change(RTM_DELRULE, 0, `delete rule ${rule.priority}`, [Errno.ENOENT], (m) => ruleMessage(m, rule));
  }

  /** Creates a pair of virtual Ethernet interfaces, both down. */
  createVeth(name: string, peerName: string, options: VethOptions = {}): void {
    const { peerNetnsFd, address, peerAddress, mtu, index, peerIndex } = options;
    this.#change(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, `create veth ${name}`, [], (m) => {
      m.u32(0, index ?? 0, 0, 0).attributeText(IFLA_IFNAME, name);
      if (address !== undefined) m.attribute(IFLA_ADDRESS, parseLinkAddress(address));
      if (mtu !== undefined) m.attributeU32(IFLA_MTU, mtu);
      m.nest(IFLA_LINKINFO, () => {
        m.attributeText(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, () => {
          m.nest(VETH_INFO_PEER, () => {
            m.u32(0, peerIndex ?? 0, 0, 0).attributeText(IFLA_IFNAME, peerName);
            if (peerAddress !== undefined) m.attribute(IFLA_ADDRESS, parseLinkAddress(peerAddress));
            if (mtu !== undefined) m.attributeU32(IFLA_MTU, mtu);
            if (peerNetnsFd !== undefined) m.attributeU32(IFLA_NET_NS_FD, peerNetnsFd);
          });
        });
      });
    });
  }

  /** Removes an interface (a veth takes its peer along); false when there was none. */
  deleteLink(which: string | number): boolean {
    return this.#change(RTM_DELLINK, 0, `delete link ${which}`, [Errno.ENODEV], (m) => linkHeader(m, which));
  }

  /** Changes an interface. */
  setLink(which: string | number, change: LinkChange): void {
    let flags = 0, mask = 0;
    if (change.up !== undefined) {
      mask |= IFF_UP;
      if (change.up) flags |= IFF_UP;
    }
    if (change.arp !== undefined) {
      mask |= IFF_NOARP;
      if (!change.arp) flags |= IFF_NOARP;
    }
    // A new name is given by IFLA_IFNAME, which cannot name the interface at the same time.
    const target = change.name === undefined ? which : this.#indexOf(which);
    this.#change(RTM_NEWLINK, 0, `change link ${which}`, [], (m) => {
      linkHeader(m, target, flags, mask);
      if (change.name !== undefined) m.attributeText(IFLA_IFNAME, change.name);
      if (change.mtu !== undefined) m.attributeU32(IFLA_MTU, change.mtu);
      if (change.address !== undefined) m.attribute(IFLA_ADDRESS, parseLinkAddress(change.address));
      if (change.netnsFd !== undefined) m.attributeU32(IFLA_NET_NS_FD, change.netnsFd);
      if (change.gsoMaxSize !== undefined) m.attributeU32(IFLA_GSO_MAX_SIZE, change.gsoMaxSize);
      if (change.gsoMaxSegments !== undefined) m.attributeU32(IFLA_GSO_MAX_SEGS, change.gsoMaxSegments);
      const { ownAddresses, interfaceIdentifier } = change;
      if (ownAddresses !== undefined || interfaceIdentifier !== undefined) {
        m.nest(IFLA_AF_SPEC, () => {
          m.nest(AF_INET6, () => {
            const mode = ownAddresses ? IN6_ADDR_GEN_MODE_EUI64 : IN6_ADDR_GEN_MODE_NONE;
            if (ownAddresses !== undefined) m.attributeU8(IFLA_INET6_ADDR_GEN_MODE, mode);
            if (interfaceIdentifier !== undefined) m.attribute(IFLA_INET6_TOKEN, parseAddress(interfaceIdentifier));
          });
        });
      }
    });
  }

  #indexOf(which: string | number): number {
    if (typeof which === "number") return which;
    const link = this.link(which);
    if (link === undefined) throw new NetlinkError(`look up link ${which}`, Errno.ENODEV, "");
    return link.index;
  }

  /** A request that changes something. False when it failed with one of the errnos in `accepted`. */
  #change(
    type: number,
    flags: number,
    call: string,
    accepted: readonly number[],
    fill: (m: MessageBuilder) => void,
  ): boolean {
    const sequence = this.#send(type, NLM_F_ACK | flags, call, fill);
    while (true) {
      for (const message of this.#receive(call, sequence)) {
        if (message.type !== NLMSG_ERROR) continue;
        const failure = parseFailure(message, call);
        if (failure === undefined) return true;
        if (accepted.includes(failure.errno)) return false;
        throw failure;
      }
    }
  }

  /** A request for one thing. Undefined when it failed with one of the errnos in `absent`. */
  #get<T>(
    type: number,
    call: string,
    absent: readonly number[],
    fill: (m: MessageBuilder) => void,
    parse: (body: Uint8Array) => T | undefined,
  ): T | undefined {
    const sequence = this.#send(type, NLM_F_ACK, call, fill);
    let found: T | undefined;
    while (true) {
      for (const message of this.#receive(call, sequence)) {
        if (message.type !== NLMSG_ERROR) {
          found ??= parse(message.body);
          continue;
        }
        const failure = parseFailure(message, call);
        if (failure === undefined) return found;
        if (absent.includes(failure.errno)) return undefined;
        throw failure;
      }
    }
  }

  /**
   * A request for a list. The kernel marks a list that changed while it was read; such a list is read again, a bounded
   * number of times: what changed meanwhile comes as an event as well.
   */
  #dump<T>(
    type: number,
    call: string,
    fill: (m: MessageBuilder) => void,
    parse: (body: Uint8Array) => T | undefined,
    empty: readonly number[] = [],
  ): T[] {
    for (let attempt = 1;; attempt++) {
      const sequence = this.#send(type, NLM_F_DUMP, call, fill);
      const items: T[] = [];
      let consistent = true, done = false;
      while (!done) {
        for (const message of this.#receive(call, sequence)) {
          if ((message.flags & NLM_F_DUMP_INTR) !== 0) consistent = false;
          if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
            const failure = parseFailure(message, call);
            if (failure !== undefined && !empty.includes(failure.errno)) throw failure;
            done = true;
          } else {
            const item = parse(message.body);
            if (item !== undefined) items.push(item);
          }
        }
      }
      if (consistent || attempt === DUMP_ATTEMPTS) return items;
    }
  }

  #send(type: number, flags: number, call: string, fill: (m: MessageBuilder) => void): number {
    this.#sequence = (this.#sequence + 1) >>> 0;
    this.#request.clear();
    fill(this.#request.begin(type, NLM_F_REQUEST | flags, this.#sequence));
    check(libc().sendto(this.#fd, this.#request.octets, this.#request.length, 0, null, 0), threadErrno[0], call);
    return this.#sequence;
  }

  /** The next datagram's messages that answer request `sequence`; what a failed request left behind is passed over. */
  *#receive(call: string, sequence: number): Generator<NetlinkMessage> {
    let length: number, code: number;
    do {
      length = libc().recv(this.#fd, this.#reply, this.#reply.length, MSG_TRUNC);
      code = threadErrno[0];
    } while (length < 0 && code === Errno.EINTR);
    check(length, code, call);
    if (length > this.#reply.length) throw new SystemError(call, Errno.EMSGSIZE);
    for (const message of readMessages(this.#reply, length)) {
      if (message.sequence === sequence) yield message;
    }
  }
}

/** The socket lost messages: whoever follows the events must read everything again. */
export interface OverrunEvent {
  /** The kind of event. */
  readonly type: "overrun";
}
/** An interface appeared, changed, or vanished. */
export interface LinkEvent {
  /** The kind of event. */
  readonly type: "link";
  /** Gone, not new or changed. */
  readonly removed: boolean;
  /** As it is now, or was at last. */
  readonly link: Link;
}
/** An IPv6 address was assigned, changed (deprecated, no longer tentative), or vanished. */
export interface AddressEvent {
  /** The kind of event. */
  readonly type: "address";
  /** Gone, not new or changed. */
  readonly removed: boolean;
  /** As it is now, or was at last. */
  readonly address: InterfaceAddress;
}
/** An IPv6 route was set or vanished. */
export interface RouteEvent {
  /** The kind of event. */
  readonly type: "route";
  /** Gone, not new or changed. */
  readonly removed: boolean;
  /** The route. */
  readonly route: Route;
}
/** What {@linkcode NetlinkEvents} yields. */
export type NetlinkEvent = LinkEvent | AddressEvent | RouteEvent | OverrunEvent;

const EVENT_BUFFER_OCTETS = 1 << 20;

/** Changes of one network namespace, as they happen. */
export class NetlinkEvents {
  /** Readable when {@linkcode next} has something (non-blocking socket). */
  readonly fd: number;
  readonly #buffer = stableBytes(RECEIVE_BUFFER);
  #pending: NetlinkEvent[] = [];
  #taken = 0;
  #closed = false;

  /**
   * Listens in the calling thread's network namespace to links and IPv6 addresses, and to IPv6 routes where asked.
   * Throws {@linkcode SystemError}.
   */
  constructor(options: { readonly routes?: boolean } = {}) {
    this.fd = openSocket(SOCK_NONBLOCK, RTMGRP_LINK | RTMGRP_IPV6_IFADDR | (options.routes ? RTMGRP_IPV6_ROUTE : 0));
    // The first passes the limit for all sockets but needs the privilege in the initial user namespace.
    if (!setOption(this.fd, SOL_SOCKET, SO_RCVBUFFORCE, EVENT_BUFFER_OCTETS)) {
      setOption(this.fd, SOL_SOCKET, SO_RCVBUF, EVENT_BUFFER_OCTETS);
    }
  }

  /** The next event; undefined when there is none now. Throws {@linkcode SystemError}. */
  next(): NetlinkEvent | undefined {
    while (this.#taken === this.#pending.length) {
      this.#pending = [];
      this.#taken = 0;
      const length = libc().recv(this.fd, this.#buffer, this.#buffer.length, MSG_TRUNC), code = threadErrno[0];
      if (length < 0) {
        if (code === Errno.EAGAIN) return undefined;
        if (code === Errno.EINTR) continue;
        if (code === Errno.ENOBUFS) return { type: "overrun" };
        throw new SystemError("receive netlink events", code);
      }
      if (length > this.#buffer.length) return { type: "overrun" };
      for (const message of readMessages(this.#buffer, length)) {
        const event = parseEvent(message);
        if (event !== undefined) this.#pending.push(event);
      }
    }
    return this.#pending[this.#taken++];
  }

  /** Closes the socket. Further calls do nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    libc().close(this.fd);
  }

  /** Closes the socket. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** The event in a message; undefined for one that says nothing about links, IPv6 addresses or IPv6 routes. */
export function parseEvent(message: NetlinkMessage): NetlinkEvent | undefined {
  switch (message.type) {
    case RTM_NEWLINK:
    case RTM_DELLINK: {
      // A bridge port that leaves its bridge is a "removed link" of family AF_BRIDGE: the interface lives on.
      const link = message.body[0] === 0 ? parseLink(message.body) : undefined;
      return link && { type: "link", removed: message.type === RTM_DELLINK, link };
    }
    case RTM_NEWADDR:
    case RTM_DELADDR: {
      const address = parseInterfaceAddress(message.body);
      return address && { type: "address", removed: message.type === RTM_DELADDR, address };
    }
    case RTM_NEWROUTE:
    case RTM_DELROUTE: {
      const route = parseRoute(message.body);
      return route && { type: "route", removed: message.type === RTM_DELROUTE, route };
    }
  }
}

/** The failure in an NLMSG_ERROR or NLMSG_DONE message; undefined when it reports success. */
function parseFailure(message: NetlinkMessage, call: string): NetlinkError | undefined {
  const { body } = message;
  const errno = body.length < 4 ? 0 : -(readU32(body, 0) | 0);
  if (errno <= 0) return undefined;
  let attributesAt = 4;
  if (message.type === NLMSG_ERROR) {
    // The request comes back: its header, and unless capped its body too.
    const quoted = (message.flags & NLM_F_CAPPED) !== 0 || body.length < 8 ? NLMSG_HEADER : readU32(body, 4);
    attributesAt += (Math.min(quoted, body.length) + 3) & ~3;
  }
  return new NetlinkError(call, errno, new Attributes(body, attributesAt).text(NLMSGERR_ATTR_MSG) ?? "");
}

function seconds(lifetime: number | undefined): number {
  return lifetime === undefined || lifetime >= INFINITE_LIFETIME ? INFINITE_LIFETIME : lifetime;
}

function lifetime(seconds: number): number {
  return seconds === INFINITE_LIFETIME ? Infinity : seconds;
}

/** `struct ifinfomsg`, and the name where that is what identifies the interface. */
function linkHeader(m: MessageBuilder, which: string | number, flags = 0, mask = 0): void {
  m.u32(0, typeof which === "number" ? which : 0, flags, mask);
  if (typeof which === "string") m.attributeText(IFLA_IFNAME, which);
}

/** `struct ifaddrmsg` and the address. */
function addressHeader(m: MessageBuilder, index: number, address: Address, prefixLength: number): void {
  m.u8(AF_INET6, prefixLength, 0, 0).u32(index).attribute(IFA_LOCAL, parseAddress(address));
}

function routeMessage(m: MessageBuilder, route: RouteSpec, protocol: number, type: number): void {
  const { destination = DEFAULT_DESTINATION, source, table = RT_TABLE_MAIN, mtu } = route;
  m.u8(AF_INET6, destination.length, source?.length ?? 0, 0);
  m.u8(0, route.protocol ?? protocol, 0, route.type === undefined ? type : ROUTE_TYPES[route.type]).u32(0);
  m.attributeU32(RTA_TABLE, table);
  m.attribute(RTA_DST, parseAddress(destination.address));
  if (source !== undefined) m.attribute(RTA_SRC, parseAddress(source.address));
  if (route.via !== undefined) m.attribute(RTA_GATEWAY, parseAddress(route.via));
  if (route.dev !== undefined) m.attributeU32(RTA_OIF, route.dev);
  if (route.metric !== undefined) m.attributeU32(RTA_PRIORITY, route.metric);
  if (route.preferredSource !== undefined) m.attribute(RTA_PREFSRC, parseAddress(route.preferredSource));
  if (mtu !== undefined) {
    m.nest(
      RTA_METRICS,
      () => m.attributeU32(RTAX_LOCK, route.mtuLocked ? 1 << RTAX_MTU : 0).attributeU32(RTAX_MTU, mtu),
    );
  }
  if (route.expires !== undefined) m.attributeU32(RTA_EXPIRES, route.expires);
}

function describeRoute(route: RouteSpec): string {
  const prefix = (p: Prefix) => `${p.address}/${p.length}`;
  return prefix(route.destination ?? DEFAULT_DESTINATION) + (route.source ? ` from ${prefix(route.source)}` : "");
}

/** `struct fib_rule_hdr` and its attributes. */
function ruleMessage(m: MessageBuilder, rule: RuleSpec): void {
  const action = rule.table === undefined ? FR_ACT_BLACKHOLE : FR_ACT_TO_TBL;
  m.u8(AF_INET6, rule.to?.length ?? 0, rule.from?.length ?? 0, 0).u8(0, 0, 0, action).u32(0);
  if (rule.table !== undefined) m.attributeU32(FRA_TABLE, rule.table);
  m.attributeU32(FRA_PRIORITY, rule.priority);
  if (rule.to !== undefined) m.attribute(FRA_DST, parseAddress(rule.to.address));
  if (rule.from !== undefined) m.attribute(FRA_SRC, parseAddress(rule.from.address));
  if (rule.iif !== undefined) m.attributeText(FRA_IIFNAME, rule.iif);
}

/** Thrown when text is not a link-layer address of six octets. */
export class InvalidLinkAddress extends Error {
  /** `InvalidLinkAddress` */
  override name = "InvalidLinkAddress";
}

/** Parses `02:00:00:00:00:01`. Throws {@linkcode InvalidLinkAddress}. */
export function parseLinkAddress(text: string): Uint8Array {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) {
    throw new InvalidLinkAddress(`not a link-layer address: ${JSON.stringify(text)}`);
  }
  return Uint8Array.from(text.split(":"), (octet) => parseInt(octet, 16));
}

function formatLinkAddress(octets: Uint8Array | undefined): string {
  return octets === undefined ? "" : Array.from(octets, (octet) => octet.toString(16).padStart(2, "0")).join(":");
}

function parseLink(body: Uint8Array): Link | undefined {
  if (body.length < IFINFOMSG_LENGTH) return undefined;
  const attributes = new Attributes(body, IFINFOMSG_LENGTH);
  const name = attributes.text(IFLA_IFNAME);
  if (name === undefined) return undefined;
  const flags = readU32(body, 8);
  return {
    index: readU32(body, 4),
    name,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0 && (flags & IFF_LOWER_UP) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    noarp: (flags & IFF_NOARP) !== 0,
    mtu: attributes.u32(IFLA_MTU) ?? 0,
    kind: attributes.nested(IFLA_LINKINFO).text(IFLA_INFO_KIND) ?? "",
    address: formatLinkAddress(attributes.octets(IFLA_ADDRESS)),
    linkedIndex: attributes.u32(IFLA_LINK) ?? 0,
  };
}

const SCOPES = new Map<number, InterfaceAddress["scope"]>([[0, "global"], [200, "site"], [253, "link"], [254, "host"]]);

function parseInterfaceAddress(body: Uint8Array): InterfaceAddress | undefined {
  if (body.length < IFADDRMSG_LENGTH || body[0] !== AF_INET6) return undefined;
  const attributes = new Attributes(body, IFADDRMSG_LENGTH);
  // On a point-to-point address IFA_ADDRESS is the peer's and IFA_LOCAL ours.
  const octets = attributes.exactly(IFA_LOCAL, 16) ?? attributes.exactly(IFA_ADDRESS, 16);
  if (octets === undefined) return undefined;
  const flags = attributes.u32(IFA_FLAGS) ?? body[2];
  const cacheInfo = attributes.exactly(IFA_CACHEINFO, 16);
  return {
    index: readU32(body, 4),
    address: formatAddress(octets),
    prefixLength: body[1],
    scope: SCOPES.get(body[3]) ?? "other",
    tentative: (flags & IFA_F_TENTATIVE) !== 0,
    dadFailed: (flags & IFA_F_DADFAILED) !== 0,
    deprecated: (flags & IFA_F_DEPRECATED) !== 0,
    temporary: (flags & IFA_F_TEMPORARY) !== 0,
    permanent: (flags & IFA_F_PERMANENT) !== 0,
    preferredLifetime: cacheInfo === undefined ? Infinity : lifetime(readU32(cacheInfo, 0)),
    validLifetime: cacheInfo === undefined ? Infinity : lifetime(readU32(cacheInfo, 4)),
  };
}

function parseRoute(body: Uint8Array): Route | undefined {
  if (body.length < RTMSG_LENGTH || body[0] !== AF_INET6) return undefined;
  const attributes = new Attributes(body, RTMSG_LENGTH);
  const address = (type: number): Address | undefined => {
    const octets = attributes.exactly(type, 16);
    return octets === undefined ? undefined : formatAddress(octets);
  };
  const cacheInfo = attributes.octets(RTA_CACHEINFO); // struct rta_cacheinfo: the third word is "expires"
  const ticks = cacheInfo === undefined || cacheInfo.length < 12 ? 0 : readU32(cacheInfo, 8) | 0;
  return {
    destination: { address: address(RTA_DST) ?? "::", length: body[1] },
    source: body[2] === 0 ? undefined : { address: address(RTA_SRC) ?? "::", length: body[2] },
    via: address(RTA_GATEWAY),
    dev: attributes.u32(RTA_OIF),
    table: attributes.u32(RTA_TABLE) ?? body[4],
    protocol: body[5],
    type: ROUTE_TYPE_NAMES.get(body[7]),
    metric: attributes.u32(RTA_PRIORITY) ?? 0,
    mtu: attributes.nested(RTA_METRICS).u32(RTAX_MTU),
    expires: ticks === 0 ? undefined : ticks / USER_HZ,
    preferredSource: address(RTA_PREFSRC),
  };
}

function parseNeighbour(body: Uint8Array): Neighbour | undefined {
  if (body.length < NDMSG_LENGTH || body[0] !== AF_INET6) return undefined;
  const attributes = new Attributes(body, NDMSG_LENGTH);
  const octets = attributes.exactly(NDA_DST, 16);
  if (octets === undefined) return undefined;
  return {
    index: readU32(body, 4),
    address: formatAddress(octets),
    linkAddress: formatLinkAddress(attributes.octets(NDA_LLADDR)),
    valid: ((body[8] | body[9] << 8) & NUD_VALID) !== 0,
  };
}
