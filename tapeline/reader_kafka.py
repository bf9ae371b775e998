"""What a reader has of Kafka, where it is told of one: commands to the bridges, and events."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from serving.feeds import ControlUnavailable, Outcome, UnknownFeed
from serving.hub.events import MakeEvents
from tapeline.config import Settings, mask
from tapeline.errors import ConfigError, TopicError

if TYPE_CHECKING:
    from streams.commands import Command

ANSWER_S: Final = 5.0
"""How long a bridge may take: until the venue has sent something of the symbol."""

AT_ONCE: Final = 4
"""Commands under way; each has connections of its own, and others wait."""


def events_of(settings: Settings) -> MakeEvents | None:
    """Where the hub has events from; None for the Redis Streams.

    Raises:
        ConfigError: They are to come from Kafka, and none is named.
    """
    if settings.hub_events == "kafka" and not settings.kafka_url:
        raise ConfigError("KAFKA_URL", None, "a broker, as NT_HUB_EVENTS is kafka")
    if settings.hub_events == "redis" or not settings.kafka_url:
        return None
    from tapeline.kafka_events import KafkaEvents  # noqa: PLC0415

    return partial(KafkaEvents, settings)


class KafkaFeedControl:
    """A `serving.feeds.FeedControl` that uses the control topics.

    Commands are rare: each connects anew, so that a reader that nobody commands holds no connection
    to the broker, and starts without one.
    """

    def __init__(self, settings: Settings, answer_s: float = ANSWER_S) -> None:
        """Nothing is opened.

        Args:
            settings: ``kafka_url`` and the names of the topics.
            answer_s: How long to wait for a bridge.
        """
        self._settings, self._answer_s = settings, answer_s
        self._room = asyncio.Semaphore(AT_ONCE)

    async def follow(self, venue: str, symbol: str, venue_symbol: str) -> Outcome:
        """See `serving.feeds.FeedControl`."""
        # Kafka's client takes a while to import: readers start without it.
        from streams.control_client import subscribe  # noqa: PLC0415
        from streams.symbols import parse_symbols  # noqa: PLC0415

        name = f"{venue}:{venue_symbol or symbol}>{symbol}"
        try:
            listings = parse_symbols(name, name="stream") if "," not in name else ()
            (listing,) = listings
        except (ConfigError, ValueError) as error:
            raise UnknownFeed(str(error)) from None
        return await self._send(subscribe(listing))

    async def unfollow(self, venue: str, symbol: str) -> Outcome:
        """See `serving.feeds.FeedControl`."""
        from streams.control_client import unsubscribe  # noqa: PLC0415
        from streams.symbols import check_venue, is_symbol  # noqa: PLC0415

        try:
            check_venue(venue, name="stream")
        except ConfigError as error:
            raise UnknownFeed(str(error)) from None
        if not is_symbol(symbol):
            raise UnknownFeed(f"{symbol!r} can't be a canonical symbol, such as BTCUSDT")
        return await self._send(unsubscribe((venue, symbol)))

    async def _send(self, command: Command) -> Outcome:
        from streams.control_client import control_client  # noqa: PLC0415

        try:
            async with self._room, control_client(self._settings) as client:
                answer = (await client.send([command], self._answer_s)).get(command.command_id)
        except TopicError as error:
            raise ControlUnavailable(mask(str(error))) from None
        if answer is None:
            return Outcome(command_id=command.command_id, status="unanswered")
        return Outcome(
            command_id=command.command_id,
            status="error" if answer.status == "error" else "success",
            error=answer.error,
            changed=answer.changed,
            routing_version=answer.routing_version,
            node_id=answer.node_id,
        )
