"""The recorder: what it costs its source, and what becomes of a disk that is slow, full or gone."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.capture import record_files, recorder
from streams.capture.formats import CaptureError, read_entries
from streams.capture.gap_report import Hole
from streams.capture.record_files import Received, Rotation
from streams.capture.recorder import ENTRY_BYTES, Recorder, RecordQueue
from tapeline.errors import ConfigError
from tests.support.commands import environment


def frame(n: int) -> Received:
    return Received("c1", float(n), f'{{"n":{n}}}')


def recorder_at(folder: Path, queue_bytes: int = 1 << 24, **rotation: Any) -> Recorder:
    limits = Rotation(**{"bytes_max": 1 << 30, "seconds_max": 3_600, **rotation})
    return Recorder(folder, "binance", ["BTCUSDT"], rotation=limits, queue_bytes=queue_bytes)


def numbers(folder: Path) -> list[int]:
    """Of the frames recorded, in order."""
    return [
        json.loads(entry.data)["n"]
        for file in sorted(folder.glob("*.jsonl.gz"))
        for entry in read_entries(file)
        if entry.kind == "recv"
    ]


def until(true: Callable[[], bool], seconds: float = 4.0) -> None:
    ends_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends_s, "it did not come true"
        time.sleep(0.005)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "POLL_S", 0.005)
    monkeypatch.setattr(recorder, "FLUSH_S", 0.01)
    monkeypatch.setattr(recorder, "RETRY_S", 0.02)


@pytest.fixture
def disk(quick: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk()
    monkeypatch.setattr(record_files.os, "fsync", made.sync)
    yield made
    made.go_on.set()


class Disk:
    """One that can be made to stand still, or to refuse.

    Attributes:
        go_on: While it is not set, nothing is synced.
        refusing: Whether it says that it is full.
        asked: How often it was.
    """

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.refusing = False
        self.asked = 0

    def sync(self, _: int) -> None:
        self.asked += 1
        self.go_on.wait(10)
        if self.refusing:
            raise OSError(errno.ENOSPC, "no space left")


# --- the queue -----------------------------------------------------------------------------------


def test_what_does_not_fit_is_one_hole_until_there_is_room() -> None:
    queue = RecordQueue(10 * (ENTRY_BYTES + 7))
    for n in range(15):
        queue.put(frame(n), 7, n)
    assert (len(queue), queue.dropped, queue.dropped_bytes) == (10, 5, 35)
    first = queue.take()
    assert len(first) == 10
    queue.put(frame(15), 7, 15)
    assert queue.take() == [Hole("queue_full", 10, 14, 5, 35), frame(15)]


def test_room_for_one_is_not_room_enough() -> None:
    """A disk that is a little too slow makes few long holes, not one for each frame."""
    queue = RecordQueue(1 << 30, entries_max=200)
    for n in range(201):
        queue.put(frame(n), 7, n)
    queue.take()  # 64 of them: more than half are left
    queue.put(frame(201), 7, 201)
    assert queue.dropped == 2
    queue.take()
    queue.put(frame(202), 7, 202)
    assert queue.dropped == 2


def test_a_hole_that_nothing_follows_is_told_at_the_end() -> None:
    queue = RecordQueue(0)
    queue.put(frame(1), 7, 1)
    assert queue.take() == []
    queue.end_hole()
    assert queue.take() == [Hole("queue_full", 1, 1, 1, 7)]


@given(st.lists(st.one_of(st.integers(0, 400), st.just("take"), st.just("always")), max_size=300))
def test_everything_is_taken_or_told_of(steps: list[int | str]) -> None:
    """In order, within the bound, and with no frame in a hole's time that was taken."""
    queue, put, out = RecordQueue(3_000, entries_max=12), 0, []
    for step in steps:
        if step == "take":
            out += queue.take()
        elif step == "always":
            queue.always(recorder.Gap("X", "sequence", 0.0))
        else:
            put += 1
            queue.put(frame(put), int(step), put)
    queue.end_hole()
    while batch := queue.take():
        out += batch
    taken = [round(entry.ts) for entry in out if isinstance(entry, Received)]
    holes = [entry for entry in out if isinstance(entry, Hole)]
    assert sorted([*taken, *(n for h in holes for n in range(h.from_ms, h.to_ms + 1))]) == [
        *range(1, put + 1)
    ]
    assert taken == sorted(taken)
    assert all(hole.frames == hole.to_ms - hole.from_ms + 1 for hole in holes)
    assert sum(hole.frames for hole in holes) == queue.dropped
    assert queue.bytes == 0


