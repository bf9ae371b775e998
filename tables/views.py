"""How an engine's state is read: the parts of a report. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from streams.events import Level, Ticker, Trade
from tables.anomalies import Finding, Prices
from tables.book import Side
from tables.consolidation import Standing, consolidate, standing_of
from tables.health import health, ingestion_status
from tables.liquidity import vacuums, walls
from tables.parameters import WINDOW_SEC
from tables.profile import value_area
from tables.report import (
    Anomaly,
    Best,
    Coverage,
    Depth,
    FastPart,
    FlowPart,
    Gaps,
    Health,
    Ingestion,
    LastTrade,
    Liquidity,
    PriceQty,
    Profile,
    SlowPart,
    Tick,
    Vacuum,
    VenuesPart,
    Wall,
    iso_utc,
)
from tables.scale import levels_to_float, to_float
from tables.touch import depth_sums, touch

if TYPE_CHECKING:
    from tables.engine import Engine

ORDERS_WINDOW_SEC = 10
NET_WINDOW_SEC = 30

Lap = Callable[[str], None]
"""Told the name of each figure when it is done, so that a caller with a clock can time them."""


def no_lap(_name: str) -> None:
    """For callers that time nothing."""


def fast_part(engine: Engine, now_ms: int, lap: Lap = no_lap) -> FastPart:
    """The fast cycle's part, at a time not before the newest record."""
    px_e, sz_e = engine.px_e or 0, engine.sz_e
    book = engine.book
    bid = book.best_bid() if book.shown else None
    ask = book.best_ask() if book.shown else None
    top = touch(bid, ask, px_e) if bid and ask else None
    lap("spread")
    depth = _depth(engine) if book.shown else None
    lap("depth")
    flow = _flow(engine, now_ms)
    lap("flow")
    data_age_ms = now_ms - engine.newest_ms if engine.newest_ms else None
    day = engine.day
    stats = day.day if day else None
    parts = health(
        data_age_ms,
        top.spread_bps if top else None,
        depth.imbalance if depth else None,
        [finding.severity for finding in _findings(engine, now_ms)],
    )
    lap("health")
    gaps = _gaps(engine, now_ms)
    return FastPart(
        symbol=engine.symbol,
        venue=engine.venue,
        generated_at=iso_utc(now_ms),
        data_age_ms=data_age_ms,
        last_change_age_ms=now_ms - engine.last_change_ms if engine.last_change_ms else None,
        ingestion=Ingestion(
            status=ingestion_status(data_age_ms),
            feed=engine.feed_state,
            book=book.state,
            reason=book.reason,
            feed_token=engine.feed_token,
        ),
        last_price=_last_price(engine.last_trade, day),
        change_24h_pct=stats.change_pct if stats else None,
        high_24h=to_float(stats.high, day.px_e) if stats and day else None,
        low_24h=to_float(stats.low, day.px_e) if stats and day else None,
        volume_24h=to_float(stats.volume, day.sz_e) if stats and day else None,
        best_bid=Best(to_float(bid[0], px_e), to_float(bid[1], sz_e)) if bid else None,
        best_ask=Best(to_float(ask[0], px_e), to_float(ask[1], sz_e)) if ask else None,
        spread_bps=top.spread_bps if top else None,
        mid_price=top.mid_price if top else None,
        micro_price=top.micro_price if top else None,
        depth=depth,
        flow=flow,
        health=Health(*parts),
        gaps=gaps,
        coverage=_coverage(engine, now_ms),
        synthetic=bool(engine.instrument and engine.instrument.synthetic),
        venues=_venues(engine, now_ms, gaps.count),
        custom=engine.custom.read(now_ms),
    )


def slow_part(engine: Engine, now_ms: int, lap: Lap = no_lap) -> SlowPart:
    """The slow cycle's part, at a time not before the newest record."""
    profile = _profile(engine, now_ms)
    lap("volume_profile")
    found_walls, found_vacuums = _walls_and_vacuums(engine, now_ms)
    lap("liquidity")
    anomalies = [Anomaly(*finding) for finding in _findings(engine, now_ms)]
    lap("anomalies")
    return SlowPart(
        liquidity=Liquidity(volume_profile=profile, walls=found_walls, vacuums=found_vacuums),
        anomalies=anomalies,
    )


