"""When a rolling upgrade may go on from a worker."""

from __future__ import annotations

from typing import Any

import pytest

from agents.readiness import unready

SETTLED: dict[str, Any] = {
    "stalled": [],
    "outages": {},
    "assigned": True,
    "last_heartbeat_ts": 1_700_000_000_000,
    "assigned_symbols": ["ADAUSDT", "BTCUSDT"],
    "owned_symbols": ["ADAUSDT", "BTCUSDT"],
    "warm_symbols": ["ETHUSDT"],
    "warming_symbols": [],
}


def test_a_settled_worker_is_ready() -> None:
    assert unready(True, SETTLED) == ""


def test_what_it_writes_for_others_does_not_count() -> None:
    """Their owner takes it; this one has nothing to do about it."""
    assert unready(True, {**SETTLED, "owned_symbols": ["ADAUSDT", "BTCUSDT", "XRPUSDT"]}) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"assigned": False}, "the group has not assigned yet"),
        ({"owned_symbols": ["ADAUSDT"]}, "assigned and not written yet: BTCUSDT"),
        ({"warming_symbols": ["ETHUSDT"]}, "not warm yet: ETHUSDT"),
        ({"outages": {"redis": {"seconds": 4.0, "error": "gone"}}}, "away: redis"),
    ],
)
def test_why_it_is_not(change: dict[str, Any], reason: str) -> None:
    assert unready(True, {**SETTLED, **change}) == reason


def test_a_stalled_one_is_not() -> None:
    body = {**SETTLED, "stalled": [{"what": "records"}, {"what": "commit"}]}
    assert unready(False, body) == "stalled: commit, records"


def test_many_symbols_are_counted_not_listed() -> None:
    """A reason is one line of a probe's event."""
    symbols = [f"S{n}USDT" for n in range(9)]
    said = unready(True, {**SETTLED, "assigned_symbols": symbols, "owned_symbols": []})
    assert said.endswith("S0USDT, S1USDT, S2USDT, S3USDT, S4USDT and 4 more")


def test_a_worker_without_leases_needs_none() -> None:
    """NT_ENABLE_KV_REPORTS=false: it never beats, and owns nothing."""
    assert unready(True, {**SETTLED, "last_heartbeat_ts": 0, "owned_symbols": []}) == ""
