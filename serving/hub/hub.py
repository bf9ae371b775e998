"""Who follows what: from one new state or batch to all the clients that want it. Pure."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Final

from serving.hub.protocol import (
    STREAMS_MAX,
    SUBSCRIPTIONS_MAX,
    Refused,
    Subscribe,
    order_of,
)
from serving.hub.session import Pair, Session, Subscription
from serving.hub.streams import EventStream, StateStream, Stream
from serving.hub.wire import Batch, State

COUNT_MS: Final = 1900
"""Between two words on the number of a pair's subscribers: a change is told within two seconds."""

SYMBOLS_KNOWN_MAX: Final = 10_000

FAMILIES: Final[dict[str, str]] = {
    "reports.fast": "report",
    "reports.slow": "report",
    "anomalies": "report",
    "ticks": "tick",
    "book": "tick",
    "status": "status",
    "trades": "events",
    "klines": "events",
    "merged": "merged",
    "executions": "executions",
}
"""What a channel is read from."""


class Board:
    """All clients and what they follow.

    Attributes:
        sessions: All of them.
        audience: Who follows a pair.
        symbols: All that have been seen: what ``*`` stands for.
        dirty: Clients that may have something to be sent.
        dropped: Frames and events replaced or left out since this was last emptied, by pair.
        subscribers: Pairs followed, each by each client.
    """

    def __init__(self) -> None:
        self.sessions: dict[Session, None] = {}
        self.audience: dict[Pair, dict[Session, Stream]] = {}
        self.symbols: dict[str, None] = {}
        self.dirty: dict[Session, None] = {}
        self.dropped: Counter[Pair] = Counter()
        self.subscribers = 0
        self._followed: dict[str, Counter[str]] = {
            family: Counter() for family in FAMILIES.values()
        }
        self._of_all: dict[str, dict[Session, None]] = {}
        self._told: dict[Pair, tuple[float, int]] = {}
        self._to_tell: list[tuple[float, Pair]] = []
        self._telling: set[Pair] = set()

    def followed(self, family: str) -> Counter[str]:
        """Symbols that somebody follows in a family, with by how many pairs; not to be changed."""
        return self._followed[family]

    @property
    def of_all(self) -> bool:
        """Whether somebody follows all symbols of a channel."""
        return any(self._of_all.values())

    # --- coming and going ------------------------------------------------------------------------

    def add(self, session: Session) -> None:
        """A client has come."""
        self.sessions[session] = None

    def drop(self, session: Session, mono_ms: float) -> None:
        """A client has gone."""
        for pair in list(session.streams):
            self._close(session, pair, mono_ms)
        for who in self._of_all.values():
            who.pop(session, None)
        self.sessions.pop(session, None)
        self.dirty.pop(session, None)

    def subscribe(
        self, session: Session, request: Subscribe, mono_ms: float
    ) -> tuple[Subscription, bool, list[Stream]]:
        """Let a client follow what it asks for.

        Returns:
            The subscription, whether it was there before, and streams that are new: somebody has
            to begin them.

        Raises:
            Refused: It would have too many.
        """
        subscription, already = session.wish(request)
        if already:
            return subscription, True, []
        symbols = list(self.symbols) if subscription.symbols is None else subscription.symbols
        pairs = [(channel, symbol) for channel in subscription.channels for symbol in symbols]
        new = [pair for pair in pairs if pair not in session.streams]
        if (
            len(session.subscriptions) >= SUBSCRIPTIONS_MAX
            or len(session.streams) + len(new) > STREAMS_MAX
        ):
            raise Refused(
                "too_many_subscriptions",
                f"a connection may have {SUBSCRIPTIONS_MAX} subscriptions and follow {STREAMS_MAX} "
                "pairs of channel and symbol; unsubscribe, or open another one",
                request.id,
            )
        session.subscriptions[subscription.id] = subscription
        if subscription.symbols is None:
            for channel in subscription.channels:
                self._of_all.setdefault(channel, {})[session] = None
        fresh = set(new)
        for pair in pairs:
            if pair not in fresh:
                session.adapt(session.streams[pair])
        resume = request.resume or {}
        return subscription, False, [self._open(session, pair, resume, mono_ms) for pair in new]

    def unsubscribe(self, session: Session, id_: str, mono_ms: float) -> bool:
        """Let a client follow it no more; False if there is no such subscription."""
        gone = session.subscriptions.pop(id_, None)
        if gone is None:
            return False
        left = session.subscriptions.values()
        for channel in gone.channels:
            if not any(s.symbols is None and channel in s.channels for s in left):
                self._of_all.get(channel, {}).pop(session, None)
        for pair, stream in list(session.streams.items()):
            if not gone.covers(*pair):
                continue
            if any(s.covers(*pair) for s in left):
                session.adapt(stream)
            else:
                self._close(session, pair, mono_ms)
        return True

    def appeared(self, symbol: str, mono_ms: float) -> list[tuple[Session, Stream]]:
        """A symbol has been seen; streams that are new because of it."""
        if symbol in self.symbols or len(self.symbols) >= SYMBOLS_KNOWN_MAX:
            return []
        self.symbols[symbol] = None
        opened = []
        for channel, sessions in self._of_all.items():
            for session in sessions:
                pair = (channel, symbol)
                if pair not in session.streams and len(session.streams) < STREAMS_MAX:
                    opened.append((session, self._open(session, pair, {}, mono_ms)))
        return opened

    def _open(self, session: Session, pair: Pair, resume: dict[str, str], mono_ms: float) -> Stream:
        stream = session.open(pair)
        order = order_of(resume.get("|".join(pair), ""))
        if isinstance(stream, EventStream):
            stream.asked = order
        elif order is not None:
            stream.resume(order)
        self.audience.setdefault(pair, {})[session] = stream
        self.subscribers += 1
        self._followed[FAMILIES[pair[0]]][pair[1]] += 1
        self._count(pair, mono_ms)
        return stream

    def _close(self, session: Session, pair: Pair, mono_ms: float) -> None:
        session.close(pair)
        self.subscribers -= 1
        who = self.audience[pair]
        del who[session]
        if not who:
            del self.audience[pair]
        followed = self._followed[FAMILIES[pair[0]]]
        followed[pair[1]] -= 1
        if not followed[pair[1]]:
            del followed[pair[1]]
        self._count(pair, mono_ms)

    # --- what is new -----------------------------------------------------------------------------

    def offer(self, what: State | Batch) -> None:
        """Something new, for all who follow it and have been begun."""
        pair = (what.channel, what.symbol)
        for session, stream in self.audience.get(pair, {}).items():
            if stream.waiting:
                continue
            dropped = session.offer(stream, what)
            if dropped:
                self.dropped[pair] += dropped
            self.dirty[session] = None

    def offer_one(self, session: Session, stream: Stream, what: Batch) -> None:
        """Something that only this client has missed."""
        dropped = session.offer(stream, what)
        if dropped:
            self.dropped[stream.channel, stream.symbol] += dropped
        self.dirty[session] = None

    def begin(self, family: str, symbol: str, state_of: Callable[[str], State | None]) -> None:
        """The store has been asked for a symbol: for those who have waited for it."""
        for channel, of in FAMILIES.items():
            if of != family:
                continue
            for session, stream in self.audience.get((channel, symbol), {}).items():
                if stream.waiting and isinstance(stream, StateStream):
                    stream.begin(state_of(channel))
                    session.queue(stream)
                    self.dirty[session] = None

    def turned_stale(self, state: State) -> None:
        """A state's data is too old, with no new write."""
        for session, stream in self.audience.get((state.channel, state.symbol), {}).items():
            if isinstance(stream, StateStream):
                stream.turned_stale(state)
                session.queue(stream)
                self.dirty[session] = None

    # --- numbers of subscribers ------------------------------------------------------------------

    def _count(self, pair: Pair, mono_ms: float) -> None:
        if pair not in self._telling:
            self._telling.add(pair)
            told_ms = self._told.get(pair, (float("-inf"), 0))[0]
            heapq.heappush(self._to_tell, (max(mono_ms, told_ms + COUNT_MS), pair))

    def next_count_ms(self) -> float | None:
        """When there is the next word on a number of subscribers."""
        return self._to_tell[0][0] if self._to_tell else None

    def tell_counts(self, mono_ms: float, most: int) -> None:
        """Say the numbers that have changed, of up to so many connections and pairs."""
        while self._to_tell and self._to_tell[0][0] <= mono_ms and most > 0:
            _, pair = heapq.heappop(self._to_tell)
            self._telling.discard(pair)
            who = self.audience.get(pair, {})
            before = self._told.pop(pair, (0.0, -1))
            if not who:
                continue
            if before[1] == len(who):
                self._told[pair] = before
                continue
            self._told[pair] = (mono_ms, len(who))
            for session in who:
                session.counted(pair, len(who))
                self.dirty[session] = None
            most -= len(who)
