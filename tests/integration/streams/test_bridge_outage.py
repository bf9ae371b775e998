"""The broker away: buffered within the limits, told beyond them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streams.events import Trade
from tapeline.stack.embedded import EmbeddedBroker, EmbeddedKeyValueStore
from tapeline.stack.kafka_jars import unavailable
from tapeline.stack.kafka_local import LocalKafka
from tests.support.live_bridge import SYMBOLS, Live, create_events_topic, live, read_all

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.slow,
]


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[LocalKafka]:
    """A broker of this test's own, to be killed."""
    reason = unavailable()
    if reason:
        pytest.skip(reason)
    async with LocalKafka(tmp_path / "kafka", heap_mb=384) as broker:
        yield broker


async def trade_ids_sent(running: Live) -> dict[str, int]:
    """Trades that the venue has made so far, by its own count."""
    symbols = running.sim.state()["symbols"]
    return {symbol: counts["trade_id"] for symbol, counts in symbols.items()}


async def test_a_broker_killed_and_restarted_loses_and_doubles_nothing(
    kafka: LocalKafka, redis_url: str
) -> None:
    async with live(kafka.url, redis_url) as running:
        await running.in_sync()
        await running.flowing(1.0)
        kafka.kill()
        await running.flowing(2.0)
        assert running.bridge.outbox.depth > 50
        await kafka.restart()
        await running.until(lambda: running.bridge.outbox.depth < 10, 30)
        made = await trade_ids_sent(running)
        await running.flowing(1.0)
        replaced = dict(running.bridge._writer.replaced)
        assert await running.stop() == 0
        written = await read_all(running.settings)
    assert replaced == {}, "the one idempotent producer lived through it"
    written.assert_in_order()
    audit = written.audit
    assert (audit.gaps, audit.duplicates, audit.missing, audit.errors) == (0, 0, 0, 0)
    assert audit.tops_compared == audit.tops_equal > 0
    for symbol in SYMBOLS:
        ids = [e.trade_id for e in written.of(symbol) if isinstance(e, Trade)]
        assert ids == [*range(ids[0] or 0, (ids[-1] or 0) + 1)]
        assert (ids[-1] or 0) >= made[symbol]
        assert not any("broker_outage" in word for word in written.story(symbol))


async def test_a_broker_that_hangs_past_its_timeout_loses_and_doubles_nothing(
    kafka: LocalKafka, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.kafka_writer.REQUEST_TIMEOUT_MS", 1_000)
    async with live(kafka.url, redis_url) as running:
        await running.in_sync()
        await running.flowing(0.5)
        os.kill(kafka.pid, signal.SIGSTOP)
        try:
            await running.flowing(3.5)
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
        await running.until(lambda: running.bridge.outbox.depth < 10, 30)
        assert await running.stop() == 0
        written = await read_all(running.settings)
    written.assert_in_order()
    assert (written.audit.gaps, written.audit.duplicates, written.audit.missing) == (0, 0, 0)


async def test_an_outage_beyond_the_limit_is_a_gap_and_a_whole_book(
    kafka: LocalKafka, redis_url: str
) -> None:
    async with live(kafka.url, redis_url, rate=200.0, outage_buffer_ms=1_500) as running:
        await running.in_sync()
        await running.flowing(1.0)
        kafka.kill()
        await running.until(lambda: all(line.lost for line in running.lines.values()), 10)
        assert running.bridge.outbox.bytes < 600_000, "emptied, but for what is in flight"
        await running.flowing(1.0)
        assert not running.bridge.health()[0]
        await kafka.restart()
        await running.until(lambda: not any(line.lost for line in running.lines.values()), 30)
        await running.until(lambda: running.bridge.outbox.depth < 50, 30)
        await running.flowing(2.0)
        dropped = running.bridge.outbox.dropped
        assert {line.symbol for line in dropped} == {*SYMBOLS}
        assert running.bridge.health()[0]
        assert await running.stop() == 0
        written = await read_all(running.settings)
    written.assert_in_order(holes=len(SYMBOLS))
    for symbol in SYMBOLS:
        story = written.story(symbol)
        at = story.index("gap:broker_outage")
        assert story[at + 1] == "snapshot:resync"
        assert story.count("gap:broker_outage") == 1
    audit = written.audit
    assert audit.tops_compared == audit.tops_equal, "the book is right again"
    assert audit.duplicates == 0
    assert audit.missing > 0


async def test_a_bridge_started_before_its_broker_waits_for_it(
    kafka: LocalKafka, redis_url: str
) -> None:
    async with live(kafka.url, redis_url, topic=False) as running:
        await create_events_topic(running.settings)
        settings = running.settings
    await kafka.stop()
    async with live(kafka.url, redis_url, topic=False, events_topic=settings.events_topic) as late:
        await late.in_sync()
        await late.flowing(1.0)
        assert not late.bridge.health()[0]
        assert late.bridge.outbox.depth > 0
        await kafka.start()
        await late.until(lambda: late.bridge.outbox.acknowledged > 0, 30)
        assert await late.stop() == 0
        written = await read_all(late.settings)
    assert written.audit.gaps == 0
    assert (written.audit.missing, written.audit.duplicates) == (0, 0)


async def test_redis_away_changes_nothing_in_the_topic(kafka: LocalKafka) -> None:
    async with EmbeddedKeyValueStore() as store, live(kafka.url, store.url) as running:
        await running.in_sync()
        tokens = {s: line.token for s, line in running.lines.items()}
        store.kill()
        await running.until(lambda: not running.bridge._leases.reachable)
        await running.flowing(2.0)
        assert {s: line.token for s, line in running.lines.items()} == tokens
        assert running.bridge.health()[0]
        await store.restart()
        await running.until(lambda: all(ln.token > tokens[s] for s, ln in running.lines.items()))
        await running.flowing(0.5)
        assert await running.stop() == 0
        written = await read_all(running.settings)
    written.assert_in_order()
    assert (written.audit.missing, written.audit.duplicates) == (0, 0)
    assert written.audit.tops_compared == written.audit.tops_equal


async def test_a_stop_while_the_broker_is_away_is_bounded_and_says_so(
    kafka: LocalKafka, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with live(kafka.url, redis_url, flush_s=0.5) as running:
        await running.in_sync()
        await running.flowing(0.5)
        kafka.kill()
        await running.flowing(0.5)
        async with asyncio.timeout(6):
            assert await running.stop() == 1
        assert "bridge.not_flushed" in capsys.readouterr().out


async def test_the_broker_of_tapeline_dev_takes_records_too(redis_url: str) -> None:
    async with EmbeddedBroker() as broker, live(broker.url, redis_url) as running:
        await running.in_sync()
        await running.until(lambda: running.bridge.outbox.acknowledged > 50)
        assert not running.bridge._writer.idempotent
        assert await running.stop() == 0
        written = await read_all(running.settings)
    written.assert_in_order()
    assert (written.audit.gaps, written.audit.missing, written.audit.duplicates) == (0, 0, 0)


async def test_a_part_that_loses_its_cancellation_ends_all_the_same(
    kafka_url: str, redis_url: str
) -> None:
    """As redis-py loses one on Python 3.11, where it arrives just as a sending ends."""
    async with live(kafka_url, redis_url) as running:
        await running.in_sync()
        leases = running.bridge._leases
        step, lost = leases.step, asyncio.Event()

        async def loses_one() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost.is_set():
                    raise
                lost.set()
                await step()

        leases.step = loses_one  # type: ignore[method-assign]
        await running.flowing(0.5)  # the lease is renewed within it
        async with asyncio.timeout(20):
            assert await running.stop() == 0
        assert lost.is_set()
