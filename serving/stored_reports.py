"""How old stored reports are, and who writes them, as a reader sees it at each scrape.

A worker's own metrics end with it. These go on: of a symbol that nobody writes any more they say
that its data grows old, whether or not somebody reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.directory import SymbolRow
from tapeline.clock import Clock, SystemClock

KEPT_MS: Final = 290_000
"""A report that is gone sooner after its last write was erased: its symbol is followed no more.
Later it has expired, after 300 s, and its symbol is without a report."""

SYMBOLS_MAX: Final = 2000
"""Symbols that are told of, so that no keys set by hand blow up a scrape."""


@dataclass(slots=True)
class _Seen:
    written_ms: int
    data_ms: int | None
    has_writer: bool


class StoredReports(Collector):
    """Ages of what is stored.

    Args:
        clock: What ages are told by.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._seen: dict[str, _Seen] = {}
        self._told = False

    def looked(self, rows: Iterable[SymbolRow]) -> None:
        """What a look at all symbols has found."""
        now_ms = self._clock.now_ms()
        for row in rows:
            seen = self._seen.get(row.symbol)
            if row.age_ms is None:
                # Nothing readable is stored.
                if seen is not None:
                    seen.has_writer = bool(row.owner)
                    if now_ms - seen.written_ms < KEPT_MS and not row.owner:
                        del self._seen[row.symbol]
            elif seen is not None or len(self._seen) < SYMBOLS_MAX:
                data_ms = None if row.data_age_ms is None else now_ms - row.data_age_ms
                self._seen[row.symbol] = _Seen(now_ms - row.age_ms, data_ms, bool(row.owner))
        self._told = True

    def away(self) -> None:
        """Redis did not answer: ages grow on, and who writes is not known."""
        self._told = False

    def collect(self) -> Iterator[Metric]:
        """Both families, as they are now."""
        now_ms = self._clock.now_ms()
        age = GaugeMetricFamily(
            "tapeline_report_data_age_seconds",
            "Age of the newest data of the stored report, at the scrape",
            labels=["symbol"],
        )
        writer = GaugeMetricFamily(
            "tapeline_report_has_writer",
            "1 while somebody holds the lease on writing the stored report",
            labels=["symbol"],
        )
        for symbol, seen in [*self._seen.items()]:
            if seen.data_ms is not None:
                age.add_metric([symbol], max(0, now_ms - seen.data_ms) / 1000)
            if self._told:
                writer.add_metric([symbol], float(seen.has_writer))
        yield age
        yield writer
