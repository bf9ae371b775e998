"""The frames that say what is followed, and those owed for what changes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streams.venues.kraken import urls
from streams.venues.kraken.requests import Key, Resubscriptions

INSTRUMENTS: Final[Key] = (urls.INSTRUMENT, "")


class Subscriptions:
    """What is owed to the venue on every open socket.

    Attributes:
        asks: What is to be asked again, and when.
    """

    def __init__(self, depth: int) -> None:
        """``depth``: levels a side of each book."""
        self.asks = Resubscriptions()
        self._depth = depth
        self._outbox: list[str] = []

    def everything(self, venue_symbols: Sequence[str]) -> list[str]:
        """What a new socket is sent, so that it carries all of these."""
        frames = urls.subscribe(urls.INSTRUMENT)
        for channel in urls.CHANNELS:
            frames += urls.subscribe(channel, venue_symbols, self._depth)
        return frames

    def join(self, venue_symbol: str, now_ms: int) -> None:
        """Carry one more; its book's snapshot is expected."""
        for channel in urls.CHANNELS:
            self._outbox += urls.subscribe(channel, [venue_symbol], self._depth)
        self.asks.expect((urls.BOOK, venue_symbol), now_ms)

    def leave(self, venue_symbol: str) -> None:
        """Carry one less."""
        for channel in urls.CHANNELS:
            self._outbox += urls.unsubscribe(channel, [venue_symbol], self._depth)

    def settle(self, venue_symbol: str) -> None:
        """Nothing is to be asked of this symbol any more."""
        for channel in urls.CHANNELS:
            self.asks.settle((channel, venue_symbol))

    def ask(self, keys: Sequence[Key]) -> None:
        """Subscribe these anew; a book's snapshot comes of a new subscription only."""
        for channel, venue_symbol in keys:
            if channel == urls.BOOK:
                self._outbox += urls.unsubscribe(channel, [venue_symbol], self._depth)
            self._outbox += urls.subscribe(channel, [venue_symbol], self._depth)

    def frames(self) -> list[str]:
        """Frames owed, each returned once."""
        if not self._outbox:
            return []
        outbox, self._outbox = self._outbox, []
        return outbox

    def forget(self) -> None:
        """There is no socket, or a new one that is sent `everything`."""
        self.asks.forget()
        self._outbox.clear()
