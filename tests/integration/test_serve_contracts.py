"""A real reader against its own contracts: OpenAPI by generated calls, AsyncAPI by real frames."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect

from tables.report import Tick, encode_tick
from tests.support.api_keys import issue
from tests.support.reader_process import serving
from tests.support.reports import stored

pytestmark = [pytest.mark.redis, pytest.mark.e2e]

EXAMPLES = 25
LIMIT_S = 90.0

# All checks but one: a cursor's schema says which letters it has, not which were given out.
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "negative_data_rejection",
    "missing_required_header", "unsupported_method", "ignored_auth", "use_after_free",
)  # fmt: skip


WITHOUT_KAFKA = "".join(
    f"""
    [[operations]]
    include-name = "{name}"
    checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
    """
    for name in ("POST /api/v1/streams", "DELETE /api/v1/streams/{stream_id}")
)
"""Where no Kafka is configured these say so: 503, `not-configured`."""


def tick(symbol: str, now_ms: int) -> bytes:
    return encode_tick(
        Tick(
            symbol=symbol, venue="binance", writer_token=7, seq=1, offset=1, ts_recv_ms=now_ms,
            last_trade=None, quote=None, book="ok", bids=[(1.0, 2.0)], asks=[(2.0, 1.0)],
            synthetic=False,
        )
    )  # fmt: skip


async def fill(redis: Redis) -> None:
    """Two symbols with report and tick."""
    now_ms = time.time_ns() // 1_000_000
    for symbol in ("BTCUSDT", "ETHUSDT"):
        await redis.set(f"report:{symbol}", stored(symbol, now_ms=now_ms))
        await redis.set(f"tick:{symbol}", tick(symbol, now_ms))


@pytest.mark.slow(limit_s=LIMIT_S)
@pytest.mark.parametrize("keys", ["without keys", "with a key", "with keys, and none shown"])
async def test_generated_calls_find_no_server_error_and_no_undocumented_answer(
    redis_url: str, tmp_path: Path, keys: str
) -> None:
    """Schemathesis, from the served OpenAPI: examples, borders, random calls, sequences."""
    async with Redis.from_url(redis_url) as redis:
        await fill(redis)
        text, _ = await issue(redis, rate=100_000)
    (tmp_path / "schemathesis.toml").write_text(WITHOUT_KAFKA)
    require = "auto" if keys == "without keys" else "always"
    shown = ["--header", f"Authorization: Bearer {text}"] if keys == "with a key" else []
    async with serving(REDIS_URL=redis_url, NT_REQUIRE_KEYS=require) as server:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "schemathesis"),
            "run",
            f"{server.url}/openapi.json",
            *shown,
            f"--checks={','.join(CHECKS)}",
            f"--max-examples={EXAMPLES}",
            "--generation-database=none",
            "--no-color",
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), LIMIT_S - 10)
        finally:
            if process.returncode is None:
                process.kill()
        said = out.decode()
        assert process.returncode == 0, said
        assert "No issues found" in said or "test cases" in said.lower(), said
        assert server.process.returncode is None


@pytest.mark.slow
async def test_real_frames_are_what_asyncapi_says(redis_url: str) -> None:
    """All that a client sees in its first seconds, by the document that the same reader serves."""
    seen: set[str] = set()
    wanted = {
        "hello", "subscribed", "snapshot", "update", "heartbeat", "pong", "error", "unsubscribed",
        "subscriber_count_changed",
    }  # fmt: skip
    async with (
        Redis.from_url(redis_url) as redis,
        serving(REDIS_URL=redis_url, NT_HUB_HEARTBEAT_S="1") as server,
    ):
        await fill(redis)
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{server.url}/asyncapi.json") as answer,
        ):
            document = await answer.json()
        check = _checker(document)
        url = f"ws://{server.host}:{server.port}/ws"
        async with connect(url, proxy=None, compression=None) as socket:

            async def ask(**request: Any) -> None:
                await socket.send(json.dumps(request))

            channels = ["reports.fast", "reports.slow", "ticks", "book", "status"]
            await ask(op="subscribe", channels=channels, symbols=["BTCUSDT"], id="a")
            await ask(op="ping", id="b")
            await ask(op="subscribe", channels=["no.such"], symbols=["*"], id="c")
            await ask(op="snapshot", channel="reports.fast", symbol="BTCUSDT", id="d")
            async with asyncio.timeout(30):
                seq = 2
                while not wanted <= seen:
                    frame = json.loads(await socket.recv())
                    check(frame)
                    seen.add(frame["type"])
                    if frame["type"] == "snapshot":
                        now_ms = time.time_ns() // 1_000_000
                        payload = stored("BTCUSDT", seq=seq, now_ms=now_ms)
                        await redis.set("report:BTCUSDT", payload)
                        told = json.dumps({"symbol": "BTCUSDT", "token": 7, "seq": seq})
                        await redis.publish("report:BTCUSDT", told)
                        seq += 1
                    if frame["type"] == "heartbeat":
                        await ask(op="unsubscribe", subscription_id="s1", id="e")
    assert wanted <= seen


def _checker(document: dict[str, Any]) -> Any:
    """Fails on a frame that is none of the document's."""
    messages = document["channels"]["ws"]["messages"]

    def check(frame: dict[str, Any]) -> None:
        message = f"type_{frame['type']}"
        assert message in messages, frame
        ref = document["components"]["messages"][message]["payload"]["$ref"]
        schema = {"$ref": ref, "components": document["components"]}
        jsonschema.Draft7Validator(schema).validate(frame)

    return check
