"""``/ticks/realtime``: what is stored, and what follows from it."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from serving.app import create_api
from serving.models import TickAnswer
from serving.ticks import top_of_book
from tables.report import LastTrade, Tick, decode_report, encode_tick
from tapeline.config import load_settings
from tests.support.asgi_client import Client
from tests.support.reports import stored


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def tick(**more: Any) -> bytes:
    """A tick of BTCUSDT, as a worker writes it."""
    whole = Tick(
        symbol="BTCUSDT",
        venue="binance",
        writer_token=7,
        seq=3,
        offset=99,
        ts_recv_ms=now_ms() - 100,
        last_trade=LastTrade(100.5, 0.25, "buy", 12, 1_000, 1_001),
        quote=None,
        book="ok",
        bids=[(100.0, 3.0), (99.0, 5.0)],
        asks=[(101.0, 1.0)],
        synthetic=False,
    )
    return encode_tick(msgspec.structs.replace(whole, **more))


@pytest.fixture
def client(redis: Redis) -> Client:
    return Client(create_api(load_settings({}), redis))


async def read(client: Client, redis: Redis, payload: bytes) -> dict[str, Any]:
    """What is answered with ``payload`` stored."""
    await redis.set("tick:BTCUSDT", payload)
    answer = await client.get("/ticks/realtime", "symbol=BTCUSDT")
    assert answer.status == 200, answer.body
    TickAnswer.model_validate_json(answer.body)
    body: dict[str, Any] = answer.json()
    return body


async def test_a_tick_is_enriched_with_what_follows_from_it(client: Client, redis: Redis) -> None:
    """Spread, mid, micro price and imbalance of the top; flow of the report."""
    report = stored(token=7, seq=8, now_ms=now_ms(), data_age_ms=40)
    await redis.set("report:BTCUSDT", report)
    body = await read(client, redis, tick())
    assert (body["token"], body["seq"], body["offset"]) == (7, 3, 99)
    assert body["last_trade"] == {
        "price": 100.5, "qty": 0.25, "side": "buy", "trade_id": 12,
        "ts_event_ms": 1000, "ts_recv_ms": 1001,
    }  # fmt: skip
    assert body["best_bid"] == {"price": 100.0, "qty": 3.0}
    assert body["best_ask"] == {"price": 101.0, "qty": 1.0}
    assert (body["spread"], body["mid_price"]) == (1.0, 100.5)
    assert body["spread_bps"] == pytest.approx(1 / 100.5 * 10_000)
    assert body["micro_price"] == pytest.approx((100 * 1 + 101 * 3) / 4)
    assert body["imbalance"] == 0.5
    assert body["flow"]["net_flow"] == decode_report(report).flow.net_flow
    assert (body["flow"]["token"], body["flow"]["seq"]) == (7, 8)
    assert 100 <= body["read"]["age_ms"] < 2000
    assert body["read"]["stale"] is False
    assert "bids" not in body, "the book's depth has a channel of its own"


async def test_the_venue_s_quote_goes_before_the_book(client: Client, redis: Redis) -> None:
    """It is there when it is ahead."""
    body = await read(client, redis, tick(quote=((100.5, 1.0), (100.75, 1.0))))
    assert (body["best_bid"]["price"], body["spread"]) == (100.5, 0.25)


async def test_without_a_book_there_is_nothing_to_follow(client: Client, redis: Redis) -> None:
    body = await read(client, redis, tick(bids=[], asks=[], book="none", last_trade=None))
    for name in ("best_bid", "best_ask", "spread", "mid_price", "imbalance", "last_trade", "flow"):
        assert body[name] is None, name
    one_sided = await read(client, redis, tick(asks=[], seq=4))
    assert one_sided["best_bid"] == {"price": 100.0, "qty": 3.0}
    assert one_sided["micro_price"] is None


async def test_a_quiet_market_is_not_stale_while_its_report_is_not(
    client: Client, redis: Redis
) -> None:
    """A tick is written when something changes; that the feed lives, the report says."""
    old = tick(ts_recv_ms=now_ms() - 60_000)
    assert (await read(client, redis, old))["read"]["stale"] is True
    await redis.set("report:BTCUSDT", stored(now_ms=now_ms(), data_age_ms=40))
    body = await read(client, redis, old)
    assert body["read"]["stale"] is False
    assert body["read"]["age_ms"] >= 60_000
    assert body["read"]["data_age_ms"] < 2000
    await redis.set("report:BTCUSDT", stored(now_ms=now_ms() - 5000, seq=2))
    assert (await read(client, redis, tick(seq=4)))["read"]["stale"] is True


@pytest.mark.parametrize("report", [b"{}", stored(token=1, seq=1), b'{"flow":1}'])
async def test_a_report_that_can_not_be_used_leaves_the_tick_as_it_is(
    client: Client, redis: Redis, report: bytes
) -> None:
    """One that steps back, too."""
    await redis.set("report:BTCUSDT", stored(token=9, seq=1))
    await client.report("BTCUSDT")
    await redis.set("report:BTCUSDT", report)
    body = await read(client, redis, tick())
    assert (body["flow"], body["read"]["data_age_ms"]) == (None, None)
    assert body["read"]["stale"] is False


async def test_ticks_never_step_back(client: Client, redis: Redis) -> None:
    """By their own order."""
    assert (await read(client, redis, tick(seq=5)))["seq"] == 5
    await redis.set("tick:BTCUSDT", tick(seq=4))
    assert (await client.get("/ticks/realtime", "symbol=BTCUSDT")).body == b"null"
    assert (await read(client, redis, tick(writer_token=8, seq=1)))["token"] == 8


async def test_no_tick_is_null_and_what_is_none_is_a_problem(client: Client, redis: Redis) -> None:
    assert (await client.get("/ticks/realtime", "symbol=BTCUSDT")).body == b"null"
    await redis.set("tick:BTCUSDT", b'{"symbol":"BTCUSDT"}')
    answer = await client.get("/ticks/realtime", "symbol=BTCUSDT")
    assert (answer.status, answer.json()["type"]) == (502, "/problems/unreadable-report")
    for query in ("symbol=btc", ""):
        answer = await client.get("/ticks/realtime", query)
        assert answer.json()["type"] == "/problems/malformed-symbol"


figure = st.just(0.0) | st.floats(1e-12, 1e9)
level = st.tuples(figure, figure)


@given(bid=level, ask=level)
def test_figures_of_the_top_are_in_their_ranges(
    bid: tuple[float, float], ask: tuple[float, float]
) -> None:
    """Whatever the levels: null rather than an error or an infinity."""
    found = top_of_book(bid, ask)
    if found["imbalance"] is not None:
        assert -1 <= found["imbalance"] <= 1
    if found["micro_price"] is not None:
        low, high = sorted((bid[0], ask[0]))
        assert low * (1 - 1e-9) <= found["micro_price"] <= high * (1 + 1e-9)
    assert all(value is None or abs(value) < 1e300 for value in found.values())


def test_a_spread_has_no_digits_that_its_prices_lack() -> None:
    assert top_of_book((0.1, 1), (0.3, 1))["spread"] == 0.2