# --- the thread ----------------------------------------------------------------------------------


def test_what_comes_is_on_disk_in_order_in_many_files(tmp_path: Path, quick: None) -> None:
    made = recorder_at(tmp_path, seconds_max=0.05)
    made.start()
    for n in range(3_000):
        made.received("c1", f'{{"n":{n}}}', n + 1)
        if n % 500 == 0:
            time.sleep(0.06)
    assert made.close()
    assert numbers(tmp_path) == [*range(3_000)]
    reports = made.reports
    assert len(reports) > 3
    assert sum(report.frames for report in reports) == made.frames == 3_000
    assert (made.dropped, made.failure) == (0, "")
    assert all(report.complete for report in reports)


def test_a_quiet_file_ends_in_time_too(tmp_path: Path, quick: None) -> None:
    made = recorder_at(tmp_path, seconds_max=0.1)
    made.start()
    made.received("c1", '{"n":1}', 1)
    until(lambda: len(made.reports) == 1)
    assert made.close()
    assert len(list(tmp_path.glob("*.jsonl.gz"))) == 1


def test_bytes_that_are_no_text_are_kept_as_far_as_they_are(tmp_path: Path) -> None:
    made = recorder_at(tmp_path)
    made.start()
    made.received("c1", b'{"n":1}', 1)
    made.received("c1", b"\xff{", 2)
    assert made.close()
    (file,) = tmp_path.glob("*.jsonl.gz")
    assert [e.data for e in read_entries(file) if e.kind == "recv"] == ['{"n":1}', "\ufffd{"]


def test_a_slow_disk_costs_frames_not_time(tmp_path: Path, disk: Disk) -> None:
    made = recorder_at(tmp_path, queue_bytes=100_000)
    made.start()
    made.received("c1", '{"n":0}', 1)
    until(lambda: disk.asked > 0)
    disk.go_on.clear()
    asked = disk.asked
    made.received("c1", '{"n":1}', 2)
    until(lambda: disk.asked > asked)
    began_s = time.monotonic()
    for n in range(2, 5_000):
        made.received("c1", f'{{"n":{n}}}', n + 1)
    assert time.monotonic() - began_s < 1.0
    assert made.dropped > 4_000
    disk.go_on.set()
    until(lambda: not made.queue)
    made.received("c1", '{"n":5000}', 5_001)
    assert made.close()
    written = numbers(tmp_path)
    assert len(written) + made.dropped == 5_001
    assert written == [*range(len(written) - 1), 5_000]
    (told,) = made.reports
    (gap,) = told.gaps
    assert (gap["reason"], gap["frames"], told.dropped) == (
        "queue_full",
        made.dropped,
        made.dropped,
    )
    assert (gap["from_ms"], gap["to_ms"]) == (len(written), 5_000)


def test_a_full_disk_is_waited_out(tmp_path: Path, disk: Disk) -> None:
    made = recorder_at(tmp_path)
    made.start()
    made.received("c1", '{"n":0}', 1)
    until(lambda: not made.queue)
    disk.refusing = True
    for n in range(1, 600):
        made.received("c1", f'{{"n":{n}}}', n + 1)
    until(lambda: bool(made.failure))
    disk.refusing = False
    until(lambda: not made.failure)
    assert made.close()
    assert numbers(tmp_path) == [*range(600)]
    assert (made.dropped, made.lost) == (0, 0)


def test_a_disk_that_is_full_to_the_end_is_told(tmp_path: Path, disk: Disk) -> None:
    made = recorder_at(tmp_path)
    made.start()
    made.received("c1", '{"n":0}', 1)
    until(lambda: disk.asked > 2 and not made.queue)
    time.sleep(0.05)
    disk.refusing = True
    for n in range(1, 600):
        made.received("c1", f'{{"n":{n}}}', n + 1)
    until(lambda: bool(made.failure))
    assert made.close()
    written = numbers(tmp_path)
    assert written == [*range(len(written))]
    assert len(written) + made.lost == 600
    (told,) = made.reports
    assert not told.complete


def test_a_disk_that_hangs_does_not_hold_up_the_end(tmp_path: Path, disk: Disk) -> None:
    made = recorder_at(tmp_path)
    made.start()
    disk.go_on.clear()
    made.received("c1", '{"n":0}', 1)
    until(lambda: disk.asked > 0)
    began_s = time.monotonic()
    assert not made.close(within_s=0.1)
    assert time.monotonic() - began_s < 1.0


