"""What waits of one (channel, symbol) for one client. Pure: times are given."""

from __future__ import annotations

from collections import deque
from typing import Final

from serving.hub.protocol import DEPTH_DEFAULT, LOSSLESS
from serving.hub.wire import (
    NOTHING,
    Batch,
    Entry,
    Order,
    State,
    empty_snapshot,
    events_frame,
    size_of,
    stale_frame,
)

BACKLOG_MAX: Final = 1000
"""What waits of a channel that is not coalesced, frames of a state or events."""

FRAME_EVENTS_MAX: Final = 200
FRAME_BYTES_MAX: Final = 65_536
"""Of one frame of events: the others' turn comes sooner, and no client is sent megabytes at once."""


class StateStream:
    """A channel of states: the newest is all there is to know.

    Attributes:
        channel, symbol: Which.
        interval_ms: Least time between two frames.
        depth: Levels a side, where the channel has levels.
        due_ms: Not before this may the next frame go out.
        queued: Whether it stands in its session's line.
        gone: Nobody follows it any more; where it stands in a line, it is passed over.
        sent: Order of the newest frame sent; None before any.
        waiting: The store has not been asked yet what there is.
    """

    __slots__ = (
        "_again",
        "_empty",
        "_pending",
        "_stale",
        "channel",
        "depth",
        "due_ms",
        "gone",
        "interval_ms",
        "keep",
        "queued",
        "sent",
        "symbol",
        "waiting",
    )

    lossless: Final = False

    def __init__(self, channel: str, symbol: str, *, coalesced: bool, interval_ms: float) -> None:
        self.channel, self.symbol, self.interval_ms = channel, symbol, interval_ms
        self.keep = 1 if coalesced else BACKLOG_MAX
        self.depth = DEPTH_DEFAULT
        self.due_ms = 0.0
        self.queued = self.gone = False
        self.sent: Order | None = None
        self.waiting = True
        self._pending: deque[State] = deque()
        self._again = True  # the next state goes out as a snapshot
        self._empty = False
        self._stale: State | None = None

    @property
    def ready(self) -> bool:
        """Whether there is something to send."""
        return bool(self._pending) or self._empty or self._stale is not None

    @property
    def depth_of_buffer(self) -> int:
        """States that wait."""
        return len(self._pending)

    @property
    def arrived_ms(self) -> float | None:
        """When the next state came here."""
        return self._pending[0].arrived_ms if self._pending else None

    def resume(self, order: Order) -> None:
        """The client has seen ``order``: what follows it is an update, and nothing older goes out."""
        self.sent, self._again = order, False

    def offer(self, state: State) -> int:
        """Take a state; how many that waited it has replaced."""
        newest = self._pending[-1].order if self._pending else self.sent
        if newest is not None and state.order <= newest:
            return 0
        dropped = 0
        if len(self._pending) >= self.keep:
            self._pending.popleft()
            dropped = 1
        self._pending.append(state if self.channel != "book" else state.variant(self.depth))
        self._stale = None
        return dropped

    def begin(self, state: State | None) -> None:
        """The store has been asked; None where nothing is stored."""
        self.waiting = False
        if state is not None:
            self.offer(state)
        elif self._again and not self._pending:
            self._empty = True

    def repeat(self, state: State | None) -> None:
        """Send the state again, as a snapshot; never one older than the last."""
        self._again = True
        if self._pending:
            return
        if state is None or (self.sent is not None and state.order < self.sent):
            self._empty = self.sent in {None, NOTHING}
        else:
            self._pending.append(state if self.channel != "book" else state.variant(self.depth))

    def turned_stale(self, state: State) -> None:
        """Its data is too old, with no new write."""
        if self.sent is not None and self.sent <= state.order and not self._pending:
            self._stale = state

    def emit(self, now_ms: int) -> bytes:
        """The next frame, which counts as sent; only where `ready`."""
        if self._pending:
            state = self._pending.popleft()
            before = None if self._again else self.sent
            self._again = self._empty = False
            self.sent = state.order
            return state.frame(before, now_ms)
        if self._empty:
            self._again = self._empty = False
            self.sent = NOTHING
            return empty_snapshot(self.channel, self.symbol, now_ms)
        state_, self._stale = self._stale, None
        assert state_ is not None, "nothing to send"
        return stale_frame(state_, now_ms)


