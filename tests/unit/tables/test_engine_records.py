"""Records that can't be applied, and books that come in parts."""

from __future__ import annotations

import pytest

from tables.engine import Engine
from tapeline.errors import MalformedRecord, UnknownVersion
from tests.support.tape import SYMBOL, VENUE, Record, opened


def engine(records: list[Record]) -> Engine:
    made = Engine(SYMBOL, VENUE)
    made.apply(records)
    return made


# --- records that can't be applied -----------------------------------------------------------------


def bad_records() -> dict[str, tuple[bytes, type[Exception]]]:
    tape = opened()
    good = tape.delta([(5_999_999, 3)])
    crossed = tape.snapshot([(12, 1)], [(11, 1)])
    part = tape.snapshot([(10, 1)], [(11, 1)], part=3, parts=2)
    empty = tape.day(6_000_000).split(b',"day"')[0] + b"}"
    return {
        "not JSON": (b"{", MalformedRecord),
        "negative size": (good.replace(b"[5999999,3]", b"[5999999,-3]"), MalformedRecord),
        "zero price": (good.replace(b"[5999999,3]", b"[0,3]"), MalformedRecord),
        "missing field": (good.replace(b'"px_e":-2,', b""), MalformedRecord),
        "fine exponent": (good.replace(b'"px_e":-2', b'"px_e":-13'), MalformedRecord),
        "other symbol": (good.replace(b"BTCUSDT", b"ETHUSDT"), MalformedRecord),
        "crossed snapshot": (crossed, MalformedRecord),
        "impossible part": (part, MalformedRecord),
        "empty ticker": (empty, MalformedRecord),
        "unknown version": (good.replace(b'"v":1', b'"v":2'), UnknownVersion),
        "no version": (good.replace(b'"v":1,', b""), UnknownVersion),
        "unstamped": (good.replace(b'"token":7', b'"token":0'), MalformedRecord),
    }


@pytest.mark.parametrize("what", bad_records())
def test_a_bad_record_fails_alone_and_by_name(what: str) -> None:
    """It is listed with its offset; the rest of the batch is applied."""
    raw, error = bad_records()[what]
    tape = opened()
    tape.raw(raw)
    tape.trade(6_000_000, 5)
    one = Engine(SYMBOL, VENUE)
    outcome = one.apply(tape.records)
    assert [(offset, type(failed)) for offset, failed in outcome.failures] == [(2, error)]
    assert str(outcome.failures[0][1])
    assert outcome.kinds == {"instrument": 1, "book_snapshot": 1, "trade": 1}
    assert one.applied == 3


def test_a_record_that_failed_is_a_hole_in_the_feed() -> None:
    """Its place in the sequence stays empty, so the next record mutes the book."""
    tape = opened()
    bad = tape.delta([(5_999_999, 3)]).replace(b"[5999999,3]", b"[5999999,-3]")
    tape.records[-1] = (2, bad)
    tape.delta([(5_999_998, 3)])
    one = Engine(SYMBOL, VENUE)
    one.apply(tape.records)
    assert one.book.state == "muted"


def test_an_unforeseen_error_is_contained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in one place costs one record and the book's credit, not the worker."""
    tape = opened()
    tape.trade(6_000_000, 5)
    tape.delta([(5_999_999, 3)])
    one = Engine(SYMBOL, VENUE)

    def broken(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError("broken on purpose")

    monkeypatch.setattr("tables.windows.TradeWindow.add", broken)
    outcome = one.apply(tape.records)
    assert [(at, type(error)) for at, error in outcome.failures] == [(2, ZeroDivisionError)]
    assert one.fast_report(0).gaps.by_reason == {"error": 1}
    assert one.book.state == "muted"
    assert one.applied == 3


# --- snapshots in parts ------------------------------------------------------------------------------


def test_a_snapshot_in_parts_is_applied_when_complete() -> None:
    """Half a book is no book."""
    tape = opened()
    tape.snapshot([(100, 1)], [(110, 1)], part=1, parts=2)
    one = engine(tape.records)
    assert one.book.best_bid() == (5_999_999, 100_000)
    one = Engine.restore(one.snapshot())
    tape.snapshot([(99, 2)], [(111, 2)], part=2, parts=2)
    one.apply(tape.records)
    assert one.book.bids.prices == [99, 100]
    assert one.book.asks.prices == [110, 111]


def test_a_part_out_of_place_discards_the_snapshot_only() -> None:
    """The old book goes on."""
    tape = opened()
    tape.snapshot([(100, 1)], [(110, 1)], part=1, parts=3)
    tape.snapshot([(99, 2)], [(111, 2)], part=3, parts=3)
    one = Engine(SYMBOL, VENUE)
    assert one.apply(tape.records).counts["snapshot_parts_lost"] == 1
    assert one.book.best_bid() == (5_999_999, 100_000)


def test_a_snapshot_whose_parts_cross_together_is_refused() -> None:
    """Each part alone looks fine."""
    tape = opened()
    tape.snapshot([(100, 1)], [], part=1, parts=2)
    tape.snapshot([], [(100, 2)], part=2, parts=2)
    one = Engine(SYMBOL, VENUE)
    outcome = one.apply(tape.records)
    assert "crossed" in str(outcome.failures[0][1])
