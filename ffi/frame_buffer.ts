/** One large buffer into which frames are read and from which they are written at any offset, without a view for each. */

import { check, Errno, SystemError } from "./errno.ts";
import { libc, threadErrno } from "./libc.ts";
import { addressOf, putAddress, stableBytes } from "./memory.ts";

/** A buffer with an address that the kernel may use. */
export class FrameBuffer {
  /** The buffer itself. */
  readonly octets: Uint8Array<ArrayBuffer>;
  readonly #address: number;
  /** struct iovec: address and length of 64 bits each. */
  readonly #iovec = new Uint32Array(stableBytes(16).buffer, 0, 4);
  readonly #iovecBytes = new Uint8Array(this.#iovec.buffer, 0, 16);

  /** `length` in octets; the system gives the memory only as it is used. */
  constructor(length: number) {
    this.octets = stableBytes(length);
    this.#address = addressOf(this.octets);
  }

  #point(offset: number, length: number): void {
    if (offset < 0 || offset + length > this.octets.length) {
      throw new RangeError(`octets ${offset} to ${offset + length} of ${this.octets.length}`);
    }
    putAddress(this.#iovec, 0, this.#address + offset);
    this.#iovec[2] = length;
  }

  /**
   * Reads at most `length` octets to `offset`. Returns how many, 0 at the end of a stream, -1 when there is nothing to
   * read now. Throws SystemError.
   */
  read(fd: number, offset: number, length: number): number {
    this.#point(offset, length);
    const result = libc().readv(fd, this.#iovecBytes, 1), code = threadErrno[0];
    if (result >= 0) return result;
    if (code === Errno.EAGAIN || code === Errno.EINTR) return -1;
    throw new SystemError(`read descriptor ${fd}`, code);
  }

  /** Writes `length` octets from `offset`. Returns how many. Throws SystemError. */
  write(fd: number, offset: number, length: number): number {
    this.#point(offset, length);
    return check(libc().writev(fd, this.#iovecBytes, 1), threadErrno[0], `write descriptor ${fd}`);
  }
}
