"""A recording of Binance with frames lost, repeated, exchanged and damaged: no book is silently wrong."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from benchmarks.bridge import tape_of
from streams.book import WireBook
from streams.events import BookDelta, BookSnapshot, Event, FeedStatus, Trade
from streams.symbols import Listing
from streams.venues.binance.assembler import BinanceAssembler
from tapeline.errors import FrameError
from tests.support.data import recording
from tests.support.tape_faults import Fault, faulty

pytestmark = pytest.mark.recordings

FILE = "binance/hftbacktest/btcusdt_20240808.gz"
FRAMES = 2_000
PX_E, SZ_E = -2, -8
BTC = Listing("binance", "BTCUSDT", "BTCUSDT")
AFTER_MS = 20_000
"""Time for what the last faults have left undone."""

Sides = tuple[dict[str, str], dict[str, str]]


@dataclass
class Clean:
    """The recording, and what the venue's book was.

    Attributes:
        frames: (ms since the epoch, text).
        books: By update id, (bids, asks), price to size as printed; from the REST book's on.
        units: The same as integers of 10 ** `PX_E` and 10 ** `SZ_E`.
        newest: By frame, the update id of the newest depth frame up to it.
    """

    frames: list[tuple[int, str]]
    books: dict[int, Sides] = field(default_factory=dict)
    newest: list[int] = field(default_factory=list)
    units: dict[int, tuple[dict[int, int], dict[int, int]]] = field(default_factory=dict)

    def reply(self, number: int) -> bytes:
        """The whole book as it was then."""
        update_id = max(self.newest[number], min(self.books))
        bids, asks = self.books[update_id]
        book = {"bids": [*bids.items()], "asks": [*asks.items()]}
        return json.dumps({"lastUpdateId": update_id, **book}).encode()


@cache
def clean() -> Clean:
    tape = tape_of([recording(FILE)])
    run = Clean([*tape.frames[:FRAMES]])
    book = json.loads(tape.book)
    update_id: int = book["lastUpdateId"]
    sides: Sides = (dict(map(tuple, book["bids"])), dict(map(tuple, book["asks"])))  # type: ignore[arg-type]
    run.books[update_id] = sides
    newest = update_id
    for _, text in run.frames:
        data = json.loads(text)["data"]
        if data.get("e") == "depthUpdate" and data["u"] > update_id:
            sides = (dict(sides[0]), dict(sides[1]))
            for side, changes in zip(sides, (data["b"], data["a"]), strict=True):
                for price, size in changes:
                    side.pop(price, None)
                    if size.strip("0."):
                        side[price] = size
            newest = data["u"]
            run.books[newest] = sides
        run.newest.append(newest)
    for update_id, (bids, asks) in run.books.items():
        run.units[update_id] = _units(bids), _units(asks)
    assert len(run.books) > 100
    return run


def _units(side: dict[str, str]) -> dict[int, int]:
    return {
        int(Decimal(px).scaleb(-PX_E)): int(Decimal(sz).scaleb(-SZ_E)) for px, sz in side.items()
    }


def damaged(frame: str, seed: int) -> str:
    """Cut off, or no JSON any more. Another digit in a price nothing on this wire would show."""
    at = random.Random(seed).randrange(len(frame))
    return frame[:at] if seed % 2 else f"{frame[:at]}{{{frame[at:]}"


class Run:
    """One assembler on a faulty tape, with somebody who reads its records.

    Attributes:
        gaps: Reasons, in their order.
        trades: Ids, in theirs.
    """

    def __init__(self) -> None:
        self.assembler = BinanceAssembler([BTC], infer_instruments=True)
        self.book: WireBook | None = None
        self.gaps: list[str] = []
        self.trades: list[int] = []
        self.told = 0
        self.now_ms = clean().frames[0][0]
        self.newest = 0
        self.read(self.assembler.connected(self.now_ms))

    def read(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, BookSnapshot):
                self.book = WireBook(event.px_e, event.sz_e)
                self.book.replace(event.bids, event.asks, event.seq or 0)
                self.compare(event.seq or 0)
            elif isinstance(event, BookDelta):
                book = self.book
                assert book is not None, "not muted"
                if event.px_e < book.px_e or event.sz_e < book.sz_e:
                    book.refine(min(event.px_e, book.px_e), min(event.sz_e, book.sz_e))
                px, sz = 10 ** (event.px_e - book.px_e), 10 ** (event.sz_e - book.sz_e)
                book.apply(
                    [(p * px, s * sz) for p, s in event.bids],
                    [(p * px, s * sz) for p, s in event.asks],
                    event.seq or 0,
                )
                self.compare(event.seq or 0)
            elif isinstance(event, FeedStatus) and event.status == "gap":
                self.gaps.append(event.reason)
                self.book = None
            elif isinstance(event, Trade):
                self.trades.append(event.trade_id or 0)

    def compare(self, update_id: int) -> None:
        """What is told of a book must be the venue's at that id."""
        self.told += 1
        book = self.book
        assert book is not None
        px, sz = 10 ** (book.px_e - PX_E), 10 ** (book.sz_e - SZ_E)
        for side, want in zip((book.bids, book.asks), clean().units[update_id], strict=True):
            assert {p * px: q * sz for p, q in side.sizes.items()} == want, update_id

    def answer(self) -> None:
        for request in self.assembler.requests_to_send():
            if request.purpose == "snapshot" and request.not_before_ms <= self.now_ms:
                reply = clean().reply(self.newest)
                self.read(self.assembler.http_response(request, 200, reply, self.now_ms))
            else:
                self.read(self.assembler.http_response(request, 0, b"", self.now_ms))

    def play(self, faults: list[Fault]) -> Run:
        for number, frame in faulty([text for _, text in clean().frames], faults, damaged, 40):
            self.newest = max(self.newest, number)
            self.now_ms = max(self.now_ms, clean().frames[number][0])
            try:
                self.read(self.assembler.receive(frame, self.now_ms))
            except FrameError:
                pass
            self.read(self.assembler.tick(self.now_ms))
            self.answer()
        for _ in range(AFTER_MS // 100):
            self.now_ms += 100
            self.read(self.assembler.tick(self.now_ms))
            self.answer()
        return self


KINDS = st.sampled_from(["delete", "duplicate", "swap", "corrupt"])
FAULTS = st.lists(
    st.tuples(KINDS, st.integers(0, FRAMES - 1), st.integers(0, 2**32)), min_size=1, max_size=60
)


@pytest.mark.slow(limit_s=120)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(faults=FAULTS)
@example(faults=[(kind, n, n) for n in range(100, FRAMES, 90) for kind in ("delete",)])
@example(faults=[("swap", n, 1) for n in range(100, FRAMES, 40)])
@example(faults=[("corrupt", n, n) for n in range(100, FRAMES, 60)])
def test_every_fault_is_found_or_does_no_harm(faults: list[Fault]) -> None:
    """Each record told of a book is the venue's book at its id; trades rise, each once."""
    run = Run().play(faults)
    note(f"gaps: {run.gaps}; {run.assembler.counts}")
    assert run.trades == sorted(set(run.trades))
    assert run.told > 0
    lost = {number for what, number, _ in faults if what in ("delete", "corrupt")}
    depth = {n for n, (_, text) in enumerate(clean().frames) if '"depthUpdate"' in text}
    if not lost & depth and not any(what == "swap" for what, _, _ in faults):
        assert run.gaps == []


def test_a_hole_is_one_gap_and_silence_until_the_snapshot() -> None:
    """And the trades go on."""
    depth = [n for n, (_, text) in enumerate(clean().frames) if '"depthUpdate"' in text]
    faults: list[Fault] = [("delete", n, 0) for n in depth[40:43]]
    run = Run().play(faults)
    assert run.gaps == ["sequence"]
    assert run.assembler.counts.resyncs == 1
    assert len(run.trades) == sum('"trade"' in text[:60] for _, text in clean().frames)


def test_the_clean_run_has_no_fault() -> None:
    run = Run().play([])
    assert run.gaps == []
    assert run.told > 100
