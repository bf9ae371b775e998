"""Recorded files: written in whole gzip members, synced, rotated, each with its gap report.

A member is compressed in memory and written by one call, so whenever the process dies, the file
is whole members up to the last flush. Only a call that is cut in the middle leaves a torn one
behind them, and readers say so after all that is whole.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from streams.capture.formats import FORMAT
from streams.capture.gap_report import GapReport, Hole

GZIP_LEVEL: Final = 4
_GZIP_BITS: Final = 31
MEMBER_BYTES: Final = 1024 * 1024
"""Of text: larger members are hardly smaller, and more is lost with one."""


class Opened(msgspec.Struct, tag_field="t", tag="connect", gc=False):
    """A socket was opened."""

    conn: str
    ts: float
    addr: str


class Closed(msgspec.Struct, tag_field="t", tag="close", gc=False):
    """A socket was closed."""

    conn: str
    ts: float
    reason: str


class Answered(msgspec.Struct, tag_field="t", tag="http", gc=False):
    """A REST reply came."""

    ts: float
    url: str
    status: int
    data: str | bytes


class Sent(msgspec.Struct, tag_field="t", tag="send", gc=False):
    """A frame was sent."""

    conn: str
    ts: float
    data: str


class Received(msgspec.Struct, tag_field="t", tag="recv", gc=False):
    """A frame came."""

    conn: str
    ts: float
    data: str | bytes


class Gap(msgspec.Struct, gc=False):
    """The assembler found a gap: for the report alone."""

    symbol: str
    reason: str
    ts: float


Line = Opened | Closed | Answered | Sent | Received
Entry = Line | Gap | Hole
"""What comes to be recorded."""

SLICE: Final = 32 * 1024
"""Of a long text, in characters: encoded in one go, while nothing else of the process runs."""

_encode: Final = msgspec.json.Encoder().encode
_encode_lines: Final = msgspec.json.Encoder().encode_lines


def encoded(lines: Sequence[Line]) -> Iterator[bytes]:
    """The lines' text, in pieces that each take no longer than `SLICE` characters do."""
    short: list[Line] = []
    for line in lines:
        if isinstance(line, Opened | Closed) or (
            isinstance(line.data, str) and len(line.data) <= SLICE
        ):
            short.append(line)
            continue
        if short:
            yield _encode_lines(short)
            short.clear()
        yield from _long(line)
    if short:
        yield _encode_lines(short)


def _long(line: Answered | Sent | Received) -> Iterator[bytes]:
    data = line.data if isinstance(line.data, str) else line.data.decode("utf-8", "replace")
    # The last field; JSON escapes each character by itself.
    yield _encode(msgspec.structs.replace(line, data=""))[:-2]
    for begin in range(0, len(data), SLICE):
        yield _encode(data[begin : begin + SLICE])[1:-1]
    yield b'"}\n'


class Rotation:
    """When a file has had enough. Pure."""

    def __init__(self, *, bytes_max: int, seconds_max: float) -> None:
        """A file ends at this age, or with the flush that brings it to this size on disk."""
        self._bytes_max, self._seconds_max = bytes_max, seconds_max

    def due(self, file_bytes: int, age_s: float) -> bool:
        """Whether the next line belongs to another file."""
        return file_bytes >= self._bytes_max or age_s >= self._seconds_max


class RecordFile:
    """One file that is being written; its gap report beside it.

    Attributes:
        path, report_path: Where they are.
        report: What is in it so far.
        held, held_lines: Text that is not flushed yet, in bytes and lines.
    """

    def __init__(self, path: Path, report: GapReport, header: dict[str, Any]) -> None:
        """Create it.

        Raises:
            FileExistsError: There is one of that name; nothing was touched.
            OSError: It can't be written.
        """
        self.path = path
        self.report_path = path.with_name(path.name.removesuffix(".jsonl.gz") + ".gaps.json")
        self.report = report
        self.held = self.held_lines = 0
        self._lines: list[bytes] = []
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o644)
        try:
            self._keep(msgspec.json.encode({"t": "header", "format": FORMAT, **header}) + b"\n", 1)
            self.flush()
            _sync_folder(path.parent)
        except OSError:
            os.close(self._descriptor)
            path.unlink(missing_ok=True)
            raise

    def write(self, lines: Sequence[Line]) -> None:
        """Take lines in; they reach the disk with the next flush."""
        pieces = []
        for piece in encoded(lines):
            pieces.append(piece)
            # Whoever waits for the interpreter gets it now, and not when it is taken away.
            time.sleep(0)
        self._keep(b"".join(pieces), len(lines))

    def flush(self) -> None:
        """Make all that was written readable, whatever happens from now on.

        Raises:
            OSError: The disk did not take it; the file is as it was before.
        """
        if not self._lines:
            return
        member = zlib.compress(b"".join(self._lines), GZIP_LEVEL, _GZIP_BITS)
        whole = self.report.file_bytes
        try:
            self._write_all(member)
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, whole)
            os.lseek(self._descriptor, whole, os.SEEK_SET)
            raise
        self._lines, self.held, self.held_lines = [], 0, 0
        self.report.file_bytes += len(member)

    def tell(self) -> None:
        """Write the report as it is now; in one piece, or not at all."""
        body = msgspec.json.format(msgspec.json.encode(self.report.as_json()), indent=1)
        beside = self.report_path.with_suffix(".json.new")
        beside.write_bytes(body + b"\n")
        beside.replace(self.report_path)

    def close(self) -> None:
        """Flush, and say that it is complete.

        Raises:
            OSError: It could not be; it is still open and may be tried again.
        """
        self.flush()
        self.report.complete = True
        self.tell()
        _sync_folder(self.path.parent)
        self.abandon()

    def abandon(self) -> None:
        """Close it as it is on disk."""
        os.close(self._descriptor)

    def _keep(self, text: bytes, lines: int) -> None:
        self._lines.append(text)
        self.held += len(text)
        self.held_lines += lines
        self.report.text_bytes += len(text)

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]


