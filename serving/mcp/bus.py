"""The subscription bus: announcements in Redis become events for every listener of this process.

Any number of replicas hear the same announcements, so an update reaches a listener wherever it is.
Redis is listened to only while somebody listens here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from serving.mcp.counts import McpCounts
from serving.mcp.market import Market
from serving.mcp.updates import LIST_URI, Updates
from serving.reader import StoreUnavailable
from tapeline.clock import Clock
from tapeline.logging import get_logger

RETRY_S: Final = 0.25
TICK_S: Final = 0.05
"""How often what is due is looked at."""

PING_S: Final = 1.0
log = get_logger("mcp")


class _Announcement(msgspec.Struct):
    symbol: str


class _Event(msgspec.Struct):
    """An event as it travels between replicas."""

    kind: str
    uri: str = ""


_decode_announcement: Final = msgspec.json.Decoder(_Announcement).decode
_decode_event: Final = msgspec.json.Decoder(_Event).decode
_LISTS: Final[dict[str, ServerEvent]] = {
    "tools": ToolsListChanged(),
    "prompts": PromptsListChanged(),
    "resources": ResourcesListChanged(),
}

Listener = Callable[[ServerEvent], None]


class RedisBus:
    """A `mcp.server.subscriptions.SubscriptionBus` over Redis pub/sub.

    Args:
        redis: A client of `serving.reader.reader_client`.
        keys: Key names.
        clock: What time is told by.
        market: Knows which symbols there are, for what may have been missed.
        counts: What is counted.

    Attributes:
        hears: Whether announcements are heard now.
    """

    def __init__(
        self, redis: Redis, keys: Keys, clock: Clock, market: Market, counts: McpCounts
    ) -> None:
        self._redis, self._keys, self._clock, self._market = redis, keys, clock, market
        self._counts = counts
        self._listeners: dict[object, Listener] = {}
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._updates = Updates()
        self._wanted = asyncio.Event()
        self.hears = False

    # --- the SDK's protocol ----------------------------------------------------------------------

    async def publish(self, event: ServerEvent) -> None:
        """Tell the listeners of every replica; those of this one hear it from Redis, as all do."""
        if isinstance(event, ResourceUpdated):
            said = _Event("updated", event.uri)
        else:
            said = _Event(next(kind for kind, known in _LISTS.items() if known == event))
        await self._redis.publish(self._keys.mcp_events(), msgspec.json.encode(said))

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Register a listener; the call that is returned takes it off again."""
        token = object()
        self._listeners[token] = listener
        self._wanted.set()

        def unsubscribe() -> None:
            self._listeners.pop(token, None)
            self._rest()

        return unsubscribe

    # --- waiting for one symbol ------------------------------------------------------------------

    @asynccontextmanager
    async def writes_of(self, symbol: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set by each announced write of a symbol; who waits clears it."""
        event = asyncio.Event()
        self._waiters.setdefault(symbol, set()).add(event)
        self._wanted.set()
        try:
            yield event
        finally:
            self._waiters[symbol].discard(event)
            if not self._waiters[symbol]:
                del self._waiters[symbol]
            self._rest()

    def wake_all(self) -> None:
        """Whoever waits looks again."""
        for events in self._waiters.values():
            for event in events:
                event.set()

    # --- listening -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Listen until cancelled, whenever somebody listens here."""
        while True:
            await self._wanted.wait()
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("mcp.deaf", error=repr(error))
                await asyncio.sleep(RETRY_S)
            finally:
                self.hears = False

    def _rest(self) -> None:
        if not self._listeners and not self._waiters:
            self._wanted.clear()

    async def _listen(self) -> None:
        async with self._redis.pubsub() as channel:
            async with asyncio.timeout(2 * PING_S):
                await channel.psubscribe(self._keys.every_report())
                await channel.subscribe(self._keys.mcp_events())
            heard_ms = asked_ms = self._clock.monotonic_ms()
            while self._wanted.is_set():
                message = await channel.get_message(timeout=TICK_S)
                now_ms = self._clock.monotonic_ms()
                while message is not None:
                    heard_ms = now_ms
                    await self._take(message, now_ms)
                    message = await channel.get_message(timeout=0)
                self._say(self._updates.passed(now_ms))
                if now_ms - max(heard_ms, asked_ms) >= 1000 * PING_S:
                    if asked_ms > heard_ms:
                        raise TimeoutError("no answer on the subscription")
                    asked_ms = now_ms
                    async with asyncio.timeout(PING_S):
                        await channel.ping()

    async def _take(self, message: dict[str, Any], now_ms: int) -> None:
        match message["type"]:
            case "psubscribe":
                # Now, or again: the client connects anew by itself. What was announced between
                # the listener's beginning and this moment is not known, so all is told of.
                self.hears = True
                with contextlib.suppress(StoreUnavailable):
                    self._updates.knows(await self._market.names(), now_ms)
                self._say(self._updates.missed(now_ms))
                self.wake_all()
            case "pmessage" if self._keys.announces(message["channel"]):
                # Other programs may have channels of such names: what is none of ours is left.
                with contextlib.suppress(msgspec.DecodeError):
                    symbol = _decode_announcement(message["data"]).symbol
                    for event in self._waiters.get(symbol, ()):
                        event.set()
                    self._say(self._updates.wrote(symbol, now_ms))
            case "message":
                with contextlib.suppress(msgspec.DecodeError):
                    said = _decode_event(message["data"])
                    if said.kind in _LISTS:
                        self._tell(_LISTS[said.kind])
                    elif said.kind == "updated":
                        self._tell(ResourceUpdated(said.uri))

    def _say(self, uris: Iterable[str]) -> None:
        for uri in uris:
            self._tell(ResourceUpdated(uri))
            if uri == LIST_URI:
                self._tell(ResourcesListChanged())

    def _tell(self, event: ServerEvent) -> None:
        self._counts.events.inc()
        for listener in list(self._listeners.values()):
            listener(event)
