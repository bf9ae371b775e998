"""Coinbase's channels: each frame, by product, to the feeds it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from streams.events import Event
from streams.venues.base import AssemblerCounts
from streams.venues.coinbase import urls
from streams.venues.coinbase.asks import Asks
from streams.venues.coinbase.feed import SymbolFeed
from streams.venues.coinbase.roster import Roster
from streams.venues.coinbase.schema import (
    Anything,
    CandlesEvent,
    Frame,
    Level2Event,
    SubscriptionsEvent,
    TickerEvent,
    TradesEvent,
)
from streams.venues.coinbase.sequence import Step
from streams.venues.coinbase.times import millis
from tapeline.errors import FrameError

BOOKS: Final = "l2_data"
UNREADABLE: Final = "a message could not be read"

_EVENTS: Final[dict[str, tuple[Any, str]]] = {
    BOOKS: (Level2Event, "on_level2"),
    "market_trades": (TradesEvent, "on_trades"),
    "ticker": (TickerEvent, "on_tickers"),
    "ticker_batch": (TickerEvent, "on_tickers"),
    "candles": (CandlesEvent, "on_candles"),
    "heartbeats": (Anything, "on_heartbeat"),
    "subscriptions": (SubscriptionsEvent, "on_subscriptions"),
}
"""By channel: what its frames hold, and who reads it."""

_decoders: Final = {
    channel: msgspec.json.Decoder(Frame[event]).decode  # type: ignore[valid-type]
    for channel, (event, _) in _EVENTS.items()
}

Handler = Callable[[Any, int, int, Step], list[Event]]
"""(frame, ts_recv_ms, connection, what its number says) to events."""


class Channels:
    """Readers of all channels.

    Attributes:
        routes: By channel, the decoder of its frames and who reads them.
        late: Events that have come of a frame which was then refused.
    """

    def __init__(self, roster: Roster, asks: Asks, counts: AssemblerCounts) -> None:
        self.late: list[Event] = []
        self._roster, self._asks, self._counts = roster, asks, counts
        self.routes: dict[str, tuple[Callable[[str], Any], Handler]] = {
            channel: (_decoders[channel], getattr(self, reader))
            for channel, (_, reader) in _EVENTS.items()
        }

    def _each(
        self,
        entries: Iterable[tuple[str, Any]],
        now_ms: int,
        handle: Callable[[SymbolFeed, Any], list[Event]],
    ) -> list[Event]:
        """All entries of a frame, by product; one that can't be read costs none of the others.

        Raises:
            FrameError: The first there was; what the other entries stand for comes later.
        """
        events: list[Event] = []
        refused: FrameError | None = None
        for product, entry in entries:
            feeds = self._roster.by_wire.get(product)
            if not feeds:
                self._counts.ignored += 1
                continue
            for feed in feeds:
                feed.heard = True
                if not feed.announced:
                    events += _announce(feed, now_ms)
                try:
                    events += handle(feed, entry)
                except FrameError as exc:
                    refused = refused or FrameError(f"{product}: {exc}")
        if refused is not None:
            self.late += events
            raise refused
        return events

    def on_level2(
        self, frame: Frame[Level2Event], now_ms: int, connection: int, step: Step
    ) -> list[Event]:
        seq, sent_ms = frame.sequence_num, millis(frame.timestamp)

        def handle(feed: SymbolFeed, event: Level2Event) -> list[Event]:
            try:
                if event.type == "update":
                    return feed.book.update(event.updates, seq, now_ms, connection)
                if step is Step.HOLE:
                    # The number that shows a hole may itself be wrong, and then others of its
                    # frames are to come that pass for repeats. A snapshot has been asked for.
                    self._counts.stale += 1
                    return []
                events = feed.book.snapshot(event.updates, seq, sent_ms, now_ms, connection)
            except FrameError:
                self.late += feed.book.hole(connection, UNREADABLE, now_ms)
                raise
            if feed.book.synced:
                self._asks.settle(feed.market.venue_symbol, now_ms)
            return events

        return self._each(((event.product_id, event) for event in frame.events), now_ms, handle)

    def on_trades(
        self, frame: Frame[TradesEvent], now_ms: int, connection: int, step: Step
    ) -> list[Event]:
        entries = (entry for event in frame.events for entry in event.trades)
        return self._each(_by_product(entries), now_ms, lambda feed, es: feed.on_trades(es, now_ms))

    def on_tickers(
        self, frame: Frame[TickerEvent], now_ms: int, connection: int, step: Step
    ) -> list[Event]:
        sent_ms = millis(frame.timestamp)
        entries = ((entry.product_id, entry) for event in frame.events for entry in event.tickers)
        return self._each(
            entries,
            now_ms,
            lambda feed, entry: feed.on_ticker(entry, sent_ms, now_ms, connection),
        )

    def on_candles(
        self, frame: Frame[CandlesEvent], now_ms: int, connection: int, step: Step
    ) -> list[Event]:
        sent_ms = millis(frame.timestamp)
        entries = (entry for event in frame.events for entry in event.candles)
        return self._each(
            _by_product(entries),
            now_ms,
            lambda feed, es: feed.on_candles(es, sent_ms, now_ms, connection),
        )

    def on_heartbeat(
        self, frame: Frame[Anything], now_ms: int, connection: int, step: Step
    ) -> list[Event]:
        return []

    def on_subscriptions(
        self, frame: Frame[SubscriptionsEvent], now_ms: int, connection: int, step: Step
    ) -> list[Event]:
        """All that this connection carries now."""
        events: list[Event] = []
        for event in frame.events:
            carried = {name for names in event.subscriptions.values() for name in names}
            books = set(event.subscriptions.get(urls.LEVEL2, ()))
            for feed in self._roster.by_symbol.values():
                if not carried.isdisjoint(feed.names):
                    events += _announce(feed, now_ms)
                if feed.book.rests_on(connection) and books.isdisjoint(feed.names):
                    # The venue has ended it, at our word or not; a snapshot has to come.
                    self._asks.expect(feed.market.venue_symbol, now_ms)
        return events


def _announce(feed: SymbolFeed, now_ms: int) -> list[Event]:
    """The venue has answered: tell what is known of a symbol that joined at run time."""
    if feed.announced:
        return []
    feed.announced = True
    market = feed.market
    connected = market.status("connected", now_ms)
    if market.rules is None:
        return [connected]
    times = {"ts_event_ms": now_ms, "ts_recv_ms": now_ms}
    return [connected, msgspec.structs.replace(market.rules, **times)]


def _by_product(entries: Iterable[Any]) -> list[tuple[str, list[Any]]]:
    found: dict[str, list[Any]] = {}
    for entry in entries:
        found.setdefault(entry.product_id, []).append(entry)
    return [*found.items()]
