"""Spoofing, icebergs, flash-crash risk: what raises each, and what must not."""

from __future__ import annotations

import random

import pytest

from tables.anomalies import (
    BASELINE_SAMPLES_MIN,
    ICEBERG_WATCHED_MAX,
    SPOOF_WATCHED_MAX,
    CrashSample,
    CrashTracker,
    IcebergTracker,
    Prices,
    SpoofTracker,
)
from tables.engine import Engine
from tables.parameters import Parameters
from tests.support.tape import SYMBOL, VENUE, Tape, opened

LIMITS = Parameters()
MID = 6_000_000


def types(engine: Engine, after_ms: int = 0) -> list[str]:
    return [found.type for found in engine.slow_report(engine.newest_ms + after_ms).anomalies]


def applied(tape: Tape) -> Engine:
    engine = Engine(SYMBOL, VENUE)
    engine.apply(tape.records)
    return engine


def busy(seconds: int = 120) -> Tape:
    """A calm market of some depth, long enough for thresholds and baselines."""
    rng = random.Random(5)
    tape = opened(MID, levels=60, size=100_000)
    for second in range(seconds * 5):
        tape.wait(200)
        px = rng.randint(1, 50)
        size = rng.randint(50_000, 150_000)
        tape.delta([(MID - px, size)], [(MID + px, size)])
        tape.trade(MID, rng.randint(1, 2_000), rng.choice(["buy", "sell"]))  # inside the spread
        if second % 25 == 0:
            tape.status("alive")
    return tape


FAR = MID - 4_000  # 6.7 bps below mid


def spoof(tape: Tape, times: int, cancelled: int) -> None:
    for n in range(times):
        px = FAR - 3 * n
        tape.wait(300).delta([(px, 900_000)])
        tape.wait(700).delta([(px, 0 if n < cancelled else 900_000)])


def test_a_calm_market_raises_nothing() -> None:
    """Two minutes of it."""
    engine = applied(busy())
    assert types(engine) == []
    assert engine.fast_report(engine.newest_ms).health.anomalies == 1.0


@pytest.mark.parametrize(
    ("placed", "cancelled", "severity"),
    [
        (4, 4, None),
        (10, 6, None),
        (10, 7, "low"),
        (20, 17, "medium"),
        (20, 19, "high"),
        (5, 5, "high"),
    ],
)
def test_spoofing_is_a_share_of_enough_large_far_orders(
    placed: int, cancelled: int, severity: str | None
) -> None:
    """70 % of at least five."""
    tape = busy()
    spoof(tape, placed, cancelled)
    found = applied(tape).slow_report(0).anomalies
    assert [(f.type, f.severity) for f in found] == ([("spoofing", severity)] if severity else [])
    if severity:
        assert f"{cancelled} of {placed} large bid orders" in found[0].note


def test_large_orders_near_mid_are_no_spoofing() -> None:
    """Far means far_bps and more."""
    tape = busy()
    for _ in range(10):
        tape.wait(300).delta([(MID - 40, 900_000)])
        tape.wait(300).delta([(MID - 40, 100_000)])
    assert types(applied(tape)) == []


