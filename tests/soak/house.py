"""A whole house: Kafka, Redis, a venue, bridges, workers and a reader, each a real process."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from redis.asyncio import Redis

from lua import Keys
from streams import topics
from tapeline.config import load_settings
from tapeline.stack.kafka_local import LocalKafka
from tapeline.stack.ports import free_port
from tapeline.stack.service import Service
from tests.soak.servers import DurableStore, Part, until
from tests.soak.venue import NAME, Venue

APP: Final = "soak"
TOPIC: Final = f"{APP}.events"
PARTITIONS: Final = 64
UP_S: Final = 120.0
HEAP_MB: Final = 768
STOP_S: Final = 5.0
SHORT_SEGMENTS: Final = {"log.segment.bytes": str(64 << 20)}
"""What differs from stock in a long run: a broker that was killed reads its active segments again,
which with stock settings hold nearly all of an hour."""


class House:
    """What runs.

    Attributes:
        parts: The product's own processes, by name.
        services: ``kafka`` and ``redis``.
        base: What all of the product's processes are told.
        began_s: When it was whole, monotonic; times of the run are counted from here.
    """

    def __init__(
        self, kafka: LocalKafka, store: DurableStore, symbols: Sequence[str], folder: Path
    ) -> None:
        self.kafka, self.store, self.symbols, self.folder = kafka, store, list(symbols), folder
        self.services: dict[str, Service] = {"kafka": kafka, "redis": store}
        self.parts: dict[str, Part] = {}
        self.venue: Venue | None = None
        self.base: dict[str, str] = {}
        self.began_s = time.monotonic()

    @property
    def now_s(self) -> float:
        """Of the run."""
        return time.monotonic() - self.began_s

    def workers(self) -> list[Part]:
        return [part for part in self.parts.values() if part.command == "worker"]

    @property
    def reader(self) -> Part:
        return self.parts["reader"]

    def pids(self) -> dict[str, int]:
        """Processes that run now, by name."""
        found = {name: part.pid for name, part in self.parts.items() if part.running}
        found |= {name: each.pid for name, each in self.services.items() if each.running}
        if self.venue is not None and self.venue.child.running:
            found["venue"] = self.venue.child.pid
        return found

    def redis(self) -> Redis:
        """A client of its own, to be closed by the caller."""
        return Redis.from_url(self.store.url, socket_timeout=5.0)

    # --- being whole ------------------------------------------------------------------------------

    async def whole(self, timeout_s: float = UP_S, *, supervised: bool = False) -> float:
        """Until every symbol has a report that the reader does not call stale.

        Args:
            timeout_s: Limit.
            supervised: A process that has ended will be started again.

        Returns:
            Seconds it took.
        """
        began = time.monotonic()

        async def fresh() -> bool:
            ended = [part for part in self.parts.values() if not part.running]
            if ended and not supervised:
                raise AssertionError(f"{ended[0].name} has ended:\n{ended[0].tail()}")
            return await self._fresh()

        await until(fresh, timeout_s, "every symbol fresh at the reader", 0.25)
        return time.monotonic() - began

    async def _fresh(self) -> bool:
        ages = await self.ages()
        return ages is not None and len(ages) == len(self.symbols) and max(ages.values()) < 2000

    async def ages(self) -> dict[str, int] | None:
        """Age of the newest data of each symbol that has a report, ms; None without a reader."""
        entries = await self.reports()
        if entries is None:
            return None
        return {
            one["symbol"]: one["read"]["data_age_ms"]
            for one in entries
            if one["read"]["data_age_ms"] is not None
        }

    async def reports(self) -> list[dict[str, Any]] | None:
        """What the reader says of all symbols, beside each report and of its ingestion."""
        answer = await self.reader.get("/reports?fields=ingestion&limit=500")
        return None if not isinstance(answer, dict) else answer.get("reports")

    async def stored(self) -> dict[str, bytes]:
        """Reports as they stand in Redis, all of one moment."""
        keys = Keys()
        async with self.redis() as redis:
            found: Any = await redis.mget([keys.report(symbol) for symbol in self.symbols])
        return {s: body for s, body in zip(self.symbols, found, strict=True) if body}

    # --- ending and starting ------------------------------------------------------------------------

    async def end(self, name: str, *, hard: bool) -> int | None:
        """SIGKILL or SIGTERM, and its exit status."""
        if name in self.parts:
            return await self.parts[name].end(hard=hard)
        service = self.services[name]
        if hard:
            service.kill()
            return await service.child.wait()
        # A lone broker is its own controller and waits for a successor until it is killed.
        await service.stop(STOP_S)
        return service.child.returncode

    async def start(self, name: str) -> None:
        """Once more, at the same place."""
        await (self.parts[name] if name in self.parts else self.services[name]).start()

    async def close(self) -> None:
        """Leave nothing running."""
        await asyncio.gather(
            *(part.child.stop(grace_s=0) for part in self.parts.values() if part.child is not None)
        )


def opened(path: Path) -> TextIO:
    """A log to be written to the end of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", encoding="utf-8")


