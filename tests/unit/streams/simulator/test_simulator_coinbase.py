"""Coinbase's words for what the market does: one sequence, whole books, newest trades first."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.simulator.dialect import Frame, Message
from streams.simulator.dialect_coinbase import CoinbaseFeed, plain
from streams.simulator.exchange import Exchange
from streams.simulator.resting import Side
from streams.simulator.talk_coinbase import CoinbaseTalk
from tapeline.errors import ConfigError
from tests.support.data import recording
from tests.support.wire import read, received, traits

START_MS = 1_700_000_012_345
RECORDED = "coinbase/cryptofeed/COINBASE_advanced_part1.jsonl.gz"
CHANNELS = ("level2", "market_trades", "ticker", "candles", "heartbeats")


class Client:
    """One connection without a socket: what it asked for arrives, in order.

    Attributes:
        frames: All that it got.
    """

    def __init__(self, *products: str, seed: int = 7) -> None:
        self.exchange = Exchange(
            products or ["BTC-USD"], seed=seed, start_ms=START_MS, venue="coinbase"
        )
        self.now_ms = START_MS
        feeds: dict[str, Any] = self.exchange.feeds
        self.talk = CoinbaseTalk(feeds, START_MS, START_MS)
        self.frames: list[Frame] = self.talk.opened(START_MS)

    def feed(self, product: str = "BTC-USD") -> CoinbaseFeed:
        feed = self.exchange.feeds[product]
        assert isinstance(feed, CoinbaseFeed)
        return feed

    def ask(self, what: str, channel: str, *products: str) -> list[Any]:
        """The answers to a subscription."""
        body: dict[str, object] = {"type": what, "channel": channel}
        if channel != "heartbeats":
            body["product_ids"] = [*(products or ["BTC-USD"])]
        found = self.talk.received(json.dumps(body), self.now_ms)
        self.frames += found
        return [json.loads(frame.text) for frame in found]

    def run(self, ms: int, step_ms: int = 50) -> list[Any]:
        """What comes in the next ms."""
        found: list[Frame] = []
        for now_ms in range(self.now_ms + step_ms, self.now_ms + ms + 1, step_ms):
            for item in self.exchange.step(now_ms):
                if isinstance(item, Message) and item.stream in self.talk.streams:
                    found += self.talk.frames(item)
            found += self.talk.beat(now_ms)
            self.now_ms = now_ms
        self.frames += found
        return [json.loads(frame.text) for frame in found]

    def of(self, channel: str) -> list[Any]:
        """Events of a channel, in order."""
        bodies = [json.loads(frame.text) for frame in self.frames]
        return [e for body in bodies if body["channel"] == channel for e in body["events"]]


# --- the envelope ---


def test_one_sequence_counts_all_channels_acks_and_heartbeats() -> None:
    client = Client("BTC-USD", "ETH-USD")
    for channel in CHANNELS:
        client.ask("subscribe", channel, "BTC-USD", "ETH-USD")
        client.run(700)
    numbers = [json.loads(frame.text)["sequence_num"] for frame in client.frames]
    assert numbers == [*range(len(numbers))]
    assert {json.loads(frame.text)["channel"] for frame in client.frames} == {
        "l2_data", "market_trades", "ticker", "candles", "heartbeats", "subscriptions",
    }  # fmt: skip


def test_frames_are_made_like_the_recorded_ones() -> None:
    def told(texts: list[str]) -> set[tuple[str, object]]:
        found: set[tuple[str, object]] = set()
        for text in texts:
            body = read(text)
            kind = f"{body['channel']}/{body['events'][0].get('type')}"
            if body["channel"] == "subscriptions":
                # Which channels are named depends on who asks; their order is the alphabet's.
                (event,) = body["events"]
                assert [*event["subscriptions"]] == sorted(event["subscriptions"])
                body["events"] = [{"subscriptions": "some"}]
            if kind == "l2_data/snapshot":
                # The recorded ones have 46,000 levels; ends say it all, bids first, offers last.
                (event,) = body["events"]
                event["updates"] = event["updates"][:300] + event["updates"][-300:]
            found |= {(kind + path, trait) for path, trait in traits(body)}
        return found

    real = told([*received(recording(RECORDED))])
    client = Client("BTC-USD", "ETH-USD")
    for channel in CHANNELS:
        client.ask("subscribe", channel, "BTC-USD", "ETH-USD")
    client.run(10_000)
    ours = told([frame.text for frame in client.frames])
    assert ours - real == set()
    kinds = {path.partition(".")[0] for path, _ in ours}
    assert {"l2_data/snapshot", "l2_data/update", "market_trades/update", "ticker/update",
            "candles/update", "heartbeats/None", "subscriptions/None"} <= kinds  # fmt: skip


def test_snapshots_come_before_the_ack_that_lists_all_so_far() -> None:
    client = Client("BTC-USD", "ETH-USD")
    first = client.ask("subscribe", "market_trades", "BTC-USD", "ETH-USD")
    assert [body["channel"] for body in first] == [
        "market_trades",
        "market_trades",
        "subscriptions",
    ]
    ack = client.ask("subscribe", "level2", "ETH-USD")[-1]
    assert ack["events"] == [
        {"subscriptions": {"level2": ["ETH-USD"], "market_trades": ["BTC-USD", "ETH-USD"]}}
    ]
    (ack,) = client.ask("unsubscribe", "market_trades", "BTC-USD", "ETH-USD")
    assert ack["events"] == [{"subscriptions": {"level2": ["ETH-USD"]}}]
    assert {body["channel"] for body in client.run(1000)} == {"l2_data"}


def test_a_lost_update_leaves_a_hole_in_the_sequence() -> None:
    client = Client()
    client.ask("subscribe", "level2")
    client.run(500)
    client.exchange.start("gap", "BTC-USD")
    client.run(500)
    numbers = [json.loads(frame.text)["sequence_num"] for frame in client.frames]
    holes = [b - a for a, b in pairwise(numbers) if b != a + 1]
    assert holes == [2]
    assert client.feed().swallowed == 1


# --- channels ---


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    before=st.integers(0, 20),
    script=st.sampled_from(["", "flash_crash"]),
)
def test_a_snapshot_and_the_updates_after_it_are_the_book(
    seed: int, before: int, script: str
) -> None:
    client = Client(seed=seed)
    if script:
        client.exchange.start(script, "BTC-USD", at_ms=START_MS + 500)
    client.run(before * 37, 37)
    client.ask("subscribe", "level2")
    client.run(2000)
    book: dict[str, dict[str, str]] = {"bid": {}, "offer": {}}
    snapshot, *updates = client.of("l2_data")
    assert snapshot["type"] == "snapshot"
    assert len(snapshot["updates"]) > 500
    for event in (snapshot, *updates):
        for row in event["updates"]:
            if row["new_quantity"] == "0":
                book[row["side"]].pop(row["price_level"], None)
            else:
                book[row["side"]][row["price_level"]] = row["new_quantity"]
    whole = client.feed().whole()
    assert len(updates) > 20
    for side, name in (("bid", "bids"), ("offer", "asks")):
        ranked = sorted(book[side].items(), key=lambda level: Decimal(level[0]))
        assert (ranked[::-1] if side == "bid" else ranked) == [(p, q) for p, q in whole[name]]


def test_levels_come_bids_first_and_best_first() -> None:
    client = Client()
    client.ask("subscribe", "level2")
    client.run(3000)
    for event in client.of("l2_data"):
        sides = [row["side"] for row in event["updates"]]
        assert sides == sorted(sides)
        for side, sign in (("bid", -1), ("offer", 1)):
            prices = [
                sign * Decimal(r["price_level"]) for r in event["updates"] if r["side"] == side
            ]
            assert prices == sorted(prices)
        assert len({row["event_time"] for row in event["updates"]}) == 1


def test_trades_are_newest_first_and_follow_on_a_snapshot_of_a_hundred() -> None:
    client = Client()
    client.ask("subscribe", "market_trades")
    client.run(10_000)
    snapshot, *updates = client.of("market_trades")
    assert len(snapshot["trades"]) == 100
    assert max(len(event["trades"]) for event in updates) > 1
    rows = [row for event in (snapshot, *updates) for row in reversed(event["trades"])]
    assert all(int(b["trade_id"]) == int(a["trade_id"]) + 1 for a, b in pairwise(rows))


@pytest.mark.parametrize(("eaten", "side"), [(1, "SELL"), (0, "BUY")])
def test_the_side_of_a_trade_is_the_makers(eaten: Side, side: str) -> None:
    client = Client()
    client.ask("subscribe", "market_trades")
    client.run(500)
    book = client.feed().market.book
    # So that it is told from trades that happen anyway.
    book.take(eaten, 7)
    client.run(100)
    rows = [row for event in client.of("market_trades")[1:] for row in event["trades"]]
    assert [row["side"] for row in rows if row["size"] == client.feed().sz(7)] == [side]


def test_candles_are_of_five_minutes_and_hold_their_trades() -> None:
    client = Client()
    client.ask("subscribe", "market_trades")
    client.ask("subscribe", "candles")
    client.run(11_000)
    snapshot, *updates = client.of("candles")
    starts = [int(row["start"]) for row in snapshot["candles"]]
    assert len(starts) >= 99
    assert all(b == a + 300 for a, b in pairwise(starts))
    (row,) = updates[-1]["candles"]
    assert row["start"] == str(START_MS // 1000 // 300 * 300)
    traded = [
        Decimal(r["size"]) for e in client.of("market_trades")[1:] for r in e["trades"]
    ]  # fmt: skip
    assert 0 < Decimal(row["volume"]) <= sum(traded)


def test_a_heartbeat_a_second_counts_up() -> None:
    client = Client()
    client.ask("subscribe", "heartbeats")
    client.run(5000)
    beats = [event["heartbeat_counter"] for event in client.of("heartbeats")]
    assert beats == [*range(beats[0], beats[0] + 5)]


def test_a_ticker_shows_the_top_of_the_published_book() -> None:
    client = Client()
    client.ask("subscribe", "ticker")
    client.run(3000, 50)
    (row,) = client.of("ticker")[-1]["tickers"]
    assert row["type"] == "ticker"
    assert Decimal(row["best_bid"]) < Decimal(row["best_ask"])
    assert Decimal(row["low_24_h"]) <= Decimal(row["price"]) <= Decimal(row["high_24_h"])


@pytest.mark.parametrize(
    ("value_e8", "text"),
    [(6508367000000, "65083.67"), (12629600000000, "126296"), (0, "0"), (1, "0.00000001"), (-5 * 10**7, "-0.5")],
)  # fmt: skip
def test_numbers_have_no_trailing_zeros(value_e8: int, text: str) -> None:
    assert plain(value_e8) == text


# --- requests ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "parse"),
        ("[]", "parse"),
        ('{"type":"dance"}', "dance"),
        ('{"type":"subscribe","channel":"level9","product_ids":["BTC-USD"]}', "level9"),
        ('{"type":"subscribe","channel":"level2"}', "product_ids"),
        ('{"type":"subscribe","channel":"level2","product_ids":["NO-USD"]}', "NO-USD"),
    ],
)
def test_a_bad_request_is_answered_without_a_number(text: str, said: str) -> None:
    client = Client()
    (frame,) = client.talk.received(text, START_MS)
    body = json.loads(frame.text)
    assert body["type"] == "error"
    assert said in body["message"]
    assert client.ask("subscribe", "heartbeats")[0]["sequence_num"] == 0


def test_a_usdc_product_answers_as_the_usd_one() -> None:
    client = Client("ETH-USD")
    snapshot, ack = client.ask("subscribe", "level2", "ETH-USDC")
    assert snapshot["events"][0]["product_id"] == "ETH-USD"
    assert ack["events"][0]["subscriptions"] == {"level2": ["ETH-USD"]}


def test_who_asks_for_nothing_is_overdue_after_five_seconds() -> None:
    client = Client()
    assert not client.talk.overdue(START_MS + 5000)
    assert client.talk.overdue(START_MS + 5001)
    client.ask("subscribe", "heartbeats")
    assert not client.talk.overdue(START_MS + 60_000)


def test_a_product_has_a_hyphen() -> None:
    with pytest.raises(ConfigError, match="pairs such as BTC-USD"):
        Exchange(["BTC/USD"], seed=1, start_ms=START_MS, venue="coinbase")
