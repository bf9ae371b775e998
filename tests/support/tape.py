"""Random but legal tapes of records for one symbol, as a bridge would have written them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from streams.events import (
    BookDelta,
    BookSnapshot,
    DayStats,
    Event,
    Feed,
    FeedStatus,
    Instrument,
    Quote,
    Ticker,
    Trade,
    encode,
    stamp,
)

START_MS = 1_723_161_255_000
SYMBOL = "BTCUSDT"
VENUE = "binance"

Record = tuple[int, bytes]


@dataclass
class Tape:
    """Appends records; offsets and feed sequence count themselves.

    Attributes:
        records: (offset, value) so far.
        now_ms: ``ts_recv_ms`` of the next record.
        venue: Whose records these are.
        quote_currency: As its instrument says.
    """

    now_ms: int = START_MS
    token: int = 7
    px_e: int = -2
    sz_e: int = -5
    records: list[Record] = field(default_factory=list)
    seq: int = 0
    trade_id: int = 0
    venue: str = VENUE
    quote_currency: str = ""

    def common(self, **extra: Any) -> dict[str, Any]:
        return {
            "venue": self.venue,
            "symbol": SYMBOL,
            "ts_event_ms": self.now_ms,
            "ts_recv_ms": self.now_ms,
            **extra,
        }

    def scales(self) -> dict[str, int]:
        return {"px_e": self.px_e, "sz_e": self.sz_e}

    def put(self, event: Event, *, seq: int | None = None, token: int | None = None) -> bytes:
        """Stamp, encode and append; returns the bytes."""
        if seq is None:
            self.seq += 1
            seq = self.seq
        stamp(event, Feed(self.token if token is None else token, seq), 1)
        return self.raw(encode(event))

    def raw(self, value: bytes) -> bytes:
        """Append bytes as they are."""
        self.records.append((len(self.records), value))
        return value

    def wait(self, ms: int) -> Tape:
        self.now_ms += ms
        return self

    def instrument(self, tick_size: int = 1, **extra: Any) -> bytes:
        return self.put(
            Instrument(
                **self.common(),
                **self.scales(),
                tick_size=tick_size,
                lot_size=1,
                status="trading",
                **{"quote": self.quote_currency, **extra},
            )
        )

    def snapshot(
        self, bids: list[tuple[int, int]], asks: list[tuple[int, int]], **extra: Any
    ) -> bytes:
        return self.put(
            BookSnapshot(**self.common(), **self.scales(), bids=bids, asks=asks, **extra)
        )

    def delta(
        self, bids: list[tuple[int, int]] = (), asks: list[tuple[int, int]] = (), **extra: Any
    ) -> bytes:
        return self.put(
            BookDelta(**self.common(), **self.scales(), bids=list(bids), asks=list(asks), **extra)
        )

    def trade(self, px: int, sz: int, side: str = "buy", trade_id: int | None = None) -> bytes:
        if trade_id is None:
            self.trade_id += 1
            trade_id = self.trade_id
        else:
            self.trade_id = max(self.trade_id, trade_id)
        return self.put(
            Trade(
                **self.common(),
                **self.scales(),
                px=px,
                sz=sz,
                side=side,  # type: ignore[arg-type]
                event_id=f"{self.venue}:{SYMBOL}:{trade_id}",
                trade_id=trade_id,
            )
        )

    def day(self, last: int, **extra: Any) -> bytes:
        stats = DayStats(
            last=last, open=last, high=last + 100, low=last - 100, volume=10**9, change_pct=1.25
        )
        return self.put(Ticker(**self.common(**extra), **self.scales(), day=stats))

    def quote(self, bid: int, ask: int, seq: int | None = None) -> bytes:
        quote = Quote(bid_px=bid, bid_sz=3, ask_px=ask, ask_sz=4)
        return self.put(Ticker(**self.common(), **self.scales(), quote=quote, seq=seq))

    def status(self, status: str, reason: str = "") -> bytes:
        return self.put(FeedStatus(**self.common(), status=status, reason=reason))  # type: ignore[arg-type]


def opened(mid: int = 6_000_000, levels: int = 30, size: int = 100_000) -> Tape:
    """A tape that begins with an instrument and a book of equal levels one tick apart."""
    tape = Tape()
    tape.instrument()
    tape.snapshot(
        [(mid - 1 - n, size) for n in range(levels)], [(mid + 1 + n, size) for n in range(levels)]
    )
    return tape


def random_tape(
    seed: int, steps: int, *, step_ms: int = 400, repeat_ms: int = 300_000, **of: Any
) -> Tape:
    """A legal, lively tape: trades, deltas, tickers, now and then a gap or another bridge.

    Instrument, book and ticker are repeated every ``repeat_ms``, as a bridge does.

    Args:
        seed, steps, step_ms, repeat_ms: Of what it is like.
        of: Fields of the tape.
    """
    rng = random.Random(seed)
    tape = Tape(**of)
    mid = 6_000_000
    repeated_at = -(10**18)

    def book(reason: str) -> None:
        bids = [(mid - 1 - n * rng.randint(1, 3), rng.randint(1, 10**6)) for n in range(25)]
        asks = [(mid + 1 + n * rng.randint(1, 3), rng.randint(1, 10**6)) for n in range(25)]
        if rng.random() < 0.3:
            tape.snapshot(bids[:10], asks[:10], part=1, parts=2, reason=reason)
            tape.snapshot(bids[10:], asks[10:], part=2, parts=2, reason=reason)
        else:
            tape.snapshot(bids, asks, reason=reason)

    for _ in range(steps):
        tape.wait(rng.randint(0, 2 * step_ms))
        if tape.now_ms - repeated_at >= repeat_ms:
            repeated_at = tape.now_ms
            tape.instrument()
            tape.day(mid)
            tape.quote(mid - 1, mid + 1)
            book("refresh")
        dice = rng.random()
        if dice < 0.55:
            mid += rng.randint(-2, 2)
            tape.delta(
                [(mid - rng.randint(1, 40), rng.choice([0, rng.randint(1, 10**6)]))],
                [(mid + rng.randint(1, 40), rng.choice([0, rng.randint(1, 10**6)]))],
            )
        elif dice < 0.9:
            tape.trade(mid + rng.randint(-3, 3), rng.randint(1, 10**5), rng.choice(["buy", "sell"]))
        elif dice < 0.93:
            tape.day(mid)
        elif dice < 0.96:
            tape.status("alive")
        elif dice < 0.97:
            tape.status("gap", "sequence")
            book("resync")
        elif dice < 0.98:
            tape.trade(mid, 5, "buy", trade_id=max(1, tape.trade_id - 2))
        elif dice < 0.99:
            tape.trade_id += 3
        elif dice < 0.995:
            tape.token += 1
            tape.seq = 0
            tape.instrument()
            book("initial")
        else:
            tape.seq += 2
    return tape


def interleaved(seed: int, *tapes: Tape) -> list[Record]:
    """The records of several venues as one topic holds them: each venue's in their order, the
    venues by their times, or nearly so, as bridges differ in how fast they are.
    """
    rng = random.Random(seed)
    queued: list[tuple[int, bytes]] = []
    for tape in tapes:
        at_ms = 0
        for _, raw in tape.records:
            sent_ms = int(raw.split(b'"ts_recv_ms":')[1].split(b",")[0]) + rng.randint(0, 20)
            at_ms = max(at_ms, sent_ms)
            queued.append((at_ms, raw))
    queued.sort(key=lambda one: one[0])  # stable, so no venue's own order changes
    return [(offset, raw) for offset, (_, raw) in enumerate(queued)]
