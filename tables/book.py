"""The order book of one symbol, and whether it can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from streams.events import Level
from streams.ladder import Ladder
from tables.columns import pack, unpack
from tables.scale import rescale

BookState = Literal["none", "ok", "gap", "muted"]
"""``none``: no snapshot yet. ``ok``: every change applied. ``gap``: the venue's sequence broke;
the last good book is held, marked, until a snapshot. ``muted``: changes were lost or the book
was crossed; nothing is shown until a snapshot."""

Side = Literal["bid", "ask"]


class OrderBook:
    """Two ladders in integer units of ``10 ** px_e`` and ``10 ** sz_e``.

    Attributes:
        bids, asks: Resting size by price.
        state: Whether the levels can be shown.
        reason: Why the state is not ``ok``; empty when it is.
        seq: The venue's id of the last change applied, where it has one.
    """

    __slots__ = ("asks", "bids", "px_e", "reason", "seq", "state", "sz_e")

    def __init__(self) -> None:
        self.bids = Ladder()
        self.asks = Ladder()
        self.px_e = 0
        self.sz_e = 0
        self.state: BookState = "none"
        self.reason = "no snapshot yet"
        self.seq: int | None = None

    @property
    def shown(self) -> bool:
        """Whether the levels may appear in a report."""
        return self.state in ("ok", "gap")

    def replace(
        self,
        bids: Sequence[Level],
        asks: Sequence[Level],
        px_e: int,
        sz_e: int,
        seq: int | None,
    ) -> None:
        """Take a whole new book; it is ``ok`` from here on."""
        self.bids, self.asks = Ladder(bids), Ladder(asks)
        self.px_e, self.sz_e = px_e, sz_e
        self.seq = seq
        self.state, self.reason = "ok", ""

    def hold(self, reason: str) -> None:
        """The venue's sequence broke: keep the last good levels, marked."""
        if self.state == "ok":
            self.state, self.reason = "gap", reason

    def mute(self, reason: str) -> None:
        """The levels can't be trusted: show none until a snapshot."""
        if self.state in ("ok", "gap"):
            self.state, self.reason = "muted", reason

    def refine(self, px_e: int, sz_e: int) -> None:
        """Express the levels in finer units; both exponents at most the present ones."""
        for ladder in (self.bids, self.asks):
            ladder.__init__(  # type: ignore[misc]
                (rescale(px, self.px_e, px_e), rescale(sz, self.sz_e, sz_e))
                for px, sz in ladder.ascending()
            )
        self.px_e, self.sz_e = px_e, sz_e

    def best_bid(self) -> Level | None:
        """(price, size) of the highest bid."""
        bids = self.bids
        return (px := bids.prices[-1], bids.sizes[px]) if bids.prices else None

    def best_ask(self) -> Level | None:
        """(price, size) of the lowest ask."""
        asks = self.asks
        return (px := asks.prices[0], asks.sizes[px]) if asks.prices else None

    def snapshot(self) -> tuple[object, ...]:
        """Plain values; `restore` takes them back."""
        columns = []
        for ladder in (self.bids, self.asks):
            columns += [
                pack(ladder.prices, delta=True),
                pack(map(ladder.sizes.__getitem__, ladder.prices)),
            ]
        return (*columns, self.px_e, self.sz_e, self.state, self.reason, self.seq)

    def restore(self, values: Sequence[object]) -> None:
        """Become the book that `snapshot` was taken of."""
        bid_px, bid_sz, ask_px, ask_sz, px_e, sz_e, state, reason, seq = values
        self.bids = Ladder(zip(unpack(bid_px), unpack(bid_sz), strict=True))  # type: ignore[arg-type]
        self.asks = Ladder(zip(unpack(ask_px), unpack(ask_sz), strict=True))  # type: ignore[arg-type]
        self.px_e, self.sz_e = px_e, sz_e  # type: ignore[assignment]
        self.state, self.reason, self.seq = state, reason, seq  # type: ignore[assignment]
