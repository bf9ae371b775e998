"""A venue that plays a tape on one connection and answers subscriptions, over a bad line.

The tape is what the venue would have sent, each frame without its number; the venue numbers what
it sends, so a snapshot that was asked for anew has its place among the rest. What the books really
were after each frame of the tape is known, and so what a reader must have.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streams.book import WireBook
from streams.events import BookDelta, BookSnapshot, FeedStatus
from streams.symbols import Listing
from streams.venues.coinbase.assembler import CoinbaseAssembler
from tapeline.errors import FrameError
from tests.support.coinbase import heartbeat

PX_E, SZ_E = -2, -8

Sides = tuple[dict[int, int], dict[int, int]]
"""(bids, asks), price to size."""

FAULTS = ("drop", "twice", "old", "swap", "cut", "garble", "size", "price", "side", "time", "ahead",
          "behind")  # fmt: skip
"""What may happen to a frame. A size or a price that is another number is not among them: nothing
on this wire would show it."""


class Played(NamedTuple):
    """A frame of the tape, before it has a number."""

    ts_ms: int
    channel: str
    timestamp: str
    events: list[dict[str, Any]]

    @property
    def product(self) -> str:
        """Of a book's frame, whose; else empty."""
        return self.events[0]["product_id"] if self.channel == "l2_data" else ""


class Fault(NamedTuple):
    """Something that happens to the ``at``-th frame sent; ``much`` says how much of it."""

    at: int
    kind: str
    much: int


def units(text: str, exponent: int) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(-exponent, "0"))


class Tape:
    """Frames, and the true books after each of them.

    Attributes:
        truth: By index, product to (bids, asks); dicts are shared, not to be changed.
    """

    def __init__(self, frames: Iterable[Played]) -> None:
        self.frames = list(frames)
        self.truth: list[dict[str, Sides]] = []
        books: dict[str, Sides] = {}
        for played in self.frames:
            if played.product:
                books = books | {played.product: self._after(books.get(played.product), played)}
            self.truth.append(books)

    @staticmethod
    def _after(before: Sides | None, played: Played) -> Sides:
        (event,) = played.events
        kept = before if before and event["type"] == "update" else ({}, {})
        bids, asks = dict(kept[0]), dict(kept[1])
        for update in event["updates"]:
            side = bids if update["side"] == "bid" else asks
            px, sz = units(update["price_level"], PX_E), units(update["new_quantity"], SZ_E)
            side.pop(px, None)
            if sz:
                side[px] = sz
        return bids, asks


def printed(value: int, exponent: int) -> str:
    digits = str(value).rjust(1 - exponent, "0")
    return f"{digits[:exponent]}.{digits[exponent:]}"


class Venue:
    """Numbers frames, and answers subscriptions of ``level2`` ``delay`` frames later.

    Attributes:
        places: By number, the index on the tape after which it was sent.
    """

    def __init__(self, tape: Tape, delay: int) -> None:
        self.tape, self.delay = tape, delay
        self.places: list[int] = []
        self._at = -1
        self._muted: set[str] = set()
        self._owed: deque[tuple[int, str, str]] = deque()

    def hear(self, frame: str) -> None:
        asked = json.loads(frame)
        if asked["channel"] == "level2":
            for product in asked["product_ids"]:
                self._owed.append((self._at + self.delay, asked["type"], product))

    def play(self, at: int) -> Iterator[str]:
        """What is sent when the tape has come to ``at``; beyond its end, signs of life."""
        self._at = at
        while self._owed and self._owed[0][0] < at:
            _, method, product = self._owed.popleft()
            if method == "unsubscribe":
                self._muted.add(product)
            elif product in self._truth(at - 1):
                self._muted.discard(product)
                yield self._send("l2_data", at - 1, [self._snapshot(product, at - 1)])
            yield self._send("subscriptions", at - 1, [{"subscriptions": self._carried()}])
        if at >= len(self.tape.frames):
            yield self._send("heartbeats", at, json.loads(heartbeat(0))["events"])
            return
        played = self.tape.frames[at]
        if played.product and played.events[0]["type"] == "snapshot":
            self._muted.discard(played.product)
        if played.product not in self._muted:
            yield self._send(played.channel, at, played.events, played.timestamp)

    def truth_at(self, number: int) -> dict[str, Sides]:
        """The books when a number was sent."""
        return self._truth(self.places[number])

    def _truth(self, at: int) -> dict[str, Sides]:
        return self.tape.truth[min(at, len(self.tape.truth) - 1)] if at >= 0 else {}

    def _carried(self) -> dict[str, list[str]]:
        followed = self._truth(self._at)
        return {"level2": [p for p in followed if p not in self._muted], "ticker": [*followed]}

    def _snapshot(self, product: str, at: int) -> dict[str, Any]:
        updates = [
            {
                "side": side,
                "event_time": "1970-01-01T00:00:00Z",
                "price_level": printed(px, PX_E),
                "new_quantity": printed(sz, SZ_E),
            }
            for side, levels in zip(("bid", "offer"), self._truth(at)[product], strict=True)
            for px, sz in levels.items()
        ]
        return {"type": "snapshot", "product_id": product, "updates": updates}

    def _send(self, channel: str, at: int, events: list[Any], timestamp: str = "") -> str:
        number = len(self.places)
        self.places.append(at)
        whole = {"channel": channel, "timestamp": timestamp, "sequence_num": number}
        return json.dumps(whole | {"events": events}, separators=(",", ":"))


