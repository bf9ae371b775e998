"""The bridge between the simulated exchange and a real Kafka and Redis: nothing lost, in order."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from streams import topics
from streams.backoff import Timing
from streams.events import FeedStatus, Instrument, Trade
from streams.rest import RestClient
from streams.simulator import SimulatedExchange
from streams.sockets import SocketSource
from streams.symbols import parse_symbols
from streams.venues.binance.assembler import BinanceAssembler
from tapeline.clock import SystemClock
from tapeline.config import Settings, variable_name
from tests.support.bridge import until
from tests.support.live_bridge import (
    SYMBOLS,
    Live,
    create_events_topic,
    live,
    read_all,
    settings_for,
)

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.redis,
]


async def sim_state(running: Live) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(running.sim.control_url + "/state") as response,
    ):
        state: dict[str, Any] = await response.json()
        return state


async def quiet_end(running: Live) -> dict[str, dict[str, int]]:
    """Let the venue close its sockets, and wait until all that it sent was read; its own counts."""
    await running.sim.close_sessions("end of the test")
    await running.until(lambda: not running.bridge.feeds["binance"].connected)
    state = await sim_state(running)
    return {symbol: counts["sent"] for symbol, counts in state["symbols"].items()}


async def test_everything_the_venue_sent_is_in_the_topic_in_order(
    kafka_url: str, redis_url: str
) -> None:
    async with live(kafka_url, redis_url) as running:
        await running.in_sync()
        before = {s: c["sent"] for s, c in (await sim_state(running))["symbols"].items()}
        trades_before = running.bridge.feeds["binance"].records["trade"]
        await running.flowing(2.0)
        sent = await quiet_end(running)
        trades = running.bridge.feeds["binance"].records["trade"] - trades_before
        assert await running.stop() == 0
        written = await read_all(running.settings)
    made = sum(sent[s].get("trade", 0) - before[s].get("trade", 0) for s in SYMBOLS)
    # What was on its way when `before` was asked for counts for either side.
    assert made - 5 <= trades <= made + 5
    written.assert_in_order()
    audit = written.audit
    assert (audit.gaps, audit.duplicates, audit.missing, audit.crossed, audit.errors) == (0,) * 5
    assert audit.tops_compared == audit.tops_equal > 0
    for symbol in SYMBOLS:
        assert written.story(symbol)[-1].startswith("disconnected")
        instrument = next(e for e in written.of(symbol) if isinstance(e, Instrument))
        assert instrument.synthetic


async def test_a_disconnect_is_told_and_the_books_are_built_anew(
    kafka_url: str, redis_url: str
) -> None:
    async with live(kafka_url, redis_url) as running:
        await running.in_sync()
        running.sim.start_episode("disconnect")
        await running.until(lambda: not any(ln.in_sync for ln in running.lines.values()))
        await running.in_sync()
        await running.flowing(0.3)
        assert running.bridge.health()[1]["venues"]["binance"]["connected"]
        assert await running.stop() == 0
        written = await read_all(running.settings)
    written.assert_in_order()
    for symbol in SYMBOLS:
        story = written.story(symbol)
        at = story.index("disconnected:closed")
        assert story[at : at + 3] == ["disconnected:closed", "connected", "snapshot:resync"]
    assert written.audit.tops_compared == written.audit.tops_equal
    assert written.audit.duplicates == 0


async def test_a_sequence_gap_is_told_and_only_its_symbol_resynchronised(
    kafka_url: str, redis_url: str
) -> None:
    async with live(kafka_url, redis_url) as running:
        await running.in_sync()
        # A snapshot may hold more than the diffs sent so far: only behind its first diff is the
        # next one sure to be missed.
        await running.moved("ETHUSDT")
        running.sim.start_episode("gap", "ETHUSDT")
        await running.until(lambda: running.bridge.feeds["binance"].gaps["ETHUSDT"] == 1)
        await running.in_sync()
        running.sim.start_episode("garbage", "BTCUSDT")
        await running.flowing(0.5)
        metrics = await metrics_of(running)
        assert await running.stop() == 0
        written = await read_all(running.settings)
    written.assert_in_order()
    story = written.story("ETHUSDT")
    at = story.index("gap:sequence")
    assert story[at + 1] == "snapshot:resync"
    assert not any("gap" in word for word in written.story("BTCUSDT"))
    assert written.audit.tops_compared == written.audit.tops_equal
    assert 'tapeline_bridge_gaps_total{symbol="ETHUSDT",venue="binance"} 1.0' in metrics
    assert 'tapeline_bridge_frame_errors_total{venue="binance"} 1.0' in metrics


async def metrics_of(running: Live) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(running.bridge.probe.url + "/metrics") as response,
    ):
        return await response.text()


async def test_a_socket_that_is_replaced_leaves_no_trace_in_the_topic(
    kafka_url: str, redis_url: str
) -> None:
    """The 24 h limit, at one second."""

    def source(settings: Settings) -> SocketSource:
        listings = parse_symbols(settings.symbols)
        return SocketSource(
            BinanceAssembler(listings),
            listings,
            stream_root=settings.binance_stream_url,
            rest=RestClient(settings.binance_rest_url, weight_per_minute=6_000),
            clock=SystemClock(),
            timing=Timing(life=0.7),
        )

    async with live(kafka_url, redis_url, source=source) as running:
        await running.in_sync()
        await running.flowing(2.2)
        (counts,) = [s.counts for s in running.bridge._sources]
        assert counts.reconnects["age"] >= 2
        assert await running.stop() == 0
        written = await read_all(running.settings)
    written.assert_in_order()
    audit = written.audit
    assert (audit.gaps, audit.duplicates, audit.missing) == (0, 0, 0)
    assert audit.tops_compared == audit.tops_equal > 0
    for symbol in SYMBOLS:
        assert [w for w in written.story(symbol) if w.startswith("disconn")] == [
            "disconnected:shutdown"
        ]


async def test_quiet_symbols_are_said_to_be_alive_and_repeated(
    kafka_url: str, redis_url: str
) -> None:
    async with live(
        kafka_url, redis_url, rate=1.0, alive_period_ms=100, snapshot_period_ms=1_000
    ) as running:
        await running.in_sync()
        await running.flowing(2.2)
        assert await running.stop() == 0
        written = await read_all(running.settings)
    for symbol in SYMBOLS:
        events = written.of(symbol)
        gaps_ms = [b.ts_recv_ms - a.ts_recv_ms for a, b in itertools.pairwise(events)]
        assert max(gaps_ms) <= 400
        assert sum(isinstance(e, FeedStatus) and e.status == "alive" for e in events) >= 3
        assert written.story(symbol).count("snapshot:refresh") in (1, 2, 3)


async def test_a_second_bridge_takes_over_where_the_first_one_ends(
    kafka_url: str, redis_url: str
) -> None:
    async with live(kafka_url, redis_url) as first:
        await first.in_sync()
        second_settings = first.settings.model_copy(update={"node_id": "second"})
        second = Live(first.sim, second_settings, type(first.bridge)(second_settings))
        try:
            await second.until(lambda: all(ln.in_sync for ln in second.lines.values()))
            assert not any(line.token for line in second.lines.values())
            await second.until(lambda: second.bridge.health()[0])  # standing by is well
            assert await first.stop() == 0
            await second.in_sync()
            await second.flowing(0.3)
        finally:
            assert await second.stop() == 0
        written = await read_all(first.settings)
    written.assert_in_order()
    for symbol in SYMBOLS:
        tokens = list(dict.fromkeys(event.feed.token for event in written.of(symbol)))
        assert len(tokens) == 2
        taken = [e for e in written.of(symbol) if e.feed.token == tokens[1]]
        kinds = [e.__struct_config__.tag for e in taken]
        assert kinds[:2] == ["feed_status", "instrument"]
        books = [kind for kind in kinds if kind.startswith("book_")]
        assert books[0] == "book_snapshot"
        trades = [e.trade_id for e in written.of(symbol) if isinstance(e, Trade)]
        assert trades == sorted(trades)


async def test_an_unknown_symbol_is_named_and_the_others_go_on(
    kafka_url: str, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with live(
        kafka_url, redis_url, symbols=["BTCUSDT", "NOPEUSDT"], listed=["BTCUSDT"]
    ) as running:
        await running.until(lambda: running.lines["NOPEUSDT"].closed)
        await running.until(lambda: running.bridge.feeds["binance"].records["book_delta"] > 2)
        assert await running.stop() == 0
        written = await read_all(running.settings)
    assert written.kinds("BTCUSDT").count("book_delta") > 2
    assert {*written.kinds("NOPEUSDT")} <= {"feed_status"}, "said before the venue said no"
    assert "NOPEUSDT" in "".join(capsys.readouterr())


async def test_no_known_symbol_at_all_ends_it_with_2(kafka_url: str, redis_url: str) -> None:
    async with live(
        kafka_url, redis_url, symbols=["NOPEUSDT", "NEITHERUSDT"], listed=["BTCUSDT"]
    ) as running:
        async with asyncio.timeout(4):
            assert await running.task == 2


async def test_another_partition_count_ends_it_with_2(kafka_url: str, redis_url: str) -> None:
    async with live(kafka_url, redis_url, topic=False) as running:
        await create_events_topic(running.settings.model_copy(update={"partitions": 5}))
        async with asyncio.timeout(4):
            assert await running.task == 2


async def test_a_topic_that_comes_later_is_waited_for(kafka_url: str, redis_url: str) -> None:
    async with live(kafka_url, redis_url, topic=False) as running:
        await running.in_sync()
        assert running.bridge.outbox.depth > 0
        assert not running.bridge.health()[0]
        await create_events_topic(running.settings)
        await running.until(lambda: running.bridge.outbox.acknowledged > 0)
        assert await running.stop() == 0
        written = await read_all(running.settings)
    written.assert_in_order()
    assert written.audit.gaps == 0


@pytest.mark.slow
async def test_a_topic_recreated_under_the_bridge_is_written_on(
    kafka_url: str, redis_url: str
) -> None:
    async with live(kafka_url, redis_url) as running:
        await running.in_sync()
        await running.flowing(0.5)
        async with topics.admin_of(kafka_url) as admin:
            await admin.delete_topics([running.settings.events_topic])
        await running.flowing(1.0)
        await create_events_topic(running.settings)
        acknowledged = running.bridge.outbox.acknowledged
        await running.until(lambda: running.bridge.outbox.acknowledged > acknowledged + 200, 30)
        assert await running.stop() == 0
        written = await read_all(running.settings)
    for symbol in SYMBOLS:
        # A machine that stood still may have cost it its lease: each token has numbers of its own.
        by_token: dict[int, list[int]] = {}
        for event in written.of(symbol):
            by_token.setdefault(event.feed.token, []).append(event.feed.seq)
        for seqs in by_token.values():
            assert seqs == [*range(seqs[0], seqs[0] + len(seqs))]
        assert all(seqs[0] == 1 for seqs in [*by_token.values()][1:])
        assert written.story(symbol)[-1] == "disconnected:shutdown"


async def test_redis_flushed_means_a_new_token_and_nothing_missing(
    kafka_url: str, redis_url: str
) -> None:
    async with live(kafka_url, redis_url) as running:
        await running.in_sync()
        first = {s: line.token for s, line in running.lines.items()}
        async with Redis.from_url(redis_url) as client:
            await client.flushall()
        await running.until(lambda: all(ln.token > first[s] for s, ln in running.lines.items()))
        await running.flowing(0.3)
        assert await running.stop() == 0
        written = await read_all(running.settings)
    written.assert_in_order()
    assert (written.audit.missing, written.audit.duplicates) == (0, 0)
    assert written.audit.tops_compared == written.audit.tops_equal


async def test_sigterm_flushes_says_goodbye_and_frees_the_leases(
    kafka_url: str, redis_url: str
) -> None:
    async with SimulatedExchange(SYMBOLS, seed=5, rate=60.0) as sim:
        settings = settings_for(kafka_url, redis_url, sim, SYMBOLS)
        await create_events_topic(settings)
        env = {variable_name(name): str(value) for name, value in settings.model_dump().items()}
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tapeline.cli",
            "bridge",
            env={**os.environ, **env},
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            log: list[dict[str, Any]] = []
            assert child.stderr is not None
            async with asyncio.timeout(15):
                async for raw in child.stderr:
                    log.append(json.loads(raw))
                    if sum(entry["event"] == "feed.granted" for entry in log) == len(SYMBOLS):
                        break
            await until(lambda: sim.state()["requests"].get("/api/v3/depth", 0) >= len(SYMBOLS))
            async with asyncio.timeout(15):
                so_far = await read_all(settings)
                while min(len(so_far.of(symbol)) for symbol in SYMBOLS) <= 5:
                    so_far = await read_all(settings)
            child.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                log += [json.loads(raw) async for raw in child.stderr]
                assert await child.wait() == 0
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        written = await read_all(settings)
    events = [entry["event"] for entry in log]
    assert events[-1] == "bridge.stopped"
    assert {"bridge.started", "broker.connected", "feed.connected"} <= {*events}
    assert {entry["component"] for entry in log} <= {
        "bridge", "sockets", "kafka_writer", "feed_lease", "control"
    }  # fmt: skip
    written.assert_in_order()
    for symbol in SYMBOLS:
        assert written.story(symbol)[-1] == "disconnected:shutdown"
        assert len(written.of(symbol)) > 5
    async with Redis.from_url(redis_url) as client:
        keys = await client.keys("feed:writer:binance:*")
        assert keys == []
