"""A real recording of Kraken with faults put into it: each is found, or does no harm.

The clean run says what the book was after each message. A faulty run must never show another one:
whenever the assembler tells of its book, it is the clean book of that very message; from a gap to
the next snapshot it tells of none. When it asks for the book, it gets what the venue would send: the
clean book of then.
"""

from __future__ import annotations

import gzip
import json
import random
from functools import cache
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from streams.events import BookDelta, BookSnapshot, FeedStatus
from streams.symbols import Listing
from streams.venues.kraken.assembler import KrakenAssembler
from streams.venues.kraken.times import micros
from tapeline.errors import FrameError
from tests.support.data import recording
from tests.support.tape_faults import Fault, faulty
from tests.support.kraken import Reader, best, checksum, printed

pytestmark = pytest.mark.recordings

RAW_BOOK = "kraken/trading-system/kraken_v2_btcusd_d10_20260719T1754.jsonl.gz"
BTC = Listing("kraken", "BTC/USD", "BTCUSD")
LAST = 1_375

"""(what, number of the frame, a number for the details)."""


class Clean(NamedTuple):
    """The recording, and what was true after each of its frames.

    Attributes:
        frames: As they came.
        told: By frame number, the book that the records tell of.
        wire: By frame number, the book as printed, with the time of its last message.
    """

    frames: list[str]
    told: list[tuple[dict[int, int], dict[int, int]]]
    wire: list[tuple[dict[str, str], dict[str, str], str]]

    def snapshot(self, at: int) -> str:
        """What the venue would send to one who subscribes after frame ``at``."""
        bids, asks, time = self.wire[at]
        levels = printed(best(bids, highest=True)), printed(best(asks, highest=False))
        return (
            '{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":'
            f'{levels[0]},"asks":{levels[1]},"checksum":{checksum(bids, asks)},'
            f'"timestamp":"{time}"}}]}}'
        )


@cache
def clean() -> Clean:
    """Rebuilt without the product: two dicts, cut to ten levels."""
    with gzip.open(recording(RAW_BOOK), "rt") as file:
        lines = [json.loads(line) for line in file]
    frames = [line["data"] for line in lines if line["t"] == "recv"]
    run = Clean(frames, [], [])
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    time = ""
    for frame in frames:
        message = json.loads(frame, parse_float=str)
        if message.get("channel") == "book":
            (entry,) = message["data"]
            for side, name, highest in ((sides[0], "bids", True), (sides[1], "asks", False)):
                for level in entry[name]:
                    side.pop(level["price"], None)
                    if level["qty"].strip("0."):
                        side[level["price"]] = level["qty"]
                kept = best(side, highest=highest)
                side.clear()
                side.update(kept)
            time = entry["timestamp"]
        told = tuple({_whole(p): _whole(q) for p, q in side.items()} for side in sides)
        run.told.append(told)  # type: ignore[arg-type]
        run.wire.append((dict(sides[0]), dict(sides[1]), time))
    assert len(frames) == LAST + 1
    return run


def _whole(text: str) -> int:
    """Prices have one decimal on this recording, sizes eight."""
    return int(text.replace(".", ""))


def spoil(frame: str, seed: int) -> str:
    """One or two characters changed, lost or added, or the end cut off."""
    chance = random.Random(seed)
    for _ in range(chance.choice((1, 1, 2))):
        if not frame:
            break
        at = chance.randrange(len(frame))
        other = chance.choice('0123456789.-e",{}[]: abx')
        frame = chance.choice(
            (
                frame[:at] + other + frame[at + 1 :],
                frame[:at] + str(chance.randrange(10)) + frame[at + 1 :],
                frame[:at] + frame[at + 1 :],
                frame[:at] + other + frame[at:],
                frame[:at],
            )
        )
    return frame


