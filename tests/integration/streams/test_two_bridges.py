"""Two bridges of one venue, the writing one killed or stopped: what a reader of the topic has then."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from streams.bridge import Bridge
from streams.events import BookDelta, BookSnapshot, Event, Trade
from streams.simulator import SimulatedExchange
from tests.support.live_bridge import (
    SYMBOLS,
    Live,
    Written,
    bridge_process,
    create_events_topic,
    read_all,
    settings_for,
)

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

TAKEOVER_S = 2.0


@asynccontextmanager
async def two(
    kafka_url: str, redis_url: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Live]]:
    """A process that writes, and a bridge that stands by with all books in sync."""
    async with SimulatedExchange(SYMBOLS, seed=3, rate=150.0) as sim:
        settings = settings_for(kafka_url, redis_url, sim, SYMBOLS)
        await create_events_topic(settings)
        async with bridge_process(settings, len(SYMBOLS)) as first:
            ours = settings.model_copy(update={"node_id": "second"})
            second = Live(sim, ours, Bridge(ours))
            try:
                await second.until(lambda: all(ln.in_sync for ln in second.lines.values()))
                await asyncio.sleep(1.5)
                assert not any(line.token for line in second.lines.values())
                yield first, second
            finally:
                assert await second.stop() == 0


async def taken_over(second: Live) -> float:
    """Seconds until the second bridge writes all symbols."""
    began = time.monotonic()
    await second.until(lambda: all(line.token for line in second.lines.values()), 5.0)
    return time.monotonic() - began


def fenced(events: list[Event]) -> list[Event]:
    """What a reader keeps that drops lower tokens than it has seen."""
    token, kept = 0, []
    for event in events:
        if event.feed.token >= token:
            token = event.feed.token
            kept.append(event)
    return kept


def assert_whole(written: Written) -> None:
    """Each symbol's trades and books have no hole for a reader that fences and knows ids."""
    trades = 0
    for symbol in SYMBOLS:
        events = fenced(written.of(symbol))
        tokens = list(dict.fromkeys(event.feed.token for event in events))
        assert len(tokens) == 2
        for token in tokens:
            seqs = [event.feed.seq for event in events if event.feed.token == token]
            assert seqs == [*range(1, len(seqs) + 1)]
        ids = [event.trade_id or 0 for event in events if isinstance(event, Trade)]
        newest, passed = 0, []
        for number in ids:
            if number > newest:
                passed.append(number)
                newest = number
        trades += len(passed)
        assert all(after == before + 1 for before, after in pairwise(passed)), symbol
        taken = [event for event in events if event.feed.token == tokens[1]]
        books = [e for e in taken if isinstance(e, BookDelta | BookSnapshot)]
        assert isinstance(books[0], BookSnapshot)
    assert trades > 5, "of all: one market may be quiet for a while"


async def test_a_bridge_that_is_killed_is_replaced_in_time_without_a_hole(
    kafka_url: str, redis_url: str
) -> None:
    async with two(kafka_url, redis_url) as (first, second):
        first.kill()
        assert await taken_over(second) < TAKEOVER_S
        await second.flowing(1.0)
        settings = second.settings
        written = await read_all(settings)
    assert_whole(written)


async def test_a_bridge_that_was_stopped_writes_under_its_old_token_only(
    kafka_url: str, redis_url: str
) -> None:
    async with two(kafka_url, redis_url) as (first, second):
        first.send_signal(signal.SIGSTOP)
        assert await taken_over(second) < TAKEOVER_S
        await second.flowing(1.0)
        first.send_signal(signal.SIGCONT)
        await second.flowing(2.0)
        written = await read_all(second.settings)
    assert_whole(written)
    for symbol in SYMBOLS:
        assert len({event.feed.token for event in written.of(symbol)}) == 2
