"""The engine of one symbol: records in, reports out, nothing else.

State changes only by `apply`, in the order of the topic's offsets. `fast_report`,
`slow_report` and `tick` are pure functions of that state and the time given: they read and
never mutate. So worker, standby, replay, audit and backtest agree to the bit.

Memory is finite by construction: nothing older than 30 minutes of record time has any effect,
besides the last `instrument`, `book_snapshot` and `ticker`, which the bridge repeats every few
minutes. An engine started 35 minutes back therefore equals one that ran from the start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

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
from streams.ladder import Ladder
from tables import snapshots, views
from tables.anomalies import CrashSample, CrashTracker, IcebergTracker, SpoofTracker
from tables.book import OrderBook, Side
from tables.parameters import REFRESH_SEC, WINDOW_MS, Parameters
from tables.profile import VolumeProfile
from tables.quality import FeedQuality
from tables.report import FastPart, SlowPart, Tick
from tables.scale import rescale
from tables.sizes import SizeHistory
from tables.windows import TradeWindow
from tapeline.errors import MalformedRecord, RecordError, UnknownKind

ENGINE_VERSION: Final = 1
"""Raise it when the same records give another state or report: stored states are discarded."""

_EXPONENT_FLOOR: Final = -12
_NO_OFFSET: Final = -1


@dataclass(slots=True)
class Applied:
    """What became of a batch of records.

    Attributes:
        applied: Records that changed the state.
        skipped: Records at or below the applied offset: redelivered.
        counts: What else happened, by name, such as ``duplicate_trades`` or ``gap.feed_seq``.
        kinds: Applied records by kind.
        failures: (offset, error) of records for the dead-letter topic.
    """

    applied: int = 0
    skipped: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, Exception]] = field(default_factory=list)


class Engine:
    """State of one symbol of one venue.

    Attributes:
        symbol, venue: Whose records these are; others are refused or skipped.
        applied: Offset of the newest record taken, -1 before any.
        newest_ms: Newest ``ts_recv_ms`` of any record, 0 before any.
        parts: Parts of a book snapshot that is not complete yet.
    """

    def __init__(self, symbol: str, venue: str, parameters: Parameters | None = None) -> None:
        self.symbol = symbol
        self.venue = venue
        self.parameters = parameters or Parameters()
        self.applied = _NO_OFFSET
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
        self._outcome = Applied()
        self._take: dict[type, Callable[[Any], None]] = {
            Instrument: self._take_instrument,
            BookSnapshot: self._take_snapshot,
            BookDelta: self._take_delta,
            Trade: self._take_trade,
            Ticker: self._take_ticker,
            Kline: lambda _kline: None,
            FeedStatus: self._take_status,
        }

    # --- records in -------------------------------------------------------------------------

    def apply(self, records: Iterable[tuple[int, bytes]]) -> Applied:
        """Apply records of this symbol, in offset order.

        A record is validated before anything changes. One that fails is listed for the
        dead-letter topic and the rest go on; as its place in the feed's sequence stays empty,
        the next record finds a hole there and mutes the book.

        Args:
            records: (offset, value) pairs, offsets rising.
        """
        outcome = self._outcome = Applied()
        for offset, raw in records:
            if offset <= self.applied:
                outcome.skipped += 1
                continue
            try:
                event = events.decode(raw)
                self._check(event)
                if self._admit(event.venue, event.feed, event.ts_recv_ms):
                    self._take[type(event)](event)
                    outcome.applied += 1
                    outcome.kinds[events.kind_of(event)] += 1
            except UnknownKind as unknown:
                outcome.counts["unknown_kind"] += 1
                head = unknown.head
                if head.symbol == self.symbol:
                    self._admit(head.venue, head.feed, head.ts_recv_ms)
            except RecordError as error:
                outcome.failures.append((offset, error))
            except Exception as error:
                # Not foreseen, so the change may be half done: the book can't be believed.
                self.book.mute(f"error: {type(error).__name__}")
                self._count("gap.error")
                outcome.failures.append((offset, error))
            self.applied = offset
        return outcome

    def _check(self, event: Event) -> None:
        """Refuse what is well-formed and still can't be right."""
        if event.symbol != self.symbol:
            raise MalformedRecord(f"symbol {event.symbol!r} under the key {self.symbol!r}")
        if isinstance(event, BookSnapshot):
            self._check_snapshot(event)
        elif isinstance(event, Ticker) and event.day is None and event.quote is None:
            raise MalformedRecord("ticker with neither day nor quote")
        if isinstance(event, (Instrument, BookSnapshot, BookDelta, Trade, Ticker)):
            finest = min(event.px_e, event.sz_e)
            if finest < _EXPONENT_FLOOR:
                raise MalformedRecord(f"exponent {finest} is finer than {_EXPONENT_FLOOR}")

    def _check_snapshot(self, event: BookSnapshot) -> None:
        if event.part > event.parts:
            raise MalformedRecord(f"part {event.part} of {event.parts}")
        parts = [*self.parts, event] if event.part > 1 else [event]
        bids = max((px for part in parts for px, sz in part.bids if sz), default=None)
        asks = min((px for part in parts for px, sz in part.asks if sz), default=None)
        if bids is not None and asks is not None and bids >= asks:
            raise MalformedRecord(f"crossed book: best bid {bids} is not below best ask {asks}")

    def _admit(self, venue: str, feed: events.Feed, ts_recv_ms: int) -> bool:
        """Keep to one bridge's contiguous stream; False if the record is not for us."""
        if venue != self.venue:
            self._outcome.counts["other_venue"] += 1
            return False
        if feed.token < self.feed_token:
            self._outcome.counts["stale_feed"] += 1
            return False
        if feed.token == self.feed_token and feed.seq <= self.feed_seq:
            self._outcome.counts["duplicate_records"] += 1
            return False
        self._advance(ts_recv_ms)
        if feed.token > self.feed_token:
            lost = self.feed_token > 0 and feed.seq != 1
            if self.feed_token:
                self.book.mute("another bridge took over")
            self.feed_token = feed.token
        else:
            lost = feed.seq != self.feed_seq + 1
        self.feed_seq = feed.seq
        if lost:
            self.book.mute("records of the feed are missing")
            self._count("gap.feed_seq")
            self.parts.clear()
        return True

    def _advance(self, ts_recv_ms: int) -> None:
        sec = ts_recv_ms // 1000
        self.quality.saw(sec)
        if ts_recv_ms <= self.newest_ms:
            return
        if sec > self.newest_sec:
            self._close_second(sec)
        self.newest_ms = ts_recv_ms
        self.flow.expire(ts_recv_ms)

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
            self.crash.refresh()

    def _count(self, what: str, how_many: int = 1) -> None:
        self._outcome.counts[what] += how_many
        self.quality.count(self.newest_ms, what, how_many)

    # --- one kind each ----------------------------------------------------------------------

    def _take_instrument(self, event: Instrument) -> None:
        self._factors(event.px_e, event.sz_e)
        before = self.instrument
        self.instrument = event
        if before is not None and (
            event.tick_size * 10.0**event.px_e != before.tick_size * 10.0**before.px_e
        ):
            self.profile.clear()

    def _take_snapshot(self, event: BookSnapshot) -> None:
        if event.part == 1:
            self.parts.clear()
        expected = len(self.parts) + 1
        if event.part != expected or (self.parts and self.parts[0].parts != event.parts):
            self.parts.clear()
            self._outcome.counts["snapshot_parts_lost"] += 1
            return
        self.parts.append(event)
        if event.part < event.parts:
            return
        parts, self.parts = self.parts, []
        px_factor, sz_factor = self._factors(event.px_e, event.sz_e)
        self.book.replace(
            _scaled((level for part in parts for level in part.bids), px_factor, sz_factor),
            _scaled((level for part in parts for level in part.asks), px_factor, sz_factor),
            self.px_e or 0,
            self.sz_e,
            event.seq,
        )
        self.spoof.clear()
        self.iceberg.clear()
        self.last_change_ms = max(self.last_change_ms, event.ts_recv_ms)

    def _take_delta(self, event: BookDelta) -> None:
        px_factor, sz_factor = self._factors(event.px_e, event.sz_e)
        bids, asks = event.bids, event.asks
        if px_factor != 1 or sz_factor != 1:
            bids, asks = _scaled(bids, px_factor, sz_factor), _scaled(asks, px_factor, sz_factor)
        self.last_change_ms = max(self.last_change_ms, event.ts_recv_ms)
        self.sizes.extend(
            self.newest_sec, [sz for levels in (bids, asks) for _, sz in levels if sz]
        )
        book = self.book
        if book.state != "ok":
            return
        mid_doubled = book.mid_doubled()
        self._change("bid", book.bids, bids, mid_doubled)
        self._change("ask", book.asks, asks, mid_doubled)
        self.iceberg.book_changed()
        book.seq = event.seq
        if book.crossed():
            book.mute("crossed")
            self._count("gap.crossed")

    def _change(
        self, side: Side, ladder: Ladder, levels: list[Level], mid_doubled: int | None
    ) -> None:
        spoof, iceberg, limits = self.spoof, self.iceberg, self.parameters
        large = self.large_sz
        for px, sz in levels:
            before = ladder.set(px, sz)
            if large is not None and mid_doubled is not None:
                spoof.level_changed(
                    self.newest_ms,
                    side,
                    px,
                    before,
                    sz,
                    large=large,
                    far=abs(2 * px - mid_doubled) * 10_000 >= limits.spoof_far_bps * mid_doubled,
                    lifetime_ms=limits.spoof_lifetime_ms,
                )
            if iceberg.watches(side, px):
                iceberg.level_changed(side, px, sz, limits.iceberg_depth_tolerance_pct)

    def _take_trade(self, event: Trade) -> None:
        if event.trade_id is not None:
            last_id = self.last_trade_id
            if last_id is not None:
                first_id = event.trade_id if event.first_id is None else event.first_id
                if event.trade_id <= last_id:
                    self._count("duplicate_trades")
                    return
                if first_id > last_id + 1:
                    self._count("trades_missing", first_id - last_id - 1)
            self.last_trade_id = event.trade_id
        px_factor, sz_factor = self._factors(event.px_e, event.sz_e)
        px, sz = event.px * px_factor, event.sz * sz_factor
        ts_ms = event.ts_recv_ms
        self.last_trade = event
        self.last_change_ms = max(self.last_change_ms, ts_ms)
        if ts_ms > self.newest_ms - WINDOW_MS:
            self.flow.add(ts_ms, sz, buy=event.side == "buy")
            self.flow.expire(self.newest_ms)
            tick = self._tick_size()
            if tick:
                self.profile.add(
                    ts_ms // 1000, px // (tick * self.parameters.profile_bin_ticks), sz
                )
                self.profile.expire(self.newest_sec)
        side: Side = "ask" if event.side == "buy" else "bid"
        if self.book.state == "ok":
            ladder = self.book.asks if side == "ask" else self.book.bids
            self.iceberg.traded(self.newest_ms, side, px, sz, ladder.sizes.get(px, 0))
            self.spoof.traded(side, px)

    def _take_ticker(self, event: Ticker) -> None:
        if event.day is not None:
            self.day = event
        if event.quote is not None:
            self.quote = event
        self.last_change_ms = max(self.last_change_ms, event.ts_recv_ms)

    def _take_status(self, event: FeedStatus) -> None:
        self.feed_state = event.status
        if event.status in ("gap", "disconnected"):
            self.book.hold(event.reason or event.status)
            self._count(f"gap.{event.reason or event.status}")

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

    def _tick_size(self) -> int:
        """In the engine's units; 0 before an instrument is known."""
        instrument = self.instrument
        if instrument is None or self.px_e is None:
            return 0
        return rescale(instrument.tick_size, instrument.px_e, self.px_e)

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
    def restore(cls, snapshot: bytes, parameters: Parameters | None = None) -> Engine:
        """The engine that a snapshot was taken of.

        Raises:
            SnapshotError: Another format or engine version, or damaged: discard it and
                rebuild from the topic.
        """
        return snapshots.read(
            snapshot, ENGINE_VERSION, lambda symbol, venue: cls(symbol, venue, parameters)
        )


def _scaled(levels: Iterable[Level], px_factor: int, sz_factor: int) -> list[Level]:
    return [(px * px_factor, sz * sz_factor) for px, sz in levels]


__all__ = ["ENGINE_VERSION", "Applied", "Engine"]
