"""The standard mix: the records that every consumer of a throughput benchmark reads.

Fifteen symbols, 80 % book deltas of four level changes on average, 20 % trades, every field of
the contract present, one event a record, JSON as the bridge writes it. Each symbol begins with
its instrument and a book of 400 levels a side, and its book is written again every five minutes
of record time, as a bridge does. All symbols together make 5,000 events a second of record time
by default. One seed gives the same bytes on every machine.

The market behind it is small but legal: a trade takes from the level it hits, the next delta
says what is left there, and where the level is used up the touch moves. So the book is never
crossed, and an engine finds neither a gap nor a record to refuse.

Records are kept as lines ``SYMBOL JSON`` in ``.cache/benchmarks``, made once.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streams import events
from streams.events import BookDelta, BookSnapshot, Event, Feed, Instrument, Trade

CACHE: Final = Path(__file__).parents[1] / ".cache" / "benchmarks"

VENUE: Final = "binance"
START_MS: Final = 1_700_000_000_000
SEED: Final = 15
RECORDS: Final = 2_000_000
EVENTS_PER_S: Final = 5_000
"""Of record time, all symbols together: the live load the product is designed for."""

DELTA_SHARE: Final = 0.8
CHANGES: Final = (1, 2, 3, 4, 5, 6, 7)
"""Level changes of one delta, all equally likely: four on average."""

DEPTH: Final = 400
REFRESH_MS: Final = 300_000
TOUCH_MOVES: Final = 0.08
"""Share of deltas that move the touch by a tick, trades that use up a level aside."""

FORMAT: Final = 1
"""Part of the file's name: raise it when the same options give other records."""

# Symbol, its price in ticks, its usual size in lots. Real ones, so that partitions are those of
# a real installation.
MARKETS: Final = (
    ("BTCUSDT", 6_000_000, 40_000),
    ("ETHUSDT", 250_000, 300_000),
    ("SOLUSDT", 15_000, 4_000),
    ("BNBUSDT", 58_000, 900),
    ("XRPUSDT", 52_000, 8_000),
    ("ADAUSDT", 38_000, 9_000),
    ("DOGEUSDT", 12_000, 30_000),
    ("AVAXUSDT", 26_000, 2_500),
    ("LINKUSDT", 11_000, 3_000),
    ("DOTUSDT", 45_000, 2_000),
    ("LTCUSDT", 6_500, 5_000),
    ("TRXUSDT", 13_000, 40_000),
    ("ATOMUSDT", 47_000, 1_500),
    ("NEARUSDT", 41_000, 2_200),
    ("UNIUSDT", 7_800, 1_100),
)

Keyed = tuple[bytes, bytes]
"""(key, value) of a record."""

Changed = tuple[dict[int, int], dict[int, int]]
"""New sizes of bids and of asks by price."""

_SIZES: Final = 4096


def symbols(count: int = len(MARKETS)) -> list[str]:
    """The first ``count`` symbols; beyond the real ones they are numbered."""
    return [_market(n)[0] for n in range(count)]


def listings(count: int = len(MARKETS)) -> str:
    """The same as a worker's ``SYMBOLS``."""
    return ",".join(f"{VENUE}:{symbol}" for symbol in symbols(count))


def _market(n: int) -> tuple[str, int, int]:
    if n < len(MARKETS):
        return MARKETS[n]
    _, price, size = MARKETS[n % len(MARKETS)]
    return f"X{n:03}USDT", price, size


