"""Capture files: what is written is read back, and a bad line is named by file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.capture.formats import CaptureError, CaptureWriter, Entry, read_entries

TS_MS = 1_723_161_255_123


def write(path: Path, *lines: str) -> Path:
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def short(entry: Entry) -> tuple[object, ...]:
    return entry.kind, entry.ts_ms, entry.conn, entry.address, entry.data, entry.status


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl.gz"
    with CaptureWriter(path, venue="binance") as tape:
        tape.connect("ws.1", "wss://venue/stream?streams=a@b", TS_MS)
        tape.http("https://venue/depth", '{"a":"é"}', TS_MS + 1)
        tape.http("https://venue/depth", "slow down", TS_MS + 2, status=429)
        tape.send("ws.1", "ping", TS_MS + 3)
        tape.recv("ws.1", '{"x":"\\n"}', TS_MS + 4)
        tape.close_socket("ws.1", TS_MS + 5, "bye")
    assert [short(entry) for entry in read_entries(path)] == [
        ("header", None, "", "", "", 200),
        ("connect", TS_MS, "ws.1", "wss://venue/stream?streams=a@b", "", 200),
        ("http", TS_MS + 1, "", "https://venue/depth", '{"a":"é"}', 200),
        ("http", TS_MS + 2, "", "https://venue/depth", "slow down", 429),
        ("send", TS_MS + 3, "ws.1", "", "ping", 200),
        ("recv", TS_MS + 4, "ws.1", "", '{"x":"\\n"}', 200),
        ("close", TS_MS + 5, "ws.1", "", "", 200),
    ]


@pytest.mark.slow  # deadlines of a shared machine: it usually takes 1 s
@settings(max_examples=10)
@given(frames=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=5))
def test_any_text_survives_to_the_letter(
    tmp_path_factory: pytest.TempPathFactory, frames: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl.gz"
    with CaptureWriter(path) as tape:
        for number, frame in enumerate(frames):
            tape.recv("c", frame, TS_MS + number)
    entries = [entry for entry in read_entries(path) if entry.kind == "recv"]
    assert [entry.data for entry in entries] == frames
    assert [entry.ts_ms for entry in entries] == [TS_MS + n for n in range(len(frames))]


def test_equal_input_makes_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with CaptureWriter(tmp_path / name, venue="binance") as tape:
            tape.recv("c", "x", TS_MS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes()[4:8] == bytes(4)  # where gzip puts the time


def test_what_was_flushed_can_be_read_though_the_file_was_never_finished(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl.gz"
    tape = CaptureWriter(path)
    tape.recv("c", "x", TS_MS)
    tape.flush()
    entries = read_entries(path)
    assert [next(entries).kind, next(entries).data] == ["header", "x"]
    with pytest.raises(CaptureError, match=r"tape\.jsonl\.gz:3: can't be read"):
        next(entries)
    tape.close()


def test_ns_lines_are_frames_with_their_time(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gz", '1723161255123999999 {"a":"b c"}', "", "1 [1, 2]", "")
    entries = [*read_entries(path)]
    assert [(*short(entry)[:2], entry.data) for entry in entries] == [
        ("recv", TS_MS, '{"a":"b c"}'),
        ("recv", 0, "[1, 2]"),
    ]
    assert entries[1].place == f"{path}:3"


def test_files_appended_to_one_another_are_one(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gz", "1 {}", "2 {}", "")
    path.write_bytes(path.read_bytes() * 2)
    assert len([*read_entries(path)]) == 4


def test_a_file_that_is_not_compressed_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "plain.jsonl"
    path.write_text('{"t":"recv","conn":"c","ts":null,"data":"x"}\n')
    (entry,) = read_entries(path)
    assert (entry.data, entry.ts_ms) == ("x", None)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"t":"recv"', "not a capture's line"),
        ('{"ts":1}', "not a capture's line"),
        ('{"t":"recv","data":7}', "not a capture's line"),
        ('{"t":"poll"}', "t is 'poll'; expected one of header, connect, http, send, recv, close"),
        ("12x {}", "expected '<receive time in ns> <frame>'"),
        ("1723161255123999999", "expected '<receive time in ns> <frame>'"),
        ("hello world", "got b'hello world"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path: Path, line: str, why: str) -> None:
    path = write(tmp_path / "bad.gz", "1 {}", line, "2 {}")
    with pytest.raises(CaptureError) as caught:
        list(read_entries(path))
    assert str(caught.value).startswith(f"{path}:2: ")
    assert why in str(caught.value)
    assert (caught.value.path, caught.value.line) == (path, 2)


def test_a_line_that_is_not_utf_8_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "bad.gz"
    for line in (b"1 \xff\n", b'{"t":"recv","data":"\xff"}\n'):
        path.write_bytes(line)
        with pytest.raises(CaptureError, match=r"bad\.gz:1: "):
            list(read_entries(path))


def test_a_damaged_or_absent_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.gz", *(f"{n} {{}}" for n in range(1, 5_000)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CaptureError, match=r"cut\.gz:\d+: can't be read"):
        list(read_entries(path))
    path.write_bytes(b"\x1f\x8bgarbage")
    with pytest.raises(CaptureError, match=r"cut\.gz:1: can't be read"):
        list(read_entries(path))
    with pytest.raises(CaptureError, match="No such file"):
        list(read_entries(tmp_path / "absent.gz"))
