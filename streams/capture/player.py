"""Plays captures through an assembler, as if the venue were sending them now. No clock, no sleep.

Several files in order are one continuous tape. REST replies on it answer the assembler's own
requests: each is given when its time has come and somebody has asked for it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from streams.capture.dialects import Dialect, Purpose
from streams.capture.documents import Decimals
from streams.capture.formats import CaptureError, Entry, read_entries
from streams.events import Event
from streams.symbols import Listing, is_symbol
from streams.venues.base import Assembler, HttpRequest
from streams.venues.ordering import LATE_MS
from tapeline.errors import FeedError

Progress = Callable[[int, int], None]
"""Called with (frames done, frames on the tape), now and then."""

PROGRESS_EVERY = 2_000
PROBLEMS_KEPT = 20


@dataclass(slots=True)
class Survey:
    """What a tape holds, found by reading it once.

    Attributes:
        frames: Frames received.
        wire: Frames by the venue's kind.
        symbols: Venue symbols, in order of appearance.
        has_instruments: Whether there is a reply, or a frame, that tells tick and lot sizes.
    """

    frames: int = 0
    wire: Counter[str] = field(default_factory=Counter)
    symbols: list[str] = field(default_factory=list)
    has_instruments: bool = False


def survey(dialect: Dialect, files: Sequence[Path], decimals: Decimals | None = None) -> Survey:
    """Read the tape once, to know what to expect; the arguments are those of a `Player`.

    Raises:
        CaptureError: A file or a line can't be read.
    """
    found = Survey()
    symbols: dict[str, None] = {}
    for path in files:
        for entry in read_entries(path, decimals):
            if entry.kind == "recv":
                found.frames += 1
                kind, symbol = dialect.look(entry.data)
                found.wire[kind or "other"] += 1
                found.has_instruments |= kind == "instrument"
                if symbol:
                    symbols[symbol] = None
                elif not kind and dialect.inline_reply(entry.data) == "instrument":
                    found.has_instruments = True
            elif entry.address:
                symbols.update(dict.fromkeys(dialect.symbols_in_address(entry.address)))
                request = dialect.request_of(entry.address) if entry.kind == "http" else None
                found.has_instruments |= request is not None and request[0] == "instrument"
    found.symbols = [*symbols]
    return found


def listings_of(dialect: Dialect, venue_symbols: Iterable[str]) -> list[Listing]:
    """Venue symbols under canonical names: their letters and digits."""
    listings = []
    for name in venue_symbols:
        symbol = "".join(c for c in name.upper() if c.isascii() and c.isalnum())
        if is_symbol(symbol):
            listings.append(Listing(dialect.venue, name, symbol))
    return listings


class Player:
    """One tape, one assembler.

    Attributes:
        frames: Frames played so far.
        problems: The first few frames and replies that were refused: file, line and why.
        problem_count: How many there were.
    """

    def __init__(
        self,
        assembler: Assembler,
        dialect: Dialect,
        files: Sequence[Path],
        decimals: Decimals | None = None,
    ) -> None:
        """Nothing is read before `play`.

        Args:
            assembler: Of the dialect.
            dialect: The venue's.
            files: In the order they were recorded.
            decimals: What numbers are printed with, where the files have them printed anew.
        """
        self.frames = 0
        self.problems: list[str] = []
        self.problem_count = 0
        self._assembler, self._dialect, self._files = assembler, dialect, files
        self._decimals = decimals
        self._sockets: dict[str, int] = {}  # to the number that the assembler knows it by
        self._opened = 0
        self._now_ms = 0
        self._waiting: list[HttpRequest] = []
        self._replies: dict[tuple[str, str], deque[Entry]] = {}

    def play(self) -> Iterator[tuple[int, list[Event]]]:
        """Feed the whole tape; yields (ts_recv_ms, events) for each thing fed, also if none.

        Raises:
            CaptureError: A file or a line can't be read, or a reply fits no request for sure.
        """
        for entry in self._in_time():
            if entry.ts_ms is not None:
                self._now_ms = entry.ts_ms
                yield from self._tick()
            yield from self._step(entry)
            yield from self._answer()
        self._now_ms += LATE_MS
        yield from self._tick()
        yield from self._answer()

    def _tick(self) -> Iterator[tuple[int, list[Event]]]:
        """What time alone brings; nothing, mostly."""
        if events := self._assembler.tick(self._now_ms):
            yield self._now_ms, events

    def _in_time(self) -> Iterator[Entry]:
        """Entries with each REST reply moved to its time: some recorders write them first."""
        replies: list[Entry] = []
        for path in self._files:
            for entry in read_entries(path, self._decimals):
                if entry.kind == "http" and entry.ts_ms is not None:
                    replies.append(entry)
                    replies.sort(key=_ts_ms)
                    continue
                while replies and entry.ts_ms is not None and _ts_ms(replies[0]) <= entry.ts_ms:
                    yield replies.pop(0)
                yield entry
        yield from replies

    def _step(self, entry: Entry) -> Iterator[tuple[int, list[Event]]]:
        if entry.kind == "recv":
            if entry.conn not in self._sockets:  # ns lines have no connect
                yield self._connect(entry.conn)
            self.frames += 1
            purpose = self._dialect.inline_reply(entry.data)
            if purpose is None:
                yield self._now_ms, self._try(entry, self._receive)
            else:
                self._keep(purpose, self._only_waiting(purpose, entry), entry)
        elif entry.kind == "connect":
            if entry.conn in self._sockets:
                yield from self._disconnect(entry.conn, "reconnected")
            yield self._connect(entry.conn)
        elif entry.kind == "close":
            yield from self._disconnect(entry.conn, "closed")
        elif entry.kind == "http":
            request = self._dialect.request_of(entry.address)
            if request is not None:
                self._keep(*request, entry)

    def _connect(self, conn: str) -> tuple[int, list[Event]]:
        self._opened += 1
        self._sockets[conn] = self._opened
        return self._now_ms, self._assembler.connected(self._now_ms, self._opened)

    def _disconnect(self, conn: str, reason: str) -> Iterator[tuple[int, list[Event]]]:
        connection = self._sockets.pop(conn, 0)
        if self._sockets:
            yield self._now_ms, self._assembler.closed(connection, self._now_ms)
        else:
            self._waiting.clear()
            yield self._now_ms, self._assembler.disconnected(self._now_ms, reason)

    def _receive(self, entry: Entry) -> list[Event]:
        return self._assembler.receive(entry.data, self._now_ms, self._sockets[entry.conn])

    def _only_waiting(self, purpose: Purpose, entry: Entry) -> str:
        """The symbol that a reply without an address is about."""
        if purpose == "instrument":
            return ""
        self._waiting += self._assembler.requests_to_send()
        waiting = {r.venue_symbol for r in self._waiting if r.purpose == purpose}
        symbols = self._assembler.symbols()
        if len(waiting) > 1 or (not waiting and len(symbols) > 1):
            why = f"a {purpose} without an address, while {len(waiting or symbols)} symbols wait"
            raise CaptureError(entry.path, entry.line, f"{why}; expected one")
        return waiting.pop() if waiting else ""

    def _keep(self, purpose: Purpose, venue_symbol: str, entry: Entry) -> None:
        self._replies.setdefault((purpose, venue_symbol), deque()).append(entry)

    def _answer(self) -> Iterator[tuple[int, list[Event]]]:
        """Give what is asked for, as far as the tape has come to it."""
        self._waiting += self._assembler.requests_to_send()
        if not self._waiting or not self._replies:
            return
        for request in self._waiting[:]:
            reply = self._reply_to(request)
            if reply is not None:
                self._waiting.remove(request)
                yield self._now_ms, self._try(reply, partial(self._hand, request))

    def _reply_to(self, request: HttpRequest) -> Entry | None:
        if request.not_before_ms > self._now_ms:
            return None
        if request.purpose == "instrument":
            # Says the same whenever it is asked, and speaks of all symbols at once.
            kept = self._replies.get(("instrument", ""))
            return kept[-1] if kept else None
        for venue_symbol in (request.venue_symbol, ""):
            kept = self._replies.get((request.purpose, venue_symbol))
            if kept:
                return kept.popleft()
        return None

    def _hand(self, request: HttpRequest, entry: Entry) -> list[Event]:
        body = entry.data.encode()
        return self._assembler.http_response(request, entry.status, body, self._now_ms)

    def _try(self, entry: Entry, feed: Callable[[Entry], list[Event]]) -> list[Event]:
        try:
            return feed(entry)
        except FeedError as exc:
            self.problem_count += 1
            if len(self.problems) < PROBLEMS_KEPT:
                self.problems.append(f"{entry.place}: {exc}")
            return []


def _ts_ms(entry: Entry) -> int:
    return entry.ts_ms or 0
