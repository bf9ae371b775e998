"""The fast lane: the same state, the same reports, the same refusals as without it."""

from __future__ import annotations

import random
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.events import BookDelta, opening
from tables import lane
from tables.engine import Engine
from tables.parameters import Parameters
from tests.support.tape import SYMBOL, VENUE, Record, Tape, opened, random_tape

ROOT = Path(__file__).parents[3]
COMPILER = shutil.which("cc") or shutil.which("gcc")
HEADERS = Path(sysconfig.get_path("include")) / "Python.h"

built = pytest.mark.skipif(
    lane.take is None, reason="no fast lane: it takes a C compiler and Python's headers"
)


def counted(engine: Engine, records: list[Record]) -> tuple[Any, ...]:
    """What an engine says of records that it is given."""
    applied = engine.apply(records)
    failures = [(offset, type(error), str(error)) for offset, error in applied.failures]
    return applied.applied, applied.skipped, applied.counts, applied.kinds, failures


def state_of(engine: Engine) -> tuple[Any, ...]:
    """All that can be seen of it."""
    now_ms = engine.newest_ms + 150
    return (
        (engine.applied, engine.feed_seq, engine.newest_ms, engine.last_change_ms),
        engine.snapshot(),
        engine.fast_report(now_ms),
        engine.slow_report(now_ms),
    )


SOON = Parameters(liquidity_min_samples=40, spoof_far_bps=0.02)
"""What is large is known after few changes, and far is near."""


def both(records: list[Record], step: int) -> Engine:
    """Give the same records to an engine with and to one without the lane, in steps."""
    with_lane, without = Engine(SYMBOL, VENUE, SOON), Engine(SYMBOL, VENUE, SOON)
    for at in range(0, len(records), step):
        some = records[at : at + step]
        quick = counted(with_lane, some)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lane, "take", None)
            assert counted(without, some) == quick
    assert state_of(with_lane) == state_of(without)
    return with_lane


def lively(seed: int, steps: int) -> Tape:
    """Deltas of several levels that meet fills, large orders and removals, many a second."""
    rng = random.Random(seed)
    tape = opened(levels=12, size=2_000)
    mid = 6_000_000
    for _ in range(steps):
        tape.wait(rng.choice([0, 0, 1, 5, 40, 400]))
        dice = rng.random()
        if dice < 0.2:
            tape.quote(mid - rng.randint(1, 9), mid + rng.randint(1, 9), seq=rng.choice([None, 7]))
        elif dice < 0.75:
            sizes = [0, 0, rng.randint(1, 3_000), rng.randint(1, 3_000), 900_000]
            bids = [(mid - rng.randint(1, 60), rng.choice(sizes)) for _ in range(rng.randint(0, 5))]
            asks = [(mid + rng.randint(1, 60), rng.choice(sizes)) for _ in range(rng.randint(0, 5))]
            if rng.random() < 0.01:
                bids.append((mid + rng.randint(0, 30), 7))  # crosses
            tape.delta(bids, asks, seq=rng.choice([None, rng.randint(0, 2**50)]))
        elif dice < 0.95:
            tape.trade(
                mid + rng.choice([-1, 1]), rng.randint(1, 2_500), rng.choice(["buy", "sell"])
            )
        elif dice < 0.97:
            tape.snapshot(
                [(mid - 1 - n, 2_000) for n in range(12)], [(mid + 1 + n, 2_000) for n in range(12)]
            )
        elif dice < 0.975:
            tape.day(mid)
        elif dice < 0.98:
            tape.seq += 1  # a hole
        elif dice < 0.99:
            tape.px_e, tape.sz_e = rng.choice([(-2, -5), (-1, -5), (-2, -4)])
        else:
            tape.wait(rng.randint(-3_000, 12_000))
    return tape


@built
@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_it_changes_nothing(seed: int, step: int) -> None:
    """On a lively tape in batches of any size."""
    both(lively(seed, 250).records, step)


@built
@pytest.mark.parametrize("seed", range(3))
def test_it_changes_nothing_over_an_hour(seed: int) -> None:
    """Windows full, thresholds known, bridges taking over, parts of snapshots, gaps."""
    both(random_tape(seed, 5_000).records, 37)


