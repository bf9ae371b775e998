"""Kraken's words for what the market does: digits, checksums, depths, acks."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.simulator.dialect import Frame, Message
from streams.simulator.dialect_kraken import DEPTHS, KrakenFeed, digits
from streams.simulator.exchange import Exchange
from streams.simulator.flow import LevelChanges
from streams.simulator.resting import Side
from streams.simulator.talk_kraken import KrakenTalk
from tapeline.errors import ConfigError
from tests.support.data import recording
from tests.support.wire import Number, read, received, traits

START_MS = 1_700_000_012_345
BOOK = "kraken/trading-system/kraken_v2_btcusd_d10_20260719T1754.jsonl.gz"
SAMPLES = "kraken/samples/kraken-async-rs/frames.jsonl"
Sides = dict[str, dict[str, str]]


class Client:
    """One connection without a socket: what it asked for arrives, in order.

    Attributes:
        frames: All that it got.
    """

    def __init__(self, *symbols: str, seed: int = 7, rate: float = 300.0) -> None:
        self.exchange = Exchange(
            symbols or ["BTC/USD"], seed=seed, start_ms=START_MS, rate=rate, venue="kraken"
        )
        self.now_ms = START_MS
        feeds: dict[str, Any] = self.exchange.feeds
        self.talk = KrakenTalk(feeds, 12393906104898154338)
        self.frames: list[Frame] = self.talk.opened(START_MS)

    def feed(self, symbol: str = "BTC/USD") -> KrakenFeed:
        feed = self.exchange.feeds[symbol]
        assert isinstance(feed, KrakenFeed)
        return feed

    def ask(self, method: str, **params: object) -> list[Any]:
        """The answers to a request."""
        body = {"method": method, "params": params, "req_id": 3}
        found = self.talk.received(json.dumps(body), self.now_ms)
        self.frames += found
        return [json.loads(frame.text) for frame in found]

    def run(self, ms: int, step_ms: int = 100) -> list[Frame]:
        """What comes in the next ms."""
        found: list[Frame] = []
        for now_ms in range(self.now_ms + step_ms, self.now_ms + ms + 1, step_ms):
            for item in self.exchange.step(now_ms):
                if isinstance(item, Message) and item.stream in self.talk.streams:
                    found += self.talk.frames(item)
            found += self.talk.beat(now_ms)
            self.now_ms = now_ms
        self.frames += found
        return found

    def of(self, channel: str) -> list[Any]:
        """Data frames of a channel, numbers as printed."""
        bodies = [read(frame.text) for frame in self.frames]
        return [body for body in bodies if body.get("channel") == channel]


def apply(book: Sides, row: dict[str, Any], depth: int) -> None:
    """As a client does: set or delete, then keep the best of each side."""
    for side in ("bids", "asks"):
        levels = book[side]
        for level in row[side]:
            if Decimal(level["qty"]):
                levels[level["price"]] = level["qty"]
            else:
                levels.pop(level["price"], None)
        best = sorted(levels, key=Decimal, reverse=side == "bids")
        book[side] = {price: levels[price] for price in best[:depth]}


def crc(book: Sides) -> int:
    """By the venue's description, from what was printed."""
    text = ""
    for side in ("asks", "bids"):
        for price, qty in list(book[side].items())[:10]:
            text += price.replace(".", "").lstrip("0") + qty.replace(".", "").lstrip("0")
    return zlib.crc32(text.encode())


def follow(client: Client, depth: int, check: Callable[[Sides], None] | None = None) -> int:
    """Rebuild the book out of all frames, compare each checksum; how many there were."""
    book: Sides = {"bids": {}, "asks": {}}
    count = 0
    for body in client.of("book"):
        (row,) = body["data"]
        if body["type"] == "snapshot":
            book = {"bids": {}, "asks": {}}
        apply(book, row, depth)
        assert crc(book) == row["checksum"], (count, body)
        count += 1
    if check is not None:
        check(book)
    return count


