"""One venue goes wrong, in whatever way: the others' records come as if nothing were."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from streams.bridge import Bridge
from streams.feeds import OutRecord
from streams.simulator import SimulatedExchange
from tapeline.config import load_settings
from tests.support.live_bridge import create_events_topic

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

MARKETS = {"binance": "BTCUSDT", "coinbase": "BTC-USD", "kraken": "BTC/USD"}
SYMBOLS = "binance:BTCUSDT,coinbase:BTC-USD>BTCUSD,kraken:BTC/USD>XBTCUSD"
WATCHED_S = 4.0
GAP_S_MAX = 1.0


class Three:
    """A bridge on three venues, and when it has made records of each."""

    def __init__(self, sims: dict[str, SimulatedExchange], bridge: Bridge) -> None:
        self.sims, self.bridge = sims, bridge
        self.made_s: dict[str, list[float]] = defaultdict(list)
        put = bridge._put

        def noted(records: list[OutRecord]) -> None:
            now_s = time.monotonic()
            for record in records:
                self.made_s[record.venue].append(now_s)
            put(records)

        bridge._put = noted  # type: ignore[method-assign]
        self.task = asyncio.create_task(bridge.run())

    def line(self, venue: str) -> Any:
        (line,) = self.bridge.feeds[venue].lines.values()
        return line

    async def right(self, *venues: str, within_s: float = 15.0) -> None:
        async with asyncio.timeout(within_s):
            while not all(self.line(v).in_sync and self.line(v).token for v in venues):
                assert not self.task.done(), self.task
                await asyncio.sleep(0.02)

    def gaps_s(self, venue: str, since_s: float) -> float:
        """Longest time without a record of a venue."""
        times = [since_s, *(t for t in self.made_s[venue] if t >= since_s), time.monotonic()]
        return max(after - before for before, after in pairwise(times))

    def trouble(self, venue: str) -> tuple[int, ...]:
        """What must not rise where nothing is wrong."""
        (source,) = (s for s in self.bridge._sources if s.assembler.venue == venue)
        counts = source.assembler.counts
        return counts.resyncs, counts.errors, source.counts.reconnects.total()


@asynccontextmanager
async def three(kafka_url: str, redis_url: str) -> AsyncIterator[Three]:
    async with AsyncExitStack() as stack:
        sims = {
            venue: await stack.enter_async_context(
                SimulatedExchange([name], seed=5, rate=60.0, venue=venue)
            )
            for venue, name in MARKETS.items()
        }
        urls = {f"{venue}_stream_url": sim.stream_url for venue, sim in sims.items()}
        urls |= {f"{v}_rest_url": sims[v].rest_url for v in ("binance", "coinbase")}
        name = f"degraded-{time.monotonic_ns()}"
        settings = load_settings(
            {},
            kafka_url=kafka_url,
            redis_url=redis_url,
            symbols=SYMBOLS,
            events_topic=f"{name}.events",
            app_id=name,
            node_id=name,
            partitions=4,
            bridge_port=0,
            lease_ttl_ms=800,
            **urls,
        )
        await create_events_topic(settings)
        bridge = Bridge(settings)
        running = Three(sims, bridge)
        try:
            await running.right(*MARKETS)
            yield running
        finally:
            bridge.stop()
            await asyncio.gather(running.task, return_exceptions=True)


@pytest.mark.parametrize(
    ("venue", "rules"),
    [
        ("kraken", ["malform%1"]),
        ("kraken", ["huge@0,count=20", "half_open@1,seconds=30"]),
        ("kraken", ["refuse_connections@0,seconds=30", "disconnect@0.1"]),
        ("coinbase", ["truncate%0.5"]),
        ("coinbase", ["silent@0,seconds=30"]),
        ("binance", ["ban@0,retry_after=30", "disconnect@0.1"]),
        ("binance", ["limit@0,retry_after=20", "drop%0.2::book"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0].partition("@")[0],
)
async def test_the_others_go_on_as_if_nothing_were(
    venue: str, rules: list[str], kafka_url: str, redis_url: str
) -> None:
    async with three(kafka_url, redis_url) as running:
        others = [other for other in MARKETS if other != venue]
        before = {other: running.trouble(other) for other in others}
        for rule in rules:
            running.sims[venue].add_faults(rule)
        since_s = time.monotonic()
        await asyncio.sleep(WATCHED_S)
        assert running.sims[venue].faults.state()["totals"], "nothing has gone wrong"
        for other in others:
            assert running.gaps_s(other, since_s) < GAP_S_MAX, other
            assert running.line(other).in_sync
            assert running.trouble(other) == before[other]
        assert not running.task.done()
