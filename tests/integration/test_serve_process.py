"""``tapeline serve`` as a process, on a real Redis."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
import redis as sync_redis

from tests.support import commands
from tests.support.reports import stored

pytestmark = [pytest.mark.redis, pytest.mark.e2e, pytest.mark.slow]

LOOPBACK = "127.0.0.1"
START_S = 30.0
REQUESTS = 1000
CLIENTS = (1, 4)


@dataclass
class Serving:
    """A reader that listens."""

    process: asyncio.subprocess.Process
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def end(self, signum: signal.Signals) -> str:
        """What it still said after the signal."""
        self.process.send_signal(signum)
        _, err = await asyncio.wait_for(self.process.communicate(), 15)
        return err.decode()


@asynccontextmanager
async def serving(**variables: str) -> AsyncIterator[Serving]:
    process = await commands.start("serve", **{"NT_SERVE_PORT": "0", **variables})
    try:
        yield await asyncio.wait_for(_listening(process), START_S)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _listening(process: asyncio.subprocess.Process) -> Serving:
    """From its log: where it listens, and that it does."""
    assert process.stderr is not None
    where: tuple[str, int] | None = None
    async for line in process.stderr:
        said = json.loads(line)
        if said["event"] == "serve.starting":
            where = said["host"], said["port"]
        if said["event"].startswith("Application startup complete"):
            assert where is not None
            return Serving(process, *where)
    raise AssertionError("it ended")


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
        "serve", REDIS_URL=store, NT_SERVE_PORT="0", NT_BIND_HOST="203.0.113.1"
    )
    _, err = await asyncio.wait_for(process.communicate(), START_S)
    assert process.returncode == 1
    assert "ERROR: can't listen on 203.0.113.1" in err.decode()
    assert "Traceback" not in err.decode()


async def test_it_listens_on_loopback_unless_told_otherwise(store: str) -> None:
    """Nobody else reaches it by default; NT_BIND_HOST is the one way to change that."""
    async with serving(REDIS_URL=store) as server:
        assert server.host == LOOPBACK
        assert _listens("127.0.0.1", server.port)
        assert not _listens("127.0.0.2", server.port)
    async with serving(REDIS_URL=store, NT_BIND_HOST="127.0.0.2") as server:
        assert not _listens("127.0.0.1", server.port)
        assert _listens("127.0.0.2", server.port)
    async with serving(REDIS_URL=store, NT_BIND_HOST="0.0.0.0") as server:
        assert _listens("127.0.0.1", server.port)
        assert _listens("127.0.0.2", server.port)


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


def _listens(host: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex((host, port)) == 0
