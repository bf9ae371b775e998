"""One symbol at several venues: what is compared, what meets, and who is left out."""

from __future__ import annotations

from typing import Any

import pytest

from streams.events import FeedState
from tables.book import OrderBook
from tables.consolidation import QUOTE_UNKNOWN, Standing, consolidate, standing_of
from tables.report import Best, Crossing, VenueBest


def at(venue: str, bid: int | None, ask: int | None, **also: Any) -> Standing:
    """A venue in cents, with a size of 1 on each side."""
    fields = {"state": "ok", "reason": "", "quote": "USD", "px_e": -2, "sz_e": 0, "age_ms": 5}
    fields |= {"bid": bid and (bid, 1), "ask": ask and (ask, 1)}
    return Standing(venue, **{**fields, **also})


def test_the_best_of_all_is_shown_with_the_venue_that_has_it() -> None:
    found = consolidate([at("a", 9_990, 10_010), at("b", 9_995, 10_020), at("c", 9_980, 10_005)])
    assert found.best_bid == VenueBest(99.95, 1.0, "b")
    assert found.best_ask == VenueBest(100.05, 1.0, "c")
    assert (found.primary, found.quote, found.quote_mixed) == ("a", "USD", False)
    assert (found.locked, found.crossed) == ([], [])
    assert list(found.by_venue) == ["a", "b", "c"]
    assert found.by_venue["c"].best_bid == Best(99.8, 1.0)


def test_of_equal_prices_the_first_venue_s_is_the_best() -> None:
    found = consolidate([at("a", 9_990, 10_010), at("b", 9_990, 10_010)])
    assert found.best_bid is not None
    assert found.best_ask is not None
    assert (found.best_bid.venue, found.best_ask.venue) == ("a", "a")


def test_a_bid_at_another_venue_s_ask_is_a_locked_market() -> None:
    found = consolidate([at("a", 9_990, 10_000), at("b", 10_000, 10_010)])
    assert found.locked == [Crossing("b", 100.0, "a", 100.0, 0.0)]
    assert found.crossed == []


def test_bids_above_another_venue_s_ask_are_crossed_by_so_many_bps_widest_first() -> None:
    found = consolidate([at("a", 9_990, 9_995), at("b", 10_005, 10_010), at("c", 10_015, 10_020)])
    assert [(each.bid_venue, each.ask_venue) for each in found.crossed] == [
        ("c", "a"), ("b", "a"), ("c", "b"),
    ]  # fmt: skip
    assert found.crossed[0].bps == pytest.approx(10_000 * 0.20 / 100.05)
    assert (found.crossed[0].bid, found.crossed[0].ask) == (100.15, 99.95)
    assert found.locked == []


def test_prices_of_different_exponents_are_compared_as_they_are() -> None:
    found = consolidate([at("a", 10_000, 10_001), at("b", 10_000_001, 10_000_900, px_e=-5)])
    assert found.best_bid == VenueBest(100.00001, 1.0, "b")
    assert found.best_ask == VenueBest(100.009, 1.0, "b")
    assert found.crossed == []
    assert consolidate([at("a", 1, 2, px_e=1), at("b", 1_999, 2_000, px_e=-2)]).best_bid == (
        VenueBest(19.99, 1.0, "b")
    )


@pytest.mark.parametrize("state", ["none", "gap", "muted", "stale", "disconnected"])
def test_a_venue_that_is_not_ok_takes_no_part_and_says_so(state: Any) -> None:
    """Its prices are shown, where there are any, but nothing is made of them."""
    found = consolidate([at("a", 9_990, 10_010), at("b", 10_050, 10_060, state=state, reason="r")])
    assert found.best_bid == VenueBest(99.9, 1.0, "a")
    assert found.crossed == []
    left_out = found.by_venue["b"]
    assert (left_out.state, left_out.reason, left_out.consolidated) == (state, "r", False)
    assert left_out.best_bid == Best(100.5, 1.0)
    assert found.by_venue["a"].consolidated


def test_currencies_are_never_compared() -> None:
    """Also where one of the venues shows nothing just now."""
    for state in ("ok", "muted"):
        mixed = [at("a", 9_990, 10_010), at("b", 10_050, 10_060, quote="USDT", state=state)]
        found = consolidate(mixed)
        assert (found.quote_mixed, found.quote) == (True, None)
        assert (found.best_bid, found.best_ask, found.locked, found.crossed) == (None, None, [], [])
        assert not any(each.consolidated for each in found.by_venue.values())
        assert found.by_venue["b"].best_bid == Best(100.5, 1.0)
        assert (found.by_venue["a"].quote, found.by_venue["b"].quote) == ("USD", "USDT")


def test_a_venue_of_an_unknown_currency_takes_no_part_unless_it_is_alone() -> None:
    found = consolidate([at("a", 9_990, 10_010), at("b", 10_050, 10_060, quote="")])
    assert found.by_venue["b"].reason == QUOTE_UNKNOWN
    assert (found.by_venue["b"].consolidated, found.crossed) == (False, [])
    assert found.best_bid == VenueBest(99.9, 1.0, "a")
    alone = consolidate([at("a", 9_990, 10_010, quote="")])
    assert alone.best_bid == VenueBest(99.9, 1.0, "a")
    assert alone.by_venue["a"].reason == ""
    assert alone.quote is None


def test_one_side_is_enough() -> None:
    found = consolidate([at("a", None, 10_010), at("b", 9_990, None)])
    assert found.best_bid == VenueBest(99.9, 1.0, "b")
    assert found.best_ask == VenueBest(100.1, 1.0, "a")
    assert consolidate([at("a", None, None)]).best_bid is None


def standing(feed: FeedState | None, age_ms: int, state: Any = "ok") -> tuple[str, str]:
    book = OrderBook()
    book.replace([(99, 1)], [(101, 1)], -2, 0, None)
    if state == "muted":
        book.mute("lost")
    made = standing_of("a", book, feed, quote="USD", age_ms=age_ms, gaps=0, synthetic=False)
    assert (made.bid, made.ask) == ((None, None) if state == "muted" else ((99, 1), (101, 1)))
    return made.state, made.reason


def test_what_is_wrong_with_the_feed_is_said_before_what_is_wrong_with_the_book() -> None:
    assert standing("alive", 0) == ("ok", "")
    assert standing(None, 2000) == ("ok", "")
    assert standing("resync", 0) == ("ok", "")
    assert standing("alive", 2001) == ("stale", "no record for more than 2000 ms")
    assert standing("stale", 0)[0] == "stale"
    assert standing("disconnected", 9_999, "muted")[0] == "disconnected"
    assert standing("alive", 0, "muted") == ("muted", "lost")
