"""Kraken spot's market data, websocket v2: frames in, records and frames out. Sans-I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from streams.events import BookSnapshot, Event, Instrument
from streams.symbols import Listing
from streams.venues.base import AssemblerCounts, HttpRequest, excerpt
from streams.venues.kraken import urls
from streams.venues.kraken.damage import books_concerned
from streams.venues.kraken.feed import ONLINE, SymbolFeed
from streams.venues.kraken.requests import REPEAT_MS
from streams.venues.kraken.schema import (
    DECIMALS_MAX,
    VENUE,
    AnyFrame,
    BookEntry,
    CandleEntry,
    Frame,
    InstrumentFrame,
    Pair,
    Subscribed,
    SystemStatus,
    TickerEntry,
    TradeEntry,
    decode_any,
    decode_book,
    decode_candle,
    decode_instrument,
    decode_status,
    decode_subscribed,
    decode_ticker,
    decode_trade,
)
from streams.venues.kraken.subscriptions import INSTRUMENTS, Subscriptions
from streams.venues.market import Market
from tapeline.errors import ConfigError, FrameError, UnknownSymbol

_BOOK_PREFIX: Final = '{"channel":"book"'

_NOT_LISTED: Final = ("not supported", "iso 4217")
"""How the venue says, in lower case, that there is no such pair."""


class KrakenAssembler:
    """`streams.venues.base.Assembler` for Kraken spot.

    It needs time to pass to ask again for what was not answered and to close candles; any call
    brings it, and the venue's heartbeat comes every second.

    Attributes:
        counts: What has been seen.
        system: The venue's state: ``online``, ``maintenance``, ``cancel_only``, ``post_only``.
    """

    venue = VENUE

    def __init__(
        self,
        listings: Iterable[Listing],
        *,
        infer_instruments: bool = False,
        depth: int | None = urls.DEPTH,
    ) -> None:
        """Follow these listings.

        Args:
            listings: Each symbol once.
            infer_instruments: No instrument message will come (a capture without one): read tick
                and lot size off the first book's digits.
            depth: Levels a side to subscribe, one of `urls.DEPTHS`. None for a capture: as the
                venue's answers on it say, or its snapshots show.

        Raises:
            ConfigError: A venue symbol twice, or a depth that the venue does not offer.
        """
        if depth is not None and depth not in urls.DEPTHS:
            raise ConfigError("depth", depth, f"one of {', '.join(map(str, urls.DEPTHS))}")
        self.counts = AssemblerCounts()
        self.system = ONLINE
        self._infer = infer_instruments
        self._depth = depth
        self._subscriptions = Subscriptions(depth or urls.DEPTH)
        self._asks = self._subscriptions.asks
        self._feeds: dict[str, SymbolFeed] = {}  # by canonical symbol
        self._by_venue_symbol: dict[str, SymbolFeed] = {}
        self._pairs: dict[str, Pair] = {}
        self._live = False
        self._late: list[Event] = []  # of a call that raised; passed on with the next one's
        self._channels: dict[str, Callable[[str, int], list[Event]]] = {
            urls.BOOK: self._on_book,
            "trade": self._on_trade,
            "ticker": self._on_ticker,
            "ohlc": self._on_candle,
            urls.INSTRUMENT: self._on_instrument,
            "status": self._on_status,
            "heartbeat": self._on_heartbeat,
        }
        for listing in listings:
            self._keep(listing)

    # --- what is owed ---

    def stream_path(self) -> str:
        """The same for all: what is followed is asked for by frames."""
        return urls.STREAM_PATH

    def subscribe_frames(self) -> list[str]:
        """What a socket just opened is sent first, so that it carries all that is followed now."""
        names = [name for name, feed in self._by_venue_symbol.items() if not feed.market.unlisted]
        return self._subscriptions.everything(names)

    def frames_to_send(self) -> list[str]:
        """Frames owed to the venue on every open socket, each returned once."""
        return self._subscriptions.frames()

    def requests_to_send(self) -> list[HttpRequest]:
        """None: everything comes on the socket."""
        return []

    def wants_new_socket(self) -> bool:
        """Never: the venue announces no shutdown of a socket."""
        return False

    # --- the connection ---

    def connected(self, now_ms: int, connection: int = 0) -> list[Event]:
        """A socket is open. Only the first one restarts the books."""
        if self._live:
            for feed in self._feeds.values():
                feed.book.overlapped(now_ms)
            return self._passed([])
        self._live = True
        self.system = ONLINE
        self._subscriptions.forget()
        if not self._infer:
            self._asks.expect(INSTRUMENTS, now_ms)
        events: list[Event] = []
        for venue_symbol, feed in self._by_venue_symbol.items():
            feed.market.unlisted, feed.confirmed = False, True
            feed.connected()
            self._asks.expect((urls.BOOK, venue_symbol), now_ms)
            events.append(feed.market.status("connected", now_ms))
        return self._passed(events)

    def disconnected(self, now_ms: int, reason: str) -> list[Event]:
        """The last socket is gone. Books stay readable as what they were."""
        self._live = False
        self._subscriptions.forget()
        events: list[Event] = []
        for feed in self._feeds.values():
            feed.disconnected()
            events.append(feed.market.status("disconnected", now_ms, reason))
        return self._passed(events)

    def closed(self, connection: int, now_ms: int) -> list[Event]:
        """One of several sockets is gone: each carries everything, so nothing is missing."""
        return []

    def rests_on(self, connection: int) -> bool:
        """No book does on one socket alone."""
        return False

    def receive(self, frame: str | bytes, ts_recv_ms: int, connection: int = 0) -> list[Event]:
        """Feed one frame.

        A frame that may have been about a book and can't be read has that book distrusted: the
        venue numbers no messages, so nothing else would tell. What is to be said of it comes with
        the next call's events, a `tick`'s at the latest.

        Raises:
            FrameError: Not this venue's dialect, a value that can't be, or the venue's answer
                that it refused a request. What else was in the frame has been taken.
            UnknownSymbol: The venue lists no such symbol; nothing more is asked for it.
        """
        self.counts.frames += 1
        try:
            text = frame if isinstance(frame, str) else str(frame, "utf-8")
            if text.startswith(_BOOK_PREFIX):
                events = self._on_book(text, ts_recv_ms)
            else:
                events = self._uncommon(text, ts_recv_ms)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            self._late += self._suspected(frame, ts_recv_ms)
            self._refused(ts_recv_ms)
            raise FrameError(f"{exc}: {excerpt(frame)}") from None
        except FrameError:
            self._refused(ts_recv_ms)
            raise
        if ts_recv_ms >= self._asks.next_ms:
            events += self._ask_again(ts_recv_ms)
        return self._passed(events)

    def http_response(
        self, request: HttpRequest, status: int, body: bytes, now_ms: int, retry_after_s: float = 0
    ) -> list[Event]:
        """Nothing was asked for by HTTP, so no answer means anything."""
        return []

    def tick(self, now_ms: int) -> list[Event]:
        """What is still to be said of a frame that was refused, and what was not answered."""
        return self._passed(self._ask_again(now_ms) if now_ms >= self._asks.next_ms else [])

    # --- symbols ---

    def add(self, listing: Listing, now_ms: int) -> list[Event]:
        """Follow one more symbol; it is announced when the venue has answered.

        Raises:
            ConfigError: The venue symbol is followed already under another name.
        """
        if listing.symbol in self._feeds:
            return []
        feed = self._keep(listing)
        if self._live:
            feed.confirmed = False
            self._subscriptions.join(listing.venue_symbol, now_ms)
        return []

    def remove(self, symbol: str, now_ms: int) -> list[Event]:
        """Follow a symbol no longer. What is still on its way is passed over."""
        feed = self._feeds.get(symbol)
        if feed is None:
            return []
        if self._live and not feed.market.unlisted:
            self._subscriptions.leave(feed.market.venue_symbol)
        return self._passed([self._let_go(feed, now_ms, "removed")])

    def resync(self, symbol: str, now_ms: int, reason: str) -> list[Event]:
        """Distrust one symbol's book; for the reason ``refresh`` it is followed meanwhile."""
        book, events = self._feeds[symbol].book, list[Event]()
        if reason == "refresh" and book.synced:
            book.refresh(now_ms)
        else:
            events += book.distrust(reason, "a new snapshot was asked for", now_ms)
        return self._passed(events + self._ask_again(now_ms))

    def snapshot(
        self, symbol: str, now_ms: int, reason: str, *, stale_ok: bool = False
    ) -> BookSnapshot | None:
        """The assembled book in one part.

        Args:
            symbol: Canonical.
            now_ms: Time put on the record.
            reason: Put on the record.
            stale_ok: While the book is out of sync, return the last good one all the same. Not
                for the topic, where a snapshot says that the book is right again.

        Returns:
            None when the book is not in sync, or there is none, or nothing is known of its steps.
        """
        feed = self._feeds.get(symbol)
        if feed is None or feed.market.rules is None or feed.book.book is None:
            return None
        return feed.book.record(now_ms, reason) if feed.book.synced or stale_ok else None

    def instrument(self, symbol: str, now_ms: int) -> Instrument | None:
        """What is known of a symbol's steps, as of now; None before anything is."""
        feed = self._feeds.get(symbol)
        if feed is None or feed.market.rules is None:
            return None
        return msgspec.structs.replace(feed.market.rules, ts_event_ms=now_ms, ts_recv_ms=now_ms)

    def symbols(self) -> Sequence[str]:
        """Canonical symbols, in the order given."""
        return tuple(self._feeds)

    def _keep(self, listing: Listing) -> SymbolFeed:
        market = Market(listing, self.counts, decimals_max=DECIMALS_MAX)
        venue_symbol = market.venue_symbol = listing.venue_symbol  # some have small letters
        other = self._by_venue_symbol.get(venue_symbol)
        if other is not None:
            raise ConfigError(
                "symbol",
                str(listing),
                f"{venue_symbol} once; it is {other.market.symbol} already",
            )
        ask = partial(self._asks.owe, (urls.BOOK, venue_symbol))
        feed = SymbolFeed(market, ask, infer_instrument=self._infer)
        feed.book.depth = self._depth
        self._feeds[listing.symbol] = self._by_venue_symbol[venue_symbol] = feed
        return feed

    def _let_go(self, feed: SymbolFeed, now_ms: int, reason: str, detail: str = "") -> Event:
        market = feed.market
        del self._feeds[market.symbol], self._by_venue_symbol[market.venue_symbol]
        self._subscriptions.settle(market.venue_symbol)
        return market.status("disconnected", now_ms, reason, detail)

    # --- frames ---

    def _uncommon(self, text: str, now_ms: int) -> list[Event]:
        """Anything but a book's frame with its channel first."""
        frame: AnyFrame = decode_any(text)
        if frame.channel:
            handle = self._channels.get(frame.channel)
            if handle is not None:
                return handle(text, now_ms)
            self.counts.ignored += 1
            return []
        if frame.method:
            return self._on_answer(frame, now_ms)
        self._late += self._suspected(text, now_ms)
        raise FrameError(f"neither a channel's frame nor an answer: {excerpt(text)}")

    def _each(
        self, entries: Iterable[Any], handle: Callable[[SymbolFeed, Any], list[Event]]
    ) -> list[Event]:
        """All entries of a frame; one that can't be read costs none of the others.

        Raises:
            FrameError: The first there was; what the other entries stand for comes later.
        """
        events: list[Event] = []
        refused: FrameError | None = None
        for entry in entries:
            feed = self._by_venue_symbol.get(entry.symbol)
            if feed is None:
                self.counts.ignored += 1
                continue
            try:
                events += handle(feed, entry)
            except FrameError as exc:
                refused = refused or FrameError(f"{entry.symbol}: {exc}")
        if refused is not None:
            self._late += events
            raise refused
        return events

    def _on_book(self, text: str, now_ms: int) -> list[Event]:
        frame: Frame[BookEntry] = decode_book(text)
        if frame.type == "update" and len(frame.data) == 1:
            entry = frame.data[0]
            feed = self._by_venue_symbol.get(entry.symbol)
            if feed is None:
                self.counts.ignored += 1
                return []
            return self._book_update(feed, entry, now_ms)
        if frame.type == "update":
            return self._each(frame.data, lambda feed, e: self._book_update(feed, e, now_ms))
        return self._each(frame.data, lambda feed, e: self._book_snapshot(feed, e, now_ms))

    def _book_update(self, feed: SymbolFeed, entry: BookEntry, now_ms: int) -> list[Event]:
        try:
            return feed.book.update(entry, now_ms)
        except FrameError:
            self._late += feed.book.unreadable(now_ms)
            raise

    def _book_snapshot(self, feed: SymbolFeed, entry: BookEntry, now_ms: int) -> list[Event]:
        self._asks.settle((urls.BOOK, entry.symbol))
        try:
            events = feed.book.snapshot(entry, now_ms)
        except FrameError:
            self._late += feed.book.unreadable(now_ms)
            self._asks.owe((urls.BOOK, entry.symbol), now_ms)
            raise
        return events

    def _on_trade(self, text: str, now_ms: int) -> list[Event]:
        frame: Frame[TradeEntry] = decode_trade(text)
        entries = frame.data
        if frame.type == "snapshot":
            by_feed = self._by_feed(entries)
            entries = [e for feed, es in by_feed for e in feed.recent_trades(es, now_ms)]
        return self._each(entries, lambda feed, e: feed.on_trade(e, now_ms))

    def _on_ticker(self, text: str, now_ms: int) -> list[Event]:
        frame: Frame[TickerEntry] = decode_ticker(text)
        return self._each(frame.data, lambda feed, e: feed.on_ticker(e, now_ms))

    def _on_candle(self, text: str, now_ms: int) -> list[Event]:
        frame: Frame[CandleEntry] = decode_candle(text)
        entries = frame.data
        if frame.type == "snapshot":
            entries = [e for feed, es in self._by_feed(entries) for e in feed.recent_candles(es)]
        return self._each(entries, lambda feed, e: feed.on_candle(e, now_ms))

    def _by_feed(self, entries: Iterable[Any]) -> list[tuple[SymbolFeed, list[Any]]]:
        found: dict[str, list[Any]] = {}
        for entry in entries:
            found.setdefault(entry.symbol, []).append(entry)
        feeds = self._by_venue_symbol
        self.counts.ignored += sum(symbol not in feeds for symbol in found)
        return [(feeds[symbol], those) for symbol, those in found.items() if symbol in feeds]

    def _on_instrument(self, text: str, now_ms: int) -> list[Event]:
        frame: InstrumentFrame = decode_instrument(text)
        self._asks.settle(INSTRUMENTS)
        pairs = frame.data.pairs
        self._pairs.update((pair.symbol, pair) for pair in pairs)
        # Of all the pairs of a venue ours are few: the others are not ignored, just not ours.
        ours = [pair for pair in pairs if pair.symbol in self._by_venue_symbol]
        return self._each(ours, lambda feed, pair: feed.on_pair(pair, self.system, now_ms))

    def _on_status(self, text: str, now_ms: int) -> list[Event]:
        frame: Frame[SystemStatus] = decode_status(text)
        system = frame.data[-1].system.lower() if frame.data else ""
        if not system or system == self.system:
            return []
        self.system = system
        known = [self._pairs[name] for name in self._by_venue_symbol if name in self._pairs]
        return self._each(known, lambda feed, pair: feed.on_pair(pair, system, now_ms))

    def _on_heartbeat(self, _: str, now_ms: int) -> list[Event]:
        return [event for feed in self._feeds.values() for event in feed.keep_time(now_ms)]

    # --- answers ---

    def _on_answer(self, frame: AnyFrame, now_ms: int) -> list[Event]:
        if frame.success is False:
            return self._on_refusal(frame, now_ms)
        if frame.method != "subscribe" or not frame.result:
            return []
        done: Subscribed = decode_subscribed(frame.result)
        feed = self._by_venue_symbol.get(done.symbol)
        if feed is None:
            return []
        if done.channel != urls.BOOK:
            self._asks.settle((done.channel, done.symbol))
            return []
        feed.book.depth = done.depth or feed.book.depth
        if feed.confirmed:
            return []
        feed.confirmed = True
        events: list[Event] = [feed.market.status("connected", now_ms)]
        pair = self._pairs.get(done.symbol)
        return events if pair is None else events + feed.on_pair(pair, self.system, now_ms)

    def _on_refusal(self, frame: AnyFrame, now_ms: int) -> list[Event]:
        """A request was refused: never asked again, or asked again later.

        Raises:
            FrameError: With the venue's words, unless
            UnknownSymbol: they are that it does not list the symbol.
        """
        feed, why = self._by_venue_symbol.get(frame.symbol), frame.error.lower()
        if frame.method == "subscribe" and feed is not None:
            if any(words in why for words in _NOT_LISTED):
                return self._not_listed(feed, frame.error, now_ms)
            key = (urls.channel_asked(frame.req_id), frame.symbol)
            # What is subscribed already was the aim, but of a book, which owes us a snapshot.
            if key[0] and (key[0] == urls.BOOK or "already subscribed" not in why):
                self._asks.settle(key)
                self._asks.owe(key, now_ms, REPEAT_MS)
        about = f" of {frame.symbol[:40]}" if frame.symbol else ""
        raise FrameError(f"{frame.method[:40]}{about} refused: {frame.error[:200]}")

    def _not_listed(self, feed: SymbolFeed, why: str, now_ms: int) -> list[Event]:
        if not feed.confirmed:
            return [self._let_go(feed, now_ms, "refused", why)]
        if feed.market.unlisted:
            return []  # each channel says it
        feed.market.unlisted = True
        self._subscriptions.settle(feed.market.venue_symbol)
        raise UnknownSymbol(VENUE, feed.market.venue_symbol)

    # --- asking again ---

    def _ask_again(self, now_ms: int) -> list[Event]:
        """Put into the outbox what is due, after a look at what was not answered."""
        events: list[Event] = []
        due, overdue = self._asks.take(now_ms)
        for channel, venue_symbol in overdue:
            feed = self._by_venue_symbol.get(venue_symbol)
            if channel == urls.BOOK and feed is not None:
                events += feed.book.overdue(now_ms)
            else:
                self._asks.owe((channel, venue_symbol), now_ms)
        if overdue:
            due += self._asks.take(now_ms)[0]
        if self._live:
            self._subscriptions.ask(due)
        return events

    # --- inside ---

    def _refused(self, now_ms: int) -> None:
        self.counts.errors += 1
        if now_ms >= self._asks.next_ms:
            self._late += self._ask_again(now_ms)

    def _suspected(self, frame: str | bytes, now_ms: int) -> list[Event]:
        """Distrust what a frame that can't be read may have been about: at worst, all books."""
        names = books_concerned(frame)
        feeds = [*self._feeds.values()] if names is None else map(self._by_venue_symbol.get, names)
        found = [feed for feed in feeds if feed is not None]
        if names and len(found) < len(names):
            found = [*self._feeds.values()]  # a name of nobody's is a damaged one
        return [event for feed in found for event in feed.book.unreadable(now_ms)]

    def _passed(self, events: list[Event]) -> list[Event]:
        late, self._late = self._late, []
        return self.counts.passed(late + events)
