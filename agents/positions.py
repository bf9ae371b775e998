"""Comparing what engines have applied with what the topic holds.

Two things can have happened while nobody looked: the topic was deleted and created again, so
offsets start over, or records expired before they were read. The second shows itself, as a
hole in the feed's sequence. The first must be found out before a single record is skipped as
"already applied".
"""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

WARM_UP_MS = 35 * 60 * 1000
"""How far back to start where nothing is committed: 30 minutes of memory, and the 5 within
which a bridge repeats instrument and book."""

_CONFIRM_MS = 1000


def recreated(applied: Mapping[int, int], end_offsets: Mapping[int, int]) -> set[int]:
    """Partitions that end before what has been applied of them.

    Args:
        applied: Highest applied offset by partition, -1 for none.
        end_offsets: Next offset to be written, by partition.
    """
    return {p for p, offset in applied.items() if offset + 1 > end_offsets.get(p, offset + 1)}


async def confirm_recreated(
    bootstrap: list[str], topic: str, suspects: Mapping[int, int]
) -> set[int]:
    """Of the suspected partitions, those that really hold no record at the applied offset.

    An embedded development broker answers ``end_offsets`` too low, so the record itself is
    asked for.

    Args:
        bootstrap: Brokers, ``host:port``.
        topic: The topic suspected.
        suspects: Applied offset by partition.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="none"
    )
    await consumer.start()
    try:
        gone = set()
        for partition, offset in suspects.items():
            tp = TopicPartition(topic, partition)
            consumer.assign([tp])
            consumer.seek(tp, offset)
            try:
                records = (await consumer.getmany(tp, timeout_ms=_CONFIRM_MS)).get(tp, [])
            except KafkaError:
                records = []
            if not records or records[0].offset != offset:
                gone.add(partition)
        return gone
    finally:
        await consumer.stop()


async def warm_up_offsets(
    bootstrap: list[str], topic: str, partitions: set[int], now_ms: int
) -> dict[int, int]:
    """Where to start partitions of which nothing is committed: the first record 35 min back.

    Partitions without a record that new start at their beginning.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
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
