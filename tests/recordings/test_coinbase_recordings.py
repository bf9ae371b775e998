"""The real recording of Coinbase: its figures, and what faults make of it."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.capture.check import check
from streams.capture.formats import read_entries
from streams.events import BookSnapshot, Ticker, Trade
from tests.support.coinbase import BTC, ETH, product, products
from tests.support.coinbase_faults import FAULTS, Fault, Outcome, Played, Tape, run
from tests.support.data import recording

pytestmark = pytest.mark.recordings

PATH = "coinbase/cryptofeed/COINBASE_advanced_part1.jsonl.gz"
NEAREST = 100
"""Levels a side kept of the recorded snapshots, beside all that any update touches."""


def received() -> list[tuple[int, str]]:
    entries = read_entries(recording(PATH))
    return [(entry.ts_ms or 0, entry.data) for entry in entries if entry.kind == "recv"]


def test_its_figures() -> None:
    """Every frame of every channel, and no hole among their numbers."""
    result = check("coinbase", [recording(PATH)])
    counts, figures = result.counts, result.as_json()
    assert result.frames == 600
    assert result.wire == {
        "l2_data": 438,
        "ticker": 97,
        "market_trades": 42,
        "heartbeats": 14,
        "subscriptions": 5,
        "candles": 4,
    }
    assert (counts.sequence_first, counts.sequence_last, counts.sequence_gaps) == (0, 599, 0)
    assert figures["events"] == {
        "book_delta": 436,
        "book_snapshot": 2,
        "feed_status": 2,
        "instrument": 2,
        "kline": 202,
        "ticker": 97,
        "trade": 257,
    }
    assert figures["trades"] == {"applied": 257, "duplicates": 0, "missing": 0}
    assert (figures["bridged"], figures["seconds"]) == (2, pytest.approx(13.7, abs=0.05))
    assert figures["crossed"] == figures["errors"] == figures["ignored"] == counts.resyncs == 0
    assert result.ok


def test_its_books_are_whole_and_its_trades_fit_them() -> None:
    """46,000 and 23,334 levels; takers who buy pay more than mid, but for a few prints."""
    from streams.capture.dialects import dialect_of
    from streams.capture.player import Player

    dialect = dialect_of("coinbase")
    assembler = dialect.assembler([BTC, ETH], infer_instruments=False)
    sizes: dict[str, int] = {}
    fits: list[bool] = []
    equal: list[bool] = []
    for _, events in Player(assembler, dialect, [recording(PATH)]).play():
        for event in events:
            if isinstance(event, BookSnapshot):
                sizes[event.symbol] = len(event.bids) + len(event.asks)
            elif isinstance(event, Trade | Ticker):
                top = assembler._roster.by_symbol[event.symbol].book.book  # type: ignore[attr-defined]
                best = top.top() if top is not None else None
                if best is None:
                    continue
                if isinstance(event, Trade):
                    fits.append((2 * event.px > best[0] + best[2]) is (event.side == "buy"))
                elif event.quote is not None:
                    quote = event.quote
                    theirs = (quote.bid_px, quote.bid_sz, quote.ask_px, quote.ask_sz)
                    equal.append(theirs == best)
    assert sizes == {"BTCUSD": 46_000, "ETHUSD": 23_334}
    assert sum(fits) >= 0.9 * len(fits) > 40
    assert sum(equal) >= 0.75 * len(equal) > 60  # a ticker is not in step with the book


@functools.cache
def tape() -> Tape:
    """The recording, its snapshots cut down to what any update touches and the nearest levels."""
    frames = []
    for ts_ms, text in received():
        whole = json.loads(text)
        frames.append(Played(ts_ms, whole["channel"], whole["timestamp"], whole["events"]))
    touched = {
        (played.product, update["side"], update["price_level"])
        for played in frames
        if played.product and played.events[0]["type"] == "update"
        for update in played.events[0]["updates"]
    }
    for played in frames:
        if played.product and played.events[0]["type"] == "snapshot":
            played.events[0]["updates"] = _cut(played, touched)
    return Tape(frames)


def _cut(played: Played, touched: set[tuple[str, str, str]]) -> list[dict[str, Any]]:
    kept, seen = [], {"bid": 0, "offer": 0}
    for update in played.events[0]["updates"]:
        side = update["side"]
        seen[side] += 1
        if seen[side] <= NEAREST or (played.product, side, update["price_level"]) in touched:
            kept.append(update)
    return kept


RULES = products(
    product("BTC-USD", base_increment="0.00000001"), product("ETH-USD", base_increment="0.00000001")
)


def played(faults: list[Fault], delay: int = 2) -> Outcome:
    return run(tape(), [BTC, ETH], RULES, faults, delay)


def test_without_a_fault_nothing_is_asked_for_again() -> None:
    outcome = played([])
    assert (outcome.healed, outcome.gaps, outcome.refused) == (True, {}, 0)
    assert outcome.assembler.counts.resyncs == 0


@pytest.mark.parametrize("kind", ["drop", "swap", "cut", "garble"])
def test_a_hole_is_one_resync_of_each_book_and_silence_until_the_snapshot(kind: str) -> None:
    outcome = played([Fault(300, kind, 40)], delay=5)
    assert outcome.gaps == {"BTCUSD": ["sequence"], "ETHUSD": ["sequence"]}
    counts = outcome.assembler.counts
    assert (counts.resyncs, outcome.healed) == (2, True)
    for symbol in ("BTCUSD", "ETHUSD"):
        books = [
            kind
            for name, kind in outcome.kinds
            if name == symbol and kind in ("book_delta", "book_snapshot", "feed_status")
        ]
        gap = len(books) - 1 - books[::-1].index("feed_status")
        assert books[gap : gap + 2] == ["feed_status", "book_snapshot"]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    faults=st.lists(
        st.builds(Fault, st.integers(0, 620), st.sampled_from(FAULTS), st.integers(0, 400)),
        max_size=8,
    ),
    delay=st.integers(0, 30),
)
def test_faults_are_detected_or_harmless_and_no_book_is_silently_wrong(
    faults: list[Fault], delay: int
) -> None:
    """After each frame what claims to be in sync is the truth; in the end everything is."""
    assert played(faults, delay).healed
