"""A node's coordination in one piece, and a sink that remembers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson

from agents.coordination.connections import Connections
from agents.coordination.lease import LeaseManager
from agents.coordination.publisher import Publisher
from agents.coordination.sink import NullSink, WriteKind
from lua import Scripts
from tapeline.clock import Clock, SystemClock


class RecordingSink(NullSink):
    """Counts by event and word, such as ``conflict:fenced``."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.held: list[int] = []
        self.beats: list[tuple[float, bool]] = []

    def published(self, symbol: str, kind: WriteKind, size: int) -> None:
        self.counts[f"published:{kind}"] += 1
        self.counts[f"published:{symbol}"] += 1

    def round_trip(self, seconds: float) -> None:
        self.counts["round_trips"] += 1

    def split(self, symbol: str, size: int) -> None:
        self.counts["split"] += 1

    def stale(self, symbol: str, kind: WriteKind) -> None:
        self.counts[f"stale:{kind}"] += 1

    def conflict(self, symbol: str, reason: str) -> None:
        self.counts[f"conflict:{reason}"] += 1

    def failed(self, reason: str) -> None:
        self.counts[f"failed:{reason}"] += 1

    def lease_lost(self, symbol: str, reason: str) -> None:
        self.counts[f"lost:{reason}"] += 1

    def leases(self, held: int) -> None:
        self.held.append(held)

    def heartbeat(self, accepted: bool) -> None:
        self.beats.append((time.monotonic(), accepted))


async def until(condition: Callable[[], bool], timeout_s: float = 3.0) -> float:
    """Wait for a condition; how long it took, in seconds."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout_s, "waited in vain"
        await asyncio.sleep(0.002)
    return time.monotonic() - start


def encoder(word: str) -> Callable[[int, int, int], tuple[bytes, bytes]]:
    """Encodes a report that says ``word``."""

    def encode(token: int, seq: int, updated_at: int) -> tuple[bytes, bytes]:
        report = {"word": word, "token": token, "seq": seq, "updatedAt": updated_at}
        return orjson.dumps(report), b""

    return encode


def tick_encoder(word: str) -> Callable[[int, int], bytes]:
    """Encodes a tick that says ``word``."""
    return lambda token, seq: orjson.dumps({"word": word, "token": token, "seq": seq})


@dataclass
class Desk:
    """Leases and publisher of one node."""

    connections: Connections
    scripts: Scripts
    leases: LeaseManager
    publisher: Publisher
    sink: RecordingSink
    gained: list[str] = field(default_factory=list)

    async def hold(self, *symbols: str) -> None:
        """Want these, and wait until they may be written."""
        self.leases.want(dict.fromkeys(symbols, 0))
        await until(lambda: sorted(self.leases.owned()) == sorted(symbols))

    async def stored(self, key: str) -> dict[str, object] | None:
        value = await self.connections.reader.get(key)
        return orjson.loads(value) if value else None


@asynccontextmanager
async def desk(
    url: str,
    node: str = "a",
    incarnation: str = "1",
    *,
    ttl_ms: int = 2000,
    tick_period_ms: int = 50,
    clock: Clock | None = None,
    scripts: Callable[[Connections], Scripts] | None = None,
) -> AsyncIterator[Desk]:
    """Start a node's leases and publisher; stop them at the end."""
    clock = clock or SystemClock()
    connections = Connections(url, ttl_ms)
    run = scripts(connections) if scripts else Scripts(connections.writer)
    sink = RecordingSink()
    leases = LeaseManager(run, node, incarnation, ttl_ms, clock=clock, sink=sink)
    publisher = Publisher(
        run,
        leases,
        ttl_ms=300_000,
        tick_period_ms=tick_period_ms,
        timeout_s=connections.timeout_s,
        clock=clock,
        sink=sink,
    )
    made = Desk(connections, run, leases, publisher, sink)
    leases.listen(publisher.resume)
    leases.listen(made.gained.append)
    await leases.start()
    await publisher.start()
    try:
        yield made
    finally:
        await publisher.stop(0.2)
        await leases.stop()
        await connections.close()