def test_orders_that_traded_or_stood_long_are_no_spoofing() -> None:
    """They were meant."""
    for cancel_after, trade in ((700, True), (3_500, False)):
        tape = busy()
        for n in range(6):
            px = FAR - 3 * n
            tape.wait(300).delta([(px, 900_000)])
            if trade:
                tape.trade(px, 10, "sell")
            for _ in range(cancel_after // 500):
                tape.wait(500).status("alive")
            tape.wait(200).delta([(px, 0)])
        assert types(applied(tape)) == []


def test_spoofing_fades_after_a_minute() -> None:
    """In silence, too."""
    tape = busy()
    spoof(tape, 8, 8)
    engine = applied(tape)
    assert types(engine) == ["spoofing"]
    assert types(engine, after_ms=61_000) == []
    assert engine.fast_report(engine.newest_ms).health.anomalies == 0.0


def iceberg(tape: Tape, fills: int, size: int, shows: int = 100_000) -> None:
    tape.wait(100).delta([], [(MID + 1, 100_000)])
    for n in range(fills):
        tape.wait(200).trade(MID + 1, size, "buy")
        tape.wait(50).delta([], [(MID + 1, 100_000 if n % 2 else shows)])


@pytest.mark.parametrize(
    ("fills", "size", "shows", "severity"),
    [
        (5, 20_000, 100_000, "low"),
        (5, 19_000, 100_000, None),
        (4, 50_000, 100_000, None),
        (5, 60_000, 100_000, "medium"),
        (10, 60_000, 100_000, "high"),
        (8, 50_000, 109_000, "medium"),
        (8, 50_000, 91_000, "medium"),
        (8, 50_000, 115_000, None),
        (8, 50_000, 85_000, None),
    ],
)
def test_an_iceberg_keeps_showing_what_it_has_already_sold(
    fills: int, size: int, shows: int, severity: str | None
) -> None:
    """Five fills, within 10 % of what was visible, and at least that much filled."""
    tape = busy(20)
    iceberg(tape, fills, size, shows)
    found = applied(tape).slow_report(0).anomalies
    assert [(f.type, f.severity) for f in found] == ([("iceberg", severity)] if severity else [])
    if severity:
        assert f"{fills} fills took" in found[0].note
        assert "60000.01" in found[0].note


def test_a_sweep_that_eats_a_level_is_no_iceberg() -> None:
    """Neither before the book message that says so, nor after it."""
    tape = busy(20)
    tape.wait(100).delta([], [(MID + 1, 100_000)])
    for _ in range(6):
        tape.wait(1).trade(MID + 1, 20_000, "buy")
    assert types(applied(tape)) == []
    tape.wait(50).delta([], [(MID + 1, 0)])
    assert types(applied(tape)) == []


def test_an_iceberg_fades_when_nobody_trades_with_it() -> None:
    """30 s."""
    tape = busy(20)
    iceberg(tape, 6, 50_000)
    engine = applied(tape)
    assert types(engine) == ["iceberg"]
    assert types(engine, after_ms=31_000) == []


def crash(tape: Tape, *, spread: bool, depth: bool, selling: bool) -> None:
    book = applied(tape).book
    if spread:
        tape.wait(50).delta([], [(px, 0) for px in book.asks.prices[:12]])
    if depth:
        tape.wait(50).delta([(px, 5_000) for px in book.bids.prices[-30:]])
    for _ in range(40):
        tape.wait(200)
        if selling:
            tape.trade(MID, 30_000, "sell")
        tape.status("alive")


@pytest.mark.parametrize(
    ("signals", "severity"),
    [
        ("spread depth selling", "high"),
        ("spread depth", "medium"),
        ("spread selling", "medium"),
        ("depth selling", "medium"),
        ("spread", None),
        ("depth", None),
        ("selling", None),
    ],
)
def test_crash_risk_takes_two_signals_of_three(signals: str, severity: str | None) -> None:
    """One alone is a quiet minute, a big order, a seller."""
    tape = busy()
    crash(tape, **{name: name in signals for name in ("spread", "depth", "selling")})
    found = applied(tape).slow_report(0).anomalies
    expected = [("flash_crash_risk", severity)] if severity else []
    assert [(f.type, f.severity) for f in found] == expected
    if severity:
        assert found[0].note.count(";") == len(signals.split()) - 1


def test_crash_risk_needs_a_baseline() -> None:
    """30 s of samples, on the 10 s grid."""
    tape = busy(15)
    crash(tape, spread=True, depth=True, selling=False)
    assert types(applied(tape)) == []


def test_trackers_hold_a_bounded_memory() -> None:
    """Whatever a venue does."""
    spoofs, icebergs, crashes = SpoofTracker(), IcebergTracker(), CrashTracker()
    for n in range(1, 2_000):
        spoofs.level_changed(n, "bid", n, 0, 100, large=50.0, far=True, lifetime_ms=9_000)
        icebergs.traded(n, "ask", n, 1, 5)
        crashes.sample(CrashSample(n, 1, 1, 0))
    assert len(spoofs.watched) == SPOOF_WATCHED_MAX
    assert len(icebergs.watched) == ICEBERG_WATCHED_MAX
    assert len(crashes._samples) == 300


def test_a_trade_at_an_unseen_level_starts_no_iceberg() -> None:
    """Nothing visible, nothing to stay the same."""
    tracker = IcebergTracker()
    tracker.traded(1, "ask", 10, 5, 0)
    assert not tracker.watched


def test_notes_print_exact_decimals() -> None:
    """No float in between."""
    prices = Prices(-2, -5)
    assert prices.price(6_000_010) == "60000.1"
    assert prices.size(100_000) == "1"
    assert Prices(0, 2).size(7) == "700"


def test_the_baseline_is_a_median_of_five_minutes() -> None:
    """Robust against the very thing it is to find."""
    tracker = CrashTracker()
    for sec in range(BASELINE_SAMPLES_MIN - 1):
        tracker.sample(CrashSample(sec, 2, 100, 1))
    tracker.refresh()
    assert tracker.baseline is None
    tracker.sample(CrashSample(60, 500, 1, -10_000))
    tracker.refresh()
    assert tracker.baseline is not None
    assert (tracker.baseline.spread, tracker.baseline.bid_depth) == (2, 100)
    assert tracker.findings(6, 40, -100, 0, LIMITS)[0].severity == "high"
