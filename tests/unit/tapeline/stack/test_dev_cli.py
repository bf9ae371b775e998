"""Options of ``tapeline dev``: what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from streams.simulator.listing import KNOWN
from streams.symbols import parse_symbols
from tapeline.errors import ConfigError, StackError
from tapeline.stack import dev_cli, kafka_jars
from tapeline.stack.dev import DEFAULT_SYMBOLS, DevStack
from tapeline.stack.dev_cli import Plan, listed
from tapeline.stack.failover import Failover, Outcome, SymbolOutcome


def plan(**options: Any) -> Plan:
    return Plan(**{"symbols": DEFAULT_SYMBOLS, **options})


@pytest.mark.parametrize("count", [1, 2, 15, len(KNOWN)])
def test_a_number_of_symbols_takes_so_many_of_the_simulator_s_markets(count: int) -> None:
    listings = parse_symbols(listed(f" {count} "))
    assert [one.symbol for one in listings] == list(KNOWN)[:count]


def test_symbols_that_are_named_stay_as_they_are() -> None:
    assert listed("binance:ETHUSDT>1") == "binance:ETHUSDT>1"
    assert listed(DEFAULT_SYMBOLS) == dev_cli._SYMBOLS == DEFAULT_SYMBOLS


@pytest.mark.parametrize("text", ["0", "-3", "18", "+99"])
def test_a_number_out_of_range_is_named_with_the_range(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        listed(text)
    said = f"--symbols is {text!r}; expected a number of markets from 1 to 17, or VENUE:SYMBOL"
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": 0}, "--workers is 0; expected an integer from 1 to 9"),
        ({"workers": 10}, "--workers is 10; expected an integer from 1 to 9"),
        ({"broker": "redpanda"}, "--broker is 'redpanda'; expected one of auto, embedded, kafka"),
        (
            {"workers": 2, "kill_after_s": -1.0},
            "--kill-after is -1.0; expected seconds from 0 to 3600",
        ),
        (
            {"workers": 2, "kill_after_s": float("nan")},
            "--kill-after is nan; expected seconds from 0 to 3600",
        ),
        (
            {"kill_after_s": 5.0},
            "--workers is 1; expected an integer from 2 to 9 with --kill-after",
        ),
        (
            {"workers": 2, "kill_after_s": 5.0, "once": True},
            "--once is True; expected none with --kill-after",
        ),
        (
            {"workers": 2, "kill_after_s": 5.0, "duration_s": 3.0},
            "--duration is 3.0; expected none with --kill-after",
        ),
    ],
)
def test_what_can_t_be_run_is_named_with_what_can(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(**options).check()
    assert str(caught.value) == said


def test_what_can_be_run_is_not_refused() -> None:
    plan().check()
    plan(workers=9, once=True, duration_s=3.0).check()
    plan(workers=2, kill_after_s=0.0).check()
    plan(workers=2, kill_after_s=3600.0, broker="embedded").check()


# --- which broker ---------------------------------------------------------------------------------


@pytest.fixture
def java(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says whether an Apache Kafka can be had here."""

    def set_reason(reason: str | None) -> None:
        monkeypatch.delenv("KAFKA_URL", raising=False)
        monkeypatch.setattr(kafka_jars, "unavailable", lambda: reason)

    return set_reason


@pytest.mark.parametrize(
    ("options", "real"),
    [
        ({}, False),
        ({"workers": 3}, False),
        ({"workers": 3, "kill_after_s": 5.0}, True),
        ({"workers": 3, "kill_after_s": 5.0, "broker": "embedded"}, False),
        ({"broker": "kafka"}, True),
    ],
)
def test_a_real_kafka_runs_where_it_is_asked_for_and_for_a_kill(
    java: Any, options: dict[str, Any], real: bool
) -> None:
    java(None)
    assert plan(**options).real_kafka() is real


def test_without_java_a_kill_runs_on_the_embedded_broker_and_says_why(
    java: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    java("no Java found; install a Java 17 or later, or set KAFKA_URL")
    assert plan(workers=2, kill_after_s=5.0).real_kafka() is False
    assert "no Apache Kafka  no Java found" in capsys.readouterr().err
    with pytest.raises(StackError, match="no Apache Kafka on this machine: no Java found"):
        plan(broker="kafka").real_kafka()


# --- names ----------------------------------------------------------------------------------------


def test_one_worker_has_no_number_and_several_are_numbered() -> None:
    assert DevStack().worker_names == ("worker",)
    assert DevStack(workers=3).worker_names == ("w1", "w2", "w3")


# --- how a trial ends -----------------------------------------------------------------------------


@pytest.mark.parametrize("quiet", [False, True])
async def test_a_symbol_that_stops_is_an_error_behind_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    """The object has it either way; the error is what makes the exit status 1."""
    stopped = SymbolOutcome(
        symbol="A", owner_before="w1", owner_after="w1", gap_s=10.0, reports=0, silent_s=10.0
    )
    found = Outcome(
        killed="w1", broker="yours", symbols=(stopped,), warm=0, assigned_s=None, watched_s=10.0
    )

    async def run(_self: Failover) -> Outcome:
        return found

    monkeypatch.setattr(Failover, "run", run)
    body: dict[str, object] = {}
    with pytest.raises(StackError, match="A did not go on without w1"):
        await dev_cli._trial(DevStack(workers=2), body, 5.0, quiet=quiet)
    assert body["failover"] == found.as_json()
    assert capsys.readouterr().out == ("" if quiet else f"{found.table()}\n")
