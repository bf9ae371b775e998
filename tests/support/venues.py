"""Tapes and engines of one symbol that three venues list."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tables.engine import Engine
from tables.report import VenuePart
from tests.support.tape import SYMBOL, VENUE, Record, Tape, interleaved, random_tape

OTHERS = ("kraken", "coinbase")
SCALES: dict[str, dict[str, int]] = {
    VENUE: {},
    "kraken": {"px_e": -1, "sz_e": -8},
    "coinbase": {"px_e": -3, "sz_e": -4},
}


def tape_of(venue: str, **also: Any) -> Tape:
    return Tape(venue=venue, quote_currency="USD", **also)


def lively(seed: int, steps: int, venue: str, **also: Any) -> Tape:
    kept = {"token": seed % 90 + 1, **SCALES[venue], **also}
    return random_tape(seed, steps, venue=venue, quote_currency="USD", **kept)


def three(seed: int, steps: int, **also: Any) -> list[Tape]:
    return [lively(seed + n, steps, venue, **also) for n, venue in enumerate((VENUE, *OTHERS))]


def engine(records: list[Record] = (), step: int = 0, venue: str = VENUE) -> Engine:  # type: ignore[assignment]
    made = Engine(SYMBOL, venue, listed=[each for each in (VENUE, *OTHERS) if each != venue])
    apply(made, records, step)
    return made


def apply(one: Engine, records: list[Record], step: int = 0) -> Counter[str]:
    """All at once, or so many at a time."""
    counts: Counter[str] = Counter()
    for begin in range(0, len(records), step or len(records) or 1):
        outcome = one.apply(records[begin : begin + (step or len(records))])
        counts.update(outcome.counts)
        counts.update(outcome.kinds)
        counts.update(applied=outcome.applied, skipped=outcome.skipped)
        counts.update(f"{type(error).__name__} at {at}" for at, error in outcome.failures)
        assert [at for at, _ in outcome.failures] == sorted(at for at, _ in outcome.failures)
    return counts


def section(one: Engine, venue: str, now_ms: int = 0) -> VenuePart:
    return one.fast_report(now_ms).venues.by_venue[venue]


def all_of(one: Engine, now_ms: int) -> tuple[Any, ...]:
    return one.snapshot(), one.fast_report(now_ms), one.slow_report(now_ms), one.tick(1, 1)


def book_of(tape: Tape, bid: int = 6_000_000, ask: int = 6_000_100) -> Tape:
    tape.instrument()
    tape.snapshot([(bid, 5), (bid - 1, 6)], [(ask, 7), (ask + 1, 8)])
    return tape


def two(bid: int = 6_000_010, ask: int = 6_000_110) -> tuple[Engine, Tape]:
    """An engine with books of two venues, and the second one's tape."""
    other = book_of(tape_of("kraken", token=3), bid, ask)
    one = engine(interleaved(1, book_of(tape_of(VENUE)), other))
    return one, other


def also(one: Engine, tape: Tape, had: int = 2) -> dict[str, int]:
    """Apply what is new on a venue's tape."""
    records = [(one.applied + 1 + at, raw) for at, (_, raw) in enumerate(tape.records[had:])]
    tape.records = tape.records[:had]
    return one.apply(records).counts
