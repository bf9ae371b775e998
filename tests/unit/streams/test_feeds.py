"""Feeds: what a venue's events become on their way to the topic."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.events import BookSnapshot, Feed, Trade, decode, encode, stamp
from streams.feeds import ASIDE_MAX, ASIDE_MS, RECORD_BYTES_MAX, Feeds, OutRecord, split_snapshot
from streams.topics import partition_of
from tests.support.bridge import NOW_MS, FakeAssembler, delta, shown, snapshot, status, trade

ALIVE_MS, SNAPSHOT_MS = 500, 60_000
BTC, ETH = "BTCUSDT", "ETHUSDT"


def feeds_of(*symbols: str) -> tuple[Feeds, FakeAssembler]:
    assembler = FakeAssembler(symbols=symbols or (BTC, ETH))
    feeds = Feeds(
        assembler, partitions=64, alive_period_ms=ALIVE_MS, snapshot_period_ms=SNAPSHOT_MS
    )
    return feeds, assembler


def running(*symbols: str) -> tuple[Feeds, FakeAssembler]:
    """Connected, granted, in sync, and the clock started."""
    feeds, assembler = feeds_of(*symbols or (BTC,))
    assembler.books.update(assembler.symbols())
    for symbol in assembler.symbols():
        feeds.accept([status(symbol, "connected")])
        feeds.granted(symbol, 7, NOW_MS)
    feeds.tick(NOW_MS, live=True)
    return feeds, assembler


def test_a_line_without_a_token_is_mute() -> None:
    feeds, _ = feeds_of()
    assert feeds.accept([delta(BTC), trade(ETH, 1)]) == []
    assert feeds.tick(NOW_MS, live=True) == []
    assert feeds.muted == 1  # the trade is kept aside


def test_a_line_that_gets_a_token_begins_with_what_happened_in_the_last_seconds() -> None:
    feeds, assembler = feeds_of(BTC)
    assembler.books.add(BTC)
    feeds.accept([status(BTC, "connected")])
    for number, ago_ms in ((1, ASIDE_MS + 1), (2, ASIDE_MS), (3, 1)):
        feeds.accept([msgspec.structs.replace(trade(BTC, number), ts_recv_ms=NOW_MS - ago_ms)])
    records = feeds.granted(BTC, 7, NOW_MS)
    kinds = [record.kind for record in records]
    assert kinds == ["feed_status", "instrument", "trade", "trade", "book_snapshot"]
    events = [decode(record.value) for record in records]
    assert [event.trade_id for event in events if isinstance(event, Trade)] == [2, 3]
    assert [event.feed.seq for event in events] == [1, 2, 3, 4, 5]
    feeds.revoked(BTC)
    assert [record.kind for record in feeds.granted(BTC, 8, NOW_MS)][2:] == ["book_snapshot"]


def test_what_is_kept_aside_is_bounded() -> None:
    feeds, _ = feeds_of(BTC)
    feeds.accept([trade(BTC, number) for number in range(ASIDE_MAX + 3)])
    assert feeds.muted == 3
    assert len(feeds.lines[BTC].aside) == ASIDE_MAX


def test_a_record_carries_key_partition_token_and_seq() -> None:
    feeds, _ = feeds_of()
    feeds.granted(ETH, 42, NOW_MS)
    first, second = feeds.accept([trade(ETH, 1), delta(ETH)])
    assert first.key == ETH.encode()
    assert first.partition == partition_of(ETH, 64)
    assert (first.venue, first.symbol, first.kind) == ("fake", ETH, "trade")
    events = [decode(record.value) for record in (first, second)]
    seq = events[0].feed.seq
    assert [event.feed for event in events] == [Feed(42, seq), Feed(42, seq + 1)]
    assert events[0].v == 1
    assert events[0].routing_version >= 0


def test_a_new_token_is_followed_by_instrument_and_book() -> None:
    feeds, assembler = feeds_of()
    assembler.books.add(BTC)
    feeds.accept([status(BTC, "connected")])
    records = feeds.granted(BTC, 1, NOW_MS)
    assert shown(records) == ["connected:granted", "instrument", "snapshot:initial"]
    assert [decode(r.value).feed.seq for r in records] == [1, 2, 3]


def test_a_new_token_without_a_book_says_what_is_known() -> None:
    feeds, _ = feeds_of()
    assert shown(feeds.granted(BTC, 1, NOW_MS)) == ["instrument"]


def test_the_same_token_again_changes_nothing() -> None:
    feeds, _ = running()
    assert feeds.granted(BTC, 7, NOW_MS) == []
    assert feeds.lines[BTC].token == 7


def test_a_lost_lease_mutes_until_the_next_token_and_starts_the_sequence_anew() -> None:
    feeds, _ = running()
    feeds.revoked(BTC)
    assert feeds.accept([delta(BTC)]) == []
    records = feeds.granted(BTC, 9, NOW_MS)
    assert [decode(r.value).feed for r in records][:2] == [Feed(9, 1), Feed(9, 2)]


def test_alive_is_said_after_the_silence_and_not_before() -> None:
    feeds, _ = running()
    assert shown(feeds.tick(NOW_MS + ALIVE_MS - 1, live=True)) == []
    (record,) = feeds.tick(NOW_MS + ALIVE_MS, live=True)
    event = decode(record.value)
    assert (event.ts_recv_ms, event.status) == (NOW_MS + ALIVE_MS, "alive")  # type: ignore[union-attr]
    assert shown(feeds.tick(NOW_MS + 2 * ALIVE_MS - 1, live=True)) == []


def test_events_put_off_the_next_alive() -> None:
    feeds, _ = running()
    feeds.accept([delta(BTC, NOW_MS + 400)])
    assert feeds.tick(NOW_MS + 600, live=True) == []
    assert shown(feeds.tick(NOW_MS + 900, live=True)) == ["alive"]


def test_a_venue_without_signs_of_life_is_stale_once_and_alive_when_it_is_back() -> None:
    feeds, _ = running()
    assert shown(feeds.tick(NOW_MS + 5_000, live=False)) == ["stale:no_pong"]
    assert feeds.tick(NOW_MS + 6_000, live=False) == []
    assert shown(feeds.tick(NOW_MS + 6_001, live=True)) == ["alive"]


def test_nothing_is_alive_while_disconnected() -> None:
    feeds, _ = running()
    feeds.accept([status(BTC, "disconnected", reason="closed")])
    assert not feeds.connected
    assert feeds.tick(NOW_MS + 5_000, live=False) == []
    assert feeds.tick(NOW_MS + 9_000, live=True) == []


def test_a_clock_set_back_does_not_silence_a_line() -> None:
    feeds, _ = running()
    assert "alive" in shown(feeds.tick(NOW_MS - 3_600_000, live=True))
    assert feeds.tick(NOW_MS - 3_600_000 + 100, live=True) == []


def test_books_are_repeated_each_period_and_not_all_at_once() -> None:
    symbols = [f"SYM{n}" for n in range(20)]
    feeds, _ = running(*symbols)
    seen: dict[str, list[int]] = {symbol: [] for symbol in symbols}
    for now_ms in range(NOW_MS, NOW_MS + 3 * SNAPSHOT_MS, 100):
        for record in feeds.tick(now_ms, live=False):
            if record.kind == "book_snapshot":
                seen[record.symbol].append(now_ms)
                assert decode(record.value).reason == "refresh"  # type: ignore[union-attr]
    for times in seen.values():
        assert len(times) == 3
        assert {b - a for a, b in itertools.pairwise(times)} == {SNAPSHOT_MS}
    assert len({times[0] for times in seen.values()}) > 15


def test_a_repeated_book_comes_with_its_instrument_first() -> None:
    feeds, _ = running()
    records = feeds.tick(NOW_MS + SNAPSHOT_MS, live=False)
    assert shown(records)[-2:] == ["instrument", "snapshot:refresh"]


def test_lost_records_are_told_as_a_gap_then_the_whole_book() -> None:
    feeds, _ = running()
    feeds.lost(BTC)
    assert feeds.accept([delta(BTC), trade(BTC, 1)]) == []
    assert feeds.dropped[BTC] == 2
    assert feeds.tick(NOW_MS + 50, live=True, writable=lambda _: False) == []
    records = feeds.tick(NOW_MS + 60, live=True)
    assert shown(records) == ["gap:broker_outage", "instrument", "snapshot:resync"]
    assert shown(feeds.accept([delta(BTC, NOW_MS + 61)])) == ["book_delta"]
    assert feeds.gaps[BTC] == 1


def test_lost_records_of_a_line_whose_venue_is_gone_end_in_disconnected() -> None:
    feeds, assembler = running()
    feeds.lost(BTC, "record_refused")
    assembler.books.clear()
    feeds.accept([status(BTC, "disconnected", reason="closed")])
    records = feeds.tick(NOW_MS + 60, live=False)
    assert shown(records) == ["gap:record_refused", "instrument", "disconnected:record_refused"]


def test_only_the_line_that_lost_records_is_muted() -> None:
    feeds, _ = running(BTC, ETH)
    feeds.lost(BTC)
    assert [r.symbol for r in feeds.accept([delta(BTC), delta(ETH)])] == [ETH]


def test_a_symbol_that_is_not_listed_says_nothing() -> None:
    feeds, _ = feeds_of()
    feeds.close(BTC)
    assert feeds.granted(BTC, 1, NOW_MS) == []
    assert feeds.tick(NOW_MS, live=True) == []


def test_gaps_of_the_assembler_are_counted_and_handed_to_the_log() -> None:
    feeds, _ = running()
    feeds.accept([status(BTC, "gap", reason="sequence")])
    assert feeds.gaps[BTC] == 1
    assert [gap.reason for gap in feeds.told] == ["sequence"]
    assert not feeds.lines[BTC].in_sync
    feeds.accept([snapshot(BTC)])
    assert feeds.lines[BTC].in_sync


levels = st.lists(st.tuples(st.integers(1, 2**62), st.integers(0, 2**62)), min_size=0, max_size=120)


@given(bids=levels, asks=levels, limit=st.integers(700, 4_000))
def test_parts_join_to_the_whole_and_each_fits(
    bids: list[tuple[int, int]], asks: list[tuple[int, int]], limit: int
) -> None:
    whole = snapshot(BTC, bids, asks)
    parts = split_snapshot(whole, limit)
    assert [(p.part, p.parts) for p in parts] == [(n + 1, len(parts)) for n in range(len(parts))]
    assert [level for p in parts for level in p.bids] == bids
    assert [level for p in parts for level in p.asks] == asks
    for part in parts:
        stamp(part, Feed(2**53, 2**53), 1)
        assert len(encode(part)) <= limit
    one = msgspec.structs.replace(whole, v=1, feed=Feed(2**53, 2**53), routing_version=2**53)
    if len(encode(one)) <= limit // 2:
        assert len(parts) == 1


@pytest.mark.parametrize(("side", "parts"), [(1_000, 1), (23_000, 4)])
def test_a_real_size_book_is_split_at_256_kb(side: int, parts: int) -> None:
    feeds, _ = running()
    book = snapshot(
        BTC,
        [(6_400_000 - n, 1_234_567 + n) for n in range(side)],
        [(6_400_001 + n, 7_654_321 + n) for n in range(side)],
    )
    records = feeds.accept([book])
    assert len(records) == parts
    assert max(len(record.value) for record in records) <= RECORD_BYTES_MAX
    seqs = [decode(record.value).feed.seq for record in records]
    assert seqs == [*range(seqs[0], seqs[0] + parts)]


class Reader:
    """Holds every record against the contract of token and seq."""

    def __init__(self) -> None:
        self.seen: dict[str, Feed] = {}

    def read(self, records: list[OutRecord]) -> None:
        for record in records:
            feed = decode(record.value).feed
            last = self.seen.get(record.symbol)
            if last is None or feed.token > last.token:
                assert feed.seq == 1
            else:
                assert feed == Feed(last.token, last.seq + 1)
            self.seen[record.symbol] = feed


steps = st.lists(
    st.sampled_from(["delta", "snapshot", "tick", "dead", "grant", "revoke", "lose", "blocked"]),
    max_size=60,
)


@settings(max_examples=200)
@given(steps=steps, symbols=st.sampled_from([(BTC,), (BTC, ETH)]))
def test_whatever_happens_each_token_has_a_contiguous_sequence(
    steps: list[str], symbols: tuple[str, ...]
) -> None:
    feeds, assembler = feeds_of(*symbols)
    assembler.books.update(symbols)
    reader, token, now_ms = Reader(), 0, NOW_MS
    for symbol in symbols:
        reader.read(feeds.accept([status(symbol, "connected")]))
    for n, step in enumerate(steps):
        symbol = symbols[n % len(symbols)]
        now_ms += 300
        if step == "delta":
            reader.read(feeds.accept([delta(symbol, now_ms), trade(symbol, n, now_ms)]))
        elif step == "snapshot":
            reader.read(feeds.accept([snapshot(symbol, now_ms=now_ms)]))
        elif step in ("tick", "dead", "blocked"):
            now_ms += SNAPSHOT_MS // 3
            reader.read(
                feeds.tick(now_ms, live=step != "dead", writable=lambda _, s=step: s != "blocked")
            )
        elif step == "grant":
            token += 1
            reader.read(feeds.granted(symbol, token, now_ms))
        elif step == "revoke":
            feeds.revoked(symbol)
        else:
            feeds.lost(symbol)
    assert {s: feed.seq for s, feed in reader.seen.items()} == {
        line.symbol: line.seq for line in feeds.lines.values() if line.symbol in reader.seen
    }


def test_a_book_that_is_too_large_for_one_record_is_read_back_as_it_was() -> None:
    feeds, _ = running()
    bids = [(10_000_000 - n, n + 1) for n in range(20_000)]
    parts = [decode(r.value) for r in feeds.accept([snapshot(BTC, bids, [])])]
    assert all(isinstance(part, BookSnapshot) for part in parts)
    joined = [level for part in parts for level in part.bids]  # type: ignore[union-attr]
    assert joined == bids


def test_a_lively_line_says_with_each_snapshot_that_it_is_alive() -> None:
    """It is never silent, so it would never say so; readers forget what is 30 minutes old."""
    feeds, _ = running()
    told: list[int] = []
    for now_ms in range(NOW_MS, NOW_MS + 3 * SNAPSHOT_MS, 100):
        feeds.accept([delta(BTC, now_ms)])
        records = feeds.tick(now_ms, live=True)
        told += [now_ms for name in shown(records) if name.startswith("alive")]
        if records:
            assert shown(records) == ["instrument", "snapshot:refresh", "alive:refresh"]
    assert len(told) == 3
