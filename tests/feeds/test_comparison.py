"""The comparison finds what it is there for."""

from __future__ import annotations

import argparse
from collections import Counter
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from streams.symbols import Listing
from tests.feeds.reader import Levels
from tests.feeds.run import compared, concluded

BOOK: tuple[Levels, Levels] = (
    [(Decimal(100 - n), Decimal(n + 1)) for n in range(60)],
    [(Decimal(101 + n), Decimal(n + 1)) for n in range(60)],
)


def changed(side: int, level: int) -> tuple[Levels, Levels]:
    """The book with one size that is another."""
    book: Any = ([*BOOK[0]], [*BOOK[1]])
    px, sz = book[side][level]
    book[side][level] = (px, sz + Decimal("0.1"))
    return book  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("venue", "ours", "what"),
    [
        ("binance", BOOK, "equal"),
        ("kraken", BOOK, "equal"),
        ("binance", (BOOK[0][:5], BOOK[1][:5]), "equal"),
        ("binance", changed(0, 0), "diverged"),
        ("coinbase", changed(1, 59), "diverged"),
        ("kraken", changed(1, 9), "diverged"),
        ("kraken", changed(1, 10), "deeper"),
        ("binance", (BOOK[0][1:], BOOK[1]), "diverged"),
        ("kraken", None, "not_right"),
    ],
)
async def test_a_book_that_is_another_is_found(venue: str, ours: Any, what: str) -> None:
    async def book(_listing: Listing) -> tuple[Levels, Levels]:
        return BOOK

    venues: Any = SimpleNamespace(book=book)
    reader: Any = SimpleNamespace(book=lambda _symbol, _depth: ours)
    assert await compared(Listing(venue, "X", "X"), venues, reader) == what


def told(**changed: Any) -> dict[str, Any]:
    round_ = {"equal": 15, "deeper": 0, "diverged": 0, "not_right": 0, "settled_s": 1.0}
    values: dict[str, Any] = {
        "records": 10,
        "applied": 9,
        "passed_over": Counter(stale_feed=1),
        "failures": [],
        "telemetry": Counter({("kraken", "checksum.failed"): 3}),
    }
    struck = changed.pop("struck", {"kraken": {"checksum": 3, "huge": 9, "drop": 2}})
    round_ |= {name: changed.pop(name) for name in [*changed] if name in round_}
    reader: Any = SimpleNamespace(**{**values, **changed})
    args = argparse.Namespace(minutes=1, seed=1)
    return concluded(args, [], [round_], struck, reader)


def test_a_run_is_well_only_if_all_of_it_is() -> None:
    assert told()["well"]
    assert not told(diverged=1)["well"]
    assert not told(not_right=1)["well"]
    assert not told(records=11)["well"], "a record that nobody has accounted for"
    assert not told(failures=["X: refused"], records=11)["well"]
    untold = told(struck={"kraken": {"restart": 3}})
    assert untold["untold"] == ["kraken: restart struck 3 times"]
    assert not untold["well"]
