"""A made-up venue for the bridge's tests: an assembler that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec

from streams.events import (
    BookDelta,
    BookSnapshot,
    Event,
    FeedState,
    FeedStatus,
    Instrument,
    Level,
    Trade,
    decode,
)
from streams.feeds import OutRecord
from streams.symbols import Listing
from streams.venues.base import AssemblerCounts, HttpRequest
from tapeline.errors import ConfigError, FrameError, UnknownSymbol

VENUE = "fake"
NOW_MS = 1_800_000_000_000


def status(
    symbol: str, state: FeedState, now_ms: int = NOW_MS, reason: str = "", venue: str = VENUE
) -> FeedStatus:
    return FeedStatus(
        venue=venue,
        symbol=symbol,
        ts_event_ms=now_ms,
        ts_recv_ms=now_ms,
        status=state,
        reason=reason,
    )


def delta(symbol: str, now_ms: int = NOW_MS) -> BookDelta:
    return BookDelta(
        venue=VENUE,
        symbol=symbol,
        ts_event_ms=now_ms,
        ts_recv_ms=now_ms,
        px_e=-2,
        sz_e=-5,
        bids=[(100, 5)],
        asks=[],
    )


def trade(symbol: str, trade_id: int, now_ms: int = NOW_MS) -> Trade:
    return Trade(
        venue=VENUE,
        symbol=symbol,
        ts_event_ms=now_ms,
        ts_recv_ms=now_ms,
        px_e=-2,
        sz_e=-5,
        px=100,
        sz=1,
        side="buy",
        event_id=f"{VENUE}:{symbol}:{trade_id}",
        trade_id=trade_id,
    )


def snapshot(
    symbol: str,
    bids: Sequence[Level] = ((100, 5), (99, 6)),
    asks: Sequence[Level] = ((101, 7),),
    now_ms: int = NOW_MS,
    reason: str = "initial",
) -> BookSnapshot:
    return BookSnapshot(
        venue=VENUE,
        symbol=symbol,
        ts_event_ms=now_ms,
        ts_recv_ms=now_ms,
        px_e=-2,
        sz_e=-5,
        bids=[*bids],
        asks=[*asks],
        reason=reason,
    )


def shown(records: Iterable[OutRecord]) -> list[str]:
    """Records in words: kind, and what tells them apart."""
    words = []
    for record in records:
        event = decode(record.value)
        if isinstance(event, FeedStatus):
            words.append(event.status + (f":{event.reason}" if event.reason else ""))
        elif isinstance(event, BookSnapshot):
            words.append(f"snapshot:{event.reason}")
        else:
            words.append(record.kind)
    return words


async def until(true: Callable[[], bool], seconds: float = 3.0) -> None:
    """Wait for something that no event tells of, in bounded time."""
    for _ in range(round(seconds / 0.005)):
        if true():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError("it did not come true")


class FakeAssembler:
    """Frames are JSON: ``{"say": kind, "symbol": S}``; ``{"bad": 1}`` is not its dialect.

    Attributes:
        books: Symbols whose book is in sync.
        first_frames: What each new socket is sent first.
        owed_frames, owed_requests: Returned once, as a venue's assembler does.
        calls: What the driver told it.
        announced: Whether it wants a new socket.
        told_of: What of which socket: ("connected", "frame" or "closed", its number).
        needed: Sockets that something still rests on.
    """

    venue = VENUE

    def __init__(self, listings: Iterable[Listing] = (), *, symbols: Sequence[str] = ()) -> None:
        self._symbols = tuple(listing.symbol for listing in listings) or tuple(symbols)
        self.counts = AssemblerCounts()
        self.books: set[str] = set()
        self.owed_frames: list[str] = []
        self.owed_requests: list[HttpRequest] = []
        self.calls: list[tuple[str, ...]] = []
        self.announced = False
        self.told_of: list[tuple[str, int]] = []
        self.needed: set[int] = set()
        self.live = False
        self.on_connect_requests: list[HttpRequest] = []
        self.on_connect_frames: list[str] = []
        self.first_frames: list[str] = []

    def symbols(self) -> Sequence[str]:
        return self._symbols

    def tick(self, now_ms: int) -> list[Event]:
        return []

    def stream_path(self) -> str:
        return "/stream"

    def connected(self, now_ms: int, connection: int = 0) -> list[Event]:
        self.calls.append(("connected",))
        self.told_of.append(("connected", connection))
        self.announced = False
        self.owed_frames += self.on_connect_frames
        if self.live:
            return []
        self.live = True
        self.owed_requests += self.on_connect_requests
        return [status(symbol, "connected", now_ms) for symbol in self._symbols]

    def disconnected(self, now_ms: int, reason: str) -> list[Event]:
        self.calls.append(("disconnected", reason))
        self.live = False
        self.books.clear()
        return [status(symbol, "disconnected", now_ms, reason) for symbol in self._symbols]

    def closed(self, connection: int, now_ms: int) -> list[Event]:
        self.told_of.append(("closed", connection))
        return [status(symbol, "gap", now_ms, "restart") for symbol in self._symbols]

    def rests_on(self, connection: int) -> bool:
        return connection in self.needed

    def receive(self, frame: str | bytes, ts_recv_ms: int, connection: int = 0) -> list[Event]:
        self.counts.frames += 1
        self.told_of.append(("frame", connection))
        said = msgspec.json.decode(frame)
        if "bad" in said:
            self.counts.errors += 1
            raise FrameError("not my dialect")
        if "unknown" in said:
            raise UnknownSymbol(VENUE, said["unknown"])
        if "bug" in said:
            raise KeyError("a fault of ours")
        if said.get("say") == "shutdown":
            self.announced = True
            return []
        symbol = said.get("symbol", self._symbols[0])
        if said.get("say") == "snapshot":
            self.books.add(symbol)
            return [snapshot(symbol, now_ms=ts_recv_ms)]
        return [delta(symbol, ts_recv_ms)]

    def http_response(
        self, request: HttpRequest, status: int, body: bytes, now_ms: int, retry_after_s: float = 0
    ) -> list[Event]:
        self.calls.append(("http", request.path, str(status), str(retry_after_s)))
        if body == b"unknown":
            raise UnknownSymbol(VENUE, request.venue_symbol)
        if body == b"bad":
            raise FrameError("not my dialect")
        return []

    def resync(self, symbol: str, now_ms: int, reason: str) -> list[Event]:
        self.books.discard(symbol)
        return [status(symbol, "gap", now_ms, reason)]

    def snapshot(self, symbol: str, now_ms: int, reason: str) -> BookSnapshot | None:
        if symbol not in self.books:
            return None
        return snapshot(symbol, now_ms=now_ms, reason=reason)

    def instrument(self, symbol: str, now_ms: int) -> Instrument | None:
        return Instrument(
            venue=VENUE,
            symbol=symbol,
            ts_event_ms=now_ms,
            ts_recv_ms=now_ms,
            px_e=-2,
            sz_e=-5,
            tick_size=1,
            lot_size=1,
            status="trading",
        )

    def add(self, listing: Listing, now_ms: int) -> list[Event]:
        self.calls.append(("add", str(listing)))
        if listing.symbol in self._symbols:
            return []
        if listing.symbol == "FULLUSDT":
            raise ConfigError("symbol", str(listing), "room on the connection")
        self._symbols = (*self._symbols, listing.symbol)
        if self.live:
            self.owed_frames.append(f"join {listing.venue_symbol}")
        return []

    def remove(self, symbol: str, now_ms: int) -> list[Event]:
        self.calls.append(("remove", symbol))
        if symbol not in self._symbols:
            return []
        self._symbols = tuple(s for s in self._symbols if s != symbol)
        self.books.discard(symbol)
        if self.live:
            self.owed_frames.append(f"leave {symbol}")
        return [status(symbol, "disconnected", now_ms, "removed")]

    def subscribe_frames(self) -> list[str]:
        return self.first_frames

    def frames_to_send(self) -> list[str]:
        owed, self.owed_frames = self.owed_frames, []
        return owed

    def requests_to_send(self) -> list[HttpRequest]:
        owed, self.owed_requests = self.owed_requests, []
        return owed

    def wants_new_socket(self) -> bool:
        return self.announced