class Run:
    """One assembler on a faulty tape, with somebody who reads its records.

    Attributes:
        gaps: Reasons, in their order.
    """

    def __init__(self) -> None:
        self.assembler = KrakenAssembler([BTC], infer_instruments=True, depth=10)
        self.reader = Reader()
        self.now_ms = micros(clean().wire[-1][2]) // 1_000
        self.gaps: list[str] = []
        self.newest = 0
        self.reader.read(self.assembler.connected(self.now_ms))

    def feed(self, number: int, frame: str) -> None:
        """One frame; what is told of it must be the clean book after it."""
        try:
            events = self.assembler.receive(frame, self.now_ms)
        except FrameError:
            return
        for event in events:
            if isinstance(event, FeedStatus):
                self.gaps.append(event.reason)
            told = isinstance(event, BookSnapshot | BookDelta)
            assert not (isinstance(event, BookDelta) and self.reader.book is None), "not muted"
            self.reader.read([event])
            if told:
                self.compare(number)

    def compare(self, number: int) -> None:
        book = self.reader.book
        assert book is not None
        px, sz = 10 ** (-1 - book.px_e), 10 ** (-8 - book.sz_e)
        for side, want in zip((book.bids, book.asks), clean().told[number], strict=True):
            assert side.sizes == {p * px: q * sz for p, q in want.items()}, f"after {number}"

    def answer(self) -> None:
        """Send the book of now if the assembler has asked for it."""
        asked = [json.loads(frame) for frame in self.assembler.frames_to_send()]
        if any(f["method"] == "subscribe" and f["params"]["channel"] == "book" for f in asked):
            self.feed(self.newest, clean().snapshot(self.newest))

    def play(self, faults: list[Fault], *, answered: bool = True) -> Run:
        for number, frame in faulty(clean().frames, faults, spoil, 5):
            self.newest = max(self.newest, number)
            self.feed(number, frame)
            # A book that keeps failing is asked for after a pause: here each frame is a second.
            self.now_ms += 1_000
            if answered:
                self.answer()
        return self


FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["delete", "duplicate", "swap", "corrupt"]),
        st.integers(0, LAST),
        st.integers(0, 2**32),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(faults=FAULTS)
@example(faults=[("delete", 3, 0)])
@example(faults=[("swap", 3, 0)])
@example(faults=[("corrupt", 3, n) for n in range(3)])
def test_every_fault_is_found_or_does_no_harm(faults: list[Fault]) -> None:
    """And after the last one has been healed, the book is the clean one to the end."""
    run = Run().play(faults)
    note(f"gaps: {run.gaps}; {run.assembler.counts}")
    # One more message than the recording has, for what its last ones may have left undone.
    for _ in range(70):
        run.feed(LAST, '{"channel":"heartbeat"}')
        run.now_ms += 1_000
        run.answer()
    assert run.reader.book is not None
    if not {number for _, number, _ in faults} & set(range(LAST - 410, LAST + 1)):
        run.compare(LAST)


@pytest.mark.slow
def test_each_kind_of_damage_to_one_message_is_found_or_does_no_harm() -> None:
    """Every place of one message, many ways."""
    frames = clean().frames
    for seed in range(1_500):
        run = Run()
        for number in range(3, 12):
            frame = spoil(frames[number], seed) if number == 8 else frames[number]
            run.newest = number
            run.feed(number, frame)
            run.now_ms += 1_000
            run.answer()
        assert run.reader.book is not None, seed
        run.compare(11)


@pytest.mark.parametrize("first", [10, 400, 1_300])
def test_a_hole_raises_one_resync_and_stays_mute_until_a_snapshot_comes(first: int) -> None:
    """Messages after the hole are dropped, however many, and the old book stays as it was."""
    run = Run()
    faults: list[Fault] = [("delete", first + n, 0) for n in range(20)]
    run.play(faults, answered=False)
    counts = run.assembler.counts
    assert run.gaps == ["checksum"]
    assert (counts.resyncs, counts.checksums_failed) == (1, 1)
    assert counts.stale > 30
    assert run.reader.book is None
    assert run.assembler.snapshot("BTCUSD", run.now_ms, "test") is None
    before = run.assembler.snapshot("BTCUSD", run.now_ms, "test", stale_ok=True)
    assert before is not None
    assert (dict(before.bids), dict(before.asks)) == clean().told[first - 1]

    run.newest = LAST
    run.feed(LAST, clean().snapshot(LAST))
    run.compare(LAST)
    assert counts.resyncs == 1


def test_the_clean_run_has_no_fault() -> None:
    run = Run().play([])
    assert run.gaps == []
    run.compare(LAST)
    counts = run.assembler.counts
    assert (counts.checksums_ok, counts.checksums_failed, counts.stale) == (1_254, 0, 0)
