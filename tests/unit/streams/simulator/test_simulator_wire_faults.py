"""Faults on real sockets: what a client sees, and that the venue tells of each."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage

from streams.simulator import SimulatedExchange
from tests.support.venue_client import WAIT_S, frames, get, kraken_book, rest_of, socket, until

ABNORMAL = 1006
"""RFC 6455, 7.4.1: the connection ended without a closing handshake."""


async def test_injected_faults_are_what_a_client_sees(client: aiohttp.ClientSession) -> None:
    """Holes in the sequence are as many as the frames that the venue says it lost."""
    async with (
        SimulatedExchange(
            ["BTC-USD"], seed=7, venue="coinbase", faults=["drop%0.1", "hole%0.1", "kraken=drop%1"]
        ) as sim,
        socket(sim.stream_url) as ws,
    ):
        for channel in ("heartbeats", "market_trades", "level2"):
            asked = {"type": "subscribe", "channel": channel, "product_ids": ["BTC-USD"]}
            await ws.send(json.dumps(asked))
        found = await frames(ws, lambda got: len(got) > 60)
        async with client.post(f"{sim.control_url}/freeze"):
            found += await rest_of(ws)
        # A last heartbeat, so that a hole at the end would be seen.
        found += await frames(ws, lambda got: got)
        _, state = await get(client, f"{sim.control_url}/state")
    numbers = [frame["sequence_num"] for frame in found]
    missing = sum(b - a - 1 for a, b in pairwise(numbers)) + numbers[0]
    totals = state["faults"]["totals"]
    assert missing == totals["drop"] + totals["hole"] > 2
    assert set(state["faults"]["counts"]["drop"]) == {"BTC-USD"}
    assert len(state["faults"]["log"]) == missing


async def test_a_silent_socket_stays_open_and_answers_pings() -> None:
    async with (
        SimulatedExchange(["BTC/USD"], seed=7, venue="kraken") as sim,
        socket(f"{sim.stream_url}/v2") as ws,
    ):
        await ws.send('{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"]}}')
        await frames(ws, lambda got: len(got) > 4)
        sim.add_faults("silent@0,seconds=1.5")
        await until(lambda: sim.faults.silenced)
        await rest_of(ws, 0.2)
        await asyncio.wait_for(await ws.ping(), WAIT_S)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.recv(), 0.5)
        found = await frames(ws, lambda got: any(f.get("channel") == "book" for f in got))
        assert found
        with pytest.raises(AssertionError):
            kraken_book(found, 10)


async def test_a_half_open_connection_answers_nothing_and_is_reset_at_last() -> None:
    async with (
        SimulatedExchange(["BTC/USD"], seed=7, venue="kraken") as sim,
        socket(f"{sim.stream_url}/v2") as ws,
    ):
        await ws.send('{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"]}}')
        await frames(ws, lambda got: len(got) > 4)
        sim.add_faults("half_open@0,seconds=1.5")
        await until(lambda: sim.faults.silenced)
        await rest_of(ws, 0.2)
        pong = await ws.ping()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(pong), 0.5)
        assert len(sim.sessions) == 1
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(ws.recv(), WAIT_S)
        await asyncio.gather(pong, return_exceptions=True)
        await until(lambda: sim.counts["half_open"] == 1)


async def test_a_goodbye_on_a_half_open_connection_is_not_answered() -> None:
    async with SimulatedExchange(["BTC/USD"], seed=7, venue="kraken") as sim:
        async with socket(f"{sim.stream_url}/v2") as ws:
            await ws.send('{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"]}}')
            sim.add_faults("half_open@0,seconds=30")
            await until(lambda: sim.faults.silenced)
            await ws.close()
            assert ws.close_code == ABNORMAL
        assert len(sim.sessions) == 1


async def test_a_restart_closes_all_sockets_and_numbers_anew(
    client: aiohttp.ClientSession,
) -> None:
    async with SimulatedExchange(["BTCUSDT"], seed=7) as sim:
        url = f"{sim.stream_url}/stream?streams=btcusdt@depth@100ms/btcusdt@trade"
        async with socket(url) as ws, socket(url) as other:
            await until(lambda: len(sim.sessions) == 2)
            before = (await frames(ws, lambda got: any("depth" in f["stream"] for f in got)))[-1]
            async with client.post(
                f"{sim.control_url}/faults", json={"rule": "restart@0"}
            ) as response:
                assert response.status == 201
            for each in (ws, other):
                with pytest.raises(ConnectionClosed):
                    await asyncio.wait_for(drained(each), WAIT_S)
        async with socket(url) as ws:
            after = (await frames(ws, lambda got: any("depth" in f["stream"] for f in got)))[-1]
        assert after["data"]["U"] < 10**6 < before["data"]["U"]
        _, body = await get(client, f"{sim.rest_url}/api/v3/depth", symbol="BTCUSDT")
        assert after["data"]["U"] <= body["lastUpdateId"] < 10**7
        assert sim.state()["faults"]["totals"] == {"restart": 1}


async def drained(ws: ClientConnection) -> None:
    while True:
        await ws.recv()


async def test_refused_connections_are_refused_and_the_control_api_is_not(
    client: aiohttp.ClientSession,
) -> None:
    async with SimulatedExchange(["BTCUSDT"], seed=7) as sim:
        async with socket(f"{sim.stream_url}/stream?streams=btcusdt@trade") as ws:
            sim.add_faults("refuse_connections@0,seconds=0.8")
            await frames(ws, lambda got: got)
            with pytest.raises((InvalidMessage, OSError, ConnectionClosed)):
                await connect(f"{sim.stream_url}/stream", open_timeout=WAIT_S)
            with pytest.raises(aiohttp.ClientError):
                await get(client, f"{sim.rest_url}/api/v3/time")
            _, state = await get(client, f"{sim.control_url}/state")
            assert state["connections"]["refused"] >= 2
            # Who is in stays in.
            await frames(ws, lambda got: got)
        await until(lambda: sim.now_ms() >= sim.faults.refuse_until_ms)
        assert (await get(client, f"{sim.rest_url}/api/v3/time"))[0] == 200


async def test_rest_faults_limit_ban_and_an_old_book(client: aiohttp.ClientSession) -> None:
    async with SimulatedExchange(
        ["BTCUSDT"],
        seed=7,
        faults=["old_snapshot#2:BTCUSDT:depth", "limit#3", "ban#4,retry_after=7"],
    ) as sim:
        url = f"{sim.rest_url}/api/v3/depth"
        first = await get(client, url, symbol="BTCUSDT")
        start = sim.exchange.feeds["BTCUSDT"].version
        await until(lambda: sim.exchange.feeds["BTCUSDT"].version > start)
        status, old = await get(client, url, symbol="BTCUSDT")
        assert (status, first[0]) == (200, 200)
        assert old["lastUpdateId"] < sim.exchange.feeds["BTCUSDT"].version
        assert old["lastUpdateId"] <= first[1]["lastUpdateId"]
        async with client.get(url, params={"symbol": "BTCUSDT"}) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "1")
            assert (await response.json())["code"] == -1003
        limited_ms = sim.faults.log[-1].ts_ms
        await until(lambda: sim.now_ms() >= limited_ms + 1000)
        async with client.get(url, params={"symbol": "BTCUSDT"}) as response:
            assert (response.status, response.headers["Retry-After"]) == (418, "7")
        assert sim.state()["faults"]["counts"] == {
            "old_snapshot": {"BTCUSDT": {"depth": 1}},
            "limit": {"BTCUSDT": {"depth": 1}},
            "ban": {"BTCUSDT": {"depth": 1}},
        }


@pytest.mark.parametrize(
    ("venue", "symbol", "said"), [("kraken", "BTC/USD", "maintenance"), ("coinbase", "BTC-USD", "")]
)
async def test_episodes_of_the_venue_speak_its_dialect(venue: str, symbol: str, said: str) -> None:
    async with (
        SimulatedExchange([symbol], seed=7, venue=venue) as sim,
        socket(sim.stream_url + ("/v2" if venue == "kraken" else "")) as ws,
    ):
        await until(lambda: sim.sessions)
        sim.start_episode("garbage", symbol)
        sim.start_episode("shutdown", in_s=0.1, seconds=0.1)
        async with asyncio.timeout(WAIT_S):
            texts = [str(text) async for text in ws]
        broken = [text for text in texts if not text.endswith("}")]
        assert len(broken) == 1
        assert symbol in broken[0]
        assert said in "".join(texts)