class EventStream:
    """A channel of events: each is sent, as long as a client does not fall far behind.

    Attributes:
        channel, symbol: Which.
        interval_ms: Least time between two frames.
        due_ms: Not before this may the next frame go out.
        queued: Whether it stands in its session's line.
        gone: Nobody follows it any more; where it stands in a line, it is passed over.
        waiting: Events before those that come now are still to be read.
        venues: Only these venues' events; None for all.
        asked: Where the client wants to go on; None for from now on.
        after: The newest event taken; older ones are not taken again.
        sent: The newest event sent; None before any.
    """

    __slots__ = (
        "_keep",
        "_lost",
        "_pending",
        "_waiting_events",
        "after",
        "asked",
        "channel",
        "due_ms",
        "gone",
        "interval_ms",
        "lossless",
        "queued",
        "sent",
        "symbol",
        "venues",
        "waiting",
    )

    def __init__(
        self, channel: str, symbol: str, *, coalesced: bool, interval_ms: float, queue_max: int
    ) -> None:
        self.channel, self.symbol, self.interval_ms = channel, symbol, interval_ms
        self.lossless = channel == LOSSLESS
        self._keep = queue_max if self.lossless else 1 if coalesced else BACKLOG_MAX
        self.due_ms = 0.0
        self.queued = self.gone = False
        self.waiting = True
        self.venues: frozenset[str] | None = None
        self.asked: Order | None = None
        self.after: Order = NOTHING
        self.sent: Order | None = None
        self._pending: deque[Batch] = deque()
        self._waiting_events = 0
        self._lost = False

    @property
    def ready(self) -> bool:
        """Whether there is something to send."""
        return bool(self._pending)

    @property
    def depth_of_buffer(self) -> int:
        """Events that wait."""
        return self._waiting_events

    @property
    def arrived_ms(self) -> float | None:
        """When the next events came here."""
        return self._pending[0].arrived_ms if self._pending else None

    @property
    def room(self) -> int:
        """Events that may still be taken."""
        return max(0, self._keep - self._waiting_events)

    @property
    def full(self) -> bool:
        """Whether a lossless stream holds more than it may: its client is to be closed."""
        return self.lossless and self._waiting_events > self._keep

    @property
    def resume_from(self) -> Order:
        """Where a client that has got all that was sent goes on from."""
        return self.sent or NOTHING

    def resume(self, order: Order) -> None:
        """The client has seen ``order``, or follows from there on."""
        self.after = self.sent = order

    def attach(self) -> None:
        """What comes now follows what has been taken."""
        self.waiting = False

    def mark_lost(self) -> None:
        """Events before the next frame are not kept any more."""
        self._lost = True

    def offer(self, batch: Batch) -> int:
        """Take events; how many that waited had to go for them."""
        taken = batch.after(self.after)
        if taken is None:
            return 0
        self.after = taken.last
        taken = taken.of_venues(self.venues)
        if taken is None:
            return 0
        self._pending.append(taken)
        self._waiting_events += len(taken)
        return 0 if self.lossless else self._trim()

    def _trim(self) -> int:
        dropped = 0
        while self._waiting_events > self._keep:
            oldest = self._pending.popleft()
            gone = min(len(oldest), self._waiting_events - self._keep)
            if gone < len(oldest):
                rest = oldest.entries[gone:]
                self._pending.appendleft(
                    Batch(oldest.channel, oldest.symbol, rest, oldest.arrived_ms)
                )
            self._waiting_events -= gone
            dropped += gone
        if dropped:
            self._lost = True
        return dropped

    def emit(self, now_ms: int) -> bytes:
        """The next frame, which counts as sent; only where `ready`."""
        first = self._pending.popleft()
        if not self._pending and not self._lost and _fits(first.entries):
            self._waiting_events -= len(first)
            self.sent = first.last
            return first.frame()
        entries: list[Entry] = []
        self._pending.appendleft(first)
        size = 0
        while self._pending and len(entries) < FRAME_EVENTS_MAX and size < FRAME_BYTES_MAX:
            batch = self._pending.popleft()
            at = 0
            for at, entry in enumerate(batch.entries, 1):  # noqa: B007, used behind the loop
                entries.append(entry)
                size += len(entry.data)
                if len(entries) >= FRAME_EVENTS_MAX or size >= FRAME_BYTES_MAX:
                    break
            if at < len(batch):
                rest = batch.entries[at:]
                self._pending.appendleft(Batch(batch.channel, batch.symbol, rest, batch.arrived_ms))
        self._waiting_events -= len(entries)
        self.sent = entries[-1].order
        lost, self._lost = self._lost, False
        return events_frame(self.channel, self.symbol, entries, lost=lost)


def _fits(entries: object) -> bool:
    return len(entries) <= FRAME_EVENTS_MAX and size_of(entries) <= FRAME_BYTES_MAX  # type: ignore[arg-type]


Stream = StateStream | EventStream
