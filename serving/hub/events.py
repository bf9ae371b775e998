"""Where events are read from: the capped Redis Streams, or whatever else keeps them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from lua import Keys
from serving.hub.protocol import order_of
from serving.hub.state_feed import TIMEOUT_S
from serving.hub.wire import NOTHING, Order

BLOCK_MS: Final = 200
"""How long one read waits: who begins to follow a stream meanwhile waits as long."""

COUNT: Final = 500
"""Entries of one stream in one read."""

_PART_MAX: Final = 2**64 - 1
"""Of either half of an entry's id."""

RawEntry = tuple[bytes, Mapping[bytes, bytes]]
"""Id and fields, as Redis has them."""

Which = tuple[str, str]
"""(family, symbol): ``events``, ``merged`` or ``executions`` of a symbol."""


class Read(NamedTuple):
    """What a look behind a cursor has found.

    Attributes:
        entries: In order; all there are up to ``reached``.
        reached: Up to where that is so.
        more: Whether there was more when it was read.
    """

    entries: Sequence[RawEntry]
    reached: Order
    more: bool


class EventSource(Protocol):
    """Streams of entries, each with an order that only rises.

    All calls raise one of `serving.hub.state_feed.AWAY` where what keeps them does not answer.
    """

    async def ends(self, wanted: Sequence[Which]) -> list[Order]:
        """The newest order of each, or where the next one will come behind."""
        ...

    async def kept(self, which: Which, cursor: Order) -> tuple[Order, bool]:
        """Where a reader at ``cursor`` goes on, and whether what it has not seen is gone."""
        ...

    async def after(self, which: Which, cursor: Order, count: int) -> Read:
        """Up to ``count`` entries behind ``cursor``."""
        ...

    async def news(self, at: Mapping[Which, Order]) -> list[tuple[Which, Sequence[RawEntry]]]:
        """Entries behind those orders; waits a moment for them."""
        ...

    async def close(self) -> None:
        """Disconnect, for good."""
        ...


class RedisEvents:
    """An `EventSource` of Redis Streams.

    Args:
        redis: A client without a time limit of its own.
        keys: Names of the keys.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._key_of: dict[str, Callable[[str], str]] = {
            "events": keys.events,
            "merged": keys.merged,
            "executions": keys.executions,
        }

    async def ends(self, wanted: Sequence[Which]) -> list[Order]:
        """See `EventSource`."""
        async with asyncio.timeout(TIMEOUT_S), self._redis.pipeline(transaction=False) as pipe:
            for family, symbol in wanted:
                pipe.xrevrange(self._key_of[family](symbol), count=1)
            ends = await pipe.execute()
        return [entry_order(end[0][0]) if end else NOTHING for end in ends]

    async def kept(self, which: Which, cursor: Order) -> tuple[Order, bool]:
        """See `EventSource`."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                info: Any = await self._redis.xinfo_stream(self._name(which))
        except ResponseError:
            info = None
        return gap(info, cursor)

    async def after(self, which: Which, cursor: Order, count: int) -> Read:
        """See `EventSource`."""
        async with asyncio.timeout(TIMEOUT_S):
            found: Any = await self._redis.xrange(
                self._name(which), min=f"({_id(cursor)}", count=count
            )
        reached = entry_order(found[-1][0]) if found else cursor
        return Read(found, reached, more=len(found) >= count)

    async def news(
        self, at: Mapping[Which, Order], block_ms: int = BLOCK_MS
    ) -> list[tuple[Which, Sequence[RawEntry]]]:
        """See `EventSource`."""
        names = {self._name(which): which for which in at}
        streams: Any = {name: _id(at[which]) for name, which in names.items()}
        async with asyncio.timeout(block_ms / 1000 + TIMEOUT_S):
            found: Any = await self._redis.xread(streams, count=COUNT, block=block_ms)
        return [(names[name], entries) for name, entries in _pairs(found)]

    async def close(self) -> None:
        """See `EventSource`; the client is its maker's to close."""

    async def topic_epoch(self, topic: str) -> int:
        """How often a topic was recreated."""
        async with asyncio.timeout(TIMEOUT_S):
            stored: Any = await self._redis.get(self._keys.topic_epoch(topic))
        try:
            return int(stored or 0)
        except ValueError:
            return 0

    def _name(self, which: Which) -> str:
        return self._key_of[which[0]](which[1])


MakeEvents = Callable[[RedisEvents], EventSource]
"""Puts another source before, or in place of, the Redis Streams."""


def gap(info: Mapping[str, Any] | None, cursor: Order) -> tuple[Order, bool]:
    """Where a reader at ``cursor`` goes on, and whether entries that it has not seen are gone.

    Args:
        info: What Redis says of the stream (``XINFO STREAM``); None where there is none.
        cursor: The last entry seen.
    """
    if info is None:
        return NOTHING, cursor != NOTHING
    last = entry_order(info["last-generated-id"])
    if cursor > last:
        return NOTHING, True  # another stream of the same name: the old one was deleted
    if info.get("entries-added", -1) == info["length"]:
        return cursor, False  # nothing has ever been cut off
    first = info["first-entry"]
    oldest = entry_order(first[0]) if first else (last[0], last[1] + 1)
    return cursor, cursor < oldest and cursor != last


def entry_order(id_: Any) -> Order:
    """The order that an entry's id stands for."""
    return order_of(id_.decode() if isinstance(id_, bytes) else str(id_)) or NOTHING


def _id(order: Order) -> str:
    # A client's cursor may hold more than an id can: to Redis that is an error, not a place.
    return f"{min(order[0], _PART_MAX)}-{min(order[1], _PART_MAX)}"


def _pairs(found: Any) -> list[tuple[str, list[RawEntry]]]:
    """What XREAD answers, in either version of the protocol."""
    if not found:
        return []
    pairs = found.items() if isinstance(found, dict) else found
    rows = []
    for name, entries in pairs:
        flat = entries[0] if entries and isinstance(entries[0], list) else entries
        rows.append((name.decode() if isinstance(name, bytes) else name, flat))
    return rows
