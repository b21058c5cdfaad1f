/** Two hosts in network namespaces of their own, joined by links, for tests that need real sockets. */

import { closeNetns, createNetns, monotonicNow, Netlink, withNetns, writeSysctl } from "deno-tun";

monotonicNow(); // opens the C library, which stays open, before a test begins and counts what it leaves behind

/** Skips a test that needs root, and says so. */
export const needsRoot = Deno.uid() !== 0;
if (needsRoot) console.log("tests with network namespaces are left out: not root");

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** One of two hosts. Its interface on link i (from 1) is `eth<i>` with the address `fd00:<i>::a` or `::b`. */
export interface Host {
  /** Runs `fn` with this thread in the host's namespace. */
  in<T>(fn: () => T extends PromiseLike<unknown> ? never : T): T;
  readonly netlink: Netlink;
  address(link: number): string;
  /** A path by which `nsenter --net=` and others find the namespace. */
  readonly path: string;
}

/** The two hosts and their end. */
export interface TwoHosts {
  readonly a: Host;
  readonly b: Host;
  [Symbol.dispose](): void;
}

/** Creates two hosts with `links` links between them. */
export function twoHosts(links: number): TwoHosts {
  const a = createNetns(), b = createNetns();
  const hosts = ([[a, "a"], [b, "b"]] as const).map(([fd, letter]): Host => ({
    in: (fn) => withNetns(fd, fn),
    netlink: withNetns(fd, () => new Netlink()),
    address: (link) => `fd00:${link}::${letter}`,
    path: `/proc/${Deno.pid}/fd/${fd}`,
  }));
  for (const host of hosts) {
    host.in(() => writeSysctl("net/ipv6/conf/all/accept_dad", 0));
    host.in(() => writeSysctl("net/ipv6/conf/default/accept_dad", 0));
    host.netlink.setLink("lo", { up: true });
  }
  for (let link = 1; link <= links; link++) {
    hosts[0].netlink.createVeth(`eth${link}`, `eth${link}`, { peerNetnsFd: b });
    for (const [host, own, router] of [[hosts[0], "fe80::a", "fe80::b"], [hosts[1], "fe80::b", "fe80::a"]] as const) {
      host.netlink.setLink(`eth${link}`, { up: true });
      const index = host.netlink.link(`eth${link}`)!.index;
      host.netlink.addAddress(index, host.address(link), 128, { nodad: true, noPrefixRoute: true });
      host.netlink.addAddress(index, own, 64, { nodad: true });
      // Each address leaves by its own link and router only, as on a host with several providers.
      host.netlink.replaceRoute({ source: { address: host.address(link), length: 128 }, via: router, dev: index });
    }
  }
  // The kernel takes up to a second to start a link's queue, and until then drops what is sent; and it joins the
  // multicast groups of new addresses a little later, so that the first neighbour solicitation would be lost.
  for (const host of hosts) {
    for (let link = 1; link <= links; link++) while (!host.netlink.link(`eth${link}`)!.running) sleep(1);
  }
  sleep(20);
  return {
    a: hosts[0],
    b: hosts[1],
    [Symbol.dispose]() {
      for (const host of hosts) host.netlink.close();
      closeNetns(a);
      closeNetns(b);
    },
  };
}