@asynccontextmanager
async def house(
    symbols: Sequence[str],
    *,
    workers: int,
    bridges: int,
    partitions: int = PARTITIONS,
    env: Mapping[str, str] | None = None,
    broker: Mapping[str, str] | None = None,
    logs: Path | None = None,
    listings: str = "",
) -> AsyncIterator[House]:
    """Servers and topics; the venue and the product's processes are for the caller to start.

    Args:
        symbols: What is followed.
        workers, bridges: How many there will be.
        partitions: Of the events topic.
        env: More settings of the product's processes.
        broker: Broker settings that differ from stock.
        logs: A folder for what they write; None to keep only the last lines.
        listings: ``SYMBOLS``; the simulated venue's where empty.
    """
    # A client without its broker says so many times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tapeline-soak-")))
        kafka = LocalKafka(folder / "kafka", HEAP_MB, settings=dict(broker or {}))
        await stack.enter_async_context(kafka)
        store = await stack.enter_async_context(DurableStore(folder / "redis"))
        found = House(kafka, store, symbols, folder)
        found.base = {
            "KAFKA_URL": kafka.url,
            "REDIS_URL": store.url,
            "SYMBOLS": listings or ",".join(f"{NAME}:{symbol}" for symbol in symbols),
            "NT_APP_ID": APP,
            "NT_EVENTS_TOPIC": TOPIC,
            "NT_PARTITIONS": str(partitions),
            "NT_ACCESS_LOG": "false",
            **(env or {}),
        }
        async with topics.admin_of(kafka.url) as admin:
            await topics.apply(admin, topics.plan(load_settings(found.base)))
        names = [
            *((f"b{n + 1}", "bridge", "NT_BRIDGE_PORT") for n in range(bridges)),
            *((f"w{n + 1}", "worker", "NT_METRICS_PORT") for n in range(workers)),
            ("reader", "serve", "NT_SERVE_PORT"),
        ]
        for name, command, variable in names:
            port = free_port()
            log = None if logs is None else stack.enter_context(opened(logs / f"{name}.log"))
            told = {**found.base, "NT_NODE_ID": name, variable: str(port)}
            found.parts[name] = Part(name, command, told, port, log)
        stack.push_async_callback(found.close)
        yield found


@asynccontextmanager
async def with_venue(found: House, rate: float, seed: int) -> AsyncIterator[Venue]:
    """The simulated exchange beside it, which the bridges are told of."""
    venue = found.venue = Venue(found.symbols, rate, seed)
    try:
        await venue.start()
        told = {
            "NT_BINANCE_STREAM_URL": venue.urls["stream_url"],
            "NT_BINANCE_REST_URL": venue.urls["rest_url"],
        }
        for part in found.parts.values():
            part.env |= told
        yield venue
    finally:
        await venue.child.stop(grace_s=2)