class Series:
    """The files of one recording, in order: ``VENUE-START-0001.jsonl.gz`` and on.

    Attributes:
        file: The one being written; None before the first line and between two.
        finished: Reports of the others.
        symbols: What the next file says is followed.
    """

    def __init__(
        self, folder: Path, venue: str, symbols: Sequence[str], started_s: float, rotation: Rotation
    ) -> None:
        """Nothing is created yet; ``started_s`` since the epoch."""
        self.file: RecordFile | None = None
        self.finished: list[GapReport] = []
        self._folder, self._venue, self.symbols = folder, venue, tuple(symbols)
        self._started = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started_s))
        self._rotation = rotation
        self._number = 0
        self._opened_s = 0.0
        self._sockets: dict[str, str] = {}
        self._connects = 0
        self._silent_since_ms = 0
        self._silence: dict[str, Any] | None = None

    def open(self, now_s: float) -> RecordFile:
        """The file to write to; ``now_s`` on a clock that never steps back.

        Raises:
            OSError: It can't be created.
        """
        while self.file is None:
            self._number += 1
            name = f"{self._venue}-{self._started}-{self._number:04d}.jsonl.gz"
            report = GapReport(name, self._venue, self.symbols)
            header = {
                "venue": self._venue,
                "symbols": self.symbols,
                "recorder": "tapeline",
                "file": self._number,
                "sockets": self._sockets,
            }
            try:
                self.file = RecordFile(self._folder / name, report, header)
            except FileExistsError:
                continue
            except OSError:
                self._number -= 1
                raise
            self._opened_s = now_s
            if self._silent_since_ms:
                self._begin_silence(report)
        return self.file

    def take(self, entries: Sequence[Entry]) -> None:
        """Record these in the open file, in their order; they reach the disk with a flush."""
        assert self.file is not None
        file, lines = self.file, []
        for entry in entries:
            if isinstance(entry, Hole):
                file.report.hole(entry)
            elif isinstance(entry, Gap):
                ms = round(entry.ts * 1_000)
                file.report.gap(entry.reason, symbol=entry.symbol, from_ms=ms, to_ms=None)
            else:
                lines.append(entry)
                self._note(file.report, entry)
        if lines:
            file.write(lines)

    def flush_if_large(self) -> None:
        """A flush, where there is enough for it.

        Raises:
            OSError: The disk did not take it; it may be tried again.
        """
        if self.file is not None and self.file.held >= MEMBER_BYTES:
            self.file.flush()

    def flush(self) -> None:
        """Make all that was taken readable.

        Raises:
            OSError: The disk did not take it; it may be tried again.
        """
        if self.file is not None:
            self.file.flush()

    def tell(self) -> None:
        """Write the report of the file as it is now."""
        if self.file is not None:
            self.file.tell()

    def due(self, now_s: float) -> bool:
        """Whether the file has had enough."""
        file = self.file
        if file is None:
            return False
        return self._rotation.due(file.report.file_bytes, now_s - self._opened_s)

    def finish(self) -> GapReport | None:
        """Close the file; the next line begins another one.

        Raises:
            OSError: The disk did not take it; it may be tried again.
        """
        file = self.file
        if file is None:
            return None
        file.close()
        self.file = None
        self.finished.append(file.report)
        return file.report

    def abandon(self) -> int:
        """Leave the file as it is on disk; returns how many lines were to follow."""
        file, self.file = self.file, None
        if file is None:
            return 0
        file.abandon()
        self.finished.append(file.report)
        return file.held_lines

    def _note(self, report: GapReport, line: Line) -> None:
        match line:
            case Received():
                report.received(round(line.ts * 1_000))
            case Sent():
                report.sent += 1
            case Answered():
                report.replies += 1
            case Opened():
                report.connects += 1
                report.reconnects += self._connects > 0
                self._connects += 1
                self._sockets[line.conn] = line.addr
                if self._silence is not None:
                    self._silence["to_ms"] = round(line.ts * 1_000)
                self._silent_since_ms, self._silence = 0, None
            case Closed():
                self._sockets.pop(line.conn, None)
                if not self._sockets and line.reason != "shutdown":
                    self._silent_since_ms = round(line.ts * 1_000)
                    self._begin_silence(report)

    def _begin_silence(self, report: GapReport) -> None:
        since_ms = self._silent_since_ms
        self._silence = report.gap("disconnected", from_ms=since_ms, to_ms=None)


def _sync_folder(folder: Path) -> None:
    """A new file's name is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
