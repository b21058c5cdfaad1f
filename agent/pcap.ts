/** Writes control messages into a capture file that Wireshark and tcpdump open. */

/** Classic libpcap, microseconds; each packet begins with its IPv6 header (LINKTYPE_IPV6). */
const MAGIC = 0xa1b2c3d4, LINKTYPE_IPV6 = 229, SNAPLEN = 2048;

/** An open capture file. Packets are written at once: a capture is most wanted after a crash. */
export class PcapWriter {
  readonly #file: Deno.FsFile;
  readonly #record = new Uint8Array(16 + SNAPLEN);
  readonly #view = new DataView(this.#record.buffer);

  /** Creates or truncates the file at `path`. */
  constructor(path: string) {
    this.#file = Deno.openSync(path, { write: true, create: true, truncate: true, mode: 0o600 });
    const header = new DataView(new ArrayBuffer(24));
    header.setUint32(0, MAGIC, true);
    header.setUint16(4, 2, true); // format version 2.4
    header.setUint16(6, 4, true);
    header.setUint32(16, SNAPLEN, true);
    header.setUint32(20, LINKTYPE_IPV6, true);
    writeWhole(this.#file, new Uint8Array(header.buffer));
  }

  /** Appends an IPv6 packet seen at `wallMs` (milliseconds since 1970). */
  write(packet: Uint8Array, wallMs: number): void {
    const kept = Math.min(packet.length, SNAPLEN);
    this.#view.setUint32(0, Math.floor(wallMs / 1000), true);
    this.#view.setUint32(4, Math.floor((wallMs % 1000) * 1000), true);
    this.#view.setUint32(8, kept, true);
    this.#view.setUint32(12, packet.length, true);
    this.#record.set(packet.subarray(0, kept), 16);
    writeWhole(this.#file, this.#record.subarray(0, 16 + kept));
  }

  close(): void {
    this.#file.close();
  }
}

/** `writeSync` may write less than it was given. */
export function writeWhole(file: Deno.FsFile, octets: Uint8Array): void {
  for (let done = 0; done < octets.length;) done += file.writeSync(octets.subarray(done));
}