class Line:
    """What a bad line makes of the frames sent: (number as sent, text) as they arrive."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: dict[int, Fault] = {fault.at: fault for fault in faults}
        self._sent: list[str] = []
        self._held: list[tuple[int, str]] = []

    def carry(self, frame: str) -> list[tuple[int, str]]:
        at = len(self._sent)
        self._sent.append(frame)
        fault = self.faults.get(at)
        kind, much = (fault.kind, fault.much) if fault else ("", 0)
        if kind == "swap":
            self._held.append((at, frame))
            return []
        arrived = [] if kind == "drop" else [(at, damaged(frame, kind, much))]
        if kind == "twice":
            arrived *= 2
        if kind == "old":
            back = max(at - much % 9, 0)
            arrived += [(n, self._sent[n]) for n in range(back, at)]
        held, self._held = self._held, []
        return arrived + held


def damaged(frame: str, kind: str, much: int) -> str:
    """A frame after what has happened to it; the same where it has nothing of the sort."""
    if kind == "cut":
        return frame[: much % len(frame)]
    if kind == "garble":
        at = much % len(frame)
        return frame[:at] + "\x00\x07" + frame[at + 2 :]
    if kind in ("ahead", "behind"):
        whole = json.loads(frame)
        steps = much % 12 + 1 if kind == "ahead" else -(much % 12 + 1)
        whole["sequence_num"] = max(whole["sequence_num"] + steps, 0)
        return json.dumps(whole, separators=(",", ":"))
    name, wrong = {
        "size": ("new_quantity", "1e-7"),
        "price": ("price_level", "-1"),
        "side": ("side", "ask"),
        "time": ("event_time", "0001-01-01T00:00:00Z"),
    }.get(kind, ("", ""))
    head, found, tail = frame.partition(f'"{name}":"') if name else (frame, "", "")
    return head + found + wrong + tail[tail.index('"') :] if found else frame


@dataclass
class Outcome:
    """What came of a play.

    Attributes:
        gaps: ``feed_status`` gaps by symbol, in their order: the reasons.
        healed: Whether all books were in sync in the end.
        kinds: Events in order: (symbol, kind).
    """

    assembler: CoinbaseAssembler
    gaps: dict[str, list[str]] = field(default_factory=dict)
    healed: bool = False
    kinds: list[tuple[str, str]] = field(default_factory=list)
    refused: int = 0


class Reader:
    """Rebuilds books from events alone, as anyone who reads the topic would."""

    def __init__(self) -> None:
        self.books: dict[str, WireBook] = {}

    def read(self, event: Any) -> None:
        if isinstance(event, BookSnapshot):
            book = self.books[event.symbol] = WireBook(event.px_e, event.sz_e)
            book.replace(event.bids, event.asks, event.seq or 0)
        elif isinstance(event, BookDelta):
            assert event.symbol in self.books, "a delta without a book to apply it to"
            self.books[event.symbol].apply(event.bids, event.asks, event.seq or 0)
        elif isinstance(event, FeedStatus) and event.status in ("gap", "disconnected"):
            self.books.pop(event.symbol, None)


def run(
    tape: Tape,
    listings: Iterable[Listing],
    products: bytes,
    faults: Iterable[Fault],
    delay: int = 2,
) -> Outcome:
    """Play a tape over a bad line, and then signs of life until all is well, or for five minutes.

    After each frame every book that claims to be in sync is compared with the truth, and the book
    that a reader has, too.
    """
    listings = tuple(listings)
    assembler = CoinbaseAssembler(listings)
    outcome, reader = Outcome(assembler), Reader()
    venue, line = Venue(tape, delay), Line(faults)
    now_ms = tape.frames[0].ts_ms
    events = assembler.connected(now_ms)
    for request in assembler.requests_to_send():
        events += assembler.http_response(request, 200, products, now_ms)
    newest = -1

    def take(events: list[Any]) -> None:
        for event in events:
            reader.read(event)
            outcome.kinds.append((event.symbol, str(event.__struct_config__.tag)))
            if isinstance(event, FeedStatus) and event.status == "gap":
                outcome.gaps.setdefault(event.symbol, []).append(event.reason)

    take(events)
    for at in range(len(tape.frames) + 300):
        ended = at >= len(tape.frames)
        now_ms = now_ms + 1_000 if ended else max(now_ms, tape.frames[at].ts_ms)
        for number, text in [arrived for sent in venue.play(at) for arrived in line.carry(sent)]:
            before = assembler.counts.sequence_last
            try:
                take(assembler.receive(text, now_ms))
            except FrameError:
                outcome.refused += 1
            if assembler.counts.sequence_last != before:
                newest = number
            for listing in listings:
                _compare(assembler, reader, listing, venue, newest)
            for frame in assembler.frames_to_send():
                venue.hear(frame)
        synced = all(assembler.snapshot(x.symbol, now_ms, "refresh") for x in listings)
        if ended and synced:
            outcome.healed = True
            break
    return outcome


def _compare(
    assembler: CoinbaseAssembler, reader: Reader, listing: Listing, venue: Venue, newest: int
) -> None:
    feed = assembler._roster.by_symbol[listing.symbol].book
    book = reader.books.get(listing.symbol)
    if not feed.synced or feed.book is None:
        return
    bids, asks = venue.truth_at(newest)[listing.venue_symbol]
    assert feed.book.bids.sizes == bids, f"bids of {listing.symbol} at {newest}"
    assert feed.book.asks.sizes == asks, f"asks of {listing.symbol} at {newest}"
    if book is not None:
        assert (book.bids.sizes, book.asks.sizes) == (bids, asks)
