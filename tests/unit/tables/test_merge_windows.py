"""Merged windows: what opens and closes them, what is late, what is not written, what is left out."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events import Feed, Trade, encode, stamp
from streams.merged import Merge
from tables import merge_windows
from tables.merge_windows import GRACE_MS, Complete, Late, Suppressed, SymbolMerges

SYMBOL = "BTCUSD"
T0 = 1_723_100_000_000
VENUES = ("coinbase", "kraken")


class Market:
    """Trades of several venues on one partition."""

    def __init__(self) -> None:
        self.offsets = count()
        self.seqs = dict.fromkeys(("binance", *VENUES), 0)
        self.ids = dict(self.seqs)

    def trade(self, venue: str, at_ms: int, **changed: Any) -> bytes:
        self.ids[venue] += 1
        event = Trade(
            venue=venue,
            symbol=SYMBOL,
            ts_event_ms=T0 + at_ms,
            ts_recv_ms=T0 + at_ms,
            px_e=-2,
            sz_e=-5,
            px=6_000_000,
            sz=5,
            side="buy",
            event_id=str(self.ids[venue]),
            trade_id=changed.pop("trade_id", self.ids[venue]),
            seq=changed.pop("seq", None),
        )
        self.seqs[venue] += 1
        stamp(event, Feed(changed.pop("token", 7), changed.pop("feed_seq", self.seqs[venue])), 1)
        assert not changed
        return encode(event)


class Windows:
    """Fed one record after the other; its clock goes with the records."""

    def __init__(self, *merges: Merge, max_events: int = 1000, window_s: float = 10.0) -> None:
        self.merges = SymbolMerges()
        self.merges.follow(merges or [Merge(SYMBOL, "trade", VENUES, window_s, max_events)])
        self.market = Market()

    def take(self, venue: str, at_ms: int, **changed: Any) -> Sequence[Any]:
        raw = self.market.trade(venue, at_ms, **changed)
        return self.merges.take(next(self.market.offsets), raw, at_ms, 3)


def complete(outcomes: Sequence[Any]) -> Any:
    (one,) = outcomes
    assert isinstance(one, Complete)
    return one.merged


def test_an_event_of_later_closes_the_window_and_opens_the_next() -> None:
    windows = Windows()
    assert windows.take("kraken", 500) == []
    assert windows.take("coinbase", 400) == []  # of before the first, and not late
    assert windows.take("binance", 600) == []  # of a venue that is not merged
    assert windows.take("kraken", 10_499) == []
    merged = complete(windows.take("coinbase", 10_500))
    assert merged.merge_id == "BTCUSD-trade-3-0"
    assert (merged.opened_ms, merged.closed_ms, merged.closed_by) == (T0 + 500, T0 + 10_500, "time")
    assert (merged.first_offset, merged.last_offset) == (0, 3)
    assert merged.counts == {"kraken": 2, "coinbase": 1}
    assert [json.loads(bytes(raw))["ts_recv_ms"] - T0 for raw in merged.events] == [
        500,
        400,
        10_499,
    ]
    assert merged.venues == VENUES
    windows.take("kraken", 10_501)
    assert complete(windows.take("kraken", 20_500)).opened_ms == T0 + 10_500


def test_enough_events_close_it_before_its_time() -> None:
    windows = Windows(max_events=3)
    windows.take("kraken", 0)
    windows.take("coinbase", 5)
    merged = complete(windows.take("kraken", 9))
    assert (merged.closed_by, merged.closed_ms - T0, len(merged.events)) == ("count", 9, 3)
    assert windows.take("coinbase", 9) == []  # at its end: of the next
    (late,) = windows.take("kraken", 8)
    assert (late.venue, late.lateness_ms) == ("kraken", 1)


def test_enough_bytes_close_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_windows, "BYTES_MAX", 1_000)
    windows = Windows()
    windows.take("kraken", 0)
    outcomes: list[Any] = []
    while not outcomes:
        outcomes = [*windows.take("coinbase", 1)]
    merged = complete(outcomes)
    assert merged.closed_by == "size"
    assert sum(map(len, map(bytes, merged.events))) <= 1_000


def test_what_comes_when_its_window_is_closed_is_late() -> None:
    windows = Windows()
    windows.take("kraken", 0)
    windows.take("coinbase", 1)
    windows.take("kraken", 10_000)
    (late,) = windows.take("coinbase", 9_990, seq=77)
    assert late == Late(
        Merge(SYMBOL, "trade", VENUES, 10.0, 1000), "coinbase", 77, 3, lateness_ms=10
    )
    assert windows.take("coinbase", 10_000) == []


def test_a_window_that_lacks_a_venue_is_suppressed() -> None:
    windows = Windows()
    windows.take("kraken", 0)
    windows.take("kraken", 1)
    (one,) = windows.take("coinbase", 10_000)
    assert isinstance(one, Suppressed)
    assert (one.missing, one.events, one.closed_by) == (("coinbase",), 2, "time")
    assert one.merge_id == "BTCUSD-trade-3-0"


def test_a_quiet_market_s_window_is_closed_by_the_clock() -> None:
    windows = Windows()
    windows.take("kraken", 0)
    windows.take("coinbase", 2_000)
    assert windows.merges.tick(10_000 + GRACE_MS - 1) == []
    assert complete(windows.merges.tick(10_000 + GRACE_MS)).closed_ms == T0 + 10_000
    assert windows.merges.tick(60_000) == []
    (late,) = windows.take("coinbase", 9_999)
    assert late.lateness_ms == 1


def test_what_its_feed_says_is_old_is_no_part_of_it() -> None:
    """Another bridge's remains, repeats, and trades that two bridges have written."""
    windows = Windows()
    windows.take("kraken", 0, token=7, feed_seq=10)
    windows.take("kraken", 1, token=7, feed_seq=10)  # again
    windows.take("kraken", 2, token=8, feed_seq=1)
    windows.take("kraken", 3, token=7, feed_seq=11)  # stale
    windows.take("kraken", 4, token=8, feed_seq=2, trade_id=2)  # traded before
    windows.take("coinbase", 5)
    merged = complete(windows.take("coinbase", 10_000))
    assert [json.loads(bytes(raw))["ts_recv_ms"] - T0 for raw in merged.events] == [0, 2, 5]
    assert windows.merges.duplicates == 3


