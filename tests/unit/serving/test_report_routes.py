"""``/get_report`` with ETags, ``/reports`` and ``/symbols``."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lua import Keys
from serving.app import create_api
from serving.contracts import report_fields
from serving.directory import Directory
from serving.models import ReportsAnswer, SymbolsAnswer
from serving.reader import ReportReader, StoreUnavailable
from serving.routes.reports import _picked
from tables.report import Report, decode_report
from tapeline.config import load_settings
from tests.support.asgi_client import Client
from tests.support.reports import stored


@pytest.fixture
def client(redis: Redis) -> Client:
    return Client(create_api(load_settings({}), redis))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def put(redis: Redis, *symbols: str, **more: Any) -> dict[str, bytes]:
    """Fresh reports of these symbols."""
    found = {symbol: stored(symbol, **{"now_ms": now_ms(), **more}) for symbol in symbols}
    for symbol, payload in found.items():
        await redis.set(f"report:{symbol}", payload)
    return found


async def listed(client: Client, query: str = "") -> dict[str, Any]:
    answer = await client.get("/reports", query)
    assert answer.status == 200, answer.body
    ReportsAnswer.model_validate_json(answer.body)
    body: dict[str, Any] = answer.json()
    return body


# --- GET /get_report ------------------------------------------------------------------------------


async def test_a_report_that_has_not_changed_is_not_sent_again(
    client: Client, redis: Redis
) -> None:
    """Its age is: an unchanged report grows older."""
    await put(redis, "BTCUSDT", token=9, seq=4)
    first = await client.report("BTCUSDT")
    assert first.headers["etag"] == 'W/"9.4"'
    for asks in ('W/"9.4"', '"9.4"', '"1.1", W/"9.4"', "*"):
        again = await client.report("BTCUSDT", headers=[("If-None-Match", asks)])
        assert (again.status, again.body) == (304, b""), asks
        assert again.headers["etag"] == 'W/"9.4"'
        assert int(again.headers["x-report-age-ms"]) >= 0
        assert again.headers["x-report-stale"] == "false"
    await put(redis, "BTCUSDT", token=9, seq=5)
    again = await client.report("BTCUSDT", headers=[("If-None-Match", 'W/"9.4"')])
    assert (again.status, again.headers["etag"]) == (200, 'W/"9.5"')


# --- GET /reports ---------------------------------------------------------------------------------


async def test_all_reports_are_the_stored_objects_with_their_ages(
    client: Client, redis: Redis
) -> None:
    """Byte for byte, spliced in; by symbol."""
    found = await put(redis, "ETHUSDT", "BTCUSDT")
    answer = await client.get("/reports")
    body = await listed(client)
    assert [one["symbol"] for one in body["reports"]] == ["BTCUSDT", "ETHUSDT"]
    assert all(payload in answer.body for payload in found.values())
    one = body["reports"][0]
    assert one["report"] == json.loads(found["BTCUSDT"])
    assert (one["token"], one["seq"]) == (7, 1)
    assert one["read"]["stale"] is False
    assert one["read"]["data_age_ms"] == one["read"]["age_ms"] + 40
    assert (body["missing"], body["next_cursor"]) == ([], None)


async def test_symbols_and_fields_narrow_it_down(client: Client, redis: Redis) -> None:
    await put(redis, "BTCUSDT", "ETHUSDT", "SOLUSDT")
    body = await listed(
        client, "symbols=SOLUSDT,BTCUSDT,NOSUCH,BTCUSDT&fields=mid_price,depth.imbalance,writer"
    )
    assert [one["symbol"] for one in body["reports"]] == ["BTCUSDT", "SOLUSDT"]
    assert body["missing"] == ["NOSUCH"]
    report = body["reports"][0]["report"]
    assert report.keys() == {"mid_price", "depth", "writer"}
    assert report["depth"].keys() == {"imbalance"}
    assert report["writer"]["writerToken"] == 7


def test_a_part_that_a_report_lacks_is_null() -> None:
    """And a whole part wins over pieces of it."""
    report = {"depth": None, "a": {"b": {"c": 1, "d": 2}}, "n": 3}
    assert _picked(report, [["depth", "imbalance"]]) == {"depth": {"imbalance": None}}
    assert _picked(report, [["a"], ["a", "b", "c"]]) == {"a": {"b": {"c": 1, "d": 2}}}
    assert _picked(report, [["a", "b", "c"], ["a", "x"]]) == {"a": {"b": {"c": 1}, "x": None}}
    assert _picked(report, [["n"], ["n", "x"]]) == {"n": 3}


async def test_pages_follow_one_another_and_hold_everything_once(
    client: Client, redis: Redis
) -> None:
    names = [f"S{n:02}" for n in range(7)]
    await put(redis, *names)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        body = await listed(client, f"limit=3&fields=symbol&cursor={cursor}")
        seen += [one["symbol"] for one in body["reports"]]
        cursor = body["next_cursor"]
    assert seen == names


@pytest.mark.parametrize(
    ("query", "name", "says"),
    [
        ("fields=mid_prise", "fields", "did you mean mid_price?"),
        ("fields=mid_price,%00", "fields", "has no field"),
        ("cursor=!!", "cursor", "none of this call"),
        ("cursor=" + quote("w7w"), "cursor", "none of this call"),
        ("limit=501", "limit", ""),
        ("limit=x", "limit", ""),
        ("symbols=" + ",".join(f"S{n}" for n in range(501)), "symbols", "at most 500"),
    ],
)
async def test_what_can_not_be_asked_is_said_by_name(
    client: Client, query: str, name: str, says: str
) -> None:
    answer = await client.get("/reports", query)
    assert (answer.status, answer.json()["type"]) == (422, "/problems/invalid-parameter")
    [error] = answer.json()["errors"]
    assert error["name"] == name
    assert says in error["message"]


async def test_a_malformed_symbol_of_a_list_is_a_malformed_symbol(client: Client) -> None:
    answer = await client.get("/reports", "symbols=BTCUSDT,btcusdt")
    assert answer.json()["type"] == "/problems/malformed-symbol"
    assert "'btcusdt'" in answer.json()["detail"]


async def test_a_list_steps_back_no_more_than_a_single_report(client: Client, redis: Redis) -> None:
    """One fence for all of a reader."""
    await put(redis, "BTCUSDT", token=9, seq=4)
    await client.report("BTCUSDT")
    await put(redis, "BTCUSDT", token=8, seq=400)
    assert (await listed(client, "symbols=BTCUSDT"))["missing"] == ["BTCUSDT"]
    [row] = (await client.get("/symbols")).json()["symbols"]
    assert row["state"] == "down"


async def test_what_is_no_report_is_missing_and_hides_no_other(
    client: Client, redis: Redis
) -> None:
    await put(redis, "BTCUSDT")
    await redis.set("report:ETHUSDT", "no json")
    await redis.lpush("report:SOLUSDT", "a list")
    body = await listed(client)
    assert [one["symbol"] for one in body["reports"]] == ["BTCUSDT"]
    assert body["missing"] == ["ETHUSDT", "SOLUSDT"]


def test_fields_are_those_of_the_report() -> None:
    """By their names in JSON."""
    names = {field.encode_name for field in msgspec.structs.fields(Report)}
    assert report_fields() == names


# --- GET /symbols ---------------------------------------------------------------------------------


async def test_symbols_say_how_each_is(client: Client, redis: Redis) -> None:
    """A book that is not whole is a gap; a stale one that nobody writes is down."""
    for symbol, book in (("LIVE", "ok"), ("GAPPY", "gap")):
        report = msgspec.json.decode(stored(symbol, token=9, seq=4, now_ms=now_ms()))
        report["ingestion"]["book"] = book
        await redis.set(f"report:{symbol}", msgspec.json.encode(report))
    await put(redis, "OLD", "LEFT", now_ms=now_ms() - 3000)
    await redis.set("report:writer:OLD", "n1|abc|7")
    await redis.hset("report:meta:GONE", mapping={"token": 3, "seq": 5})
    await redis.set("report:BROKEN", "{}")
    answer = await client.get("/symbols")
    SymbolsAnswer.model_validate_json(answer.body)
    rows = {row["symbol"]: row for row in answer.json()["symbols"]}
    assert {symbol: row["state"] for symbol, row in rows.items()} == {
        "LIVE": "live", "GAPPY": "gap", "OLD": "stale", "LEFT": "down", "GONE": "down",
        "BROKEN": "down",
    }  # fmt: skip
    assert (rows["LIVE"]["token"], rows["LIVE"]["seq"]) == (9, 4)
    assert rows["LIVE"]["venue"] == decode_report(stored()).venue
    assert rows["OLD"]["owner"] == "n1"
    assert rows["OLD"]["data_age_ms"] >= 3000
    assert (rows["GONE"]["token"], rows["GONE"]["seq"], rows["GONE"]["age_ms"]) == (3, 5, None)


async def test_a_look_is_shared_by_all_who_ask(redis: Redis) -> None:
    """However many ask at once, Redis is asked once."""
    await put(redis, "BTCUSDT")
    client = Client(create_api(load_settings({}), redis))
    await client.get("/symbols")
    before = (await redis.info("stats"))["total_commands_processed"]
    answers = [await client.get("/symbols") for _ in range(20)]
    after = (await redis.info("stats"))["total_commands_processed"]
    assert after - before < 20 * 3
    assert {answer.status for answer in answers} == {200}


async def test_symbols_without_a_store_are_unavailable() -> None:
    """Said, not guessed."""
    async with Redis(port=1, retry=Retry(NoBackoff(), 0)) as nowhere:
        directory = Directory(nowhere, Keys(), ReportReader(nowhere))
        for asks in (directory.look, directory.names):
            with pytest.raises(StoreUnavailable):
                await asks()
        with pytest.raises(StoreUnavailable):
            await directory.payloads(["BTCUSDT"])
        client = Client(create_api(load_settings({}), nowhere))
        for path in ("/symbols", "/reports"):
            answer = await client.get(path)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
