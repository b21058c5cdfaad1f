"""
The two ends of the streams that `bench/fast.ts` measures. Python, because its sockets take the protocol number of
Multipath TCP. Prints a JSON object a line; all times are monotonic milliseconds.

    stream.py serve  TRANSPORT ADDRESS PORT EVERY_MS BYTES     tells of arrivals that come late
    stream.py client TRANSPORT LOCAL PEER PORT EVERY_MS BYTES  reads commands: pause, resume, connect, quit

TRANSPORT: tcp, mptcp or udp. EVERY_MS 0: as fast as it goes. With udp both ends send, and both tell of arrivals; a server
with a negative EVERY_MS answers each datagram instead.
"""

import json
import selectors
import socket
import sys
import threading
import time

IPPROTO_MPTCP = 262
GAP_MS = 12
CONNECT_TIMEOUT_S = 4


def now():
    return time.clock_gettime(time.CLOCK_MONOTONIC) * 1000


lock = threading.Lock()


def tell(**fields):
    with lock:
        print(json.dumps(fields), flush=True)


class Arrivals:
    def __init__(self):
        self.last = None
        self.packets = 0
        self.octets = 0

    def add(self, octets):
        at = now()
        if self.last is not None and at - self.last >= GAP_MS:
            tell(event="gap", **{"from": self.last, "to": at})
        self.last = at
        self.packets += 1
        self.octets += octets


def stream_socket(transport):
    protocol = IPPROTO_MPTCP if transport == "mptcp" else 0
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, protocol)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def datagram_socket(local, port):
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.bind((local, port))
    return sock


def pace(send, every_ms, size, running):
    """Sends blocks until the program ends; stands still while `running` is not set."""
    block = b"x" * (size if every_ms > 0 else 65536)
    at = now()
    while True:
        if not running.is_set():
            running.wait()
            at = now()
            tell(event="resumed", at=at)
        try:
            send(block)
        except OSError:
            pass  # a path that is down; the next block tries again
        if every_ms > 0:
            at += every_ms
            wait = at - now()
            if wait > 0:
                time.sleep(wait / 1000)
            else:
                at = now()


def start(send, every_ms, size):
    running = threading.Event()
    running.set()
    threading.Thread(target=pace, args=(send, every_ms, size, running), daemon=True).start()
    return running


def receive_datagrams(sock, arrivals, on_first=None, echo=False):
    while True:
        try:
            octets, source = sock.recvfrom(65536)
        except OSError:
            continue
        arrivals.add(len(octets))
        if echo:
            sock.sendto(b"y", source)
        elif on_first is not None:
            on_first(source)
            on_first = None


def serve(transport, address, port, every_ms, size):
    arrivals = Arrivals()
    if transport == "udp":
        sock = datagram_socket(address, port)
        tell(event="listening")
        answer = lambda peer: start(lambda block: sock.sendto(block, peer), every_ms, size)
        receive_datagrams(sock, arrivals, answer, echo=every_ms < 0)
    listener = stream_socket(transport)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen()
    tell(event="listening")
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                selector.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            try:
                octets = key.fileobj.recv(1 << 20)
            except OSError:
                octets = b""
            if octets:
                arrivals.add(len(octets))
            else:
                selector.unregister(key.fileobj)
                key.fileobj.close()


def client(transport, local, peer, port, every_ms, size):
    if transport == "udp":
        sock = datagram_socket(local, port)
        threading.Thread(target=receive_datagrams, args=(sock, Arrivals()), daemon=True).start()
        running = start(lambda block: sock.sendto(block, (peer, port)), every_ms, size)
    else:
        sock = stream_socket(transport)
        sock.bind((local, 0))
        sock.connect((peer, port))
        running = start(sock.sendall, every_ms, size)
    tell(event="sending")
    for line in sys.stdin:
        command = line.strip()
        if command == "pause":
            running.clear()
        elif command == "resume":
            running.set()
        elif command == "connect":
            other = stream_socket(transport)
            other.settimeout(CONNECT_TIMEOUT_S)
            other.bind((local, 0))
            began = now()
            try:
                other.connect((peer, port))
                tell(event="connected", ms=now() - began)
            except OSError as error:
                tell(event="connected", ms=None, error=str(error))
        elif command == "quit":
            return


if __name__ == "__main__":
    role, transport, *addresses, port, every_ms, size = sys.argv[1:]
    {"serve": serve, "client": client}[role](transport, *addresses, int(port), float(every_ms), int(size))
