"""Whose windows are merged, and what is said of those that are not written."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from agents.merging import Merging
from agents.side_metrics import SideMetrics
from agents.side_topics import SideTopics
from streams.merged import Merge, decode
from streams.telemetry import Telemetry
from tapeline.clock import ManualClock
from tests.support.batches import batch
from tests.support.tape import SYMBOL, Tape

VENUES = ("binance", "kraken")


class Node:
    """A node that writes the symbol, or does not, and what it has written."""

    def __init__(self) -> None:
        self.ours, self.now_token, self.end = True, 9, 0
        self.clock = ManualClock(1_723_100_000_000)
        self.written: list[tuple[bytes, bytes]] = []
        self.told: list[dict[str, Any]] = []
        self.copied: list[tuple[str, int, bytes]] = []
        self.telemetry = Telemetry(
            lambda _, value: self.told.append(json.loads(value)),
            component="worker",
            node_id="n1",
            clock=self.clock,
        )
        self.merging = Merging(
            self,
            lambda *record: self.written.append(record),
            self.telemetry,
            self.clock,
            lambda: 0,
            lambda _: self.end,
            lambda *window: self.copied.append(window),
        )
        self.merging.follow([Merge(SYMBOL, "trade", VENUES, 1.0, 1000)])
        self.tapes = {
            "binance": Tape(venue="binance"),
            "kraken": Tape(venue="kraken"),
        }
        self.offset = 0
        self.begin()

    def begin(self) -> None:
        """What comes first is passed over: it was there already."""
        self.merging.take(batch(0, [Record(self.offset, SYMBOL.encode(), b"{}")]))
        self.offset += 1

    def holds(self, symbol: str) -> bool:
        assert symbol == SYMBOL
        return self.ours

    def token(self, symbol: str) -> int:
        assert symbol == SYMBOL
        return self.now_token

    def trade(self, venue: str, wait_ms: int = 0) -> None:
        for tape in self.tapes.values():
            tape.wait(wait_ms)
        raw = self.tapes[venue].trade(6_000_000, 5)
        self.merging.take(batch(0, [Record(self.offset, SYMBOL.encode(), raw)]))
        self.offset += 1


class Record:
    def __init__(self, offset: int, key: bytes, value: bytes) -> None:
        self.offset, self.key, self.value = offset, key, value


def test_a_complete_window_is_written_under_the_writer_s_token() -> None:
    node = Node()
    node.trade("binance")
    node.trade("kraken", 10)
    node.trade("kraken", 990)
    ((key, value),) = node.written
    assert key == SYMBOL.encode()
    merged = decode(value)
    assert (merged.token, merged.counts) == (9, {"binance": 1, "kraken": 1})
    assert node.copied == [(SYMBOL, 9, value)]
    assert json.loads(bytes(merged.events[1]))["venue"] == "kraken"
    assert node.merging.counts == {(SYMBOL, "windows"): 1}
    assert node.told == []


def test_a_window_without_a_venue_and_a_late_event_are_told() -> None:
    node = Node()
    node.trade("binance")
    node.trade("binance", 1_000)
    node.tapes["kraken"].wait(-5)
    node.trade("kraken")
    assert node.written == []
    suppressed, late = node.told
    assert suppressed["event"] == "merge.suppressed_partial"
    assert suppressed["merge_key"] == f"{SYMBOL}:trade"
    assert (suppressed["missing_providers"], suppressed["events"]) == (["kraken"], 1)
    assert late["event"] == "late_event.dropped"
    assert (late["provider"], late["symbol"], late["lateness_ms"]) == ("kraken", SYMBOL, 5)
    for one in (suppressed, late):
        assert (one["component"], one["node_id"], one["v"]) == ("worker", "n1", 1)
        assert len(one["trace_id"]) == len(one["decision_id"]) == 32
    assert suppressed["decision_id"] != late["decision_id"]


def test_another_s_symbol_is_not_merged_and_what_was_open_is_given_up() -> None:
    node = Node()
    node.trade("binance")
    node.ours = False
    node.merging.lost(SYMBOL)
    node.trade("kraken")
    node.trade("binance")
    node.ours = True
    node.begin()
    node.trade("kraken", 100)
    node.clock.advance(5_000)
    node.merging.tick()
    assert node.written == []
    assert node.merging.counts == {(SYMBOL, "discarded"): 1, (SYMBOL, "suppressed_partial"): 1}
    assert node.told[0]["missing_providers"] == ["binance"]


def test_a_new_writer_begins_with_what_is_not_there_yet() -> None:
    """The one before may have written what is."""
    node = Node()
    node.merging.lost(SYMBOL)
    node.end = node.offset + 3
    for _ in range(3):
        node.trade("binance")
    node.trade("kraken")
    node.trade("binance", 20)
    node.trade("kraken", 1_000)
    ((_, value),) = node.written
    assert decode(value).first_offset == node.end


def test_a_lease_that_is_gone_by_the_end_of_a_window_writes_nothing() -> None:
    node = Node()
    node.trade("binance")
    node.trade("kraken")
    node.now_token = 0
    node.trade("kraken", 1_000)
    assert node.written == []
    assert node.merging.counts == {(SYMBOL, "discarded"): 2}


def test_what_nobody_asks_for_any_more_is_forgotten_with_its_counts() -> None:
    node = Node()
    node.trade("binance")
    node.trade("binance", 1_000)
    node.merging.follow([])
    node.trade("kraken")
    node.clock.advance(5_000)
    node.merging.tick()
    assert node.written == []
    assert not node.merging.counts


def test_the_clock_closes_what_no_event_closes() -> None:
    node = Node()
    node.trade("binance")
    node.trade("kraken")
    node.ours = False
    node.clock.advance(5_000)
    node.merging.tick()
    assert node.written == []
    node.ours = True
    node.merging.tick()
    assert len(node.written) == 1


def test_telemetry_that_comes_in_floods_is_counted_and_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.telemetry.BURST", 3.0)
    node = Node()
    for _ in range(5):
        node.telemetry.tell("a.flood")
    node.telemetry.tell("another")
    assert [one["event"] for one in node.told] == ["a.flood"] * 3 + ["another"]
    assert node.telemetry.made["a.flood", ""] == 3
    assert node.telemetry.suppressed["a.flood", ""] == 2
    node.clock.advance(1_000)
    node.telemetry.tell("a.flood")
    assert len(node.told) == 5


def test_all_of_it_is_in_the_metrics() -> None:
    node = Node()
    node.trade("binance")
    node.trade("binance", 1_000)
    topics = SideTopics(lambda: None)
    topics.known(["there"])
    topics.put("not there", b"", b"")
    owned = [SYMBOL]
    side = SideMetrics(node.merging, node.telemetry, topics, SimpleNamespace(owned=lambda: owned))

    def found() -> dict[tuple[str, ...], float]:
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in side.collect()
            for sample in family.samples
        }

    assert found() == {
        ("tapeline_symbol_owned", SYMBOL): 1,
        ("tapeline_merge_total", SYMBOL, "suppressed_partial"): 1,
        ("tapeline_telemetry_total", "merge.suppressed_partial", "", "written"): 1,
        ("tapeline_side_records_total", "not there", "dropped"): 1,
    }
    owned.clear()
    left = {name for name, *_ in found()}
    assert left == {"tapeline_telemetry_total", "tapeline_side_records_total"}
