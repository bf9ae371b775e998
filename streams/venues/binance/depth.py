"""One symbol's book out of diffs and a snapshot, as Binance tells its clients to build it.

Diffs are held until a snapshot comes; those it covers are dropped; the first one left must
begin at or before the id after the snapshot's, and each later one where its predecessor ended.
Where that breaks, the book is distrusted, a new snapshot is asked for, and the old book is kept
until it is there. Two sockets may bring the same diffs, cut at different ids: sizes are
absolute, so one that begins inside what is known and ends beyond it is applied. One that begins
beyond what is known waits a moment for what is missing.

A book in sync is checked, too, against a snapshot that is asked for now and then: diffs go on
being applied, and when it has come, what the snapshot and the diffs since make is the book from
then on. Where the two differ the book had been wrong, and that is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from streams.book import Top, WireBook
from streams.events import BookDelta, BookSnapshot, Event
from streams.ladder import Ladder
from streams.topcheck import TopCheck
from streams.venues.binance.schema import VENUE, DepthSnapshot, DepthUpdate, WireLevel
from streams.venues.decimals import VALUE_MAX, TooFine, together
from streams.venues.market import Market
from streams.venues.ordering import LATE_MS, Ahead
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
    """The book is in sync already, or was checked by it."""


class DepthFeed:
    """Diffs and snapshots in, a gap-free book and its records out.

    Attributes:
        synced: Whether the book follows the venue's.
        book: The book, or while not ``synced`` the last good one; None if there is none.
    """

    def __init__(
        self,
        market: Market,
        ask_snapshot: Callable[[int], None],
        *,
        infer_instrument: bool = False,
        late_ms: int = LATE_MS,
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
        self._ahead: Ahead[tuple[DepthUpdate, int]] = Ahead(late_ms)
        self._since: list[DepthUpdate] | None = None  # diffs since a check was asked for
        self._since_levels = self._since_seq = 0
        self._check_with: DepthSnapshot | None = None  # ahead of the book still

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
            self._levels(msg.bids, msg.asks)  # refuse it now, while there is a frame to blame
            self._ahead.put(msg.first, (msg, recv_ms), recv_ms)
            return self.tick(recv_ms)
        events = self._apply(book, msg, recv_ms)
        while self.book is not None and (held := self._ahead.take(self.book.seq)) is not None:
            if held[0].last > self.book.seq:
                events += self._apply(self.book, *held)
            else:
                self._market.counts.stale += 1
        return events

    def tick(self, now_ms: int) -> list[Event]:
        """Give up a hole that was not filled in time."""
        book = self.book
        if book is None or not self._ahead.overdue(now_ms):
            return []
        self._market.counts.gaps += 1
        held = self._ahead.clear()
        first, last = held[0][0].first, held[0][0].last
        events = self.distrust(
            "sequence", f"expected id {book.seq + 1}, got {first} to {last}", now_ms
        )
        for msg, recv_ms in held:
            events += self._hold(msg, recv_ms)
        return events

    def check(self, now_ms: int) -> None:
        """Ask for a snapshot to hold the book against; nothing while it is not in sync anyway."""
        if self.synced and self.book:
            self._since, self._since_levels, self._since_seq = [], 0, self.book.seq
            self._check_with = None
            self._ask_snapshot(now_ms)

    def snapshot(self, snapshot: DepthSnapshot, now_ms: int) -> tuple[Join, list[Event]]:
        """Feed a REST snapshot.

        Raises:
            FrameError: A level is not a price and a size.
        """
        if self.synced:
            return self._compare(snapshot, now_ms)
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
        return self._market.record(book, now_ms, reason, book.seq)

    def _unsync(self) -> None:
        self.synced = False
        self._held, self._held_levels, self._early = deque(), 0, None
        self._since = self._check_with = None
        self._ahead.clear()
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
            return self._crossed(book, msg, recv_ms)
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
        events: list[Event] = [delta]
        if verdict is not None:
            events += self._check(verdict, recv_ms)
        if self._since is not None:
            events += self._remember(msg, recv_ms)
        return events

    def _crossed(self, book: WireBook, msg: DepthUpdate, recv_ms: int) -> list[Event]:
        self._market.counts.crossed += 1
        ahead = self._ahead.clear()
        events = self.distrust("crossed", _crossing(book), recv_ms)
        self.book = None  # not one to be shown to anybody
        for held in ((msg, recv_ms), *ahead):
            events += self._hold(*held)
        return events

    # --- a check of the book in sync ---

    def _remember(self, msg: DepthUpdate, now_ms: int) -> list[Event]:
        assert self._since is not None
        self._since.append(msg)
        self._since_levels += len(msg.bids) + len(msg.asks)
        if len(self._since) > HELD_MESSAGES_MAX or self._since_levels > HELD_LEVELS_MAX:
            self._since = self._check_with = None  # no snapshot in minutes: another time
            return []
        snapshot = self._check_with
        return self._compare(snapshot, now_ms)[1] if snapshot is not None else []

    def _compare(self, snapshot: DepthSnapshot, now_ms: int) -> tuple[Join, list[Event]]:
        """Let the book be what a snapshot and the diffs since say; tell where it was not."""
        book, since, market = self.book, self._since, self._market
        if since is None or book is None:
            return Join.NOT_NEEDED, []
        if snapshot.last < self._since_seq:
            return Join.UNFIT, []
        if snapshot.last > book.seq:
            self._check_with = snapshot
            return Join.NOT_NEEDED, []
        fresh = WireBook(market.px.exponent, market.sz.exponent)
        bids, asks = self._levels(snapshot.bids, snapshot.asks)
        diffs = [(self._levels(m.bids, m.asks), m.last) for m in since if m.last > snapshot.last]
        px_e, sz_e = market.px.exponent, market.sz.exponent
        if (fresh.px_e, fresh.sz_e) != (px_e, sz_e):  # the snapshot is finer than any diff so far
            fresh = WireBook(px_e, sz_e)
            bids, asks = self._levels(snapshot.bids, snapshot.asks)
            diffs = [
                (self._levels(m.bids, m.asks), m.last) for m in since if m.last > snapshot.last
            ]
        if (book.px_e, book.sz_e) != (px_e, sz_e):
            book.refine(px_e, sz_e)
            self._tops.reset()
        fresh.replace(bids, asks, snapshot.last)
        for (more_bids, more_asks), last in diffs:
            fresh.apply(more_bids, more_asks, last)
        # A snapshot ends somewhere; of what lies beyond, the book may know more.
        low = min((px for px, _ in bids), default=0)
        high = max((px for px, _ in asks), default=VALUE_MAX)
        differing = _differing(book.bids, fresh.bids, low, VALUE_MAX)
        differing += _differing(book.asks, fresh.asks, 0, high)
        self._since = self._check_with = None
        market.counts.checks += 1
        if not differing:
            return Join.NOT_NEEDED, [self.record(now_ms, "refresh")]
        market.counts.checks_differed += 1
        fresh.bids.update([(px, sz) for px, sz in book.bids.ascending() if px < low])
        fresh.asks.update([(px, sz) for px, sz in book.asks.ascending() if px > high])
        if fresh.crossed:
            return Join.NOT_NEEDED, self.distrust("refresh", _crossing(fresh), now_ms)
        self.book = fresh
        self._tops.forget_book()
        detail = f"{differing} levels differed from a snapshot at id {snapshot.last}"
        gap = market.status("gap", now_ms, "refresh", detail)
        return Join.NOT_NEEDED, [gap, self.record(now_ms, "resync")]

    # --- inside ---

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


def _differing(ours: Ladder, theirs: Ladder, low: int, high: int) -> int:
    """Levels from ``low`` to ``high`` that are not the same in both."""
    one = {px: sz for px, sz in ours.sizes.items() if low <= px <= high}
    other = {px: sz for px, sz in theirs.sizes.items() if low <= px <= high}
    return len(dict(one.items() ^ other.items()))


def _crossing(book: WireBook) -> str:
    bid, ask = book.bids.prices[-1], book.asks.prices[0]
    return f"best bid {bid}e{book.px_e} is not below best ask {ask}e{book.px_e}"