# --- the book ---


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    depth=st.sampled_from(DEPTHS),
    before=st.integers(0, 15),
    script=st.sampled_from(["", "flash_crash", "wall", "vacuum"]),
)
def test_a_client_of_any_depth_has_the_best_levels_and_every_checksum(
    seed: int, depth: int, before: int, script: str
) -> None:
    client = Client(seed=seed)
    if script:
        client.exchange.start(script, "BTC/USD", at_ms=START_MS + 1000)
    client.run(before * 100)
    client.ask("subscribe", channel="book", symbol=["BTC/USD"], depth=depth)
    client.run(2500)

    def same(book: Sides) -> None:
        own = client.feed().whole()
        for side in ("bids", "asks"):
            assert [[*level] for level in book[side].items()] == own[side][:depth]

    assert follow(client, depth, same) > 15


def test_each_depth_has_its_own_updates() -> None:
    client = Client()
    other = KrakenTalk({"BTC/USD": client.feed()}, 1)
    client.ask("subscribe", channel="book", symbol=["BTC/USD"], depth=10)
    text = '{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":1000}}'
    other.received(text, START_MS)
    found = client.exchange.step(START_MS + 3000)
    deep = [m for m in found if isinstance(m, Message) and m.stream in other.streams]
    shallow = [m for m in found if isinstance(m, Message) and m.stream in client.talk.streams]
    assert len(json.loads(deep[0].data)["data"][0]["bids"]) >= 1
    assert sum(len(m.data) for m in deep) > 1.5 * sum(len(m.data) for m in shallow)


def test_a_level_that_comes_back_within_the_depth_is_told_again() -> None:
    """The client has dropped it, and nothing about it has changed since."""
    client = Client()
    feed = client.feed()
    client.ask("subscribe", channel="book", symbol=["BTC/USD"], depth=10)
    levels = feed.book[0].highest(11)
    out: list[Message] = []
    changed = LevelChanges(feed.version + 1, feed.version + 1, [(levels[0][0], 0)], [])
    feed.on_grid(START_MS + 100, changed, out)
    (row,) = read(out[0].data)["data"]
    assert [level["price"] for level in row["bids"]] == [
        feed.px(levels[0][0]),
        feed.px(levels[10][0]),
    ]
    assert row["bids"][1]["qty"] == feed.sz(levels[10][1])
    client.frames += client.talk.frames(out[0])
    assert follow(client, 10) == 2


def test_a_swallowed_update_breaks_the_checksum() -> None:
    client = Client()
    client.ask("subscribe", channel="book", symbol=["BTC/USD"])
    client.run(500)
    client.exchange.start("gap", "BTC/USD")
    client.run(500)
    assert client.feed().swallowed == 1
    with pytest.raises(AssertionError):
        follow(client, 10)


# --- as the venue prints ---


