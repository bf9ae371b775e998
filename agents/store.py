"""The table's memory: what the changelog holds of the partitions that are ours, and up to where.

Faust's memory store remembers no offsets, so each assignment would read each changelog again:
all of it, or, of partitions that were kept, all since the last time; and it drops what was kept
for a standby. This one knows for each partition up to which offset it holds everything, so a
recovery reads on from there.

What it gives to restore is what reading the changelog from its beginning would give. That rests
on three rules:

1. An offset is known only through an unbroken chain: records that recovery read in order, then
   own records whose acknowledged offsets follow one upon another. Another writer's record in
   between (one that was paused, and woke up) breaks it: the partition is forgotten, and read
   from the beginning the next time.
2. A partition that was another's for a generation of the group, however short, is forgotten:
   tombstones of that time may have been compacted away before we would read them.
3. A changelog that ends before, or begins behind, the known offset is not the one that was read.

It may hold a key that another writer's tombstone has deleted, and that compaction has removed
unread: of a lower token than one that is there, so it never wins, and goes with the next own
checkpoint. Under each key there is the newest value, and writers tombstone the keys of lower
tokens: in the long run memory holds one checkpoint a symbol.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final

import faust
from faust.stores import memory
from faust.types import TP

from tapeline.logging import get_logger

PENDING_MAX: Final = 64
"""Acknowledged records that may wait for one before them; more have a gap, not a delay."""

NEVER: Final = -1

log = get_logger("store")


class TapelineStore(memory.Store):
    """Keys and values of the changelog, with the offset that they stand for.

    Attributes:
        records_read: What recoveries have read, also if it was known.
    """

    records_read = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._offsets: dict[int, int] = {}
        self._held: set[int] = set()
        self._pending: dict[int, dict[int, tuple[bytes, bytes | None]]] = defaultdict(dict)
        self._generation = NEVER

    # --- what recovery asks and tells ------------------------------------------------------------

    def persisted_offset(self, tp: TP) -> int | None:
        """Offset up to which all of the partition is here; None: read it from the beginning."""
        return self._offsets.get(tp.partition)

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Nothing: that one record was sent does not mean that those before it are here."""

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],
        newly_assigned: set[TP],
        generation_id: int = 0,
    ) -> None:
        """Keep the partitions that stay ours; forget what is, or has been, another's."""
        changelog = self.table.changelog_topic.get_topic_name()
        mine = {tp.partition for tp in assigned if tp.topic == changelog}
        unbroken = generation_id == self._generation + 1
        for partition in self._held:
            # What still waits for one before it waits for a record that is not ours.
            if not unbroken or partition not in mine or self._pending.get(partition):
                self.forget(partition)
        self._held, self._generation = mine, generation_id

    def recovered(self, offsets: dict[TP, int]) -> None:
        """Recovery has read these partitions up to these offsets, whatever was left in them."""
        for tp, offset in offsets.items():
            if tp.partition in self._held:
                self._advance(tp.partition, offset)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Nothing is to be dropped: standbys stay, and the rest has been forgotten."""

    def apply_changelog_batch(
        self, batch: Iterable[Any], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Take what recovery, or a standby, has read."""
        for event in batch:
            message = event.message
            partition = message.partition
            self.records_read += 1
            if partition in self._held and message.offset > self._offsets.get(partition, NEVER):
                value = event.value if message.value is not None else None
                self._put(partition, to_key(event.key), to_value(value))
                self._advance(partition, message.offset)

    # --- what the worker wrote -------------------------------------------------------------------

    def written(self, partition: int, offset: int, key: bytes, value: bytes | None) -> None:
        """A record of ours has been acknowledged at that offset."""
        known = self._offsets.get(partition)
        if known is None or partition not in self._held:
            return
        if offset <= known:
            if not self._holds(key, value):
                self._broken(partition, offset, known)
            return
        pending = self._pending[partition]
        pending[offset] = (key, value)
        if offset == known + 1:
            self._take_pending(partition)
        elif len(pending) > PENDING_MAX:
            self._broken(partition, offset, known)

    def _holds(self, key: bytes, value: bytes | None) -> bool:
        """Whether that is what reading it has given: recovery may be quicker than an answer."""
        return bool(self.data.get(key) == value)

    def _broken(self, partition: int, offset: int, known: int) -> None:
        log.warning("changelog.another_writer", partition=partition, offset=offset, known=known)
        self.forget(partition)

    def _take_pending(self, partition: int) -> None:
        pending = self._pending[partition]
        while (at := self._offsets[partition] + 1) in pending:
            self._put(partition, *pending.pop(at))
            self._offsets[partition] = at

    def _advance(self, partition: int, offset: int) -> None:
        self._offsets[partition] = max(offset, self._offsets.get(partition, NEVER))
        pending = self._pending[partition]
        for read in [at for at in pending if at <= offset]:
            del pending[read]
        self._take_pending(partition)

    # --- keys ------------------------------------------------------------------------------------

    def _put(self, partition: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.data.pop(key, None)
            self._key_partition.pop(key, None)
        else:
            self.data[key] = value
            self._key_partition[key] = partition

    def forget(self, partition: int) -> None:
        """Hold nothing of it any more; the next recovery begins at its beginning."""
        self._offsets.pop(partition, None)
        self._pending.pop(partition, None)
        for key in [k for k, home in self._key_partition.items() if home == partition]:
            self.data.pop(key, None)
            del self._key_partition[key]


class EngineTable(faust.Table):  # type: ignore[type-arg, misc, unused-ignore]
    """Faust's table over `TapelineStore`, which it tells of each record that was acknowledged."""

    def _new_store(self) -> TapelineStore:
        return TapelineStore(
            "memory://",
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_type=self.value_type,
            value_serializer=self.value_serializer,
            loop=self.loop,
            options=self.options,
        )

    def _on_changelog_sent(self, fut: Any) -> None:
        sent, message = fut.result(), fut.message
        self.data.written(sent.partition, sent.offset, message.key, message.value)
