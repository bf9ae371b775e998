"""What attackers send to ``tapeline serve``, a real process: refused clearly, and it lives on."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.api_keys import issue, revoke
from tests.support.reader_process import Serving, raw, serving
from tests.support.reports import stored

pytestmark = [pytest.mark.redis, pytest.mark.e2e, pytest.mark.slow]

READ_TIMEOUT_S = 2
REVOKED_WITHIN_S = 1.0
BUSY_S = 2.0
"""What a busy machine may take beyond a limit."""


@dataclass
class Target:
    """A reader that needs keys, and one of each kind."""

    server: Serving
    redis: Redis
    key: str
    key_id: str
    http: aiohttp.ClientSession

    async def status(self, path: str, key: str = "", **headers: str) -> int:
        named = {"Authorization": f"Bearer {key}"} if key else {}
        async with self.http.get(self.server.url + path, headers={**named, **headers}) as answer:
            body = await answer.read()
            if answer.status >= 400 and path != "/health":
                assert answer.content_type == "application/problem+json", body
                assert json.loads(body)["status"] == answer.status
            return answer.status

    async def issue(self, *scopes: str, rate: int = 10_000) -> tuple[str, str]:
        """A new key that the reader knows; it looks for unknown ones 20 times a second."""
        key, key_id = await issue(self.redis, *scopes, rate=rate)
        deadline_s = time.monotonic() + BUSY_S
        while await self.status("/queries", key) == 401:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.02)
        return key, key_id

    async def is_well(self) -> None:
        """The same process answers, as it did before."""
        assert self.server.process.returncode is None
        deadline_s = time.monotonic() + 10 * BUSY_S
        for path in ("/health", "/get_report?symbol=BTCUSDT"):
            # 503 is Redis on a busy machine, which is not what these tests are about.
            while (status := await self.status(path, self.key)) == 503:
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.05)
            assert status == 200


@pytest.fixture
async def target(redis_url: str) -> AsyncIterator[Target]:
    async with Redis.from_url(redis_url) as redis, aiohttp.ClientSession() as http:
        key, key_id = await issue(redis)
        await redis.set("report:BTCUSDT", stored(now_ms=time.time_ns() // 1_000_000))
        async with serving(
            REDIS_URL=redis_url,
            NT_REQUIRE_KEYS="always",
            NT_HTTP_READ_TIMEOUT_S=str(READ_TIMEOUT_S),
        ) as server:
            yield Target(server, redis, key, key_id, http)


def head(server: Serving, *lines: str, path: str = "/health") -> bytes:
    """The head of a request that ends its connection."""
    host = f"Host: 127.0.0.1:{server.port}"
    text = "\r\n".join([f"GET {path} HTTP/1.1", host, "Connection: close", *lines, "", ""])
    return text.encode("latin-1")


async def test_keys_missing_wrong_revoked_or_of_another_scope_open_nothing(target: Target) -> None:
    """Revoked: within a second."""
    path = "/get_report?symbol=BTCUSDT"
    assert await target.status(path) == 401
    assert await target.status(path, target.key[:-1]) == 401
    assert await target.status(path, "tl_" + "a" * 12 + "_" + "A" * 43) == 401
    ticks, _ = await target.issue("ticks:read")
    assert await target.status(path, ticks) == 403
    assert await target.status("/ticks/realtime?symbol=BTCUSDT", ticks) in {200, 503}
    assert await target.status(f"{path}&api_key={target.key}") == 400
    leaver, leaver_id = await target.issue()
    assert await target.status(path, leaver) in {200, 503}
    await revoke(target.redis, leaver_id)
    revoked_s = time.monotonic()
    while await target.status(path, leaver) != 401:
        assert time.monotonic() - revoked_s < REVOKED_WITHIN_S + BUSY_S
        await asyncio.sleep(0.02)
    await target.is_well()


async def test_a_flood_is_held_up_and_others_are_not(target: Target) -> None:
    flooding, _ = await target.issue(rate=5)
    path = "/get_report?symbol=BTCUSDT"
    began_s = time.monotonic()
    found = await asyncio.gather(*(target.status(path, flooding) for _ in range(200)))
    took_s = time.monotonic() - began_s
    assert {200, 429} <= set(found) <= {200, 429, 503}
    assert 200 - found.count(429) <= 10 + 5 * took_s + 1, "its burst, and its rate"
    guesses = await asyncio.gather(*(target.status(path, f"tl_{n}") for n in range(200)))
    assert {401, 429} <= set(guesses) <= {401, 429, 503}
    await target.is_well()


async def test_what_is_too_large_is_refused_before_it_is_read(target: Target) -> None:
    server = target.server
    post = head(server, "Content-Length: 99999999").replace(b"GET", b"POST")
    assert b" 413 " in (await raw(server, post)).splitlines()[0]
    chunks = head(server, "Transfer-Encoding: chunked").replace(b"GET", b"POST")
    piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    answer = await raw(server, chunks, *[piece] * 8)
    assert answer == b"" or b" 413 " in answer.splitlines()[0]
    assert b" 414 " in (await raw(server, head(server, path="/" + "a" * 9000))).splitlines()[0]
    for lines in (["X-Long: " + "a" * 100_000], [f"X-{n}: {n}" for n in range(20_000)]):
        answer = await raw(server, head(server, *lines))
        assert answer == b"" or int(answer.split()[1]) in {400, 431}
    await target.is_well()


async def test_slow_loris_holds_nobody_up_and_is_sent_away(target: Target) -> None:
    """Half a head, nothing at all, and half a body: each ends; others are answered meanwhile."""
    server = target.server
    began_s = time.monotonic()

    async def lasts(first: bytes, drip: bytes) -> tuple[float, bytes]:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        try:
            writer.write(first)
            reading = asyncio.create_task(reader.read())
            while not reading.done():
                writer.write(drip)
                await asyncio.wait([reading], timeout=0.2)
            try:
                return time.monotonic() - began_s, reading.result()
            except ConnectionResetError:
                return time.monotonic() - began_s, b""
        finally:
            writer.close()

    half_head = head(server)[:-2]
    half_body = head(server, "Content-Length: 100000").replace(b"GET", b"POST")
    slow = asyncio.gather(
        *(lasts(half_head, b"X-a: b\r\n") for _ in range(60)),
        *(lasts(b"", b"") for _ in range(60)),
        *(lasts(half_body, b"") for _ in range(20)),
    )
    await target.is_well()
    ends = await asyncio.wait_for(slow, READ_TIMEOUT_S + 20)
    assert max(took for took, _ in ends) < READ_TIMEOUT_S + 5 + BUSY_S
    assert min(took for took, _ in ends) > READ_TIMEOUT_S * 0.9
    assert {answer for _, answer in ends[:120]} == {b""}
    assert all(b" 408 " in answer.splitlines()[0] for _, answer in ends[120:])
    await target.is_well()


async def test_a_client_that_takes_nothing_of_its_answer_is_sent_away(target: Target) -> None:
    """And one that takes some of it now and then gets all of it."""
    report = json.loads(stored("BIG", now_ms=time.time_ns() // 1_000_000))
    report["custom"] = {"much": "x" * 7_000_000}
    await target.redis.set("report:BIG", json.dumps(report))
    auth = f"Authorization: Bearer {target.key}"
    ask = head(target.server, auth, path="/get_report?symbol=BIG")
    loop = asyncio.get_running_loop()

    async def asked() -> tuple[socket.socket, int]:
        """A connection on which the answer has begun, and how much of it has been taken."""
        while True:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            sock.setblocking(False)
            await loop.sock_connect(sock, (target.server.host, target.server.port))
            await loop.sock_sendall(sock, ask)
            piece = await asyncio.wait_for(loop.sock_recv(sock, 100), 10)
            if b" 200 " in piece:
                return sock, len(piece)
            sock.close()
            assert b" 503 " in piece, "so long a report may take Redis too long on a busy machine"

    (stuck, taken), (slow, whole) = await asked(), await asked()
    with stuck, slow:
        deadline_s = time.monotonic() + READ_TIMEOUT_S * 1.5
        while piece := await asyncio.wait_for(loop.sock_recv(slow, 262_144), 10):
            whole += len(piece)
            if time.monotonic() < deadline_s:
                await asyncio.sleep(0.05)  # a client's pace
        assert whole > 7_000_000
        await asyncio.sleep(max(0.0, deadline_s + READ_TIMEOUT_S - time.monotonic()))
        try:
            while piece := await asyncio.wait_for(loop.sock_recv(stuck, 1 << 20), 10):
                taken += len(piece)
        except ConnectionResetError:
            pass
        assert taken < 7_000_000
    await target.is_well()


async def test_a_client_that_keeps_alive_is_not_taken_for_a_slow_one(target: Target) -> None:
    """The limit is on a head that has begun, or a connection that says nothing from the start."""
    reader, writer = await asyncio.open_connection(target.server.host, target.server.port)
    ask = head(target.server).replace(b"Connection: close\r\n", b"")
    deadline_s = time.monotonic() + READ_TIMEOUT_S + 1
    try:
        while time.monotonic() < deadline_s:
            writer.write(ask)
            await reader.readuntil(b"}")
            await asyncio.sleep(0.5)  # a pause of the client's, as they make them
    finally:
        writer.close()


async def test_headers_can_not_be_injected_or_smuggled(target: Target) -> None:
    server = target.server
    answer = await raw(server, head(server, "X-Request-ID: a%0d%0aSet-Cookie: x=1"))
    assert b"set-cookie" not in answer.lower()
    answer = await raw(server, head(server, "X-Request-ID: mine-1"))
    assert b"x-request-id: mine-1" in answer
    for lines in (
        ["Host: evil.example"],
        ["Host: 127.0.0.1", "Host: 127.0.0.1"],
        ["Content-Length: 1", "Transfer-Encoding: chunked"],
        ["Content-Length: 1", "Content-Length: 2"],
        ["Transfer-Encoding: xchunked"],
        ["X-A: a\x00b"],
        ["X A: b"],
        ["Authorization: Basic dGw6YQ=="],
    ):
        answer = await raw(server, head(server, *lines, path="/get_report?symbol=BTCUSDT"))
        status = int(answer.split()[1])
        assert status in {400, 501}, (lines, answer[:200])
    for garbage in (
        b"\x00" * 100,
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ):
        answer = await raw(server, garbage)
        assert answer == b"" or b" 400 " in answer.splitlines()[0]
    await target.is_well()


@pytest.mark.parametrize(
    "path",
    [
        "/schemas/../../../../etc/passwd", "/schemas/..%2f..%2fapp.py", "/schemas/%2e%2e/app.py",
        "/schemas/....//app.py", "/../etc/passwd", "//etc/passwd", "/schemas/%00", "/static/../app.py",
        "/problems/..%2f..%2fapp.py", "/%2e%2e/%2e%2e/etc/passwd", "/schemas/report-1.1.json%00.txt",
    ],
)  # fmt: skip
async def test_paths_lead_nowhere_else(target: Target, path: str) -> None:
    auth = f"Authorization: Bearer {target.key}"
    answer = await raw(target.server, head(target.server, auth, path=path))
    assert int(answer.split()[1]) in {400, 404}, answer[:300]
    assert b"root:" not in answer
    assert b"import " not in answer


async def test_symbols_with_control_characters_are_refused_and_break_no_log(
    target: Target,
) -> None:
    """Each line of the log is one JSON object, whatever was asked."""
    for symbol in (
        "BTC\n", "\x00", "BTC\x1b[31m", "BTC\r\nSet-Cookie: a", "ВТС", "B" * 33, "*", "BTC:heavy",
        '"}', "{BTC}", "\u202e", "%s%n", "';--",
    ):  # fmt: skip
        for path in ("/get_report?symbol=", "/ticks/realtime?symbol=", "/reports?symbols="):
            assert await target.status(path + quote(symbol), target.key) == 422, (path, symbol)
    await target.is_well()
    said = await target.server.end(signal.SIGTERM)
    lines = [json.loads(line) for line in said.splitlines()]
    assert sum(line["event"] == "audit.call" for line in lines) >= 39
    assert target.key.split("_", 2)[2] not in said


async def test_memory_stays_where_it_was(target: Target) -> None:
    """Thousands of refusals later."""
    await target.is_well()

    def rss_kb() -> int:
        status = Path(f"/proc/{target.server.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    async def abuse(rounds: int) -> None:
        for n in range(rounds):
            await target.status(f"/get_report?symbol=BTCUSDT&n={n}", f"tl_{n}")
            await target.status(f"/nowhere/{n}", target.key)
            await target.status("/get_report?symbol=" + "X" * 3000, target.key)

    await abuse(100)
    # What agents are answered with is imported beside the start, and this waits for it.
    named = {"Authorization": f"Bearer {target.key}"}
    async with target.http.post(f"{target.server.url}/mcp", json={}, headers=named) as answer:
        assert 400 <= answer.status < 500
    before = rss_kb()
    await abuse(500)
    assert rss_kb() - before < 8 * 1024
    await target.is_well()


# --- websockets -----------------------------------------------------------------------------------


def ws(target: Target, **headers: str) -> connect:
    url = f"ws://{target.server.host}:{target.server.port}/ws"
    return connect(url, additional_headers=headers, proxy=None, compression=None)


async def closed(socket: ClientConnection, within_s: float = 10.0) -> int | None:
    """The code that it is closed with."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                await socket.recv()
    except ConnectionClosed as over:
        return over.rcvd.code if over.rcvd else None