def tick(engine: Engine, writer_token: int, seq: int) -> Tick:
    """Last trade and top of book as of the newest record."""
    book = engine.book
    levels = engine.parameters.tick_levels
    shown = book.shown
    return Tick(
        symbol=engine.symbol,
        venue=engine.venue,
        writer_token=writer_token,
        seq=seq,
        offset=engine.applied,
        ts_recv_ms=engine.newest_ms,
        last_trade=_last_trade(engine.last_trade),
        quote=_quote(engine),
        book=book.state,
        bids=_priced(engine, book.bids.highest(levels)) if shown else [],
        asks=_priced(engine, book.asks.lowest(levels)) if shown else [],
        synthetic=bool(engine.instrument and engine.instrument.synthetic),
    )


def _priced(engine: Engine, levels: list[Level]) -> list[PriceQty]:
    return levels_to_float(levels, engine.px_e or 0, engine.sz_e)


def _last_price(trade: Trade | None, day: Ticker | None) -> float | None:
    """Of the newest trade; in a market without one for 30 minutes, of the venue's ticker."""
    if trade is not None:
        return to_float(trade.px, trade.px_e)
    return to_float(day.day.last, day.px_e) if day and day.day else None


def _last_trade(trade: Trade | None) -> LastTrade | None:
    if trade is None:
        return None
    return LastTrade(
        price=to_float(trade.px, trade.px_e),
        qty=to_float(trade.sz, trade.sz_e),
        side=trade.side,
        trade_id=trade.trade_id,
        ts_event_ms=trade.ts_event_ms,
        ts_recv_ms=trade.ts_recv_ms,
    )


def _quote(engine: Engine) -> tuple[PriceQty, PriceQty] | None:
    """The venue's own quote, while it is ahead of the book."""
    ticker = engine.quote
    if ticker is None or ticker.quote is None:
        return None
    if ticker.seq is not None and engine.book.seq is not None and ticker.seq <= engine.book.seq:
        return None
    quote = ticker.quote
    return (
        (to_float(quote.bid_px, ticker.px_e), to_float(quote.bid_sz, ticker.sz_e)),
        (to_float(quote.ask_px, ticker.px_e), to_float(quote.ask_sz, ticker.sz_e)),
    )


def _depth(engine: Engine) -> Depth:
    count = engine.parameters.report_levels
    bids, asks = engine.book.bids.highest(count), engine.book.asks.lowest(count)
    sums = depth_sums(bids, asks)
    return Depth(
        levels=count,
        total_bid_qty=to_float(sums.bid, engine.sz_e),
        total_ask_qty=to_float(sums.ask, engine.sz_e),
        imbalance=sums.imbalance,
        bids=_priced(engine, bids),
        asks=_priced(engine, asks),
    )


def _flow(engine: Engine, now_ms: int) -> FlowPart:
    short = engine.flow.flow(now_ms, ORDERS_WINDOW_SEC * 1000)
    long = engine.flow.flow(now_ms, NET_WINDOW_SEC * 1000)
    return FlowPart(
        orders_per_sec=short.trades / ORDERS_WINDOW_SEC,
        net_flow=to_float(long.bought - long.sold, engine.sz_e),
        buy_volume=to_float(long.bought, engine.sz_e),
        sell_volume=to_float(long.sold, engine.sz_e),
        trade_count=long.trades,
        orders_window_sec=ORDERS_WINDOW_SEC,
        net_window_sec=NET_WINDOW_SEC,
    )


