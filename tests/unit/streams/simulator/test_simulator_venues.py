"""Each dialect on a real socket, and what the control API says of faults and books."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed

from streams.simulator import SimulatedExchange, cli
from tapeline.errors import ConfigError
from tests.support.venue_client import (
    WAIT_S,
    Book,
    frames,
    get,
    kraken_book,
    ranked,
    rest_of,
    set_level,
    socket,
    until,
)


async def frozen_book(
    client: aiohttp.ClientSession, sim: SimulatedExchange, symbol: str
) -> dict[str, Any]:
    async with client.post(f"{sim.control_url}/freeze") as response:
        assert response.status == 200
    status, body = await get(client, f"{sim.control_url}/book", symbol=symbol)
    assert (status, body["frozen"], body["synthetic"]) == (200, True, True)
    return dict(body)


# --- Kraken ---


async def test_kraken_from_status_to_a_book_that_is_the_venues(
    client: aiohttp.ClientSession,
) -> None:
    async with (
        SimulatedExchange(["BTC/USD"], seed=7, venue="kraken") as sim,
        socket(f"{sim.stream_url}/v2") as ws,
    ):
        (status,) = await frames(ws, lambda got: got)
        assert status["channel"] == "status"
        for channel, more in (("book", {"depth": 25}), ("trade", {}), ("ticker", {}), ("ohlc", {})):
            params = {"channel": channel, "symbol": ["BTC/USD"], **more}
            await ws.send(json.dumps({"method": "subscribe", "params": params}))
        await ws.send('{"method":"subscribe","params":{"channel":"instrument"}}')
        await ws.send('{"method":"ping","req_id":1}')
        found = await frames(
            ws, lambda got: sum(f.get("channel") == "book" for f in got) > 15
            and {f.get("channel", f.get("method")) for f in got}
            >= {"subscribe", "pong", "trade", "ticker", "ohlc", "instrument", "heartbeat"}
        )  # fmt: skip
        own = await frozen_book(client, sim, "BTC/USD")
        found += await rest_of(ws)
        book, checksum = kraken_book(found, 25)
        assert checksum == own["checksum"]
        assert [[*level] for level in book["bids"].items()] == own["bids"][:25]
        assert [[*level] for level in book["asks"].items()] == own["asks"][:25]
        # Markets stand still, the socket lives.
        await frames(ws, lambda got: got and got[-1]["channel"] == "heartbeat")


# --- Coinbase ---


async def test_coinbase_from_the_first_number_to_a_book_that_is_the_venues(
    client: aiohttp.ClientSession,
) -> None:
    async with (
        SimulatedExchange(["BTC-USD", "ETH-USD"], seed=7, venue="coinbase") as sim,
        socket(sim.stream_url) as ws,
    ):
        for channel in ("heartbeats", "level2", "market_trades", "ticker", "candles"):
            asked = {"type": "subscribe", "channel": channel, "product_ids": ["BTC-USD", "ETH-USD"]}
            await ws.send(json.dumps(asked))
        found = await frames(
            ws, lambda got: sum(f["channel"] == "l2_data" for f in got) > 30
            and {f["channel"] for f in got} >= {"market_trades", "ticker", "candles", "heartbeats"}
        )  # fmt: skip
        own = await frozen_book(client, sim, "BTC-USD")
        found += await rest_of(ws)
        numbers = [frame["sequence_num"] for frame in found]
        assert numbers == [*range(len(numbers))]
        book: Book = {"bid": {}, "offer": {}}
        for frame in found:
            for event in frame["events"] if frame["channel"] == "l2_data" else ():
                if event["product_id"] == "BTC-USD":
                    for row in event["updates"]:
                        set_level(book[row["side"]], row["price_level"], row["new_quantity"])
        assert ranked(book["bid"], best_high=True) == own["bids"]
        assert ranked(book["offer"], best_high=False) == own["asks"]
        (session,) = sim.state()["sessions"]
        assert session["sequence_num"] >= numbers[-1]


async def test_coinbase_answers_products_and_their_books(client: aiohttp.ClientSession) -> None:
    async with SimulatedExchange(
        ["BTC-USD", "ETH-USD"], seed=7, venue="coinbase", weight_per_minute=7
    ) as sim:
        assert sim.rest_url.endswith("/api/v3/brokerage")
        root = f"{sim.rest_url}/market"
        async with client.get(
            f"{root}/products?product_ids=ETH-USD&product_ids=NO-USD"
        ) as response:
            assert (await response.json())["num_products"] == 1
        _, body = await get(client, f"{root}/products")
        assert body["num_products"] == 2
        product = body["products"][0]
        assert (product["product_id"], product["quote_increment"]) == ("BTC-USD", "0.01")
        assert (product["status"], product["synthetic"]) == ("online", True)
        _, one = await get(client, f"{root}/products/ETH-USD")
        assert one["product_id"] == "ETH-USD"
        _, book = await get(client, f"{root}/product_book", product_id="BTC-USD", limit="3")
        assert len(book["pricebook"]["bids"]) == len(book["pricebook"]["asks"]) == 3
        assert set(book) == {"pricebook", "last", "mid_market", "spread_bps", "spread_absolute"}
        status, body = await get(client, f"{root}/product_book", product_id="NO-USD")
        assert (status, body["error"]) == (404, "NOT_FOUND")
        status, _ = await get(client, f"{root}/product_book", product_id="BTC-USD", limit="x")
        assert status == 400
        await get(client, f"{root}/products")
        async with client.get(f"{root}/products") as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "60")


async def test_coinbase_closes_who_asks_for_nothing() -> None:
    now = [1_700_000_000_000]
    async with (
        SimulatedExchange(["BTC-USD"], seed=1, venue="coinbase", clock_ms=lambda: now[0]) as sim,
        socket(sim.stream_url) as ws,
    ):
        await until(lambda: sim.sessions)
        now[0] += 5001
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(ws.recv(), WAIT_S)
    assert sim.counts["overdue"] == 1


# --- Binance ---


async def test_binance_streams_come_and_go_on_a_live_socket_to_the_venues_book(
    client: aiohttp.ClientSession,
) -> None:
    async with (
        SimulatedExchange(["BTCUSDT", "ETHUSDT"], seed=7) as sim,
        socket(f"{sim.stream_url}/stream?streams=ethusdt@trade") as ws,
    ):
        await ws.send('{"method":"SUBSCRIBE","params":["btcusdt@depth@100ms"],"id":1}')
        found = await frames(ws, lambda got: sum("stream" in f for f in got) > 3)
        assert {"result": None, "id": 1} in found
        await ws.send('{"method":"UNSUBSCRIBE","params":["ethusdt@trade"],"id":2}')
        found += await frames(ws, lambda got: {"result": None, "id": 2} in got)
        _, start = await get(client, f"{sim.rest_url}/api/v3/depth", symbol="BTCUSDT", limit="5000")
        found += await frames(ws, lambda got: len(got) > 5)
        own = await frozen_book(client, sim, "BTCUSDT")
        found += (late := await rest_of(ws))
        assert {frame["stream"] for frame in late} <= {"btcusdt@depth@100ms"}
    book = {"b": dict(start["bids"]), "a": dict(start["asks"])}
    last = start["lastUpdateId"]
    for frame in found:
        if frame.get("stream") == "btcusdt@depth@100ms" and frame["data"]["u"] > last:
            assert frame["data"]["U"] <= last + 1
            last = frame["data"]["u"]
            for side in ("b", "a"):
                for price, size in frame["data"][side]:
                    set_level(book[side], price, size)
    assert last == own["version"]
    assert ranked(book["b"], best_high=True) == own["bids"]
    assert ranked(book["a"], best_high=False) == own["asks"]


# --- the control API and the command ---


@pytest.mark.parametrize(
    "body", ["nonsense", "[]", '{"rule":1}', '{"rule":"explode"}', '{"rule":"drop:NOUSDT"}']
)
async def test_a_bad_rule_is_answered_with_what_was_expected(
    client: aiohttp.ClientSession, body: str
) -> None:
    async with (
        SimulatedExchange(["BTCUSDT"], seed=7) as sim,
        client.post(f"{sim.control_url}/faults", data=body) as response,
    ):
        assert response.status == 400
        assert "expected" in (await response.json())["error"]


async def test_rules_are_listed_ended_and_a_book_needs_a_symbol(
    client: aiohttp.ClientSession,
) -> None:
    async with SimulatedExchange(["BTCUSDT"], seed=7) as sim:
        async with client.post(
            f"{sim.control_url}/faults", json={"rule": "drop%0.5:BTCUSDT"}
        ) as response:
            assert (await response.json()) == {"added": ["drop%0.5:BTCUSDT"]}
        _, state = await get(client, f"{sim.control_url}/state")
        assert state["faults"]["rules"] == ["drop%0.5:BTCUSDT"]
        async with client.delete(f"{sim.control_url}/faults") as response:
            assert (await response.json())["rules"] == []
        status, body = await get(client, f"{sim.control_url}/book", symbol="NO")
        assert (status, body["error"]) == (404, "expected symbol= out of BTCUSDT")


async def test_a_thawed_market_goes_on_where_it_stood() -> None:
    now = [1_700_000_000_000]
    sim = SimulatedExchange(["BTCUSDT"], seed=1, clock_ms=lambda: now[0])
    feed = sim.exchange.feeds["BTCUSDT"]
    now[0] += 550
    sim.advance()
    assert sim.freeze() == sim.freeze() == 1_700_000_000_600
    assert feed.version == feed.market.book.update_id
    version = feed.version
    now[0] += 60_000
    sim.advance()
    assert (feed.version, sim.frozen) == (version, True)
    sim.thaw()
    sim.advance()
    assert feed.version == version
    now[0] += 200
    sim.advance()
    assert feed.version > version
    assert sim.exchange.now_ms == 1_700_000_000_800


def test_symbols_name_their_venues() -> None:
    assert cli.venues_of("kraken:BTC/USD, ETHUSDT,coinbase:BTC-USD,kraken:ETH/USD", "binance") == {
        "kraken": ["BTC/USD", "ETH/USD"],
        "binance": ["ETHUSDT"],
        "coinbase": ["BTC-USD"],
    }
    with pytest.raises(ConfigError, match="a venue out of"):
        cli.venues_of("mtgox:BTCUSD", "binance")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--fault", "drop at noon"], "NAME"),
        (["--fault", "checksum"], "simulated: binance"),
        (["--symbols", "kraken:BTC/USD", "--fault", "drop:ETH/USD"], "a symbol out of BTC/USD"),
        (["--symbols", "kraken:BTCUSD"], "BTC/USD"),
        (["--symbols", "kraken:BTC/USD", "--episode", "wall:ETH/USD"], "one of BTC/USD"),
    ],
)
def test_a_bad_option_ends_with_status_2(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    assert said in capsys.readouterr().err


async def test_the_command_serves_each_venue_on_its_port(
    client: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--symbols", "BTCUSDT,kraken:BTC/USD,coinbase:BTC-USD", "--fault", "all%0.001"]
    running = asyncio.create_task(cli.serve(cli.parser().parse_args(options)))
    out = ""

    def printed() -> str:
        nonlocal out
        out += capsys.readouterr().out
        return out

    try:
        await until(printed)
        urls = json.loads(out)
        assert urls["stream_url"] == urls["venues"]["binance"]["stream_url"]
        assert len({venue["rest_url"] for venue in urls["venues"].values()}) == 3
        for venue, place in urls["venues"].items():
            _, state = await get(client, f"{place['control_url']}/state")
            assert state["venue"] == venue
            assert state["faults"]["rules"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
