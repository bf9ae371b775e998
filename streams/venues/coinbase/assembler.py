"""Coinbase's market data: frames and REST replies in, records, frames and requests out. Sans-I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import msgspec

from streams.events import BookSnapshot, Event, Instrument
from streams.symbols import Listing
from streams.venues.base import AssemblerCounts, HttpRequest, excerpt
from streams.venues.coinbase import urls
from streams.venues.coinbase.asks import Asks
from streams.venues.coinbase.channels import BOOKS, UNREADABLE, Channels
from streams.venues.coinbase.feed import SymbolFeed
from streams.venues.coinbase.instruments import DELISTED, instrument_of
from streams.venues.coinbase.roster import Roster
from streams.venues.coinbase.schema import VENUE, AnyFrame, Product, Products
from streams.venues.coinbase.sequence import Sequence as Numbers
from streams.venues.coinbase.sequence import Step
from streams.venues.coinbase.subscriptions import Subscriptions
from streams.venues.market import Market
from streams.venues.requests import RequestQueue
from tapeline.errors import ConfigError, FrameError, UnknownSymbol

_PREFIX: Final = '{"channel":"'
_PREFIX_LENGTH: Final = len(_PREFIX)
_decode_any: Final = msgspec.json.Decoder(AnyFrame).decode
_decode_products: Final = msgspec.json.Decoder(Products).decode
_decode_product: Final = msgspec.json.Decoder(Product).decode

_PRODUCT: Final = re.compile(r'"product_id"\s*:\s*"([^"]{1,40})"')
_NAME: Final = re.compile(r"[A-Z0-9]+(?:-[A-Z0-9]+)+")
_NOT_FOUND: Final = 404
_BAD_REQUEST: Final = 400
_BARRED: Final = (418, 429)


class CoinbaseAssembler:
    """`streams.venues.base.Assembler` for Coinbase Advanced Trade.

    It needs time to pass to ask again for what has not come; any call brings it, and the venue's
    heartbeat comes every second.

    Attributes:
        counts: What has been seen.
    """

    venue = VENUE

    def __init__(self, listings: Iterable[Listing], *, infer_instruments: bool = False) -> None:
        """Follow these listings.

        Args:
            listings: Each symbol once.
            infer_instruments: No reply about products will come (a capture without one): read
                tick and lot size off the first book's digits.

        Raises:
            ConfigError: A venue symbol twice.
        """
        self.counts = AssemblerCounts()
        self._infer = infer_instruments
        self._requests = RequestQueue()
        self._asks = Asks()
        self._subscriptions = Subscriptions()
        self._roster = Roster()
        self._numbers: dict[int, Numbers] = {}  # by connection
        self._live = False
        self._now_ms = 0
        self._channels = Channels(self._roster, self._asks, self.counts)
        for listing in listings:
            self._keep(listing)

    # --- what is owed ---

    def stream_path(self) -> str:
        """The same for all: what is followed is asked for by frames."""
        return urls.STREAM_PATH

    def subscribe_frames(self) -> list[str]:
        """What a socket just opened is sent first, so that it carries all that is followed now."""
        listed = [
            name for name, feed in self._roster.by_venue_symbol.items() if not feed.market.unlisted
        ]
        return urls.subscribe_all(listed)

    def frames_to_send(self) -> list[str]:
        """Frames owed to the venue on every open socket: at most one book's new subscription."""
        frames = self._subscriptions.frames()
        again = self._asks.take(self._now_ms)
        if again is None:
            return frames
        # What nothing was heard of may have been refused for the sake of another.
        heard = self._roster.by_venue_symbol[again].heard
        return frames + urls.subscribe_again(again, book_only=heard)

    def requests_to_send(self) -> list[HttpRequest]:
        """Requests owed, each returned once."""
        return self._requests.take()

    def wants_new_socket(self) -> bool:
        """Never: the venue announces no shutdown of a socket."""
        return False

    # --- the connection ---

    def connected(self, now_ms: int, connection: int = 0) -> list[Event]:
        """A socket is open. Only the first one restarts the books; each has its own numbers."""
        self._now_ms = now_ms
        self._numbers[connection] = Numbers()
        for venue_symbol, feed in self._roster.by_venue_symbol.items():
            if not feed.market.unlisted and not feed.book.synced:
                self._asks.expect(venue_symbol, now_ms)
        if self._live:
            return self._passed([])
        self._live = True
        self._requests.forget()
        self._subscriptions.forget()
        if self._roster.by_venue_symbol and not self._infer:
            self._ask_products([*self._roster.by_venue_symbol], now_ms)
        events: list[Event] = []
        for feed in self._roster.by_symbol.values():
            feed.announced = True
            feed.connected()
            events.append(feed.market.status("connected", now_ms))
        return self._passed(events)

    def disconnected(self, now_ms: int, reason: str) -> list[Event]:
        """The last socket is gone. Books stay readable as what they were."""
        self._now_ms = now_ms
        self._live = False
        self._numbers.clear()
        self._requests.forget()
        self._asks.forget()
        self._subscriptions.forget()
        events: list[Event] = []
        for feed in self._roster.by_symbol.values():
            feed.book.disconnected()
            events.append(feed.market.status("disconnected", now_ms, reason))
        return self._passed(events)

    def closed(self, connection: int, now_ms: int) -> list[Event]:
        """One of several sockets is gone: books that followed it are subscribed anew."""
        self._now_ms = now_ms
        self._numbers.pop(connection, None)
        feeds = self._roster.by_symbol.values()
        return self._passed([event for feed in feeds for event in feed.closed(connection, now_ms)])

    def rests_on(self, connection: int) -> bool:
        """Whether a book is in sync by way of this connection."""
        return any(feed.book.rests_on(connection) for feed in self._roster.by_symbol.values())

    def receive(self, frame: str | bytes, ts_recv_ms: int, connection: int = 0) -> list[Event]:
        """Feed one frame.

        A book of which something can't be read is distrusted; what is to be said of it comes with
        the next call's events, a `tick`'s at the latest.

        Raises:
            FrameError: Not this venue's dialect, a value that can't be, or the venue's answer
                that it refused a request. What the frame holds of other symbols has been taken.
            UnknownSymbol: The venue lists no such symbol; nothing more is asked for it.
        """
        counts = self.counts
        counts.frames += 1
        self._now_ms = ts_recv_ms
        text = ""
        try:
            text = frame if isinstance(frame, str) else str(frame, "utf-8")
            events = self._read(text, ts_recv_ms, connection)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            counts.errors += 1
            self._suspect(text, ts_recv_ms, connection)
            raise FrameError(f"{exc}: {excerpt(frame)}") from None
        except FrameError:
            counts.errors += 1
            raise
        return self._passed(events + self._overdue(ts_recv_ms))

    def tick(self, now_ms: int) -> list[Event]:
        """What is still to be said of a frame that was refused, and what was not answered."""
        self._now_ms = now_ms
        return self._passed(self._overdue(now_ms))

    def _overdue(self, now_ms: int) -> list[Event]:
        events: list[Event] = []
        if now_ms >= self._asks.late_ms:
            for venue_symbol in self._asks.overdue(now_ms):
                events += self._roster.by_venue_symbol[venue_symbol].book.overdue(now_ms)
        return events

    # --- symbols ---

    def add(self, listing: Listing, now_ms: int) -> list[Event]:
        """Follow one more symbol; it is announced when the venue has answered.

        Raises:
            ConfigError: The venue symbol is followed already under another name.
        """
        if listing.symbol in self._roster.by_symbol:
            return []
        feed = self._keep(listing)
        if self._live:
            feed.announced = False
            venue_symbol = feed.market.venue_symbol
            self._subscriptions.join(venue_symbol)
            self._asks.expect(venue_symbol, now_ms)
            if not self._infer:
                self._ask_products([venue_symbol], now_ms)
        return []

    def remove(self, symbol: str, now_ms: int) -> list[Event]:
        """Follow a symbol no longer. What is still on its way is passed over."""
        feed = self._roster.by_symbol.get(symbol)
        if feed is None:
            return []
        # Of two names of one product, the other one's stream would end, too.
        if self._live and not feed.market.unlisted and not self._roster.shares(feed):
            self._subscriptions.leave(feed.market.venue_symbol)
        return self._passed([self._let_go(feed, now_ms, "removed")])

    def resync(self, symbol: str, now_ms: int, reason: str) -> list[Event]:
        """Distrust one symbol's book; for the reason ``refresh`` it is followed meanwhile."""
        self._now_ms = now_ms
        book = self._roster.by_symbol[symbol].book
        if reason == "refresh":
            return self._passed(book.refresh(now_ms))
        return self._passed(book.distrust(reason, "a new snapshot was asked for", now_ms))

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
        feed = self._roster.by_symbol.get(symbol)
        if feed is None or feed.market.rules is None or feed.book.book is None:
            return None
        return feed.book.record(now_ms, reason) if feed.book.synced or stale_ok else None

    def instrument(self, symbol: str, now_ms: int) -> Instrument | None:
        """What is known of a symbol's steps, as of now; None before anything is."""
        feed = self._roster.by_symbol.get(symbol)
        if feed is None or feed.market.rules is None:
            return None
        return msgspec.structs.replace(feed.market.rules, ts_event_ms=now_ms, ts_recv_ms=now_ms)

    def symbols(self) -> Sequence[str]:
        """Canonical symbols, in the order given."""
        return tuple(self._roster.by_symbol)

    def _keep(self, listing: Listing) -> SymbolFeed:
        market = Market(listing, self.counts)
        venue_symbol = market.venue_symbol
        other = self._roster.by_venue_symbol.get(venue_symbol)
        if other is not None:
            known = other.market.symbol
            raise ConfigError("symbol", str(listing), f"{venue_symbol} once; it is {known} already")
        ask = partial(self._ask_book, market)
        feed = SymbolFeed(market, ask, infer_instrument=self._infer)
        self._roster.keep(feed)
        return feed

    def _let_go(self, feed: SymbolFeed, now_ms: int, reason: str, detail: str = "") -> Event:
        market = feed.market
        self._roster.drop(feed)
        self._asks.drop(market.venue_symbol)
        self._requests.drop(market.venue_symbol)
        return market.status("disconnected", now_ms, reason, detail)

    # --- frames ---

    def _read(self, text: str, now_ms: int, connection: int) -> list[Event]:
        channel = ""
        if text.startswith(_PREFIX):
            # The channel is read before the rest, so that one typed pass decodes the frame.
            channel = text[_PREFIX_LENGTH : text.find('"', _PREFIX_LENGTH)]
        route = self._channels.routes.get(channel)
        if route is None:
            head = _decode_any(text)
            route = self._channels.routes.get(head.channel)
            if route is None:
                return self._uncommon(head, text, now_ms, connection)
        decode, handle = route
        frame = decode(text)
        step = self._step(frame.sequence_num, now_ms, connection)
        if step is Step.REPEAT:
            return []
        return handle(frame, now_ms, connection, step)

    def _uncommon(self, head: AnyFrame, text: str, now_ms: int, connection: int) -> list[Event]:
        """A frame of no channel of ours, which has its number all the same; or none."""
        if head.type == "error":
            return self._on_error(head.message, now_ms)
        if not head.channel or head.sequence_num is None:
            raise FrameError(f"neither a channel's frame nor an error: {excerpt(text)}")
        self._step(head.sequence_num, now_ms, connection)
        self.counts.ignored += 1
        return []

    def _step(self, number: int, now_ms: int, connection: int) -> Step:
        """Take a frame's number; what a hole before it means for the books is said later."""
        numbers = self._numbers.get(connection)
        if numbers is None:
            numbers = self._numbers[connection] = Numbers()
        newest = numbers.newest
        step = numbers.step(number)
        counts = self.counts
        if step is Step.REPEAT:
            counts.stale += 1
            return step
        counts.sequence_last = number
        if counts.sequence_first is None:
            counts.sequence_first = number
        if step is not Step.NEXT:
            counts.sequence_gaps += step is Step.HOLE
            detail = f"expected frame {newest + 1} of the connection, got {number}"
            for feed in self._roster.by_symbol.values():
                self._channels.late += feed.book.hole(connection, detail, now_ms)
        return step

    def _on_error(self, message: str, now_ms: int) -> list[Event]:
        """A request was refused; which one, the venue does not say.

        Raises:
            UnknownSymbol: It names a product of ours.
            FrameError: With the venue's words.
        """
        for name in _NAME.findall(message.upper()):
            feed = self._roster.by_venue_symbol.get(name)
            if feed is not None:
                return self._not_listed(feed, message, now_ms)
        raise FrameError(f"{VENUE} refused a request: {message[:200]}")

    def _suspect(self, text: str, now_ms: int, connection: int) -> None:
        """Distrust the books that an unreadable frame was about, if it can be told.

        Where not even its number can, the next frame shows the hole.
        """
        try:
            head = _decode_any(text)
        except msgspec.DecodeError:
            return
        if not head.channel or head.sequence_num is None:
            return
        step = self._step(head.sequence_num, now_ms, connection)
        if step is not Step.NEXT or head.channel != BOOKS:
            return
        for feed in self._roster.named(dict.fromkeys(_PRODUCT.findall(text))):
            self._channels.late += feed.book.hole(connection, UNREADABLE, now_ms)

    # --- REST ---

    def http_response(
        self, request: HttpRequest, status: int, body: bytes, now_ms: int, retry_after_s: float = 0
    ) -> list[Event]:
        """The answer to a request; refused, failed or unreadable ones are owed again, later.

        Raises:
            UnknownSymbol: The venue lists no such symbol; nothing more is asked for it.
            FrameError: Status 200 with a body that is not this venue's dialect.
        """
        self._now_ms = now_ms
        if not self._requests.settle(request):
            return []  # from before a reconnect
        if status != 200:
            return self._passed(self._refused(request, status, now_ms, retry_after_s))
        try:
            products = _products(body)
            events = self._on_products(products, request, now_ms)
        except (msgspec.DecodeError, UnicodeDecodeError, FrameError) as exc:
            self.counts.errors += 1
            self._requests.fail(request, now_ms)
            raise FrameError(f"{request.path}: {exc}: {excerpt(body)}") from None
        self._requests.succeed(request)
        return self._passed(events)

    def _ask_products(self, venue_symbols: list[str], now_ms: int) -> None:
        one = venue_symbols[0] if len(venue_symbols) == 1 else ""
        path = urls.product_path(one) if one else urls.products_path(venue_symbols)
        self._requests.owe(HttpRequest("instrument", path, one), now_ms)

    def _ask_book(self, market: Market, now_ms: int) -> None:
        if self._live and not market.unlisted:
            self._asks.owe(market.venue_symbol, now_ms)

    def _refused(
        self, request: HttpRequest, status: int, now_ms: int, retry_after_s: float
    ) -> list[Event]:
        if status in (_BAD_REQUEST, _NOT_FOUND):
            feed = self._roster.by_venue_symbol.get(request.venue_symbol)
            if feed is not None:
                return self._not_listed(feed, f"HTTP {status}", now_ms)
            # The venue does not say which one it is.
            for venue_symbol in self._roster.by_venue_symbol:
                self._ask_products([venue_symbol], now_ms)
            return []
        self._requests.fail(request, now_ms, retry_after_s, barred=status in _BARRED)
        return []

    def _on_products(
        self, products: dict[str, Product], request: HttpRequest, now_ms: int
    ) -> list[Event]:
        events: list[Event] = []
        asked = [request.venue_symbol] if request.venue_symbol else [*self._roster.by_venue_symbol]
        for venue_symbol in asked:
            feed, product = self._roster.by_venue_symbol[venue_symbol], products.get(venue_symbol)
            if product is not None and product.status.lower() != DELISTED:
                self._roster.rename(feed, product.alias)
                rules = feed.market.know(instrument_of(feed.market.symbol, product, now_ms))
                events += [rules] if feed.announced else []
                events += feed.book.instrument_known(now_ms)
            elif request.venue_symbol:
                events += self._not_listed(feed, "the venue lists no such product", now_ms)
            else:
                # Asked for by itself, so that telling of it costs no other symbol's events.
                self._ask_products([venue_symbol], now_ms)
        return events

    def _not_listed(self, feed: SymbolFeed, why: str, now_ms: int) -> list[Event]:
        """What the venue lacks is asked for no more; the frame that named it has to be repeated.

        Raises:
            UnknownSymbol: Unless it joined at run time, and is followed no more.
        """
        market = feed.market
        if market.unlisted:
            return []
        for venue_symbol, other in self._roster.by_venue_symbol.items():
            if other is not feed and not other.heard and not other.market.unlisted:
                self._subscriptions.join(venue_symbol)
        self._subscriptions.forget(market.venue_symbol)
        if not feed.announced:
            return [self._let_go(feed, now_ms, "refused", why)]
        market.unlisted = True
        self._asks.drop(market.venue_symbol)
        raise UnknownSymbol(VENUE, market.venue_symbol)

    # --- inside ---

    def _passed(self, events: list[Event]) -> list[Event]:
        if self._channels.late:
            late, self._channels.late = self._channels.late, []
            events = late + events
        return self.counts.passed(events)


def _products(body: bytes) -> dict[str, Product]:
    """By id, of the reply about many or about one."""
    try:
        products = _decode_products(body).products
    except msgspec.ValidationError:
        products = [_decode_product(body)]
    return {product.product_id: product for product in products}
