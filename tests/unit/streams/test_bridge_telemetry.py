"""What a bridge tells operators, and that log and record say it under one id."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from streams.bridge_telemetry import BridgeTelemetry
from streams.events import FeedStatus
from streams.sources import SourceCounts
from streams.venues.base import AssemblerCounts, LateEvent
from tapeline.clock import ManualClock


class Told:
    """A bridge's telemetry, a source and a line that can be anything."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.clock = ManualClock(1_723_100_000_000)
        self.ops = BridgeTelemetry(
            lambda _, value: self.records.append(json.loads(value)), node_id="b1", clock=self.clock
        )
        self.counts, self.assembler_counts = SourceCounts(), AssemblerCounts()
        self.line = SimpleNamespace(in_sync=True, lost="")
        self.feeds: Any = {"kraken": SimpleNamespace(lines={"BTCUSD": self.line})}
        self.source: Any = SimpleNamespace(
            counts=self.counts,
            assembler=SimpleNamespace(venue="kraken", counts=self.assembler_counts),
        )

    def look(self) -> list[dict[str, Any]]:
        before = len(self.records)
        self.ops.look([self.source], self.feeds)
        return self.records[before:]


@pytest.fixture
def told() -> Told:
    return Told()


def gap(reason: str) -> FeedStatus:
    return FeedStatus(
        venue="kraken",
        symbol="BTCUSD",
        ts_event_ms=1,
        ts_recv_ms=1,
        status="gap",
        reason=reason,
        detail="why",
    )


def test_a_resync_and_the_book_that_comes_are_one_trace(told: Told) -> None:
    told.line.in_sync = False
    with capture_logs() as logs:
        told.ops.gap(gap("checksum"))
        assert told.look() == []
        told.clock.advance(400)
        told.line.in_sync = True
        told.look()
    failed, resync, synced = told.records
    assert (failed["event"], failed["provider"], failed["symbol"]) == (
        *("checksum.failed", "kraken", "BTCUSD"),
    )
    assert (resync["event"], resync["reason"], resync["detail"]) == (
        "book.resync",
        "checksum",
        "why",
    )
    assert (synced["event"], synced["took_ms"]) == ("book.synced", 400)
    assert failed["trace_id"] == resync["trace_id"] == synced["trace_id"]
    assert len({one["decision_id"] for one in told.records}) == 3
    for record, said in ((failed, logs[0]), (resync, logs[1]), (synced, logs[2])):
        assert said["event"] == record["event"]
        assert (said["trace_id"], said["decision_id"]) == (
            record["trace_id"],
            record["decision_id"],
        )
    told.ops.gap(gap("sequence"))
    assert told.records[-1]["trace_id"] != resync["trace_id"], "another episode"


def test_a_line_that_lost_records_is_not_right_before_its_readers_are_told(told: Told) -> None:
    told.line.lost = "broker_outage"
    told.ops.resync("kraken", "BTCUSD", "broker_outage", dropped=7)
    assert told.records[0]["dropped"] == 7
    assert told.look() == []
    told.line.lost = ""
    assert [one["event"] for one in told.look()] == ["book.synced"]


def test_a_symbol_followed_no_more_is_never_said_to_be_right(told: Told) -> None:
    told.ops.gap(gap("sequence"))
    del told.feeds["kraken"].lines["BTCUSD"]
    assert told.look() == []


def test_what_is_only_counted_is_told_by_how_much(told: Told) -> None:
    told.counts.reconnects["lost"] += 2
    told.counts.reconnects["refused"] += 1
    told.counts.errors += 3
    told.assembler_counts.trade_duplicates += 5
    told.assembler_counts.sequence_gaps += 1
    told.assembler_counts.stale += 4
    told.assembler_counts.trades_missing += 6
    told.counts.requests_refused[429] += 2
    found = [(one["event"], one.get("reason", ""), one["count"]) for one in told.look()]
    assert found == [
        ("ws_resubscribe", "lost", 2),
        ("ws_connect.refused", "refused", 1),
        ("duplicate_event.dropped", "", 5),
        ("trade.missing", "", 6),
        ("stale_event.dropped", "", 4),
        ("sequence.gap", "", 1),
        ("request.refused", "", 2),
        ("frame.refused", "", 3),
    ]
    assert told.look() == []
    told.counts.reconnects["lost"] += 1
    assert [one["count"] for one in told.look()] == [1]
    assert told.ops.telemetry.made["ws_resubscribe", "kraken"] == 2


def test_late_events_are_told_one_by_one(told: Told) -> None:
    told.assembler_counts.came_late(LateEvent("BTCUSD", "trade", 77, 12))
    (late,) = told.look()
    assert {name: late[name] for name in ("event", "provider", "symbol", "seq_provider")} == {
        "event": "late_event.dropped",
        "provider": "kraken",
        "symbol": "BTCUSD",
        "seq_provider": 77,
    }
    assert (late["kind"], late["lateness_ms"], late["stage"]) == ("trade", 12, "bridge")
    assert told.look() == []


def test_leases_and_outages_are_told(told: Told) -> None:
    with capture_logs() as logs:
        told.ops.granted("kraken", "BTCUSD", 9)
        told.ops.lease_lost("kraken", "BTCUSD", 9)
        told.ops.backpressure(4_000, 2_100)
    assert [(one["event"], one.get("token")) for one in told.records] == [
        ("feed.granted", 9),
        ("feed.lease_lost", 9),
        ("backpressure.triggered", None),
    ]
    assert told.records[2]["stream_key"] == "outbox"
    assert told.records[2]["buffer_depth"] == 4_000
    for name in ("decision_id", "trace_id"):
        assert [one[name] for one in told.records] == [one[name] for one in logs]
