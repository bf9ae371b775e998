"""Reading reports: untouched, with their age, never stepping back, never waiting long."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from serving.reader import _SYMBOL as READER_PATTERN
from serving.reader import (
    READ_TIMEOUT_S,
    STALE_MS,
    BadSymbol,
    ReportReader,
    StoreUnavailable,
    aged,
    reader_client,
)
from tables.report import SYMBOL_PATTERN
from tapeline.clock import ManualClock
from tapeline.errors import ReportError
from tests.support.redis_process import RedisProcess
from tests.support.reports import stored

NOW_MS = 1_800_000_000_000
KEY = "report:BTCUSDT"

# A read is given up after READ_TIMEOUT_S; the rest is what a busy machine needs to say so.
GIVEN_UP_S = READ_TIMEOUT_S + 0.25


def reader_of(redis: Redis, now_ms: int = NOW_MS) -> ReportReader:
    return ReportReader(redis, clock=ManualClock(now_ms))


# --- age ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later_ms", [0, 1, 250, 60_000])
def test_a_report_ages_from_its_writing_and_its_data_from_its_moment(later_ms: int) -> None:
    """Two ages: since it was written, since its newest record was received."""
    report = aged(stored(now_ms=NOW_MS, written_ms=NOW_MS + 3, data_age_ms=40), NOW_MS + later_ms)
    assert report.age_ms == max(0, later_ms - 3)
    assert report.data_age_ms == 40 + later_ms


def test_a_clock_behind_the_writer_s_makes_no_negative_age() -> None:
    """Nor a data age below what the writer saw."""
    report = aged(stored(data_age_ms=40), NOW_MS - 5000)
    assert (report.age_ms, report.data_age_ms) == (0, 40)


@pytest.mark.parametrize(
    ("data_age_ms", "later_ms", "stale"),
    [
        (0, STALE_MS, False),
        (0, STALE_MS + 1, True),
        (STALE_MS, 0, False),
        (STALE_MS + 1, 0, True),
        (1500, 500, False),
        (1500, 501, True),
        (None, 0, True),
    ],
)
def test_a_report_is_stale_when_its_data_is_older_than_two_seconds(
    data_age_ms: int | None, later_ms: int, stale: bool
) -> None:
    """On the boundary it is not; without any data it is."""
    report = aged(stored(data_age_ms=data_age_ms), NOW_MS + later_ms)
    assert report.stale is stale
    assert (report.data_age_ms is None) == (data_age_ms is None)


def test_a_report_that_is_rewritten_over_old_data_is_stale_all_the_same() -> None:
    """Its own age is small then; that of its data is what counts."""
    report = aged(stored(data_age_ms=9000), NOW_MS)
    assert report.age_ms == 0
    assert report.stale


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b"{}", b'{"seq":1}', b"\xff", b"{"])
def test_what_is_no_report_is_said_to_be_none(payload: bytes) -> None:
    """Never half of one."""
    with pytest.raises(ReportError, match="what is stored is no report"):
        aged(payload, NOW_MS)


# --- reading --------------------------------------------------------------------------------------


async def test_the_stored_bytes_come_back_untouched(redis: Redis) -> None:
    """Token and seq beside them."""
    payload = stored(token=9, seq=4)
    await redis.set(KEY, payload)
    report = await reader_of(redis).get("BTCUSDT")
    assert report is not None
    assert report.payload == payload
    assert (report.token, report.seq) == (9, 4)


async def test_no_report_is_none(redis: Redis) -> None:
    """Not an error."""
    assert await reader_of(redis).get("BTCUSDT") is None


async def test_a_report_that_can_not_be_read_is_an_error(redis: Redis) -> None:
    """And the next good one is read."""
    await redis.set(KEY, b"not json")
    reader = reader_of(redis)
    with pytest.raises(ReportError):
        await reader.get("BTCUSDT")
    await redis.set(KEY, stored())
    assert await reader.get("BTCUSDT") is not None


async def test_a_key_of_another_type_is_an_error_of_reading(redis: Redis) -> None:
    """Somebody else's list under our name."""
    await redis.lpush(KEY, "x")
    with pytest.raises(ReportError):
        await reader_of(redis).get("BTCUSDT")


@pytest.mark.parametrize(
    "symbol",
    ["", "btcusdt", "BTC/USD", "BTC USDT", "-BTC", "BTC:heavy", "BTCUSDT\n", "A" * 33, "ÄB", "*"],
)
async def test_a_malformed_symbol_is_refused_with_what_was_expected(
    redis: Redis, symbol: str
) -> None:
    """Before Redis is asked anything."""
    with pytest.raises(BadSymbol, match="expected 1 to 32 capital letters") as refused:
        await reader_of(redis).get(symbol)
    assert repr(symbol) in str(refused.value)


@pytest.mark.parametrize("symbol", ["A", "BTCUSDT", "BTC-USD", "BTC_USD.P", "1INCHUSDT", "A" * 32])
async def test_every_symbol_that_a_writer_may_use_is_accepted(redis: Redis, symbol: str) -> None:
    """Up to 32 characters."""
    await redis.set(f"report:{symbol}", stored(symbol))
    assert await reader_of(redis).get(symbol) is not None


def test_readers_and_writers_mean_the_same_by_a_symbol() -> None:
    """The reader has the pattern of its own, so as not to import all of `tables`."""
    assert f"^{READER_PATTERN.pattern}$" == SYMBOL_PATTERN


# --- the reader's fence ---------------------------------------------------------------------------