def test_records_that_come_again_and_such_that_can_not_be_read_change_nothing() -> None:
    windows = Windows()
    raw = windows.market.trade("kraken", 0)
    assert windows.merges.take(5, raw, 0, 3) == []
    windows.market.seqs["kraken"] = 0
    for offset, value in ((5, windows.market.trade("kraken", 1)), (6, b"{}"), (7, None), (8, b"")):
        assert windows.merges.take(offset, value, 1, 3) == []
    assert windows.merges.offset == 8
    assert len(windows.merges.windows["trade"]) == 1


def test_windows_that_are_asked_for_still_go_on_and_others_are_given_up() -> None:
    trade, shorter = Merge(SYMBOL, "trade", VENUES), Merge(SYMBOL, "trade", VENUES, 5.0)
    ticker = Merge(SYMBOL, "ticker", VENUES)
    windows = Windows(trade, ticker)
    windows.take("kraken", 0)
    assert windows.merges.follow([trade]) == 0
    assert len(windows.merges.windows["trade"]) == 1
    assert windows.merges.follow([shorter]) == 1
    windows.take("kraken", 6)
    assert windows.merges.discard() == 1
    assert len(windows.merges.windows["trade"]) == 0


@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([0.1, 0.5, 3.0]))
def test_every_event_is_in_one_window_or_counted(seed: int, most: int, window_s: float) -> None:
    """Written, suppressed, late, or still open; windows do not overlap, and hold what they say."""
    rng = random.Random(seed)
    windows = Windows(max_events=most, window_s=window_s)
    outcomes: list[Any] = []
    now_ms = 0
    sent = 200
    for _ in range(sent):
        now_ms += rng.choice([0, 0, 3, 20, 150, 900])
        venue = rng.choice(VENUES) if rng.random() < 0.9 else "kraken"
        outcomes += windows.take(venue, max(0, now_ms - rng.choice([0, 0, 0, 5, 200])))
        if rng.random() < 0.2:
            outcomes += windows.merges.tick(now_ms)
    written = [one.merged for one in outcomes if isinstance(one, Complete)]
    suppressed = sum(one.events for one in outcomes if isinstance(one, Suppressed))
    late = sum(isinstance(one, Late) for one in outcomes)
    still_open = len(windows.merges.windows["trade"])
    assert sum(len(one.events) for one in written) + suppressed + late + still_open == sent
    ended_ms = 0
    for one in written:
        times = [json.loads(bytes(raw))["ts_recv_ms"] for raw in one.events]
        assert len(times) <= most
        assert set(one.counts) == set(VENUES)
        assert sum(one.counts.values()) == len(times)
        assert ended_ms <= min(times)
        assert max(times) - one.opened_ms < window_s * 1000
        assert max(times) <= one.closed_ms
        ended_ms = one.closed_ms
