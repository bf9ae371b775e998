"""Two replays: their files side by side, a report of each at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from tapeline.compare.outcome import Comparison
from tapeline.compare.pairing import Pair, Part
from tapeline.errors import ConfigError

ENDINGS: Final = (".ndjson", ".parquet")
TOLD_EVERY: Final = 1000

Progress = Callable[[int], None]
"""Told the reports read so far, of both files."""

Key = tuple[str, int]
"""Symbol, moment: the order of a file."""


class _Report(NamedTuple):
    key: Key
    part: Part


def compare_files(
    a: Path, b: Path, symbols: Sequence[str], comparison: Comparison, progress: Progress
) -> None:
    """Compare reports of one symbol and moment; both files are read once, line by line.

    Args:
        a: What `tapeline replay --out` has written.
        b: Likewise.
        symbols: Which to compare; all if empty.
        comparison: Takes the pairs.
        progress: Told how far it is.

    Raises:
        ConfigError: One is no such file.
    """
    wanted = frozenset(symbols)
    streams = tuple(_reports(path, wanted) for path in (a, b))
    ours, theirs = (next(stream, None) for stream in streams)
    read = 0
    while ours is not None or theirs is not None:
        read += 1
        if read % TOLD_EVERY == 0:
            progress(read)
        if theirs is None or (ours is not None and ours.key < theirs.key):
            assert ours is not None
            _alone(comparison, ours, 0)
            ours = next(streams[0], None)
        elif ours is None or theirs.key < ours.key:
            _alone(comparison, theirs, 1)
            theirs = next(streams[1], None)
        else:
            symbol = ours.key[0]
            found = comparison.symbol(symbol)
            found.reports = [count + 1 for count in found.reports]
            comparison.add(symbol, "fast", Pair(ours.part, theirs.part))
            ours, theirs = (next(stream, None) for stream in streams)


def _alone(comparison: Comparison, report: _Report, side: int) -> None:
    found = comparison.symbol(report.key[0])
    found.reports[side] += 1
    found.unpaired[side] += 1


def _reports(path: Path, wanted: frozenset[str]) -> Iterator[_Report]:
    lines: Iterator[bytes | str] = _parquet(path) if path.suffix == ".parquet" else _ndjson(path)
    last: Key | None = None
    for number, line in enumerate(lines, 1):
        try:
            body: dict[str, Any] = orjson.loads(line)
            at = body["source"]["fast"]
            key = body["symbol"], at["now_ms"]
            part = Part(at["now_ms"], (at["topic"], at["partition"], at["offset"]), body)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise _no_replay(path, f"report {number}: {error!r}") from None
        if last is not None and key <= last:
            raise _no_replay(path, f"report {number} is not behind the one before it")
        last = key
        if not wanted or key[0] in wanted:
            yield _Report(key, part)


def _no_replay(path: Path, why: str) -> ConfigError:
    wanted = (
        f"a file that tapeline replay --out has written, in the order of symbol and time ({why})"
    )
    return ConfigError("FILE", str(path), wanted)


def _ndjson(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _parquet(path: Path) -> Iterator[str]:
    import pyarrow as pa  # noqa: PLC0415 - an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["report"]):
                yield from batch.column("report").to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _no_replay(path, str(error)) from None
