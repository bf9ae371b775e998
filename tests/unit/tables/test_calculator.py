"""Calculators that plug in: fed, read, kept; and what happens when one breaks."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from agents.parameters import calculators_of
from streams.events import Event, Trade
from tables.calculator import Market
from tables.engine import Engine
from tables.parameters import Parameters
from tables.report import Position, Source, Writer, compose, decode_report, encode_report
from tapeline.errors import ConfigError, SnapshotError
from tests.support.tape import opened


class Count:
    """Records, and the best bid at the newest of them."""

    name: ClassVar[str] = "count"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        self.seen: list[Any] = [0, None]

    def apply(self, event: Event, market: Market) -> None:
        self.seen = [self.seen[0] + 1, market.book.best_bid()]

    def read(self, now_ms: int) -> Any:
        return {"records": self.seen[0], "best_bid": self.seen[1]}

    def snapshot(self) -> Any:
        return self.seen

    def restore(self, state: Any) -> None:
        self.seen = [state[0], tuple(state[1]) if state[1] else None]


class Newer(Count):
    version: ClassVar[int] = 2


class Broken(Count):
    """Breaks at the first trade."""

    name: ClassVar[str] = "broken"

    def apply(self, event: Event, market: Market) -> None:
        if isinstance(event, Trade):
            raise ZeroDivisionError("no")
        super().apply(event, market)


class Unreadable(Count):
    name: ClassVar[str] = "unreadable"

    def read(self, now_ms: int) -> Any:
        raise LookupError("nothing")


class Shapeless:
    name: ClassVar[str] = "shapeless"
    version: ClassVar[int] = 1


def engine_of(*calculators: Any) -> Engine:
    return Engine("BTCUSDT", "binance", Parameters(calculators=calculators))


def test_without_calculators_there_is_no_custom_field() -> None:
    engine = engine_of()
    engine.apply(opened().records)
    assert engine.fast_report(0).custom is None


def test_it_sees_each_record_with_its_effect_and_its_figure_is_in_the_report() -> None:
    """Not those that the engine refuses or has seen."""
    tape = opened()
    tape.delta(bids=[(5_999_995, 9)])
    engine = engine_of(Count)
    engine.apply(tape.records)
    engine.apply(tape.records)
    engine.apply([(len(tape.records), b"{")])
    part = engine.fast_report(engine.newest_ms)
    best = engine.book.best_bid()
    assert part.custom == {"count": {"records": len(tape.records), "best_bid": best}}
    at = Position("t", 0, engine.applied, engine.newest_ms)
    report = compose(
        part, None, writer=Writer("n", 1), seq=1, updated_at=1, source=Source(at, None)
    )
    payload, _ = encode_report(report, 10**6)
    assert decode_report(payload).custom == {
        "count": {"records": len(tape.records), "best_bid": list(best or ())}
    }


def test_one_that_breaks_is_put_aside_and_stays_aside() -> None:
    """Through a snapshot as well; nobody else notices."""
    tape = opened()
    tape.trade(6_000_001, 5)
    tape.trade(6_000_001, 5)
    engine = engine_of(Broken, Count)
    outcome = engine.apply(tape.records)
    assert outcome.failures == []
    assert outcome.counts["calculator_failed.broken"] == 1
    again = Engine.restore(engine.snapshot(), engine.parameters)
    for each in (engine, again):
        custom = each.fast_report(each.newest_ms).custom
        assert custom is not None
        assert custom["broken"] == {"error": "ZeroDivisionError: no"}
        assert custom["count"]["records"] == len(tape.records)
    assert again.snapshot() == engine.snapshot()
    assert again.apply([]).counts == {}


def test_one_that_can_not_be_read_says_so_this_time() -> None:
    engine = engine_of(Unreadable)
    assert engine.fast_report(0).custom == {"unreadable": {"error": "LookupError: nothing"}}
    assert not engine.custom.failed


@pytest.mark.parametrize("now", [(), (Newer,), (Count, Broken)], ids=["none", "newer", "more"])
def test_a_state_with_other_calculators_is_rebuilt(now: tuple[Any, ...]) -> None:
    engine = engine_of(Count)
    with pytest.raises(SnapshotError, match="calculators"):
        Engine.restore(engine.snapshot(), Parameters(calculators=now))


HERE = "tests.unit.tables.test_calculator"


def test_a_setting_names_them() -> None:
    assert calculators_of("") == ()
    found = calculators_of(f"{HERE}:Count, {HERE}:Broken,")
    assert [each.name for each in found] == ["count", "broken"]


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("nonsense", "package.module:Class"),
        (f"{HERE}:", "package.module:Class"),
        ("no.such.module:Thing", "importable"),
        (f"{HERE}:Missing", "importable"),
        (f"{HERE}:opened", "a name"),
        (f"{HERE}:Shapeless", "apply, read, snapshot and restore"),
        (f"{HERE}:Count,{HERE}:Newer", "a name of its own"),
    ],
)
def test_a_bad_setting_is_refused_by_name(setting: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match="NT_CALCULATORS") as refused:
        calculators_of(setting)
    assert wanted in str(refused.value)
