"""What the topic holds, counted without an engine: what reports should say of it.

Nothing of `tables` is used. A report says of which records and moment it is; a `SymbolTally` that
has seen the records up to there says what trades, volumes, gaps and coverage it should have, by
``docs/reports.md`` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec

from streams.events import EXPONENT_MIN, Feed

WINDOW_S: Final = 1800
FLOW_BUCKETS: Final = 300
PROFILE_LEAST: Final = 10
"""Trades below which a report has no profile."""

TOLD: Final = ("gap", "disconnected")
"""States of a feed that a report counts as gaps."""


class Seen(msgspec.Struct):
    """As much of a record as is counted."""

    kind: str
    ts_recv_ms: int
    feed: Feed
    trade_id: int | None = None
    sz: int = 0
    sz_e: int = 0
    side: str = ""
    status: str = ""
    reason: str = ""


read: Final = msgspec.json.Decoder(Seen).decode


class Probe(NamedTuple):
    """A report as it was read from Redis in the middle of the run.

    Attributes:
        at_s: Of the run.
        body: The report.
    """

    at_s: float
    symbol: str
    body: Mapping[str, Any]

    @property
    def cuts(self) -> list[tuple[str, int, int]]:
        """(part, offset, now_ms) of its parts."""
        source = self.body["source"]
        return [
            (part, source[part]["offset"], source[part]["now_ms"])
            for part in ("slow", "fast")
            if source[part] is not None
        ]


class Takeover(NamedTuple):
    """The feed's token has changed: a bridge was away, or another writes.

    Attributes:
        last_ms, first_ms: Of the newest record before, and of the first one behind.
        farewell: The bridge before has said that it goes.
    """

    last_ms: int
    first_ms: int
    farewell: bool


@dataclass(slots=True)
class SymbolTally:
    """One symbol's records so far.

    Attributes:
        records, trades: How many.
        missing: Trade ids jumped over.
        first_trade, last_trade: Ids; 0 before any.
        disorder: Holes in the feed's sequence, in words.
        dropped: Those that the bridge has told of: the broker was away for longer than it buffers.
        again: Records of a sequence that was there already, or of a lower token.
        takeovers: In the order of the topic.
        held: Offset of the newest record.
    """

    symbol: str
    records: int = 0
    trades: int = 0
    missing: int = 0
    first_trade: int = 0
    last_trade: int = 0
    held: int = -1
    again: int = 0
    disorder: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    takeovers: list[Takeover] = field(default_factory=list)
    _token: int = 0
    _seq: int = 0
    _last_ms: int = 0
    _status: str = ""
    _priced: bool = False
    _seconds: Counter[int] = field(default_factory=Counter)
    _heard: set[int] = field(default_factory=set)
    _buckets: dict[int, list[int]] = field(default_factory=dict)
    _gaps: Counter[int] = field(default_factory=Counter)
    _missing: Counter[int] = field(default_factory=Counter)
    _duplicates: Counter[int] = field(default_factory=Counter)

    def take(self, offset: int, seen: Seen) -> None:
        """The next record."""
        self.records += 1
        self.held = offset
        if not self._in_order(offset, seen):
            return
        second = seen.ts_recv_ms // 1000
        self._heard.add(second)
        self._last_ms = max(self._last_ms, seen.ts_recv_ms)
        if seen.kind == "trade":
            self._trade(second, seen)
        elif seen.kind == "instrument":
            self._priced = True  # a profile has bins from here on
        elif seen.kind == "feed_status":
            self._status = seen.status
            if seen.status in TOLD:
                self._gaps[self._last_ms // 1000] += 1

    def _in_order(self, offset: int, seen: Seen) -> bool:
        token, seq = seen.feed.token, seen.feed.seq
        if token > self._token:
            if self._token:
                farewell = self._status == "disconnected"
                self.takeovers.append(Takeover(self._last_ms, seen.ts_recv_ms, farewell))
            if seq != 1:
                self._hole(f"{self.symbol}@{offset}: token {token} begins with {seq}", seen)
        elif token < self._token or seq <= self._seq:
            # What was not acknowledged is sent again, and a dead bridge's last word may come late:
            # readers have rules for both, and must count neither.
            self.again += 1
            return False
        elif seq != self._seq + 1:
            self._hole(f"{self.symbol}@{offset}: {seq} behind {self._seq}", seen)
        self._token, self._seq = token, seq
        return True

    def _hole(self, where: str, seen: Seen) -> None:
        """Records were dropped before the broker. A bridge says so: by the very next record."""
        if seen.kind == "feed_status" and seen.status == "gap":
            self.dropped.append(where)
        else:
            self.disorder.append(where)
        if self._token:
            self._gaps[max(self._last_ms, seen.ts_recv_ms) // 1000] += 1

    def _trade(self, second: int, seen: Seen) -> None:
        now = self._last_ms // 1000
        ident = seen.trade_id
        if ident is not None:
            if self.last_trade and ident <= self.last_trade:
                self._duplicates[now] += 1
                return
            if self.last_trade:
                hole = ident - self.last_trade - 1
                self.missing += hole
                self._missing[now] += hole
            self.first_trade = self.first_trade or ident
            self.last_trade = ident
        self.trades += 1
        self._seconds[second] += self._priced
        bucket = self._buckets.setdefault(seen.ts_recv_ms // 100, [0, 0, 0])
        bucket[0] += 1
        bucket[1 if seen.side == "buy" else 2] += seen.sz * 10 ** (seen.sz_e - EXPONENT_MIN)
        if len(self._buckets) > 4 * FLOW_BUCKETS:
            oldest = self._last_ms // 100 - 2 * FLOW_BUCKETS
            self._buckets = {at: one for at, one in self._buckets.items() if at >= oldest}

    # --- what a report of these records should say ------------------------------------------------

    def fast(self, now_ms: int) -> dict[str, float]:
        """Fields of the fast part, at its own time."""
        now, last = now_ms // 1000, now_ms // 100
        flow = [one for at, one in self._buckets.items() if last - FLOW_BUCKETS < at <= last]
        trades, bought, sold = (sum(one[n] for one in flow) for n in range(3))
        heard = sum(now - WINDOW_S < second <= now for second in self._heard)
        # The second of now is still open: it counts where the one before does.
        heard += bool(self._heard) and max(self._heard) == now - 1
        return {
            "flow.trade_count": trades,
            "flow.buy_volume": bought / 10**-EXPONENT_MIN,
            "flow.sell_volume": sold / 10**-EXPONENT_MIN,
            "gaps.count": _within(self._gaps, now),
            "gaps.trades_missing": _within(self._missing, now),
            "gaps.duplicates": _within(self._duplicates, now),
            "coverage.profile_30min": min(heard, WINDOW_S) / WINDOW_S,
        }

    def slow(self, now_ms: int) -> dict[str, float]:
        """Fields of the slow part, at its own time; none where there are too few trades."""
        trades = _within(self._seconds, now_ms // 1000)
        if trades < PROFILE_LEAST:
            return {}
        return {"liquidity.volume_profile.trade_count": trades}


def _within(counts: Counter[int], now: int) -> int:
    return sum(count for second, count in counts.items() if now - WINDOW_S < second <= now)


@dataclass(slots=True)
class Tally:
    """All symbols of a topic, and the reports that were taken on the way.

    Attributes:
        symbols: By name.
        kinds: Records of each.
        per_second: Records received in each second of the wall clock.
        compared: Fields of reports that were looked at.
        differing: Those that are not what the records give, in words.
    """

    probes: Iterable[Probe] = ()
    symbols: dict[str, SymbolTally] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    per_second: Counter[int] = field(default_factory=Counter)
    compared: int = 0
    differing: list[str] = field(default_factory=list)
    _due: dict[str, list[tuple[int, str, int, Probe]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for probe in self.probes:
            for part, offset, now_ms in probe.cuts:
                self._due.setdefault(probe.symbol, []).append((offset, part, now_ms, probe))
        for due in self._due.values():
            due.sort(key=lambda one: one[0], reverse=True)

    @property
    def records(self) -> int:
        """Of all symbols."""
        return sum(one.records for one in self.symbols.values())

    def take(self, symbol: str, offset: int, value: bytes) -> None:
        """The next record of a symbol, in the order of offsets."""
        one = self.symbols.get(symbol)
        if one is None:
            one = self.symbols[symbol] = SymbolTally(symbol)
        due = self._due.get(symbol)
        while due and due[-1][0] < offset:
            self._compare(one, *due.pop())
        seen = read(value)
        self.kinds[seen.kind] += 1
        self.per_second[seen.ts_recv_ms // 1000] += 1
        one.take(offset, seen)

    def close(self) -> None:
        """There are no more records."""
        for symbol, due in self._due.items():
            one = self.symbols.get(symbol, SymbolTally(symbol))
            while due:
                self._compare(one, *due.pop())

    def _compare(self, one: SymbolTally, offset: int, part: str, now_ms: int, probe: Probe) -> None:
        where = f"{probe.symbol} at {probe.at_s:.0f} s, {part}@{offset}"
        if one.held != offset:
            self.differing.append(f"{where}: the topic has no such record of the symbol")
            return
        should = one.fast(now_ms) if part == "fast" else one.slow(now_ms)
        for name, value in should.items():
            self.compared += 1
            told = picked(probe.body, name)
            if told is None or abs(told - value) > _tolerance(name, value):
                self.differing.append(f"{where}: {name} is {told}, by the records {value:g}")


def _tolerance(name: str, value: float) -> float:
    """Counts are exact; volumes and shares are rounded where they are printed."""
    if "coverage" in name:
        return 6e-5
    return 1e-9 * max(1.0, abs(value)) if "volume" in name.rpartition(".")[2] else 0.0


def picked(body: Mapping[str, Any], path: str) -> float | None:
    """A number of a report, by its dotted name."""
    value: Any = body
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def silences(per_second: Counter[int]) -> Iterator[tuple[int, int]]:
    """Whole seconds in which nothing was received, as (first, last), between the first and last."""
    seconds = sorted(per_second)
    for before, after in pairwise(seconds):
        if after > before + 1:
            yield before + 1, after - 1
