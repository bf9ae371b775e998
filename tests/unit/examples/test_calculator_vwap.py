"""The example calculator: against a naive recomputation, and cut anywhere."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from examples.calculator_vwap import SPAN_SEC, Vwap
from streams.events import Trade, decode
from tables.engine import Engine
from tables.parameters import Parameters
from tests.support.tape import opened, random_tape

WITH = Parameters(calculators=(Vwap,))


def naive(trades: list[Trade], now_ms: int) -> dict[str, object]:
    """Every trade of the window, one by one."""
    fresh = [t for t in trades if t.ts_recv_ms // 1000 > now_ms // 1000 - SPAN_SEC]
    sizes = [Fraction(t.sz) * Fraction(10) ** t.sz_e for t in fresh]
    prices = [Fraction(t.px) * Fraction(10) ** t.px_e for t in fresh]
    paid = sum((p * s for p, s in zip(prices, sizes, strict=True)), Fraction(0))
    return {
        "price": float(paid / sum(sizes)) if sum(sizes) else None,
        "volume": float(sum(sizes)),
        "trades": len(fresh),
    }


@given(
    moves=st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 9), st.integers(1, 99))),
    later_ms=st.integers(0, 400_000),
)
def test_it_equals_a_sum_over_all_trades(moves: list[tuple[int, int, int]], later_ms: int) -> None:
    tape = opened()
    for wait_ms, px, sz in moves:
        tape.wait(wait_ms).trade(6_000_000 + px, sz)
    engine = Engine("BTCUSDT", "binance", WITH)
    engine.apply(tape.records)
    now_ms = engine.newest_ms + later_ms
    trades = [e for e in (decode(raw) for _, raw in tape.records) if isinstance(e, Trade)]
    custom = engine.fast_report(now_ms).custom
    assert custom == {"vwap_5m": naive(trades, now_ms)}


@given(seed=st.integers(0, 50), cut=st.integers(0, 200))
def test_a_snapshot_at_any_cut_changes_nothing(seed: int, cut: int) -> None:
    tape = random_tape(seed, 200, step_ms=900)
    whole = Engine("BTCUSDT", "binance", WITH)
    whole.apply(tape.records)
    part = Engine("BTCUSDT", "binance", WITH)
    part.apply(tape.records[:cut])
    part = Engine.restore(part.snapshot(), WITH)
    part.apply(tape.records[cut:])
    assert part.snapshot() == whole.snapshot()
    assert part.fast_report(whole.newest_ms) == whole.fast_report(whole.newest_ms)
