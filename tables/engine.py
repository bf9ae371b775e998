"""The engine of one symbol: records in, reports out, nothing else.

State changes only by `apply`, in the order of the topic's offsets. `fast_report`,
`slow_report` and `tick` are pure functions of that state and the time given: they read and
never mutate. So worker, standby, replay, audit and backtest agree to the bit.

Memory is finite by construction: nothing older than 30 minutes of record time has any effect,
besides the last `instrument`, `book_snapshot` and `ticker`, which the bridge repeats every few
minutes. An engine started 35 minutes back therefore equals one that ran from the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Any, ClassVar, Final

from streams import events
from streams.events import (
    BookDelta,
    BookSnapshot,
    Event,
    FeedStatus,
    Instrument,
    Kline,
    Level,
    Ticker,
    Trade,
)
from tables import snapshots, views
from tables.anomalies import CrashSample, CrashTracker, IcebergTracker, SpoofTracker
from tables.applied import Applied
from tables.book import OrderBook, Side
from tables.calculator import Calculators
from tables.checks import check_snapshot, check_ticker, check_units
from tables.intake import Intake, Takers
from tables.parameters import REFRESH_SEC, WINDOW_MS, Parameters
from tables.profile import VolumeProfile
from tables.quality import FeedQuality
from tables.report import FastPart, SlowPart, Tick
from tables.scale import rescale
from tables.sequence import LOST, TAKEN_OVER, turn
from tables.sizes import SizeHistory
from tables.windows import BUCKET_MS, SPAN_BUCKETS, TradeWindow

ENGINE_VERSION: Final = 3
"""Raise it when the same records give another state or report: stored states are discarded."""

FLOW_MS: Final = SPAN_BUCKETS * BUCKET_MS
_NOTHING: Final[dict[int, Any]] = {}
_NEVER: Final = 2**63 - 1
"""No level grows by as much: no threshold is known."""


class Engine(Intake):
    """State of one symbol: of its primary venue in full, of others the top of the book.

    Attributes:
        symbol, venue: Whose records these are; those of other symbols are refused.
        newest_ms: Newest ``ts_recv_ms`` of any record, 0 before any.
        parts: Parts of a book snapshot that is not complete yet.
    """

    def __init__(
        self,
        symbol: str,
        venue: str,
        parameters: Parameters | None = None,
        listed: Iterable[str] = (),
    ) -> None:
        """An engine without records.

        Args:
            symbol: Canonical.
            venue: The primary one.
            parameters: Thresholds; like ``listed`` no part of the state.
            listed: The symbol's other venues.
        """
        self.parameters = parameters or Parameters()
        super().__init__(symbol, venue, Calculators(self.parameters.calculators), listed)
        self.newest_ms = 0
        self.last_change_ms = 0
        self.px_e: int | None = None
        self.sz_e = 0
        self.feed_token = 0
        self.feed_seq = 0
        self.feed_state: events.FeedState | None = None
        self.instrument: Instrument | None = None
        self.day: Ticker | None = None
        self.quote: Ticker | None = None
        self.last_trade: Trade | None = None
        self.last_trade_id: int | None = None
        self.large_sz: float | None = None
        # Derived, to be quick: the threshold as an integer, a bin's width, 0 while unknown.
        self._large_least = _NEVER
        self._bin_px = 0
        self.book = OrderBook()
        self.flow = TradeWindow()
        self.profile = VolumeProfile()
        self.sizes = SizeHistory()
        self.quality = FeedQuality()
        self.spoof = SpoofTracker()
        self.iceberg = IcebergTracker()
        self.crash = CrashTracker()
        self.parts: list[BookSnapshot] = []
        self.newest_sec = 0
        self._second_ends_ms = 0  # derived too: when a record enters the next second

    # --- records in -------------------------------------------------------------------------

    def _admit(self, record: Event | events.Head) -> bool:
        """Keep to one bridge's contiguous stream; False if the record is not for us.

        Called once for each record, after all that could refuse it and before any change.
        """
        feed, ts_recv_ms = record.feed, record.ts_recv_ms
        seq = feed.seq
        if seq != self.feed_seq + 1 or feed.token != self.feed_token:
            return self._admit_out_of_order(record)
        self.feed_seq = seq
        if ts_recv_ms > self.newest_ms:
            if ts_recv_ms >= self._second_ends_ms:
                self._enter_second(ts_recv_ms // 1000)
            self.newest_ms = ts_recv_ms
        elif ts_recv_ms < self._second_ends_ms - 1000:
            self.quality.saw(ts_recv_ms // 1000)
        return True

    def _admit_out_of_order(self, record: Event | events.Head) -> bool:
        feed = record.feed
        this = turn(self.feed_token, self.feed_seq, feed)
        if this.refused:
            self._outcome.counts[this.refused] += 1
            return False
        self.feed_token, self.feed_seq = feed.token, feed.seq - 1
        self._admit(record)
        if this.taken_over:
            self.book.mute(TAKEN_OVER)
        if this.lost:
            self.book.mute(LOST)
            self._count("gap.feed_seq")
            self.parts.clear()
        return True

    def _enter_second(self, sec: int) -> None:
        self.quality.saw(sec)
        self._close_second(sec)
        self._second_ends_ms = (sec + 1) * 1000

    def _close_second(self, sec: int) -> None:
        """Record time enters a new second: sample the one that ends, forget what is out of reach."""
        closed, self.newest_sec = self.newest_sec, sec
        book = self.book
        if book.state == "ok" and book.bids.prices and book.asks.prices:
            net = self.flow.flow(closed * 1000 + 999, 1000)
            levels = book.bids.highest(self.parameters.report_levels)
            self.crash.sample(
                CrashSample(
                    closed,
                    book.asks.prices[0] - book.bids.prices[-1],
                    sum(sz for _, sz in levels),
                    net.bought - net.sold,
                )
            )
        self.flow.expire(sec * 1000)
        self.profile.expire(sec)
        self.sizes.expire(sec)
        self.quality.expire(sec)
        self.spoof.expire(sec * 1000, self.parameters.spoof_lifetime_ms)
        self.iceberg.expire(sec * 1000)
        if self.last_trade is not None and self.last_trade.ts_recv_ms <= sec * 1000 - WINDOW_MS:
            self.last_trade = self.last_trade_id = None
        if sec // REFRESH_SEC > closed // REFRESH_SEC:
            limits = self.parameters
            count, found = self.sizes.percentiles(sec, (limits.wall_percentile,))
            enough = count >= limits.liquidity_min_samples
            self.large_sz = found[0] * limits.wall_multiplier if enough else None
            self.derive()
            self.crash.refresh()

    def _calculate(self, event: Event) -> None:
        for name in self.custom.apply(event, self):
            self._outcome.counts[f"calculator_failed.{name}"] += 1

    def _doubt(self, reason: str) -> None:
        self.book.mute(reason)
        self._count("gap.error")

    def _count(self, what: str, how_many: int = 1) -> None:
        self._outcome.counts[what] += how_many
        self.quality.count(self.newest_ms, what, how_many)

    # --- one kind each: refuse, admit, change; True if it changed the state -------------------

    def _take_instrument(self, event: Instrument) -> bool:
        check_units(event)
        if not self._admit(event):
            return False
        self._factors(event.px_e, event.sz_e)
        before = self.instrument
        self.instrument = event
        self.derive()
        if before is not None and (
            event.tick_size * 10.0**event.px_e != before.tick_size * 10.0**before.px_e
        ):
            self.profile.clear()
        return True

    def _take_snapshot(self, event: BookSnapshot) -> bool:
        check_snapshot(event, self.parts)
        if not self._admit(event):
            return False
        if event.part == 1:
            self.parts.clear()
        expected = len(self.parts) + 1
        if event.part != expected or (self.parts and self.parts[0].parts != event.parts):
            self.parts.clear()
            self._outcome.counts["snapshot_parts_lost"] += 1
            return True
        self.parts.append(event)
        if event.part == event.parts:
            self._take_whole_book(event)
        return True

    def _take_whole_book(self, last: BookSnapshot) -> None:
        parts, self.parts = self.parts, []
        px_factor, sz_factor = self._factors(last.px_e, last.sz_e)
        self.book.replace(
            _scaled((level for part in parts for level in part.bids), px_factor, sz_factor),
            _scaled((level for part in parts for level in part.asks), px_factor, sz_factor),
            self.px_e or 0,
            self.sz_e,
            last.seq,
        )
        self.spoof.clear()
        self.iceberg.clear()
        self.last_change_ms = max(self.last_change_ms, last.ts_recv_ms)

    def _take_delta(self, event: BookDelta) -> bool:
        bids, asks = event.bids, event.asks
        if event.px_e == self.px_e and event.sz_e == self.sz_e:
            if not self._admit(event):
                return False
            sample = self.sizes.sampler(self.newest_sec)
        else:
            check_units(event)
            if not self._admit(event):
                return False
            px_factor, sz_factor = self._factors(event.px_e, event.sz_e)
            bids, asks = _scaled(bids, px_factor, sz_factor), _scaled(asks, px_factor, sz_factor)
            sample = self.sizes.cautious_sampler(self.newest_sec)
        if event.ts_recv_ms > self.last_change_ms:  # noqa: PLR1730
            self.last_change_ms = event.ts_recv_ms
        book = self.book
        if book.state != "ok":
            for _, sz in (*bids, *asks):
                if sz:
                    sample(sz)
            return True
        bids_held, asks_held = book.bids, book.asks
        bid_prices, ask_prices = bids_held.prices, asks_held.prices
        # Twice the mid, so that it stays an integer.
        mid_doubled = bid_prices[-1] + ask_prices[0] if bid_prices and ask_prices else 0
        large, placed = self._large_least, self.spoof.watched
        if large == _NEVER or not mid_doubled:
            large, placed = _NEVER, _NOTHING
        refilled = self.iceberg.watched
        if bids:
            for level in bids_held.change(bids, sample, large, placed, refilled):
                self._noted("bid", level, large, mid_doubled)
        if asks:
            for level in asks_held.change(asks, sample, large, placed, refilled):
                self._noted("ask", level, large, mid_doubled)
        if self.iceberg.fresh:
            self.iceberg.book_changed()
        book.seq = event.seq
        if bid_prices and ask_prices and bid_prices[-1] >= ask_prices[0]:
            self._crossed()
        return True

    def _crossed(self) -> None:
        """A delta has left the best bid at or above the best ask."""
        self.book.mute("crossed")
        self._count("gap.crossed")

    def _sampled(self, standing: bytes) -> None:
        """Sizes that deltas of the present second have left standing, 64 bits each."""
        self.sizes.sample(self.newest_sec, standing)

    def _noted(self, side: Side, level: tuple[int, int, int], large: int, mid_doubled: int) -> None:
        """A level that grew by much, or is watched."""
        px, before, after = level
        limits = self.parameters
        if large != _NEVER and (after - before >= large or px in self.spoof.watched):
            self.spoof.level_changed(
                self.newest_ms,
                side,
                px,
                before,
                after,
                large=large,
                far=abs(2 * px - mid_doubled) * 10_000 >= limits.spoof_far_bps * mid_doubled,
                lifetime_ms=limits.spoof_lifetime_ms,
            )
        if px in self.iceberg.watched:
            self.iceberg.level_changed(side, px, after, limits.iceberg_depth_tolerance_pct)

    def _take_trade(self, event: Trade) -> bool:
        if event.px_e != self.px_e or event.sz_e != self.sz_e:
            check_units(event)
        if not self._admit(event):
            return False
        trade_id = event.trade_id
        if trade_id is not None:
            last_id = self.last_trade_id
            if last_id is not None:
                first_id = trade_id if event.first_id is None else event.first_id
                if trade_id <= last_id:
                    self._count("duplicate_trades")
                    return True
                if first_id > last_id + 1:
                    self._count("trades_missing", first_id - last_id - 1)
            self.last_trade_id = trade_id
        px, sz = event.px, event.sz
        if event.px_e != self.px_e or event.sz_e != self.sz_e:
            px_factor, sz_factor = self._factors(event.px_e, event.sz_e)
            px, sz = px * px_factor, sz * sz_factor
        ts_ms = event.ts_recv_ms
        self.last_trade = event
        if ts_ms > self.last_change_ms:  # noqa: PLR1730
            self.last_change_ms = ts_ms
        if ts_ms > self.newest_ms - WINDOW_MS:
            if ts_ms > self.newest_ms - FLOW_MS:
                self.flow.add(ts_ms, sz, buy=event.side == "buy")
            if self._bin_px:
                self.profile.add(ts_ms // 1000, px // self._bin_px, sz)
        book = self.book
        if book.state == "ok":
            side: Side
            side, ladder = ("ask", book.asks) if event.side == "buy" else ("bid", book.bids)
            self.iceberg.traded(self.newest_ms, side, px, sz, ladder.sizes.get(px, 0))
            self.spoof.traded(side, px)
        return True

    def _take_ticker(self, event: Ticker) -> bool:
        check_ticker(event)
        if event.px_e != self.px_e or event.sz_e != self.sz_e:
            check_units(event)
        if not self._admit(event):
            return False
        if event.day is not None:
            self.day = event
        if event.quote is not None:
            self.quote = event
        self.last_change_ms = max(self.last_change_ms, event.ts_recv_ms)
        return True

    def _quoted(self, raw: bytes) -> None:
        """The fast lane has taken quotes: this is the newest."""
        self.quote = events.read(raw)  # type: ignore[assignment]

    def _take_status(self, event: FeedStatus) -> bool:
        if not self._admit(event):
            return False
        self.feed_state = event.status
        if event.status in ("gap", "disconnected"):
            self.book.hold(event.reason or event.status)
            self._count(f"gap.{event.reason or event.status}")
        return True

    # --- units --------------------------------------------------------------------------------

    def _factors(self, px_e: int, sz_e: int) -> tuple[int, int]:
        """What to multiply a record's integers by; makes the engine's units finer if need be."""
        if px_e == self.px_e and sz_e == self.sz_e:
            return 1, 1
        if self.px_e is None:
            self.px_e, self.sz_e = px_e, sz_e
        elif px_e < self.px_e or sz_e < self.sz_e:
            self._refine(min(px_e, self.px_e), min(sz_e, self.sz_e))
        return rescale(1, px_e, self.px_e), rescale(1, sz_e, self.sz_e)

    def _refine(self, px_e: int, sz_e: int) -> None:
        old_px_e, old_sz_e = self.px_e or 0, self.sz_e
        self.book.refine(px_e, sz_e)
        self.flow.refine(old_sz_e, sz_e)
        self.profile.refine(old_sz_e, sz_e)
        self.sizes.refine(old_sz_e, sz_e)
        for tracker in (self.spoof, self.iceberg, self.crash):
            tracker.refine(old_px_e, px_e, old_sz_e, sz_e)
        if self.large_sz is not None:
            self.large_sz *= 10 ** (old_sz_e - sz_e)
        self.px_e, self.sz_e = px_e, sz_e
        self.derive()

    # Plain functions, not bound methods: an engine that holds itself is freed only by a search for
    # garbage, which comes seldom, and holds half an hour of its market until then.
    _take: ClassVar[Takers] = {
        kind: (events.TAGS[kind], taken)
        for kind, taken in (
            (Instrument, _take_instrument),
            (BookSnapshot, _take_snapshot),
            (BookDelta, _take_delta),
            (Trade, _take_trade),
            (Ticker, _take_ticker),
            (Kline, _admit),
            (FeedStatus, _take_status),
        )
    }

    def derive(self) -> None:
        """What follows from the rest of the state: after a restore, and where that changed."""
        self._second_ends_ms = (self.newest_sec + 1) * 1000 if self.newest_ms else 0
        self._large_least = _NEVER if self.large_sz is None else min(ceil(self.large_sz), _NEVER)
        instrument = self.instrument
        if instrument is not None and self.px_e is not None:
            tick = rescale(instrument.tick_size, instrument.px_e, self.px_e)
            self._bin_px = tick * self.parameters.profile_bin_ticks

    # --- reports out --------------------------------------------------------------------------

    def fast_report(self, now_ms: int, lap: views.Lap = views.no_lap) -> FastPart:
        """What changes many times a second, as of ``now_ms`` or the newest record if later."""
        return views.fast_part(self, max(now_ms, self.newest_ms), lap)

    def slow_report(self, now_ms: int, lap: views.Lap = views.no_lap) -> SlowPart:
        """Volume profile, walls, vacuums and anomalies, likewise."""
        return views.slow_part(self, max(now_ms, self.newest_ms), lap)

    def tick(self, writer_token: int, seq: int) -> Tick:
        """Last trade and top of book as of the newest record."""
        return views.tick(self, writer_token, seq)

    # --- keeping it ---------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """All state as bytes; see `tables.snapshots`."""
        return snapshots.write(self, ENGINE_VERSION)

    @classmethod
    def restore(
        cls,
        snapshot: bytes,
        parameters: Parameters | None = None,
        listed: Iterable[str] = (),
    ) -> Engine:
        """The engine that a snapshot was taken of.

        Args:
            snapshot: What `snapshot` returned.
            parameters: Thresholds.
            listed: The symbol's other venues.

        Raises:
            SnapshotError: Another format or engine version, or damaged: discard it and
                rebuild from the topic.
        """
        return snapshots.read(
            snapshot,
            ENGINE_VERSION,
            lambda symbol, venue: cls(symbol, venue, parameters, listed),
        )


def _scaled(levels: Iterable[Level], px_factor: int, sz_factor: int) -> list[Level]:
    return [(px * px_factor, sz * sz_factor) for px, sz in levels]


__all__ = ["ENGINE_VERSION", "Applied", "Engine"]