async def test_a_reader_never_steps_back(redis: Redis) -> None:
    """By token first, then by seq; None instead of the older report."""
    reader = reader_of(redis)
    seen: list[tuple[int, int] | None] = []
    for token, seq in [(7, 5), (7, 4), (7, 5), (7, 6), (6, 99), (8, 7), (8, 6), (7, 100), (8, 8)]:
        await redis.set(KEY, stored(token=token, seq=seq))
        report = await reader.get("BTCUSDT")
        seen.append(None if report is None else (report.token, report.seq))
    assert seen == [(7, 5), None, (7, 5), (7, 6), None, (8, 7), None, None, (8, 8)]


async def test_the_fence_is_each_symbol_s_own(redis: Redis) -> None:
    """And a report that is gone does not lower it."""
    reader = reader_of(redis)
    await redis.set(KEY, stored(token=9, seq=9))
    await redis.set("report:ETHUSDT", stored("ETHUSDT", token=1, seq=1))
    assert await reader.get("BTCUSDT") is not None
    assert await reader.get("ETHUSDT") is not None
    await redis.delete(KEY)
    assert await reader.get("BTCUSDT") is None
    await redis.set(KEY, stored(token=9, seq=8))
    assert await reader.get("BTCUSDT") is None


# --- a store that does not answer -----------------------------------------------------------------


async def elapsed_until_unavailable(reader: ReportReader) -> float:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="Redis did not answer"):
        await reader.get("BTCUSDT")
    return time.monotonic() - began


async def test_a_redis_that_hangs_is_given_up_in_150_ms(own_server: RedisProcess) -> None:
    """Stopped outright; a connection is open, or is not yet."""
    async with reader_client(own_server.url) as redis:
        await redis.set(KEY, stored())
        reader = reader_of(redis)
        assert await reader.get("BTCUSDT") is not None
        own_server.pause()
        waited = [await elapsed_until_unavailable(reader) for _ in range(3)]
        own_server.resume()
        assert all(READ_TIMEOUT_S * 0.9 <= s <= GIVEN_UP_S for s in waited), waited
        assert READ_TIMEOUT_S == 0.15


async def test_a_redis_that_pauses_its_clients_is_given_up_in_150_ms(
    own_server: RedisProcess,
) -> None:
    """It accepts the command and answers later."""
    async with reader_client(own_server.url) as redis:
        await redis.set(KEY, stored())
        await redis.client_pause(1000, all=True)
        assert await elapsed_until_unavailable(reader_of(redis)) <= GIVEN_UP_S


async def test_a_redis_that_is_gone_is_said_to_be(own_server: RedisProcess) -> None:
    """Within the same time."""
    async with reader_client(own_server.url) as redis:
        assert await reader_of(redis).get("BTCUSDT") is None
        own_server.kill()
        assert await elapsed_until_unavailable(reader_of(redis)) <= GIVEN_UP_S
        own_server.start()


async def test_an_answer_given_up_is_never_taken_for_another_s(own_server: RedisProcess) -> None:
    """A connection with an answer under way must not be used again."""
    symbols = [f"S{n}" for n in range(8)]
    async with reader_client(own_server.url) as redis:
        for symbol in symbols:
            await redis.set(f"report:{symbol}", stored(symbol))
        reader = reader_of(redis)
        for _ in range(3):
            own_server.pause()
            outcomes = await asyncio.gather(*map(reader.get, symbols), return_exceptions=True)
            assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
            own_server.resume()
            for symbol in symbols:
                report = await reader.get(symbol)
                assert report is not None
                assert f'"symbol":"{symbol}"'.encode() in report.payload


# --- watching -------------------------------------------------------------------------------------


async def test_watching_gives_each_report_once_and_in_order(redis: Redis) -> None:
    """One that is older than what was given is left out."""
    watch: Any = reader_of(redis).watch("BTCUSDT", poll_ms=5)
    got = []
    for token, seq in [(7, 1), (7, 3), (8, 4)]:
        await redis.set(KEY, stored(token=token, seq=seq))
        report = await asyncio.wait_for(anext(watch), 2)
        got.append((report.token, report.seq))
    assert got == [(7, 1), (7, 3), (8, 4)]
    nothing = asyncio.ensure_future(anext(watch))
    await redis.set(KEY, stored(token=7, seq=9))
    done, _ = await asyncio.wait({nothing}, timeout=0.1)
    assert not done
    nothing.cancel()
    await asyncio.gather(nothing, return_exceptions=True)
    await watch.aclose()


async def test_watching_says_once_that_the_last_report_has_gone_stale(redis: Redis) -> None:
    """A writer that has died writes no news of it."""
    clock = ManualClock(NOW_MS)
    watch: Any = ReportReader(redis, clock=clock).watch("BTCUSDT", poll_ms=5)
    await redis.set(KEY, stored(seq=1))
    assert not (await asyncio.wait_for(anext(watch), 2)).stale
    clock.advance(STALE_MS + 1)
    again = await asyncio.wait_for(anext(watch), 2)
    assert (again.seq, again.stale) == (1, True)
    await redis.set(KEY, stored(seq=2, now_ms=clock.now_ms()))
    assert (await asyncio.wait_for(anext(watch), 2)).seq == 2
    await watch.aclose()


@pytest.mark.slow
async def test_a_watch_ends_whenever_it_is_cancelled(redis: Redis) -> None:
    """While it sends, waits or sleeps: Ctrl-C arrives at any moment."""
    await redis.set(KEY, stored())
    reader = reader_of(redis)
    moments = random.Random(7)
    for _ in range(2000):
        watch: Any = reader.watch("BTCUSDT", poll_ms=0)
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(moments.uniform(0, 0.003))
        waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=5)
        assert done
        assert waiting.cancelled()


async def test_watching_a_malformed_symbol_is_refused(redis: Redis) -> None:
    """At the first step."""
    with pytest.raises(BadSymbol):
        await anext(reader_of(redis).watch("btc"))
