"""One symbol's book out of diffs and a snapshot, as Binance tells its clients to build it.

Diffs are held until a snapshot comes; those it covers are dropped; the first one left must
begin at or before the id after the snapshot's, and each later one where its predecessor ended.
Where that breaks, the book is distrusted, a new snapshot is asked for, and the old book is kept
until it is there. Two sockets may bring the same diffs, cut at different ids: sizes are
absolute, so one that begins inside what is known and ends beyond it is applied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from streams.book import Top, WireBook
from streams.events import BookDelta, BookSnapshot, Event
from streams.topcheck import TopCheck
from streams.venues.binance.schema import VENUE, DepthSnapshot, DepthUpdate, WireLevel
from streams.venues.decimals import TooFine, together
from streams.venues.market import Market
from tapeline.errors import FrameError

HELD_MESSAGES_MAX: Final = 2_000
HELD_LEVELS_MAX: Final = 100_000
"""Diffs held for a snapshot: more than three minutes of a busy symbol. When one more would not
fit, all of them are dropped, oldest to newest, and the sync begins again."""

RESTART_MS: Final = 60_000
"""Diffs that stay behind the book for this long of the venue's time: its ids began anew."""

Levels = list[tuple[int, int]]


class Join(Enum):
    """What became of a snapshot."""

    DONE = auto()
    """The book is in sync."""
    HELD = auto()
    """Kept until the instrument is known."""
    UNFIT = auto()
    """Too old for the diffs held, or crossed in itself: another one is needed."""
    NOT_NEEDED = auto()
    """The book is in sync already."""


