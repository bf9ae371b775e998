"""The fast lane of frames: the same events, books, counts and refusals as without it."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.venues.base import HttpRequest
from streams.venues.binance import wire
from streams.venues.binance.assembler import BinanceAssembler
from tapeline.errors import FrameError
from tests.support.binance import (
    BTC,
    NOW_MS,
    Session,
    Venue,
    agg_trade,
    day_ticker,
    depth,
    kline,
    level,
    quote,
    snapshot_body,
    text,
    trade,
)

built = pytest.mark.skipif(
    wire.take is None, reason="no fast lane: it takes a C compiler and Python's headers"
)
pytestmark = built


def state_of(assembler: BinanceAssembler) -> tuple[Any, ...]:
    """All that the lane and the methods change."""
    feed = assembler._feeds[BTC.symbol]
    book = feed.depth.book
    return (
        assembler.counts,
        (feed._trade_id, feed._trade_ms, feed._quote_id, feed.depth.synced),
        (feed.depth._progress_ms, feed.depth._floor, feed.depth._held),
        (feed.depth._tops._recent, feed.depth._tops._pending),
        (feed.depth._ahead._messages, feed._ahead._messages, feed.depth._since),
        (feed.market.px.exponent, feed.market.sz.exponent),
        None if book is None else (book.seq, book.levels(), book.px_e, book.sz_e),
        None if book is None else (book.bids.sizes, book.asks.sizes),
    )


class Both:
    """Two sessions of the same life, one with the lane and one without.

    Attributes:
        taken: Frames that the lane took.
    """

    def __init__(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wire, "take", None)
            self.without = Session()
        self.quick = Session()
        assert wire.take is not None
        self._take = wire.take
        self.taken = 0
        self.quick.assembler._take = self._counted

    def _counted(self, lanes: Any, frame: Any, ts_recv_ms: int) -> Any:
        made = self._take(lanes, frame, ts_recv_ms)
        self.taken += made is not None
        return made

    def sync(self, **options: Any) -> None:
        assert self.quick.sync(**options) == self.without.sync(**options)

    def receive(self, frame: str | bytes) -> list[Any]:
        """Give both the same frame, and compare all there is."""
        told = [self._one(session, frame) for session in (self.quick, self.without)]
        assert told[0] == told[1], frame
        assert [type(event) for event in told[0]] == [type(event) for event in told[1]]
        assert state_of(self.quick.assembler) == state_of(self.without.assembler), frame
        for session in (self.quick, self.without):
            while "snapshot" in session.purposes():
                session.answer("snapshot", b"{}" if self.taken % 2 else b"", status=500)
                session.waiting.clear()
        return told[0]

    def wait(self, ms: int) -> None:
        assert self.quick.wait(ms) == self.without.wait(ms)
        assert state_of(self.quick.assembler) == state_of(self.without.assembler)

    @staticmethod
    def _one(session: Session, frame: str | bytes) -> list[Any]:
        try:
            return session.assembler.receive(frame, session.now_ms)
        except FrameError as refusal:
            return [str(refusal)]


def opened(exact: int = 9) -> Both:
    both = Both()
    both.sync(at=exact)
    for frame in (depth(10, 10), trade(1), quote(3)):
        both.receive(frame)  # the first of a stream finds its way, and makes its lane
    return both


def test_plain_frames_take_the_lane() -> None:
    both = opened()
    before = both.taken
    frames = [
        depth(11, 12, [level(99, 1), level(98, 0)], [level(102, 4)]),
        depth(13, 13),
        trade(2),
        trade(3, m=False),
        quote(12, (100, 5), (101, 5)),
        quote(20),
        quote(19),  # an older one: nothing comes of it
    ]
    for frame in frames:
        both.receive(frame)
    for frame in [depth(14, 14, [level(97, 3)]), trade(4), quote(21)]:
        both.receive(frame.encode())
    assert both.taken - before == len(frames) + 3


ODD = {
    "a gap": depth(15, 15),
    "a diff that is known": depth(9, 10),
    "a diff that overlaps": depth(5, 12, [level(99, 3)]),
    "ids that run backwards": depth(12, 11),
    "a book that crosses": depth(11, 11, [level(101, 3)]),
    "a price of zero": depth(11, 11, [["0.00000000", "1.00000000"]]),
    "a size below zero": depth(11, 11, [["1.00000000", "-1.00000000"]]),
    "no number": depth(11, 11, [["1.0x", "1.0"]]),
    "a number without its whole part": depth(11, 11, [[".5", "1.0"]]),
    "a number without its fraction": depth(11, 11, [["5.", "1.0"]]),
    "an empty number": depth(11, 11, [["", "1.0"]]),
    "short numbers": depth(11, 11, [["0.5", "1"]]),
    "a number of other digits": depth(11, 11, [["٣", "1"]]),
    "a number with zeros before it": depth(11, 11, [["000.50", "0001"]]),
    "a number too long": depth(11, 11, [["0" * 40 + "1", "1"]]),
    "the largest": depth(11, 11, [], [[text(2**62, 2), text(2**62, 5)]]),
    "one larger": depth(11, 11, [], [[text(2**62 + 1, 2), "1"]]),
    "far larger": depth(11, 11, [], [["9" * 30, "1"]]),
    "finer than the tick": depth(11, 11, [["0.00500000", "1.00000000"]]),
    "finer than the lot": trade(2, q="0.00000100"),
    "too fine": trade(2, p="1.000000001"),
    "a level of three": depth(11, 11, [["1.0", "1.0", "1.0"]]),
    "a level that is no list": depth(11, 11, ["1.0"]),
    "another's symbol": depth(11, 11, s="ETHUSDT"),
    "a time that can't be": depth(11, 11, E=NOW_MS - 60_001),
    "a time that just can": depth(11, 11, E=NOW_MS + 60_000),
    "a time below zero": trade(2, T=-1),
    "a trade's time that can't be": trade(2, T=NOW_MS + 60_001),
    "a trade that is known": trade(1),
    "a hole of trades": trade(5),
    "ids that begin anew": trade(0, T=NOW_MS + 2_000),
    "an id too large": trade(2**53),
    "an id that is no number": trade("2"),  # type: ignore[arg-type]
    "neither buyer nor seller": trade(2, m=None),
    "an aggregate": agg_trade(2, 3),
    "a quote of zero": quote(20, (0, 1)),
    "a quote that differs from the book": quote(10, (99, 5), (101, 5)),
    "a quote that equals the book": quote(10),
    "a day": day_ticker(),
    "a candle": kline(),
    "an order of its own": '{"stream":"btcusdt@bookTicker","data":{"s":"BTCUSDT","u":20,'
    '"b":"1.0","B":"1.0","a":"1.1","A":"1.0"}}',
    "spaces": '{"stream":"btcusdt@bookTicker","data":{"u":20, "s":"BTCUSDT",'
    '"b":"1.0","B":"1.0","a":"1.1","A":"1.0"}}',
    "more than is known": '{"stream":"btcusdt@bookTicker","data":{"u":20,"s":"BTCUSDT",'
    '"b":"1.0","B":"1.0","a":"1.1","A":"1.0","x":1}}',
    "something behind it": quote(20) + " ",
    "rubbish behind it": quote(20) + "x",
    "half of it": quote(20)[:-30],
    "nothing": "",
    "an unknown stream": quote(20).replace("btcusdt@", "dogeusdt@"),
    "a name without an end": '{"stream":"' + "b" * 100,
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_odd_comes_out_the_same(what: str) -> None:
    both = opened()
    both.receive(ODD[what])
    if what.startswith("a hole") or what == "a gap":
        both.wait(60)
    for frame in (
        depth(11, 13, [level(99, 2)]),
        trade(2),
        quote(13, (100, 5), (101, 5)),
        quote(21),
    ):
        both.receive(frame)


def test_while_a_book_is_checked_its_diffs_are_kept() -> None:
    both = opened()
    for session in (both.quick, both.without):
        session._took(session.assembler.resync(BTC.symbol, session.now_ms, "refresh"))
    before = both.taken
    for session in (both.quick, both.without):
        session.waiting.clear()
    both.receive(depth(11, 11, [level(99, 3)]))
    assert both.taken == before
    body = snapshot_body(10, [level(100, 5)], [level(101, 5)])
    request = HttpRequest("snapshot", "", BTC.venue_symbol)
    told = [
        s.assembler.http_response(request, 200, body, NOW_MS) for s in (both.quick, both.without)
    ]
    assert told[0] == told[1]
    both.receive(depth(12, 12, [level(99, 4)]))
    assert both.taken == before + 1


def test_a_quote_that_differs_counts_what_it_leads_to() -> None:
    both = opened()
    told = both.receive(ODD["a quote that differs from the book"])
    assert len(told) == 2
    assert both.quick.assembler.counts.events["feed_status"] == 2


@settings(deadline=None)
@given(
    levels=st.lists(
        st.lists(st.tuples(st.integers(1, 60), st.sampled_from([0, 0, 1, 2, 900])), max_size=30),
        min_size=1,
        max_size=12,
    ),
    order=st.sampled_from(["best first", "as they come", "worst first"]),
)
def test_levels_come_and_go_in_any_order(levels: list[list[tuple[int, int]]], order: str) -> None:
    both = Both()
    both.sync(at=9, bids=[level(px, 1) for px in range(60, 20, -3)], asks=[level(200, 1)])
    both.receive(depth(10, 10))
    for number, changes in enumerate(levels, 11):
        bids, asks = changes, [(130 - px, sz) for px, sz in changes]
        if order != "as they come":
            bids = sorted(dict(bids).items(), reverse=order == "best first")
            asks = sorted(dict(asks).items(), reverse=order != "best first")
        sides = [[level(*one) for one in side] for side in (bids, asks)]
        both.receive(depth(number, number, *sides))
    assert both.taken == len(levels)


changes = st.lists(
    st.tuples(st.sampled_from(["bid", "ask"]), st.integers(1, 25), st.sampled_from([0, 0, 1, 7])),
    min_size=4,
    max_size=40,
).map(lambda rows: [(side, (60 if side == "bid" else 95) + px, sz) for side, px, sz in rows])


@settings(max_examples=60, deadline=None)
@given(changes=changes, seed=st.integers(0, 2**32))
def test_any_life_comes_out_the_same(changes: list[tuple[str, int, int]], seed: int) -> None:
    """Diffs cut, lost, repeated and swapped, quotes and trades between, times off, bytes broken."""
    rng = random.Random(seed)
    venue = Venue(changes)
    both = Both()
    sides = [[level(px, sz) for px, sz in sorted(side.items())] for side in venue.states[0]]
    both.sync(at=0, bids=sides[0][::-1], asks=sides[1])
    frames: list[str] = []
    for frame in venue.diffs([n for n in range(1, venue.newest) if rng.random() < 0.6]):
        frames += [frame] * rng.choice([0, 1, 1, 1, 1, 1, 1, 1, 2])
    for at in range(1, venue.newest + 1):
        if rng.random() < 0.5 and all(venue.states[at]):
            frames.insert(rng.randint(0, len(frames)), venue.quote(at))
    number = 0
    for _ in range(10):
        number += rng.choice([0, 1, 1, 1, 1, 2])
        frames.insert(rng.randint(0, len(frames)), trade(number, T=NOW_MS + rng.randint(-9, 9)))
    for n in range(len(frames) - 1):
        if rng.random() < 0.1:
            frames[n], frames[n + 1] = frames[n + 1], frames[n]
    for frame in frames:
        wire_frame: str | bytes = frame
        if rng.random() < 0.1:
            raw = bytearray(frame, "utf-8")
            raw[rng.randrange(len(raw))] = rng.choice(b'0123456789.,"{}[]:x\x00\xff')
            wire_frame = bytes(raw)
        both.receive(wire_frame)
        if rng.random() < 0.2:
            both.wait(rng.choice([1, 60, 200]))


def test_frames_leave_no_memory_behind() -> None:
    both = Both()
    both.sync(at=10, bids=[level(9_000, 1)], asks=[level(11_000, 1)])
    both.receive(trade(10))
    assembler = both.quick.assembler

    def some(first: int) -> None:
        for n in range(first, first + 100):
            bids = [level(8_999 - k, (n + k) % 3) for k in range(9)]
            asks = [level(11_001 + k, (n + k) % 2) for k in range(9)]
            assembler.receive(depth(n, n, bids, asks), NOW_MS)
            assembler.receive(trade(n), NOW_MS)
            assembler.receive(quote(n, (9_000, 1), (11_000, 1)), NOW_MS)

    some(11)
    some(111)
    tracemalloc.start()
    try:
        some(211)
        before = tracemalloc.get_traced_memory()[0]
        for first in range(311, 1_311, 100):
            some(first)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert both.taken > 3_800
    assert assembler.counts.tops_equal == 1_300
    assert grown < 10_000, f"{grown} bytes more after 3,000 frames"