EDITS = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(list(b' 0123456789-+.eE,[]{}":nul\\\x00\xff'))),
    min_size=1,
    max_size=3,
)


@built
@settings(deadline=None)
@given(EDITS, st.sampled_from(["replace", "insert", "delete", "cut"]), st.booleans())
def test_it_reads_as_the_decoder_does(edits: list[tuple[int, int]], how: str, quote: bool) -> None:
    """A record with bytes changed at random is taken, or refused, as without it."""
    tape = opened(levels=5)
    tape.wait(3)
    raw = bytearray(
        tape.quote(5_999_998, 2**62, seq=4)
        if quote
        else tape.delta(
            [(5_999_998, 44), (5_999_990, 0)], [(6_000_007, 2**62)], seq=9_007_199_254_740_991
        )
    )
    for place, byte in edits:
        at = place % len(raw)
        if how == "replace":
            raw[at] = byte
        elif how == "insert":
            raw.insert(at, byte)
        elif how == "delete":
            del raw[at]
        else:
            del raw[at + 1 :]
    tape.records[-1] = (tape.records[-1][0], bytes(raw))
    tape.delta([(5_999_997, 1)])
    both(tape.records, 10)


@built
@pytest.mark.parametrize(
    ("was", "then"),
    [
        (b"[5999998,44]", b"[05999998,44]"),
        (b"[5999998,44]", b"[5999998,4611686018427387905]"),
        (b"[5999998,44]", b"[5999998,99999999999999999999]"),
        (b"[5999998,44]", b"[5999998,44.0]"),
        (b"[5999998,44]", b"[0,44]"),
        (b"[5999998,44]", b"[5999998,44],"),
        (b"[5999998,44]", b"[5999998,44,1]"),
        (b'"v":1', b'"v":1,"trace_id":"x"'),
        (b'"sz_e":-5', b'"sz_e":-0'),
        (b'"token":7', b'"token":8'),
        (b'"token":7', b'"token":0'),
        (b'"routing_version":1', b'"routing_version":9007199254740992'),
        (b'"routing_version":1', b'"routing_version":-1'),
        (b"3]]}", b"3]]} "),
        (b"3]]}", b"3]]}}"),
        (b"3]]}", b"3]],}"),
        (b'{"kind"', b' {"kind"'),
    ],
)
def test_what_is_not_quite_a_bridges_delta(was: bytes, then: bytes) -> None:
    """Legal or not: it is for the decoder to say."""
    tape = opened(levels=5)
    raw = tape.delta([(5_999_998, 44)], [(6_000_007, 3)])
    assert was in raw
    tape.records[-1] = (tape.records[-1][0], raw.replace(was, then, 1))
    tape.delta([(5_999_997, 1)])
    both(tape.records, 10)


@built
@pytest.mark.parametrize(
    ("was", "then"),
    [
        (b'"bid_px":5999999', b'"bid_px":0'),
        (b'"bid_px":5999999', b'"bid_px":4611686018427387905'),
        (b'"bid_px":5999999', b'"bid_px":5999999.0'),
        (b'"ask_sz":', b'"ask_sz":-'),
        (b'"ask_sz":', b'"bid_sz":'),
        (b'"ask_px":', b'"day":1,"ask_px":'),
        (b'"quote":', b'"day":null,"quote":'),
        (b'"px_e":-2', b'"px_e":-1'),
        (b'"px_e":-2', b'"px_e":-19'),
        (b'"sz_e":-5', b'"sz_e":-18'),
        (b'"ask_px":6000001', b'"ask_px":0'),
        (b'"v":1', b'"v":2'),
        (b'"token":7', b'"token":6'),
        (b"}}", b"}} "),
        (b"}}", b"}}}"),
        (b"}}", b"}"),
    ],
)
def test_what_is_not_quite_a_bridges_quote(was: bytes, then: bytes) -> None:
    """Likewise; and the quote before it stands, where it is refused."""
    tape = opened(levels=5)
    tape.quote(5_999_998, 6_000_002)
    raw = tape.quote(5_999_999, 6_000_001)
    assert was in raw
    at = raw.rindex(was)
    tape.records[-1] = (tape.records[-1][0], raw[:at] + then + raw[at + len(was) :])
    tape.delta([(5_999_997, 1)])
    both(tape.records, 10)


