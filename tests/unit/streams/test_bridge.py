"""The bridge as a whole, with made-up venues, broker and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from streams import bridge as bridge_module
from streams import kafka_writer
from streams.bridge import Bridge
from streams.bridge_process import run_bridge
from streams.events import decode
from streams.sources import RefusedFrame, Sink, SourceCounts
from streams.topics import partition_of
from tapeline.config import load_settings
from tapeline.errors import ConfigError, FrameError
from tests.support.bridge import (
    NOW_MS,
    VENUE,
    FakeAssembler,
    delta,
    snapshot,
    status,
)
from tests.support.bridge_fakes import FakeBroker, FakeScripts

BTC, ETH = "BTCUSDT", "ETHUSDT"
PARTITIONS = 4

Play = Callable[["FakeSource", Sink], Awaitable[None]]


class FakeSource:
    """A source that plays what a test wrote, then waits, or ends."""

    def __init__(self, play: Play, *symbols: str) -> None:
        self.assembler = FakeAssembler(symbols=symbols or (BTC, ETH))
        self.counts = SourceCounts()
        self._play = play
        self.played = asyncio.Event()

    async def run(self, sink: Sink) -> None:
        try:
            await self._play(self, sink)
        finally:
            self.played.set()


async def forever(_: FakeSource, __: Sink) -> None:
    await asyncio.Event().wait()


async def trading(source: FakeSource, sink: Sink) -> None:
    """Connects, syncs, trades, and says goodbye when it is cancelled."""
    await sink.ready(VENUE)
    for symbol in source.assembler.symbols():
        source.assembler.books.add(symbol)
        sink.accept(VENUE, [status(symbol, "connected"), snapshot(symbol), delta(symbol)])
    source.counts.frames, source.counts.last_frame_ms = 3, NOW_MS
    sink.tick(VENUE, NOW_MS, live=True)
    source.played.set()
    try:
        await asyncio.Event().wait()
    finally:
        for symbol in source.assembler.symbols():
            sink.accept(VENUE, [status(symbol, "disconnected", reason="shutdown")])


async def trading_to_an_end(source: FakeSource, sink: Sink) -> None:
    await sink.ready(VENUE)
    for n in range(50):
        sink.accept(VENUE, [delta(BTC, NOW_MS + n)])
        await sink.room()


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    made = FakeBroker(PARTITIONS)
    monkeypatch.setattr(kafka_writer, "_producer", made.producer)
    monkeypatch.setattr(kafka_writer, "RETIRE_S", 0.02)
    return made


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> FakeScripts:
    made = FakeScripts()
    monkeypatch.setattr(bridge_module, "Scripts", lambda *_: made)
    return made


def settings_of(**changed: Any) -> Any:
    return load_settings(
        {},
        kafka_url="kafka://127.0.0.1:1",
        redis_url="redis://127.0.0.1:1/0",
        symbols="binance:BTCUSDT",
        partitions=PARTITIONS,
        bridge_port=0,
        lease_ttl_ms=400,
        **changed,
    )


class Running:
    def __init__(self, source: FakeSource, **settings: Any) -> None:
        self.source = source
        self.bridge = Bridge(settings_of(**settings), source=source, flush_s=0.3)
        self.task = asyncio.create_task(self.bridge.run())

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(3):
            while not true():
                assert not self.task.done(), self.task
                await asyncio.sleep(0.005)

    async def ended(self) -> int:
        async with asyncio.timeout(3):
            return await self.task

    async def get(self, path: str) -> tuple[int, str]:
        await self.until(lambda: self.bridge.probe.port != 0)
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.bridge.probe.url + path) as response,
        ):
            return response.status, await response.text()


@asynccontextmanager
async def running(source: FakeSource, **settings: Any) -> AsyncIterator[Running]:
    made = Running(source, **settings)
    try:
        yield made
    finally:
        made.bridge.stop()
        await asyncio.gather(made.task, return_exceptions=True)


def written(broker: FakeBroker, symbol: str) -> list[Any]:
    return [
        event
        for value in broker.log.get(partition_of(symbol, PARTITIONS), [])
        if (event := decode(value)).symbol == symbol
    ]


async def test_events_are_written_under_the_lease_s_token(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running(FakeSource(trading)) as r:
        await r.until(lambda: len(written(broker, ETH)) >= 4)
        feeds = [event.feed for event in written(broker, BTC)]
        assert [feed.seq for feed in feeds] == [*range(1, len(feeds) + 1)]
        assert {feed.token for feed in feeds} == {101}


async def test_a_stop_says_disconnected_flushes_and_gives_the_leases_back(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running(FakeSource(trading)) as r:
        await r.until(r.source.played.is_set)
        r.bridge.stop()
        assert await r.ended() == 0
        for symbol in (BTC, ETH):
            last = written(broker, symbol)[-1]
            assert (last.status, last.reason) == ("disconnected", "shutdown")
        assert r.bridge.outbox.depth == 0
        assert scripts.held == {}
        assert all(producer.stopped for producer in broker.producers)


async def test_a_stop_with_the_broker_away_ends_in_time_and_says_what_is_left(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    broker.start_errors = [OSError("away") for _ in range(10_000)]
    async with running(FakeSource(trading)) as r:
        await r.until(r.source.played.is_set)
        r.bridge.stop()
        async with asyncio.timeout(2):
            assert await r.ended() == 1
        assert r.bridge.outbox.depth > 0


async def test_sources_that_end_end_the_bridge(broker: FakeBroker, scripts: FakeScripts) -> None:
    async with running(FakeSource(trading_to_an_end)) as r:
        assert await r.ended() == 0
        assert (
            len([e for e in written(broker, BTC) if e.__struct_config__.tag == "book_delta"]) == 50
        )


async def test_a_source_that_fails_ends_the_bridge_with_1(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async def fail(_: FakeSource, __: Sink) -> None:
        raise RuntimeError("a fault of ours")

    async with running(FakeSource(fail)) as r:
        assert await r.ended() == 1


async def test_a_wrong_partition_count_ends_it_with_2(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    broker.partitions = 9
    async with running(FakeSource(forever)) as r:
        assert await r.ended() == 2


async def test_an_unknown_symbol_is_left_out_and_the_others_go_on(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async def play(source: FakeSource, sink: Sink) -> None:
        sink.unlisted(VENUE, ETH)
        await trading(source, sink)

    async with running(FakeSource(play)) as r:
        await r.until(lambda: len(written(broker, BTC)) >= 4)
        kinds = {e.__struct_config__.tag for e in written(broker, ETH)}
        assert kinds <= {"instrument"}, "known before the venue said no"
        await r.until(lambda: len(scripts.held) == 1)
        assert not r.task.done()


async def test_no_symbol_left_ends_it_with_2(broker: FakeBroker, scripts: FakeScripts) -> None:
    async def play(_: FakeSource, sink: Sink) -> None:
        sink.unlisted(VENUE, BTC)
        sink.unlisted(VENUE, ETH)
        await asyncio.Event().wait()

    async with running(FakeSource(play)) as r:
        assert await r.ended() == 2


async def test_a_lost_lease_mutes_and_the_next_token_starts_over(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running(FakeSource(trading, BTC)) as r:
        await r.until(r.source.played.is_set)
        key = scripts.keys.feed(VENUE, BTC).lease
        scripts.held[key] = "other|x|900"
        await r.until(lambda: r.bridge.feeds[VENUE].lines[BTC].token == 0)
        r.bridge.accept(VENUE, [delta(BTC)])
        assert r.bridge.feeds[VENUE].muted == 1
        del scripts.held[key]
        scripts.token = 901
        await r.until(lambda: any(e.feed.token == 902 for e in written(broker, BTC)))
        fresh = [e for e in written(broker, BTC) if e.feed.token == 902]
        assert fresh[0].feed.seq == 1
        kinds = [e.__struct_config__.tag for e in fresh]
        assert kinds[:3] == ["feed_status", "instrument", "book_snapshot"]


async def test_an_outage_beyond_the_buffer_is_told_and_the_book_written_anew(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running(FakeSource(trading, BTC), outage_buffer_bytes=1_048_576) as r:
        await r.until(r.source.played.is_set)
        await r.until(lambda: r.bridge.outbox.depth == 0)
        before = len(written(broker, BTC))
        broker.faults = ["hang"]
        while not r.bridge.feeds[VENUE].lines[BTC].lost:
            r.bridge.accept(VENUE, [delta(BTC) for _ in range(500)])
            await asyncio.sleep(0)
        r.bridge.accept(VENUE, [delta(BTC)])
        r.bridge.tick(VENUE, NOW_MS + 1, live=True)
        await r.until(lambda: bool(broker.producers[0].flying))
        for future in broker.producers[0].flying:
            if not future.done():
                future.set_result(None)
        await r.until(lambda: r.bridge.outbox.writable(partition_of(BTC, PARTITIONS)))
        r.bridge.tick(VENUE, NOW_MS + 2, live=True)
        await r.until(lambda: r.bridge.outbox.depth == 0)
        after = written(broker, BTC)[before:]
        kinds = [e.__struct_config__.tag for e in after][:3]
        assert kinds == ["feed_status", "instrument", "book_snapshot"]
        assert (after[0].status, after[0].reason) == ("gap", "broker_outage")
        assert after[0].feed.seq > before + 1, "the hole is visible in the sequence, too"
        _, metrics = await r.get("/metrics")
        assert f'tapeline_bridge_gaps_total{{symbol="BTCUSDT",venue="{VENUE}"}} 1.0' in metrics


async def test_health_says_what_flows(broker: FakeBroker, scripts: FakeScripts) -> None:
    async with running(FakeSource(trading, BTC)) as r:
        await r.until(r.source.played.is_set)
        await r.until(lambda: r.bridge.health()[0])
        code, _ = await r.get("/health")
        assert code == 200
        assert (await r.get("/ready"))[0] == 200
        _, body = r.bridge.health()
        assert body["status"] == "ok"
        assert body["symbols_in_sync"] == 1
        assert body["venues"][VENUE]["symbols"][BTC]["feed_token"] == 101
        assert body["broker"] == {"connected": True, "outage": False, "idempotent": True}
        assert body["redis"] == {"reachable": True}


async def test_health_is_503_before_anything_flows(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    scripts.away = True
    async with running(FakeSource(forever)) as r:
        code, _ = await r.get("/health")
        assert code == 503
        assert (await r.get("/live"))[0] == 200, "a restart brings no Redis back"
        ready, said = await r.get("/ready")
        assert ready == 503
        assert f"{VENUE}: no socket" in said
        assert "Redis does not answer" in said
        _, body = r.bridge.health()
        assert body["venues"][VENUE]["last_frame_age_ms"] is None
        assert not body["connected"]


async def test_metrics_have_the_promised_names(broker: FakeBroker, scripts: FakeScripts) -> None:
    async with running(FakeSource(trading, BTC)) as r:
        await r.until(r.source.played.is_set)
        r.source.counts.reconnects["closed"] += 2
        await r.until(lambda: r.bridge.outbox.depth == 0)
        _, text = await r.get("/metrics")
        for line in (
            f'tapeline_bridge_frames_total{{venue="{VENUE}"}} 3.0',
            f'tapeline_bridge_reconnects_total{{reason="closed",venue="{VENUE}"}} 2.0',
            f'tapeline_bridge_records_total{{kind="book_delta",venue="{VENUE}"}} 1.0',
            f'tapeline_bridge_dropped_total{{symbol="BTCUSDT",venue="{VENUE}"}} 0.0',
            "tapeline_bridge_outbox_bytes 0.0",
        ):
            assert line in text


async def test_an_outage_is_logged_once_and_so_is_its_end(
    broker: FakeBroker, scripts: FakeScripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_module, "OUTAGE_SHOWN_MS", 50)
    async with running(FakeSource(trading, BTC)) as r:
        await r.until(r.source.played.is_set)
        await r.until(lambda: r.bridge.outbox.depth == 0)
        broker.faults = ["hang"]
        r.bridge.accept(VENUE, [delta(BTC)])
        await r.until(lambda: r.bridge.health()[1]["broker"]["outage"])
        broker.producers[0].flying[-1].set_result(None)
        await r.until(lambda: not r.bridge.health()[1]["broker"]["outage"])


async def test_a_gap_of_the_venue_goes_to_the_log_and_the_topic(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running(FakeSource(trading, BTC)) as r:
        await r.until(r.source.played.is_set)
        r.bridge.accept(VENUE, [status(BTC, "gap", reason="sequence")])
        await r.until(
            lambda: any(getattr(e, "reason", "") == "sequence" for e in written(broker, BTC))
        )
        assert r.bridge.feeds[VENUE].told == []


async def rubbish(source: FakeSource, sink: Sink) -> None:
    for n in range(1_000):
        refused = RefusedFrame(f"rubbish {n}", FrameError("no dialect"), NOW_MS, "c1", n)
        sink.frame_refused(VENUE, refused)
    await trading(source, sink)


async def test_rubbish_that_can_not_be_kept_holds_nothing_up(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    """No broker takes letters here: records flow all the same, and what is not kept is counted."""
    async with running(FakeSource(rubbish)) as r:
        await r.until(lambda: len(written(broker, ETH)) >= 4)
        _, text = await r.get("/metrics")
        assert 'dead_letters_dropped_total{reason="rate",venue="fake"} 950.0' in text
        assert "tapeline_bridge_dead_letters_waiting 50.0" in text
        r.bridge.stop()
        assert await r.ended() == 0
        assert r.bridge.letters.queue.dropped[VENUE, "shutdown"] == 50


@pytest.mark.parametrize("missing", ["kafka_url", "redis_url", "symbols"])
async def test_a_missing_setting_ends_it_with_2(missing: str) -> None:
    assert await run_bridge(settings_of().model_copy(update={missing: ""})) == 2


async def test_a_symbol_that_can_not_be_read_ends_it_with_2() -> None:
    assert await run_bridge(settings_of().model_copy(update={"symbols": "nasdaq:AAPL"})) == 2


async def test_a_symbol_that_can_not_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match="SYMBOLS"):
        Bridge(settings_of().model_copy(update={"symbols": "BTCUSDT"}))


async def test_a_taken_port_ends_it_with_1(broker: FakeBroker, scripts: FakeScripts) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        assert await run_bridge(settings_of().model_copy(update={"bridge_port": port})) == 1
    finally:
        server.close()
        await server.wait_closed()
