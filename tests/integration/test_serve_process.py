"""``tapeline serve`` as a process, on a real Redis."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import statistics
import time

import aiohttp
import pytest
import redis as sync_redis
from redis.asyncio import Redis

from tests.support import commands
from tests.support.api_keys import issue
from tests.support.processes import listens
from tests.support.reader_process import START_S, serving
from tests.support.reports import stored

pytestmark = [pytest.mark.redis, pytest.mark.e2e, pytest.mark.slow]

LOOPBACK = "127.0.0.1"
REQUESTS = 1000
CLIENTS = (1, 4)


@pytest.fixture
def store(redis_url: str) -> str:
    """The session's Redis, with one report in it."""
    with sync_redis.Redis.from_url(redis_url) as client:
        client.set("report:BTCUSDT", stored(now_ms=time.time_ns() // 1_000_000))
    return redis_url


@pytest.mark.parametrize("clients", CLIENTS)
async def test_reports_are_read_over_http_and_p99_is_printed(store: str, clients: int) -> None:
    """As fast as the clients can; the figure is for people, a busy machine fails no test."""
    async with serving(REDIS_URL=store) as server, aiohttp.ClientSession() as http:
        url = f"{server.url}/get_report?symbol=BTCUSDT"
        took: list[float] = []

        async def client() -> None:
            for _ in range(REQUESTS // clients):
                began = time.perf_counter()
                async with http.get(url) as response:
                    body = await response.read()
                took.append(time.perf_counter() - began)
                assert response.status == 200
                assert body.startswith(b'{"schemaVersion":"1.1"')

        await asyncio.gather(*(client() for _ in range(clients)))
        cuts = statistics.quantiles(took, n=100)
        print(
            f"\nGET /get_report, {len(took)} requests, {clients} at once: "
            f"p50 {cuts[49] * 1000:.2f} ms, p99 {cuts[98] * 1000:.2f} ms"
        )
        # Header and body of an answer in one go: with Nagle's algorithm on they lie 40 ms apart,
        # whatever the machine does. The least is what load can't blur.
        assert min(took) < 0.03


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_status_0(store: str, signum: signal.Signals) -> None:
    """Each line that it wrote is JSON; its port is free again."""
    async with serving(REDIS_URL=store) as server, aiohttp.ClientSession() as http:
        async with http.get(f"{server.url}/health") as response:
            assert response.status == 200
        said = await server.end(signum)
        assert server.process.returncode == 0, said
        for line in said.splitlines():
            assert json.loads(line)["component"] == "serve"
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((LOOPBACK, server.port))


async def test_a_signal_ends_it_although_redis_hangs_and_a_client_waits(store: str) -> None:
    """Requests under way are answered within the grace."""
    async with serving(REDIS_URL=store) as server, aiohttp.ClientSession() as http:
        with sync_redis.Redis.from_url(store) as client:
            client.client_pause(1000, all=True)
            asking = asyncio.create_task(http.get(f"{server.url}/get_report?symbol=BTCUSDT"))
            await asyncio.sleep(0)
            async with await asking as response:
                assert response.status == 503
        await server.end(signal.SIGTERM)
        assert server.process.returncode == 0


async def test_a_taken_port_is_a_clear_error_and_status_1(store: str) -> None:
    """Which one, and which setting says so."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        process = await commands.start("serve", REDIS_URL=store, NT_SERVE_PORT=str(port))
        out, err = await asyncio.wait_for(process.communicate(), START_S)
    assert (process.returncode, out) == (1, b"")
    last = err.decode().splitlines()[-1]
    assert last.startswith(f"ERROR: can't listen on {LOOPBACK} port {port}: ")
    assert "NT_SERVE_PORT" in last
    assert "Traceback" not in err.decode()


async def test_an_address_that_is_not_here_is_a_clear_error(store: str) -> None:
    """Not a traceback."""
    process = await commands.start(
        "serve",
        REDIS_URL=store,
        NT_SERVE_PORT="0",
        NT_BIND_HOST="203.0.113.1",
        NT_REQUIRE_KEYS="never",
    )
    _, err = await asyncio.wait_for(process.communicate(), START_S)
    assert process.returncode == 1
    assert "ERROR: can't listen on 203.0.113.1" in err.decode()
    assert "Traceback" not in err.decode()


async def test_it_listens_on_loopback_unless_told_otherwise(store: str) -> None:
    """Nobody else reaches it by default; NT_BIND_HOST is the one way to change that."""
    async with serving(REDIS_URL=store) as server:
        assert server.host == LOOPBACK
        assert listens(server.port)
        assert not listens(server.port, "127.0.0.2")
    async with serving(REDIS_URL=store, NT_BIND_HOST="127.0.0.2") as server:
        assert not listens(server.port)
        assert listens(server.port, "127.0.0.2")
    async with Redis.from_url(store) as redis:
        await issue(redis)  # without one it would not start there
    async with serving(REDIS_URL=store, NT_BIND_HOST="0.0.0.0") as server:
        assert listens(server.port)
        assert listens(server.port, "127.0.0.2")


async def test_it_starts_and_answers_while_there_is_no_redis() -> None:
    """Unhealthy, and well as soon as Redis is: a reader is no reason to restart anything."""
    with socket.create_server((LOOPBACK, 0)) as held:
        port = held.getsockname()[1]
    url = f"redis://{LOOPBACK}:{port}/0"
    async with serving(REDIS_URL=url) as server, aiohttp.ClientSession() as http:
        async with http.get(f"{server.url}/health") as response:
            assert response.status == 503
        async with http.get(f"{server.url}/get_report?symbol=BTCUSDT") as response:
            assert response.status == 503
            assert response.content_type == "application/problem+json"