@built
def test_the_newest_quote_is_what_is_left() -> None:
    """Of a run of several, with changes of the book between them and a record that fails behind."""
    tape = opened(levels=5)
    for n in range(4):
        tape.wait(1).quote(5_999_990 + n, 6_000_010, seq=n)
        tape.delta([(5_999_900, n)])
    tape.raw(b"{}")
    one = both(tape.records, 100)
    assert one.quote is not None
    assert one.quote.quote is not None
    assert (one.quote.quote.bid_px, one.quote.seq) == (5_999_993, 3)


@built
@pytest.mark.parametrize("less", [0, 1])
def test_a_level_that_grows_by_just_what_is_large(less: int) -> None:
    """Is large; and when it is taken back, that is noted."""
    tape = opened()
    for n in range(60):
        tape.wait(200).delta([(5_999_900 - n, 1_000)])
    large = 1_500  # 1.5 times the 95th percentile, for all are alike
    tape.wait(10_000).delta([(5_999_800, 1_000)])
    tape.wait(1).delta([(5_999_800, 1_000 + large - less)])
    one = both(tape.records, 7)
    assert (5_999_800 in one.spoof.watched) is not bool(less)
    tape.wait(1).delta([(5_999_800, 0)])
    assert 5_999_800 not in both(tape.records, 7).spoof.watched


@built
def test_a_record_without_a_value_and_one_that_comes_again() -> None:
    """Neither is a delta to it."""
    tape = opened()
    tape.delta([(5_999_998, 44)])
    again = tape.records[-1]
    tape.delta([(5_999_997, 44)])
    records: list[Any] = [*tape.records, again, (len(tape.records), None)]
    both(records, 100)
    both([*records[:3], *records[2:]], 100)


@built
def test_what_the_engines_methods_raise_is_a_record_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The book is muted, the record listed, the rest goes on."""
    tape = opened(levels=5)
    tape.delta([(5_999_998, 1)])
    tape.trade(5_999_999, 5, "sell")
    tape.delta([(5_999_997, 2)])
    tape.delta([(5_999_999, 3)])  # of a level that is watched
    tape.delta([(5_999_996, 4)])

    def broken(*_: object) -> None:
        raise ZeroDivisionError("none")

    monkeypatch.setattr(Engine, "_noted", broken)
    both(tape.records, 100)
    one = Engine(SYMBOL, VENUE)
    outcome = one.apply(tape.records)
    assert [(offset, type(error)) for offset, error in outcome.failures] == [(5, ZeroDivisionError)]
    assert one.book.state == "muted"
    assert one.applied == tape.records[-1][0]


@built
def test_a_record_of_many_levels() -> None:
    """More than there is room for at first, of one record and of a run."""
    tape = opened()
    for turn in range(4):
        tape.delta(
            [(5_999_000 - n, n + turn) for n in range(900)],
            [(6_001_000 + n, n % 7) for n in range(900)],
        )
    both(tape.records, 100)


@built
def test_it_takes_what_a_bridge_writes() -> None:
    """Or it would be of no use."""
    tape = opened()
    for n in range(20):
        tape.wait(1).delta([(5_999_990 - n, 5)], seq=None)
        if n % 2:
            tape.quote(5_999_999, 6_000_001, seq=n)
    one = Engine(SYMBOL, VENUE)
    one.apply(tape.records)
    assert (one.lane_taken, one.lane_quotes) == (30, 10)


def test_a_record_begins_as_is_said() -> None:
    """Also where the words need escapes."""
    tape = Tape()
    assert tape.delta([(1, 1)]).startswith(opening(BookDelta, VENUE, SYMBOL) + b"17231")
    assert opening(BookDelta, 'a"', "b\\") == (
        b'{"kind":"book_delta","venue":"a\\"","symbol":"b\\\\","ts_event_ms":'
    )


@pytest.mark.skipif(
    COMPILER is None or not HEADERS.exists(),
    reason="no C compiler, or no headers of Python's",
)
def test_setup_has_built_it() -> None:
    """Where it can be; from the source that is here, and without a warning."""
    assert lane.take is not None
    command = [str(COMPILER), "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    command += [f"-I{sysconfig.get_path('include')}", str(ROOT / "tables" / "_lane.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
