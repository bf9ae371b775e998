"""Recorded files: rotated, whole at every moment, and honest beside."""

from __future__ import annotations

import errno
import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.capture import record_files
from streams.capture.formats import read_entries
from streams.capture.gap_report import GAPS_KEPT, GapReport, Hole
from streams.capture.record_files import (
    Answered,
    Closed,
    Entry,
    Gap,
    Line,
    Opened,
    Received,
    Rotation,
    Sent,
    Series,
)

ADDRESS = "ws://venue/stream"


def series(folder: Path, bytes_max: int = 1 << 30, seconds_max: float = 3_600) -> Series:
    rotation = Rotation(bytes_max=bytes_max, seconds_max=seconds_max)
    return Series(folder, "binance", ["BTCUSDT"], 1_800_000_000, rotation)


def recv(n: int, ts: float | None = None) -> Received:
    return Received("c1", float(n if ts is None else ts), f'{{"n":{n}}}')


def record(to: Series, entries: Iterable[Entry], now_s: float = 0.0) -> None:
    to.open(now_s)
    to.take([*entries])


def lines(*files: Path) -> list[tuple[str, str]]:
    return [(entry.kind, entry.data) for file in files for entry in read_entries(file)]


def report(file: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(
        file.with_name(file.name.replace(".jsonl.gz", ".gaps.json")).read_text()
    )
    return told


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl.gz"))


@pytest.mark.parametrize(
    ("file_bytes", "age_s", "due"),
    [(0, 0.0, False), (99, 9.9, False), (100, 0.0, True), (0, 10.0, True)],
)
def test_a_file_ends_by_its_size_or_its_age(file_bytes: int, age_s: float, due: bool) -> None:
    assert Rotation(bytes_max=100, seconds_max=10).due(file_bytes, age_s) is due


def test_lines_are_read_back_as_a_capture(tmp_path: Path) -> None:
    made = series(tmp_path)
    record(made, [Opened("c1", 1.5, ADDRESS), Answered(2.0, "/depth", 429, "slow"),
                  Sent("c1", 2.5, "ask"), recv(3), Closed("c1", 4.0, "lost")])  # fmt: skip
    made.finish()
    (file,) = files(tmp_path)
    entries = [*read_entries(file)]
    assert [entry.kind for entry in entries] == [
        "header",
        "connect",
        "http",
        "send",
        "recv",
        "close",
    ]
    assert (entries[1].address, entries[1].ts_ms) == (ADDRESS, 1_500)
    assert (entries[2].address, entries[2].status, entries[2].data) == ("/depth", 429, "slow")


@given(
    st.lists(
        st.one_of(
            st.builds(Received, st.just("c1"), st.just(1.5), st.one_of(st.text(), st.binary())),
            st.builds(
                Answered,
                st.just(1.5),
                st.just("/x"),
                st.just(200),
                st.one_of(st.text(), st.binary()),
            ),
            st.builds(Sent, st.just("c1"), st.just(1.5), st.text()),
            st.builds(Closed, st.just("c1"), st.just(1.5), st.text()),
        ),
        max_size=8,
    ),
    st.integers(1, 5),
)
@settings(max_examples=60)
def test_long_texts_in_slices_are_the_same_lines(made: list[Line], length: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(record_files, "SLICE", length)
        text = b"".join(record_files.encoded(made))
    for line in made:
        if isinstance(line, Answered | Received) and isinstance(line.data, bytes):
            line.data = line.data.decode("utf-8", "replace")
    assert text == msgspec.json.Encoder().encode_lines(made)


def test_the_report_counts_what_is_in_the_file(tmp_path: Path) -> None:
    made = series(tmp_path)
    record(made, [Opened("c1", 1.0, ADDRESS), recv(2), recv(3), Closed("c1", 4.0, "lost"),
                  Opened("c2", 6.0, ADDRESS), recv(7), Gap("BTCUSDT", "sequence", 7.0),
                  Hole("queue_full", 8_000, 9_000, 3, 300)])  # fmt: skip
    made.finish()
    (file,) = files(tmp_path)
    told = report(file)
    assert told["file"] == file.name
    assert (told["frames"], told["first_ms"], told["last_ms"]) == (3, 2_000, 7_000)
    assert (told["connects"], told["reconnects"], told["complete"]) == (2, 1, True)
    assert told["dropped"] == {"frames": 3, "bytes": 300}
    assert told["file_bytes"] == file.stat().st_size
    assert told["gap_count"] == 3
    assert told["gaps"] == [
        {"reason": "disconnected", "from_ms": 4_000, "to_ms": 6_000},
        {"reason": "sequence", "symbol": "BTCUSDT", "from_ms": 7_000, "to_ms": None},
        {"reason": "queue_full", "from_ms": 8_000, "to_ms": 9_000, "frames": 3},
    ]


def test_files_follow_each_other_without_a_line_lost(tmp_path: Path) -> None:
    made = series(tmp_path, seconds_max=10)
    for now_s in range(0, 35, 5):
        record(made, [recv(now_s)], now_s)
        if made.due(now_s):
            made.finish()
    made.finish()
    assert [data for kind, data in lines(*files(tmp_path)) if kind == "recv"] == [
        f'{{"n":{n}}}' for n in range(0, 35, 5)
    ]
    assert [report(file)["frames"] for file in files(tmp_path)] == [3, 3, 1]


def test_a_file_is_larger_than_asked_for_by_one_flush_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "MEMBER_BYTES", 10_000)
    made = series(tmp_path, bytes_max=20_000)
    for n in range(2_000):
        record(made, [Received("c1", float(n), os.urandom(50).hex())])
        made.flush_if_large()
        if made.due(0):
            made.finish()
    made.finish()
    assert len(files(tmp_path)) > 3
    assert all(20_000 <= file.stat().st_size < 31_000 for file in files(tmp_path)[:-1])


def test_a_silence_that_spans_files_is_told_in_both(tmp_path: Path) -> None:
    made = series(tmp_path)
    record(made, [Opened("c1", 1.0, ADDRESS), recv(2), Closed("c1", 3.0, "lost")])
    made.finish()
    record(made, [Opened("c2", 9.0, ADDRESS), recv(10)])
    made.finish()
    first, second = map(report, files(tmp_path))
    assert first["gaps"] == [{"reason": "disconnected", "from_ms": 3_000, "to_ms": None}]
    assert second["gaps"] == [{"reason": "disconnected", "from_ms": 3_000, "to_ms": 9_000}]
    assert second["reconnects"] == 1


def test_a_socket_that_takes_over_leaves_no_silence(tmp_path: Path) -> None:
    made = series(tmp_path)
    record(made, [Opened("c1", 1.0, ADDRESS), Opened("c2", 2.0, ADDRESS), Closed("c1", 3.0, "age")])
    made.finish()
    record(made, [recv(4), Closed("c2", 5.0, "shutdown")])
    made.finish()
    first, second = files(tmp_path)
    assert report(first)["gaps"] == report(second)["gaps"] == []
    header = json.loads(next(iter(_text(second))))
    assert header["sockets"] == {"c2": ADDRESS}


def _text(file: Path) -> Iterable[bytes]:
    return gzip.decompress(file.read_bytes()).splitlines()


def test_a_recording_never_replaces_another(tmp_path: Path) -> None:
    for n in range(2):
        made = series(tmp_path)
        record(made, [recv(n)])
        made.finish()
    assert [lines(file)[1] for file in files(tmp_path)] == [
        ("recv", '{"n":0}'),
        ("recv", '{"n":1}'),
    ]


def test_what_was_flushed_is_readable_without_an_end(tmp_path: Path) -> None:
    """No error from the reader: the file is whole members, whenever it is looked at."""
    made = series(tmp_path)
    for n in range(5):
        record(made, [recv(n)])
        made.flush()
        made.tell()
        (file,) = files(tmp_path)
        assert [data for kind, data in lines(file) if kind == "recv"] == [
            f'{{"n":{m}}}' for m in range(n + 1)
        ]
        assert (report(file)["frames"], report(file)["complete"]) == (n + 1, False)
    record(made, [recv(99)])
    assert made.abandon() == 1


@pytest.mark.parametrize("after", [0, 10])
def test_a_disk_that_refuses_loses_nothing_that_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Half a member on the disk is taken back, or nothing behind it could be read."""
    made = series(tmp_path)
    record(made, [recv(1)])
    made.flush()
    record(made, [recv(2)])
    real = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if after:
            real(descriptor, data[:after])
        raise OSError(errno.ENOSPC, "no space left")

    (file,) = files(tmp_path)
    size = file.stat().st_size
    monkeypatch.setattr(record_files.os, "write", full)
    for _ in range(2):
        with pytest.raises(OSError, match="no space"):
            made.flush()
        with pytest.raises(OSError, match="no space"):
            made.finish()
        assert file.stat().st_size == size
    monkeypatch.setattr(record_files.os, "write", real)
    record(made, [recv(3)])
    made.finish()
    assert [data for kind, data in lines(file) if kind == "recv"] == [
        '{"n":1}',
        '{"n":2}',
        '{"n":3}',
    ]
    assert report(file)["file_bytes"] == file.stat().st_size


def test_a_file_that_can_not_begin_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    made = series(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(record_files.os, "write", full)
        with pytest.raises(OSError, match="no space"):
            made.open(0.0)
    assert [*tmp_path.iterdir()] == []
    record(made, [recv(1)])
    made.finish()
    assert [file.name[-13:] for file in files(tmp_path)] == ["0001.jsonl.gz"]


def test_gaps_beyond_a_thousand_are_counted() -> None:
    made = GapReport("x", "binance", ())
    for n in range(GAPS_KEPT + 5):
        made.gap("sequence", symbol="X", from_ms=n, to_ms=None)
    assert (made.gap_count, len(made.as_json()["gaps"])) == (GAPS_KEPT + 5, GAPS_KEPT)
