/** Two hosts with a datapath each and one context between their addresses of link 1. */

import { assertEquals } from "@std/assert";
import { TunDatapath, type TunDatapathOptions } from "../../datapath/tun_datapath.ts";
import type { PathInstruction } from "../../shim6/api.ts";
import { until } from "./sockets.ts";
import type { Host, TwoHosts } from "./two_hosts.ts";

/** The Worker's module. */
export const WORKER_MODULE = new URL("./worker_main.ts", import.meta.url).href;
/** The tags that the hosts A and B look for. */
export const TAG_A = 0x7a7b_7c7d_7e7f, TAG_B = 0x0102_0304_0506;
/** The context's number on both hosts. */
export const CONTEXT = 1;

/** The datapaths of two hosts. */
export interface HostsDatapath {
  readonly a: TunDatapath;
  readonly b: TunDatapath;
  /** Both hosts: packets go as they are. */
  direct(): void;
  /** Both hosts: packets go by `link`. */
  translate(link: number): void;
  /** One host: its packets go by `link`. */
  setPath(host: "a" | "b", link: number, change?: Partial<PathInstruction>): void;
  [Symbol.dispose](): void;
}

/** Tells a datapath the addresses of its host. */
export function setLocators(host: Host, datapath: TunDatapath, links: number): void {
  host.in(() =>
    datapath.setLocators(Array.from({ length: links }, (_, i) => ({
      address: host.address(i + 1),
      interfaceIndex: host.netlink.link(`eth${i + 1}`)!.index,
      interfaceName: `eth${i + 1}`,
      usable: true,
      deprecated: false,
    })))
  );
}

/** Checks a counter, with patience: a packet is counted once it was sent, so its receiver may have it before. */
export function assertCounts(datapath: TunDatapath, counter: string, expected: number): void {
  until(`${counter} at ${expected}`, () => datapath.counters()[counter] >= expected);
  assertEquals(datapath.counters()[counter], expected, counter);
}

/** Opens a datapath on each of two hosts with two links; `optionsB` are those of host B, when they are others. */
export function openDatapath(
  hosts: TwoHosts,
  options: Partial<TunDatapathOptions> = {},
  optionsB: Partial<TunDatapathOptions> = options,
): HostsDatapath {
  const open = (host: Host, options: Partial<TunDatapathOptions>) => {
    let datapath: TunDatapath | undefined;
    host.in(() => {
      datapath = new TunDatapath({ moduleUrl: WORKER_MODULE, excludedPorts: [], ...options });
    });
    setLocators(host, datapath!, 2);
    return datapath!;
  };
  const datapaths = { a: open(hosts.a, options), b: open(hosts.b, optionsB) };
  const peers = { a: hosts.b, b: hosts.a };
  const pair = (host: "a" | "b", link: number) => ({
    local: hosts[host].address(link),
    peer: peers[host].address(link),
  });
  for (const host of ["a", "b"] as const) {
    const [localTag, peerTag] = host === "a" ? [TAG_A, TAG_B] : [TAG_B, TAG_A];
    hosts[host].in(() => datapaths[host].addContext({ id: CONTEXT, ulid: pair(host, 1), localTag, peerTag, fii: 0 }));
  }
  const setPath = (host: "a" | "b", link: number, change: Partial<PathInstruction> = {}) =>
    hosts[host].in(() =>
      datapaths[host].setPath(CONTEXT, { pair: pair(host, link), hold: false, release: false, ...change })
    );
  const leases = setInterval(() => {
    for (const host of ["a", "b"] as const) datapaths[host].renewLeases();
  }, 500);
  return {
    ...datapaths,
    direct() {
      setPath("a", 1);
      setPath("b", 1);
    },
    translate(link) {
      setPath("a", link);
      setPath("b", link);
    },
    setPath,
    [Symbol.dispose]() {
      clearInterval(leases);
      datapaths.a.close();
      datapaths.b.close();
    },
  };
}
