"""The MCP server as hosts meet it: on stdio and over HTTP, beside real writers that are killed."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import redis as sync_redis
from mcp import Client, StdioServerParameters
from mcp.shared.subscriptions import ResourceUpdated

from serving.mcp.tools import OFFERS
from serving.reader import reader_client
from tests.support import commands
from tests.support.api_keys import issue
from tests.support.mcp_server import ERAS, given, refused
from tests.support.redis_process import RedisProcess, redis_binary, valkey_binary
from tests.support.report_writer import writing
from tests.support.reports import stored
from tests.support.serve_process import serve_process

pytestmark = [pytest.mark.redis, pytest.mark.e2e, pytest.mark.slow]

INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"
CALLS: dict[str, dict[str, Any]] = {
    "get_report": {"symbol": "BTCUSDT", "detail": "full"},
    "list_symbols": {},
    "compare_reports": {"symbols": ["BTCUSDT"]},
    "get_order_book": {"symbol": "BTCUSDT"},
    "wait_for_report": {"symbol": "BTCUSDT", "after_seq": 0},
}
HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2025-11-25",
}


@pytest.fixture
def store(redis_url: str) -> str:
    """The session's Redis, with one report in it."""
    with sync_redis.Redis.from_url(redis_url) as client:
        client.set("report:BTCUSDT", stored(now_ms=time.time_ns() // 1_000_000))
    return redis_url


@asynccontextmanager
async def on_stdio(url: str, era: str = "auto") -> AsyncIterator[Client]:
    """A client that has started the server itself, as a host does."""
    command, *arguments = commands.tapeline("mcp")
    environment = commands.environment(REDIS_URL=url, NT_LOG_LEVEL="WARNING")
    server = StdioServerParameters(command=command, args=arguments, env=environment)
    async with Client(server, mode=era, cache=None) as client:
        yield client


@asynccontextmanager
async def over_http(url: str, era: str = "auto") -> AsyncIterator[Client]:
    async with Client(f"{url}/mcp", mode=era, cache=None) as client:
        yield client


def without_ages(found: dict[str, Any]) -> dict[str, Any]:
    """With what depends on the moment of reading taken out."""
    kept = {name: value for name, value in found.items() if name not in {"read", "now_ms", "why"}}
    for name in ("symbols", "rows"):
        for row in kept.get(name, ()):
            for of_now in ("age_ms", "data_age_ms", "stale", "state"):
                row.pop(of_now, None)
    return kept


async def test_every_transport_and_revision_gives_the_same(store: str) -> None:
    """The report itself byte for byte, as HTTP and the hub give it."""
    found: list[dict[str, Any]] = []
    async with serve_process(store) as server, aiohttp.ClientSession() as http:
        async with http.get(f"{server.url}/get_report?symbol=BTCUSDT") as response:
            payload = await response.read()
        async with http.ws_connect(f"{server.url}/ws") as socket:
            wish = {"op": "subscribe", "channels": ["reports.fast"], "symbols": ["BTCUSDT"]}
            await socket.send_json(wish)
            frame = ""
            while '"type":"snapshot"' not in frame:
                frame = await asyncio.wait_for(socket.receive_str(), 10)
            assert frame.count(payload.decode()) == 1
        for era in ERAS:
            for client in (on_stdio(store, era), over_http(server.url, era)):
                async with client as one:
                    answers = {
                        name: given(name, await one.call_tool(name, arguments))
                        for name, arguments in CALLS.items()
                    }
                    report = answers["get_report"]["report"]
                    assert msgspec.json.encode(report) == payload
                    given("get_service_status", await one.call_tool("get_service_status", {}))
                    found.append({name: without_ages(one) for name, one in answers.items()})
    assert found[0] == found[1] == found[2] == found[3]


async def test_a_writer_that_is_killed_is_told_of_within_two_seconds_and_its_heir_has_a_higher_token(
    redis_url: str,
) -> None:
    """By each transport; no answer ever shows a lower (token, seq)."""
    async with AsyncExitStack() as open_:
        server = await open_.enter_async_context(serve_process(redis_url))
        clients = [
            await open_.enter_async_context(on_stdio(redis_url)),
            await open_.enter_async_context(over_http(server.url)),
        ]
        orders: list[list[tuple[int, int]]] = [[] for _ in clients]

        async def stale(client: Client, seen: list[tuple[int, int]]) -> bool | None:
            result = await client.call_tool("get_report", {"symbol": "BTCUSDT"})
            if result.is_error:
                assert refused(result)["code"] == "unknown_symbol"  # nobody has written yet
                return None
            found = given("get_report", result)
            if found["report"] is None:
                return None
            seen.append((found["writer_token"], found["seq"]))
            return bool(found["read"]["stale"])

        async def until_all(wanted: bool, within_s: float) -> float:
            began = time.monotonic()
            for client, seen in zip(clients, orders, strict=True):
                while await stale(client, seen) is not wanted:
                    assert time.monotonic() - began < within_s
                    await asyncio.sleep(0.02)
            return time.monotonic() - began

        async with writing(redis_url, "w1", "BTCUSDT") as writer:
            await until_all(wanted=False, within_s=20)
            writer.kill()
            await writer.wait()
            # Data is stale from 2000 ms on: that long after the last record, which was before.
            assert await until_all(wanted=True, within_s=2.5) > 1.0
        async with writing(redis_url, "w2", "BTCUSDT"):
            await until_all(wanted=False, within_s=20)
        for seen in orders:
            assert seen == sorted(seen)
            assert seen[-1][0] > seen[0][0]


async def test_a_redis_that_comes_back_with_old_data_is_never_believed(tmp_path: Path) -> None:
    """Killed, and restored from a file of before; the first newer write is given again."""
    binary = valkey_binary() or redis_binary()
    if binary is None:
        pytest.skip("no redis-server and no valkey-server on this machine")
    redis = RedisProcess(binary, tmp_path)
    redis.start()

    def put(token: int, seq: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        with sync_redis.Redis.from_url(redis.url) as client:
            client.set("report:BTCUSDT", stored(token=token, seq=seq, now_ms=now_ms))

    async def asked(client: Client) -> dict[str, Any]:
        async with asyncio.timeout(15):
            while True:  # until the store is there again
                result = await client.call_tool("get_report", {"symbol": "BTCUSDT"})
                if not result.is_error:
                    return given("get_report", result)
                assert refused(result)["code"] in {"not_ready", "unknown_symbol"}

    try:
        put(9, 4)
        async with serve_process(redis.url) as server, over_http(server.url) as client:
            assert (await asked(client))["seq"] == 4
            redis.kill()
            assert refused(await client.call_tool("get_report", {"symbol": "BTCUSDT"}))
            redis.start()
            put(9, 3)
            found = await asked(client)
            assert (found["report"], found["seq"]) == (None, None)
            assert "older report than one that was given" in found["why"]
            put(10, 1)
            found = await asked(client)
            assert (found["writer_token"], found["seq"]) == (10, 1)
    finally:
        redis.kill()


async def test_any_replica_answers_and_an_update_reaches_a_listener_on_each(redis_url: str) -> None:
    uri = "market://report/BTCUSDT/fast"
    async with (
        serve_process(redis_url) as one,
        serve_process(redis_url) as two,
        over_http(one.url) as first,
        over_http(two.url) as second,
        first.listen(resource_subscriptions=[uri]) as here,
        second.listen(resource_subscriptions=[uri]) as there,
        writing(redis_url, "w1", "BTCUSDT"),
    ):
        for heard in (here, there):
            events = aiter(heard)
            for _ in range(3):
                assert await asyncio.wait_for(anext(events), 20) == ResourceUpdated(uri)
        newest = 0
        for n in range(10):  # one client after the other: no replica remembers anything of them
            client = (first, second)[n % 2]
            found = given("get_report", await client.call_tool("get_report", {"symbol": "BTCUSDT"}))
            assert found["seq"] >= newest
            newest = found["seq"]
        waited = given(
            "wait_for_report",
            await second.call_tool("wait_for_report", {"symbol": "BTCUSDT", "after_seq": newest}),
        )
        assert waited["matched"]


async def test_progress_comes_over_http_while_a_report_is_waited_for(store: str) -> None:
    told: list[str | None] = []

    async def progress(_done: float, _total: float | None, words: str | None) -> None:
        told.append(words)

    async with serve_process(store) as server, over_http(server.url) as client:
        result = await client.call_tool(
            "wait_for_report",
            {"symbol": "BTCUSDT", "after_seq": 9, "timeout_s": 2.5},
            progress_callback=progress,
        )
    assert given("wait_for_report", result)["matched"] is False
    assert told[0] == "seq 1"


def modern(method: str, **params: Any) -> dict[str, Any]:
    """A request of 2026-07-28, as `aiohttp` takes it."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {**HEADERS, "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
    if "name" in params:
        headers["Mcp-Name"] = params["name"]
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta, **params}}
    return {"json": body, "headers": headers}


LISTEN = modern(
    "subscriptions/listen",
    notifications={"resourceSubscriptions": ["market://report/BTCUSDT/fast"]},
)


async def test_listeners_that_read_nothing_delay_nobody(store: str) -> None:
    """Others are answered all the same."""
    async with (
        serve_process(store) as server,
        aiohttp.ClientSession(read_bufsize=1024) as http,
        writing(store, "w1", "BTCUSDT"),
    ):
        stuck = [await http.post(f"{server.url}/mcp", **LISTEN) for _ in range(20)]
        assert {response.status for response in stuck} == {200}
        async with over_http(server.url) as client:
            for _ in range(50):
                began = time.monotonic()
                given("get_report", await client.call_tool("get_report", {"symbol": "BTCUSDT"}))
                assert time.monotonic() - began < 1.0
        for response in stuck:
            response.close()


# --- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_reader_whose_streams_are_open(
    store: str, signum: signal.Signals
) -> None:
    """Within two seconds, with status 0; the stream ends as the protocol wants."""
    wait = modern(
        "tools/call",
        name="wait_for_report",
        arguments={"symbol": "BTCUSDT", "after_seq": 9, "timeout_s": 30},
    )
    async with serve_process(store) as server, aiohttp.ClientSession() as http:
        url = f"{server.url}/mcp"
        for method in ("GET", "DELETE", "PUT"):
            async with http.request(method, url, headers=HEADERS) as refusal:
                assert (refusal.status, refusal.headers["Allow"]) == (405, "POST")
                assert refusal.content_type == "application/problem+json"
        waiting = asyncio.create_task(http.post(url, **wait))
        async with http.post(url, **LISTEN) as listening:
            line = b""
            while b"resources/updated" not in line:
                line = await asyncio.wait_for(listening.content.readline(), 10)
            began = time.monotonic()
            server.process.send_signal(signum)
            assert await server.process.wait() == 0
            assert time.monotonic() - began < 2.0
            rest = await listening.content.read()
            assert b'"id":1,"result":{' in rest
        async with await waiting as answer:
            assert (await answer.json())["result"]["structuredContent"]["matched"] is False


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "stdin"])
async def test_the_server_on_stdio_ends_when_asked_to(store: str, end: str) -> None:
    """Whatever it wrote on stdout was of the protocol, on stderr a line of JSON."""
    process = await asyncio.create_subprocess_exec(
        *commands.tapeline("mcp"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=commands.environment(REDIS_URL=store),
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        hello = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        }
        for line in (b"no json", b"x" * (3 << 20), json.dumps(hello).encode()):
            process.stdin.write(line + b"\n")
        lines = [json.loads(await asyncio.wait_for(process.stdout.readline(), 20))]
        while lines[-1].get("id") != 1:
            lines.append(json.loads(await asyncio.wait_for(process.stdout.readline(), 20)))
        assert lines[-1]["result"]["serverInfo"]["name"] == "tapeline"
        began = time.monotonic()
        if end == "stdin":
            process.stdin.close()
        else:
            process.send_signal(signal.Signals[end])
        out, err = await asyncio.wait_for(process.communicate(), 10)
        assert time.monotonic() - began < 2.0
        assert process.returncode == 0, err.decode()
        assert out == b""
        for line in err.splitlines():
            assert json.loads(line)["component"] == "mcp"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_without_a_redis_the_command_says_what_is_missing() -> None:
    process = await commands.start("mcp")
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out) == (2, b"")
    assert b"REDIS_URL" in err


# --- who may -------------------------------------------------------------------------------------


async def test_over_http_the_front_door_decides_and_each_tool_asks_for_its_scope(
    store: str,
) -> None:
    async with reader_client(store) as redis:
        key, _ = await issue(redis, "ticks:read")
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "get_report", "arguments": {"symbol": "BTCUSDT"}},
    }
    async with (
        serve_process(store, NT_REQUIRE_KEYS="always") as server,
        aiohttp.ClientSession() as http,
    ):

        async def post(**headers: str) -> tuple[int, str]:
            async with http.post(
                f"{server.url}/mcp", json=body, headers={**HEADERS, **headers}
            ) as response:
                return response.status, await response.text()

        assert (await post())[0] == 401
        assert (await post(Authorization="Bearer tl_no_such"))[0] == 401
        allowed = {"Authorization": f"Bearer {key}"}
        status, text = await post(**allowed)
        assert status == 200
        assert "needs a key with scope reports:read" in text
        assert (await post(**allowed, Origin="https://evil.example"))[0] == 403
        assert (await post(**allowed, Host="evil.example"))[0] in {400, 403, 421}
        async with http.post(f"{server.url}/mcp?key={key}", json=body, headers=HEADERS) as response:
            assert response.status in {400, 401}
    assert key not in json.dumps(server.said)


# --- the example ---------------------------------------------------------------------------------


async def test_the_example_answers_over_http_with_a_key_and_on_stdio(
    redis_url: str,
) -> None:
    async with reader_client(redis_url) as redis:
        key, _ = await issue(redis, "reports:read")
    async with (
        serve_process(redis_url, NT_REQUIRE_KEYS="always") as server,
        writing(redis_url, "w1", "AUSDT"),
    ):
        # No other symbol: one as wide would be the answer for as long as it is fresh.
        # Until the writer has written: it reads what the example does.
        async with reader_client(redis_url) as redis, asyncio.timeout(20):
            while await redis.get("report:AUSDT") is None:  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.05)
        for arguments, more in (
            ([f"{server.url}/mcp"], {"TAPELINE_KEY": key}),
            ([], {"REDIS_URL": redis_url}),
        ):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "examples.mcp_agent", *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=commands.environment(**more),
                cwd=commands.ROOT,
            )
            out, err = await asyncio.wait_for(process.communicate(), 20)
            assert process.returncode == 0, err.decode()[-2000:]
            assert re.match(
                r"AUSDT has the widest spread: 0.0167 bps, from data \d+ ms", out.decode()
            )


# --- the Inspector -------------------------------------------------------------------------------


def inspector() -> list[str]:
    """Its command line; skips where there is no node, or nothing in its cache and no network."""
    npx = shutil.which("npx")
    if npx is None:
        pytest.skip("no npx on this machine")
    argv = [npx, "--yes", "--prefer-offline", INSPECTOR, "--cli"]
    try:
        ran = subprocess.run([*argv, "--help"], capture_output=True, timeout=50, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the Inspector could not be fetched in time")
    if ran.returncode not in {0, 1}:
        pytest.skip(f"the Inspector does not run here: {ran.stderr[-200:].decode()}")
    return argv


METHODS: list[tuple[str, ...]] = [
    ("tools/list", "--strict"),
    ("resources/list",),
    ("resources/templates/list",),
    ("prompts/list",),
    ("tools/call", "--tool-name", "get_report", "--tool-arg", "symbol=BTCUSDT"),
]


@pytest.mark.slow(limit_s=180)
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_the_inspector_finds_nothing_to_complain_of(store: str, transport: str) -> None:
    """In its strict mode, with exit status 0."""
    argv = await asyncio.to_thread(inspector)
    async with serve_process(store) as server:
        target = [f"{server.url}/mcp", "--transport", "http"]
        if transport == "stdio":
            # The Inspector starts servers in an environment of its own.
            named = {"REDIS_URL": store, "PYTHONPATH": str(commands.ROOT)}
            target = [
                *(word for name in named for word in ("-e", f"{name}={named[name]}")),
                *commands.tapeline("mcp"),
            ]
        env = commands.environment()
        for method in METHODS:
            found = await asyncio.to_thread(_inspected, argv, target, method, env)
            if method[0] == "tools/list":
                committed = json.loads((commands.ROOT / "docs" / "api" / "mcp.json").read_text())[
                    "tools"
                ]
                assert [one["name"] for one in found["tools"]] == list(OFFERS)
                assert [one["inputSchema"] for one in found["tools"]] == [
                    one["inputSchema"] for one in committed
                ]


def _inspected(
    argv: list[str], target: list[str], method: tuple[str, ...], env: dict[str, str]
) -> Any:
    ran = subprocess.run(
        [*argv, *target, "--method", *method],
        env=env, capture_output=True, timeout=60, check=False, cwd=Path(commands.ROOT),
    )  # fmt: skip
    assert ran.returncode == 0, (method, ran.stdout[-500:], ran.stderr[-1000:])
    return json.loads(ran.stdout)
