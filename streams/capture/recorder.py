"""Records what passes between a source and its venue, at no cost to the source.

The source's side appends to a queue and returns; a thread encodes, compresses, writes and syncs.
Compressing and writing let go of the interpreter, encoding goes by small batches, so the event
loop hardly notices. A disk that is slower than the venue fills the queue; beyond its bound,
things are left out until it is half empty again, and the gap report says what and when. A disk
that takes nothing at all is one that is very slow: it is tried again, and nothing is lost that was
not left out.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from streams.capture.gap_report import GapReport, Hole
from streams.capture.record_files import (
    Answered,
    Closed,
    Entry,
    Gap,
    Opened,
    Received,
    Rotation,
    Sent,
    Series,
)
from tapeline.errors import ConfigError
from tapeline.logging import get_logger

POLL_S: Final = 0.05
"""Between two looks at the queue: to wake the thread for each frame would cost the source."""

FLUSH_S: Final = 1.0
"""What a killed process loses at most."""

TELL_S: Final = 5.0
"""Between two reports of a file that is being written."""

RETRY_S: Final = 5.0
"""After the disk has refused."""

CLOSE_S: Final = 30.0
"""How long an end waits for a slow disk."""

BATCH_ENTRIES: Final = 64
BATCH_BYTES: Final = 32 * 1024
"""Encoded in one go: the event loop may have to wait that long."""

QUEUE_ENTRIES_MAX: Final = 200_000
ENTRY_BYTES: Final = 200
"""About, of an entry besides its text."""

log = get_logger("recorder")


class RecordQueue:
    """Between the source and the thread: bounded in bytes, honest about what it left out.

    One thread puts, one takes; each writes its own counters only.

    Attributes:
        dropped, dropped_bytes: What was left out so far.
    """

    def __init__(self, bytes_max: int, entries_max: int = QUEUE_ENTRIES_MAX) -> None:
        self.dropped = self.dropped_bytes = 0
        self._bytes_max, self._entries_max = bytes_max, entries_max
        self._entries: deque[tuple[int, Entry]] = deque()
        self._put_bytes = self._taken_bytes = 0
        self._hole: Hole | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """Held, about."""
        return self._put_bytes - self._taken_bytes

    def put(self, entry: Entry, size: int, ts_ms: int) -> None:
        """Take a frame or a reply of about this many bytes, or note that it is left out."""
        hole = self._hole
        if hole is not None:
            # Few long holes are better than many short ones: an end to them needs room.
            if self.bytes > self._bytes_max // 2 or len(self) > self._entries_max // 2:
                self._drop(hole, size, ts_ms)
                return
            self.end_hole()
        elif self.bytes + size + ENTRY_BYTES > self._bytes_max or len(self) >= self._entries_max:
            self._drop(Hole("queue_full", ts_ms, ts_ms, 0, 0), size, ts_ms)
            return
        self.always(entry, size)

    def always(self, entry: Entry, size: int = 0) -> None:
        """Take what is small, rare and needed to read the rest."""
        size += ENTRY_BYTES
        self._put_bytes += size
        self._entries.append((size, entry))

    def end_hole(self) -> None:
        """Nothing is left out from now on, or nothing more comes."""
        hole, self._hole = self._hole, None
        if hole is not None:
            self.always(hole)

    def take(self) -> list[Entry]:
        """The next batch."""
        batch: list[Entry] = []
        total, entries = 0, self._entries
        while entries and len(batch) < BATCH_ENTRIES and total < BATCH_BYTES:
            size, entry = entries.popleft()
            total += size
            batch.append(entry)
        self._taken_bytes += total
        return batch

    def _drop(self, hole: Hole, size: int, ts_ms: int) -> None:
        self.dropped += 1
        self.dropped_bytes += size
        self._hole = hole._replace(to_ms=ts_ms, frames=hole.frames + 1, bytes=hole.bytes + size)


class Recorder:
    """A `streams.sources.FrameTap` that records one venue.

    Attributes:
        frames: Received so far, those left out included.
        lost: Taken in and not on disk all the same: it refused to the last, or a fault of ours.
        failure: Why the disk refuses now; empty while it does not.
        queue: What waits for the thread; its counts.
    """

    def __init__(
        self,
        folder: Path,
        venue: str,
        symbols: Sequence[str],
        *,
        rotation: Rotation,
        queue_bytes: int,
        setting: str = "NT_RECORD_DIR",
    ) -> None:
        """Nothing is written before `start`.

        Args:
            folder: Where to; made if it is not there.
            venue: Whose frames these are.
            symbols: Of the venue, for the headers.
            rotation: When a file is finished.
            queue_bytes: What may wait for the disk.
            setting: What gave the folder its name, for the error.

        Raises:
            ConfigError: The folder can't be written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".{venue}.probe"
            probe.touch()
            probe.unlink()
        except OSError as exc:
            why = f"a folder that can be written to ({exc.strerror or exc})"
            raise ConfigError(setting, str(folder), why) from None
        self.frames = 0
        self.lost = 0
        self.failure = ""
        self.queue = RecordQueue(queue_bytes)
        self._venue = venue
        self._series = Series(folder, venue, symbols, time.time(), rotation)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"record-{venue}", daemon=True)
        self._batch: list[Entry] = []  # taken from the queue, not in a file yet
        self._flush_s = self._tell_s = 0.0

    def follows(self, symbols: Iterable[str]) -> None:
        """Other symbols of the venue from now on: the next file's header names them."""
        self._series.symbols = tuple(symbols)

    # --- the source's side: none of these may wait or raise ---

    def opened(self, conn: str, address: str, ts_ms: int) -> None:
        """A socket was opened."""
        self.queue.always(Opened(conn, ts_ms / 1_000, address))

    def closed(self, conn: str, reason: str, ts_ms: int) -> None:
        """A socket was closed."""
        self.queue.always(Closed(conn, ts_ms / 1_000, reason))

    def received(self, conn: str, frame: str | bytes, ts_ms: int) -> None:
        """A frame came."""
        self.frames += 1
        self.queue.put(Received(conn, ts_ms / 1_000, frame), len(frame), ts_ms)

    def sent(self, conn: str, frame: str, ts_ms: int) -> None:
        """A frame was sent."""
        self.queue.put(Sent(conn, ts_ms / 1_000, frame), len(frame), ts_ms)

    def answered(self, url: str, status: int, body: bytes, ts_ms: int) -> None:
        """A REST reply came."""
        self.queue.put(Answered(ts_ms / 1_000, url, status, body), len(body), ts_ms)

    def gap(self, symbol: str, reason: str, ts_ms: int) -> None:
        """The assembler found a gap."""
        self.queue.always(Gap(symbol, reason, ts_ms / 1_000))

    # --- life ---

    @property
    def dropped(self) -> int:
        """Frames and replies that came and are not on disk, nor on their way there."""
        return self.queue.dropped + self.lost

    @property
    def reports(self) -> list[GapReport]:
        """Of the files that are finished; after `close`, of all."""
        return [*self._series.finished]

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self, within_s: float = CLOSE_S) -> bool:
        """Write what is left; waits, so never in an event loop. False if the disk was too slow."""
        if self._thread.ident is None:
            return True
        self.queue.end_hole()
        self._stop.set()
        self._thread.join(within_s)
        if self._thread.is_alive():
            log.error("record.not_flushed", venue=self._venue, entries=len(self.queue))
            return False
        return True

    # --- the thread ---

    def _run(self) -> None:
        while True:
            stopping = self._stop.wait(RETRY_S if self.failure else POLL_S)
            try:
                self._work()
                if stopping:
                    self._finish()
                    return
            except OSError as exc:
                self._failed(exc)
                if stopping:
                    self._give_up()
                    return
            else:
                if self.failure:
                    self.failure = ""
                    log.info("record.recovered", venue=self._venue)

    def _work(self) -> None:
        """Write what there is. After an error it goes on where it was."""
        series, queue = self._series, self.queue
        while True:
            now_s = time.monotonic()
            if now_s >= self._flush_s:
                series.flush()
                self._flush_s = now_s + FLUSH_S
                if series.due(now_s):
                    self._finish()
                if now_s >= self._tell_s:
                    series.tell()
                    self._tell_s = now_s + TELL_S
            if not self._batch:
                self._batch = queue.take()
            if not self._batch:
                return
            series.open(now_s)
            batch, self._batch = self._batch, []
            try:
                series.take(batch)
            except Exception:
                # A fault of ours: the rest is worth having.
                self.lost += len(batch)
                log.exception("record.fault", venue=self._venue, entries=len(batch))
            series.flush_if_large()
            if series.due(now_s):
                self._finish()

    def _finish(self) -> None:
        report = self._series.finish()
        if report is not None:
            log.info(
                "record.file",
                venue=self._venue,
                file=report.file,
                frames=report.frames,
                bytes=report.file_bytes,
                gaps=report.gap_count,
                dropped=report.dropped,
            )

    def _failed(self, exc: OSError) -> None:
        self.failure = exc.strerror or str(exc)
        log.error(
            "record.failed",
            venue=self._venue,
            error=self.failure,
            waiting=len(self.queue),
            dropped=self.dropped,
        )

    def _give_up(self) -> None:
        self.lost += self._series.abandon() + len(self._batch) + len(self.queue)
        log.error("record.lost", venue=self._venue, entries=self.lost, error=self.failure)
