"""The control topics as a sender of commands has them: send, and wait for what becomes of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streams.commands import (
    COMMAND_VERSION,
    MERGED_SUBSCRIBE,
    MERGED_UNSUBSCRIBE,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Acknowledgement,
    Command,
    Key,
    MergeCommand,
    RoutingState,
    decode_acknowledgement,
    decode_state,
    encode,
)
from streams.symbols import Listing
from tapeline.clock import SystemClock
from tapeline.config import Settings
from tapeline.errors import TopicError
from tapeline.kafka_access import KafkaAccess

POLL_MS: Final = 200
FETCH_WAIT_MS: Final = 50
START_S: Final = 15.0


def subscribe(listing: Listing) -> Command:
    """A command to follow a symbol."""
    named = listing.venue_symbol if listing.venue_symbol != listing.symbol else ""
    return Command(
        v=COMMAND_VERSION,
        command_id=uuid.uuid4().hex,
        type=SUBSCRIBE,
        venue=listing.venue,
        symbol=listing.symbol,
        venue_symbol=named,
        ts_ms=SystemClock().now_ms(),
    )


def unsubscribe(key: Key) -> Command:
    """A command to follow a symbol no longer."""
    venue, symbol = key
    return Command(
        v=COMMAND_VERSION,
        command_id=uuid.uuid4().hex,
        type=UNSUBSCRIBE,
        venue=venue,
        symbol=symbol,
        ts_ms=SystemClock().now_ms(),
    )


def merged_subscribe(
    symbol: str, kinds: Sequence[str], venues: Sequence[str], window_s: float, max_events: int
) -> MergeCommand:
    """A command to merge windows of a symbol; without venues, of all that list it."""
    return MergeCommand(
        v=COMMAND_VERSION,
        command_id=uuid.uuid4().hex,
        type=MERGED_SUBSCRIBE,
        symbol=symbol,
        kinds=[*kinds],
        venues=[*venues],
        window_s=window_s,
        max_events=max_events,
        ts_ms=SystemClock().now_ms(),
    )


def merged_unsubscribe(symbol: str, kinds: Sequence[str]) -> MergeCommand:
    """A command to merge them no longer; without kinds, none of the symbol."""
    return MergeCommand(
        v=COMMAND_VERSION,
        command_id=uuid.uuid4().hex,
        type=MERGED_UNSUBSCRIBE,
        symbol=symbol,
        kinds=[*kinds],
        ts_ms=SystemClock().now_ms(),
    )


class ControlClient:
    """Sends commands and hears what becomes of them; see `control_client`."""

    def __init__(self, settings: Settings, consumer: Any, producer: Any) -> None:
        self._settings = settings
        self._consumer, self._producer = consumer, producer

    async def state(self) -> RoutingState | None:
        """The newest set that a bridge has kept; None if none ever has."""
        tp = TopicPartition(self._settings.routing_topic, 0)
        self._consumer.assign([tp])
        (end,) = (await self._consumer.end_offsets([tp])).values()
        await self._consumer.seek_to_beginning(tp)
        newest: RoutingState | None = None
        while await self._consumer.position(tp) < end:
            for records in (await self._consumer.getmany(tp, timeout_ms=POLL_MS)).values():
                states = [s for r in records if (s := decode_state(r.value)) is not None]
                newest = states[-1] if states else newest
        return newest

    async def send(
        self, commands: Iterable[Command | MergeCommand], timeout_s: float
    ) -> dict[str, Acknowledgement]:
        """Send commands, in order, and wait for the first answer to each.

        Returns:
            Answers by command id; without those that have not come within ``timeout_s``.
        """
        commands = list(commands)
        tp = TopicPartition(self._settings.telemetry_topic, 0)
        self._consumer.assign([tp])
        # Before anything is sent: the answer may be there before its sender has heard from Kafka.
        await self._consumer.seek_to_end(tp)
        await self._consumer.position(tp)
        await asyncio.gather(*[await self._put(command) for command in commands])
        waiting = {command.command_id for command in commands}
        answers: dict[str, Acknowledgement] = {}
        try:
            async with asyncio.timeout(timeout_s):
                while waiting:
                    for records in (await self._consumer.getmany(tp, timeout_ms=POLL_MS)).values():
                        for record in records:
                            answer = decode_acknowledgement(record.value)
                            if answer is not None and answer.command_id in waiting:
                                waiting.remove(answer.command_id)
                                answers[answer.command_id] = answer
        except TimeoutError:
            pass
        return answers

    async def _put(self, command: Command | MergeCommand) -> asyncio.Future[Any]:
        key = command.command_id.encode()
        sent: asyncio.Future[Any] = await self._producer.send(
            self._settings.commands_topic, encode(command), key
        )
        return sent


@asynccontextmanager
async def control_client(settings: Settings) -> AsyncIterator[ControlClient]:
    """A client of this installation's control topics.

    Raises:
        TopicError: No broker answers, or it lacks one of the topics.
    """
    access = KafkaAccess.of(settings)
    consumer = AIOKafkaConsumer(
        **access.arguments(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    producer = AIOKafkaProducer(**access.arguments(), acks="all")
    try:
        try:
            async with asyncio.timeout(START_S):
                await consumer.start()
                # Of all topics: asked about one by name, some brokers create it.
                there = await consumer.topics()
                for name in (
                    settings.commands_topic,
                    settings.routing_topic,
                    settings.telemetry_topic,
                ):
                    if name not in there:
                        raise TopicError(f"no topic {name}: run `tapeline topics apply`")
                await producer.start()
            yield ControlClient(settings, consumer, producer)
        finally:
            await producer.stop()
            await consumer.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        reason = await access.reason() or str(error) or type(error).__name__
        servers = ",".join(access.servers)
        raise TopicError(f"broker {servers} does not answer: {reason}") from error
