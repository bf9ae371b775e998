"""Removing a dead member from the consumer group, instead of waiting for its session to end.

A worker that was killed stays a member until its session times out, and until then a worker
started in its place gets no partitions: 10 s and more. The broker lets anybody who may read
the group say that a member has left, so a starting worker says so of its own previous self,
recognised by the client id that names the node.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from tapeline.logging import get_logger

JOIN_WAIT_S: Final = 5.0
POLL_S: Final = 0.05
_UNKNOWN_MEMBER_ID: Final = 25

log = get_logger("eviction")


def client_id(node_id: str) -> str:
    """What a node calls itself to the broker; its member ids begin with it."""
    return f"nt-{node_id}"


async def _members(admin: AIOKafkaAdminClient, group: str, client: str) -> set[str]:
    """Member ids in ``group`` of the given client id."""
    found: set[str] = set()
    for response in await admin.describe_consumer_groups([group]):
        for described in response.groups:
            found |= {member[0] for member in described[5] if member[1] == client}
    return found


class Eviction:
    """Takes the dead members of one client id out of a group.

    `look` before joining says who they are; `evict` takes them out once the successor is in:
    a group left empty in between would start over with the broker's initial delay of 3 s,
    while one that only waits for a dead member goes on at once when that leaves.

    The caller has made sure that no other node of this id lives: a live one would only rejoin,
    at the cost of two rebalances.
    """

    def __init__(self, bootstrap: list[str], group: str, client: str) -> None:
        self._bootstrap, self._group, self._client = bootstrap, group, client
        self._dead: set[str] = set()

    async def look(self) -> None:
        """Note the members that are there before ours."""
        async with self._admin() as admin:
            try:
                self._dead = await _members(admin, self._group, self._client)
            except KafkaError as error:
                # A broker that has never had a group has no coordinator yet, and no dead member.
                log.info("group.unknown", group=self._group, error=str(error))

    async def evict(self) -> None:
        """Take them out as soon as a new member of ours is there, or it takes too long."""
        if not self._dead:
            return
        async with self._admin() as admin:
            try:
                await self._until_joined(admin)
                coordinator = await admin.find_coordinator(self._group)
                for member in self._dead:
                    request = LeaveGroupRequest(self._group, member)
                    answer = await admin._send_request(request, coordinator)
                    if answer.error_code not in (0, _UNKNOWN_MEMBER_ID):
                        log.warning("member.not_evicted", member=member, code=answer.error_code)
                log.info("member.evicted", members=sorted(self._dead), group=self._group)
            except KafkaError as error:
                # Then its session times out; slower, and just as good.
                log.warning("member.not_evicted", group=self._group, error=str(error))

    async def _until_joined(self, admin: AIOKafkaAdminClient) -> None:
        deadline = time.monotonic() + JOIN_WAIT_S
        while time.monotonic() < deadline:
            if await _members(admin, self._group, self._client) - self._dead:
                return
            await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self._bootstrap, client_id=f"{self._client}-evict"
        )
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()
