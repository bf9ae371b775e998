"""Feed leases: who may write, and what Redis being away changes (nothing)."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from lua import TokenLimit
from streams.feed_lease import FeedKey, FeedLeases, lease_client
from tests.support.bridge import until
from tests.support.bridge_fakes import FakeScripts

BTC, ETH = FeedKey("fake", "BTCUSDT"), FeedKey("fake", "ETHUSDT")


class Told:
    def __init__(self) -> None:
        self.granted_: list[tuple[FeedKey, int]] = []
        self.revoked_: list[FeedKey] = []

    def granted(self, key: FeedKey, token: int) -> None:
        self.granted_.append((key, token))

    def revoked(self, key: FeedKey) -> None:
        self.revoked_.append(key)


def leases(*keys: FeedKey) -> tuple[FeedLeases, FakeScripts, Told]:
    scripts, told = FakeScripts(), Told()
    made = FeedLeases(
        scripts,  # type: ignore[arg-type]
        keys or (BTC, ETH),
        told,
        node_id="n1",
        incarnation="i1",
        ttl_ms=400,
    )
    return made, scripts, told


async def test_all_leases_are_taken_then_renewed() -> None:
    held, scripts, told = leases()
    await held.step()
    assert told.granted_ == [(BTC, 101), (ETH, 102)]
    await held.step()
    assert scripts.renewals == 2
    assert len(told.granted_) == 2
    assert (held.token(BTC), held.token(ETH)) == (101, 102)


async def test_a_lease_of_another_is_left_alone_and_asked_for_again() -> None:
    held, scripts, told = leases(BTC)
    key = scripts.keys.feed(*BTC).lease
    scripts.held[key] = "n2|x|7"
    await held.step()
    assert told.granted_ == []
    assert held.token(BTC) == 0
    del scripts.held[key]
    await held.step()
    assert told.granted_ == [(BTC, 101)]


async def test_an_explicit_no_revokes() -> None:
    held, scripts, told = leases(BTC)
    await held.step()
    scripts.held[scripts.keys.feed(*BTC).lease] = "n2|x|900"
    await held.step()
    assert told.revoked_ == [BTC]
    assert held.lost == 1
    assert held.token(BTC) == 0


async def test_a_lease_that_ran_out_is_ours_again_at_once_with_a_higher_token() -> None:
    held, scripts, told = leases(BTC)
    await held.step()
    scripts.held.clear()
    scripts.token = 0  # Redis has lost everything: our own floor keeps tokens rising
    await held.step()
    assert told.revoked_ == [BTC]
    assert told.granted_ == [(BTC, 101), (BTC, 102)]
    assert scripts.floors == [0, 101]


async def test_redis_away_keeps_the_token() -> None:
    held, scripts, told = leases(BTC)
    await held.step()
    scripts.away = True
    for _ in range(10):
        await held.step()
    assert not held.reachable
    assert told.revoked_ == []
    assert held.token(BTC) == 101
    scripts.away = False
    await held.step()
    assert held.reachable
    assert (told.revoked_, held.token(BTC)) == ([], 101)


async def test_redis_away_at_the_start_is_waited_for() -> None:
    held, scripts, told = leases(BTC)
    scripts.away = True
    await held.step()
    assert not held.reachable
    scripts.away = False
    await held.step()
    assert told.granted_ == [(BTC, 101)]


async def test_an_error_reply_keeps_the_token_as_well() -> None:
    """Loading its data, read-only: no answer to whose lease it is."""
    held, scripts, told = leases(BTC)
    scripts.error = ResponseError("LOADING")
    await held.step()
    scripts.error = None
    await held.step()
    scripts.error = ResponseError("LOADING")
    await held.step()
    assert not held.reachable
    assert held.token(BTC) == 101
    assert told.revoked_ == []


async def test_no_token_left_is_fatal() -> None:
    held, scripts, _ = leases(BTC)
    scripts.error = TokenLimit("none left")
    with pytest.raises(TokenLimit):
        await held.run()


async def test_a_stop_gives_all_leases_back() -> None:
    held, scripts, _ = leases()
    await held.step()
    await held.release()
    assert scripts.held == {}
    assert held.token(BTC) == 0


async def test_a_stop_without_redis_does_not_hang() -> None:
    held, scripts, _ = leases()
    await held.step()
    scripts.away = True
    await held.release()
    assert held.token(BTC) == 0


async def test_a_symbol_that_is_not_listed_is_given_back_and_not_asked_for_again() -> None:
    held, scripts, told = leases()
    await held.step()
    held.forget(BTC)
    held.forget(FeedKey("fake", "NEVER"))
    await held.step()
    assert [*scripts.held] == [scripts.keys.feed(*ETH).lease]
    await held.step()
    assert len(told.granted_) == 2


async def test_the_client_answers_or_fails_well_within_the_lease() -> None:
    client = lease_client("redis://127.0.0.1:1/0", 2_000)
    options = client.connection_pool.connection_kwargs
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 0.5
    await client.aclose()


async def test_it_asks_again_when_anothers_lease_would_have_run_out() -> None:
    held, scripts, _ = leases(BTC, ETH)
    scripts.held[scripts.keys.feed(*BTC).lease] = "n2|x|7"
    scripts.pttl_ms = 350
    await held.step()
    assert held._pause_ms() == 100  # a quarter of the life: the renewal of the other one
    scripts.pttl_ms = 60
    await held.step()
    assert held._pause_ms() == 65
    scripts.pttl_ms = 0
    await held.step()
    assert held._pause_ms() == 20
    scripts.held.clear()
    await held.step()
    assert held._pause_ms() == 100


async def test_one_lease_more_is_asked_for_at_once_and_one_given_back_can_be_had_again() -> None:
    held, scripts, told = leases(BTC)
    held._ttl_ms = 60_000  # the next round is a quarter of a minute away
    running = asyncio.create_task(held.run())
    try:
        await until(lambda: held.token(BTC) > 0)
        held.want(ETH)
        await until(lambda: held.token(ETH) > 0)
        held.forget(ETH)
        held.want(ETH)
        await until(lambda: held.token(ETH) > 102)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert told.granted_ == [(BTC, 101), (ETH, 102), (ETH, 103)]
    assert len(scripts.held) == 2
