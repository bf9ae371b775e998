"""What is newest, out of what is stored."""

from __future__ import annotations

import json

import pytest

from serving.hub.state_feed import _status
from serving.hub.states import FINDINGS_KEPT, StateTable
from serving.hub.wire import Batch, State
from tables.report import LastTrade, Tick, encode_tick
from tapeline.errors import ReportError
from tests.support.hub_frames import T0_MS, finding, report
from tests.support.reports import stored


def tick(seq: int, *, token: int = 7, levels: int = 50, symbol: str = "BTCUSDT") -> bytes:
    return encode_tick(
        Tick(
            symbol=symbol,
            venue="binance",
            writer_token=token,
            seq=seq,
            offset=3,
            ts_recv_ms=T0_MS,
            last_trade=LastTrade(60000.1, 0.00001, "buy", 5, T0_MS, T0_MS),
            quote=((60000.0, 1.0), (60000.1, 0.1)),
            book="ok",
            bids=[(60000.0 - n / 10, 1.5) for n in range(levels)],
            asks=[(60000.1 + n / 10, 0.1) for n in range(levels)],
            synthetic=False,
        )
    )


def channels(new: list[State | Batch]) -> list[str]:
    return [what.channel for what in new]


def test_a_report_is_a_fast_state_each_time_and_a_slow_one_when_its_slow_part_is_new() -> None:
    table = StateTable()
    assert channels(table.take_report("BTCUSDT", report(1), 0)) == ["reports.fast", "reports.slow"]
    assert channels(table.take_report("BTCUSDT", report(2), 0)) == ["reports.fast"]
    new = table.take_report("BTCUSDT", report(3, slow_ms=2), 0)
    assert channels(new) == ["reports.fast", "reports.slow"]
    assert all(isinstance(what, State) and what.data == report(3, slow_ms=2) for what in new)


def test_who_comes_to_the_slow_channel_in_between_begins_with_the_newest() -> None:
    table = StateTable()
    table.take_report("BTCUSDT", report(1), 0)
    table.take_report("BTCUSDT", report(2), 0)
    current = table.current("reports.slow", "BTCUSDT")
    assert current is not None
    assert current.order == (7, 2)


def test_what_is_not_newer_is_not_taken() -> None:
    """A replica that lags, a store that came back from an old file."""
    table = StateTable()
    table.take_report("BTCUSDT", report(5), 0)
    for older in (report(5), report(4), report(9, token=6), report(5, slow_ms=9)):
        assert table.take_report("BTCUSDT", older, 0) == []
    assert table.order("report", "BTCUSDT") == (7, 5)
    assert channels(table.take_report("BTCUSDT", report(1, token=8), 0))[0] == "reports.fast"
    assert table.order("report", "ETHUSDT") == (0, 0)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"nonsense",
        b"\xff",
        stored()[:-1],
        stored().replace(b"binance", b"bin\xffnce"),
    ],
)
def test_what_is_no_report_is_said_to_be_none(payload: bytes) -> None:
    with pytest.raises(ReportError, match=r"no report|no text"):
        StateTable().take_report("BTCUSDT", payload, 0)


def test_a_report_turns_stale_once_until_it_is_written_again() -> None:
    table = StateTable()
    table.take_report("BTCUSDT", report(1, data_age_ms=40), 0)
    assert table.turned_stale(T0_MS + 1960) == []
    assert channels(list(table.turned_stale(T0_MS + 1961))) == ["reports.fast", "reports.slow"]
    assert table.turned_stale(T0_MS + 5000) == []
    table.take_report("BTCUSDT", report(2, now_ms=T0_MS + 5000), 0)
    assert table.turned_stale(T0_MS + 5000) == []
    assert len(table.turned_stale(T0_MS + 9000)) == 2


# --- anomalies -----------------------------------------------------------------------------------


def test_findings_are_told_when_a_slow_part_has_new_ones() -> None:
    table = StateTable()
    table.take_report("BTCUSDT", report(1, slow_ms=1, anomalies=[finding(1)]), 0)
    assert table.newest_finding("BTCUSDT") == (1, 1)
    same = table.take_report("BTCUSDT", report(2, slow_ms=2, anomalies=[finding(1)]), 0)
    assert "anomalies" not in channels(same)
    new = table.take_report("BTCUSDT", report(3, slow_ms=3, anomalies=[finding(1), finding(2)]), 0)
    batch = new[-1]
    assert isinstance(batch, Batch)
    assert [json.loads(entry.data) for entry in batch.entries] == [finding(1), finding(2)]
    assert [entry.cursor for entry in batch.entries] == ["3-1", "3-2"]
    none = table.take_report("BTCUSDT", report(4, slow_ms=4), 0)
    assert "anomalies" not in channels(none)


