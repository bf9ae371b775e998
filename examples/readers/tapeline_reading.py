"""A report as a client holds it: never older than the one before, and never of unknown age.

Pure, and of the standard library alone: copy it beside whichever client you take over. Times come
in as arguments, seconds of a clock that never steps back (``time.monotonic()``).

The reader says how old the data behind a report was when it was read; from then on the client
counts by itself. So a number that nobody renews turns stale here, too, whether the writer, the
store, the reader or the network is gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

STALE_MS: Final = 2000
"""As the readers have it: a report is stale when its newest data is older."""


class ReaderError(Exception):
    """The reader gave no report: it can't be reached, or refuses. What is held grows older."""


class Refused(ReaderError):
    """The request itself is wrong (symbol, key, scope): asking again gives the same answer."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One report, and how old its data was at a moment.

    Attributes:
        symbol: Canonical, such as BTCUSDT.
        token, seq: Its place in the order of all reports of the symbol.
        data_age_ms: Age of the newest data behind it at ``at_s``; None without any data.
        at_s: That moment. Of a request it is when it was sent, so that the age is never too low.
        report: The report itself, as stored.
    """

    symbol: str
    token: int
    seq: int
    data_age_ms: int | None
    at_s: float
    report: Mapping[str, Any]

    @property
    def order(self) -> tuple[int, int]:
        """What must never go down."""
        return self.token, self.seq

    def age_ms(self, now_s: float) -> int | None:
        """Age of its newest data at ``now_s``, in ms; None without any."""
        if self.data_age_ms is None:
            return None
        return self.data_age_ms + max(0, round((now_s - self.at_s) * 1000))

    def stale(self, now_s: float) -> bool:
        """Whether that is too old to act on, or unknown."""
        age_ms = self.age_ms(now_s)
        return age_ms is None or age_ms > STALE_MS

    def slow_age_ms(self, now_s: float) -> int | None:
        """Age of what is computed every 2 s (profile, walls, findings), in ms."""
        age_ms, source = self.age_ms(now_s), self.report["source"]
        if age_ms is None or source["slow"] is None:
            return None
        return age_ms + max(0, int(source["fast"]["now_ms"]) - int(source["slow"]["now_ms"]))


def of_answer(
    symbol: str, headers: Mapping[str, str], report: Mapping[str, Any], asked_s: float
) -> Reading:
    """A reading out of an answer of ``/get_report``.

    Args:
        symbol: What was asked for.
        headers: Of the answer, names in any case; with 304 they are there, too.
        report: Its body, or the one held where the answer is 304.
        asked_s: When it was asked.
    """
    by_name = {name.lower(): value for name, value in headers.items()}
    token, _, seq = by_name["x-report-order"].partition(".")
    age = by_name.get("x-data-age-ms")
    return Reading(
        symbol=symbol,
        token=int(token),
        seq=int(seq),
        data_age_ms=None if age is None else int(age),
        at_s=asked_s,
        report=report,
    )


def of_frame(frame: Mapping[str, Any], got_s: float) -> Reading | None:
    """A reading out of a ``snapshot`` or ``update`` of ``reports.*``; None where nothing is stored."""
    if frame["data"] is None:
        return None
    return Reading(
        symbol=frame["symbol"],
        token=frame["token"],
        seq=frame["seq"],
        data_age_ms=frame["read"]["data_age_ms"],
        at_s=got_s,
        report=frame["data"],
    )


class Newest:
    """The newest reading of each symbol; what would be a step back is refused."""

    def __init__(self) -> None:
        self._held: dict[str, Reading] = {}
        self.refused = 0

    def take(self, reading: Reading | None) -> bool:
        """Hold ``reading`` unless a later one is held; whether it was taken.

        The same one again is taken: its age is newer. None, nothing stored, takes nothing away:
        what is held turns stale.
        """
        if reading is None:
            return False
        held = self._held.get(reading.symbol)
        if held is not None and reading.order < held.order:
            self.refused += 1
            return False
        self._held[reading.symbol] = reading
        return True

    def get(self, symbol: str) -> Reading | None:
        """What is held of ``symbol``."""
        return self._held.get(symbol)

    def fresh(self, symbol: str, now_s: float) -> Reading | None:
        """What is held of ``symbol`` if it may be acted on."""
        reading = self._held.get(symbol)
        return None if reading is None or reading.stale(now_s) else reading


def figures(symbol: str, reading: Reading | None, now_s: float, note: str = "") -> dict[str, Any]:
    """A few numbers of a reading with the age of each beside it, for programs.

    Args:
        symbol: Whose.
        reading: What is held; None for nothing.
        now_s: Now.
        note: What is wrong, if anything is.
    """
    found: dict[str, Any] = {"symbol": symbol, "stale": True, "note": note}
    if reading is None:
        return found
    report = reading.report
    return {
        **found,
        "stale": reading.stale(now_s),
        "token": reading.token,
        "seq": reading.seq,
        "data_age_ms": reading.age_ms(now_s),
        "mid_price": report["mid_price"],
        "spread_bps": report["spread_bps"],
        "poc": ((report["liquidity"] or {}).get("volume_profile") or {}).get("POC"),
        "poc_age_ms": reading.slow_age_ms(now_s),
        "book": report["ingestion"]["book"],
        "synthetic": report["synthetic"],
    }


def shown(
    symbol: str, reading: Reading | None, now_s: float, note: str = "", *, as_json: bool = False
) -> str:
    """The same as a line: for people, or one JSON object."""
    found = figures(symbol, reading, now_s, note)
    if as_json:
        return json.dumps(found)
    if reading is None:
        return f"{symbol}  stale  no report{_remark(note)}"
    age, slow_age = _age(found["data_age_ms"]), _age(found["poc_age_ms"])
    spread = found["spread_bps"]
    parts = [
        symbol,
        "stale" if found["stale"] else "fresh",
        f"mid {_number(found['mid_price'])} ({age})",
        f"spread {'-' if spread is None else f'{spread:.3f}'} bps ({age})",
        f"POC {_number(found['poc'])} ({slow_age})",
    ]
    if found["book"] != "ok":
        parts.append(f"book: {found['book']}")
    if found["synthetic"]:
        parts.append("synthetic")
    return "  ".join(parts) + _remark(note)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


def _age(age_ms: int | None) -> str:
    if age_ms is None:
        return "age unknown"
    return f"{age_ms} ms old" if age_ms < 1000 else f"{age_ms / 1000:.1f} s old"


def _remark(note: str) -> str:
    return f"  [{note}]" if note else ""
