/**
 * What the kernel's TCP sends next and what it has no acknowledgement for: sequence numbers, which no socket option and
 * no netlink message tells, but an eBPF program may read. The program is attached to nothing. It runs once for each
 * question, and costs nothing while none is asked.
 */

import { BPF_F_MMAPABLE, BpfMap, BpfMapType, BpfProgram, type TcpConnection } from "deno-tun";
import { ADDRESS_LENGTH } from "../wire/address.ts";
import { put16 } from "../wire/octets.ts";
import { BpfAssembler, FP, Helper, R0, R1, R2, R3, R4, R5, R6, R7, R8 } from "./bpf_assembler.ts";

/** The question (`struct bpf_sock_tuple`, as in a packet of the peer) and behind it the answer. */
const Field = {
  PEER: 0,
  LOCAL: 16,
  PEER_PORT: 32,
  LOCAL_PORT: 34,
  FOUND: 36,
  FIRST: 40,
  NEXT: 44,
  LENGTH: 48,
} as const;
const TUPLE_LENGTH = 36;
/** `struct bpf_tcp_sock` (linux/bpf.h): offsets. */
const SND_NXT = 20, SND_UNA = 24;
const BPF_F_CURRENT_NETNS = -1;
/** The least that the kernel runs a program of this type on: an Ethernet header. */
const FRAME = new Uint8Array(14);

/** Assembles the program for a map of one value. */
export function sequenceProgram(mapFd: number): Uint8Array {
  return new BpfAssembler()
    .set(R6, R1)
    .store("u32", FP, -4, 0)
    .setMap(R1, mapFd).set(R2, FP).add(R2, -4).call(Helper.mapLookup)
    .jumpIf(R0, "==", 0, "out")
    .set(R7, R0).store("u32", R7, Field.FOUND, 0)
    .set(R1, R6).set(R2, R7).set(R3, TUPLE_LENGTH).set(R4, BPF_F_CURRENT_NETNS).set(R5, 0).call(Helper.skcLookupTcp)
    .jumpIf(R0, "==", 0, "out")
    .set(R8, R0).set(R1, R0).call(Helper.tcpSock)
    .jumpIf(R0, "==", 0, "release")
    .load("u32", R1, R0, SND_UNA).store("u32", R7, Field.FIRST, R1)
    .load("u32", R1, R0, SND_NXT).store("u32", R7, Field.NEXT, R1)
    .store("u32", R7, Field.FOUND, 1)
    .label("release").set(R1, R8).call(Helper.skRelease)
    .label("out").exitWith(0)
    .assemble();
}

/** Sequence numbers of a connection. */
export interface Outstanding {
  /** Of the first octet that is not acknowledged. */
  readonly first: number;
  /** Of the next octet that was never sent. */
  readonly next: number;
}

/** Asks for sequence numbers, in the network namespace of the thread that asks. */
export class TcpSequence {
  readonly #map: BpfMap;
  readonly #program: BpfProgram;
  readonly #octets: Uint8Array;
  readonly #view: DataView;

  /** Throws `SystemError` where the kernel does not allow or know what is needed. */
  constructor() {
    this.#map = new BpfMap({
      type: BpfMapType.ARRAY,
      keySize: 4,
      valueSize: Field.LENGTH,
      maxEntries: 1,
      flags: BPF_F_MMAPABLE,
      name: "shim6_sequence",
    });
    try {
      this.#program = new BpfProgram("shim6_sequence", sequenceProgram(this.#map.fd));
      const memory = this.#map.map();
      this.#octets = new Uint8Array(memory);
      this.#view = new DataView(memory);
    } catch (error) {
      this.#map.close();
      throw error;
    }
  }

  /** What a connection has not been acknowledged; undefined when there is no such connection. Throws `SystemError`. */
  outstanding({ addresses, localPort, peerPort }: TcpConnection): Outstanding | undefined {
    const octets = this.#octets;
    octets.set(addresses.subarray(0, ADDRESS_LENGTH), Field.LOCAL);
    octets.set(addresses.subarray(ADDRESS_LENGTH), Field.PEER);
    put16(octets, Field.LOCAL_PORT, localPort);
    put16(octets, Field.PEER_PORT, peerPort);
    this.#program.testRun(FRAME);
    if (this.#view.getUint32(Field.FOUND, true) !== 1) return undefined;
    return { first: this.#view.getUint32(Field.FIRST, true), next: this.#view.getUint32(Field.NEXT, true) };
  }

  /** Frees the program and the map. */
  close(): void {
    this.#program.close();
    this.#map.close();
  }
}
