"""Events of symbols: each read once for all, and again for who comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from serving.hub.events import EventSource, RawEntry, entry_order
from serving.hub.hub import FAMILIES, Board
from serving.hub.metrics import HubMetrics
from serving.hub.protocol import order_of
from serving.hub.session import Session
from serving.hub.state_feed import AWAY, RETRY_S
from serving.hub.streams import EventStream
from serving.hub.wire import NOTHING, Batch, Entry, Order
from tapeline.clock import Clock
from tapeline.logging import get_logger
from tapeline.tasks import end_all

STREAM_FAMILIES: Final = ("events", "merged", "executions")

CATCH_UP: Final = 200
CATCHING_UP_MAX: Final = 32
ROOM_S: Final = 0.02

_OF_KIND: Final = {"trade": "trades", "kline": "klines"}
_FIELD: Final = b"event"

log = get_logger("hub")


class _Head(msgspec.Struct):
    kind: str = ""
    venue: str = ""


_decode_head: Final = msgspec.json.Decoder(_Head).decode


def read_entries(family: str, found: Iterable[RawEntry]) -> tuple[dict[str, list[Entry]], int]:
    """Entries by channel, and how many could not be read. Pure."""
    by_channel: dict[str, list[Entry]] = {}
    unreadable = 0
    for id_, fields in found:
        data = fields.get(_FIELD) or next(iter(fields.values()), b"")
        order = order_of(id_.decode())
        try:
            head = _decode_head(data)
            data.decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            unreadable += 1
            continue
        channel = _OF_KIND.get(head.kind, "") if family == "events" else family
        if channel and order is not None:
            by_channel.setdefault(channel, []).append(Entry(order, head.venue, data))
    return by_channel, unreadable


class EventFeed:
    """Reads the streams that somebody follows.

    Args:
        source: What keeps the events.
        board: Who wants what.
        clock: For telling when something came.
        metrics: Where failures are counted.
        changed: Called when the board may have something for somebody.
    """

    def __init__(
        self,
        source: EventSource,
        board: Board,
        clock: Clock,
        metrics: HubMetrics,
        changed: Callable[[], None],
    ) -> None:
        self._source, self._board, self._clock = source, board, clock
        self._metrics, self._changed = metrics, changed
        self._at: dict[tuple[str, str], Order] = {}
        self._opening: list[tuple[Session, EventStream]] = []
        self._catching: set[asyncio.Task[None]] = set()
        self._few = asyncio.Semaphore(CATCHING_UP_MAX)
        self._wake = asyncio.Event()

    def open(self, session: Session, stream: EventStream) -> None:
        """Somebody begins to follow a stream."""
        self._opening.append((session, stream))
        self._wake.set()

    async def run(self) -> None:
        """Read until cancelled."""
        away = False
        try:
            while True:
                try:
                    if away:
                        await self._check()
                        away = False
                    await self._begin()
                    await self._read()
                except AWAY as error:
                    log.debug("hub.streams_not_read", error=repr(error))
                    away = True
                    await asyncio.sleep(RETRY_S)
        finally:
            await end_all(self._catching)
            await self._source.close()

    # --- live ------------------------------------------------------------------------------------

    async def _read(self) -> None:
        followed = {
            (family, symbol)
            for family in STREAM_FAMILIES
            for symbol in self._board.followed(family)
        }
        for gone in self._at.keys() - followed:
            del self._at[gone]
        if not self._at:
            if not self._opening:
                await self._wake.wait()
            self._wake.clear()
            return
        found = await self._source.news(dict(self._at))
        for which, entries in found:
            # It may have been given up, or begun anew elsewhere, while this was read.
            if which in self._at and entries:
                self._at[which] = max(self._at[which], entry_order(entries[-1][0]))
                for batch in self._batches(*which, entries):
                    self._board.offer(batch)
        if found:
            self._changed()

    def _batches(self, family: str, symbol: str, found: Sequence[RawEntry]) -> list[Batch]:
        by_channel, unreadable = read_entries(family, found)
        if unreadable:
            self._metrics.errors.labels("unreadable").inc(unreadable)
        now_ms = self._clock.monotonic_ms()
        return [Batch(channel, symbol, rows, now_ms) for channel, rows in by_channel.items()]

    async def _check(self) -> None:
        """After Redis was away: it may have lost streams, or cut off what nobody has read."""
        for which, at in list(self._at.items()):
            self._at[which], lost = await self._source.kept(which, at)
            if lost:
                for stream in self._streams(*which):
                    stream.mark_lost()
                    if self._at[which] == NOTHING:
                        stream.resume(NOTHING)

    def _streams(self, family: str, symbol: str) -> list[EventStream]:
        return [
            stream
            for channel, of in FAMILIES.items()
            if of == family
            for stream in self._board.audience.get((channel, symbol), {}).values()
            if isinstance(stream, EventStream) and not stream.waiting
        ]

    # --- beginning -------------------------------------------------------------------------------

    async def _begin(self) -> None:
        opening, self._opening = self._opening, []
        try:
            await self._place({_which(s) for _, s in opening if s.asked is None} - self._at.keys())
        except AWAY:
            self._opening[:0] = opening
            raise
        for session, stream in opening:
            if session.streams.get((stream.channel, stream.symbol)) is not stream:
                continue
            if stream.asked is None:
                stream.resume(self._at[_which(stream)])
                stream.attach()
            else:
                task = asyncio.create_task(self._catch_up(session, stream, stream.asked))
                self._catching.add(task)
                task.add_done_callback(self._catching.discard)

    async def _place(self, wanted: set[tuple[str, str]]) -> None:
        """Find the ends of streams that are followed from now on."""
        if not wanted:
            return
        order = sorted(wanted)
        self._at.update(zip(order, await self._source.ends(order), strict=True))

    async def _catch_up(self, session: Session, stream: EventStream, cursor: Order) -> None:
        """Read from ``cursor`` up to where all others are, at the pace of this client."""
        pair, which = (stream.channel, stream.symbol), _which(stream)
        began = False
        while session.streams.get(pair) is stream:
            if stream.depth_of_buffer and stream.room < CATCH_UP:
                await asyncio.sleep(ROOM_S)
                continue
            try:
                if not began:
                    cursor, lost = await self._source.kept(which, cursor)
                    stream.resume(cursor)
                    if lost:
                        stream.mark_lost()
                    began = True
                count = max(1, min(CATCH_UP, stream.room))
                async with self._few:
                    found, cursor, more = await self._source.after(which, cursor, count)
            except AWAY:
                await asyncio.sleep(RETRY_S)
                continue
            if session.streams.get(pair) is not stream:
                return
            if found:
                for batch in self._batches(*which, found):
                    if batch.channel == stream.channel:
                        self._board.offer_one(session, stream, batch)
                self._changed()
            # No wait between this look and the attaching: nothing slips through.
            if not more and cursor >= self._at.setdefault(which, cursor):
                stream.attach()
                self._wake.set()
                return


def _which(stream: EventStream) -> tuple[str, str]:
    return FAMILIES[stream.channel], stream.symbol
