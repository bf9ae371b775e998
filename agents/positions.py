"""Comparing what engines have applied with what the topic holds.

Two things can have happened while nobody looked: the topic was deleted and created again, so
offsets start over, or records expired before they were read. The second shows itself, as a
hole in the feed's sequence. The first must be found out before a single record is skipped as
"already applied".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger

WARM_UP_MS = 35 * 60 * 1000
"""How far back to start where nothing is committed: 30 minutes of memory, and the 5 within
which a bridge repeats instrument and book."""

_CONFIRM_MS: Final = 1000
_RETRY_S: Final = 0.05

log = get_logger("positions")


def recreated(applied: Mapping[int, int], end_offsets: Mapping[int, int]) -> set[int]:
    """Partitions that end before what has been applied of them.

    Args:
        applied: Highest applied offset by partition, -1 for none.
        end_offsets: Next offset to be written, by partition.
    """
    return {p for p, offset in applied.items() if offset + 1 > end_offsets.get(p, offset + 1)}


async def confirm_recreated(
    access: KafkaAccess, topic: str, suspects: Mapping[int, int]
) -> set[int]:
    """Of the suspected partitions, those that really hold no record at the applied offset.

    An embedded development broker answers ``end_offsets`` too low, so the record itself is
    asked for.

    Args:
        access: The brokers.
        topic: The topic suspected.
        suspects: Applied offset by partition.
    """
    consumer = AIOKafkaConsumer(
        **access.arguments(), enable_auto_commit=False, auto_offset_reset="none"
    )
    await consumer.start()
    try:
        # All at once: where a topic has hundreds of partitions, one after the other would take
        # minutes, and look like a recovery that hangs.
        waiting = {TopicPartition(topic, p): offset for p, offset in suspects.items()}
        consumer.assign(list(waiting))
        for tp, offset in waiting.items():
            consumer.seek(tp, offset)
        gone: set[int] = set()
        try:
            async with asyncio.timeout(_CONFIRM_MS / 1000):
                while waiting:
                    gone |= await _answered(consumer, waiting)
        except TimeoutError:
            gone |= {tp.partition for tp in waiting}
        return gone
    finally:
        await consumer.stop()


async def _answered(consumer: AIOKafkaConsumer, waiting: dict[TopicPartition, int]) -> set[int]:
    """Take those that were answered out of ``waiting``; the ones without that record."""
    gone: set[int] = set()
    try:
        found = await consumer.getmany(*waiting, timeout_ms=_CONFIRM_MS)
    except OffsetOutOfRangeError as error:
        for tp in error.args[0]:
            waiting.pop(tp, None)
            gone.add(tp.partition)
        return gone
    except KafkaError as error:
        log.warning("topic.not_confirmed", error=repr(error))
        await asyncio.sleep(_RETRY_S)
        return gone
    for tp, records in found.items():
        if records[0].offset != waiting.pop(tp):
            gone.add(tp.partition)
    return gone


async def warm_up_offsets(
    access: KafkaAccess, topic: str, partitions: set[int], now_ms: int
) -> dict[int, int]:
    """Where to start partitions of which nothing is committed: the first record 35 min back.

    Partitions without a record that new start at their beginning.
    """
    consumer = AIOKafkaConsumer(**access.arguments(), enable_auto_commit=False)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, partition) for partition in partitions]
        found = await consumer.offsets_for_times(dict.fromkeys(tps, now_ms - WARM_UP_MS))
        begins = await consumer.beginning_offsets(tps)
        # Not the end offset where nothing is that new: what comes between the two answers
        # would be lost. Old records cost time only.
        return {tp.partition: found[tp].offset if found.get(tp) else begins[tp] for tp in tps}
    finally:
        await consumer.stop()


async def offsets_since(
    access: KafkaAccess, topic: str, partitions: set[int], time_ms: int
) -> dict[int, int]:
    """Where the records written at ``time_ms`` or later begin; without partitions that have none."""
    consumer = AIOKafkaConsumer(**access.arguments(), enable_auto_commit=False)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, partition) for partition in partitions]
        found = await consumer.offsets_for_times(dict.fromkeys(tps, time_ms))
        return {tp.partition: at.offset for tp, at in found.items() if at is not None}
    finally:
        await consumer.stop()
