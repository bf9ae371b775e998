"""``tapeline record``: venues' sockets into capture files, and nothing else.

The assemblers run as in a bridge: they know what to subscribe to and what to ask for, and they
say whether what came holds together. Their events go nowhere.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from streams.capture.check import CheckResult
from streams.capture.record_files import Rotation
from streams.capture.recorder import Recorder
from streams.events import Event
from streams.sockets import SocketSource
from streams.sources import RefusedFrame
from streams.symbols import Listing
from streams.wiring import socket_sources
from tapeline.clock import Clock, SystemClock
from tapeline.config import Settings
from tapeline.errors import UnknownSymbol
from tapeline.logging import get_logger
from tapeline.tasks import end_all

OK: Final = 0
FAILED: Final = 1
MISCONFIGURED: Final = 2

MEBIBYTE: Final = 1024 * 1024

AGAIN_S: Final = 4.0
"""Longer than a source takes to end well."""

log = get_logger("record")


def recorders_of(
    settings: Settings,
    listings: Iterable[Listing],
    folder: Path,
    *,
    venues: Iterable[str] = (),
    setting: str = "NT_RECORD_DIR",
) -> dict[str, Recorder]:
    """A recorder for each venue that has listings; not started.

    Args:
        settings: How large files get, and what may wait for the disk.
        listings: What is followed.
        folder: Where to.
        venues: Those that get one although nothing of them is followed yet. Without a socket a
            recorder makes no file.
        setting: What gave the folder its name, for the error.

    Raises:
        ConfigError: The folder can't be written to.
    """
    by_venue: dict[str, list[str]] = {venue: [] for venue in venues}
    for listing in listings:
        by_venue.setdefault(listing.venue, []).append(listing.venue_symbol)
    return {
        venue: Recorder(
            folder,
            venue,
            symbols,
            rotation=Rotation(
                bytes_max=settings.record_rotate_mb * MEBIBYTE,
                seconds_max=settings.record_rotate_s,
            ),
            queue_bytes=settings.record_buffer_bytes,
            setting=setting,
        )
        for venue, symbols in by_venue.items()
    }


async def close_recorders(recorders: Iterable[Recorder]) -> bool:
    """Write what is left of all; False if something of it could not be."""
    closed = await asyncio.gather(*(asyncio.to_thread(each.close) for each in recorders))
    return all(closed)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a recording has come to.

    Attributes:
        status: 0; 1 if something that came is not on disk; 2 if no symbol is listed.
        venues: By venue, what was recorded and the counts of the run itself: those that
            ``capture check`` finds in the files, by the same names.
    """

    status: int
    venues: Mapping[str, dict[str, Any]]


class Recording:
    """Venues followed and recorded; the `streams.sources.Sink` of their sources."""

    def __init__(
        self, settings: Settings, listings: Sequence[Listing], folder: Path, *, clock: Clock | None
    ) -> None:
        """Build it inside a running event loop; nothing is opened before `run`.

        Raises:
            ConfigError: The folder can't be written to, or a venue can't be followed.
        """
        self._listings = listings
        self._stop = asyncio.Event()
        self._unlisted: set[tuple[str, str]] = set()
        self.recorders = recorders_of(settings, listings, folder, setting="--out")
        self.sources: list[SocketSource] = [
            source
            for source in socket_sources(
                settings, listings, clock or SystemClock(), taps=self.recorders
            )
            if source.assembler.venue in self.recorders
        ]

    def stop(self) -> None:
        """End `run` gracefully."""
        self._stop.set()

    async def run(self, seconds: float = 0.0) -> Recorded:
        """Record until stopped, or for so long if not 0."""
        for recorder in self.recorders.values():
            recorder.start()
        following = [
            asyncio.create_task(source.run(self), name=f"record-{source.assembler.venue}")
            for source in self.sources
        ]
        stopping = asyncio.create_task(self._stop.wait(), name="record-stop")
        failed = False
        try:
            done, _ = await asyncio.wait(
                [stopping, *following],
                timeout=seconds or None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done - {stopping}:
                failed = True
                log.error("record.source_failed", task=task.get_name(), exc_info=task.exception())
        finally:
            await end_all([*following, stopping], AGAIN_S)
            written = await close_recorders(self.recorders.values())
        lost = any(each.dropped for each in self.recorders.values())
        status = FAILED if failed or lost or not written else OK
        if self._nothing_listed:
            status = MISCONFIGURED
        return Recorded(status, {each.assembler.venue: self._told(each) for each in self.sources})

    def _told(self, source: SocketSource) -> dict[str, Any]:
        venue = source.assembler.venue
        recorder = self.recorders[venue]
        reports = [report.as_json() for report in recorder.reports]
        symbols = tuple(listing.symbol for listing in self._listings if listing.venue == venue)
        counts = CheckResult(
            venue=venue,
            symbols=symbols,
            frames=source.counts.frames,
            wire={},
            seconds=0.0,
            bridged=(),
            counts=source.assembler.counts,
            errors=source.counts.errors,
            problems=(),
        ).as_json()
        for name in ("wire", "seconds", "bridged", "problems", "ok"):
            del counts[name]
        return {
            **counts,
            "reconnects": dict(source.counts.reconnects),
            "dropped": recorder.dropped,
            "recorded": sum(report["frames"] for report in reports),
            "files": reports,
        }

    # --- Sink ---

    def accept(self, venue: str, events: Iterable[Event]) -> None:
        """Events go nowhere."""

    def tick(self, venue: str, now_ms: int, *, live: bool) -> None:
        """Time is the files' own."""

    def unlisted(self, venue: str, symbol: str) -> None:
        """A symbol that its venue does not have: said once, and the others go on."""
        log.error(
            "symbol.unknown", venue=venue, symbol=symbol, error=str(UnknownSymbol(venue, symbol))
        )
        self._unlisted.add((venue, symbol))
        if self._nothing_listed:
            self._stop.set()

    def frame_refused(self, venue: str, refused: RefusedFrame) -> None:
        """It is on the tape like all others."""

    async def ready(self, venue: str) -> None:
        """Always."""

    async def room(self) -> None:
        """Always."""

    @property
    def _nothing_listed(self) -> bool:
        return {(each.venue, each.symbol) for each in self._listings} <= self._unlisted


async def run_record(
    settings: Settings, listings: Sequence[Listing], folder: Path, *, seconds: float = 0.0
) -> Recorded:
    """Record until SIGTERM or SIGINT, or for so long if not 0.

    Raises:
        ConfigError: The folder can't be written to, or a venue can't be followed.
    """
    recording = Recording(settings, listings, folder, clock=None)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, recording.stop)
    try:
        return await recording.run(seconds)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
