"""A Hummingbot script that quotes by a report, and withdraws its quotes when that turns stale.

Copy this file, ``http_sync.py`` and ``tapeline_reading.py`` into Hummingbot's ``scripts`` and start it
there; the reader's address is read from ``TAPELINE_URL``, a key from ``TAPELINE_KEY``. It is set to
paper trade. It is made to be read, not to earn: one buy and one sell around the micro price.

A tick (once a second) must not wait, so a thread reads the report and the tick takes what is there:
a fresh one, or none. No reader, no writer, no network: each is an old report after 2 s, and then there
are no quotes.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

# Hummingbot loads a script as a part of its own package, without the folder it lies in.
sys.path.append(str(Path(__file__).parent))

from http_sync import ReportClient
from tapeline_reading import Newest, ReaderError, Reading

if TYPE_CHECKING:
    _Base = object
    OrderType: Any = None
else:
    try:
        from hummingbot.core.data_type.common import OrderType
    except ImportError:
        OrderType = None  # the part that reads works, and is tested, without Hummingbot
    try:
        from hummingbot.strategy.strategy_v2_base import StrategyV2Base as _Base
    except ImportError:
        try:
            from hummingbot.strategy.script_strategy_base import ScriptStrategyBase as _Base
        except ImportError:
            _Base = object

CONNECTOR: Final = "binance_paper_trade"
PAIR: Final = "BTC-USDT"
AMOUNT: Final = Decimal("0.001")


class Quotes(NamedTuple):
    """What to stand in the book with, in quote units."""

    bid: Decimal
    ask: Decimal


def quotes_of(reading: Reading | None, edge_bps: float = 5.0) -> Quotes | None:
    """A buy and a sell around the micro price; None without a fresh report and a whole book.

    Args:
        reading: A fresh report, else None.
        edge_bps: How far from the micro price each stands, at least half the spread.
    """
    if reading is None or reading.report["ingestion"]["book"] != "ok":
        return None
    centre, spread_bps = reading.report["micro_price"], reading.report["spread_bps"]
    if centre is None or spread_bps is None:
        return None
    away = centre * max(edge_bps, spread_bps / 2) / 10_000
    return Quotes(bid=Decimal(str(centre - away)), ask=Decimal(str(centre + away)))


class ReportFeed:
    """Reads one symbol in a thread of its own; nobody waits for it.

    Args:
        client: Asks the reader; used by the thread alone.
        symbol: Whose reports.
        clock: Seconds, of a clock that never steps back.
    """

    def __init__(
        self, client: ReportClient, symbol: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._symbol, self._clock = client, symbol, clock
        self._newest = Newest()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tapeline")
        self._asked: Future[Reading | None] | None = None
        self.note = "not asked yet"

    def poll(self) -> None:
        """Take the answer that is there, and ask again; at most one question is under way."""
        if self._asked is not None and self._asked.done():
            try:
                self._newest.take(self._asked.result())
                self.note = ""
            except ReaderError as error:
                self.note = str(error)
            self._asked = None
        if self._asked is None:
            self._asked = self._thread.submit(self._client.read, self._symbol)

    def fresh(self) -> Reading | None:
        """What may be acted on now."""
        return self._newest.fresh(self._symbol, self._clock())

    def said(self) -> str:
        """Micro price, spread and their age, for people."""
        reading, now_s = self._newest.get(self._symbol), self._clock()
        note = f" [{self.note}]" if self.note else ""
        if reading is None:
            return f"{self._symbol}: stale, no report{note}"
        state = "stale" if reading.stale(now_s) else "fresh"
        report, age_ms = reading.report, reading.age_ms(now_s)
        return (
            f"{self._symbol}: {state}, micro price {report['micro_price']} ({age_ms} ms old), "
            f"spread {report['spread_bps']} bps ({age_ms} ms old){note}"
        )

    def close(self) -> None:
        """Ask no more."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._client.close()


class TapelineQuotes(_Base):
    """Cancels and places anew each tick; places nothing without a fresh report."""

    markets = {CONNECTOR: {PAIR}}

    @classmethod
    def init_markets(cls, config: Any) -> None:
        """Always these; Hummingbot asks for them with a configuration, of which there is none."""
        cls.markets = {CONNECTOR: {PAIR}}

    def __init__(self, connectors: dict[str, Any], config: Any = None) -> None:
        # Older versions take no configuration.
        super().__init__(*((connectors,) if config is None else (connectors, config)))
        url = os.environ.get("TAPELINE_URL", "http://127.0.0.1:8080")
        client = ReportClient(url, os.environ.get("TAPELINE_KEY"))
        self.feed = ReportFeed(client, PAIR.replace("-", ""))

    def on_tick(self) -> None:
        """Withdraw what stands, which is a second old; quote again if the report is fresh."""
        self.feed.poll()
        host: Any = self
        for order in host.get_active_orders(connector_name=CONNECTOR):
            host.cancel(CONNECTOR, order.trading_pair, order.client_order_id)
        quotes = quotes_of(self.feed.fresh())
        if quotes is None:
            host.logger().warning(f"no quotes: {self.feed.said()}")
            return
        host.buy(CONNECTOR, PAIR, AMOUNT, OrderType.LIMIT, quotes.bid)
        host.sell(CONNECTOR, PAIR, AMOUNT, OrderType.LIMIT, quotes.ask)

    async def on_stop(self) -> None:
        """End the thread, too."""
        self.feed.close()
        ended = getattr(super(), "on_stop", lambda: None)()
        if inspect.isawaitable(ended):
            await ended

    def format_status(self) -> str:
        """What `status` shows."""
        return self.feed.said()
