"""``/status`` and the feeds' resource, of a venue, a bridge, a worker and a reader that are real."""

from __future__ import annotations

import asyncio
import time

import pytest

from serving.status.models import Status
from tests.support.house import House, house
from tests.support.worker import eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.slow(limit_s=120),
]

KILLED_S = 5.0
"""Heartbeats live that long; what is said sooner is said sooner."""

ROOT = "/api/v1/streams"


def state_of(stage: str, state: str) -> object:
    return lambda status: next(s for s in status.chain if s.stage == stage).state == state


def well(status: Status) -> bool:
    return status.state == "ok" and len(status.symbols) > 0


async def whole(home: House) -> Status:
    """All of it runs, and is well."""
    return await home.until(well, 40.0, "a chain that is well")


async def test_the_chain_is_whole_and_says_which_link_is_killed(
    kafka_url: str, redis_url: str
) -> None:
    async with house(kafka_url, redis_url) as home:
        await home.serve()
        empty = await home.status()
        assert [stage.state for stage in empty.chain] == ["down", "degraded", "down", "ok", "ok"]

        bridge = await home.bridge()
        worker = await home.worker()
        await whole(home)

        def told(status: Status) -> bool:
            feed, topic, workers, redis, _ = status.chain
            known = (feed.rate_per_s, topic.rate_per_s, workers.rate_per_s, redis.rate_per_s)
            return well(status) and all(known) and workers.lag is not None

        status = await home.until(told, what="rates of the whole chain")
        feed, topic, workers, _, reader = status.chain
        assert topic.topic == home.one.topic
        assert (topic.partitions, topic.lag_unit) == (4, "records")
        assert workers.parts[0].id == f"{home.one.name}-a"  # type: ignore[union-attr]
        assert feed.parts[0].id == f"{home.one.name}-b"  # type: ignore[union-attr]
        assert feed.restarts == workers.restarts == 0
        assert reader.parts[0].up_s > 0  # type: ignore[union-attr]
        assert {one.symbol for one in status.symbols} == {"BTCUSDT", "ETHUSDT"}
        for one in status.symbols:
            assert (one.owner, one.state) == (f"{home.one.name}-a", "ok")
            assert one.token > 0
            assert one.seq > 0
            assert 0 < one.lease_ms <= 2_000
            assert one.data_age_ms is not None
        for one in status.feeds:
            assert (one.book, one.state, one.bridge) == ("in_sync", "ok", f"{home.one.name}-b")
            assert one.records_per_s

        following = asyncio.create_task(home.told("BTCUSDT", "workers", "down"))
        await home.until(lambda _: home.hears, what="a follower of the status")
        killed_s = time.monotonic()
        await worker.killed()
        status = await home.until(state_of("workers", "down"), KILLED_S, "workers down")
        await asyncio.wait_for(following, KILLED_S)
        print(f"\nworkers down {time.monotonic() - killed_s:.2f} s after the kill")
        assert status.chain[0].state == status.chain[1].state == "ok"
        await home.until(lambda s: all(one.state == "down" for one in s.symbols), 5.0, "stale")

        worker = await home.worker()
        status = await whole(home)
        assert status.chain[2].restarts == 1

        killed_s = time.monotonic()
        bridge.kill()
        await bridge.wait()
        status = await home.until(state_of("feed", "down"), KILLED_S, "feed down")
        print(f"feed down {time.monotonic() - killed_s:.2f} s after the kill")
        assert {one.state for one in status.feeds} == {"down"}
        assert status.sentence.startswith("feed: no bridge is running")
        assert status.chain[2].state == "ok"
        bridge = await home.bridge()
        status = await whole(home)
        assert status.chain[0].restarts == 1
        assert await bridge.stop() == 0
        # It has said goodbye: that is seen at once, and its feeds are nobody's.
        status = await home.until(state_of("feed", "down"), 2.0, "feed down")
        assert status.feeds == []


async def test_a_feed_is_followed_and_left_over_http(kafka_url: str, redis_url: str) -> None:
    async with house(kafka_url, redis_url, ["BTCUSDT"]) as home:
        key = await home.admin_key()
        await home.serve()
        wish = {"venue": "binance", "symbol": "SOLUSDT"}
        code, body = await home.ask(ROOT, "POST", body=wish)
        assert (code, body["type"]) == (401, "/problems/unauthorized")

        await home.bridge()
        await home.until(lambda s: [f.state for f in s.feeds] == ["ok"], what="the first feed")
        code, body = await home.ask(ROOT, "POST", key, wish)
        assert (code, body["status"], body["changed"]) == (201, "success", True)
        assert (body["stream_id"], body["node_id"]) == ("binance:SOLUSDT", f"{home.one.name}-b")
        code, body = await home.ask(ROOT, "POST", key, wish)
        assert (code, body["changed"]) == (200, False)

        async def followed() -> bool:
            code, body = await home.ask(f"{ROOT}/binance:SOLUSDT")
            return bool(code == 200 and body["state"] == "ok")

        await eventually(followed, what=f"the second feed; {home.tail('bridge')}")
        _, listed = await home.ask(ROOT)
        assert [s["stream_id"] for s in listed["streams"]] == ["binance:BTCUSDT", "binance:SOLUSDT"]

        code, body = await home.ask(ROOT, "POST", key, {"venue": "binance", "symbol": "NONEUSDT"})
        assert (code, body["type"]) == (409, "/problems/stream-refused")
        code, body = await home.ask(ROOT, "POST", key, {"venue": "nowhere", "symbol": "SOLUSDT"})
        assert (code, body["type"]) == (422, "/problems/invalid-parameter")

        code, body = await home.ask(f"{ROOT}/binance:SOLUSDT", "DELETE", key)
        assert (code, body["status"], body["changed"]) == (200, "success", True)

        async def gone() -> bool:
            code, _ = await home.ask(f"{ROOT}/binance:SOLUSDT")
            return code == 404

        await eventually(gone, 5.0, "the feed gone")


async def test_without_kafka_feeds_are_read_and_not_changed(redis_url: str, kafka_url: str) -> None:
    async with house(kafka_url, redis_url, ["BTCUSDT"]) as home:
        key = await home.admin_key()
        await home.serve(KAFKA_URL="")
        for method, path in (("POST", ROOT), ("DELETE", f"{ROOT}/binance:BTCUSDT")):
            code, body = await home.ask(
                path, method, key, {"venue": "binance", "symbol": "SOLUSDT"}
            )
            assert (code, body["type"]) == (503, "/problems/not-configured")
        assert await home.ask(ROOT) == (200, {"at_ms": pytest.approx(0, abs=1e14), "streams": []})


async def test_where_no_bridge_answers_the_command_is_kept_until_one_does(
    kafka_url: str, redis_url: str
) -> None:
    async with house(kafka_url, redis_url, ["BTCUSDT"]) as home:
        key = await home.admin_key()
        await home.serve()
        wish = {"venue": "binance", "symbol": "SOLUSDT"}
        code, body = await home.ask(ROOT, "POST", key, wish)
        assert (code, body["status"], body["changed"]) == (202, "unanswered", None)
        await home.bridge()
        await home.until(
            lambda s: {f.stream_id for f in s.feeds} == {"binance:BTCUSDT", "binance:SOLUSDT"},
            what="what was asked for before",
        )
