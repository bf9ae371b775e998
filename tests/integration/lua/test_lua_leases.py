"""Leases: who gets one, under which token, and who does not."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import TOKEN_LIMIT, AcquireCode, Acquired, ReleaseCode, RenewCode, Scripts, TokenLimit
from lua.keys import Keys
from tests.support.redis_process import RedisProcess

S = Keys().writer("BTCUSDT")
TTL_MS = 2000


async def take(scripts: Scripts, who: str = "a", floor: int = 0) -> Acquired:
    return await scripts.acquire(S, who, "1", TTL_MS, floor)


async def redis_ms(redis: Redis) -> int:
    seconds, micros = await redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def expire(redis: Redis) -> None:
    """The lease's time is up."""
    await redis.delete(S.lease)


# --- acquire -------------------------------------------------------------------------------------


async def test_a_free_lease_is_granted_under_a_token_not_below_redis_clock(
    redis: Redis, scripts: Scripts
) -> None:
    before_ms = await redis_ms(redis)
    got = await take(scripts)
    assert got.code is AcquireCode.GRANTED
    assert got.mine
    assert before_ms <= got.token <= await redis_ms(redis)
    assert got.lease_value == f"a|1|{got.token}"
    assert got.pttl_ms == TTL_MS
    assert (got.last_seq, got.last_updated_at) == (0, 0)
    assert await redis.get(S.lease) == got.lease_value.encode()
    assert await redis.get(S.counter) == str(got.token).encode()
    assert TTL_MS - 1000 < await redis.pttl(S.lease) <= TTL_MS
    assert await redis.pttl(S.counter) == -1


async def test_a_grant_whose_reply_was_lost_is_told_again(redis: Redis, scripts: Scripts) -> None:
    lost = await take(scripts)
    await redis.pexpire(S.lease, 500)
    again = await take(scripts)
    assert again.code is AcquireCode.HELD_BY_ME
    assert (again.token, again.lease_value) == (lost.token, lost.lease_value)
    assert await redis.pttl(S.lease) > 1000


async def test_one_who_saw_its_own_token_is_told_again_too(scripts: Scripts) -> None:
    """After a renewal whose reply was lost, the floor is the token itself."""
    mine = await take(scripts)
    again = await take(scripts, floor=mine.token)
    assert (again.code, again.token) == (AcquireCode.HELD_BY_ME, mine.token)


async def test_a_held_lease_says_who_holds_it_and_for_how_long(
    redis: Redis, scripts: Scripts
) -> None:
    holder = await take(scripts, "a")
    got = await take(scripts, "b")
    assert got.code is AcquireCode.HELD
    assert not got.mine
    assert got.lease_value == holder.lease_value
    assert got.holder == ("a", "1")
    assert 0 < got.pttl_ms <= TTL_MS
    assert got.token == holder.token
    assert await redis.get(S.lease) == holder.lease_value.encode()


async def test_another_incarnation_of_the_node_is_another_holder(scripts: Scripts) -> None:
    await take(scripts, "a")
    got = await scripts.acquire(S, "a", "2", TTL_MS)
    assert got.code is AcquireCode.HELD


async def test_a_node_whose_name_begins_alike_is_another_holder(scripts: Scripts) -> None:
    await scripts.acquire(S, "node-10", "1", TTL_MS)
    assert (await scripts.acquire(S, "node-1", "0", TTL_MS)).code is AcquireCode.HELD


# --- stealing ------------------------------------------------------------------------------------


async def test_a_thief_takes_what_it_looked_at(redis: Redis, scripts: Scripts) -> None:
    holder = await take(scripts, "a")
    got = await scripts.acquire(
        S, "b", "1", TTL_MS, steal_below_ms=TTL_MS + 1, expected=holder.lease_value
    )
    assert got.code is AcquireCode.STOLEN
    assert got.token > holder.token
    assert await redis.get(S.lease) == got.lease_value.encode()


