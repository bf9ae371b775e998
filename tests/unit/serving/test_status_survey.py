"""What is seen of the chain, in a Redis filled by hand; and that all askers share a look."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from lua import Keys
from serving.reader import reader_client
from serving.status import survey as survey_module
from serving.status.board import StatusBoard
from serving.status.chain import status_of
from serving.status.facts import Facts, ReaderFacts
from serving.status.models import Status
from serving.status.survey import StatusSurvey
from tapeline.clock import ManualClock, SystemClock
from tests.support.redis_process import RedisProcess
from tests.support.reports import stored
from tests.support.worker import eventually

BTC = "BTCUSDT"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def bridge(redis: Redis, name: str = "b1", *symbols: str, **changed: Any) -> None:
    beat = {
        "v": 1, "bridge_id": name, "hostname": "h", "pid": 41, "started_at": now_ms() - 9_000,
        "last_heartbeat": now_ms(), "topic": "md.events.v1", "partitions": 64,
        "broker": {"connected": True, "acknowledged_per_s": 10.0},
        "venues": {"binance": {"connected": True, "frame_age_ms": 5, "frames_per_s": 9.0}},
        "feeds": {
            f"binance:{symbol}": {"book": "in_sync", "token": 3, "last_record_age_ms": 10}
            for symbol in symbols or (BTC,)
        },
    }  # fmt: skip
    await redis.set(f"nt:bridge:{name}", json.dumps({**beat, **changed}), ex=5)
    await redis.zadd("nt:bridges", {name: now_ms()})


async def worker(redis: Redis, name: str = "w1") -> None:
    beat = {"node_id": name, "started_at": now_ms() - 5_000, "last_heartbeat": now_ms()}
    stats = {"status": "ok", "complete": True, "owned": 1, "lag": 0, "rate_per_s": 9.0}
    await redis.set(f"nt:node:{name}", json.dumps(beat), ex=5)
    await redis.set(f"nt:node:{name}:stats", json.dumps(stats), ex=5)
    await redis.zadd("nt:nodes", {name: now_ms()})


async def report(redis: Redis, symbol: str = BTC, seq: int = 4, owner: str = "w1") -> None:
    await redis.set(f"report:writer:{symbol}", f"{owner}|x|9", px=30_000)
    meta = {"token": 9, "seq": seq, "watermark": 77, "updated_at": now_ms()}
    await redis.hset(f"report:meta:{symbol}", mapping=meta)
    await redis.set(f"report:{symbol}", whole(symbol, seq))


def whole(symbol: str, seq: int) -> bytes:
    """A report of a book without a gap."""
    payload = stored(symbol, token=9, seq=seq, now_ms=now_ms())
    return payload.replace(b'"book":"gap","reason":"sequence"', b'"book":"ok","reason":""')


def looking(redis: Redis, **rest: Any) -> StatusSurvey:
    return StatusSurvey(redis, Keys(), **rest)


async def states(survey: StatusSurvey) -> dict[str, str]:
    return {stage.stage: stage.state for stage in status_of(await survey.look()).chain}


async def test_a_whole_chain_is_seen(redis: Redis) -> None:
    survey = looking(redis, reader=lambda: ReaderFacts(id="r1"), timeout_s=2.0)
    async with redis.pubsub() as there:
        await there.subscribe("nt:alive:w1")
        await bridge(redis)
        await worker(redis)
        await report(redis)
        status = status_of(await survey.look())
        assert (status.state, status.sentence) == ("ok", "all is well")
        [one] = status.symbols
        assert (one.owner, one.token, one.seq, one.partition) == ("w1", 9, 4, 37)
        assert 29_000 < one.lease_ms <= 30_000
        assert one.report_age_ms is not None
        assert 0 <= one.report_age_ms < 1_000
        redis_stage = status.chain[3]
        assert redis_stage.unknown["rate_per_s"] == "this reader has looked once only"
        assert redis_stage.parts[0].version  # type: ignore[union-attr]
        await report(redis, seq=14)
        rate = status_of(await survey.look()).chain[3].rate_per_s
        assert rate is not None
        assert rate > 0
    await survey.close()


async def test_who_falls_silent_is_told_of_by_redis_clock(redis: Redis) -> None:
    """What is left of a heartbeat's life is its age, whatever the clocks of others say."""
    survey = looking(redis, timeout_s=2.0)
    await bridge(redis, last_heartbeat=now_ms() + 3_600_000)
    await worker(redis)
    await report(redis)
    assert await states(survey) == {
        "feed": "ok",
        "topic": "ok",
        "workers": "down",  # nobody listens under its name: its connection has gone
        "redis": "ok",
        "reader": "ok",
    }
    await redis.pexpire("nt:bridge:b1", 1_900)
    assert (await states(survey))["feed"] == "down"
    await redis.delete("nt:bridge:b1", "nt:node:w1")
    status = status_of(await survey.look())
    feed, _, workers = status.chain[:3]
    assert feed.sentence == "no bridge is running: b1 fell silent"
    assert workers.parts[0].presence == "gone"  # type: ignore[union-attr]
    # By its last words: which feed is missing.
    assert [(f.stream_id, f.state) for f in status.feeds] == [(f"binance:{BTC}", "down")]
    await redis.zrem("nt:bridges", "b1")  # as one that says goodbye
    assert status_of(await survey.look()).feeds == []
    await survey.close()


