"""What the bridges follow: ``SYMBOLS``, and what commands have made of it since.

The bridges keep the set on ``control.routing.v1``. A worker without that topic, or without a bridge
that has written to it, goes by ``SYMBOLS`` alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.commands import RoutingState, decode_state
from streams.merged import Merge
from streams.routing import Routing
from streams.symbols import Listing
from tapeline.config import Settings
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger

LOAD_S: Final = 5.0
"""How long a start waits for the set; what it brings later is followed then."""

POLL_MS: Final = 500
FETCH_WAIT_MS: Final = 100
RETRY_S: Final = 5.0
STOP_S: Final = 1.0

log = get_logger("following")


class Followed(NamedTuple):
    """What a worker has to do with.

    Attributes:
        listings: Symbols, and where they are listed.
        merges: Windows of several venues' events that are asked for.
    """

    listings: tuple[Listing, ...]
    merges: tuple[Merge, ...] = ()


def followed_by(initial: Iterable[Listing], state: RoutingState) -> Followed:
    """What is followed by a worker whose ``SYMBOLS`` are ``initial``."""
    routing = Routing(initial)
    routing.restore(state)
    return Followed(tuple(routing.listings.values()), tuple(routing.merges.values()))


class Following:
    """Reads the set that bridges keep.

    Args:
        settings: Of the worker.
        initial: What ``SYMBOLS`` says.
        on_followed: Told of the set, each time that it is written.
    """

    def __init__(
        self,
        settings: Settings,
        initial: Iterable[Listing],
        on_followed: Callable[[Followed], None],
    ) -> None:
        self._settings = settings
        self._initial = tuple(initial)
        self._on_followed = on_followed

    async def load(self) -> Followed:
        """The set as it is now; that of ``SYMBOLS`` where there is none, or it can't be read."""
        try:
            async with asyncio.timeout(LOAD_S), self._consumer() as (consumer, tp):
                if tp is None:
                    return Followed(self._initial)
                (end,) = (await consumer.end_offsets([tp])).values()
                newest: RoutingState | None = None
                while await consumer.position(tp) < end:
                    newest = await self._next(consumer, tp) or newest
                return followed_by(self._initial, newest) if newest else Followed(self._initial)
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("routing.not_read", error=repr(error))
            return Followed(self._initial)

    async def run(self) -> None:
        """Follow it until cancelled."""
        while True:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with self._consumer() as (consumer, tp):
                    while tp is not None:
                        state = await self._next(consumer, tp)
                        if state is not None:
                            self._on_followed(followed_by(self._initial, state))
            await asyncio.sleep(RETRY_S)

    async def _next(self, consumer: Any, tp: TopicPartition) -> RoutingState | None:
        """The newest of what the next fetch brings; None for nothing."""
        found = (await consumer.getmany(tp, timeout_ms=POLL_MS)).get(tp, ())
        states = [state for record in found if (state := decode_state(record.value)) is not None]
        return states[-1] if states else None

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[tuple[Any, TopicPartition | None]]:
        """A consumer at the topic's beginning; None for the partition where there is no topic."""
        consumer = AIOKafkaConsumer(
            **KafkaAccess.of(self._settings).arguments(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        try:
            await consumer.start()
            topic = self._settings.routing_topic
            # Of all topics: asked about one by name, some brokers create it.
            if topic not in await consumer.topics():
                yield consumer, None
                return
            tp = TopicPartition(topic, 0)
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            yield consumer, tp
        finally:
            # Without a broker aiokafka waits for what it has asked of it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await consumer.stop()
