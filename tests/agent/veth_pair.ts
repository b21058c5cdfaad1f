/** Two network namespaces on one link, with quick duplicate address detection. Needs root. */

import { closeNetns, createNetns, Netlink, withNetns, writeSysctl } from "deno-tun";

/** A veth pair `left`–`right`, both ends up, each in a namespace of its own. */
export class VethPair implements Disposable {
  readonly leftFd = createNetns();
  readonly rightFd = createNetns();
  readonly left = withNetns(this.leftFd, () => new Netlink());
  readonly right = withNetns(this.rightFd, () => new Netlink());

  constructor() {
    this.left.createVeth("left", "right", { peerNetnsFd: this.rightFd });
    withNetns(this.leftFd, () => {
      // Five questions 60 ms apart instead of one after up to a second.
      writeSysctl("net/ipv6/conf/left/router_solicitation_delay", 0);
      writeSysctl("net/ipv6/conf/left/dad_transmits", 5);
      writeSysctl("net/ipv6/neigh/left/retrans_time_ms", 60);
    });
    this.left.setLink("left", { up: true });
    this.right.setLink("right", { up: true });
  }

  get leftIndex(): number {
    return this.left.link("left")!.index;
  }

  get rightIndex(): number {
    return this.right.link("right")!.index;
  }

  [Symbol.dispose](): void {
    this.left.close();
    this.right.close();
    closeNetns(this.leftFd);
    closeNetns(this.rightFd);
  }
}
