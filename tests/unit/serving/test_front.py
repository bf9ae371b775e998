"""The front door, with the whole application behind it."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI, Request
from redis.asyncio import Redis

from serving.access import Access
from serving.access.front import is_loopback, keys_needed
from serving.app import create_api
from serving.problems import KINDS
from serving.reader import reader_client
from tapeline.config import load_settings
from tests.support.api_keys import issue, revoke
from tests.support.asgi_client import Answer, Client, eventually
from tests.support.logs import Logged
from tests.support.redis_process import RedisProcess
from tests.support.reports import stored

OPEN = {"NT_BIND_HOST": "127.0.0.1"}
KEYED = {"NT_REQUIRE_KEYS": "always"}


def app_of(redis: Redis, **variables: str) -> FastAPI:
    """With a route that takes any body, one that fails, and one for admins."""
    app = create_api(load_settings(variables), redis)
    own = [route for route in app.routes if getattr(route, "path", "") != "/errors"]
    app.router.routes[:] = own

    @app.post("/errors")
    async def errors(request: Request) -> int:
        return len(await request.body())

    @app.get("/openapi-fails")
    async def fails() -> None:
        raise ZeroDivisionError("a secret of ours")

    @app.post("/api/v1/streams/for/admins")
    async def change(request: Request) -> str:
        access: Access = request.scope["state"]["access"]
        return access.key_id

    return app


def refused(answer: Answer, kind: str) -> dict[str, Any]:
    """The problem that an answer is, of this kind."""
    assert answer.status == KINDS[kind].status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"/problems/{kind}"
    assert body["status"] == answer.status
    return body


async def test_on_loopback_everybody_reads_and_nobody_changes(redis: Redis) -> None:
    """Changing needs a key with `admin`, there too."""
    app = app_of(redis)
    client = Client(app)
    assert (await client.report("BTCUSDT")).status == 200
    answer = await client.get("/api/v1/streams", method="POST")
    assert "admin" in refused(answer, "unauthorized")["detail"]
    reading, _ = await issue(redis, "reports:read")
    refused(await Client(app, reading).get("/api/v1/streams", method="POST"), "forbidden")
    changing, key_id = await issue(redis, "admin")
    post = partial(Client(app, changing).get, "/api/v1/streams/for/admins", method="POST")
    assert (await eventually(post, 200)).json() == key_id


async def test_where_keys_are_needed_each_path_asks_for_its_scope(redis: Redis) -> None:
    app = app_of(redis, **KEYED)
    refused(await Client(app).report("BTCUSDT"), "unauthorized")
    text, _ = await issue(redis, "reports:read")
    client = Client(app, text)
    assert (await client.report("BTCUSDT")).status == 200
    assert (
        "ticks:read"
        in refused(await client.get("/ticks/realtime", "symbol=BTCUSDT"), "forbidden")["detail"]
    )
    refused(await client.get("/metrics"), "forbidden")
    for public in ("/health", "/openapi.json", "/schemas/", "/problems/forbidden"):
        assert (await Client(app).get(public)).status == 200, public
    refused(await Client(app).get("/unheard-of"), "unauthorized")
    refused(await client.get("/unheard-of"), "not-found")


async def test_a_wrong_key_is_refused_even_where_none_is_needed(redis: Redis) -> None:
    """Whoever shows one means it; taken for nobody, they would not learn that it is revoked."""
    app = app_of(redis)
    text, key_id = await issue(redis, "reports:read")
    assert (await Client(app, text).report("BTCUSDT")).status == 200
    await revoke(redis, key_id)
    answer = await eventually(partial(Client(app, text).report, "BTCUSDT"), 401, within_s=1)
    refused(answer, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    for wrong in ("tl_", text[:-1], "x" * 5000):
        refused(await Client(app, wrong, client="10.0.0.9").report("BTCUSDT"), "unauthorized")


async def test_a_key_in_a_url_is_refused_and_seen_in_no_log(redis: Redis, logged: Logged) -> None:
    app = app_of(redis)
    text, _ = await issue(redis)
    logging.getLogger().setLevel(logging.DEBUG)
    refused(await Client(app).get("/get_report", f"symbol=B&api_key={text}"), "key-in-url")
    refused(await Client(app).get(f"/s/{text}"), "key-in-url")
    refused(await Client(app, text).get("/get_report", f"symbol={text}"), "key-in-url")
    assert (await Client(app, text).report("BTCUSDT")).status == 200
    said = logged.take()
    assert "http.request" in said
    assert text.split("_", 2)[2] not in said


async def test_each_request_has_a_line_and_each_call_with_a_key_another(
    redis: Redis, logged: Logged
) -> None:
    app = app_of(redis)
    text, key_id = await issue(redis, name="bot")
    await Client(app).report("BTCUSDT", headers=[("X-Request-ID", "mine-1")])
    said = logged.take()
    assert said.count("http.request") == 1
    assert "mine-1" in said
    assert "audit.call" not in said
    answer = await Client(app, text).report("BTCUSDT", headers=[("X-Request-ID", "a\tb")])
    said = logged.take()
    assert said.count("audit.call") == 1
    assert key_id in said
    assert re.search(r"key_name\W+bot\b", said)
    assert answer.headers["x-request-id"] in said
    quiet = app_of(redis, NT_ACCESS_LOG="false")
    await Client(quiet).report("BTCUSDT")
    assert "http.request" not in logged.take()


@pytest.mark.parametrize(
    "host", [None, "evil.example", "127.0.0.1.evil.example", "a b", "", "127.0.0.1:x", "10.0.0.1"]
)
async def test_a_reader_answers_to_its_names_only(redis: Redis, host: str | None) -> None:
    """On everything: a page that points its own name here reads nothing, `/health` included."""
    for path in ("/get_report", "/health", "/", "/nowhere"):
        answer = await Client(app_of(redis)).get(path, host=host)
        assert answer.json()["type"] in {"/problems/wrong-host", "/problems/malformed-request"}
        assert answer.status in {400, 421}


async def test_listed_names_are_answered(redis: Redis) -> None:
    app = app_of(redis, NT_ALLOWED_HOSTS="desk.example")
    assert (await Client(app).get("/health", host="desk.example:443")).status == 200


async def test_a_page_of_another_origin_can_not_write(redis: Redis) -> None:
    app = app_of(redis, NT_ALLOWED_ORIGINS="https://desk.example")
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        answer = await Client(app).get("/errors", method="POST", headers=[("Origin", origin)])
        refused(answer, "foreign-origin")
    for fine in ("http://127.0.0.1", "https://desk.example"):
        answer = await Client(app).get("/errors", method="POST", headers=[("Origin", fine)])
        assert answer.status == 200, fine
    assert (await Client(app).get("/errors", method="POST")).status == 200, "no browser"


async def test_cors_is_for_listed_origins_only(redis: Redis) -> None:
    """Off by default; a preflight needs no key, as a browser sends none with it."""
    asks = [("Origin", "https://desk.example"), ("Access-Control-Request-Method", "GET")]
    plain, listed = app_of(redis), app_of(redis, NT_ALLOWED_ORIGINS="https://desk.example", **KEYED)
    answer = await Client(plain).report("BTCUSDT", headers=asks[:1])
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (await Client(plain).get("/get_report", method="OPTIONS", headers=asks)).status == 405
    answer = await Client(listed).get("/get_report", method="OPTIONS", headers=asks)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "https://desk.example"
    assert "X-API-Key" in answer.headers["access-control-allow-headers"]
    other = [("Origin", "https://evil.example"), asks[1]]
    answer = await Client(listed).get("/get_report", method="OPTIONS", headers=other)
    assert "access-control-allow-origin" not in answer.headers
    text, _ = await issue(redis)
    answer = await Client(listed, text).report("BTCUSDT", headers=asks[:1])
    assert answer.headers["access-control-allow-origin"] == "https://desk.example"
    assert "Origin" in answer.headers["vary"]


async def test_a_flood_of_one_key_is_held_up_and_another_is_not(redis: Redis) -> None:
    app = app_of(redis, **KEYED)
    text, _ = await issue(redis, rate=2)
    other, _ = await issue(redis, rate=2)
    answers = [await Client(app, text).report("BTCUSDT") for _ in range(8)]
    assert [answer.status for answer in answers[:4]] == [200] * 4
    last = answers[-1]
    refused(last, "rate-limited")
    assert int(last.headers["retry-after"]) >= 1
    assert last.headers["ratelimit-policy"] == '"key";q=4;w=2'
    assert answers[0].headers["ratelimit"] == '"key";r=3;t=1'
    assert (await Client(app, other).report("BTCUSDT")).status == 200


async def test_guessing_is_held_up_and_valid_keys_of_the_same_address_are_not(
    redis: Redis,
) -> None:
    app = app_of(redis, **KEYED)
    text, _ = await issue(redis)
    found = {(await Client(app, f"tl_{n}").report("BTCUSDT")).status for n in range(60)}
    assert found == {401, 429}
    assert (await Client(app, text).report("BTCUSDT")).status == 200


async def test_bodies_have_a_largest_size_and_a_longest_time(redis: Redis) -> None:
    app = app_of(redis, NT_HTTP_BODY_MAX_BYTES="2048", NT_HTTP_READ_TIMEOUT_S="1")
    post: dict[str, Any] = {"path": "/errors", "method": "POST"}
    assert (await Client(app).get(**post, body=[b"x" * 1024] * 2)).json() == 2048
    refused(await Client(app).get(**post, body=[b"x" * 1024] * 3), "body-too-large")
    said = [("Content-Length", "9" * 30)]
    refused(await Client(app).get(**post, headers=said), "body-too-large")
    big = [("Content-Length", "4096")]
    refused(await Client(app).get("/get_report", headers=big, body=[b"x" * 4096]), "body-too-large")
    refused(await Client(app).get("/get_report", "symbol=" + "A" * 9000), "uri-too-long")


async def test_a_body_that_does_not_come_is_not_waited_for(redis: Redis) -> None:
    app = app_of(redis, NT_HTTP_READ_TIMEOUT_S="1")
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not asked:
            asked.append(1)
            return {"type": "http.request", "body": b"x", "more_body": True}
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    asked: list[int] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/errors", "raw_path": b"/errors",
        "query_string": b"", "headers": [(b"host", b"localhost"), (b"content-length", b"9")],
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "http_version": "1.1",
        "scheme": "http", "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    await app(scope, receive, send)
    assert sent[0]["status"] == 408


async def test_an_error_of_our_own_is_a_problem_that_says_nothing_of_it(
    redis: Redis, logged: Logged
) -> None:
    """The log says it, under the id that the answer has."""
    answer = await Client(app_of(redis)).get("/openapi-fails")
    body = refused(answer, "internal")
    assert "secret" not in answer.body.decode()
    assert answer.headers["x-request-id"] in body["detail"]
    said = logged.take()
    assert "ZeroDivisionError" in said
    assert answer.headers["x-request-id"] in said


async def test_what_is_not_there_is_a_problem(redis: Redis) -> None:
    client = Client(app_of(redis))
    refused(await client.get("/nowhere"), "not-found")
    answer = await client.get("/get_report", method="PUT")
    refused(answer, "method-not-allowed")
    assert answer.headers["allow"] == "GET"
    problem = refused(await client.get("/reports", "limit=0"), "invalid-parameter")
    assert [one["name"] for one in problem["errors"]] == ["limit"]


async def test_keys_that_are_not_known_yet_refuse_nobody_for_good(
    own_server: RedisProcess,
) -> None:
    """Redis away from the start: 503, for 401 would have the owner look for another key."""
    async with reader_client(own_server.url) as redis:
        text, _ = await issue(redis)
        own_server.pause()
        app = app_of(redis, **KEYED)
        refused(await Client(app, text).report("BTCUSDT"), "keys-unknown")
        ready = await Client(app).get("/ready")
        assert (ready.status, ready.json()["ready"]) == (503, False)
        live = await Client(app).get("/live")
        assert (live.status, live.json()) == (200, {"live": True}), "a restart mends no Redis"
        own_server.resume()
        await eventually(partial(Client(app, text).report, "BTCUSDT"), 200)
        assert (await Client(app).get("/ready")).json() == {"ready": True, "reason": ""}


async def test_without_any_key_a_reader_that_needs_them_is_not_ready(redis: Redis) -> None:
    answer = await Client(app_of(redis, **KEYED)).get("/ready")
    assert answer.status == 503
    assert "tapeline keys create" in answer.json()["reason"]
    assert (await Client(app_of(redis)).get("/ready")).status == 200


async def test_answers_are_packed_for_who_asks(redis: Redis) -> None:
    """Small ones are not; the object is the same."""
    payload = stored()
    await redis.set("report:BTCUSDT", payload)
    client, asks = Client(app_of(redis)), [("Accept-Encoding", "br, gzip")]
    answer = await client.report("BTCUSDT", headers=asks)
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) == len(answer.body) < len(payload)
    assert gzip.decompress(answer.body) == payload
    small = await client.get("/health", headers=asks)
    assert "content-encoding" not in small.headers
    assert json.loads(small.body)["status"] == "ok"
    assert (await client.report("BTCUSDT")).body == payload


@pytest.mark.parametrize("packed", [False, True])
async def test_head_is_get_less_the_body(redis: Redis, logged: Logged, *, packed: bool) -> None:
    """As load balancers and monitors ask; an answer to them costs no more than its headers."""
    app = app_of(redis)
    headers = [("Accept-Encoding", "gzip")] if packed else []
    for path, query in (
        ("/get_report", "symbol=BTCUSDT"),
        ("/symbols", ""),
        ("/openapi.json", ""),
        ("/unheard-of", ""),
    ):
        get = await Client(app).get(path, query, headers=headers)
        logged.take()
        head = await Client(app).get(path, query, "HEAD", headers=headers)
        said = json.loads(logged.take().splitlines()[-1])
        assert (said["method"], said["sent_bytes"]) == ("HEAD", 0)
        assert (head.status, head.body) == (get.status, b"")
        assert head.headers["content-length"] == get.headers["content-length"] != "0"
        assert head.headers.keys() == get.headers.keys()
    refused(await Client(app).get("/mcp"), "method-not-allowed")
    assert (await Client(app).get("/mcp", method="HEAD")).status == 405
    assert (await Client(app).get("/get_report", "symbol=!", "HEAD")).status == 422


async def test_refusals_are_counted(redis: Redis) -> None:
    client = Client(app_of(redis))
    await client.get("/health", host="evil.example")
    lines = (await client.get("/metrics")).body.decode().splitlines()
    assert 'tapeline_http_refused_total{kind="wrong-host"} 1.0' in lines
    assert 'tapeline_http_requests_total{route="refused",status="421"} 1.0' in lines


@pytest.mark.parametrize(
    ("host", "require", "needed"),
    [
        ("127.0.0.1", "auto", False), ("localhost", "auto", False), ("::1", "auto", False),
        ("127.0.0.2", "auto", False), ("0.0.0.0", "auto", True), ("::", "auto", True),
        ("", "auto", True), ("10.1.2.3", "auto", True), ("desk.example", "auto", True),
        ("127.0.0.1", "always", True), ("0.0.0.0", "never", False),
    ],
)  # fmt: skip
def test_who_needs_a_key(host: str, require: str, needed: bool) -> None:
    settings = load_settings({"NT_REQUIRE_KEYS": require}, bind_host=host)
    assert keys_needed(settings) is needed
    assert is_loopback("127.0.0.1.evil.example") is False
