"""Entries of Redis Streams as events, and what is gone of them."""

from __future__ import annotations

from typing import Any

import pytest

from serving.hub.event_feed import read_entries
from serving.hub.events import _pairs, gap


def entry(id_: str, value: bytes, field: bytes = b"event") -> tuple[bytes, dict[bytes, bytes]]:
    return id_.encode(), {field: value}


def test_raw_events_are_told_apart_by_kind() -> None:
    found, unreadable = read_entries(
        "events",
        [
            entry("1-1", b'{"kind":"trade","venue":"kraken","px":1}'),
            entry("1-2", b'{"kind":"book_delta","venue":"kraken"}'),
            entry("1-3", b'{"kind":"kline","venue":"binance"}'),
            entry("1-4", b"nonsense"),
            entry("1-5", b'{"kind":"trade","note":"\xff"}'),
            (b"1-6", {}),
        ],
    )
    assert unreadable == 3
    assert set(found) == {"trades", "klines"}
    (trade,) = found["trades"]
    assert (trade.order, trade.venue, trade.cursor) == ((1, 1), "kraken", "1-1")
    assert trade.data == b'{"kind":"trade","venue":"kraken","px":1}'


def test_all_entries_of_another_stream_are_of_its_channel_whatever_their_field() -> None:
    found, _ = read_entries("executions", [entry("5-0", b'{"order":1}', b"report")])
    assert [e.data for e in found["executions"]] == [b'{"order":1}']


def info(last: str, first: str | None, length: int, added: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "last-generated-id": last.encode(),
        "first-entry": None if first is None else (first.encode(), {}),
        "length": length,
    }
    return found if added is None else {**found, "entries-added": added}


@pytest.mark.parametrize(
    ("known", "cursor", "goes_on", "lost"),
    [
        pytest.param(None, (0, 0), (0, 0), False, id="no-stream-and-nothing-seen"),
        pytest.param(None, (5, 1), (0, 0), True, id="deleted"),
        pytest.param(info("9-1", "1-1", 9, 9), (5, 1), (5, 1), False, id="whole"),
        pytest.param(info("9-1", "1-1", 9, 9), (0, 0), (0, 0), False, id="whole-from-the-start"),
        pytest.param(info("9-1", "6-1", 4, 9), (5, 1), (5, 1), True, id="maybe-cut"),
        pytest.param(info("9-1", "4-1", 6, 9), (5, 1), (5, 1), False, id="cut-before-it"),
        pytest.param(info("9-1", "5-1", 5, 9), (5, 1), (5, 1), False, id="cut-right-before-it"),
        pytest.param(info("9-1", None, 0, 9), (5, 1), (5, 1), True, id="cut-altogether"),
        pytest.param(info("9-1", None, 0, 9), (9, 1), (9, 1), False, id="cut-and-all-seen"),
        pytest.param(info("9-1", "6-1", 4, None), (5, 1), (5, 1), True, id="an-older-redis"),
        pytest.param(info("3-1", "1-1", 3, 3), (5, 1), (0, 0), True, id="made-anew"),
    ],
)
def test_what_is_gone(
    known: Any, cursor: tuple[int, int], goes_on: tuple[int, int], lost: bool
) -> None:
    assert gap(known, cursor) == (goes_on, lost)


def test_either_form_of_an_answer_is_read() -> None:
    rows = [entry("1-1", b"{}")]
    for answer in ([[b"events:A", rows]], {b"events:A": [rows]}, {"events:A": rows}):
        assert _pairs(answer) == [("events:A", rows)]
    assert _pairs({}) == _pairs(None) == []