def test_a_fault_of_ours_costs_its_batch_alone(tmp_path: Path, quick: None) -> None:
    made = recorder_at(tmp_path)
    made.start()
    made.received("c1", "\ud800", 1)  # half a character: no JSON can hold it
    until(lambda: made.lost == 1)
    made.received("c1", '{"n":1}', 2)
    assert made.close()
    assert numbers(tmp_path) == [1]


def test_a_folder_that_can_not_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="NT_RECORD_DIR"):
        recorder_at(tmp_path / "file")
    recorder_at(tmp_path / "new" / "folder")
    assert [*(tmp_path / "new" / "folder").iterdir()] == []


def test_nothing_comes_of_a_recorder_that_was_never_started(tmp_path: Path) -> None:
    assert recorder_at(tmp_path).close()
    assert [*tmp_path.iterdir()] == []


# --- kill -9 -------------------------------------------------------------------------------------

FEEDS = """
import sys, time
from pathlib import Path
from streams.capture import recorder
from streams.capture.record_files import Rotation
recorder.POLL_S, recorder.FLUSH_S = 0.005, 0.02
made = recorder.Recorder(Path(sys.argv[1]), "binance", ["BTCUSDT"],
    rotation=Rotation(bytes_max=1 << 30, seconds_max=0.3), queue_bytes=1 << 24)
made.start()
n = 0
while True:
    for _ in range(100):
        made.received("c1", '{"n":%d}' % n, n + 1)
        n += 1
    print(n, flush=True)
    time.sleep(0.005)
"""


def heard(process: subprocess.Popen[bytes], seconds: float) -> list[tuple[float, int]]:
    """When, and how many frames it had given by then."""
    assert process.stdout is not None
    given: list[tuple[float, int]] = []
    for line in process.stdout:
        if not line.strip().isdigit():
            continue  # its log
        given.append((time.monotonic(), int(line)))
        if given[-1][0] - given[0][0] > seconds:
            break
    return given


def numbers_of_torn(folder: Path) -> tuple[list[int], str]:
    """Frames up to the first thing that can't be read, and what is said of that."""
    found: list[int] = []
    try:
        for file in sorted(folder.glob("*.jsonl.gz")):
            for entry in read_entries(file):
                if entry.kind == "recv":
                    found.append(json.loads(entry.data)["n"])  # noqa: PERF401
    except CaptureError as torn:
        return found, str(torn)
    return found, ""


@pytest.mark.slow
def test_kill_9_leaves_all_that_was_flushed(tmp_path: Path) -> None:
    """Whole members, in order, without a hole; a second's frames at the end are what may be missing."""
    for kill in range(5):
        folder = tmp_path / str(kill)
        with subprocess.Popen(
            [sys.executable, "-c", FEEDS, str(folder)],
            stdout=subprocess.PIPE,
            env=environment(),
        ) as process:
            try:
                given = heard(process, 0.7 + 0.1 * kill)
            finally:
                process.send_signal(signal.SIGKILL)
        written, torn = numbers_of_torn(folder)
        # Killed in the middle of a write: all before it is there, and the reader says so.
        assert not torn or "ends in the middle" in torn
        assert written == [*range(len(written))]
        long_ago_s = given[-1][0] - 0.5
        assert len(written) >= max(n for at_s, n in given if at_s < long_ago_s)
        reports = sorted(folder.glob("*.gaps.json"))
        files = sorted(folder.glob("*.jsonl.gz"))
        assert len(files) >= 2
        told = [json.loads(path.read_text()) for path in reports]
        assert [each["complete"] for each in told[: len(files) - 1]] == [True] * (len(files) - 1)


# --- what it costs -------------------------------------------------------------------------------


async def test_a_source_is_never_kept_waiting(tmp_path: Path) -> None:
    """20,000 frames a second into a real file: the loop's longest delay stays small."""
    made = recorder_at(tmp_path)
    made.start()
    text = json.dumps({"n": 0, "x": os.urandom(150).hex()})
    worst_s = 0.0
    for n in range(50):
        began_s = time.perf_counter()
        for _ in range(200):
            made.received("c1", text, n + 1)
        worst_s = max(worst_s, time.perf_counter() - began_s)
        await asyncio.sleep(0.01)
    await asyncio.to_thread(made.close)
    assert worst_s < 0.25  # a loaded machine; a disk's wait would be more
    assert (made.dropped, made.frames) == (0, 10_000)
