/** What must hold before the agent touches anything: said in one sentence each, with the way out. */

import { effectiveCapabilities } from "deno-tun";
import { UsageError } from "./errors.ts";

/** Throws {@linkcode UsageError} when this host or user cannot run the agent. */
export function preflight(): void {
  if (Deno.build.os !== "linux") throw new UsageError(`this is ${Deno.build.os}; the agent runs on Linux only`);
  const capabilities = effectiveCapabilities();
  const missing = (["CAP_NET_ADMIN", "CAP_NET_RAW"] as const).filter((name) => !capabilities.has(name));
  if (missing.length > 0) {
    throw new UsageError(
      `${missing.join(" and ")} missing: run as root, or give the file its capabilities with ` +
        `setcap cap_net_admin,cap_net_raw,cap_bpf+ep`,
    );
  }
  try {
    Deno.statSync("/dev/net/tun");
  } catch {
    throw new UsageError("/dev/net/tun does not exist: load the module with modprobe tun");
  }
  let disabled = "0";
  try {
    disabled = Deno.readTextFileSync("/proc/sys/net/ipv6/conf/all/disable_ipv6").trim();
  } catch {
    throw new UsageError("this kernel has no IPv6");
  }
  if (disabled === "1") throw new UsageError("IPv6 is switched off: sysctl net.ipv6.conf.all.disable_ipv6=0");
}