def test_a_client_goes_on_from_a_finding_as_far_as_they_are_kept() -> None:
    table = StateTable()
    assert table.newest_finding("BTCUSDT") == (0, 0)
    assert table.findings_after("BTCUSDT", (1, 1)) == (None, True)
    for n in range(1, FINDINGS_KEPT + 11):
        payload = report(n, slow_ms=n, anomalies=[finding(n)])
        table.take_report("BTCUSDT", payload, 0)
    rest, lost = table.findings_after("BTCUSDT", (FINDINGS_KEPT + 8, 1))
    assert rest is not None
    assert (len(rest), lost) == (2, False)
    assert table.findings_after("BTCUSDT", (FINDINGS_KEPT + 10, 1)) == (None, False)
    rest, lost = table.findings_after("BTCUSDT", (5, 1))
    assert rest is not None
    assert (len(rest), lost) == (FINDINGS_KEPT, True)


def test_where_the_hub_began_later_than_a_client_left_something_may_be_lost() -> None:
    table = StateTable()
    table.take_report("BTCUSDT", report(1, slow_ms=100), 0)
    assert table.newest_finding("BTCUSDT") == (100, 0)
    assert table.findings_after("BTCUSDT", (99, 1)) == (None, True)
    assert table.findings_after("BTCUSDT", (100, 0)) == (None, False)


def test_a_report_before_its_first_slow_cycle_has_no_findings() -> None:
    from tests.support.reports import BARE

    table = StateTable()
    assert channels(table.take_report("BTCUSDT", BARE, 0)) == ["reports.fast", "reports.slow"]
    assert table.findings_after("BTCUSDT", (1, 1)) == (None, True)


# --- ticks and books -----------------------------------------------------------------------------


def test_a_tick_is_the_stored_object_with_the_best_levels() -> None:
    table = StateTable()
    state, _ = table.take_tick("BTCUSDT", tick(1), 0)
    assert isinstance(state, State)
    assert state.data == tick(1, levels=1)
    assert state.order == (7, 1)


def test_a_book_has_as_many_levels_as_are_asked_for_made_once() -> None:
    _, book = StateTable().take_tick("BTCUSDT", tick(1), 0)
    assert isinstance(book, State)
    assert book.variant(20) is book
    five = book.variant(5)
    assert book.variant(5) is five
    shown = json.loads(five.data)
    whole = json.loads(tick(1))
    assert shown["bids"] == whole["bids"][:5]
    assert shown["asks"] == whole["asks"][:5]
    assert shown["depth"] == 5
    assert len(json.loads(book.variant(50).data)["bids"]) == 50
    assert five.order == book.order


def test_older_and_repeated_ticks_are_not_taken() -> None:
    table = StateTable()
    table.take_tick("BTCUSDT", tick(5), 0)
    for older in (tick(5), tick(4), tick(9, token=6)):
        assert table.take_tick("BTCUSDT", older, 0) == []
    assert table.order("tick", "BTCUSDT") == (7, 5)


@pytest.mark.parametrize("payload", [b"{}", tick(1, symbol="ETHUSDT"), tick(1)[:-1]])
def test_what_is_no_tick_of_the_symbol_is_said_to_be_none(payload: bytes) -> None:
    with pytest.raises(ReportError, match="tick"):
        StateTable().take_tick("BTCUSDT", payload, 0)


# --- status --------------------------------------------------------------------------------------


def status(lease: bytes | None, meta: list[bytes | None], now_ms: int = 5000) -> State | None:
    return _status("BTCUSDT", lease, meta, now_ms, 0)


def test_a_symbols_status_is_who_writes_it_and_what_was_written() -> None:
    found = status(b"node-a|i1|9", [b"8", b"3", b"4000"])
    assert found is not None
    assert json.loads(found.data) == {
        "symbol": "BTCUSDT",
        "writer": {"node_id": "node-a", "token": 9},
        "report": {"token": 8, "seq": 3, "updated_at": 4000},
    }
    assert found.order == (9, 5000)
    assert found.age_now_ms(6000) == 2000


@pytest.mark.parametrize(
    ("lease", "meta"),
    [
        (None, [None, None, None]),
        (b"nonsense", [None, None, None]),
        (None, [b"x", b"1", b"1"]),
    ],
)
def test_where_nothing_is_known_of_a_symbol_there_is_no_status(
    lease: bytes | None, meta: list[bytes | None]
) -> None:
    assert status(lease, meta) is None


def test_a_status_is_new_when_it_says_something_else() -> None:
    table = StateTable()
    first = status(b"a|1|9", [b"9", b"3", b"4000"])
    same = status(b"a|1|9", [b"9", b"3", b"4000"], 6000)
    free = status(None, [b"9", b"3", b"4000"], 7000)
    assert first is not None
    assert same is not None
    assert free is not None
    assert [len(table.take_status(s)) for s in (first, same, free)] == [1, 0, 1]
