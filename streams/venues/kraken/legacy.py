"""Recordings of Kraken's websocket v1, which is frozen: their books, held against its checksums.

A frame is ``[channel, {..}, "book-10", "XBT/USD"]``. A snapshot has ``as`` and ``bs`` and no
checksum; an update has ``a`` or ``b``, or both in two maps, and the checksum ``c`` in the last one.
Numbers are text. Times stand at each level and do not rise from message to message, so they are
left alone. Trades have no ids and tickers are of another make: neither is read.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from streams.events import Event
from streams.venues.base import excerpt
from streams.venues.kraken.assembler import KrakenAssembler
from streams.venues.kraken.schema import UNCHECKED, BookEntry, WireLevel
from tapeline.errors import FrameError

_EVENT: Final = re.compile(r'"event"\s*:\s*"(\w+)"')
_PAIR: Final = re.compile(r'"pair"\s*:\s*"([^"]+)"')
_DATA: Final = re.compile(r'"([a-z]+)(?:-\d+)?"\s*,\s*"([^"]+)"\s*\]\s*$')
_LOOKED_AT: Final = 300

_decode_list: Final = msgspec.json.Decoder(list[Any]).decode


def look(frame: str) -> tuple[str, str]:
    """Channel, or event, and pair of a v1 frame; both empty of any other."""
    if frame.startswith("["):
        data = _DATA.search(frame, max(0, len(frame) - _LOOKED_AT))
        return (data[1], data[2]) if data else ("", "")
    event = _EVENT.search(frame, 0, _LOOKED_AT)
    if event is None:
        return "", ""
    pair = _PAIR.search(frame, 0, _LOOKED_AT)
    return event[1], pair[1] if pair else ""


class TapeAssembler(KrakenAssembler):
    """`KrakenAssembler` that reads frames of v1 as well: for recordings, which may be of either."""

    def receive(self, frame: str | bytes, ts_recv_ms: int, connection: int = 0) -> list[Event]:
        """Feed one frame of v2 or v1.

        Raises:
            FrameError: Of neither dialect, or a value that can't be.
        """
        if not isinstance(frame, str) or not look(frame)[0]:
            return super().receive(frame, ts_recv_ms, connection)
        self.counts.frames += 1
        if not frame.startswith("["):
            return self._passed([])
        try:
            return self._passed(self._on_list(_decode_list(frame), ts_recv_ms))
        except (msgspec.DecodeError, FrameError, AttributeError, TypeError, ValueError) as exc:
            self._late += self._suspected(frame, ts_recv_ms)
            self._refused(ts_recv_ms)
            raise FrameError(f"{exc}: {excerpt(frame)}") from None

    def _on_list(self, frame: list[Any], now_ms: int) -> list[Event]:
        _, *maps, channel, pair = frame
        name, _, depth = channel.partition("-")
        feed = self._by_venue_symbol.get(pair)
        if name != "book" or feed is None:
            self.counts.ignored += 1
            return []
        feed.book.depth = int(depth)
        said = {key: value for part in maps for key, value in part.items()}
        snapshot = "as" in said or "bs" in said
        bids, asks = ("bs", "as") if snapshot else ("b", "a")
        entry = BookEntry(
            symbol=pair,
            bids=_levels(said.get(bids, [])),
            asks=_levels(said.get(asks, [])),
            checksum=UNCHECKED if snapshot else int(said.get("c", "")),
        )
        if snapshot:
            return self._book_snapshot(feed, entry, now_ms)
        return self._book_update(feed, entry, now_ms)


def _levels(levels: list[list[str]]) -> list[WireLevel]:
    return [WireLevel(price, size) for price, size, *_ in levels]
