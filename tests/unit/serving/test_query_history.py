"""What a key has asked: kept, capped, and for its owner's eyes."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisAway

from lua import Keys
from serving.access.history import PENDING_MAX, Call, History
from serving.app import create_api
from serving.models import QueriesAnswer
from serving.reader import reader_client
from tapeline.config import load_settings
from tests.support.api_keys import issue
from tests.support.asgi_client import Client
from tests.support.redis_process import RedisProcess


def call(n: int) -> Call:
    return Call(n, "GET", "/get_report", f"symbol=S{n}", 200, 0.5, 10, f"r{n}")


async def test_a_key_reads_its_own_calls_newest_first_and_no_other_s(redis: Redis) -> None:
    app = create_api(load_settings({}), redis)
    mine, my_id = await issue(redis)
    other, _ = await issue(redis)
    for symbol in ("A", "B", "C"):
        await Client(app, mine).report(symbol)
    await Client(app, other).report("SECRET")
    answer = await Client(app, mine).get("/queries", "limit=2")
    body = answer.json()
    QueriesAnswer.model_validate_json(answer.body)
    assert body["key_id"] == my_id
    assert [one["query"] for one in body["calls"]] == ["symbol=C", "symbol=B"]
    rest = (await Client(app, mine).get("/queries", f"cursor={body['next_cursor']}")).json()
    assert [one["query"] for one in rest["calls"]] == ["symbol=A"]
    assert rest["next_cursor"] is None
    assert b"SECRET" not in answer.body


async def test_without_a_key_there_is_no_history(redis: Redis) -> None:
    answer = await Client(create_api(load_settings({}), redis)).get("/queries")
    assert (answer.status, answer.json()["type"]) == (401, "/problems/unauthorized")


@pytest.mark.parametrize("query", ["cursor=x", "cursor=1-2-3", "cursor=%2B", "limit=0"])
async def test_a_cursor_of_another_kind_is_refused(redis: Redis, query: str) -> None:
    text, _ = await issue(redis)
    client = Client(create_api(load_settings({}), redis), text)
    assert (await client.get("/queries", query)).status == 422


@pytest.mark.parametrize("cursor", ["0-0", "00-0"])
async def test_nothing_comes_before_the_least_cursor(redis: Redis, cursor: str) -> None:
    text, _ = await issue(redis)
    client = Client(create_api(load_settings({}), redis), text)
    await client.report("A")
    answer = await client.get("/queries", f"cursor={cursor}&limit=1")
    assert (answer.status, answer.json()["calls"]) == (200, [])
    assert answer.json()["next_cursor"] is None


async def test_history_is_capped_and_ends_with_its_key(redis: Redis) -> None:
    history = History(redis, Keys(), kept=100)
    for n in range(1500):
        history.add("k", call(n))
    await history.flush()
    assert await redis.xlen("nt:queries:k") < 500, "about 100: Redis drops whole blocks"
    assert await redis.ttl("nt:queries:k") > 86_400
    calls, following = await history.read("k", 10)
    assert calls[0] == call(1499)
    assert following
    await redis.xadd("nt:queries:k", {"other": "1"})
    assert (await history.read("k", 1))[0] == [], "what can't be read is left out"


async def test_no_history_is_kept_where_none_is_wanted(redis: Redis) -> None:
    history = History(redis, Keys(), kept=0)
    history.add("k", call(1))
    await history.flush()
    assert not await redis.exists("nt:queries:k")


async def test_an_outage_is_waited_out_and_what_waits_has_a_limit(
    own_server: RedisProcess,
) -> None:
    """In order, the oldest dropped and counted."""
    async with reader_client(own_server.url) as redis:
        dropped: list[int] = []
        history = History(redis, Keys(), kept=100_000, on_dropped=dropped.append)
        own_server.kill()
        for n in range(PENDING_MAX + 5):
            history.add("k", call(n))
        with pytest.raises((RedisAway, OSError)):
            await history.flush()
        assert sum(dropped) == 5
        own_server.start()
        await history.flush()
        assert await redis.xlen("nt:queries:k") == PENDING_MAX
        calls, _ = await history.read("k", 2)
        assert [one.at_ms for one in calls] == [PENDING_MAX + 4, PENDING_MAX + 3]
