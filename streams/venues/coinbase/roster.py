"""Who is followed, by each of the names that it goes by. Pure."""

from __future__ import annotations

from collections.abc import Collection

from streams.venues.coinbase.feed import SymbolFeed


class Roster:
    """The feeds of all symbols.

    Attributes:
        by_symbol: By canonical symbol, in the order given.
        by_venue_symbol: By the venue's name, as it is asked for.
        by_wire: By the name that the websocket gives to it, of which two may be one product.
    """

    def __init__(self) -> None:
        self.by_symbol: dict[str, SymbolFeed] = {}
        self.by_venue_symbol: dict[str, SymbolFeed] = {}
        self.by_wire: dict[str, list[SymbolFeed]] = {}

    def keep(self, feed: SymbolFeed) -> None:
        """Follow one more."""
        market = feed.market
        self.by_symbol[market.symbol] = self.by_venue_symbol[market.venue_symbol] = feed
        for name in feed.names:
            self.by_wire.setdefault(name, []).append(feed)

    def rename(self, feed: SymbolFeed, name: str) -> None:
        """It goes by this name, too."""
        if name and name not in feed.names:
            feed.names[name] = None
            self.by_wire.setdefault(name, []).append(feed)

    def drop(self, feed: SymbolFeed) -> None:
        """Follow it no more."""
        market = feed.market
        del self.by_symbol[market.symbol], self.by_venue_symbol[market.venue_symbol]
        for name in feed.names:
            self.by_wire[name].remove(feed)

    def shares(self, feed: SymbolFeed) -> bool:
        """Whether another symbol followed is the same product at the venue."""
        return any(len(self.by_wire[name]) > 1 for name in feed.names)

    def named(self, names: Collection[str]) -> list[SymbolFeed]:
        """All that go by these names; everybody, if there is no name or one of nobody's."""
        found = [self.by_wire.get(name) for name in names]
        if not found or not all(found):
            return [*self.by_symbol.values()]
        return [feed for feeds in found if feeds for feed in feeds]
