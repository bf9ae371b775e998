"""A bridge's heartbeat: what it says, how large it gets, and that nothing is harmed without Redis."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from redis.asyncio import Redis

from lua import Keys
from streams import bridge_beat
from streams.bridge_beat import FEEDS_MAX, BridgeBeat, Figures, Parts
from streams.feed_lease import lease_client
from streams.feed_minutes import MINUTE_MS
from streams.feeds import Feeds
from streams.outbox import Outbox
from streams.sources import SourceCounts
from tapeline.clock import ManualClock
from tapeline.config import load_settings
from tests.support.bridge import NOW_MS, VENUE, FakeAssembler, delta, snapshot, status, until
from tests.support.worker import eventually

BTC, ETH = "BTCUSDT", "ETHUSDT"


class Source:
    def __init__(self, *symbols: str) -> None:
        self.assembler = FakeAssembler(symbols=symbols)
        self.counts = SourceCounts()

    async def run(self, sink: Any) -> None: ...


class Writer:
    connected = True


class Bench:
    """A bridge's parts without the bridge."""

    def __init__(self, *symbols: str) -> None:
        self.clock = ManualClock(NOW_MS)
        self.source = Source(*symbols)
        self.feeds = Feeds(
            self.source.assembler, partitions=4, alive_period_ms=500, snapshot_period_ms=300_000
        )
        self.outbox = Outbox(bytes_max=10**6, age_max_ms=30_000)
        self.resyncs: Counter[tuple[str, str]] = Counter()
        self.outage = False
        parts = Parts(
            sources=[self.source],
            feeds={VENUE: self.feeds},
            outbox=self.outbox,
            writer=Writer(),  # type: ignore[arg-type]
            resyncs=self.resyncs,
            outage=lambda: self.outage,
            metrics_url=lambda: "http://h:1/metrics",
        )
        settings = load_settings({}, node_id="b1", partitions=4)
        self.figures = Figures(settings, parts, self.clock)

    def flow(self, symbol: str, records: int = 1) -> None:
        for _ in range(records):
            self.feeds.accept([delta(symbol, self.clock.now_ms())])
            self.source.counts.frames += 1
        self.source.counts.last_frame_ms = self.clock.now_ms()

    def sync(self, symbol: str, token: int) -> None:
        self.feeds.accept([status(symbol, "connected")])
        self.feeds.granted(symbol, token, self.clock.now_ms())
        self.source.assembler.books.add(symbol)
        self.feeds.accept([snapshot(symbol)])


def test_a_heartbeat_tells_of_each_venue_and_feed() -> None:
    bench = Bench(BTC, ETH)
    bench.sync(BTC, 9)
    bench.figures.look()
    bench.clock.advance(1_000)
    bench.flow(BTC, 50)
    bench.resyncs[VENUE, BTC] += 1
    bench.clock.advance(1_000)
    beat = bench.figures.look()
    assert (beat["bridge_id"], beat["version"] != "", beat["restarts"]) == ("b1", True, 0)
    assert beat["metrics_url"] == "http://h:1/metrics"
    assert beat["started_at"] == NOW_MS
    assert beat["venues"][VENUE] == {
        "connected": True,
        "frame_age_ms": 1_000,
        "frames_per_s": 25.0,
        "reconnects": 0,
        "symbols": 2,
        "in_sync": 1,
    }
    assert beat["feeds"][f"{VENUE}:{BTC}"] == {
        "book": "in_sync",
        "token": 9,
        "records_per_s": 25.0,
        "last_record_age_ms": 1_000,
        "gaps": 0,
        "resyncs": 1,
    }
    silent = beat["feeds"][f"{VENUE}:{ETH}"]
    assert (silent["book"], silent["token"]) == ("out_of_sync", 0)
    assert (silent["records_per_s"], silent["last_record_age_ms"]) == (None, None)


def test_records_are_counted_on_under_another_token() -> None:
    """Its own numbers begin anew; what was written is written."""
    bench = Bench(BTC)
    bench.sync(BTC, 3)
    bench.flow(BTC, 20)
    bench.figures.look()
    bench.feeds.revoked(BTC)
    bench.figures.look()
    bench.feeds.granted(BTC, 8, NOW_MS)
    began = bench.feeds.lines[BTC].seq
    bench.flow(BTC, 10)
    bench.clock.advance(2_000)
    beat = bench.figures.look()
    assert beat["feeds"][f"{VENUE}:{BTC}"]["records_per_s"] == (began + 10) / 2


def test_a_venue_of_which_nothing_is_followed_is_not_told_of() -> None:
    assert Bench().figures.look()["venues"] == {}


def test_a_heartbeat_stays_small_and_keeps_what_is_ill() -> None:
    bench = Bench(*(f"S{n}USDT" for n in range(FEEDS_MAX + 200)))
    for symbol in bench.feeds.lines:
        bench.sync(symbol, 123_456)
    bench.feeds.lines["S650USDT"].in_sync = False
    beat = bench.figures.look()
    assert (len(beat["feeds"]), beat["feeds_left_out"]) == (FEEDS_MAX, 200)
    assert beat["feeds"][f"{VENUE}:S650USDT"]["book"] == "out_of_sync"
    assert len(json.dumps(beat)) < 100_000


async def test_it_beats_keeps_minutes_and_says_goodbye(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_beat, "BEAT_MS", 120)
    bench, keys = Bench(BTC), Keys()
    bench.sync(BTC, 9)
    async with Redis.from_url(redis_url) as redis:
        await redis.incr(keys.starts("bridge", "b1"))
        beat = BridgeBeat(redis, keys, "b1", bench.figures)
        beat.start()

        async def told() -> Any:
            payload = await redis.get("nt:bridge:b1")
            return payload and json.loads(payload)

        async def kept() -> int:
            return int(await redis.xlen(f"nt:feed:minutes:{VENUE}:{BTC}"))

        assert (await eventually(told, 3))["restarts"] == 1
        assert 3 <= await redis.ttl("nt:bridge:b1") <= 5
        assert await redis.zscore("nt:bridges", "b1") == NOW_MS
        bench.flow(BTC, 5)
        bench.clock.advance(MINUTE_MS)
        assert await eventually(kept, 3) == 1
        bench.flow(BTC, 3)
        await beat.stop()
        assert await told() is None
        assert await redis.zcard("nt:bridges") == 0
        entries = await redis.xrange(f"nt:feed:minutes:{VENUE}:{BTC}")
        minute_ms = NOW_MS - NOW_MS % MINUTE_MS
        assert [entry for entry, _ in entries] == [
            f"{minute_ms}-9".encode(),
            f"{minute_ms + MINUTE_MS}-9".encode(),
        ]
        assert json.loads(entries[1][1][b"point"])["records"] >= 3
        assert await redis.ttl(f"nt:feed:minutes:{VENUE}:{BTC}") > 3_600


async def test_without_redis_it_goes_on_and_ends_in_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bridge_beat, "BEAT_MS", 120)
    bench = Bench(BTC)
    bench.sync(BTC, 9)
    looks = 0
    look = bench.figures.look

    def counted() -> dict[str, Any]:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise KeyError("a fault of ours")
        return look()

    monkeypatch.setattr(bench.figures, "look", counted)
    redis = lease_client("redis://127.0.0.1:1/0", 400)
    beat = BridgeBeat(redis, Keys(), "b1", bench.figures)
    beat.start()
    await until(lambda: looks >= 4)
    async with asyncio.timeout(2):
        await beat.stop()
        await redis.aclose()
