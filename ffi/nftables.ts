/**
 * What the packet filter of a network namespace is told to do (nf_tables, linux/netfilter/nf_tables.h), as far as it
 * matters to somebody whose packets must pass: which chains see packets, what becomes of those that no rule decides
 * about, and which protocols and interfaces the rules name.
 */

import { check, Errno, SystemError } from "./errno.ts";
import { closeFd } from "./fd.ts";
import { libc, threadErrno } from "./libc.ts";
import { stableBytes } from "./memory.ts";
import { Attributes, MessageBuilder, readMessages } from "./netlink_message.ts";

const AF_NETLINK = 16, SOCK_RAW_CLOEXEC = 0x80003, NETLINK_NETFILTER = 12;
const NLM_F_REQUEST_DUMP = 0x301, NLMSG_ERROR = 2, NLMSG_DONE = 3;
const SUBSYSTEM = 10 << 8, GET_CHAIN = SUBSYSTEM | 4, GET_RULE = SUBSYSTEM | 7;
/** `struct nfgenmsg`: family, version, resource. */
const HEADER = 4;
const FAMILIES: Readonly<Record<number, string>> = { 1: "inet", 10: "ip6" };
const HOOKS: readonly FilterChain["hook"][] = ["prerouting", "input", "forward", "output", "postrouting"];
const CHAIN_TABLE = 1, CHAIN_NAME = 3, CHAIN_HOOK = 4, CHAIN_POLICY = 5, CHAIN_TYPE = 7, HOOK_NUMBER = 1;
const RULE_TABLE = 1, RULE_CHAIN = 2, RULE_EXPRESSIONS = 4;
const EXPRESSION_NAME = 1, EXPRESSION_DATA = 2;
const META_KEY = 2, META_L4PROTO = 16, META_IIF = 4, META_IIFNAME = 6;
const PAYLOAD_BASE = 2, PAYLOAD_OFFSET = 3, PAYLOAD_LENGTH = 4, NETWORK_HEADER = 1, NEXT_HEADER_OFFSET = 6;
const CMP_OPERATION = 2, CMP_DATA = 3, CMP_EQUAL = 0, DATA_VALUE = 1;
const IMMEDIATE_DATA = 2, DATA_VERDICT = 2, VERDICT_CODE = 1;
const NF_DROP = 0, NF_ACCEPT = 1;
const FIB_RESULT = 2, FIB_FLAGS = 3, FIB_RESULT_OIF = 1, FIB_RESULT_OIFNAME = 2, FIB_SADDR = 1;
const MATCH_NAME = 1, REJECT = "reject";
const RECEIVE_BUFFER = 256 * 1024;
const SOL_SOCKET = 1, SO_RCVTIMEO = 20, ANSWER_TIMEOUT_S = 5;

/** A rule. */
export interface FilterRule {
  /** What becomes of a packet to which all of it applies; undefined: something else. */
  readonly verdict: "accept" | "drop" | undefined;
  /** Whether it asks for nothing, so that it applies to all packets. */
  readonly unconditional: boolean;
  /** The protocol number it asks for by itself; -1 when it looks that up in a set. */
  readonly protocol: number | undefined;
  /** The interface that a packet must have come in by; empty when it is looked up, or named by number. */
  readonly iif: string | undefined;
  /** Whether it asks if the way back to the source leads to the interface of arrival. */
  readonly checksReversePath: boolean;
}

/** A chain to which the kernel gives IPv6 packets. */
export interface FilterChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook: "prerouting" | "input" | "forward" | "output" | "postrouting";
  /** What becomes of packets about which no rule decides. */
  readonly policy: "accept" | "drop";
  /** Its own rules, in order, followed by those of the chains of its table that no hook asks: it may jump there. */
  readonly rules: readonly FilterRule[];
}

/**
 * The chains that see IPv6 packets, in the calling thread's network namespace. Empty when there are none, or no
 * nf_tables. Throws `SystemError`, EPERM without CAP_NET_ADMIN.
 */
export function filterChains(): FilterChain[] {
  let fd: number;
  try {
    fd = check(libc().socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_NETFILTER), threadErrno[0], "socket nfnetlink");
  } catch (error) {
    if (error instanceof SystemError && error.code === "EPROTONOSUPPORT") return [];
    throw error;
  }
  try {
    const timeout = stableBytes(16);
    timeout[0] = ANSWER_TIMEOUT_S;
    libc().setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout, 16);
    const chains = dump(fd, GET_CHAIN).map(parseChain);
    const rules = dump(fd, GET_RULE).map(parseRule);
    return chains.flatMap((chain) => {
      const { family, table, name, hook, policy } = chain;
      if (family === undefined || hook === undefined) return [];
      const isHooked = (other: string) =>
        chains.some((c) => c.family === family && c.table === table && c.name === other && c.hook !== undefined);
      const ofTable = rules.filter((rule) => rule.family === family && rule.table === table);
      const reachable = [
        ...ofTable.filter((rule) => rule.chain === name),
        ...ofTable.filter((rule) => !isHooked(rule.chain)),
      ];
      return [{ family, table, name, hook, policy, rules: reachable.map(({ rule }) => rule) }];
    });
  } finally {
    closeFd(fd);
  }
}

