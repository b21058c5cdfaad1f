/** Keeps programs attached to a changing set of interfaces. */

import { type BpfProgram, Errno, SystemError, type TcxDirection, TcxLink, type TcxPosition } from "deno-tun";

/** What is attached to an interface. */
export interface TcxAttachment {
  /** The program, which its owner closes. */
  readonly program: BpfProgram;
  /** From which side it sees packets. */
  readonly direction: TcxDirection;
}

/** Programs at interfaces, by links of this process alone: when it ends, they are gone. */
export class TcxAttachments {
  readonly #position: TcxPosition;
  readonly #programs: (interfaceIndex: number) => readonly TcxAttachment[];
  readonly #links = new Map<number, TcxLink[]>();

  /** `programs` says what belongs to an interface. */
  constructor(position: TcxPosition, programs: (interfaceIndex: number) => readonly TcxAttachment[]) {
    this.#position = position;
    this.#programs = programs;
  }

  /**
   * Attaches and detaches until the programs are on exactly these interfaces, those among them that exist. Throws
   * `SystemError`, but not for an interface that vanished.
   */
  set(interfaceIndexes: Iterable<number>): void {
    const wanted = new Set(interfaceIndexes);
    for (const [index, links] of this.#links) {
      if (wanted.has(index) && links.every((link) => link.attached)) continue;
      for (const link of links) link.close();
      this.#links.delete(index);
    }
    for (const index of wanted) if (!this.#links.has(index)) this.#attach(index);
  }

  #attach(index: number): void {
    const links: TcxLink[] = [];
    try {
      for (const { program, direction } of this.#programs(index)) {
        links.push(new TcxLink(program, index, direction, this.#position));
      }
    } catch (error) {
      for (const link of links) link.close();
      // Gone between the event that named it and this call; another event follows.
      if (error instanceof SystemError && error.errno === Errno.ENODEV) return;
      throw error;
    }
    this.#links.set(index, links);
  }

  /** Detaches all. */
  close(): void {
    this.set([]);
  }
}
