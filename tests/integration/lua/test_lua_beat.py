"""Heartbeats: one process a name, and a list of who lives."""

from __future__ import annotations

import orjson
from redis.asyncio import Redis

from lua import BeatCode, Scripts
from lua.keys import Keys

NODE, NODES = Keys().node("n1"), Keys().nodes()


def payload(incarnation: str) -> bytes:
    return orjson.dumps({"node_id": "n1", "incarnation": incarnation})


async def test_a_beat_lives_five_seconds(redis: Redis, scripts: Scripts) -> None:
    got = await scripts.beat("n1", "i1", payload("i1"), 5)
    assert (got.code, got.holder, got.alive) == (BeatCode.ACCEPTED, payload("i1"), ("n1",))
    assert await redis.get(NODE) == payload("i1")
    assert 4000 < await redis.pttl(NODE) <= 5000


async def test_a_beat_is_renewed_by_its_own_process(redis: Redis, scripts: Scripts) -> None:
    await scripts.beat("n1", "i1", payload("i1"), 5)
    await redis.pexpire(NODE, 500)
    assert (await scripts.beat("n1", "i1", payload("i1"), 5)).code is BeatCode.ACCEPTED
    assert await redis.pttl(NODE) > 4000


async def test_a_name_in_use_is_refused_and_says_by_whom(redis: Redis, scripts: Scripts) -> None:
    await scripts.beat("n1", "i1", payload("i1"), 5)
    got = await scripts.beat("n1", "i2", payload("i2"), 5)
    assert (got.code, got.holder) == (BeatCode.DUPLICATE_ID, payload("i1"))
    assert await redis.get(NODE) == payload("i1")


async def test_the_name_of_a_process_known_to_be_dead_is_taken_over(scripts: Scripts) -> None:
    await scripts.beat("n1", "i1", payload("i1"), 5)
    wrong = await scripts.beat("n1", "i2", payload("i2"), 5, replaces="i0")
    assert wrong.code is BeatCode.DUPLICATE_ID
    right = await scripts.beat("n1", "i2", payload("i2"), 5, replaces="i1")
    assert (right.code, right.holder) == (BeatCode.ACCEPTED, payload("i2"))


async def test_a_name_held_by_what_is_no_heartbeat_is_refused(
    redis: Redis, scripts: Scripts
) -> None:
    for odd in (b"not json", b"[1]", b"7", b"null", b'{"other":1}', b'{"incarnation":null}'):
        await redis.set(NODE, odd)
        got = await scripts.beat("n1", "i1", payload("i1"), 5)
        assert (got.code, got.holder) == (BeatCode.DUPLICATE_ID, odd)


async def test_one_who_leaves_is_gone_at_once(redis: Redis, scripts: Scripts) -> None:
    await scripts.beat("n1", "i1", payload("i1"), 5)
    got = await scripts.beat("n1", "i1", b"", 0)
    assert (got.code, got.holder, got.alive) == (BeatCode.ACCEPTED, b"", ())
    assert await redis.keys() == []


async def test_one_who_leaves_late_leaves_its_successor(redis: Redis, scripts: Scripts) -> None:
    await scripts.beat("n1", "i2", payload("i2"), 5)
    got = await scripts.beat("n1", "i1", b"", 0)
    assert (got.code, got.alive) == (BeatCode.DUPLICATE_ID, ("n1",))
    assert await redis.exists(NODE)


async def test_nodes_that_fell_silent_are_not_listed(redis: Redis, scripts: Scripts) -> None:
    await scripts.beat("n1", "i1", payload("i1"), 5)
    await scripts.beat("n2", "i2", payload("i2"), 5)
    seconds, _ = await redis.time()
    await redis.zadd(NODES, {"n1": (seconds - 6) * 1000})
    assert (await scripts.beat("n2", "i2", payload("i2"), 5)).alive == ("n2",)
