"""A recording in the sockets' place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from streams.events import BookDelta, Event, FeedStatus, decode
from streams.feeds import Feeds, OutRecord
from streams.sources import RefusedFrame
from streams.tape_source import TapeSource
from tapeline.errors import ConfigError

START_S = 1_700_000_000.0


def write_tape(path: Path, diffs: int, *, quiet_s: float = 0.1) -> Path:
    """A snapshot, then diffs ``quiet_s`` apart, in our own capture format."""
    ts = START_S
    lines: list[dict[str, object]] = [
        {"t": "header", "venue": "binance", "version": 1},
        {
            "t": "connect",
            "conn": "a",
            "ts": ts,
            "url": "wss://x/stream?streams=btcusdt@depth@100ms",
        },
        {
            "t": "http",
            "ts": ts,
            "url": "https://x/api/v3/depth?symbol=BTCUSDT&limit=1000",
            "status": 200,
            "data": json.dumps(
                {"lastUpdateId": 100, "bids": [["100.00", "1.0"]], "asks": [["101.00", "1.0"]]}
            ),
        },
    ]
    for n in range(diffs):
        ts += quiet_s
        data = {
            "e": "depthUpdate",
            "E": round(ts * 1000),
            "s": "BTCUSDT",
            "U": 101 + n,
            "u": 101 + n,
            "b": [["99.00", f"{n + 1}.0"]],
            "a": [],
        }
        frame = json.dumps({"stream": "btcusdt@depth@100ms", "data": data}, separators=(",", ":"))
        lines.append({"t": "recv", "conn": "a", "ts": ts, "data": frame})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


class Sink:
    """Feeds behind a source, as the bridge would have them."""

    def __init__(self, source: TapeSource, token: int) -> None:
        self.feeds = Feeds(
            source.assembler, partitions=8, alive_period_ms=500, snapshot_period_ms=3_000
        )
        self.token = token
        self.records: list[OutRecord] = []
        self.waits = 0

    def accept(self, venue: str, events: Iterable[Event]) -> None:
        self.records += self.feeds.accept(events)

    def tick(self, venue: str, now_ms: int, *, live: bool) -> None:
        self.records += self.feeds.tick(now_ms, live=live)

    def unlisted(self, venue: str, symbol: str) -> None:
        raise AssertionError

    def frame_refused(self, venue: str, refused: RefusedFrame) -> None:
        raise AssertionError

    async def ready(self, venue: str) -> None:
        for symbol in self.feeds.lines:
            self.records += self.feeds.granted(symbol, self.token, 0)

    async def room(self) -> None:
        self.waits += 1


async def played(path: Path, token: int = 1) -> tuple[Sink, TapeSource]:
    source = TapeSource("binance", [path])
    sink = Sink(source, token)
    await source.run(sink)
    return sink, source


async def test_a_tape_becomes_records_with_its_own_times(tmp_path: Path) -> None:
    sink, source = await played(write_tape(tmp_path / "t.jsonl", 20))
    events = [record.kind for record in sink.records]
    assert events.count("book_delta") == 20
    assert events.count("instrument") >= 1
    assert source.counts.frames == 20
    assert source.counts.errors == 0
    times = [decode(r.value).ts_recv_ms for r in sink.records]
    assert times == sorted(times)
    assert START_S * 1000 <= times[0] <= times[-1] == round((START_S + 2.0) * 1000)
    deltas = [e for r in sink.records if isinstance(e := decode(r.value), BookDelta)]
    assert [d.seq for d in deltas] == [*range(101, 121)]


async def test_the_same_tape_gives_the_same_records_every_time(tmp_path: Path) -> None:
    path = write_tape(tmp_path / "t.jsonl", 60, quiet_s=0.3)
    first, _ = await played(path)
    second, _ = await played(path)
    assert first.records == second.records


async def test_signs_of_life_and_snapshots_follow_the_tape_s_time(tmp_path: Path) -> None:
    sink, _ = await played(write_tape(tmp_path / "t.jsonl", 10, quiet_s=2.0))
    events = [decode(record.value) for record in sink.records]
    refreshes = [r for r in sink.records if r.kind == "book_snapshot"]
    assert 6 <= len(refreshes) <= 8  # one to begin with, then one in 3 s of 20
    ends = [e for e in events if isinstance(e, FeedStatus) and e.status == "disconnected"]
    assert ends == [], "the tape's end is not the venue's"


async def test_a_long_tape_looks_for_room_now_and_then(tmp_path: Path) -> None:
    sink, _ = await played(write_tape(tmp_path / "t.jsonl", 1_000))
    assert sink.waits >= 5


def test_a_venue_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nasdaq"):
        TapeSource("nasdaq", [write_tape(tmp_path / "t.jsonl", 1)])


def test_symbols_are_found_on_the_tape(tmp_path: Path) -> None:
    source = TapeSource("binance", [write_tape(tmp_path / "t.jsonl", 1)])
    assert [listing.symbol for listing in source.listings] == ["BTCUSDT"]