async def test_a_foreign_page_gets_no_websocket(target: Target) -> None:
    for headers, status in (
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null", "X-API-Key": target.key}, 403),
        ({"Authorization": "Bearer tl_wrong"}, 401),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with ws(target, **headers):
                pass
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body or b"")["status"] == status
    await target.is_well()


async def test_a_websocket_shows_its_key_first_or_is_closed(target: Target) -> None:
    for first in ('{"op":"ping"}', '{"op":"auth","key":"tl_wrong"}', "no json", "[" * 5000):
        async with ws(target) as socket:
            assert json.loads(await socket.recv())["auth_required"] is True
            await socket.send(first)
            assert await closed(socket) == 1008, first
    async with ws(target) as socket:
        await socket.recv()
        await socket.send(json.dumps({"op": "auth", "key": target.key}))
        await socket.send(
            json.dumps({"op": "subscribe", "channels": ["reports.fast"], "symbols": ["BTCUSDT"]})
        )
        async with asyncio.timeout(10):
            while json.loads(await socket.recv())["type"] != "snapshot":
                pass
    async with ws(target, **{"X-API-Key": target.key}) as socket:
        assert json.loads(await socket.recv())["auth_required"] is False
        await socket.send("x" * 100_000)
        assert await closed(socket) == 1009
    await target.is_well()


async def test_a_websocket_ends_with_its_key(target: Target) -> None:
    """It outlives the look at its key, and so is looked after."""
    key, key_id = await target.issue()
    async with ws(target, **{"X-API-Key": key}) as socket, ws(target) as later:
        await later.send(json.dumps({"op": "auth", "key": key}))
        await later.send(json.dumps({"op": "ping", "id": "1"}))
        async with asyncio.timeout(10):
            while json.loads(await later.recv())["type"] != "pong":
                pass
        await revoke(target.redis, key_id)
        revoked_s = time.monotonic()
        assert await closed(socket) == 1008
        assert await closed(later) == 1008
        assert time.monotonic() - revoked_s < REVOKED_WITHIN_S + BUSY_S
    await target.is_well()
