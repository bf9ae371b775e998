"""Capture files, both kinds that are read, and the writer of our own.

*Envelope*: one JSON object a line, its ``t`` one of ``header``, ``connect``, ``http``, ``send``,
``recv`` and ``close``; ``data`` is the text exactly as received, ``ts`` seconds since the epoch
or null. *ns lines*: ``<receive time in ns> <frame as received>``. Compressed with gzip or not. Files
named ``.json`` or ``.json.gz`` are one JSON document each: `streams.capture.documents`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Literal, NamedTuple, Self, cast, get_args

import msgspec

from streams.capture.documents import (
    DOCUMENT_BYTES_MAX,
    Decimals,
    frames_of,
    is_document,
    reprinted,
)
from tapeline.errors import FeedError

Kind = Literal["header", "connect", "http", "send", "recv", "close"]
KINDS: Final[frozenset[str]] = frozenset(get_args(Kind))
FORMAT: Final = 3
"""``format`` of the headers we write; 2 had no ``close`` lines and no ``status``."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_CHUNK: Final = 1 << 16


class CaptureError(FeedError):
    """A capture can't be read; the message names file and line."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(f"{path}:{line}: {why}")
        self.path, self.line, self.why = path, line, why


class Entry(NamedTuple):
    """One line of a capture.

    Attributes:
        kind: What happened.
        ts_ms: When, on the recorder's clock; None where the source kept no times.
        data: Frame or body as text; empty for ``header``, ``connect`` and ``close``.
        address: Of ``connect`` and ``http``.
        conn: The recorder's name of the socket; empty in ns lines.
        status: HTTP status of an ``http`` line.
        path, line: Where it stands.
    """

    kind: Kind
    ts_ms: int | None
    data: str
    address: str
    conn: str
    status: int
    path: Path
    line: int

    @property
    def place(self) -> str:
        """``file:line``."""
        return f"{self.path}:{self.line}"


class _Line(msgspec.Struct, gc=False):
    t: str
    ts: float | None = None
    conn: str = ""
    data: str = ""
    url: str = ""
    addr: str = ""
    status: int = 200


_decode_line = msgspec.json.Decoder(_Line).decode


def read_entries(path: Path, decimals: Decimals | None = None) -> Iterator[Entry]:
    """All lines of one file, in its order; of a document, all frames, numbered as if lines.

    Args:
        path: The file.
        decimals: What the numbers of its frames are printed with, where they have been printed anew.

    Raises:
        CaptureError: The file can't be opened or is damaged, or a line is of neither format.
    """
    number = 0
    try:
        with path.open("rb") as file:
            compressed = file.peek(2)[:2] == _GZIP_MAGIC
            lines = _inflated(file) if compressed else iter(file)
            if is_document(path):
                for frame in _document(lines, path):
                    if frame is None:
                        yield Entry("connect", None, "", "", "", 200, path, number + 1)
                        continue
                    number += 1
                    yield _frame(frame, decimals, path, number)
                return
            for raw in lines:
                number += 1
                if raw[:1] == b"{":
                    entry = _envelope(raw, path, number)
                    if decimals is not None and entry.kind == "recv":
                        entry = entry._replace(data=reprinted(entry.data, decimals))
                    yield entry
                elif raw and not raw.isspace():
                    yield _ns_line(raw, path, number)
    except (OSError, EOFError, zlib.error) as exc:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise CaptureError(path, number + 1, f"can't be read: {why}") from exc


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """Lines of a gzip file.

    All whole ones of an unfinished file come before its EOFError; `gzip.open` would lose those
    of the last block.
    """
    inflate = zlib.decompressobj(wbits=31)
    rest = b""
    while chunk := file.read(_CHUNK):
        parts = [rest]
        while chunk:
            if inflate.eof:  # files may be joined by appending one to the other
                inflate = zlib.decompressobj(wbits=31)
            parts.append(inflate.decompress(chunk))
            chunk = inflate.unused_data
        *lines, rest = b"".join(parts).split(b"\n")
        yield from lines
    if not inflate.eof:
        raise EOFError("the file ends in the middle, its writer did not finish it")
    if rest:
        yield rest


def _document(lines: Iterable[bytes], path: Path) -> Iterator[str | None]:
    parts: list[bytes] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if size > DOCUMENT_BYTES_MAX:
            raise CaptureError(
                path, len(parts), f"a document of more than {DOCUMENT_BYTES_MAX} bytes"
            )
        parts.append(line)
    try:
        yield from frames_of(b"\n".join(parts))
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise CaptureError(path, 1, f"not a JSON document of frames: {exc}") from None


def _frame(frame: str, decimals: Decimals | None, path: Path, number: int) -> Entry:
    data = frame if decimals is None else reprinted(frame, decimals)
    return Entry("recv", None, data, "", "", 200, path, number)


def _envelope(raw: bytes, path: Path, number: int) -> Entry:
    try:
        line = _decode_line(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise CaptureError(path, number, f"not a capture's line: {exc}") from None
    if line.t not in KINDS:
        expected = ", ".join(get_args(Kind))
        raise CaptureError(path, number, f"t is {line.t[:40]!r}; expected one of {expected}")
    ts_ms = None if line.ts is None else round(line.ts * 1_000)
    return Entry(
        cast(Kind, line.t),
        ts_ms,
        line.data,
        line.url or line.addr,
        line.conn,
        line.status,
        path,
        number,
    )


def _ns_line(raw: bytes, path: Path, number: int) -> Entry:
    stamp, _, frame = raw.partition(b" ")
    try:
        if not stamp.isdigit() or not frame.strip():
            raise ValueError("expected '<receive time in ns> <frame>' or a JSON object")
        return Entry(
            "recv", int(stamp) // 1_000_000, str(frame.strip(), "utf-8"), "", "", 200, path, number
        )
    except ValueError as exc:  # UnicodeDecodeError is one
        raise CaptureError(path, number, f"{exc}, got {raw[:60]!r}") from None


class CaptureWriter:
    """Writes one capture in the envelope format, compressed; a context manager.

    All times are milliseconds since the epoch. What has been written before `flush` returns
    can be read back even if the process then dies.
    """

    def __init__(self, path: Path, **header: Any) -> None:
        """Begin a file, replacing any that is there.

        Args:
            path: Where; its folder must exist.
            **header: What the header says besides the format, such as ``venue``.
        """
        self._file = path.open("wb")
        # No name and no time inside: equal input makes equal files.
        self._gzip = gzip.GzipFile("", "wb", 6, self._file, mtime=0)
        self._write({"t": "header", "format": FORMAT, **header})

    def connect(self, conn: str, address: str, ts_ms: int) -> None:
        """A socket was opened."""
        self._write({"t": "connect", "conn": conn, "ts": ts_ms / 1_000, "addr": address})

    def close_socket(self, conn: str, ts_ms: int, reason: str = "") -> None:
        """A socket was closed, by whomever."""
        self._write({"t": "close", "conn": conn, "ts": ts_ms / 1_000, "reason": reason})

    def http(self, url: str, data: str, ts_ms: int, status: int = 200) -> None:
        """A REST answer arrived."""
        line = {"t": "http", "ts": ts_ms / 1_000, "url": url, "status": status, "data": data}
        self._write(line)

    def send(self, conn: str, data: str, ts_ms: int) -> None:
        """A frame was sent."""
        self._write({"t": "send", "conn": conn, "ts": ts_ms / 1_000, "data": data})

    def recv(self, conn: str, data: str, ts_ms: int) -> None:
        """A frame was received."""
        self._write({"t": "recv", "conn": conn, "ts": ts_ms / 1_000, "data": data})

    def flush(self) -> None:
        """Make everything written so far readable."""
        self._gzip.flush()
        self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        self._gzip.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._gzip.write(msgspec.json.encode(line) + b"\n")
