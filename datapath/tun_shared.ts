/** What the main thread and the packet loop's Worker share: how they talk, and who writes what. */

/** What the Worker is started with; plain values and shared memory, to be sent by `postMessage`. */
export interface TunWorkerInit {
  /** The TUN device. */
  readonly tunFd: number;
  /** The payload socket. */
  readonly payloadFd: number;
  /** Event file by which the main thread signals commands. */
  readonly commandFd: number;
  /** Event file by which the Worker signals notices. */
  readonly noticeFd: number;
  /** Ring of commands. */
  readonly commands: SharedArrayBuffer;
  /** Ring of notices. */
  readonly notices: SharedArrayBuffer;
  /** {@linkcode ACTIVITY_FIELDS} numbers for each context slot, written by the Worker. */
  readonly activity: SharedArrayBuffer;
  /** A number for each of {@linkcode COUNTERS}, written by the Worker. */
  readonly counters: SharedArrayBuffer;
  /** One 32-bit word: a {@linkcode WorkerState}. */
  readonly state: SharedArrayBuffer;
  /** Context slots. */
  readonly contexts: number;
  /** Octets held back for all contexts. */
  readonly holdBytes: number;
  /** Octets held back for one of them. */
  readonly holdShare: number;
  /** The age in ms at which the copy of a datagram is no longer worth sending. */
  readonly holdDatagramMs: number;
  /** Unpredictable 32 bits. */
  readonly seed: number;
  /** Next header of Shim6. */
  readonly protocol: number;
}

/** Life of the Worker. */
export const WorkerState = { STARTING: 0, RUNNING: 1, STOPPED: 2, FAILED: 3 } as const;

/** Fields of a context's activity, 64-bit floating point each; the same as `Activity`. */
export const ActivityField = {
  LAST_SENT: 0,
  LAST_RECEIVED: 1,
  FIRST_UNANSWERED: 2,
  FIRST_UNREPLIED: 3,
  SENT_PACKETS: 4,
  SENT_BYTES: 5,
  RECEIVED_PACKETS: 6,
  RECEIVED_BYTES: 7,
} as const;
/** How many fields each context has. */
export const ACTIVITY_FIELDS = 8;

/** Counters of the Worker. Their names are those of `Datapath.counters()`. */
export const COUNTERS = [
  "translated-out",
  "translated-in",
  "sent-unchanged",
  "released",
  "copied",
  "fragmented",
  "too-big-reported",
  "held-dropped",
  "held-stale",
  "dropped-not-ipv6",
  "dropped-malformed",
  "dropped-not-unicast",
  "dropped-no-sender",
  "dropped-too-big",
  "dropped-unknown-tag",
  "dropped-malformed-in",
  "dropped-nested",
  "dropped-send-failed",
  "dropped-send-buffer-full",
  "dropped-device",
  "notices-lost",
] as const;
/** Index of a counter. */
export const Counter = Object.fromEntries(COUNTERS.map((name, i) => [name, i])) as Record<
  typeof COUNTERS[number],
  number
>;

/** Octets of a command. */
export const COMMAND_BYTES = 128;
/** Commands that wait at most. */
export const COMMAND_CAPACITY = 1024;
/** Octets of a notice. */
export const NOTICE_BYTES = 64;
/** Notices that wait at most. */
export const NOTICE_CAPACITY = 256;

/** Commands of the main thread; the fields each one has follow in {@linkcode CommandField}. */
export const Command = {
  /** SLOT, FLAGS (1: forked), ULID_LOCAL, ULID_PEER, LOCAL_TAG, PEER_TAG. */
  ADD: 1,
  /** SLOT, LOCAL_TAG, PEER_TAG. */
  RETAG: 2,
  /** SLOT. */
  REMOVE: 3,
  /** SLOT, SENDER, MTU, FLAGS, LOCATOR_LOCAL, LOCATOR_PEER, LAST_HEARD. */
  PATH: 4,
  /** SLOT, MTU. */
  MTU: 5,
  /** SENDER, LOCATOR_LOCAL, MTU: what packets of no context leave by. */
  ADD_SENDER: 6,
  /** SENDER: no command after this one names it; the Worker closes it. */
  REMOVE_SENDER: 7,
  STOP: 8,
  /**
   * SLOT, SENDER, MTU, FLAGS, LOCATOR_LOCAL, LOCATOR_PEER, LAST_HEARD: a second way on which copies of packets leave, until
   * the next PATH of the context.
   */
  COPY: 9,
} as const;

/** Offsets in a command; 32-bit numbers, addresses of 16 octets, tags of 6, LAST_HEARD a 64-bit floating point number. */
export const CommandField = {
  KIND: 0,
  SLOT: 4,
  SENDER: 8,
  MTU: 12,
  /** Of a path, bits of {@linkcode PathFlag}. */
  FLAGS: 16,
  LOCAL_TAG: 20,
  PEER_TAG: 26,
  ULID_LOCAL: 32,
  ULID_PEER: 48,
  LOCATOR_LOCAL: 64,
  LOCATOR_PEER: 80,
  LAST_HEARD: 96,
} as const;

/** How payload is to be carried. */
export const PathFlag = { TRANSLATE: 1, HOLD: 2, RELEASE: 4 } as const;

/** Notices of the Worker. */
export const Notice = {
  /** TAG, LOCAL (destination of the packet), PEER (its source). */
  UNKNOWN_TAG: 1,
  /** LOCAL, PEER, ERRNO. */
  SEND_FAILED: 2,
  /** LOCAL, PEER: the device's MTU is smaller than was thought. */
  DEVICE_MTU: 3,
  /** No fields: a context on hold sends again after a pause. */
  RESUMED: 4,
} as const;

/** Offsets in a notice. */
export const NoticeField = { KIND: 0, ERRNO: 4, TAG: 8, LOCAL: 16, PEER: 32 } as const;
