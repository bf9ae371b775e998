"""One client: what it follows, what waits for it, and what it may be sent now. Pure.

Fair: streams that have something stand in a line; each frame sent puts its stream at the end. The
rate is a token bucket. Execution reports stand in a line of their own, which goes first and is not
held up by the bucket, though it is charged.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from serving.hub.protocol import (
    LOSSLESS,
    STATE_CHANNELS,
    Subscribe,
    SubscriberCountChanged,
)
from serving.hub.streams import EventStream, StateStream, Stream
from serving.hub.wire import NOTHING, Batch, Order, State, control

Pair = tuple[str, str]
"""(channel, symbol)."""

ROUND_BYTES: Final = 131_072
"""What one client is handed at once: beyond, others wait for it."""

CONTROL_MAX: Final = 64
"""Answers that may wait for a client that does not read them; it is then not read either."""

COUNTS_FIRST: Final = 2

REPORT_CHANNELS: Final = frozenset({"reports.fast", "reports.slow"})


@dataclass(frozen=True)
class Rules:
    """What each client gets.

    Attributes:
        rate_per_s, burst: The token bucket.
        flush_ms: Least time between two frames of a coalesced pair.
        coalesced: Channels of which only the newest waits.
        executions_queue: Execution reports that may wait.
    """

    rate_per_s: float = 1000.0
    burst: int = 100
    flush_ms: float = 50.0
    coalesced: frozenset[str] = frozenset(STATE_CHANNELS)
    executions_queue: int = 1000


class Bucket:
    """A token bucket.

    Attributes:
        tokens: What is left; below 0 where more was taken than there was.
    """

    def __init__(self, rate_per_s: float, burst: float, now_ms: float) -> None:
        self._per_ms, self._burst = rate_per_s / 1000.0, float(burst)
        self._at_ms = now_ms
        self.tokens = float(burst)

    def refill(self, now_ms: float) -> None:
        """Add what has come since the last time."""
        if now_ms > self._at_ms:
            self.tokens = min(self._burst, self.tokens + (now_ms - self._at_ms) * self._per_ms)
            self._at_ms = now_ms

    @property
    def has_one(self) -> bool:
        """Whether one can be taken; sums of small parts may lack a hair."""
        return self.tokens >= 1.0 - 1e-9

    def take(self, now_ms: float) -> bool:
        """Take one; False where there is none."""
        self.refill(now_ms)
        if not self.has_one:
            return False
        self.tokens -= 1.0
        return True

    def wait_ms(self) -> float:
        """Until there is one."""
        return max(0.0, 1.0 - self.tokens) / self._per_ms


@dataclass(frozen=True)
class Subscription:
    """One wish of a client.

    Attributes:
        id: What the client calls it by.
        symbols: None for all.
        venues: None for all.
        max_hz: None for as often as there is something.
    """

    id: str
    channels: tuple[str, ...]
    symbols: frozenset[str] | None
    venues: frozenset[str] | None
    max_hz: float | None
    depth: int

    def covers(self, channel: str, symbol: str) -> bool:
        """Whether this pair is part of it."""
        return channel in self.channels and (self.symbols is None or symbol in self.symbols)


@dataclass(slots=True)
class Taken:
    """What is to be sent now.

    Attributes:
        frames: In order.
        arrived_ms: When the oldest market data among it came to the hub; None without any.
        next_ms: When there will be more without anything new; None if there won't.
        reports: Symbol and order of reports among it, where `Session.traced`.
    """

    frames: list[bytes] = field(default_factory=list)
    reports: list[tuple[str, Order]] = field(default_factory=list)
    arrived_ms: float | None = None
    next_ms: float | None = None


class Session:
    """One client.

    Attributes:
        id: Its name in logs.
        subscriptions: By their id.
        streams: What it follows.
        dropped: Frames and events replaced or left out so far.
        throttled_ms: Time in which something waited for the bucket.
        full: The lossless stream that holds more than it may, once there is one.
        traced: Whether somebody asks which reports are sent.
    """

    def __init__(self, id_: str, rules: Rules, now_ms: float) -> None:
        self.id, self.rules = id_, rules
        self.subscriptions: dict[str, Subscription] = {}
        self.streams: dict[Pair, Stream] = {}
        self.dropped = 0
        self.throttled_ms = 0.0
        self.full: EventStream | None = None
        self.traced = False
        self._bucket = Bucket(rules.rate_per_s, rules.burst, now_ms)
        self._control: deque[bytes] = deque()
        self._counts: dict[Pair, int] = {}
        self._heartbeat: bytes | None = None
        self._source: bytes | None = None
        self._line: deque[Stream] = deque()
        self._first: deque[Stream] = deque()
        self._later: list[tuple[float, int, Stream]] = []
        self._turn = itertools.count()
        self._held_since_ms: float | None = None
        self._names = itertools.count(1)

    # --- what it follows -------------------------------------------------------------------------

    def wish(self, request: Subscribe) -> tuple[Subscription, bool]:
        """The subscription for a request, and whether it was there before."""
        symbols = None if request.symbols == ["*"] else frozenset(request.symbols)
        channels = tuple(sorted(set(request.channels)))
        venues = None if request.venues is None else frozenset(request.venues)
        for known in self.subscriptions.values():
            if (known.channels, known.symbols, known.venues, known.max_hz, known.depth) == (
                channels,
                symbols,
                venues,
                request.max_hz,
                request.depth,
            ):
                return known, True
        made = Subscription(
            f"s{next(self._names)}", channels, symbols, venues, request.max_hz, request.depth
        )
        return made, False

    def open(self, pair: Pair) -> Stream:
        """Follow a pair that is not followed yet."""
        channel, symbol = pair
        coalesced = channel in self.rules.coalesced
        stream: Stream
        if channel in STATE_CHANNELS:
            stream = StateStream(channel, symbol, coalesced=coalesced, interval_ms=0)
        else:
            stream = EventStream(
                channel,
                symbol,
                coalesced=coalesced,
                interval_ms=0,
                queue_max=self.rules.executions_queue,
            )
        self.streams[pair] = stream
        self.adapt(stream)
        return stream

    def adapt(self, stream: Stream) -> None:
        """Fit a stream to all subscriptions that cover it: the most that any of them asks for."""
        over = [s for s in self.subscriptions.values() if s.covers(stream.channel, stream.symbol)]
        if isinstance(stream, EventStream):
            venues = [s.venues for s in over if s.venues is not None]
            stream.venues = frozenset().union(*venues) if len(venues) == len(over) > 0 else None
            stream.interval_ms = 0 if stream.channel == LOSSLESS else self.rules.flush_ms
            return
        rates = [s.max_hz for s in over if s.max_hz is not None]
        slowest = 1000.0 / max(rates) if len(rates) == len(over) > 0 else 0.0
        flush_ms = self.rules.flush_ms if stream.keep == 1 else 0.0
        stream.interval_ms = max(flush_ms, slowest)
        stream.depth = max((s.depth for s in over), default=stream.depth)

    def close(self, pair: Pair) -> None:
        """Follow a pair no more; what waited of it is not sent."""
        # Not looked for in the lines: with thousands in them that would take seconds.
        self.streams.pop(pair).gone = True
        self._counts.pop(pair, None)

    # --- what is to be sent ----------------------------------------------------------------------

    @property
    def waits(self) -> int:
        """Streams that have something to send."""
        return len(self._line) + len(self._first) + len(self._later)

    @property
    def crowded(self) -> bool:
        """Whether the client should not be read for a while: it leaves its answers lying."""
        return len(self._control) >= CONTROL_MAX

    def answer(self, frame: bytes) -> None:
        """Send this soon, before market data."""
        self._control.append(frame)

    def heartbeat(self, frame: bytes) -> None:
        """The newest heartbeat; one that still waits is replaced."""
        self._heartbeat = frame

    def source(self, frame: bytes) -> None:
        """The newest word on the store; one that still waits is replaced."""
        self._source = frame

    def counted(self, pair: Pair, number: int) -> None:
        """The newest number of subscribers; one that still waits is replaced."""
        self._counts[pair] = number

    def offer(self, stream: Stream, what: State | Batch) -> int:
        """Something new of a stream; how much that waited it has replaced or pushed out."""
        dropped = stream.offer(what)  # type: ignore[arg-type]
        self.dropped += dropped
        self.queue(stream)
        if isinstance(stream, EventStream) and stream.full and self.full is None:
            self.full = stream
        return dropped

    def queue(self, stream: Stream) -> None:
        """Put a stream that has something into the line."""
        if stream.queued or not stream.ready:
            return
        stream.queued = True
        (self._first if stream.lossless else self._line).append(stream)

    def take(self, mono_ms: float, now_ms: int) -> Taken:
        """What may be sent now; it counts as sent.

        Args:
            mono_ms: By a clock that never steps back.
            now_ms: Since the epoch, for ages.
        """
        taken = Taken()
        frames = taken.frames
        frames.extend(self._control)
        self._control.clear()
        for slot in (self._source, self._heartbeat):
            if slot is not None:
                frames.append(slot)
        self._source = self._heartbeat = None
        self._bucket.refill(mono_ms)
        size = 0
        while self._first and size < ROUND_BYTES:
            if self._first[0].gone:
                self._first.popleft()
                continue
            self._bucket.tokens = max(-float(self.rules.burst), self._bucket.tokens - 1)
            size += self._emit(self._first, taken, mono_ms, now_ms)
        while self._later and self._later[0][0] <= mono_ms:
            self._line.append(heapq.heappop(self._later)[2])
        # A few before the rest, so that a client at its limit hears of them too.
        self._tell_counts(taken, mono_ms, COUNTS_FIRST)
        while self._line and size < ROUND_BYTES:
            stream = self._line[0]
            if stream.gone:
                self._line.popleft()
            elif stream.due_ms > mono_ms:
                self._line.popleft()
                heapq.heappush(self._later, (stream.due_ms, next(self._turn), stream))
            elif self._bucket.take(mono_ms):
                size += self._emit(self._line, taken, mono_ms, now_ms)
            else:
                break
        if not self._line:
            self._tell_counts(taken, mono_ms, len(self._counts))
        self._plan(taken, mono_ms)
        return taken

    def _tell_counts(self, taken: Taken, mono_ms: float, most: int) -> None:
        for pair in list(itertools.islice(self._counts, most)):
            if not self._bucket.take(mono_ms):
                return
            frame = SubscriberCountChanged(
                channel=pair[0], symbol=pair[1], count=self._counts.pop(pair)
            )
            taken.frames.append(control(frame))

    def _emit(self, line: deque[Stream], taken: Taken, mono_ms: float, now_ms: int) -> int:
        stream = line.popleft()
        arrived_ms = stream.arrived_ms
        if arrived_ms is not None and (taken.arrived_ms is None or arrived_ms < taken.arrived_ms):
            taken.arrived_ms = arrived_ms
        frame = stream.emit(now_ms)
        taken.frames.append(frame)
        if self.traced and stream.channel in REPORT_CHANNELS and isinstance(stream, StateStream):
            taken.reports.append((stream.symbol, stream.sent or NOTHING))
        stream.due_ms = mono_ms + stream.interval_ms
        if stream.ready:
            line.append(stream)
        else:
            stream.queued = False
        return len(frame)

    def _plan(self, taken: Taken, mono_ms: float) -> None:
        if self._line or self._counts or self._first:
            short = not self._bucket.has_one
            taken.next_ms = mono_ms + (self._bucket.wait_ms() if short else 0.0)
            self._hold(mono_ms if short else None, mono_ms)
        else:
            self._hold(None, mono_ms)
            if self._later:
                taken.next_ms = self._later[0][0]

    def _hold(self, since_ms: float | None, mono_ms: float) -> None:
        if self._held_since_ms is not None:
            self.throttled_ms += mono_ms - self._held_since_ms
        self._held_since_ms = since_ms

    def deepest(self) -> tuple[str, int]:
        """The stream that holds most, as ``channel|SYMBOL``, and how much; ('', 0) if none waits."""
        lines = (*self._first, *self._line, *(entry[2] for entry in self._later))
        waiting = [stream for stream in lines if not stream.gone]
        if not waiting:
            return "", 0
        found = max(waiting, key=lambda stream: stream.depth_of_buffer)
        return f"{found.channel}|{found.symbol}", found.depth_of_buffer

    def resume(self) -> dict[str, str]:
        """Where to go on with what must not be lost, by ``channel|SYMBOL``; fullest first."""
        streams = [s for s in self.streams.values() if isinstance(s, EventStream) and s.lossless]
        streams.sort(key=lambda s: -s.depth_of_buffer)
        return {f"{s.channel}|{s.symbol}": "{}-{}".format(*s.resume_from) for s in streams}
