"""A freqtrade strategy that has a report beside its candles, and enters on fresh ones alone.

Copy this file, ``http_sync.py`` and ``tapeline_reading.py`` into ``user_data/strategies`` and run

    freqtrade trade --strategy TapelineInformative --config config.json

with ``"tapeline": {"url": "http://127.0.0.1:8080"}`` in the configuration, a key in the variable
``TAPELINE_KEY``. It is made to be read, not to earn: it enters where the market buys and the book is
narrow.

Where a report comes in, and why there:

- ``bot_loop_start`` reads each pair's report, once a loop;
- ``populate_indicators`` writes it into the last candle, NaN where it is stale or missing: no
  comparison with NaN is true, so old numbers never make a signal. Earlier candles have none: a report
  says how the market is, not how it was, so backtests see none at all;
- ``confirm_trade_entry`` reads again, for minutes may lie between a candle and its order, and says no
  to anything but a fresh report.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from http_sync import ReportClient
from tapeline_reading import Newest, ReaderError, Reading

if TYPE_CHECKING:
    IStrategy = object
else:
    try:
        from freqtrade.strategy import IStrategy
    except ImportError:
        IStrategy = object  # the part that reads works, and is tested, without freqtrade

log = logging.getLogger(__name__)

COLUMNS: Final = ("tapeline_spread_bps", "tapeline_imbalance", "tapeline_net_flow")


def symbol_of(pair: str) -> str | None:
    """A spot pair's symbol; None for futures, which are another market with other prices."""
    return None if ":" in pair else pair.replace("/", "")


def columns_of(reading: Reading | None) -> dict[str, float]:
    """What goes into the last candle; NaN where a report has no value, or there is none."""
    if reading is None or reading.report["ingestion"]["book"] != "ok":
        return dict.fromkeys(COLUMNS, math.nan)
    report = reading.report
    values = (
        report["spread_bps"],
        (report["depth"] or {}).get("imbalance"),
        (report["flow"] or {}).get("net_flow"),
    )
    return {
        name: math.nan if value is None else float(value)
        for name, value in zip(COLUMNS, values, strict=True)
    }


class Reports:
    """The newest report of each pair, fresh or not at all.

    Args:
        client: Asks the reader.
        clock: Seconds, of a clock that never steps back.
    """

    def __init__(self, client: ReportClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._newest = Newest()

    def refresh(self, pair: str) -> None:
        """Ask; where there is no answer, what is held goes on ageing."""
        symbol = symbol_of(pair)
        if symbol is None:
            return
        try:
            self._newest.take(self._client.read(symbol))
        except ReaderError as error:
            log.warning("%s: %s", pair, error)

    def fresh(self, pair: str) -> Reading | None:
        """What may be acted on now; None for anything else."""
        symbol = symbol_of(pair)
        return None if symbol is None else self._newest.fresh(symbol, self._clock())

    def said(self, pair: str) -> str:
        """The spread and its age, for a log."""
        symbol, now_s = symbol_of(pair), self._clock()
        reading = None if symbol is None else self._newest.get(symbol)
        if reading is None:
            return f"{pair}: stale, no report"
        state = "stale" if reading.stale(now_s) else "fresh"
        return f"{pair}: {state}, spread {reading.report['spread_bps']} bps, {reading.age_ms(now_s)} ms old"

    def close(self) -> None:
        """Give the connection back; the end of the process does, too."""
        self._client.close()


class TapelineInformative(IStrategy):
    """Enters with the flow, into a narrow and living book."""

    INTERFACE_VERSION = 3
    timeframe = "5m"
    can_short = False
    minimal_roi = {"0": 0.01}
    stoploss = -0.02
    startup_candle_count = 1

    spread_max_bps = 5.0

    reports: Reports

    def bot_start(self, **_: Any) -> None:
        """One connection for all pairs; little time, for the loop waits meanwhile."""
        where = self.config.get("tapeline", {})  # type: ignore[attr-defined]
        url = where.get("url", "http://127.0.0.1:8080")
        self.reports = Reports(ReportClient(url, os.environ.get("TAPELINE_KEY"), timeout_s=0.3))

    def bot_loop_start(self, current_time: datetime, **_: Any) -> None:
        """Ask for every pair, where orders are placed at all: there is no report of the past."""
        if not self._live():
            return
        for pair in self.dp.current_whitelist():  # type: ignore[attr-defined]
            self.reports.refresh(pair)

    def populate_indicators(self, dataframe: Any, metadata: dict[str, Any]) -> Any:
        """Columns ``tapeline_*``: NaN, but for the last candle of a pair with a fresh report."""
        pair = metadata["pair"]
        fresh = self.reports.fresh(pair) if self._live() else None
        for name, value in columns_of(fresh).items():
            dataframe[name] = math.nan
            dataframe.loc[dataframe.index[-1], name] = value
        return dataframe

    def populate_entry_trend(self, dataframe: Any, metadata: dict[str, Any]) -> Any:
        """Buyers in the flow and in the book, and a narrow spread; NaN is none of these."""
        wanted = (
            (dataframe["tapeline_spread_bps"] <= self.spread_max_bps)
            & (dataframe["tapeline_imbalance"] > 0)
            & (dataframe["tapeline_net_flow"] > 0)
        )
        dataframe.loc[wanted, "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: Any, metadata: dict[str, Any]) -> Any:
        """Left to ROI and stop: they need no report, and so hold without one."""
        return dataframe

    def confirm_trade_entry(self, pair: str, *_: Any, **__: Any) -> bool:
        """Whether the order may go out, by a report of this moment."""
        if not self._live():
            return True
        self.reports.refresh(pair)
        spread_bps = columns_of(self.reports.fresh(pair))["tapeline_spread_bps"]
        allowed = spread_bps <= self.spread_max_bps
        log.info("%s; entry %s", self.reports.said(pair), "allowed" if allowed else "refused")
        return allowed

    def _live(self) -> bool:
        mode: str = self.dp.runmode.value  # type: ignore[attr-defined]
        return mode in {"live", "dry_run"}
