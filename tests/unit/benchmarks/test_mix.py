"""The standard mix keeps its promises, so that figures of two runs can be compared."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from benchmarks import mix
from streams import events
from streams.events import BookDelta, Trade
from tables.engine import Engine

COUNT = 12_000


@pytest.fixture(scope="module")
def keyed() -> list[mix.Keyed]:
    return list(mix.records(COUNT))


@pytest.fixture(scope="module")
def decoded(keyed: list[mix.Keyed]) -> list[events.Event]:
    return [events.decode(value) for _, value in keyed]


def digest(keyed: list[mix.Keyed]) -> str:
    return hashlib.sha256(b"\n".join(key + value for key, value in keyed)).hexdigest()


def test_one_seed_gives_the_same_bytes(keyed: list[mix.Keyed]) -> None:
    assert digest(list(mix.records(COUNT))) == digest(keyed)
    assert digest(list(mix.records(COUNT, seed=2))) != digest(keyed)


def test_engines_take_every_record_and_find_nothing_wrong(keyed: list[mix.Keyed]) -> None:
    by_key: dict[bytes, list[tuple[int, bytes]]] = defaultdict(list)
    for offset, (key, value) in enumerate(keyed):
        by_key[key].append((offset, value))
    assert len(by_key) == 15
    for key, records in by_key.items():
        engine = Engine(key.decode(), mix.VENUE)
        outcome = engine.apply(records)
        assert outcome.failures == []
        assert outcome.counts == Counter()
        assert outcome.applied == len(records)
        assert engine.book.state == "ok"
        assert engine.book.bids.prices[-1] < engine.book.asks.prices[0]


def test_shares_are_as_promised(decoded: list[events.Event]) -> None:
    kinds = Counter(events.kind_of(event) for event in decoded)
    assert kinds["instrument"] == kinds["book_snapshot"] == 15
    assert kinds["book_delta"] / COUNT == pytest.approx(0.8, abs=0.02)
    assert kinds["trade"] / COUNT == pytest.approx(0.2, abs=0.02)
    changes = [len(e.bids) + len(e.asks) for e in decoded if isinstance(e, BookDelta)]
    assert sum(changes) / len(changes) == pytest.approx(4.0, abs=0.15)


def test_trades_are_at_the_touch(keyed: list[mix.Keyed]) -> None:
    engines: dict[bytes, Engine] = {}
    for offset, (key, value) in enumerate(keyed):
        engine = engines.setdefault(key, Engine(key.decode(), mix.VENUE))
        event = events.decode(value)
        if isinstance(event, Trade):
            book = engine.book
            touch = book.asks.prices[0] if event.side == "buy" else book.bids.prices[-1]
            assert event.px == touch
        engine.apply([(offset, value)])


def test_every_field_of_the_contract_is_there(decoded: list[events.Event]) -> None:
    last_seq: Counter[str] = Counter()
    last_trade: dict[str, int] = {}
    for event in decoded:
        assert event.v == 1
        assert event.routing_version == 1
        assert event.feed == events.Feed(1, last_seq[event.symbol] + 1)
        last_seq[event.symbol] += 1
        assert 0 <= event.ts_recv_ms - event.ts_event_ms <= 20
        if isinstance(event, Trade):
            assert event.trade_id is not None
            assert event.event_id == f"binance:{event.symbol}:{event.trade_id}"
            assert event.trade_id == last_trade.get(event.symbol, event.trade_id - 1) + 1
            last_trade[event.symbol] = event.trade_id
        if isinstance(event, BookDelta):
            assert event.seq is not None


def test_record_time_runs_at_the_promised_rate(decoded: list[events.Event]) -> None:
    seconds = (decoded[-1].ts_recv_ms - decoded[0].ts_recv_ms) / 1000
    assert COUNT / seconds == pytest.approx(mix.EVENTS_PER_S, rel=0.01)


def test_books_are_written_again_every_five_minutes() -> None:
    """At ten events a second, two symbols."""
    decoded = [events.decode(v) for _, v in mix.records(7_000, symbol_count=2, events_per_s=10)]
    refreshed = [e for e in decoded if getattr(e, "reason", "") == "refresh"]
    assert len(refreshed) == 4


def test_a_file_is_made_once_and_read_as_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mix, "CACHE", tmp_path)
    made = mix.cached(500, symbol_count=3)
    assert list(made) == list(mix.records(500, symbol_count=3))
    assert made.listings == "binance:BTCUSDT,binance:ETHUSDT,binance:SOLUSDT"
    written = made.path.stat().st_mtime_ns
    assert mix.cached(500, symbol_count=3).path.stat().st_mtime_ns == written


def test_symbols_beyond_the_real_ones_are_numbered() -> None:
    names = mix.symbols(200)
    assert len(set(names)) == 200
    assert names[0] == "BTCUSDT"
