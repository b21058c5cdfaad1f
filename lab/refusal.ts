/** Whether this machine lets this user build the testbed, tried out in namespaces of their own. */

import { closeFd, closeNetns, createNetns, Netlink, openTun, SystemError, withNetns, writeSysctl } from "deno-tun";

/** Why there can be no testbed here; undefined when there can. Leaves nothing behind. */
export function testbedRefusal(): string | undefined {
  if (Deno.build.os !== "linux") return `network namespaces are Linux's, and this is ${Deno.build.os}`;
  let netns: number | undefined;
  try {
    netns = createNetns();
    withNetns(netns, () => {
      writeSysctl("net/ipv6/conf/all/forwarding", 1);
      const netlink = new Netlink();
      try {
        netlink.createVeth("probe0", "probe1");
      } finally {
        netlink.close();
      }
      closeFd(openTun("probe2").fd);
    });
    return undefined;
  } catch (error) {
    if (error instanceof SystemError) return error.message;
    throw error;
  } finally {
    if (netns !== undefined) closeNetns(netns);
  }
}