def test_book_frames_are_made_like_the_recorded_ones() -> None:
    real: set[tuple[str, object]] = set()
    for text in received(recording(BOOK)):
        body = read(text)
        real |= {(f"{body.get('channel', body.get('method'))}/{body.get('type')}{p}", t)
                 for p, t in traits(body)}  # fmt: skip
    client = Client()
    body = {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"]}}
    client.frames += client.talk.received(json.dumps(body), START_MS)
    client.run(5000)
    ours = set()
    for frame in client.frames:
        body = read(frame.text)
        ours |= {(f"{body.get('channel', body.get('method'))}/{body.get('type')}{p}", t)
                 for p, t in traits(body)}  # fmt: skip
    # The recording's connection id was made unreadable.
    ours.discard(("status/update.data[].connection_id", "int"))
    assert ours - real == set()
    assert {path.partition("/")[0] for path, _ in ours} == {
        "status", "subscribe", "heartbeat", "book",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("channel", "symbol", "params"),
    [
        ("trade", "BTC/USD", {}),
        ("ticker", "BTC/USD", {"event_trigger": "trades"}),
        ("ticker", "BTC/USD", {"event_trigger": "bbo"}),
        ("ohlc", "ETH/USD", {"interval": 1}),
    ],
)
def test_other_frames_are_made_like_the_samples(
    channel: str, symbol: str, params: dict[str, object]
) -> None:
    samples = [read(line) for line in recording(SAMPLES).read_text().splitlines()]
    real = set().union(*(traits(body) for body in samples if body.get("channel") == channel))
    client = Client(symbol)
    ack, snapshot = client.ask("subscribe", channel=channel, symbol=[symbol], **params)
    assert ack["result"]["channel"] == channel
    assert snapshot["type"] == "snapshot"
    client.run(5000)
    found = client.of(channel)
    assert len(found) > 5
    assert set().union(*map(traits, found)) - real == set()
    known = [body["result"] for body in samples if body.get("method") == "subscribe" and body.get("result", {}).get("channel") == channel]  # fmt: skip
    assert set(ack["result"]) - {"event_trigger"} == set(known[0]) - {"event_trigger"}


def test_an_instrument_says_the_digits_of_its_numbers() -> None:
    samples = [read(line) for line in recording(SAMPLES).read_text().splitlines()]
    (real,) = (body for body in samples if body.get("channel") == "instrument")
    client = Client("BTC/USD", "ETH/USD", "XRP/EUR")
    client.ask("subscribe", channel="instrument")
    (body,) = client.of("instrument")
    assert list(body) == list(real)
    assert [pair["symbol"] for pair in body["data"]["pairs"]] == ["BTC/USD", "ETH/USD", "XRP/EUR"]
    for pair in body["data"]["pairs"]:
        assert pair.pop("synthetic") is True
        assert list(pair) == list(real["data"]["pairs"][0])
        for step, precision in (("price_increment", "price_precision"), ("qty_increment", "qty_precision")):  # fmt: skip
            assert len(pair[step].partition(".")[2]) == pair[precision]
    client.ask("subscribe", channel="ticker", symbol=["BTC/USD"])
    (row,) = client.of("ticker")[0]["data"]
    assert len(row["bid"].partition(".")[2]) == body["data"]["pairs"][0]["price_precision"] == 1
    assert {asset["id"] for asset in body["data"]["assets"]} == {"BTC", "USD", "ETH", "XRP", "EUR"}


def test_trades_follow_on_the_snapshot_of_fifty() -> None:
    client = Client()
    client.run(300)
    client.ask("subscribe", channel="trade", symbol=["BTC/USD"])
    client.run(10_000)
    snapshot, *updates = client.of("trade")
    assert len(snapshot["data"]) == 50
    rows = snapshot["data"] + [row for body in updates for row in body["data"]]
    assert all(b["trade_id"] == a["trade_id"] + 1 for a, b in pairwise(rows))
    assert all(a["timestamp"] <= b["timestamp"] for a, b in pairwise(rows))
    assert {row["side"] for row in rows} == {"buy", "sell"}
    assert isinstance(rows[-1]["price"], Number)


@pytest.mark.parametrize(("eaten", "side"), [(1, "buy"), (0, "sell")])
def test_the_side_of_a_trade_is_the_takers(eaten: Side, side: str) -> None:
    client = Client()
    client.ask("subscribe", channel="trade", symbol=["BTC/USD"], snapshot=False)
    client.run(500)
    # So that it is told from trades that happen anyway.
    client.feed().market.book.take(eaten, 7)
    client.run(100)
    rows = [row for body in client.of("trade") for row in body["data"]]
    assert [row["side"] for row in rows if row["qty"] == "0.00000007"] == [side]


def test_candles_of_an_interval_add_up_to_its_trades() -> None:
    client = Client(rate=50)
    client.ask("subscribe", channel="trade", symbol=["BTC/USD"], snapshot=False)
    client.ask("subscribe", channel="ohlc", symbol=["BTC/USD"], interval=1)
    client.run(61_000)
    newest = {}
    for body in client.of("ohlc"):
        for row in body["data"]:
            newest[row["interval_begin"]] = row
    trades = [row for body in client.of("trade") for row in body["data"]]
    begins = sorted(newest)[-2:]
    for begin in begins:
        inside = [t for t in trades if t["timestamp"][:17] == begin[:17]]
        assert newest[begin]["trades"] == len(inside) > 0
        assert Decimal(newest[begin]["volume"]) == sum(Decimal(t["qty"]) for t in inside)
        assert newest[begin]["close"] == inside[-1]["price"]


@pytest.mark.parametrize(("step_e8", "expected"), [(10_000_000, 1), (1_000_000, 2), (1, 8), (10**8, 0)])  # fmt: skip
def test_digits_of_a_step(step_e8: int, expected: int) -> None:
    assert digits(step_e8) == expected


# --- requests ---


def test_status_comes_first_and_heartbeats_with_the_first_subscription() -> None:
    client = Client()
    assert json.loads(client.frames[0].text)["data"][0]["system"] == "online"
    assert client.run(3000) == []
    client.ask("subscribe", channel="ticker", symbol=["BTC/USD"])
    beats = [f for f in client.run(5000) if f.kind == "heartbeat"]
    assert [f.text for f in beats] == ['{"channel":"heartbeat"}'] * 5


def test_each_symbol_has_an_ack_of_its_own_and_its_snapshot_behind_it() -> None:
    client = Client("BTC/USD", "ETH/USD")
    found = client.ask(
        "subscribe", channel="book", symbol=["BTC/USD", "NO/USD", "ETH/USD"], depth=25
    )
    assert [body.get("success", body.get("type")) for body in found] == [
        True, "snapshot", False, True, "snapshot",
    ]  # fmt: skip
    assert found[0]["req_id"] == 3
    assert found[0]["result"] == {
        "channel": "book", "depth": 25, "snapshot": True, "symbol": "BTC/USD",
    }  # fmt: skip
    assert (found[2]["error"], found[2]["symbol"]) == (
        "Currency pair not supported NO/USD",
        "NO/USD",
    )
    assert len(found[1]["data"][0]["bids"]) == 25


def test_a_subscription_ends_with_the_depth_it_began_with() -> None:
    client = Client()
    client.ask("subscribe", channel="book", symbol=["BTC/USD"], depth=100)
    (wrong,) = client.ask("unsubscribe", channel="book", symbol=["BTC/USD"], depth=10)
    assert wrong["error"] == "Subscription Not Found"
    (twice,) = client.ask("subscribe", channel="book", symbol=["BTC/USD"], depth=10)
    assert twice["error"] == "Already subscribed"
    assert [f.kind for f in client.run(500)].count("book") > 2
    (ended,) = client.ask("unsubscribe", channel="book", symbol=["BTC/USD"], depth=100)
    assert (ended["success"], ended["method"]) == (True, "unsubscribe")
    assert [f.kind for f in client.run(500)].count("book") == 0
    assert client.talk.streams == {}
    again = client.ask("subscribe", channel="book", symbol=["BTC/USD"], depth=100, snapshot=False)
    assert [body["success"] for body in again] == [True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Malformed request"),
        ("[]", "Malformed request"),
        ('{"method":"dance"}', "Unsupported event"),
        ('{"method":"subscribe"}', "Params field must be an object"),
        ('{"method":"subscribe","params":{"channel":"level9","symbol":["BTC/USD"]}}', "channel"),
        ('{"method":"subscribe","params":{"channel":"book","symbol":"BTC/USD"}}', "not found"),
        ('{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":7}}', "depth"),
        ('{"method":"subscribe","params":{"channel":"ohlc","symbol":["BTC/USD"],"interval":2}}', "interval"),
        ('{"method":"subscribe","params":{"channel":"ticker","symbol":["BTC/USD"],"event_trigger":1}}', "trigger"),
        ('{"method":"unsubscribe","params":{"channel":"instrument"}}', "Subscription Not Found"),
    ],
)  # fmt: skip
def test_a_bad_request_is_answered_with_its_error(text: str, said: str) -> None:
    (frame,) = Client().talk.received(text, START_MS)
    body = json.loads(frame.text)
    assert body["success"] is False
    assert said in body["error"]


def test_a_ping_is_answered() -> None:
    (frame,) = Client().talk.received('{"method":"ping","req_id":101}', START_MS)
    body = json.loads(frame.text)
    assert (body["method"], body["req_id"]) == ("pong", 101)
    assert body["time_in"] == "2023-11-14T22:13:32.345000Z"


@pytest.mark.parametrize("symbol", ["BTCUSD", "BTC-USD", "btc/usd", "/USD", "BTC/"])
def test_a_pair_has_a_slash(symbol: str) -> None:
    with pytest.raises(ConfigError, match="pairs such as BTC/USD"):
        Exchange([symbol], seed=1, start_ms=START_MS, venue="kraken")


def test_an_unknown_venue_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of binance"):
        Exchange(["BTCUSDT"], seed=1, start_ms=START_MS, venue="mtgox")