class Market:
    """One symbol: its book, and the next event of it.

    Attributes:
        symbol: Whose.
        bids, asks: Size by price, in ticks and lots.
        bid, ask: The touch.
    """

    def __init__(self, symbol: str, price: int, usual_size: int, seed: int) -> None:
        self.symbol = symbol
        self.key = symbol.encode()
        self._random = chance = random.Random(f"{symbol}/{seed}")
        self._sizes = [max(1, int(usual_size * chance.lognormvariate(0, 1))) for _ in range(_SIZES)]
        self._usual_size = usual_size
        self._home = self.bid = price
        self.ask = price + 1
        self.bids = {price - n: self._size() for n in range(DEPTH)}
        self.asks = {self.ask + n: self._size() for n in range(DEPTH)}
        self.refreshed_ms = 0
        self._feed_seq = 0
        self._book_seq = 1_000_000
        self._trade_id = 500_000
        self._owed: dict[str, int] = {}  # side to price: traded since the last delta

    def _size(self) -> int:
        return self._sizes[int(self._random.random() * _SIZES)]

    def record(self, event: Event) -> Keyed:
        """The event as the next record of the symbol's feed."""
        self._feed_seq += 1
        events.stamp(event, Feed(1, self._feed_seq), 1)
        return self.key, events.encode(event)

    def instrument(self, now_ms: int) -> Event:
        """What it is made of."""
        return Instrument(
            venue=VENUE,
            symbol=self.symbol,
            ts_event_ms=now_ms,
            ts_recv_ms=now_ms,
            px_e=-2,
            sz_e=-5,
            tick_size=1,
            lot_size=1,
            status="trading",
            base=self.symbol.removesuffix("USDT"),
            quote="USDT",
        )

    def snapshot(self, now_ms: int, reason: str) -> Event:
        """The whole book."""
        self.refreshed_ms = now_ms
        return BookSnapshot(
            venue=VENUE,
            symbol=self.symbol,
            ts_event_ms=now_ms,
            ts_recv_ms=now_ms,
            seq=self._book_seq,
            px_e=-2,
            sz_e=-5,
            bids=sorted(((px, sz) for px, sz in self.bids.items() if sz), reverse=True),
            asks=sorted((px, sz) for px, sz in self.asks.items() if sz),
            reason=reason,
        )

    def next_event(self, now_ms: int, chance: random.Random) -> Event:
        """What comes next: mostly a delta."""
        if now_ms - self.refreshed_ms >= REFRESH_MS:
            return self.snapshot(now_ms, "refresh")
        return self.delta(now_ms) if chance.random() < DELTA_SHARE else self.trade(now_ms)

    def delta(self, now_ms: int) -> Event:
        """Some levels change; what a trade has left of a level is said first."""
        chance = self._random
        count = CHANGES[int(chance.random() * len(CHANGES))]
        changed: Changed = ({}, {})
        if self._owed:
            self._settle(changed)
        elif chance.random() < TOUCH_MOVES:
            # Drawn home, so that the book stays where there are levels.
            down = chance.random() < 0.5 + (self.bid - self._home) / DEPTH
            self._leave("bid" if down else "ask", changed)
        self._fill_up(changed, count)
        bids, asks = changed
        self._book_seq += len(bids) + len(asks)
        return BookDelta(
            venue=VENUE,
            symbol=self.symbol,
            ts_event_ms=now_ms - 1 - int(chance.random() * 20),
            ts_recv_ms=now_ms,
            seq=self._book_seq,
            px_e=-2,
            sz_e=-5,
            bids=[*bids.items()],
            asks=[*asks.items()],
        )

    def _settle(self, changed: Changed) -> None:
        """Say what trades have left of the levels they hit."""
        for side, px in self._owed.items():
            book, said = (self.bids, changed[0]) if side == "bid" else (self.asks, changed[1])
            if book[px]:
                said[px] = book[px]
            elif px == (self.bid if side == "bid" else self.ask):
                self._leave(side, changed)
            else:  # the other side's move has taken its place at the touch
                del book[px]
                said[px] = 0
        self._owed.clear()

    def _leave(self, side: str, changed: Changed) -> None:
        """The touch of a side is used up, and the other side follows by a tick."""
        bids, asks = changed
        if side == "bid":
            px = self.bid
            del self.bids[px]
            bids[px] = 0
            self.bid = next(p for p in range(px - 1, 0, -1) if p in self.bids)
            self.ask = px
            self.asks[px] = asks[px] = self._size()
        else:
            px = self.ask
            del self.asks[px]
            asks[px] = 0
            self.ask = next(p for p in range(px + 1, 2 * px) if p in self.asks)
            self.bid = px
            self.bids[px] = bids[px] = self._size()

    def _fill_up(self, changed: Changed, count: int) -> None:
        """Change levels until ``count`` have changed, most of them near the touch."""
        chance = self._random.random
        bid, ask = self.bid, self.ask
        bids, asks = changed
        while len(bids) + len(asks) < count:
            # Half of the changes within ten ticks of the touch, a few hundreds of ticks away.
            away = min(DEPTH - 1, int(10 / (chance() + 0.02) - 9.5)) if chance() < 0.8 else 0
            if chance() < 0.5:
                px, side, book = bid - away, bids, self.bids
            else:
                px, side, book = ask + away, asks, self.asks
            if px in side:
                continue
            if away and px in book and chance() < 0.3:
                del book[px]
                side[px] = 0
            else:
                book[px] = side[px] = self._size()

    def trade(self, now_ms: int) -> Event:
        """Somebody takes from the touch: a part of it, or, once in eight times, all."""
        chance = self._random
        buy = chance.random() < 0.5
        if not (self.asks[self.ask] if buy else self.bids[self.bid]):
            buy = not buy  # used up already
        px, book, side = (self.ask, self.asks, "ask") if buy else (self.bid, self.bids, "bid")
        there = book[px]
        size = max(1, int(self._usual_size * chance.expovariate(4)))
        if size >= there or chance.random() < 0.125:
            size = there
        book[px] = there - size
        self._owed[side] = px
        self._trade_id += 1
        return Trade(
            venue=VENUE,
            symbol=self.symbol,
            ts_event_ms=now_ms - 1 - int(chance.random() * 20),
            ts_recv_ms=now_ms,
            px_e=-2,
            sz_e=-5,
            px=px,
            sz=max(1, size),  # both sides used up: somebody found a hidden order
            side="buy" if buy else "sell",
            event_id=f"{VENUE}:{self.symbol}:{self._trade_id}",
            trade_id=self._trade_id,
        )