async def test_a_thief_fails_where_the_lease_changed_since_it_looked(
    redis: Redis, scripts: Scripts
) -> None:
    seen = await take(scripts, "a")
    await expire(redis)
    successor = await take(scripts, "c")
    got = await scripts.acquire(
        S, "b", "1", TTL_MS, steal_below_ms=TTL_MS + 1, expected=seen.lease_value
    )
    assert (got.code, got.lease_value) == (AcquireCode.HELD, successor.lease_value)


async def test_a_thief_waits_until_little_is_left(redis: Redis, scripts: Scripts) -> None:
    holder = await take(scripts, "a")
    wish = {"steal_below_ms": 400, "expected": holder.lease_value}
    assert (await scripts.acquire(S, "b", "1", TTL_MS, **wish)).code is AcquireCode.HELD
    await redis.pexpire(S.lease, 399)
    assert (await scripts.acquire(S, "b", "1", TTL_MS, **wish)).code is AcquireCode.STOLEN


async def test_nothing_is_stolen_by_default(redis: Redis, scripts: Scripts) -> None:
    holder = await take(scripts, "a")
    await redis.pexpire(S.lease, 300)
    got = await scripts.acquire(S, "b", "1", TTL_MS, expected=holder.lease_value)
    assert got.code is AcquireCode.HELD
    assert (
        await scripts.acquire(S, "b", "1", TTL_MS, steal_below_ms=9999)
    ).code is AcquireCode.HELD


# --- tokens rise ---------------------------------------------------------------------------------


async def test_each_grant_has_a_higher_token(redis: Redis, scripts: Scripts) -> None:
    tokens = []
    for who in "abab":
        tokens.append((await take(scripts, who)).token)
        await expire(redis)
    assert tokens == sorted(set(tokens))


async def test_tokens_rise_through_the_loss_of_all_data(redis: Redis, scripts: Scripts) -> None:
    """Redis' clock is the floor that is left."""
    before = await take(scripts)
    await asyncio.sleep(0.002)
    await redis.flushall()
    assert (await take(scripts)).token > before.token


async def test_tokens_rise_above_the_caller_s_floor_whatever_the_clock_says(
    redis: Redis, scripts: Scripts
) -> None:
    ahead = await redis_ms(redis) + 3_600_000
    assert (await take(scripts, floor=ahead)).token == ahead + 1
    await redis.flushall()
    assert (await take(scripts, floor=ahead + 1)).token == ahead + 2


@pytest.mark.parametrize("field", ["token", "tick_token"])
async def test_tokens_rise_above_the_last_accepted_write(
    redis: Redis, scripts: Scripts, field: str
) -> None:
    """The counter was evicted, the meta was not."""
    ahead = await redis_ms(redis) + 3_600_000
    await redis.hset(S.meta, field, ahead)
    assert (await take(scripts)).token == ahead + 1


async def test_tokens_rise_above_the_counter(redis: Redis, scripts: Scripts) -> None:
    ahead = await redis_ms(redis) + 3_600_000
    await redis.set(S.counter, ahead)
    assert (await take(scripts)).token == ahead + 1


async def test_my_lease_out_of_an_old_copy_is_not_handed_out_again(
    redis: Redis, scripts: Scripts
) -> None:
    """A replica that lagged was promoted: lease and counter are older than what is known."""
    old = await take(scripts)
    got = await take(scripts, floor=old.token + 5)
    assert got.code is AcquireCode.GRANTED
    assert got.token >= old.token + 6
    await redis.hset(S.meta, "token", got.token + 5)
    assert (await take(scripts)).token == got.token + 6


async def test_tokens_rise_through_a_restart_without_data(own_server: RedisProcess) -> None:
    async with Redis.from_url(own_server.url) as redis:
        before = await take(Scripts(redis))
    own_server.kill()
    own_server.start()
    async with Redis.from_url(own_server.url) as redis:
        after = await take(Scripts(redis))
    assert after.code is AcquireCode.GRANTED
    assert after.token > before.token


