"""The HTTP API, called as a server calls it."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from serving.app import create_api
from serving.reader import reader_client
from tapeline.config import load_settings
from tests.support.asgi_client import Client
from tests.support.redis_process import RedisProcess
from tests.support.reports import stored


@pytest.fixture
def client(redis: Redis) -> Client:
    return Client(create_api(load_settings({}), redis))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- GET /get_report ------------------------------------------------------------------------------


async def test_a_report_is_the_stored_bytes_with_its_age_in_headers(
    client: Client, redis: Redis
) -> None:
    """The body is the same object wherever it is read."""
    payload = stored(token=9, seq=4, now_ms=now_ms() - 500, data_age_ms=40)
    await redis.set("report:BTCUSDT", payload)
    answer = await client.report("BTCUSDT")
    assert (answer.status, answer.body) == (200, payload)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-report-order"] == "9.4"
    assert answer.headers["x-report-stale"] == "false"
    age = int(answer.headers["x-report-age-ms"])
    assert 500 <= age < 2000
    assert int(answer.headers["x-data-age-ms"]) == age + 40


async def test_a_stale_report_is_given_and_said_to_be_stale(client: Client, redis: Redis) -> None:
    """Old data is better than none, as long as it is known to be old."""
    await redis.set("report:BTCUSDT", stored(now_ms=now_ms() - 2500, data_age_ms=0))
    answer = await client.report("BTCUSDT")
    assert (answer.status, answer.headers["x-report-stale"]) == (200, "true")


async def test_a_report_without_data_has_no_data_age(client: Client, redis: Redis) -> None:
    """And is stale."""
    await redis.set("report:BTCUSDT", stored(now_ms=now_ms(), data_age_ms=None))
    answer = await client.report("BTCUSDT")
    assert "x-data-age-ms" not in answer.headers
    assert answer.headers["x-report-stale"] == "true"


async def test_no_report_is_null(client: Client) -> None:
    """Status 200: the question was a good one."""
    answer = await client.report("BTCUSDT")
    assert (answer.status, answer.body) == (200, b"null")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.startswith(("x-report", "x-data", "etag"))]


async def test_the_reader_s_fence_holds_over_http(client: Client, redis: Redis) -> None:
    """A report below one already given is not given."""
    await redis.set("report:BTCUSDT", stored(token=9, seq=4))
    assert (await client.report("BTCUSDT")).body != b"null"
    await redis.set("report:BTCUSDT", stored(token=8, seq=400))
    assert (await client.report("BTCUSDT")).body == b"null"


@pytest.mark.parametrize("symbol", ["", "btcusdt", "BTC/USD", "A" * 33, "B\n", "BTCUSDT:heavy"])
async def test_a_malformed_symbol_is_a_problem_that_says_what_was_expected(
    client: Client, symbol: str
) -> None:
    """RFC 9457."""
    answer = await client.report(symbol)
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() == {"type", "title", "status", "detail"}
    assert (problem["status"], problem["title"]) == (422, "Malformed symbol")
    assert "expected 1 to 32 capital letters, digits" in problem["detail"]
    assert repr(symbol) in problem["detail"]


async def test_a_symbol_left_out_is_a_malformed_one(client: Client) -> None:
    """The same problem, not another dialect of error."""
    answer = await client.get("/get_report")
    assert answer.status == 422
    assert "such as BTCUSDT" in answer.json()["detail"]


async def test_what_is_no_report_is_a_bad_gateway(client: Client, redis: Redis) -> None:
    """Never handed on as if it were one."""
    await redis.set("report:BTCUSDT", b'{"not": "a report"}')
    answer = await client.report("BTCUSDT")
    assert (answer.status, answer.json()["title"]) == (502, "Unreadable report")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_store_that_does_not_answer_is_unavailable(own_server: RedisProcess) -> None:
    """503, and 200 again as soon as it does."""
    async with reader_client(own_server.url) as redis:
        client = Client(create_api(load_settings({}), redis))
        await redis.set("report:BTCUSDT", stored())
        own_server.pause()
        answer = await client.report("BTCUSDT")
        assert (answer.status, answer.json()["title"]) == (503, "Store unavailable")
        assert answer.headers["content-type"] == "application/problem+json"
        health = await client.get("/health")
        assert (health.status, health.json()["status"]) == (503, "unhealthy")
        own_server.resume()
        assert (await client.report("BTCUSDT")).status == 200
        assert (await client.get("/health")).status == 200


# --- /health, /metrics, OpenAPI -------------------------------------------------------------------


async def test_health_is_its_own_and_says_how_redis_is(client: Client) -> None:
    """No writer has to be there."""
    answer = await client.get("/health")
    assert answer.status == 200
    body = answer.json()
    assert (body["status"], body["redis"]) == ("ok", "ok")
    assert body["uptime_s"] >= 0


async def test_health_does_not_mind_an_unreadable_report(client: Client, redis: Redis) -> None:
    """It asks whether Redis answers."""
    await redis.set("report:HEALTH", b"not json")
    assert (await client.get("/health")).status == 200


async def test_metrics_count_requests_and_show_ages(client: Client, redis: Redis) -> None:
    """By route and status; a path that is no route makes no series of its own."""
    await redis.set("report:BTCUSDT", stored(now_ms=now_ms() - 100))
    await client.report("BTCUSDT")
    await client.report("bad one")
    await client.get("/nowhere/1")
    await client.get("/nowhere/2")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.body.decode().splitlines()
    assert 'tapeline_http_requests_total{route="/get_report",status="200"} 1.0' in lines
    assert 'tapeline_http_requests_total{route="/get_report",status="422"} 1.0' in lines
    assert 'tapeline_http_requests_total{route="other",status="404"} 2.0' in lines
    assert 'tapeline_report_age_seconds_count{symbol="BTCUSDT"} 1.0' in lines
    assert not [line for line in lines if "nowhere" in line or "bad one" in line]


async def test_metrics_tell_of_stored_reports_that_nobody_reads(
    client: Client, redis: Redis
) -> None:
    """Or an alert would need somebody to read, to say that what is read is stale."""
    await redis.set("report:BTCUSDT", stored(now_ms=now_ms() - 5000))
    await redis.set("report:writer:BTCUSDT", "w1|1|1")
    await redis.set("report:ETHUSDT", stored(symbol="ETHUSDT", now_ms=now_ms() - 100))
    samples = {}
    for line in (await client.get("/metrics")).body.decode().splitlines():
        name, _, value = line.rpartition(" ")
        samples[name] = value
    assert 5.0 <= float(samples['tapeline_report_data_age_seconds{symbol="BTCUSDT"}']) < 15
    assert float(samples['tapeline_report_data_age_seconds{symbol="ETHUSDT"}']) < 4.5
    assert samples['tapeline_report_has_writer{symbol="BTCUSDT"}'] == "1.0"
    assert samples['tapeline_report_has_writer{symbol="ETHUSDT"}'] == "0.0"


async def test_openapi_describes_the_one_call(client: Client) -> None:
    """Parameter, answers, and what the headers mean."""
    schema = (await client.get("/openapi.json")).json()
    call = schema["paths"]["/get_report"]["get"]
    assert ("symbol", "query") in {(one["name"], one["in"]) for one in call["parameters"]}
    assert {"200", "304", "422", "502", "503"} <= set(call["responses"])
    assert "X-Report-Stale" in call["description"]
    assert "application/problem+json" in call["responses"]["422"]["content"]


async def test_nothing_can_be_written(client: Client) -> None:
    """Readers read."""
    for method in ("POST", "PUT", "DELETE"):
        assert (await client.get("/get_report", "symbol=BTCUSDT", method)).status == 405
