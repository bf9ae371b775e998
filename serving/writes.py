"""Accepted reports as they are announced: how long each symbol went without one, seen from outside.

What counts is a reader's view: Redis announces a report in the step that stores it. A report that
was computed from no later record than the one before says nothing new, so a gap is the time
between two accepted writes whose source offset advanced.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys

HEAR_S: Final = 1.0
"""Silence after which Redis is asked for a sign of life; after twice that it is gone."""

RETRY_S: Final = 0.25
BATCH: Final = 500
"""Most announcements that are looked at in one round trip."""

DRAINS_S: Final = 1.0
"""A node that is about to leave says so five times a second, until it has gone."""


class _Announcement(msgspec.Struct):
    symbol: str
    token: int
    seq: int


class _Leaving(msgspec.Struct):
    node_id: str
    state: str


_decode_announcement: Final = msgspec.json.Decoder(_Announcement).decode
_decode_leaving: Final = msgspec.json.Decoder(_Leaving).decode


@dataclass(slots=True)
class Track:
    """Accepted writes of one symbol.

    Attributes:
        since_s: What gaps are counted from, before the first write.
        last_s: When the last write that advanced was heard; None before the first.
        mark: Its watermark.
        longest_s: Longest time between two such writes.
        writes: How many were heard, those included that did not advance.
    """

    since_s: float
    last_s: float | None = None
    mark: int = -1
    longest_s: float = 0.0
    writes: int = 0

    def gap_s(self, now_s: float) -> float:
        """The longest gap, the one that is open now included."""
        began_s = self.since_s if self.last_s is None else self.last_s
        return max(self.longest_s, now_s - began_s)


@dataclass(slots=True)
class Writes:
    """Accepted writes by symbol. Pure: times are monotonic seconds of the caller.

    Attributes:
        tracks: By symbol.
        blind_since_s: Since when nothing can be heard; None while something can.
    """

    tracks: dict[str, Track] = field(default_factory=dict)
    blind_since_s: float | None = None

    def expect(self, symbols: Collection[str], now_s: float) -> None:
        """Gaps of these count from now, also if nothing is ever heard of them."""
        for symbol in symbols:
            self.tracks.setdefault(symbol, Track(now_s))

    def heard(self, symbol: str, watermark: int, at_s: float) -> None:
        """An accepted write was announced."""
        track = self.tracks.setdefault(symbol, Track(at_s))
        track.writes += 1
        if watermark <= track.mark:
            return
        track.longest_s = track.gap_s(at_s)
        track.mark, track.last_s = watermark, at_s

    def count_anew(self) -> None:
        """Forget gaps and counts; the last write stays, so a gap that is open now is counted whole."""
        for track in self.tracks.values():
            track.longest_s, track.writes = 0.0, 0

    def blind(self, now_s: float) -> None:
        """Nothing can be heard from now on: no gap is anybody's but ours."""
        if self.blind_since_s is not None:
            return
        self.blind_since_s = now_s
        for track in self.tracks.values():
            track.longest_s = track.gap_s(now_s)

    def sees(self, now_s: float) -> None:
        """What is written can be heard again."""
        if self.blind_since_s is None:
            return
        self.blind_since_s = None
        for track in self.tracks.values():
            track.since_s, track.last_s = now_s, None

    def gap_s(self, symbol: str, now_s: float) -> float | None:
        """Longest gap of a symbol; None where it was never watched."""
        track = self.tracks.get(symbol)
        if track is None:
            return None
        return track.longest_s if self.blind_since_s is not None else track.gap_s(now_s)


class Listener:
    """Hears all announcements of one Redis.

    Args:
        redis: A client of `serving.reader.reader_client`, for this alone.
        keys: Key names.
        now_s: A monotonic clock, seconds.

    Attributes:
        writes: What was heard.
        error: Why nothing can be heard; '' while something can.
    """

    def __init__(
        self, redis: Redis, keys: Keys, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis, self._keys, self._now_s = redis, keys, now_s
        self._draining: dict[str, float] = {}
        self._ready = asyncio.Event()
        self.writes = Writes()
        self.error = ""

    async def ready(self, timeout_s: float) -> bool:
        """Wait until announcements are heard; False where they are not in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        return self._ready.is_set()

    def draining(self) -> frozenset[str]:
        """Nodes that said a moment ago that they are about to leave."""
        since_s = self._now_s() - DRAINS_S
        return frozenset(node for node, said_s in self._draining.items() if said_s >= since_s)

    async def run(self) -> None:
        """Listen until cancelled; while Redis is away, to nothing."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                self.error = repr(error)
                self.lost()
                await asyncio.sleep(RETRY_S)

    def lost(self) -> None:
        """Redis does not answer: whatever is announced now is not heard in time."""
        self._ready.clear()
        self.writes.blind(self._now_s())

    async def _listen(self) -> None:
        async with self._redis.pubsub() as channel:
            async with asyncio.timeout(2 * HEAR_S):
                await channel.psubscribe(self._keys.every_report())
                await channel.subscribe(self._keys.handover())
            silent = 0
            while silent < 2:
                message = await channel.get_message(timeout=HEAR_S)
                if message is None:
                    silent += 1
                    async with asyncio.timeout(HEAR_S):
                        await channel.ping()
                    continue
                silent = 0
                if message["type"] == "psubscribe":
                    # The client connects again by itself: what was announced before is not known.
                    self.lost()
                self.writes.sees(self._now_s())
                self.error = ""
                self._ready.set()
                await self._take(message, channel)
            raise TimeoutError("no answer on the subscription")

    async def _take(self, first: dict[str, Any], channel: Any) -> None:
        """One message and what waits behind it: marks are asked for in one round trip."""
        heard: list[tuple[str, float]] = list(self._announced(first))
        for _ in range(BATCH):
            message = await channel.get_message(timeout=0)
            if message is None:
                break
            heard += self._announced(message)
        if not heard:
            return
        async with asyncio.timeout(HEAR_S), self._redis.pipeline(transaction=False) as pipe:
            for symbol, _ in heard:
                pipe.hget(self._keys.meta(symbol), "watermark")
            marks = await pipe.execute(raise_on_error=False)
        for (symbol, at_s), mark in zip(heard, marks, strict=True):
            with contextlib.suppress(TypeError, ValueError):  # what is stored is no number
                self.writes.heard(symbol, int(mark), at_s)

    def _announced(self, message: dict[str, Any]) -> Iterator[tuple[str, float]]:
        """The symbol whose write a message announces, and when that was."""
        if message["type"] == "message":
            with contextlib.suppress(msgspec.DecodeError):
                said = _decode_leaving(message["data"])
                if said.state == "draining":
                    self._draining[said.node_id] = self._now_s()
        elif message["type"] == "pmessage" and self._keys.announces(message["channel"]):
            # Other programs may have channels of such names: what is no announcement is not ours.
            with contextlib.suppress(msgspec.DecodeError):
                yield _decode_announcement(message["data"]).symbol, self._now_s()