async def test_keys_of_another_kind_and_rubbish_hide_nothing(redis: Redis) -> None:
    await bridge(redis)
    await redis.rpush("nt:bridge:b2", "x")
    await redis.set("nt:bridge:b3", b"\xff{", ex=5)
    await redis.zadd("nt:bridges", {"b2": now_ms(), "b3": now_ms()})
    await worker(redis)
    await redis.set("nt:node:w1:stats", b"[]", ex=5)
    await redis.rpush("report:ETHUSDT", "x")
    await redis.set("report:XRPUSDT", b"\x00")
    await redis.set("report:meta:XRPUSDT", "no hash")
    await report(redis)
    survey = looking(redis, timeout_s=2.0)
    status = status_of(await survey.look())
    assert status.chain[0].state == "ok"
    assert [(part.id, part.state) for part in status.chain[0].parts] == [  # type: ignore[union-attr]
        ("b1", "ok"),
        ("b2", "down"),
        ("b3", "down"),
    ]
    told = {one.symbol: one.sentence for one in status.symbols}
    assert told["XRPUSDT"] == "what is stored is no report"
    assert told[BTC] == ""
    await survey.close()


async def test_symbols_that_no_bridge_names_are_found(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey_module, "DISCOVER_MS", 0)
    monkeypatch.setattr(survey_module, "FIRST_S", 2.0)
    await report(redis)
    survey = looking(redis, timeout_s=2.0)
    assert [one.symbol for one in status_of(await survey.look()).symbols] == [BTC]
    await report(redis, "ETHUSDT")

    async def both() -> bool:
        return len(status_of(await survey.look()).symbols) == 2

    await eventually(both, 3)
    await survey.close()


async def test_a_redis_that_hangs_is_told_of_in_time_and_seen_again(
    own_server: RedisProcess,
) -> None:
    async with reader_client(own_server.url) as redis:
        await report(redis)
        survey = looking(redis)
        # The first look connects, on a machine that may be busy.
        await eventually(lambda: _well(survey), 3)
        own_server.pause()
        began = time.perf_counter()
        status = status_of(await survey.look())
        took_s = time.perf_counter() - began
        assert status.chain[3].state == "down"
        assert took_s < 1.0
        own_server.resume()
        await eventually(lambda: _well(survey), 3)
        await survey.close()


async def _well(survey: StatusSurvey) -> bool:
    return (await states(survey))["redis"] == "ok"


# --- the board ------------------------------------------------------------------------------------


class Slow:
    """A survey that counts its looks, and waits until it is let go."""

    def __init__(self) -> None:
        self.looks = 0
        self.go = asyncio.Event()

    async def look(self) -> Facts:
        self.looks += 1
        await self.go.wait()
        return Facts(at_ms=self.looks)

    async def close(self) -> None: ...


async def test_all_who_ask_share_a_look_for_a_quarter_of_a_second() -> None:
    slow, clock = Slow(), ManualClock(1_000)
    board = StatusBoard(slow, clock=clock)  # type: ignore[arg-type]
    asking = [asyncio.create_task(board.payload()) for _ in range(20)]
    leaving = asyncio.create_task(board.status())
    await asyncio.sleep(0)
    leaving.cancel()  # takes nothing from the others
    await asyncio.gather(leaving, return_exceptions=True)
    slow.go.set()
    payloads = await asyncio.gather(*asking)
    assert len({*payloads}) == slow.looks == 1
    assert Status.model_validate_json(payloads[0]).at_ms == 1
    clock.advance(249)
    assert (await board.status()).at_ms == 1
    clock.advance(1)
    assert (await board.status()).at_ms == 2
    await board.close()


async def test_200_symbols_are_told_of_in_150_ms(redis: Redis) -> None:
    """The least of several looks: a busy machine fails no test."""
    symbols = [f"S{n:03}USDT" for n in range(200)]
    await bridge(redis, "b1", *symbols)
    await worker(redis)
    for symbol in symbols:
        await report(redis, symbol)
    board = StatusBoard(looking(redis, timeout_s=2.0), clock=SystemClock(), fresh_ms=0)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        payload = await board.payload()
        took.append(time.perf_counter() - began)
    status = Status.model_validate_json(payload)
    assert len(status.symbols) == len(status.feeds) == 200
    print(f"\n/status of 200 symbols: {min(took) * 1000:.1f} ms, {len(payload)} bytes")
    assert min(took) < 0.15
    await board.close()


async def test_a_reader_that_may_only_read_sees_all_but_what_redis_says_of_itself(
    own_server: RedisProcess,
) -> None:
    """INFO and PUBSUB are not for everybody: then heartbeats alone tell who is there."""
    async with reader_client(own_server.url) as redis:
        await redis.execute_command(
            "ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+@connection"
        )
        await bridge(redis)
        await worker(redis)
        await report(redis)
        port = own_server.url.rpartition(":")[2].partition("/")[0]
        async with reader_client(f"redis://reader:pw@127.0.0.1:{port}/0") as reading:
            survey = looking(reading, timeout_s=2.0)
            status = status_of(await survey.look())
            assert status.sentence == "all is well"
            assert status.chain[3].parts[0].version is None  # type: ignore[union-attr]
            await survey.close()