def markets(count: int = len(MARKETS), seed: int = SEED) -> list[Market]:
    """The first ``count`` symbols' markets, before their opening."""
    return [Market(*_market(n), seed) for n in range(count)]


def records(
    count: int = RECORDS,
    *,
    symbol_count: int = len(MARKETS),
    events_per_s: int = EVENTS_PER_S,
    seed: int = SEED,
) -> Iterator[Keyed]:
    """The mix, in the order it goes to the topic; the opening of each symbol is among ``count``."""
    feeds = markets(symbol_count, seed)
    chance = random.Random(seed)
    opening = [
        market.record(event)
        for market in feeds
        for event in (market.instrument(START_MS), market.snapshot(START_MS, "initial"))
    ]
    yield from opening[:count]
    for n in range(count - len(opening)):
        now_ms = START_MS + n * 1000 // events_per_s
        market = feeds[int(chance.random() * symbol_count)]
        yield market.record(market.next_event(now_ms, chance))


@dataclass(frozen=True, slots=True)
class MixFile:
    """Records on disk, to be read as often as need be.

    Attributes:
        path: Lines of ``SYMBOL JSON``.
        count: How many.
        listings: What a worker is told to follow.
    """

    path: Path
    count: int
    listings: str

    def __iter__(self) -> Iterator[Keyed]:
        with self.path.open("rb") as lines:
            for line in lines:
                key, _, value = line.rstrip(b"\n").partition(b" ")
                yield key, value


def cached(
    count: int = RECORDS,
    *,
    symbol_count: int = len(MARKETS),
    events_per_s: int = EVENTS_PER_S,
    seed: int = SEED,
) -> MixFile:
    """The mix as a file, made where it is not there yet."""
    name = f"mix-{FORMAT}-{count}-{symbol_count}-{events_per_s}-{seed}.lines"
    made = MixFile(CACHE / name, count, listings(symbol_count))
    if not made.path.exists():
        print(f"mix: making {count:,} records, once: {made.path.name}", file=sys.stderr)
        mix = records(count, symbol_count=symbol_count, events_per_s=events_per_s, seed=seed)
        write(made.path, mix)
    return made


def write(path: Path, keyed: Iterable[Keyed]) -> int:
    """Keep records; the file appears when it is whole. Returns how many there are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    count = 0
    with unfinished.open("wb") as out:
        for key, value in keyed:
            out.write(b"%b %b\n" % (key, value))
            count += 1
    unfinished.replace(path)
    return count