async def test_a_restart_with_data_keeps_the_lease(own_server: RedisProcess) -> None:
    own_server.kill()
    own_server.durable = True
    own_server.start()
    async with Redis.from_url(own_server.url) as redis:
        before = await take(Scripts(redis))
    own_server.kill()
    own_server.start()
    async with Redis.from_url(own_server.url) as redis:
        after = await take(Scripts(redis))
    assert (after.code, after.token) == (AcquireCode.HELD_BY_ME, before.token)


async def test_a_new_writer_is_told_where_to_go_on(redis: Redis, scripts: Scripts) -> None:
    await redis.hset(S.meta, mapping={"token": 7, "seq": 41, "watermark": 9, "updated_at": 1700})
    got = await take(scripts)
    assert (got.last_seq, got.last_updated_at) == (41, 1700)
    again = await take(scripts)
    assert (again.last_seq, again.last_updated_at) == (41, 1700)
    other = await take(scripts, "b")
    assert (other.last_seq, other.last_updated_at) == (41, 1700)


# --- the end of the numbers ----------------------------------------------------------------------


async def test_the_highest_token_is_granted_and_none_above(redis: Redis, scripts: Scripts) -> None:
    got = await take(scripts, floor=TOKEN_LIMIT - 1)
    assert got.token == TOKEN_LIMIT == 2**53 - 1000
    assert got.lease_value == f"a|1|{TOKEN_LIMIT}"
    await expire(redis)
    kept = {key: await redis.dump(key) for key in await redis.keys()}
    with pytest.raises(TokenLimit, match=r"report:writer:BTCUSDT.*9007199254739993.*highest"):
        await take(scripts)
    assert {key: await redis.dump(key) for key in await redis.keys()} == kept


async def test_a_floor_beyond_the_limit_is_refused(redis: Redis, scripts: Scripts) -> None:
    with pytest.raises(TokenLimit):
        await take(scripts, floor=2**60)
    assert await redis.keys() == []


# --- renew, release ------------------------------------------------------------------------------


async def test_a_renewal_extends_my_lease(redis: Redis, scripts: Scripts) -> None:
    mine = await take(scripts)
    await redis.pexpire(S.lease, 100)
    assert await scripts.renew(S.lease, mine.lease_value, TTL_MS) is RenewCode.RENEWED
    assert await redis.pttl(S.lease) > 1000


async def test_a_renewal_leaves_another_s_lease_alone(redis: Redis, scripts: Scripts) -> None:
    mine = await take(scripts, "a")
    await expire(redis)
    other = await take(scripts, "b")
    await redis.pexpire(S.lease, 500)
    assert await scripts.renew(S.lease, mine.lease_value, TTL_MS) is RenewCode.LOST
    assert await redis.pttl(S.lease) <= 500
    assert await redis.get(S.lease) == other.lease_value.encode()


async def test_a_renewal_never_makes_a_lease_that_is_gone(redis: Redis, scripts: Scripts) -> None:
    mine = await take(scripts)
    await expire(redis)
    assert await scripts.renew(S.lease, mine.lease_value, TTL_MS) is RenewCode.LOST
    assert not await redis.exists(S.lease)


async def test_a_release_leaves_counter_and_meta(redis: Redis, scripts: Scripts) -> None:
    mine = await take(scripts)
    await redis.hset(S.meta, "seq", 3)
    assert await scripts.release(S.lease, mine.lease_value) is ReleaseCode.RELEASED
    assert not await redis.exists(S.lease)
    assert await redis.exists(S.counter, S.meta) == 2
    assert (await take(scripts, "b")).token > mine.token


async def test_a_late_release_leaves_the_successor_s_lease(redis: Redis, scripts: Scripts) -> None:
    mine = await take(scripts, "a")
    await expire(redis)
    successor = await take(scripts, "b")
    assert await scripts.release(S.lease, mine.lease_value) is ReleaseCode.NOT_HELD
    assert await redis.get(S.lease) == successor.lease_value.encode()


# --- many at once --------------------------------------------------------------------------------


