"""Binance's words for what the market does: a book that can be rebuilt, nothing left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from streams.simulator.dialect import Message, decimal
from streams.simulator.dialect_binance import SymbolFeed, listing
from streams.simulator.exchange import Exchange
from streams.simulator.flow import Market
from streams.simulator.listing import spec_for
from streams.symbols import Listing
from streams.venues.binance.assembler import BinanceAssembler
from tapeline.errors import ConfigError

START_MS = 1_700_000_012_345
Levels = dict[str, str]


def feed(seed: int = 7, rate: float = 300.0) -> SymbolFeed:
    return SymbolFeed(Market(spec_for("BTCUSDT"), seed, START_MS, rate), START_MS)


def run(subject: SymbolFeed, from_ms: int, to_ms: int, step_ms: int = 100) -> list[Message]:
    out = []
    for now_ms in range(START_MS + from_ms + step_ms, START_MS + to_ms + 1, step_ms):
        out += subject.step(now_ms)
    return out + subject.step(START_MS + to_ms)


def payloads(messages: Iterable[Message], suffix: str) -> list[dict[str, Any]]:
    return [json.loads(m.data) for m in messages if m.stream == f"btcusdt@{suffix}"]


def apply(book: dict[str, Levels], update: dict[str, Any]) -> None:
    for side in ("b", "a"):
        for px, sz in update[side]:
            if Decimal(sz):
                book[side][px] = sz
            else:
                book[side].pop(px, None)


def whole(snapshot: str) -> dict[str, Levels]:
    body = json.loads(snapshot)
    return {"b": dict(body["bids"]), "a": dict(body["asks"])}


def test_the_same_seed_sends_the_same_bytes_however_time_is_cut() -> None:
    expected = run(feed(), 0, 5000)
    assert run(feed(), 0, 5000, 20) == expected
    assert run(feed(), 0, 5000, 1250) == expected
    assert run(feed(seed=8), 0, 5000) != expected


@pytest.mark.parametrize("suffix", ["depth@100ms", "depth"])
def test_update_ids_have_no_hole(suffix: str) -> None:
    last = None
    found = payloads(run(feed(), 0, 20_000), suffix)
    assert len(found) >= (19 if suffix == "depth" else 190)
    for update in found:
        assert update["U"] <= update["u"]
        if last is not None:
            assert update["U"] == last + 1
        last = update["u"]


@pytest.mark.parametrize("suffix", ["depth@100ms", "depth"])
@pytest.mark.parametrize("taken_ms", [0, 1010, 3337, 7999])
def test_a_snapshot_and_the_diffs_after_it_are_the_book(suffix: str, taken_ms: int) -> None:
    subject = feed()
    before = run(subject, 0, taken_ms, 1)
    snapshot = subject.snapshot(5000)
    rebuilt, last = whole(snapshot), json.loads(snapshot)["lastUpdateId"]
    after = run(subject, taken_ms, 10_655)  # a whole second of the venue's grid
    joined = False
    for update in payloads([*before, *after], suffix):
        if update["u"] <= last:
            continue
        if not joined:
            assert update["U"] <= last + 1 <= update["u"]
            joined = True
        apply(rebuilt, update)
    assert joined
    now = whole(subject.snapshot(5000))
    assert rebuilt == now


def test_a_snapshot_has_as_many_levels_as_asked_for() -> None:
    subject = feed()
    body = json.loads(subject.snapshot(5))
    assert len(body["bids"]) == len(body["asks"]) == 5
    assert [Decimal(px) for px, _ in body["bids"]] == sorted(
        (Decimal(px) for px, _ in body["bids"]), reverse=True
    )
    assert len(json.loads(subject.snapshot(10**9))["bids"]) > 500


def test_quotes_are_the_top_of_the_book_at_their_update_id() -> None:
    subject = feed()
    rebuilt = whole(subject.snapshot(5000))
    tops: dict[int, tuple[Decimal, Decimal]] = {}
    messages = run(subject, 0, 20_000)
    for update in payloads(messages, "depth@100ms"):
        apply(rebuilt, update)
        tops[update["u"]] = (max(map(Decimal, rebuilt["b"])), min(map(Decimal, rebuilt["a"])))
    compared = 0
    for quote in payloads(messages, "bookTicker"):
        if quote["u"] in tops:
            assert (Decimal(quote["b"]), Decimal(quote["a"])) == tops[quote["u"]]
            compared += 1
    assert compared > 5


def test_trades_have_one_id_after_the_other_and_exact_decimals() -> None:
    found = payloads(run(feed(), 0, 20_000), "trade")
    assert [trade["t"] for trade in found] == [found[0]["t"] + i for i in range(len(found))]
    for trade in found:
        assert trade["e"] == "trade"
        assert trade["E"] == trade["T"]
        assert len(trade["q"].partition(".")[2]) == 8
        assert Decimal(trade["p"]) % Decimal("0.01") == 0
        assert Decimal(trade["q"]) > 0


def test_messages_come_in_the_order_of_their_times() -> None:
    messages = run(feed(), 0, 10_000, 250)
    assert [m.ts_ms for m in messages] == sorted(m.ts_ms for m in messages)
    for message in messages:
        event = json.loads(message.data)
        assert event.get("E", message.ts_ms) == message.ts_ms
        if event.get("e") == "depthUpdate":
            assert event["E"] % 100 == 0


@pytest.mark.slow
def test_candles_close_once_a_minute_and_hold_their_trades() -> None:
    messages = run(feed(), 0, 180_000)
    closed = [k["k"] for k in payloads(messages, "kline_1m") if k["k"]["x"]]
    assert [k["t"] % 60_000 for k in closed] == [0, 0, 0]
    assert closed[1]["t"] == closed[0]["T"] + 1 == closed[0]["t"] + 60_000
    trades = payloads(messages, "trade")
    for candle in closed[1:]:
        inside = [t for t in trades if candle["t"] <= t["T"] <= candle["T"]]
        prices = [Decimal(t["p"]) for t in inside]
        assert (candle["n"], candle["f"]) == (len(inside), inside[0]["t"])
        assert Decimal(candle["v"]) == sum(Decimal(t["q"]) for t in inside)
        assert (Decimal(candle["o"]), Decimal(candle["c"])) == (prices[0], prices[-1])
        assert (Decimal(candle["h"]), Decimal(candle["l"])) == (max(prices), min(prices))
    opened = [k for k in payloads(messages, "kline_1m") if not k["k"]["x"]]
    assert {k["E"] % 2000 for k in opened} == {0}


def test_a_minute_without_a_trade_has_a_flat_candle() -> None:
    subject = feed(rate=1)
    flat = [k["k"] for k in payloads(run(subject, 0, 600_000, 1000), "kline_1m") if k["k"]["x"]]
    empty = [k for k in flat if not k["n"]]
    assert empty
    assert all(k["o"] == k["h"] == k["l"] == k["c"] and k["f"] == -1 for k in empty)


def test_the_day_ticker_follows_the_trades() -> None:
    messages = run(feed(), 0, 20_000)
    tickers, trades = payloads(messages, "ticker"), payloads(messages, "trade")
    assert len(tickers) == 20
    last = tickers[-1]
    assert {"p", "P", "w", "x", "c", "Q", "b", "B", "a", "A", "o", "h", "l", "v", "q", "n"} <= set(
        last
    )
    before = [t for t in trades if t["T"] < last["E"]]
    assert (last["c"], last["L"]) == (before[-1]["p"], before[-1]["t"])
    assert Decimal(last["l"]) <= Decimal(last["c"]) <= Decimal(last["h"])
    assert Decimal(last["p"]) == Decimal(last["c"]) - Decimal(last["o"])
    grown = Decimal(last["v"]) - Decimal(tickers[0]["v"])
    counted = [t for t in trades if tickers[0]["L"] < t["t"] <= last["L"]]
    assert grown == sum(Decimal(t["q"]) for t in counted)
    assert last["L"] - last["F"] + 1 == last["n"]


def test_the_real_assembler_takes_every_word_of_it() -> None:
    exchange = Exchange(["BTCUSDT", "DOGEUSDT"], seed=3, start_ms=START_MS, rate=200)
    names = list(exchange.feeds)
    assembler = BinanceAssembler([Listing("binance", name, name) for name in names])
    wanted = set(assembler.stream_path().partition("streams=")[2].split("/"))
    assembler.connected(START_MS)
    for now_ms in range(START_MS, START_MS + 30_000, 50):
        for item in exchange.step(now_ms):
            if isinstance(item, Message) and item.stream in wanted:
                frame = f'{{"stream":"{item.stream}","data":{item.data}}}'
                assembler.receive(frame, item.ts_ms)
        for request in assembler.requests_to_send():
            if request.purpose == "snapshot":
                body = exchange.snapshot(request.venue_symbol, 1000)
            else:
                body = json.dumps({"symbols": exchange.listings()})
            assembler.http_response(request, 200, body.encode(), now_ms)
    counts = assembler.counts
    assert (counts.errors, counts.gaps, counts.crossed, counts.trades_missing) == (0, 0, 0, 0)
    assert counts.tops_equal == counts.tops_compared > 10
    assert counts.events["kline"] > 0
    instrument = assembler.instrument("BTCUSDT", START_MS)
    assert instrument is not None
    assert instrument.synthetic
    made = sum((subject.made for subject in exchange.feeds.values()), Counter())
    assert counts.trades == made["trade"]


def test_a_listing_names_its_steps_and_that_it_is_made_up() -> None:
    found: dict[str, Any] = listing(spec_for("ETHUSDT"))
    filters = {f["filterType"]: f for f in found["filters"]}
    assert found["status"] == "TRADING"
    assert found["synthetic"] is True
    assert (found["baseAsset"], found["quoteAsset"]) == ("ETH", "USDT")
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00010000"
    assert decimal(123_456_789_012) == "1234.56789012"


def test_an_exchange_puts_all_symbols_on_one_clock() -> None:
    exchange = Exchange(["BTCUSDT", "ETHUSDT"], seed=1, start_ms=START_MS)
    items = exchange.step(START_MS + 3000)
    assert [item.ts_ms for item in items] == sorted(item.ts_ms for item in items)
    streams = {item.stream.partition("@")[0] for item in items if isinstance(item, Message)}
    assert streams == {"btcusdt", "ethusdt"}


@pytest.mark.parametrize(
    ("symbols", "rate", "said"),
    [([], 100, "at least one"), (["no!"], 100, "upper-case"), (["BTCUSDT"], 0, "1 to 20000")],
)
def test_an_exchange_says_what_it_does_not_accept(
    symbols: list[str], rate: float, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        Exchange(symbols, seed=1, start_ms=0, rate=rate)
