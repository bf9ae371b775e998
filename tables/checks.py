"""What is refused of a well-formed record before anything changes: it still can't be right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streams.events import BookDelta, BookSnapshot, Instrument, Ticker, Trade
from tapeline.errors import MalformedRecord

EXPONENT_FLOOR: Final = -12
"""Finer units than any venue's: arithmetic with them would leave 64 bits."""


def check_units(event: Instrument | BookSnapshot | BookDelta | Trade | Ticker) -> None:
    """Refuse exponents that are too fine.

    Raises:
        MalformedRecord: It names the exponent.
    """
    finest = min(event.px_e, event.sz_e)
    if finest < EXPONENT_FLOOR:
        raise MalformedRecord(f"exponent {finest} is finer than {EXPONENT_FLOOR}")


def check_ticker(event: Ticker) -> None:
    """Refuse one that says nothing.

    Raises:
        MalformedRecord: It has neither figures of the day nor a quote.
    """
    if event.day is None and event.quote is None:
        raise MalformedRecord("ticker with neither day nor quote")


def check_snapshot(event: BookSnapshot, before: Sequence[BookSnapshot]) -> None:
    """Refuse a part that makes a crossed book with the parts before it.

    Raises:
        MalformedRecord: It names the parts, or the prices.
    """
    check_units(event)
    if event.part > event.parts:
        raise MalformedRecord(f"part {event.part} of {event.parts}")
    parts = [*before, event] if event.part > 1 else [event]
    bid = max((px for part in parts for px, sz in part.bids if sz), default=None)
    ask = min((px for part in parts for px, sz in part.asks if sz), default=None)
    if bid is not None and ask is not None and bid >= ask:
        raise MalformedRecord(f"crossed book: best bid {bid} is not below best ask {ask}")
