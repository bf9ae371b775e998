"""The doctor's checks of venues, on servers that are there, refuse, tell a wrong time or are not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from streams.simulator import SimulatedExchange
from tapeline.config import Settings, load_settings
from tapeline.doctor import venues
from tapeline.doctor.model import Result, Status, run
from tests.support.worker import free_port

VENUES = {"binance": "binance:BTCUSDT", "coinbase": "coinbase:BTC-USD>BTCUSD"}


@asynccontextmanager
async def venue(status: int = 101, ahead_ms: float = 0, hangs: bool = False) -> AsyncIterator[str]:
    """A venue at this address, without its scheme."""

    over = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        if hangs:
            await over.wait()
            return web.Response()
        if status != 101:
            return web.Response(status=status)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    async def now(request: web.Request) -> web.Response:
        if status != 101:
            return web.Response(status=status)
        ms = round(time.time() * 1000 + ahead_ms)
        binance = request.path.endswith("/api/v3/time")
        return web.json_response({"serverTime": ms} if binance else {"epochMillis": str(ms)})

    app = web.Application()
    app.router.add_get("/api/v3/time", now)
    app.router.add_get("/time", now)
    app.router.add_get("/{path:.*}", stream)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        over.set()
        await runner.cleanup()


def settings(name: str, address: str) -> Settings:
    return load_settings(
        {
            "SYMBOLS": VENUES[name],
            f"NT_{name.upper()}_STREAM_URL": f"ws://{address}",
            f"NT_{name.upper()}_REST_URL": f"http://{address}",
        }
    )


async def looked(made: Settings) -> dict[str, Result]:
    return {result.name: result for result in await run(venues.checks(made))}


@pytest.mark.parametrize("name", VENUES)
async def test_a_venue_that_is_there(name: str) -> None:
    async with venue() as address:
        results = await looked(settings(name, address))
    assert set(results) == {f"venues.{name}", f"clock.{name}"}
    assert {result.finding.status for result in results.values()} == {Status.OK}, results


@pytest.mark.parametrize("name", VENUES)
async def test_a_clock_that_is_off(name: str) -> None:
    async with venue(ahead_ms=-3000) as address:
        found = (await looked(settings(name, address)))[f"clock.{name}"].finding
    assert found.status is Status.FAIL
    assert "behind" in found.found
    assert "set-ntp" in found.fix


@pytest.mark.parametrize("status", [451, 403, 500])
async def test_a_venue_that_refuses_this_address(status: int) -> None:
    async with venue(status) as address:
        results = await looked(settings("binance", address))
    found = results["venues.binance"].finding
    assert found.status is Status.FAIL
    assert str(status) in found.found
    assert "NT_BINANCE_STREAM_URL" in found.fix
    assert results["clock.binance"].finding.status is Status.SKIP


async def test_no_way_there_is_a_warning() -> None:
    """Workers and readers need none; a bridge says so by itself."""
    results = await looked(settings("binance", f"127.0.0.1:{free_port()}"))
    found = results["venues.binance"].finding
    assert found.status is Status.WARN
    assert "only bridges" in found.fix
    assert results["clock.binance"].finding.status is Status.SKIP


@pytest.mark.slow
async def test_one_that_says_nothing_ends_in_time() -> None:
    began_s = time.monotonic()
    async with venue(hangs=True) as address:
        found = (await looked(settings("binance", address)))["venues.binance"].finding
        assert time.monotonic() - began_s < 5
    assert found.status in (Status.WARN, Status.FAIL)


async def test_the_simulated_exchange_is_a_venue() -> None:
    """Its clock, too."""
    async with SimulatedExchange(("BTCUSDT",), seed=1) as sim:
        made = load_settings(
            {
                "SYMBOLS": "binance:BTCUSDT",
                "NT_BINANCE_STREAM_URL": sim.stream_url,
                "NT_BINANCE_REST_URL": sim.rest_url,
            }
        )
        results = await looked(made)
    assert {result.finding.status for result in results.values()} == {Status.OK}


@pytest.mark.parametrize(
    ("name", "body", "ms"),
    [
        ("binance", {"serverTime": 1499827319559}, 1499827319559),
        (
            "coinbase",
            {"iso": "2026-01-01T00:00:00Z", "epochSeconds": "1", "epochMillis": "1234"},
            1234,
        ),
        (
            "kraken",
            {"error": [], "result": {"unixtime": 1616336594, "rfc1123": "x"}},
            1616336594500,
        ),
    ],
)
def test_each_venue_s_time_is_read(name: str, body: Any, ms: float) -> None:
    assert venues.PLACES[name].time_ms(body) == ms


async def test_venues_are_those_of_the_symbols() -> None:
    every = load_settings({"SYMBOLS": "binance:BTCUSDT,kraken:BTC/USD>BTCUSD,binance:ETHUSDT"})
    names = [check.name for check in venues.checks(every)]
    assert names == ["venues.binance", "clock.binance", "venues.kraken", "clock.kraken"]
    for none in ("", "nasdaq:AAPL"):
        (result,) = await run(venues.checks(load_settings({"SYMBOLS": none})))
        assert (result.name, result.finding.status) == ("venues", Status.SKIP)
    moved = load_settings({"SYMBOLS": "kraken:BTC/USD>BTCUSD", "NT_KRAKEN_STREAM_URL": "ws://x:1"})
    assert (await venues.look_at_clock(moved, "kraken")).status is Status.SKIP
