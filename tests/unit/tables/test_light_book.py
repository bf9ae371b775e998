"""What is kept of another venue's book: the best levels, right or muted, and little of it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.events import BookDelta, Feed, encode, stamp
from tables import other_venues
from tables.engine import Engine
from tables.other_venues import BEYOND
from tests.support.tape import SYMBOL, VENUE
from tests.support.venues import OTHERS, also, engine, section, tape_of, two


def walk(seed: int, kept: int) -> int:
    """A market that moves through the levels kept, held against the whole book.

    Returns:
        How often there was a book to compare.
    """
    rng = random.Random(seed)
    tape = tape_of("kraken")
    mid = 1_000
    bids = {mid - n: rng.randint(1, 9) for n in range(1, 25)}
    asks = {mid + n: rng.randint(1, 9) for n in range(1, 25)}

    def whole() -> None:
        cut = rng.randint(0, 24)
        best_bids, best_asks = sorted(bids.items(), reverse=True), sorted(asks.items())
        if cut % 2:
            tape.snapshot(best_bids, best_asks)
        else:
            tape.snapshot(best_bids[:cut], [], part=1, parts=3)
            tape.snapshot(best_bids[cut:], best_asks[:cut], part=2, parts=3)
            tape.snapshot([], best_asks[cut:], part=3, parts=3)

    shown = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(other_venues, "LEVELS_KEPT", kept)
        whole()
        one = Engine(SYMBOL, VENUE, listed=["kraken"])
        one.apply(tape.records)
        for _ in range(60):
            changes: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
            for side, book, away in ((0, bids, -1), (1, asks, 1)):
                best = (max if away < 0 else min)(book, default=mid)
                for _ in range(rng.randint(0, 3)):
                    px = best + away * rng.randint(-1, 12)
                    if rng.random() < 0.5 or (bids, asks)[1 - side].get(px):
                        px, sz = rng.choice([best, px]), 0
                    else:
                        sz = rng.randint(1, 9)
                    other_best = (min if away < 0 else max)(
                        (bids, asks)[1 - side], default=px - away
                    )
                    if sz and (other_best - px) * -away <= 0:
                        continue
                    changes[side].append((px, sz))
                    book.pop(px, None)
                    if sz:
                        book[px] = sz
            fine = rng.choice([1, 1, 1, 10])
            tape.px_e = -2 if fine == 1 else -3
            tape.delta(*([(px * fine, sz) for px, sz in side] for side in changes))
            tape.px_e = -2
            if rng.random() < 0.05:
                whole()
            fresh = tape.records[one.applied + 1 :]
            one.apply(fresh)
            if rng.random() < 0.2:
                one = Engine.restore(one.snapshot(), listed=["kraken"])
            kraken = section(one, "kraken")
            if kraken.state == "muted":
                assert kraken.reason == BEYOND
                continue
            shown += 1
            found = [level and (round(level.price * 100), round(level.qty * 10**5))
                     for level in (kraken.best_bid, kraken.best_ask)]  # fmt: skip
            assert found == [max(bids.items(), default=None), min(asks.items(), default=None)]
            book = one.others.get("kraken", tape.now_ms).book  # type: ignore[union-attr]
            assert max(len(book.bids), len(book.asks)) <= 2 * kept
    return shown


@given(seed=st.integers(0, 2**32), kept=st.integers(2, 8))
@settings(max_examples=60, deadline=None)
def test_a_light_book_shows_the_top_of_the_whole_one_or_none(seed: int, kept: int) -> None:
    """However the market moves; and from bytes it goes on as it was."""
    walk(seed, kept)


def test_mostly_there_is_something_to_show() -> None:
    assert sum(walk(seed, 8) for seed in range(10)) > 300


def test_a_market_that_climbs_takes_its_levels_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies far behind is left out, so a light book stays light."""
    monkeypatch.setattr(other_venues, "LEVELS_KEPT", 5)
    tape = tape_of("kraken")
    tape.snapshot([(1_000 - n, 1) for n in range(20)], [(1_500 + n, 1) for n in range(20)])
    for n in range(1, 100):
        tape.delta([(1_000 + n, 1)])
    one = engine(tape.records, 10)
    book = one.others.get("kraken", tape.now_ms).book  # type: ignore[union-attr]
    assert 5 <= len(book.bids) <= 10
    assert book.best_bid() == (1_099, 1)
    for px in book.bids.prices[::-1]:
        assert section(one, "kraken").state == "ok"
        tape.delta([(px, 0)])
        also(one, tape, len(tape.records) - 1)
    assert section(one, "kraken").reason == BEYOND


def test_parts_with_a_hole_between_them_are_no_book() -> None:
    """Kept over a restart in the middle of them, too."""
    for hole in (0, 1):
        tape = tape_of("kraken")
        tape.snapshot([(100, 1)], [], part=1, parts=2)
        one = Engine.restore(engine(tape.records).snapshot(), listed=OTHERS)
        tape.seq += hole
        tape.snapshot([], [(110, 1)], part=2, parts=2)
        counts = one.apply(tape.records[1:]).counts
        assert counts["snapshot_parts_lost"] == hole
        assert section(one, "kraken").state == ("none" if hole else "ok")


def test_half_an_hour_is_kept_of_a_venue_and_nothing_of_one_that_is_gone() -> None:
    """State is finite, however long it runs."""
    tape = tape_of("kraken")
    for _ in range(2_000):
        tape.wait(1_000).status("gap", "sequence")
    one = engine(tape.records)
    assert section(one, "kraken", tape.now_ms).gaps == 1_800
    kept = len(one.snapshot())
    for _ in range(1_000):
        tape.wait(1_000).status("gap", "sequence")
    one.apply(tape.records)
    assert len(one.snapshot()) < 1.05 * kept
    ours = tape_of(VENUE, now_ms=tape.now_ms + 1_800_000)
    ours.status("alive")
    one.apply([(one.applied + 1, ours.records[0][1])])
    assert not Engine.restore(one.snapshot()).others


def test_a_large_book_costs_little_to_keep() -> None:
    """46,000 levels, as Coinbase sends them: the state stays small."""
    tape = tape_of("coinbase")
    tape.instrument()
    for part in range(1, 9):
        first = 3_000 * (part - 1)
        tape.snapshot(
            [(6_000_000 - n, n * 7919 % 10**6 + 1) for n in range(first, first + 3_000)],
            [(6_000_001 + n, n * 7919 % 10**6 + 1) for n in range(first, first + 3_000)],
            part=part,
            parts=8,
        )
    one = engine(tape.records)
    assert section(one, "coinbase").state == "ok"
    assert len(one.snapshot()) < 16_000
    half = engine(tape.records[:-1])
    assert section(half, "coinbase").state == "none"
    assert len(half.snapshot()) < 40_000


def test_it_is_a_book_of_what_the_bridge_writes() -> None:
    """Finer units in the middle of it, too."""
    one, tape = two()
    tape.px_e, tape.sz_e = -4, -7
    tape.delta([(600_001_150, 333)], [(600_011_000, 0)])
    also(one, tape)
    kraken = section(one, "kraken")
    assert (kraken.best_bid.price, kraken.best_bid.qty) == (60_000.115, 0.0000333)  # type: ignore[union-attr]
    assert kraken.best_ask.price == 60_001.11  # type: ignore[union-attr]
    fine = BookDelta(**tape.common(), px_e=-13, sz_e=-5, bids=[], asks=[])
    stamp(fine, Feed(tape.token, tape.seq + 1), 1)
    assert one.apply([(one.applied + 1, encode(fine))]).failures
    assert section(one, "kraken") == kraken
