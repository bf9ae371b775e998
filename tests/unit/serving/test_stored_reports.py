"""What a scrape of a reader says of the reports that are stored."""

from __future__ import annotations

import pytest

from serving.directory import SymbolRow
from serving.stored_reports import KEPT_MS, SYMBOLS_MAX, StoredReports
from tapeline.clock import ManualClock

AGE, WRITER = "tapeline_report_data_age_seconds", "tapeline_report_has_writer"


def row(symbol: str = "BTCUSDT", **fields: object) -> SymbolRow:
    told = {
        "venue": "binance", "state": "live", "age_ms": 20, "data_age_ms": 60, "token": 1, "seq": 1,
        "owner": "w1", **fields,
    }  # fmt: skip
    return SymbolRow(symbol=symbol, **told)  # type: ignore[arg-type]


def gone(symbol: str = "BTCUSDT", owner: str = "") -> SymbolRow:
    return row(symbol, venue=None, state="down", age_ms=None, data_age_ms=None, owner=owner)


def told(reports: StoredReports) -> dict[str, dict[str, float]]:
    return {
        family.name: {sample.labels["symbol"]: sample.value for sample in family.samples}
        for family in reports.collect()
    }


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_800_000_000_000)


@pytest.fixture
def reports(clock: ManualClock) -> StoredReports:
    return StoredReports(clock)


def test_ages_grow_between_looks(reports: StoredReports, clock: ManualClock) -> None:
    """Also where Redis does not answer; who writes is then not said."""
    reports.looked([row()])
    assert told(reports) == {AGE: {"BTCUSDT": 0.06}, WRITER: {"BTCUSDT": 1.0}}
    clock.advance(5000)
    reports.away()
    assert told(reports) == {AGE: {"BTCUSDT": 5.06}, WRITER: {}}
    reports.looked([row(owner="")])
    assert told(reports) == {AGE: {"BTCUSDT": 0.06}, WRITER: {"BTCUSDT": 0.0}}


def test_an_expired_report_grows_older_for_ever(reports: StoredReports, clock: ManualClock) -> None:
    """Or the alert would end when things are worst."""
    reports.looked([row()])
    clock.advance(KEPT_MS + 10_000)
    reports.looked([gone()])
    clock.advance(60_000)
    reports.looked([gone()])
    assert told(reports) == {AGE: {"BTCUSDT": 360.06}, WRITER: {"BTCUSDT": 0.0}}


def test_an_erased_report_is_forgotten(reports: StoredReports, clock: ManualClock) -> None:
    """Its symbol is followed no more, and nothing is wrong with that."""
    reports.looked([row(), row("ETHUSDT")])
    clock.advance(70_000)
    reports.looked([gone(), row("ETHUSDT")])
    assert told(reports) == {AGE: {"ETHUSDT": 0.06}, WRITER: {"ETHUSDT": 1.0}}


def test_a_report_that_is_gone_while_it_has_a_writer_is_not_forgotten(
    reports: StoredReports, clock: ManualClock
) -> None:
    reports.looked([row()])
    clock.advance(3000)
    reports.looked([gone(owner="w1")])
    assert told(reports) == {AGE: {"BTCUSDT": 3.06}, WRITER: {"BTCUSDT": 1.0}}


def test_a_report_without_data_has_no_age(reports: StoredReports) -> None:
    """It has a writer, or has none."""
    reports.looked([row(data_age_ms=None)])
    assert told(reports) == {AGE: {}, WRITER: {"BTCUSDT": 1.0}}


def test_a_symbol_that_never_had_a_report_is_not_told_of(reports: StoredReports) -> None:
    """Tokens of symbols of long ago stay in Redis."""
    reports.looked([gone(), gone("OLDUSDT")])
    assert told(reports) == {AGE: {}, WRITER: {}}


def test_no_more_symbols_than_a_scrape_bears(reports: StoredReports) -> None:
    reports.looked([row(f"S{n}") for n in range(SYMBOLS_MAX + 5)])
    assert [len(samples) for samples in told(reports).values()] == [SYMBOLS_MAX] * 2