async def test_many_leases_take_one_round_trip_each_way(redis: Redis, scripts: Scripts) -> None:
    symbols = [f"S{number}" for number in range(50)]
    keys = [scripts.keys.writer(symbol) for symbol in symbols]
    await take(scripts)  # the script is known
    before = (await redis.info("stats"))["total_reads_processed"]
    answers = await scripts.acquire_many([(key, 0, "") for key in keys], "a", "1", TTL_MS)
    after = (await redis.info("stats"))["total_reads_processed"]
    assert after - before < 10
    granted = [answer for answer in answers if isinstance(answer, Acquired)]
    assert [answer.code for answer in granted] == [AcquireCode.GRANTED] * 50
    pairs = [(key.lease, got.lease_value) for key, got in zip(keys, granted, strict=True)]
    assert set(await scripts.renew_many(pairs, TTL_MS)) == {RenewCode.RENEWED}
    pairs[7] = (pairs[7][0], "somebody|else|1")
    renewed = await scripts.renew_many(pairs, TTL_MS)
    assert renewed.index(RenewCode.LOST) == 7
    assert renewed.count(RenewCode.RENEWED) == 49
    released = await scripts.release_many(pairs)
    assert released.count(ReleaseCode.RELEASED) == 49
    assert released[7] is ReleaseCode.NOT_HELD


async def test_one_wish_that_fails_leaves_the_others(redis: Redis, scripts: Scripts) -> None:
    keys = [scripts.keys.writer(symbol) for symbol in ("A", "B", "C", "D")]
    await redis.lpush(keys[1].lease, "not a string")
    held = await scripts.acquire(keys[3], "z", "1", TTL_MS)
    answers = await scripts.acquire_many(
        [(keys[0], 0, ""), (keys[1], 0, ""), (keys[2], 2**60, ""), (keys[3], 0, held.lease_value)],
        "a",
        "1",
        TTL_MS,
    )
    assert isinstance(answers[0], Acquired)
    assert isinstance(answers[1], RedisError)
    assert isinstance(answers[2], TokenLimit)
    assert isinstance(answers[3], Acquired)
    assert answers[3].code is AcquireCode.STOLEN
    renewed = await scripts.renew_many([(keys[0].lease, "x"), (keys[1].lease, "x")], TTL_MS)
    assert renewed[0] is RenewCode.LOST
    assert isinstance(renewed[1], RedisError)
    released = await scripts.release_many([(keys[0].lease, "x"), (keys[1].lease, "x")])
    assert released[0] is ReleaseCode.NOT_HELD
    assert isinstance(released[1], RedisError)


async def test_no_wish_is_no_round_trip() -> None:
    nowhere = Scripts(Redis(port=1))
    assert await nowhere.acquire_many([], "a", "1", TTL_MS) == []
    assert await nowhere.renew_many([], TTL_MS) == []


async def test_an_error_of_redis_is_raised_as_such(redis: Redis, scripts: Scripts) -> None:
    await redis.lpush(S.lease, "not a string")
    with pytest.raises(RedisError, match="WRONGTYPE"):
        await take(scripts)


@pytest.mark.parametrize(
    ("node", "incarnation"), [("a|b", "1"), ("a", "1|2"), ("", "1"), ("a", "")]
)
async def test_a_name_that_would_blur_the_lease_value_is_refused(
    scripts: Scripts, node: str, incarnation: str
) -> None:
    with pytest.raises(ValueError, match="without '\\|'"):
        await scripts.acquire(S, node, incarnation, TTL_MS)


async def test_a_client_that_decodes_gets_the_same(server: RedisProcess, redis: Redis) -> None:
    async with Redis.from_url(server.url, decode_responses=True) as decoding:
        scripts = Scripts(decoding)
        mine = await take(scripts)
        assert mine.lease_value == f"a|1|{mine.token}"
        assert (await scripts.beat("n", "i", b'{"incarnation":"i"}', 5)).alive == ("n",)


async def test_feed_leases_are_apart_from_report_leases(scripts: Scripts) -> None:
    feed = scripts.keys.feed("binance", "BTCUSDT")
    await take(scripts, "a")
    assert (await scripts.acquire(feed, "bridge", "1", TTL_MS)).code is AcquireCode.GRANTED
