/** Whether this machine lets a test use eBPF. */

import { BpfProgram, monotonicNow, TcxLink } from "deno-tun";
import { BpfAssembler } from "../../datapath/bpf_assembler.ts";

monotonicNow(); // opens the C library, which stays open, before a test begins and counts what it leaves behind

function refusal(): string {
  let program: BpfProgram | undefined;
  try {
    program = new BpfProgram("probe", new BpfAssembler().exitWith(0).assemble());
    new TcxLink(program, 1, "ingress", "last").close();
    return "";
  } catch (error) {
    return (error as Error).message;
  } finally {
    program?.close();
  }
}

const reason = refusal();

/** Skips a test that needs eBPF with tcx, and says why. */
export const bpfRefused = reason !== "";
if (bpfRefused) console.log(`tests that need eBPF are left out: ${reason}`);
