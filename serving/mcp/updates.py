"""Which resources have changed, from the announcements of accepted writes. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from serving.reader import STALE_MS

COALESCE_MS: Final = 250
"""At most one event per resource in this time."""

SLOW_MS: Final = 2000
"""Likewise of a report's slow part, which changes no more often."""

SLOW, FAST = "slow", "fast"
PERIODS_MS: Final = {FAST: COALESCE_MS, SLOW: SLOW_MS}

LIST_URI: Final = "market://symbols"


def report_uri(symbol: str, kind: str) -> str:
    """The resource of a report's part."""
    return f"market://report/{symbol}/{kind}"


@dataclass(slots=True)
class _Track:
    said_ms: dict[str, int]
    due: dict[str, int]
    heard_ms: int
    silent: bool = False


class Updates:
    """Turns writes into events: the first at once, later ones together when their time is up.

    A symbol whose writes end gets one more event once its report must have turned stale: nothing
    is written then, but what a client holds is no longer true.
    """

    def __init__(self) -> None:
        self._tracks: dict[str, _Track] = {}

    def wrote(self, symbol: str, now_ms: int) -> Iterator[str]:
        """A write was announced; gives what is to be said at once."""
        track = self._tracks.get(symbol)
        if track is None:
            track = self._tracks[symbol] = _Track({}, {}, now_ms)
            yield LIST_URI
        track.heard_ms, track.silent = now_ms, False
        for kind, period_ms in PERIODS_MS.items():
            said_ms = track.said_ms.get(kind)
            if said_ms is None or now_ms - said_ms >= period_ms:
                track.said_ms[kind] = now_ms
                track.due.pop(kind, None)
                yield report_uri(symbol, kind)
            else:
                track.due.setdefault(kind, said_ms + period_ms)

    def passed(self, now_ms: int) -> Iterator[str]:
        """Time has passed; gives what is due."""
        for symbol, track in self._tracks.items():
            for kind in [kind for kind, due_ms in track.due.items() if due_ms <= now_ms]:
                del track.due[kind]
                track.said_ms[kind] = now_ms
                yield report_uri(symbol, kind)
            if not track.silent and now_ms - track.heard_ms > STALE_MS:
                track.silent = True
                yield from (report_uri(symbol, kind) for kind in PERIODS_MS)

    def missed(self, now_ms: int) -> Iterator[str]:
        """Announcements may have gone by unheard; gives everything that is known."""
        yield LIST_URI
        for symbol, track in self._tracks.items():
            track.due.clear()
            for kind in PERIODS_MS:
                track.said_ms[kind] = now_ms
                yield report_uri(symbol, kind)

    def knows(self, symbols: list[str], now_ms: int) -> None:
        """Symbols known from elsewhere: `missed` tells of them too."""
        for symbol in symbols:
            self._tracks.setdefault(symbol, _Track({}, {}, now_ms))
