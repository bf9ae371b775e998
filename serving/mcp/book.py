"""The top of a book as `get_order_book` gives it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from serving.mcp.answers import number
from serving.mcp.contract import BookAnswer, Cost, Level, Read
from serving.reader import STALE_MS, StoredReport
from tapeline.errors import ReportError


class StoredTick(msgspec.Struct, frozen=True):
    """What ``tick:SYMBOL`` holds, as far as a book is made of it."""

    venue: str
    writer_token: int
    seq: int
    ts_recv_ms: int
    book: str
    bids: list[Level]
    asks: list[Level]


_decode_tick: Final = msgspec.json.Decoder(StoredTick).decode


def decode(payload: bytes) -> StoredTick:
    """Read a stored tick.

    Raises:
        ReportError: It is none.
    """
    try:
        return _decode_tick(payload)
    except msgspec.DecodeError as error:
        raise ReportError(f"what is stored is no tick: {error}") from None


def answer(
    symbol: str,
    tick: StoredTick | None,
    report: StoredReport | None,
    now_ms: int,
    none: str,
    *,
    depth: int,
    bucket_bps: float | None,
    notional: float | None,
) -> BookAnswer:
    """The top of the book.

    Args:
        symbol: Whose.
        tick: What was read.
        report: The symbol's report: a tick is written when the market moves, so its age alone does
            not tell a quiet market from a feed that is away.
        now_ms: The moment of reading.
        none: Why there is none, where there is none.
        depth: Levels a side, or buckets.
        bucket_bps: Width of a bucket, in 1/10,000 of mid; None for levels as they are.
        notional: In quote units: what to tell the cost of.
    """
    if tick is None:
        return BookAnswer(
            read=Read(now_ms, None, None, stale=True), why=none, symbol=symbol,
            writer_token=None, seq=None, book="none", mid_price=None, spread_bps=None,
            micro_price=None, imbalance=None, bids=[], asks=[], buy=None, sell=None,
        )  # fmt: skip
    age_ms = max(0, now_ms - tick.ts_recv_ms)
    heard_ms = age_ms
    if report is not None and report.data_age_ms is not None:
        heard_ms = min(age_ms, report.data_age_ms)
    stale = heard_ms > STALE_MS
    mid = spread_bps = micro = None
    if tick.bids and tick.asks:
        (bid, bid_qty), (ask, ask_qty) = tick.bids[0], tick.asks[0]
        mid = (bid + ask) / 2
        spread_bps = 10_000 * (ask - bid) / mid
        micro = (bid * ask_qty + ask * bid_qty) / (bid_qty + ask_qty)
    bids, asks = tick.bids, tick.asks
    if bucket_bps is not None and mid is not None:
        bids, asks = bucketed(bids, mid, bucket_bps), bucketed(asks, mid, bucket_bps)
    bids, asks = bids[:depth], asks[:depth]
    sizes = (math.fsum(qty for _, qty in bids), math.fsum(qty for _, qty in asks))
    both = sizes[0] + sizes[1]
    return BookAnswer(
        read=Read(now_ms, age_ms, heard_ms, stale),
        why=_why(tick, stale=stale),
        symbol=symbol,
        writer_token=tick.writer_token,
        seq=tick.seq,
        book=tick.book,
        mid_price=mid,
        spread_bps=spread_bps,
        micro_price=micro,
        imbalance=(sizes[0] - sizes[1]) / both if both else None,
        bids=bids,
        asks=asks,
        buy=cost(tick.asks, notional, mid, "buy") if notional else None,
        sell=cost(tick.bids, notional, mid, "sell") if notional else None,
    )


def _why(tick: StoredTick, *, stale: bool) -> str:
    said = ["stale: nothing was received from the venue, or its writer is gone"] if stale else []
    if tick.book != "ok":
        said.append(f"book is {tick.book}")
    return "; ".join(said)


def bucketed(levels: Sequence[Level], mid: float, bucket_bps: float) -> list[Level]:
    """Levels grouped by their distance from mid.

    Returns:
        [outer price of the bucket, size in it], nearest first, without empty ones.
    """
    width = mid * bucket_bps / 10_000
    sizes: dict[int, float] = {}
    for price, qty in levels:
        steps = math.floor(abs(price - mid) / width) + 1
        sizes[steps] = sizes.get(steps, 0.0) + qty
    if not levels:
        return []
    sign = 1 if levels[0][0] >= mid else -1
    return [(mid + sign * steps * width, qty) for steps, qty in sorted(sizes.items())]


def cost(
    levels: Sequence[Level], notional: float, mid: float | None, side: Literal["buy", "sell"]
) -> Cost:
    """Average price of taking ``notional`` quote units from one side, best levels first."""
    left, base, spent = notional, 0.0, 0.0
    for price, qty in levels:
        taken = min(left, price * qty)
        base += taken / price
        spent += taken  # not notional - left: of a huge notional that keeps no digit of it
        left -= taken
        if left <= 0:
            break
    if not base:
        return Cost(None, None, 0.0)
    price = spent / base
    slippage = None
    if mid is not None:
        paid = price - mid if side == "buy" else mid - price
        slippage = 10_000 * paid / mid
    return Cost(price, slippage, spent / notional)


def in_words(found: BookAnswer) -> str:
    """Two lines: how far it can be trusted, and what it says."""
    read: Any = found.read
    if read.age_ms is None:
        return f"{found.symbol}: {found.why}."
    trust = f"{'STALE' if read.stale else 'Fresh'}: {read.age_ms} ms old; seq {found.seq}"
    trust += f". {found.why}" if found.why else ""
    if found.mid_price is None:
        return f"{trust}.\n{found.symbol} has no two-sided book."
    words = (
        f"mid {number(found.mid_price)}, spread {number(found.spread_bps)} bps, micro price "
        f"{number(found.micro_price)}, imbalance {number(found.imbalance)} over "
        f"{len(found.bids)} + {len(found.asks)} levels"
    )
    for name, taken in (("buy", found.buy), ("sell", found.sell)):
        if taken is not None:
            words += (
                f"; {name} at {number(taken.price)}, {number(taken.slippage_bps)} bps from mid, "
                f"{taken.filled:.0%} filled"
            )
    return f"{trust}.\n{found.symbol} {words}."
