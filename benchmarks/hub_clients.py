"""Many clients of the hub in one process, as cheap as can be: ``python -m benchmarks.hub_clients``.

Reads one JSON object of options from its first line of input, connects (``per_s`` a second, or all at
once), and says ``ready`` with the
times to each client's first snapshot. At ``go`` it counts for a while: of each report, the time from
the moment its writer began to send it (a monotonic stamp inside the report) to the moment its frame
was read here. A stuck client subscribes and reads nothing more.

No library: one epoll loop, and of a frame only its header and the stamp are looked at, so that what
is measured is the server.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from typing import Any

BIN_NS = 100_000
"""Latencies are counted in tenths of a millisecond."""

STAMP = b'"nodeId":"t'
SNAPSHOT = b'{"type":"snapshot"'
UPDATE = b'{"type":"update"'
RECV_BYTES = 262_144


def masked(text: str) -> bytes:
    """A text frame as clients send it."""
    payload, mask = text.encode(), os.urandom(4)
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    return head + mask + bytes(b ^ mask[n % 4] for n, b in enumerate(payload))


class Client:
    """One connection.

    Attributes:
        first_s: From connecting to the first snapshot; None before it.
        frames: Updates read while counting.
    """

    def __init__(self, port: int, subscribe: str, counts: dict[int, int]) -> None:
        self.began_s = time.monotonic()
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._subscribe, self._counts = subscribe, counts
        self._open = False
        self._rest = b""
        self.first_s: float | None = None
        self.snapshots = 0
        self.frames = 0
        self.lost = False

    def read(self, *, counting: bool) -> None:
        """Take what is there."""
        try:
            data = self.sock.recv(RECV_BYTES)
        except BlockingIOError:
            return
        now_ns = time.monotonic_ns()
        if not data:
            self.lost = True
            return
        if self._rest:
            data = self._rest + data
        if not self._open:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.lost = True
                return
            self._open = True
            self.sock.sendall(masked(self._subscribe))
        self._rest = self._frames(data, now_ns, counting)

    def _frames(self, data: bytes, now_ns: int, counting: bool) -> bytes:
        at, end = 0, len(data)
        while end - at >= 2:
            size, begin = data[at + 1], at + 2
            if size == 126:
                begin = at + 4
                size = int.from_bytes(data[at + 2 : begin], "big")
            elif size == 127:
                begin = at + 10
                size = int.from_bytes(data[at + 2 : begin], "big")
            if begin + size > end:
                break
            if data[at] == 0x88:
                self.lost = True
            elif data[at] == 0x89:
                self.sock.sendall(b"\x8a\x84\0\0\0\0" + data[begin : begin + size])
            elif counting and data.startswith(UPDATE, begin):
                self._count(data, begin, now_ns)
            elif data.startswith(SNAPSHOT, begin):
                self.snapshots += 1
                if self.first_s is None:
                    self.first_s = time.monotonic() - self.began_s
            at = begin + size
        return data[at:]

    def _count(self, data: bytes, begin: int, now_ns: int) -> None:
        stamp = data.find(STAMP, begin) + len(STAMP)
        took = (now_ns - int(data[stamp : data.index(b'"', stamp)])) // BIN_NS
        self._counts[took] = self._counts.get(took, 0) + 1
        self.frames += 1


def run(options: dict[str, Any]) -> dict[str, Any]:
    """Connect, say so, count."""
    counts: dict[int, int] = {}
    poll = select.epoll()
    clients: dict[int, Client] = {}
    stuck: list[Client] = []

    def turn(wait_s: float, *, counting: bool) -> None:
        for fd, _ in poll.poll(wait_s):
            client = clients[fd]
            client.read(counting=counting)
            if client.lost:
                poll.unregister(fd)

    def connect(symbols: list[str]) -> Client:
        wish = {"op": "subscribe", "channels": ["reports.fast"], "symbols": symbols}
        client = Client(options["port"], json.dumps(wish), counts)
        client.sock.setblocking(False)
        return client

    began_s, per_s = time.monotonic(), options.get("per_s", 0)
    for number, symbols in enumerate(options["symbols"]):
        while per_s and (ahead_s := began_s + number / per_s - time.monotonic()) > 0:
            turn(ahead_s, counting=False)
        client = connect(symbols)
        clients[client.sock.fileno()] = client
        poll.register(client.sock, select.EPOLLIN)
        turn(0, counting=False)
    for _ in range(options["stuck"]):
        client = connect(["*"])
        stuck.append(client)
        deadline_s = time.monotonic() + 30
        while client.first_s is None and not client.lost and time.monotonic() < deadline_s:
            client.read(counting=False)
    deadline_s = time.monotonic() + options["ready_s"]
    while any(c.first_s is None and not c.lost for c in clients.values()):
        if time.monotonic() > deadline_s:
            break
        turn(0.05, counting=False)
    first = [c.first_s for c in clients.values() if c.first_s is not None]
    print(json.dumps({"first_s": first, "lost": sum(c.lost for c in clients.values())}), flush=True)
    poll.register(sys.stdin, select.EPOLLIN)
    clients[sys.stdin.fileno()] = _Go()  # type: ignore[assignment]
    while not clients[sys.stdin.fileno()].lost:
        turn(0.05, counting=False)
    del clients[sys.stdin.fileno()]
    end_s = time.monotonic() + options["seconds"]
    while (left_s := end_s - time.monotonic()) > 0:
        turn(min(0.05, left_s), counting=True)
    return {
        "counts": counts,
        "frames": sum(c.frames for c in clients.values()),
        "lost": sum(c.lost for c in clients.values()),
    }


class _Go:
    """The line that says when to count."""

    lost = False

    def read(self, *, counting: bool) -> None:
        sys.stdin.readline()
        self.lost = True


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.stdin.readline()))), flush=True)
