"""An independent look at the broker: what there is to read, what is committed, who is a member.

A consumer that has fallen silent knows nothing of what it misses, so its own view can't be the
judge of it. This one has a connection of its own, asks four small questions and is bounded in
time: an answer that does not come is an answer, too.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from tapeline.kafka_access import KafkaAccess

LOOK_TIMEOUT_S: Final = 1.5
"""Longest a look takes; a broker that needs longer is as good as away."""

_READ_UNCOMMITTED: Final = 0
_LATEST: Final = -1
_FORMING: Final = frozenset({"PreparingRebalance", "CompletingRebalance"})
_KNOWN_STATES: Final = _FORMING | {"Stable", "Empty", "Dead"}


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found.

    Attributes:
        outages: What is away, by name, with what was said; nothing else is judged meanwhile.
        ends: Next offset to be written, by partition of the events topic.
        committed: The group's committed offset by partition; -1 for none.
        group_forming: Whether the group waits for members; None if the broker does not tell.
    """

    outages: Mapping[str, str] = field(default_factory=dict)
    ends: Mapping[int, int] = field(default_factory=dict)
    committed: Mapping[int, int] = field(default_factory=dict)
    group_forming: bool | None = None


class BrokerLook:
    """Looks at one group, its events topic and its changelog."""

    def __init__(
        self, access: KafkaAccess, client_id: str, group: str, topic: str, changelog: str
    ) -> None:
        self._access, self._client_id = access, f"{client_id}-look"
        self._group, self._topic, self._changelog = group, topic, changelog
        self._admin: AIOKafkaAdminClient | None = None

    async def look(self, partitions: Collection[int]) -> Look:
        """One look; never raises, never lasts longer than `LOOK_TIMEOUT_S` and a little."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                return await self._look(partitions)
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            return Look(outages={"broker": str(error) or type(error).__name__})

    async def close(self) -> None:
        """Disconnect; the next look connects anew."""
        admin, self._admin = self._admin, None
        if admin is not None:
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    await admin.close()

    async def _look(self, partitions: Collection[int]) -> Look:
        if self._admin is None:
            admin = AIOKafkaAdminClient(
                **self._access.arguments(),
                client_id=self._client_id,
                request_timeout_ms=int(LOOK_TIMEOUT_S * 1000),
            )
            self._admin = admin
            await admin.start()
        leaders, outages = await self._leaders(self._admin)
        wanted = {p: leaders[p] for p in partitions if p in leaders}
        if len(wanted) < len(partitions) and "topic" not in outages:
            outages["topic"] = f"{self._topic}: partitions without a leader"
        ends = await self._ends(self._admin, wanted)
        try:
            coordinator = await self._admin.find_coordinator(self._group)
            forming = await self._forming(self._admin, coordinator)
            committed = await self._committed(self._admin, coordinator, partitions)
        except IncompatibleBrokerVersion:
            return Look(outages, ends)
        except (KafkaError, TypeError) as error:
            # TypeError: aiokafka trips over the error code of a group's offsets.
            outages["coordinator"] = str(error) or type(error).__name__
            return Look(outages, ends)
        return Look(outages, ends, committed, forming)

    async def _leaders(self, admin: AIOKafkaAdminClient) -> tuple[dict[int, int], dict[str, str]]:
        """Leader by partition of the events topic, and topics that are away."""
        names = [self._topic, self._changelog]
        request = MetadataRequest(names, allow_auto_topic_creation=False)
        client = admin._client
        metadata = await client.send(client.get_random_node(), request)
        client.cluster.update_metadata(metadata)
        described = {t["topic"]: t for t in metadata.to_object()["topics"] if not t["error_code"]}
        missing = [name for name in names if name not in described]
        outages = {"topic": f"{', '.join(missing)} does not exist"} if missing else {}
        found = described.get(self._topic, {"partitions": []})["partitions"]
        return {p["partition"]: p["leader"] for p in found if p["leader"] >= 0}, outages

    async def _ends(self, admin: AIOKafkaAdminClient, leaders: Mapping[int, int]) -> dict[int, int]:
        by_node: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for partition, node in leaders.items():
            by_node[node].append((partition, _LATEST))
        answers: list[Any] = await asyncio.gather(
            *(
                admin._client.send(
                    node, OffsetRequest(-1, _READ_UNCOMMITTED, [(self._topic, asked)])
                )
                for node, asked in by_node.items()
            )
        )
        ends: dict[int, int] = {}
        for answer in answers:
            for _topic, found in answer.topics:
                for partition, error, *told in found:
                    if not error:
                        # The oldest version answers with a list of offsets, others with a time.
                        ends[partition] = told[0][0] if isinstance(told[0], list) else told[1]
        return ends

    async def _forming(self, admin: AIOKafkaAdminClient, coordinator: int) -> bool | None:
        (answer,) = await admin.describe_consumer_groups([self._group], coordinator)
        state = answer.groups[0][2]
        return state in _FORMING if state in _KNOWN_STATES else None

    async def _committed(
        self, admin: AIOKafkaAdminClient, coordinator: int, partitions: Collection[int]
    ) -> dict[int, int]:
        if not partitions:
            return {}
        tps = [TopicPartition(self._topic, partition) for partition in partitions]
        found = await admin.list_consumer_group_offsets(self._group, coordinator, tps)
        return {tp.partition: at.offset for tp, at in found.items()}
