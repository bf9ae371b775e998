"""Reading ticks: last trade and top of book, with what follows from them."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from lua import Keys
from serving.fetching import Fetcher
from serving.reader import STALE_MS, ReportReader, check_symbol
from tapeline.clock import Clock, SystemClock
from tapeline.errors import ReportError

Level = tuple[float, float]
"""[price, size]."""


class _Trade(msgspec.Struct):
    """The newest trade of a tick."""

    price: float
    qty: float
    side: Literal["buy", "sell"]
    trade_id: int | None
    ts_event_ms: int
    ts_recv_ms: int


class _Tick(msgspec.Struct):
    """``tick:SYMBOL``, as `tables.report.Tick` writes it."""

    symbol: str
    venue: str
    writer_token: int
    seq: int
    offset: int
    ts_recv_ms: int
    last_trade: _Trade | None
    quote: tuple[Level, Level] | None
    book: str
    bids: list[Level]
    asks: list[Level]
    synthetic: bool


class _FlowHead(msgspec.Struct):
    """The one part of a report that a tick is enriched with."""

    flow: msgspec.Raw


_decode_tick: Final = msgspec.json.Decoder(_Tick).decode
_decode_flow: Final = msgspec.json.Decoder(_FlowHead).decode
_encode: Final = msgspec.json.Encoder().encode


def top_of_book(bid: Level, ask: Level) -> dict[str, float | None]:
    """What follows from the two best levels.

    Returns:
        ``spread`` in quote units; ``spread_bps`` of the mid, in 1/10,000; ``mid_price``;
        ``micro_price``, the mid weighted by the opposite sizes; ``imbalance`` of the two sizes in
        [-1, 1], positive where more is bid. Null where a size or a price of zero gives none.
    """
    (bid_price, bid_qty), (ask_price, ask_qty) = bid, ask
    mid, size = (bid_price + ask_price) / 2, bid_qty + ask_qty
    spread = ask_price - bid_price
    return {
        # Of floats that are exact decimals to 1e-12 of the price: no digits of their difference.
        "spread": float(f"{spread:.12g}"),
        "spread_bps": spread / mid * 10_000 if mid > 0 else None,
        "mid_price": mid,
        "micro_price": (bid_price * ask_qty + ask_price * bid_qty) / size if size > 0 else None,
        "imbalance": (bid_qty - ask_qty) / size if size > 0 else None,
    }


_NOTHING: Final[dict[str, float | None]] = dict.fromkeys(
    ("spread", "spread_bps", "mid_price", "micro_price", "imbalance")
)


class TickReader:
    """Reads ticks, and never steps back.

    Args:
        fetcher: Gets them.
        keys: Names of the keys.
        reports: Whose fence reports pass.
        clock: What ages are told by.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        keys: Keys,
        reports: ReportReader,
        clock: Clock | None = None,
    ) -> None:
        self._fetcher, self._keys, self._reports = fetcher, keys, reports
        self._clock = clock or SystemClock()
        self._newest: dict[str, tuple[int, int]] = {}

    async def get(self, symbol: str) -> bytes | None:
        """The newest tick of ``symbol``, enriched, as JSON; None when there is none.

        Raises:
            BadSymbol: It can't be a symbol.
            StoreUnavailable: Redis did not answer in time.
            ReportError: What is stored is no tick.
        """
        check_symbol(symbol)
        for _ in range(2):  # as a report: somebody else may have been handed a newer one
            payload, report = await self._fetcher.get_two(
                self._keys.tick(symbol), self._keys.report(symbol)
            )
            if payload is None:
                return None
            try:
                tick = _decode_tick(payload)
            except msgspec.DecodeError as error:
                raise ReportError(f"what is stored is no tick: {error}") from None
            order = (tick.writer_token, tick.seq)
            if order >= self._newest.get(symbol, (0, 0)):
                self._newest[symbol] = order
                return _encode(await self._enriched(tick, report))
        return None

    async def _enriched(self, tick: _Tick, payload: bytes | None) -> dict[str, Any]:
        now_ms = self._clock.now_ms()
        age_ms = max(0, now_ms - tick.ts_recv_ms)
        flow, data_age_ms, stale = await self._of_report(tick.symbol, payload)
        if data_age_ms is None:
            stale = age_ms > STALE_MS
        book = (tick.bids[0], tick.asks[0]) if tick.bids and tick.asks else None
        best = tick.quote or book
        return {
            "symbol": tick.symbol,
            "venue": tick.venue,
            "token": tick.writer_token,
            "seq": tick.seq,
            "offset": tick.offset,
            "ts_recv_ms": tick.ts_recv_ms,
            "last_trade": tick.last_trade,
            "book": tick.book,
            "best_bid": _level(best[0] if best else tick.bids[0] if tick.bids else None),
            "best_ask": _level(best[1] if best else tick.asks[0] if tick.asks else None),
            **(top_of_book(*best) if best else _NOTHING),
            "flow": flow,
            "synthetic": tick.synthetic,
            "read": {
                "now_ms": now_ms,
                "age_ms": age_ms,
                "data_age_ms": data_age_ms,
                "stale": stale,
            },
        }

    async def _of_report(
        self, symbol: str, payload: bytes | None
    ) -> tuple[dict[str, Any] | None, int | None, bool]:
        """Flow, age of data and staleness by the report; None, None, True without one.

        A tick is written when something changes: in a quiet market it is old and still right. That
        the feed is alive, only the report can tell.
        """
        if payload is None:
            return None, None, True
        try:
            report = await self._reports.settle(symbol, payload)
            if report is None:
                return None, None, True
            flow = _decode_flow(report.payload).flow
        except (ReportError, msgspec.DecodeError):
            return None, None, True
        figures = msgspec.json.decode(flow)
        return (
            {**figures, "token": report.token, "seq": report.seq, "age_ms": report.age_ms},
            report.data_age_ms,
            report.stale,
        )


def _level(level: Level | None) -> dict[str, float] | None:
    return None if level is None else {"price": level[0], "qty": level[1]}
