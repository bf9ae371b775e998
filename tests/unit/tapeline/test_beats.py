"""Rates out of counts, and starts that are counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from tapeline.beats import LOOKS_MAX, STARTS_TTL_S, Rates, count_start, own_version


def test_a_rate_is_over_the_last_looks() -> None:
    rates = Rates()
    assert rates.per_s("a") is None
    rates.look(1_000, {"a": 10})
    assert rates.per_s("a") is None
    rates.look(3_000, {"a": 30, "b": 1})
    assert (rates.per_s("a"), rates.per_s("b")) == (10.0, None)
    for n in range(LOOKS_MAX):
        rates.look(4_000 + n * 1_000, {"a": 30, "b": 1})
    assert rates.per_s("a") == 0.0


def test_a_count_that_begins_anew_is_no_fall() -> None:
    rates = Rates()
    rates.look(0, {"a": 1_000})
    rates.look(1_000, {"a": 4})
    assert rates.per_s("a") is None
    rates.look(2_000, {"a": 14})
    assert rates.per_s("a") == 10.0


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**9)), max_size=20))
def test_no_rate_is_below_zero(looks: list[tuple[int, int]]) -> None:
    rates = Rates()
    for now_ms, count in looks:
        rates.look(now_ms, {"a": count})
        rate = rates.per_s("a")
        assert rate is None or rate >= 0


async def test_starts_are_counted_until_a_day_has_passed(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        assert [await count_start(redis, "s"), await count_start(redis, "s")] == [0, 1]
        assert STARTS_TTL_S - 5 <= await redis.ttl("s") <= STARTS_TTL_S


def test_the_version_is_told_or_that_there_is_none() -> None:
    assert own_version()