class DepthFeed:
    """Diffs and snapshots in, a gap-free book and its records out.

    Attributes:
        synced: Whether the book follows the venue's.
        book: The book, or while not ``synced`` the last good one; None if there is none.
    """

    def __init__(
        self, market: Market, ask_snapshot: Callable[[int], None], *, infer_instrument: bool = False
    ) -> None:
        """``ask_snapshot(now_ms)`` is called whenever a snapshot is needed."""
        self.synced = False
        self.book: WireBook | None = None
        self._market = market
        self._ask_snapshot = ask_snapshot
        self._infer = infer_instrument
        self._tops = TopCheck()
        self._held: deque[tuple[DepthUpdate, int]] = deque()
        self._held_levels = 0
        self._early: DepthSnapshot | None = None  # came before the instrument
        self._floor = 0  # a snapshot below this id misses diffs that are not held any more
        self._reason = "initial"
        self._progress_ms = 0  # the venue's time of the last diff that moved the book

    def connected(self, now_ms: int) -> None:
        """A first socket is open: sync from the start, whatever the venue's ids are now."""
        self._unsync()
        self._floor = 0
        self._tops.reset()
        self._ask_snapshot(now_ms)

    def disconnected(self) -> None:
        """No socket is left: what comes next will not follow what came last."""
        self._unsync()

    def update(self, msg: DepthUpdate, recv_ms: int) -> list[Event]:
        """Feed one diff.

        Raises:
            FrameError: A level is not a price and a size, or the ids run backwards.
        """
        if msg.first > msg.last:
            raise FrameError(f"depth ids run backwards: U={msg.first}, u={msg.last}")
        book = self.book
        if not self.synced or book is None:
            return self._hold(msg, recv_ms)
        if msg.last <= book.seq:
            return self._behind(msg, recv_ms)
        if msg.first > book.seq + 1:
            self._market.counts.gaps += 1
            events = self.distrust(
                "sequence", f"expected id {book.seq + 1}, got {msg.first} to {msg.last}", recv_ms
            )
            return events + self._hold(msg, recv_ms)
        return self._apply(book, msg, recv_ms)

    def snapshot(self, snapshot: DepthSnapshot, now_ms: int) -> tuple[Join, list[Event]]:
        """Feed a REST snapshot.

        Raises:
            FrameError: A level is not a price and a size.
        """
        if self.synced:
            return Join.NOT_NEEDED, []
        held = self._held
        if snapshot.last < self._floor or (held and held[0][0].first > snapshot.last + 1):
            return Join.UNFIT, []
        market = self._market
        events: list[Event] = []
        if market.rules is None:
            if not self._infer:
                self._early = snapshot
                return Join.HELD, []
            events.append(self._infer_instrument(snapshot, now_ms))
        bids, asks = self._levels(snapshot.bids, snapshot.asks)
        book = WireBook(market.px.exponent, market.sz.exponent)
        book.replace(bids, asks, snapshot.last)
        if book.crossed:
            market.counts.crossed += 1
            return Join.UNFIT, events
        self.book, self.synced, self._early = book, True, None
        events.append(self.record(now_ms, self._reason))
        self._reason = "resync"
        events += self._check(self._tops.book(book.seq, book.top()), now_ms)
        self._held, self._held_levels = deque(), 0
        self._progress_ms = 0
        for msg, recv_ms in held:
            events += self.update(msg, recv_ms)
        return Join.DONE, events

    def instrument_known(self, now_ms: int) -> tuple[Join, list[Event]]:
        """Use the snapshot that came before the instrument, if any."""
        early, self._early = self._early, None
        return self.snapshot(early, now_ms) if early else (Join.NOT_NEEDED, [])

    def distrust(self, reason: str, detail: str, now_ms: int) -> list[Event]:
        """Stop following the book: a gap is told, and a new snapshot asked for."""
        if self.synced and self.book:
            self._market.counts.resyncs += 1
            self._floor = self.book.seq
            self._unsync()
        self._ask_snapshot(now_ms)
        return [self._market.status("gap", now_ms, reason, detail)]

    def quote(self, seq: int, top: Top, px_e: int, sz_e: int, now_ms: int) -> list[Event]:
        """Hold the venue's quote at ``seq`` against the book; empty unless they differ."""
        market = self._market
        if (px_e, sz_e) != (market.px.exponent, market.sz.exponent):
            return []  # finer than any price of the book so far
        return self._check(self._tops.quote(seq, top), now_ms)

    def record(self, now_ms: int, reason: str) -> BookSnapshot:
        """The book as one record. Only while there is one."""
        book = self.book
        assert book is not None
        bids, asks = book.levels()
        return BookSnapshot(
            venue=VENUE,
            symbol=self._market.symbol,
            ts_event_ms=now_ms,
            ts_recv_ms=now_ms,
            seq=book.seq,
            px_e=book.px_e,
            sz_e=book.sz_e,
            bids=bids,
            asks=asks,
            reason=reason,
        )

    def _unsync(self) -> None:
        self.synced = False
        self._held, self._held_levels, self._early = deque(), 0, None
        self._tops.forget_book()

    def _apply(self, book: WireBook, msg: DepthUpdate, recv_ms: int) -> list[Event]:
        market = self._market
        bids, asks = self._levels(msg.bids, msg.asks)
        if book.px_e != market.px.exponent or book.sz_e != market.sz.exponent:
            book.refine(market.px.exponent, market.sz.exponent)
            self._tops.reset()
        book.apply(bids, asks, msg.last)
        self._progress_ms = msg.event_ms
        if book.crossed:
            market.counts.crossed += 1
            events = self.distrust("crossed", _crossing(book), recv_ms)
            self.book = None  # not one to be shown to anybody
            return events + self._hold(msg, recv_ms)
        delta = BookDelta(
            venue=VENUE,
            symbol=market.symbol,
            ts_event_ms=market.event_ms(msg.event_ms, recv_ms),
            ts_recv_ms=recv_ms,
            seq=msg.last,
            px_e=book.px_e,
            sz_e=book.sz_e,
            bids=bids,
            asks=asks,
        )
        verdict = self._tops.book(msg.last, book.top())
        return [delta] if verdict is None else [delta, *self._check(verdict, recv_ms)]

    def _levels(self, bids: list[WireLevel], asks: list[WireLevel]) -> tuple[Levels, Levels]:
        """Exact integers at the market's exponents, which become finer where a level needs it."""
        market = self._market
        px, sz = market.px, market.sz
        try:
            return [(px[p], sz[s]) for p, s in bids], [(px[p], sz[s]) for p, s in asks]
        except TooFine:
            both = bids + asks
            px_e = together(px, (p for p, _ in both))[1]
            sz_e = together(sz, (s for _, s in both))[1]
            market.refine(px_e, sz_e)
            return self._levels(bids, asks)

    def _check(self, verdict: bool | None, now_ms: int) -> list[Event]:
        if verdict is None:
            return []
        counts = self._market.counts
        counts.tops_compared += 1
        counts.tops_equal += verdict
        if verdict:
            return []
        return self.distrust(
            "top_mismatch", "the rebuilt top of the book is not the venue's quote", now_ms
        )

    def _behind(self, msg: DepthUpdate, recv_ms: int) -> list[Event]:
        """A diff that the book has already: a second socket's, or one under the snapshot."""
        self._market.counts.stale += 1
        if not self._progress_ms:
            self._progress_ms = msg.event_ms
        elif msg.event_ms - self._progress_ms > RESTART_MS:
            self._market.counts.gaps += 1
            seq = self.book.seq if self.book else 0
            events = self.distrust("restart", f"ids fell from {seq} to {msg.last}", recv_ms)
            self._floor = 0
            return events + self._hold(msg, recv_ms)
        return []

    def _hold(self, msg: DepthUpdate, recv_ms: int) -> list[Event]:
        """Keep a diff for the snapshot to come."""
        self._levels(msg.bids, msg.asks)  # refuse it now, while there is a frame to blame
        held = self._held
        if held:
            newest = held[-1][0].last
            if msg.last <= newest:
                self._market.counts.stale += 1
                return []
            if msg.first > newest + 1:
                # No snapshot below the hole can be continued, so what is under it is of no use.
                self._held_levels = 0
                held.clear()
        levels = len(msg.bids) + len(msg.asks)
        events: list[Event] = []
        if len(held) >= HELD_MESSAGES_MAX or self._held_levels + levels > HELD_LEVELS_MAX:
            if held:
                ids = f"{held[0][0].first} to {held[-1][0].last}"
                detail = f"dropped {len(held)} held messages, ids {ids}"
                events.append(self._market.status("resync", recv_ms, "held_too_long", detail))
            held.clear()
            self._held_levels, self._early = 0, None
            self._ask_snapshot(recv_ms)
        held.append((msg, recv_ms))
        self._held_levels += levels
        return events

    def _infer_instrument(self, snapshot: DepthSnapshot, now_ms: int) -> Event:
        levels = snapshot.bids + snapshot.asks
        for msg, _ in self._held:
            levels += msg.bids + msg.asks
        return self._market.infer({p for p, _ in levels}, {s for _, s in levels}, now_ms)


def _crossing(book: WireBook) -> str:
    bid, ask = book.bids.prices[-1], book.asks.prices[0]
    return f"best bid {bid}e{book.px_e} is not below best ask {ask}e{book.px_e}"
