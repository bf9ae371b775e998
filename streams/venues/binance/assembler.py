"""Binance spot's market data: frames and REST replies in, records and requests out. Sans-I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streams.events import (
    BookSnapshot,
    Event,
    Instrument,
)
from streams.symbols import Listing
from streams.venues.base import AssemblerCounts, HttpRequest, excerpt
from streams.venues.binance import urls, wire
from streams.venues.binance.depth import Join
from streams.venues.binance.feed import SymbolFeed
from streams.venues.binance.instruments import instrument_of
from streams.venues.binance.payloads import BARE, COMBINED, PAYLOADS, Decode
from streams.venues.binance.schema import (
    VENUE,
    AnyFrame,
    DepthSnapshot,
    ExchangeInfo,
    VenueError,
)
from streams.venues.binance.streams import Subscriptions
from streams.venues.market import Market
from streams.venues.ordering import LATE_MS
from streams.venues.requests import RequestQueue
from tapeline.errors import ConfigError, FrameError, UnknownSymbol

if TYPE_CHECKING:
    from streams.venues.binance._wire import Lane

Handler = Callable[[Any, int], list[Event]]

_PREFIX: Final = '{"stream":"'
_PREFIX_LENGTH: Final = len(_PREFIX)

_decode_any: Final = msgspec.json.Decoder(AnyFrame).decode
_decode_snapshot: Final = msgspec.json.Decoder(DepthSnapshot).decode
_decode_info: Final = msgspec.json.Decoder(ExchangeInfo).decode
_decode_error: Final = msgspec.json.Decoder(VenueError).decode

_INVALID_SYMBOL: Final = (-1121, -1100)
_BARRED: Final = (418, 429)
SYMBOLS_MAX: Final = urls.STREAMS_MAX // len(urls.STREAMS)


class BinanceAssembler:
    """`streams.venues.base.Assembler` for Binance spot.

    Attributes:
        counts: What has been seen.
    """

    venue = VENUE

    def __init__(
        self,
        listings: Iterable[Listing],
        *,
        infer_instruments: bool = False,
        late_ms: int = LATE_MS,
    ) -> None:
        """Follow these listings.

        Args:
            listings: Each symbol once.
            infer_instruments: No exchangeInfo will come (a capture without one): read tick and
                lot size off the first book's digits.
            late_ms: How long a hole in a stream may be filled.

        Raises:
            ConfigError: More symbols than one connection carries.
        """
        self.counts = AssemblerCounts()
        listings = tuple(listings)
        if len(listings) > SYMBOLS_MAX:
            raise ConfigError(
                "SYMBOLS", f"{len(listings)} symbols", f"at most {SYMBOLS_MAX} of {VENUE}"
            )
        self._infer, self._late_ms = infer_instruments, late_ms
        self._requests = RequestQueue()
        self._subscriptions = Subscriptions()
        self._unconfirmed: dict[str, SymbolFeed] = {}  # joined, and not answered yet
        self._feeds: dict[str, SymbolFeed] = {}  # by canonical symbol
        self._by_venue_symbol: dict[str, SymbolFeed] = {}
        for listing in listings:
            self._keep(listing)
        self._routes: dict[str, tuple[Decode, Handler]] = {}  # by stream name
        self._take = wire.take
        self._lanes: dict[str, Lane] = {}  # by stream name
        self._live = False
        self._wants_new_socket = False

    def _keep(self, listing: Listing) -> SymbolFeed:
        market = Market(listing, self.counts)
        feed = SymbolFeed(
            market,
            partial(self._ask_snapshot, market),
            infer_instrument=self._infer,
            late_ms=self._late_ms,
        )
        self._feeds[listing.symbol] = feed
        self._by_venue_symbol[market.venue_symbol] = feed
        return feed

    # --- what is owed ---

    def stream_path(self) -> str:
        """Path and query of the combined stream of all symbols."""
        return self._subscriptions.address([*self._by_venue_symbol])

    def frames_to_send(self) -> list[str]:
        """What joined and left since a socket was opened; the address has said the rest."""
        return self._subscriptions.frames() if self._live else []

    def subscribe_frames(self) -> list[str]:
        """What joined and left while a further socket was being opened; mostly nothing."""
        return self._subscriptions.catching_up(self._by_venue_symbol)

    def requests_to_send(self) -> list[HttpRequest]:
        """Requests owed, each returned once."""
        return self._requests.take()

    def wants_new_socket(self) -> bool:
        """Whether the venue has announced a shutdown since the last socket was opened."""
        return self._wants_new_socket

    # --- the connection ---

    def connected(self, now_ms: int, connection: int = 0) -> list[Event]:
        """A socket is open. Only the first one restarts the books."""
        self._wants_new_socket = False
        if self._live:
            return []
        self._live = True
        self._requests.forget()
        carried = self._subscriptions.opened(self._by_venue_symbol)
        self._unconfirmed = {
            s: feed for s, feed in self._by_venue_symbol.items() if s in self._subscriptions.joining
        }
        if carried and not self._infer:
            self._ask_instruments(carried, now_ms)
        return self._passed(self._begin(carried, now_ms))

    def _begin(self, venue_symbols: list[str], now_ms: int) -> list[Event]:
        """A socket carries these from now on."""
        events: list[Event] = []
        for venue_symbol in venue_symbols:
            feed = self._by_venue_symbol[venue_symbol]
            feed.market.unlisted = False
            feed.connected(now_ms)
            events.append(feed.market.status("connected", now_ms))
        return events

    def disconnected(self, now_ms: int, reason: str) -> list[Event]:
        """The last socket is gone. Books stay readable as what they were."""
        self._live = False
        self._requests.forget()
        self._subscriptions.closed()
        self._unconfirmed.clear()
        events: list[Event] = []
        for feed in self._feeds.values():
            feed.depth.disconnected()
            events.append(feed.market.status("disconnected", now_ms, reason))
        return self._passed(events)

    def closed(self, connection: int, now_ms: int) -> list[Event]:
        """Nothing: diffs have the ids of the book, whatever socket brings them."""
        return []

    def rests_on(self, connection: int) -> bool:
        """Never, for the same reason."""
        return False

    def receive(self, frame: str | bytes, ts_recv_ms: int, connection: int = 0) -> list[Event]:
        """Feed one frame, raw or combined.

        Raises:
            FrameError: Not this venue's dialect, a value that can't be, or the venue's answer
                that it refused a request. Nothing has changed but ``counts``.
        """
        counts = self.counts
        counts.frames += 1
        take = self._take
        if take is not None:
            made = take(self._lanes, frame, ts_recv_ms)
            if made is not None:
                return made
        try:
            text = frame if isinstance(frame, str) else str(frame, "utf-8")
            # The name is read before the payload, so that one typed pass decodes the frame.
            if text.startswith(_PREFIX):
                name = text[_PREFIX_LENGTH : text.find('"', _PREFIX_LENGTH)]
                route = self._routes.get(name) or self._route(name)
                if route is not None:
                    decode, handle = route
                    return self._passed(handle(decode(text).data, ts_recv_ms))
            return self._passed(self._uncommon(text, ts_recv_ms))
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            counts.errors += 1
            raise FrameError(f"{exc}: {excerpt(frame)}") from None
        except FrameError:
            counts.errors += 1
            raise

    def http_response(
        self, request: HttpRequest, status: int, body: bytes, now_ms: int, retry_after_s: float = 0
    ) -> list[Event]:
        """The answer to a request; refused, failed or unreadable ones are owed again, later.

        Raises:
            UnknownSymbol: The venue lists no such symbol; nothing more is asked for it.
            FrameError: Status 200 with a body that is not this venue's dialect.
        """
        if not self._requests.settle(request):
            return []  # from before a reconnect
        if status != 200:
            return self._refused(request, status, body, now_ms, retry_after_s)
        try:
            if request.purpose == "snapshot":
                events = self._on_snapshot(_decode_snapshot(body), request, now_ms)
            else:
                events = self._on_info(_decode_info(body), request, now_ms)
        except (msgspec.DecodeError, UnicodeDecodeError, FrameError) as exc:
            self.counts.errors += 1
            self._requests.fail(request, now_ms)
            raise FrameError(f"{request.path}: {exc}: {excerpt(body)}") from None
        self._requests.succeed(request)
        return self._passed(events)

    def tick(self, now_ms: int) -> list[Event]:
        """Give up holes that were not filled in time."""
        events: list[Event] = []
        for feed in self._feeds.values():
            events += feed.tick(now_ms)
        return self._passed(events) if events else events

    # --- one symbol ---

    def add(self, listing: Listing, now_ms: int) -> list[Event]:
        """Follow one more symbol; its book begins when the venue has answered.

        Raises:
            ConfigError: One more than a connection carries, or followed under another name.
        """
        if listing.symbol in self._feeds:
            return []
        venue_symbol = listing.venue_symbol.upper()
        if venue_symbol in self._by_venue_symbol:
            other = self._by_venue_symbol[venue_symbol].market.symbol
            raise ConfigError("symbol", str(listing), f"{venue_symbol} once; it is {other} already")
        if len(self._feeds) >= SYMBOLS_MAX:
            raise ConfigError("symbol", str(listing), f"at most {SYMBOLS_MAX} of {VENUE}")
        feed = self._keep(listing)
        if self._live:
            self._subscriptions.join(venue_symbol)
            self._unconfirmed[venue_symbol] = feed
        return []

    def remove(self, symbol: str, now_ms: int) -> list[Event]:
        """Follow a symbol no longer. What is still on its way is passed over."""
        feed = self._feeds.get(symbol)
        if feed is None:
            return []
        if self._live:
            self._subscriptions.leave(feed.market.venue_symbol)
        return self._passed([self._let_go(feed, now_ms, "removed")])

    def _let_go(self, feed: SymbolFeed, now_ms: int, reason: str, detail: str = "") -> Event:
        market = feed.market
        del self._feeds[market.symbol], self._by_venue_symbol[market.venue_symbol]
        self._unconfirmed.pop(market.venue_symbol, None)
        self._requests.drop(market.venue_symbol)
        prefix = f"{market.venue_symbol.lower()}@"
        for stream in [name for name in self._routes if name.startswith(prefix)]:
            del self._routes[stream]
            self._lanes.pop(stream, None)
        return market.status("disconnected", now_ms, reason, detail)

    def resync(self, symbol: str, now_ms: int, reason: str) -> list[Event]:
        """Distrust one symbol's book; for a ``refresh``, hold it against a snapshot."""
        detail = "a new snapshot was asked for"
        if reason == "refresh":
            self._feeds[symbol].depth.check(now_ms)
            return []
        return self._passed(self._feeds[symbol].depth.distrust(reason, detail, now_ms))

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
            None when the book is not in sync, or there is none.
        """
        feed = self._feeds.get(symbol)
        if feed is None or feed.depth.book is None or not (feed.depth.synced or stale_ok):
            return None
        return feed.depth.record(now_ms, reason)

    def instrument(self, symbol: str, now_ms: int) -> Instrument | None:
        """What is known of a symbol's steps, as of now; None before anything is."""
        feed = self._feeds.get(symbol)
        rules = feed.market.rules if feed is not None else None
        if rules is None:
            return None
        return msgspec.structs.replace(rules, ts_event_ms=now_ms, ts_recv_ms=now_ms)

    def symbols(self) -> Sequence[str]:
        """Canonical symbols, in the order given."""
        return tuple(self._feeds)

    # --- frames ---

    def _route(self, stream: str) -> tuple[Decode, Handler] | None:
        """Decoder and reader of a stream of ours; None if it is another's, or of no known kind."""
        venue_symbol, _, kind = stream.partition("@")
        name = kind.partition("@")[0].partition("_")[0]
        feed = self._by_venue_symbol.get(venue_symbol.upper())
        if feed is None or name not in PAYLOADS:
            return None
        decode = COMBINED[name]
        route = decode, getattr(feed, PAYLOADS[name][1])
        if len(self._routes) < urls.STREAMS_MAX:
            self._routes[stream] = route
            lane = wire.lane_of(name, feed, self._passed, lambda frame: decode(frame).data)
            if lane is not None:
                self._lanes[stream] = lane
        return route

    def _uncommon(self, text: str, ts_recv_ms: int) -> list[Event]:
        """Anything but a combined frame of a stream of ours with its name first."""
        frame = _decode_any(text)
        if frame.stream:
            route = self._route(frame.stream)
            if route is not None:
                return route[1](route[0](text).data, ts_recv_ms)
            frame = _decode_any(frame.data) if frame.data else frame
            return self._announced(frame.event)
        if frame.event or (frame.symbol and frame.last is not None):
            name = urls.RAW_EVENTS.get(frame.event, frame.event or "bookTicker")
            feed = self._by_venue_symbol.get(frame.symbol)
            if feed is None or name not in PAYLOADS:
                return self._announced(frame.event)
            handle: Handler = getattr(feed, PAYLOADS[name][1])
            return handle(BARE[name](text), ts_recv_ms)
        if frame.error or frame.code is not None:
            error = frame.error or VenueError(frame.code or 0, frame.msg)
            return self._denied(frame.id, f"{error.code} {error.msg}", ts_recv_ms)
        if frame.result:
            return self._granted(frame.id, ts_recv_ms)
        if frame.snapshot_id is not None:
            return self._announced("")  # a partial depth of nobody knows what
        raise FrameError(f"neither a stream's frame nor an answer: {excerpt(text)}")

    def _granted(self, ident: object, now_ms: int) -> list[Event]:
        """A subscription is in force; each open socket says so, the first one counts."""
        asked = self._subscriptions.answered(ident) or []
        confirmed = [s for s in asked if self._unconfirmed.pop(s, None) is not None]
        if not self._infer:
            for venue_symbol in confirmed:
                self._ask_instruments([venue_symbol], now_ms)
        return self._begin(confirmed, now_ms)

    def _denied(self, ident: object, why: str, now_ms: int) -> list[Event]:
        """A request was refused: what it asked for is followed no more.

        Raises:
            FrameError: It asked for nothing that is not in force on another socket already.
        """
        asked = self._subscriptions.answered(ident) or []
        refused = [self._unconfirmed[s] for s in asked if s in self._unconfirmed]
        if not refused:
            # Followed by way of another socket. One with an address of today carries it, too.
            self._wants_new_socket |= any(s in self._by_venue_symbol for s in asked)
            raise FrameError(f"request {ident} refused: {why}")
        return [self._let_go(feed, now_ms, "refused", why) for feed in refused]

    def _announced(self, event: str) -> list[Event]:
        if event == "serverShutdown":
            self._wants_new_socket = True
        else:
            self.counts.ignored += 1
        return []

    def _passed(self, events: list[Event]) -> list[Event]:
        return self.counts.passed(events)

    # --- REST ---

    def _ask_snapshot(self, market: Market, now_ms: int) -> None:
        if market.unlisted or not self._live:
            return
        path = urls.snapshot_path(market.venue_symbol)
        weight = urls.SNAPSHOT_WEIGHT
        self._requests.owe(HttpRequest("snapshot", path, market.venue_symbol, weight), now_ms)

    def _ask_instruments(self, venue_symbols: list[str], now_ms: int) -> None:
        one = venue_symbols[0] if len(venue_symbols) == 1 else ""
        path = urls.instrument_path(venue_symbols)
        self._requests.owe(HttpRequest("instrument", path, one, urls.INSTRUMENT_WEIGHT), now_ms)

    def _confirmed(self) -> list[str]:
        return [s for s in self._by_venue_symbol if s not in self._unconfirmed]

    def _refused(
        self, request: HttpRequest, status: int, body: bytes, now_ms: int, retry_after_s: float
    ) -> list[Event]:
        try:
            code = _decode_error(body).code
        except (msgspec.DecodeError, UnicodeDecodeError):
            code = 0
        if status == 400 and code in _INVALID_SYMBOL:
            if request.venue_symbol:
                self._unlisted(request.venue_symbol)
                return []
            # The venue does not say which one it is.
            for venue_symbol in self._confirmed():
                self._ask_instruments([venue_symbol], now_ms)
            return []
        self._requests.fail(request, now_ms, retry_after_s, barred=status in _BARRED)
        return []

    def _unlisted(self, venue_symbol: str) -> None:
        market = self._by_venue_symbol[venue_symbol].market
        if not market.unlisted:
            market.unlisted = True
            raise UnknownSymbol(VENUE, venue_symbol)

    def _on_snapshot(
        self, snapshot: DepthSnapshot, request: HttpRequest, now_ms: int
    ) -> list[Event]:
        feed = self._by_venue_symbol[request.venue_symbol]
        return self._joined(feed, feed.depth.snapshot(snapshot, now_ms), now_ms)

    def _on_info(self, info: ExchangeInfo, request: HttpRequest, now_ms: int) -> list[Event]:
        listed = {entry.symbol: entry for entry in info.symbols}
        events: list[Event] = []
        asked = [request.venue_symbol] if request.venue_symbol else self._confirmed()
        for venue_symbol in asked:
            entry = listed.get(venue_symbol)
            if entry is not None:
                feed = self._by_venue_symbol[venue_symbol]
                events.append(feed.market.know(instrument_of(feed.market.symbol, entry, now_ms)))
                events += self._joined(feed, feed.depth.instrument_known(now_ms), now_ms)
            elif request.venue_symbol:
                self._unlisted(venue_symbol)
            else:
                # Asked for by itself, so that telling of it costs no other symbol's events.
                self._ask_instruments([venue_symbol], now_ms)
        return events

    def _joined(
        self, feed: SymbolFeed, outcome: tuple[Join, list[Event]], now_ms: int
    ) -> list[Event]:
        join, events = outcome
        if join is Join.UNFIT:
            self._ask_snapshot(feed.market, now_ms)
        return events
