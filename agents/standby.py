"""Which partitions are kept warm: those the assignor names, those given up a moment ago, and
between two assignments our own.

A warm copy begins with what the changelog holds, goes on from the group's committed offset, and
is then as far on as its owner. Nobody asks it anything until its owner is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from agents.eviction import Group
from agents.positions import warm_up_offsets
from agents.shards import Shards
from agents.stored import Stored, stored_of
from agents.tail import Tail
from tapeline.clock import Clock
from tapeline.errors import TapelineError
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger

RETRY_S: Final = 1.0
READ_MS: Final = 500

log = get_logger("standby")


async def committed_offsets(
    group: Group, topic: str, partitions: Collection[int]
) -> dict[int, int | None]:
    """What a group has committed; None where it has nothing."""
    tps = [TopicPartition(topic, partition) for partition in partitions]
    async with group.admin() as admin:
        found = await admin.list_consumer_group_offsets(group.name, partitions=tps)
    return {tp.partition: at.offset if at.offset >= 0 else None for tp, at in found.items()}


async def read_changelog(
    access: KafkaAccess, topic: str, partitions: Collection[int], listed: Collection[str]
) -> Stored:
    """All that some partitions of the changelog hold now."""
    consumer = AIOKafkaConsumer(**access.arguments(), enable_auto_commit=False)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, partition) for partition in partitions]
        ends = await consumer.end_offsets(tps)
        begins = await consumer.beginning_offsets(tps)
        left = {tp for tp in tps if begins[tp] < ends[tp]}
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, begins[tp])
        newest: dict[bytes, bytes] = {}
        while left:
            for records in (await consumer.getmany(*left, timeout_ms=READ_MS)).values():
                for record in records:
                    if record.value is None:
                        newest.pop(record.key, None)
                    else:
                        newest[record.key] = record.value
            # Not by the last record: what is last may be one that no consumer is given.
            left = {tp for tp in left if await consumer.position(tp) < ends[tp]}
        return stored_of(newest.items(), listed)
    finally:
        await consumer.stop()


class Standby:
    """Keeps partitions warm.

    Args:
        access: The brokers.
        group: The consumer group.
        topic, changelog: The events topic and the table's.
        shards: Where the engines are.
        tail: What feeds them.
        held: Whether this node holds a lease of some symbol of a partition.
        clock: For how far back to start.
    """

    def __init__(
        self,
        access: KafkaAccess,
        group: Group,
        topic: str,
        changelog: str,
        shards: Shards,
        tail: Tail,
        held: Callable[[int], bool],
        clock: Clock,
    ) -> None:
        self._access, self._group = access, group
        self._topic, self._changelog = topic, changelog
        self._shards, self._tail, self._held, self._clock = shards, tail, held, clock
        self._wanted: set[int] = set()
        self._own: set[int] = set()  # assigned, and fed here until the group's flow is as far
        self._loading: asyncio.Task[None] | None = None

    # --- what the group says -----------------------------------------------------------------------

    def pause(self, positions: Mapping[int, int]) -> None:
        """The group's flow stops: our own partitions go on from here."""
        self._own |= positions.keys()
        self._tail.feed(positions)

    def assigned(self, active: Collection[int], standby: Collection[int]) -> None:
        """The group has assigned anew, and `Shards.assign` has been called."""
        self._wanted = set(standby)
        self._own &= set(active)
        self.review()
        missing = self._wanted - self._tail.fed() - set(active)
        if self._loading is not None:
            self._loading.cancel()
            self._loading = None
        if missing:
            self._loading = asyncio.create_task(self._load(missing), name="standby")

    def restart(self, partitions: Collection[int]) -> None:
        """Engines of these have stepped back: only the group's flow is behind them now."""
        self._own -= set(partitions)
        self._tail.drop(partitions)

    def flowing(self, partition: int, position: int) -> None:
        """The group's flow has come so far."""
        if partition in self._own:
            ahead = self._tail.position(partition)
            if ahead is None or position >= ahead:
                self._own.discard(partition)
                self._tail.drop((partition,))

    def review(self) -> None:
        """Let go of partitions that are neither wanted, nor ours, nor written by us."""
        idle = {
            partition
            for partition in self._shards.warm_partitions()
            if partition not in self._wanted and not self._held(partition)
        }
        if idle:
            self._tail.drop(idle)
            self._shards.cool(idle)

    # --- what it has -------------------------------------------------------------------------------

    def ready(self) -> list[str]:
        """Symbols whose warm copy is as far on as the topic."""
        ready = {p for p in self._shards.warm_partitions() if self._tail.is_current(p)}
        return self._shards.symbols_of(ready)

    def warming(self) -> list[str]:
        """Symbols that are to be kept warm, and whose copy is not there yet."""
        return self._shards.symbols_of(
            {partition for partition in self._wanted if not self._tail.is_current(partition)}
        )

    def lost(self, partitions: Collection[int]) -> None:
        """The topic does not go on where we are: begin again from the changelog."""
        self._own -= set(partitions)
        self._tail.drop(partitions)
        self._shards.cool(partitions)
        if self._wanted.isdisjoint(partitions):
            return
        # Whatever is being loaded now is begun again with them: there is one load at a time.
        if self._loading is not None:
            self._loading.cancel()
        missing = self._wanted - self._tail.fed()
        self._loading = asyncio.create_task(self._load(missing, RETRY_S), name="standby")

    # --- loading -----------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End whatever is under way."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
            self._loading = None

    async def _load(self, partitions: set[int], wait_s: float = 0.0) -> None:
        await asyncio.sleep(wait_s)
        while True:
            try:
                await self._load_once(partitions)
            except (KafkaError, OSError, TapelineError) as error:
                log.warning("standby.not_loaded", partitions=len(partitions), error=repr(error))
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("standby.not_loaded", partitions=len(partitions))
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _load_once(self, partitions: set[int]) -> None:
        """Checkpoints, and behind them the records.

        The committed offsets are asked for first: whatever is committed, the changelog that is
        read after it covers.
        """
        committed = await committed_offsets(self._group, self._topic, partitions)
        stored = await read_changelog(
            self._access, self._changelog, partitions, self._shards.partition_of
        )
        far_back = await warm_up_offsets(
            self._access, self._topic, partitions, self._clock.now_ms()
        )
        # From here on nothing is awaited: engines and where they are fed from belong together.
        wanted = self._wanted & partitions
        self._shards.cool(wanted)
        refused = self._shards.warm(wanted, stored.newest())
        rebuilt = {self._shards.partition_of[symbol] for symbol in refused | stored.unreadable}
        starts: dict[int, int] = {}
        for partition in wanted:
            at = committed.get(partition)
            starts[partition] = far_back[partition] if at is None or partition in rebuilt else at
        self._tail.feed(starts)
        log.info("standby.loaded", partitions=len(wanted), symbols=len(stored.tokens))
