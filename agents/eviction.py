"""Removing dead members from the consumer group, instead of waiting for their session to end.

A worker that was killed stays a member until its session times out, 10 s and more. The broker lets
anybody who may read the group say that a member has left. So a starting worker says so of its own
previous self, and a peer of a node that has vanished; both know it by the client id, which names
the node.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.group import LeaveGroupRequest
from redis.asyncio import Redis

from agents.coordination.membership import TTL_S
from lua import Keys
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger

JOIN_WAIT_S: Final = 5.0
POLL_S: Final = 0.05
_UNKNOWN_MEMBER_ID: Final = 25

SIGN_WAIT_S: Final = 5.0
"""Longest wait for a second sign; a heartbeat has expired by then."""

SIGN_PERIOD_S: Final = 0.2
CONNECT_S: Final = 0.3
MISSED_BEATS_MS: Final = 2500
"""A heartbeat comes each second; without one for so long two are missing."""

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


class Group:
    """The consumer group, seen from outside.

    Args:
        access: The brokers.
        name: The group's.
        client: What to call ourselves to the broker.
    """

    def __init__(self, access: KafkaAccess, name: str, client: str) -> None:
        self._access, self.name, self._client = access, name, client

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """A connected client."""
        admin = AIOKafkaAdminClient(**self._access.arguments(), client_id=f"{self._client}-evict")
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def members(self, admin: AIOKafkaAdminClient, node_id: str) -> set[str]:
        """A node's member ids; one that starts while its predecessor is dead has two."""
        return await _members(admin, self.name, client_id(node_id))

    async def remove(self, admin: AIOKafkaAdminClient, members: set[str]) -> None:
        """Say that they have left; those that are gone already are as good.

        Raises:
            KafkaError: The broker has not done so.
        """
        coordinator = await admin.find_coordinator(self.name)
        for member in members:
            answer = await admin._send_request(LeaveGroupRequest(self.name, member), coordinator)
            if answer.error_code not in (0, _UNKNOWN_MEMBER_ID):
                raise for_code(answer.error_code)(f"{member} is still in {self.name}")
        log.info("member.evicted", members=sorted(members), group=self.name)


class Predecessor:
    """Takes this node's dead self out of the group.

    `look` before joining says which members those are; `evict` takes them out once the successor
    is in: a group left empty in between would start over with the broker's initial delay of 3 s,
    while one that only waits for a dead member goes on at once when that leaves.

    The caller has made sure that no other node of this id lives: a live one would only rejoin,
    at the cost of two rebalances.
    """

    def __init__(self, group: Group, node_id: str) -> None:
        self._group, self._node_id = group, node_id
        self._dead: set[str] = set()

    async def look(self) -> None:
        """Note the members that are there before ours."""
        async with self._group.admin() as admin:
            try:
                self._dead = await self._group.members(admin, self._node_id)
            except KafkaError as error:
                # A broker that has never had a group has no coordinator yet, and no dead member.
                log.info("group.unknown", group=self._group.name, error=str(error))

    async def evict(self) -> None:
        """Take them out as soon as a new member of ours is there, or it takes too long."""
        if not self._dead:
            return
        async with self._group.admin() as admin:
            try:
                await self._until_joined(admin)
                await self._group.remove(admin, self._dead)
            except KafkaError as error:
                # Then its session times out; slower, and just as good.
                log.warning("member.not_evicted", group=self._group.name, error=str(error))

    async def _until_joined(self, admin: AIOKafkaAdminClient) -> None:
        deadline = time.monotonic() + JOIN_WAIT_S
        while time.monotonic() < deadline:
            if await self._group.members(admin, self._node_id) - self._dead:
                return
            await asyncio.sleep(POLL_S)


class PeerEvictor:
    """Takes another node's dead self out of the group (`coordination.watch.Evictor`).

    Args:
        group: The consumer group.
        redis: Any client; heartbeats are read.
        keys: Key names.
    """

    def __init__(self, group: Group, redis: Redis, keys: Keys) -> None:
        self._group, self._redis, self._keys = group, redis, keys

    async def second_sign(self, node: str) -> str:
        """What says, beside its lost connection, that a node is dead; '' if nothing does.

        Its port refuses connections, or it has missed two heartbeats.
        """
        deadline = time.monotonic() + SIGN_WAIT_S
        while True:
            beat, left_ms = await self._heartbeat(node)
            if beat is None:
                return "heartbeat expired"
            if TTL_S * 1000 - left_ms > MISSED_BEATS_MS:
                return "heartbeats missed"
            here = beat.get("hostname") == socket.gethostname()
            if await _refused(str(beat.get("metrics_url", "")), here=here):
                return "connection refused"
            if time.monotonic() > deadline:
                return ""
            await asyncio.sleep(SIGN_PERIOD_S)

    async def _heartbeat(self, node: str) -> tuple[dict[str, Any] | None, int]:
        key = self._keys.node(node)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(key)
            pipe.pttl(key)
            payload, left_ms = await pipe.execute()
        if payload is None:
            return None, 0
        try:
            beat = orjson.loads(payload)
        except orjson.JSONDecodeError:
            beat = {}
        return beat if isinstance(beat, dict) else {}, int(left_ms)

    async def evict(self, node: str) -> bool:
        """Take its members out.

        Returns:
            False if it has none.
        """
        async with self._group.admin() as admin:
            members = await self._group.members(admin, node)
            if members:
                await self._group.remove(admin, members)
            return bool(members)


def _is_local(host: str) -> bool:
    """Whether a host means another machine on each machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


async def _refused(url: str, *, here: bool) -> bool:
    """Whether nobody listens there any more; a host that does not answer says nothing.

    Args:
        url: As the node has announced it.
        here: Whether the node is on this machine.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or not port or (not here and _is_local(host)):
        return False
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return False
