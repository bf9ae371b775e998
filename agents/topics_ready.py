"""Before the group is joined: the broker is there, and its topics have the shape that was planned."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from streams.topics import (
    PartitionCountError,
    admin_of,
    changelog_of,
    letters_of,
    partition_counts,
)
from tapeline.config import Settings
from tapeline.errors import TopicError
from tapeline.logging import get_logger

RETRY_S: Final = 1.0

log = get_logger("worker")


async def topics_ready(settings: Settings) -> Mapping[str, int]:
    """Wait for the broker; returns its topics, each with its number of partitions.

    Raises:
        TopicError: One that a worker can't do without is missing, or has another number.
    """
    wanted = settings.partitions
    partitioned = (settings.events_topic, changelog_of(settings.suffixed(settings.app_id)))
    while True:
        try:
            async with admin_of(settings) as admin:
                counts = await partition_counts(admin)
            break
        except TopicError as error:
            log.error("broker.unavailable", error=str(error))
            await asyncio.sleep(RETRY_S)
    for topic in (*partitioned, letters_of(settings)):
        if topic not in counts:
            raise TopicError(f"topic {topic} does not exist; run: tapeline topics apply")
        if topic in partitioned and counts[topic] != wanted:
            raise PartitionCountError(topic, wanted, counts[topic])
    return counts