def _gaps(engine: Engine, now_ms: int) -> Gaps:
    counts, last_ms = engine.quality.totals(now_ms // 1000)
    by_reason = {
        what.removeprefix("gap."): counts[what] for what in sorted(counts) if what[:4] == "gap."
    }
    return Gaps(
        window_sec=WINDOW_SEC,
        count=sum(by_reason.values()),
        last_at_ms=max((ms for what, ms in last_ms.items() if what[:4] == "gap."), default=None),
        by_reason=by_reason,
        trades_missing=counts["trades_missing"],
        duplicates=counts["duplicate_trades"],
    )


def _venues(engine: Engine, now_ms: int, gaps: int) -> VenuesPart:
    instrument = engine.instrument
    standings = [Standing(engine.venue, engine.book.state, engine.book.reason)]
    if engine.newest_ms:
        standings[0] = standing_of(
            engine.venue,
            engine.book,
            engine.feed_state,
            quote=instrument.quote.upper() if instrument else "",
            age_ms=now_ms - engine.newest_ms,
            gaps=gaps,
            synthetic=bool(instrument and instrument.synthetic),
        )
    for venue in engine.listed:
        other = engine.others.get(venue, now_ms)
        if other is None:
            standings.append(Standing(venue, "none", "no record in the last 30 minutes"))
            continue
        counts, _ = other.quality.totals(now_ms // 1000)
        standings.append(
            standing_of(
                venue,
                other.book,
                other.feed_state,
                quote=other.quote,
                # Another bridge's clock may be ahead of the primary venue's.
                age_ms=max(0, now_ms - other.newest_ms),
                gaps=sum(n for what, n in counts.items() if what[:4] == "gap."),
                synthetic=other.synthetic,
            )
        )
    return consolidate(standings)


def _coverage(engine: Engine, now_ms: int) -> Coverage:
    now_sec = now_ms // 1000
    covered = engine.quality.covered
    return Coverage(
        flow_10s=covered(now_sec, ORDERS_WINDOW_SEC),
        flow_30s=covered(now_sec, NET_WINDOW_SEC),
        profile_30min=round(covered(now_sec, WINDOW_SEC), 4),
        day=engine.day is not None,
        size_samples=len(engine.sizes),
    )


def _profile(engine: Engine, now_ms: int) -> Profile | None:
    limits = engine.parameters
    trades, bins = engine.profile.at(now_ms // 1000)
    instrument = engine.instrument
    if trades < limits.profile_min_trades or instrument is None:
        return None
    area = value_area(bins, limits.profile_value_area_pct)
    width = instrument.tick_size * limits.profile_bin_ticks
    # Twice the price, so that a bin's centre is an integer too.
    return Profile(
        poc=to_float((2 * area.poc + 1) * width * 5, instrument.px_e - 1),
        vah=to_float((area.high + 1) * width, instrument.px_e),
        val=to_float(area.low * width, instrument.px_e),
        window_sec=WINDOW_SEC,
        trade_count=trades,
    )


def _walls_and_vacuums(engine: Engine, now_ms: int) -> tuple[list[Wall], list[Vacuum]]:
    limits, book = engine.parameters, engine.book
    found_walls: list[Wall] = []
    found_vacuums: list[Vacuum] = []
    count, percentiles = engine.sizes.percentiles(
        now_ms // 1000, (limits.wall_percentile, limits.vacuum_percentile)
    )
    if book.shown and count >= limits.liquidity_min_samples:
        px_e, sz_e = engine.px_e or 0, engine.sz_e
        large, thin = percentiles[0] * limits.wall_multiplier, percentiles[1]
        sides: tuple[tuple[Side, list[Level]], ...] = (
            ("bid", book.bids.highest(limits.liquidity_levels)),
            ("ask", book.asks.lowest(limits.liquidity_levels)),
        )
        for side, levels in sides:
            found_walls += [
                Wall(side, to_float(wall.px, px_e), to_float(wall.sz, sz_e), wall.severity)
                for wall in walls(levels, large)
            ]
            found_vacuums += [
                Vacuum(
                    side,
                    to_float(run.from_px, px_e),
                    to_float(run.to_px, px_e),
                    run.levels,
                    run.severity,
                )
                for run in vacuums(levels, thin, limits.vacuum_min_levels)
            ]
    return found_walls, found_vacuums


def _findings(engine: Engine, now_ms: int) -> list[Finding]:
    limits, book = engine.parameters, engine.book
    if book.state != "ok":
        return []
    found = engine.spoof.findings(now_ms, limits)
    found += engine.iceberg.findings(now_ms, limits, Prices(engine.px_e or 0, engine.sz_e))
    if engine.crash.baseline is not None and book.bids.prices and book.asks.prices:
        short = engine.flow.flow(now_ms, 10_000)
        before = engine.flow.flow(now_ms, 20_000, skip_ms=10_000)
        found += engine.crash.findings(
            book.asks.prices[0] - book.bids.prices[-1],
            sum(sz for _, sz in book.bids.highest(limits.report_levels)),
            short.bought - short.sold,
            before.bought - before.sold,
            limits,
        )
    return found