function dump(fd: number, what: number): Uint8Array[] {
  const request = new MessageBuilder(256), call = "list nf_tables";
  request.begin(what, NLM_F_REQUEST_DUMP, what).u8(0, 0, 0, 0);
  check(libc().sendto(fd, request.octets, request.length, 0, null, 0), threadErrno[0], call);
  const buffer = stableBytes(RECEIVE_BUFFER), bodies: Uint8Array[] = [];
  for (;;) {
    const length = libc().recv(fd, buffer, buffer.length, 0), code = threadErrno[0];
    if (length < 0 && code === Errno.EINTR) continue;
    check(length, code, call);
    for (const { type, sequence, body } of readMessages(buffer, length)) {
      if (sequence !== what) continue;
      if (type === NLMSG_DONE) return bodies;
      if (type === NLMSG_ERROR) {
        const failure = -new DataView(body.buffer, body.byteOffset).getInt32(0, true);
        // Without nf_tables in the kernel nobody knows this subsystem.
        if (failure === Errno.EINVAL || failure === Errno.ENOENT || failure === Errno.EOPNOTSUPP) return bodies;
        throw new SystemError(call, failure);
      }
      bodies.push(body.slice());
    }
  }
}

function parseChain(body: Uint8Array) {
  const attributes = new Attributes(body, HEADER);
  const hook = be32(attributes.nested(CHAIN_HOOK).octets(HOOK_NUMBER));
  return {
    family: FAMILIES[body[0]],
    table: attributes.text(CHAIN_TABLE) ?? "",
    name: attributes.text(CHAIN_NAME) ?? "",
    // Chains of other types translate or mark packets, and decide nothing.
    hook: hook === undefined || attributes.text(CHAIN_TYPE) === "nat" ? undefined : HOOKS[hook],
    policy: be32(attributes.octets(CHAIN_POLICY)) === NF_DROP ? "drop" as const : "accept" as const,
  };
}

function parseRule(body: Uint8Array) {
  const attributes = new Attributes(body, HEADER);
  return {
    family: FAMILIES[body[0]],
    table: attributes.text(RULE_TABLE) ?? "",
    chain: attributes.text(RULE_CHAIN) ?? "",
    rule: readExpressions(attributes.octets(RULE_EXPRESSIONS) ?? new Uint8Array(0)),
  };
}

/** Follows the few expressions that matter: what is loaded, and what the next comparison asks of it. */
function readExpressions(octets: Uint8Array): FilterRule {
  let verdict: FilterRule["verdict"], protocol: number | undefined, iif: string | undefined;
  let unconditional = true, checksReversePath = false;
  let loaded: "protocol" | "iif" | undefined;
  for (const octetsOfOne of elements(octets)) {
    const expression = new Attributes(octetsOfOne), data = expression.nested(EXPRESSION_DATA);
    const name = expression.text(EXPRESSION_NAME);
    switch (name) {
      case "meta": {
        const key = be32(data.octets(META_KEY));
        loaded = key === META_L4PROTO ? "protocol" : key === META_IIFNAME || key === META_IIF ? "iif" : undefined;
        break;
      }
      case "payload": {
        const [base, offset, length] = [PAYLOAD_BASE, PAYLOAD_OFFSET, PAYLOAD_LENGTH].map((t) => be32(data.octets(t)));
        loaded = base === NETWORK_HEADER && offset === NEXT_HEADER_OFFSET && length === 1 ? "protocol" : undefined;
        break;
      }
      case "cmp": {
        unconditional = false;
        const value = data.nested(CMP_DATA).octets(DATA_VALUE);
        if (be32(data.octets(CMP_OPERATION)) !== CMP_EQUAL || value === undefined) break;
        if (loaded === "protocol") protocol = value[0];
        if (loaded === "iif") iif = value.length > 4 ? new TextDecoder().decode(value).replace(/\0.*$/s, "") : "";
        break;
      }
      case "lookup":
        unconditional = false;
        if (loaded === "protocol") protocol = -1;
        if (loaded === "iif") iif = "";
        break;
      case "fib":
        unconditional = false;
        checksReversePath ||= ((be32(data.octets(FIB_FLAGS)) ?? 0) & FIB_SADDR) !== 0 &&
          [FIB_RESULT_OIF, FIB_RESULT_OIFNAME].includes(be32(data.octets(FIB_RESULT)) ?? 0);
        break;
      case "match":
        unconditional = false;
        checksReversePath ||= data.text(MATCH_NAME) === "rpfilter";
        break;
      case "immediate": {
        const code = be32(data.nested(IMMEDIATE_DATA).nested(DATA_VERDICT).octets(VERDICT_CODE));
        if (code === NF_DROP) verdict = "drop";
        if (code === NF_ACCEPT) verdict = "accept";
        break;
      }
      case REJECT:
        verdict = "drop";
        break;
      case "counter":
      case "log":
        break;
      default:
        unconditional = false;
    }
  }
  return { verdict, unconditional, protocol, iif, checksReversePath };
}

/** The elements of a list, which all have the same type. */
function* elements(octets: Uint8Array): Generator<Uint8Array> {
  const view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
  for (let at = 0; octets.length - at >= 4;) {
    const size = view.getUint16(at, true);
    if (size < 4 || size > octets.length - at) return;
    yield octets.subarray(at + 4, at + size);
    at += (size + 3) & ~3;
  }
}

/** nf_tables speaks network byte order. */
function be32(value: Uint8Array | undefined): number | undefined {
  if (value?.length !== 4) return undefined;
  return new DataView(value.buffer, value.byteOffset).getUint32(0);
}
