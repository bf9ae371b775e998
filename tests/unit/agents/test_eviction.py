"""What else says that a node is dead, beside its lost connection: against a real Redis."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from agents import eviction
from agents.coordination.membership import TTL_S
from agents.eviction import MISSED_BEATS_MS, Group, PeerEvictor, client_id
from lua import Keys
from tapeline.kafka_access import KafkaAccess
from tests.support.worker import Client

FRESH_MS = TTL_S * 1000
PEER = "n2"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Client]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def evictor(redis: Client, monkeypatch: pytest.MonkeyPatch) -> PeerEvictor:
    """One that waits for a second sign no longer than it must."""
    monkeypatch.setattr(eviction, "SIGN_WAIT_S", 0.0)
    monkeypatch.setattr(eviction, "SIGN_PERIOD_S", 0.02)
    return PeerEvictor(Group(KafkaAccess(("127.0.0.1:1",)), "tests", "nt-n1"), redis, Keys())


@pytest.fixture
def port() -> Iterator[int]:
    """One on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def refused_port() -> int:
    """One on which nobody listens any more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def beat(redis: Client, url: str, *, left_ms: int = FRESH_MS, **more: Any) -> None:
    """A heartbeat of the peer, as it looks some time after it came."""
    said = {"node_id": PEER, "hostname": socket.gethostname(), "metrics_url": url, **more}
    await redis.set(Keys().node(PEER), orjson.dumps(said), px=left_ms)


@pytest.mark.redis
async def test_a_node_that_beats_and_listens_is_spared(
    redis: Client, evictor: PeerEvictor, port: int
) -> None:
    """It has lost one connection to Redis, no more."""
    await beat(redis, f"http://127.0.0.1:{port}/metrics")
    assert await evictor.second_sign(PEER) == ""


@pytest.mark.redis
async def test_a_port_that_refuses_says_that_the_process_is_gone(
    redis: Client, evictor: PeerEvictor
) -> None:
    """In the moment of its end, on a machine that lives."""
    await beat(redis, f"http://127.0.0.1:{refused_port()}/metrics")
    assert await evictor.second_sign(PEER) == "connection refused"


@pytest.mark.redis
@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "0.0.0.0", "[::1]", "localhost"])
async def test_a_local_address_says_nothing_of_another_machine(
    redis: Client, evictor: PeerEvictor, host: str
) -> None:
    """Ours would refuse in its place."""
    url = f"http://{host}:{refused_port()}/metrics"
    await beat(redis, url, hostname="another-machine")
    assert await evictor.second_sign(PEER) == ""


@pytest.mark.redis
async def test_without_a_heartbeat_it_is_dead(redis: Client, evictor: PeerEvictor) -> None:
    assert await evictor.second_sign(PEER) == "heartbeat expired"


@pytest.mark.redis
async def test_two_missed_heartbeats_are_a_sign_also_of_a_machine_that_is_gone(
    redis: Client, evictor: PeerEvictor, port: int
) -> None:
    """It refuses nothing; one missed is none."""
    url = f"http://127.0.0.1:{port}/metrics"
    await beat(redis, url, left_ms=FRESH_MS - MISSED_BEATS_MS + 500)
    assert await evictor.second_sign(PEER) == ""
    await beat(redis, url, left_ms=FRESH_MS - MISSED_BEATS_MS - 1)
    assert await evictor.second_sign(PEER) == "heartbeats missed"


@pytest.mark.redis
async def test_a_sign_is_waited_for(
    redis: Client, evictor: PeerEvictor, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after the end of its connection there may be none yet."""
    monkeypatch.setattr(eviction, "SIGN_WAIT_S", 3.0)
    await beat(redis, f"http://127.0.0.1:{port}/metrics")
    waiting = asyncio.create_task(evictor.second_sign(PEER))
    done, _ = await asyncio.wait({waiting}, timeout=0.1)
    assert not done
    await redis.delete(Keys().node(PEER))
    assert await waiting == "heartbeat expired"


@pytest.mark.redis
@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b"[1, 2]",
        b"{}",
        b'{"metrics_url": null}',
        b'{"metrics_url": "http://[::1"}',
        b'{"metrics_url": "http://127.0.0.1:123456/"}',
        b'{"metrics_url": "http://127.0.0.1/metrics"}',
    ],
)
async def test_a_heartbeat_that_says_nothing_of_use_is_no_sign(
    redis: Client, evictor: PeerEvictor, payload: bytes
) -> None:
    """It is of another version; whoever beats lives."""
    await redis.set(Keys().node(PEER), payload, px=FRESH_MS)
    assert await evictor.second_sign(PEER) == ""


def test_a_node_s_members_are_known_by_its_name() -> None:
    assert client_id("n2") == "nt-n2"


class FakeGroup:
    """A consumer group of two members of n2."""

    def __init__(self) -> None:
        self.there = {"nt-n2": {"nt-n2-a", "nt-n2-b"}}

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[None]:
        yield

    async def members(self, _admin: None, node_id: str) -> set[str]:
        return set(self.there.get(client_id(node_id), ()))

    async def remove(self, _admin: None, members: set[str]) -> None:
        for left in self.there.values():
            left.difference_update(members)


async def test_all_members_of_a_dead_node_are_taken_out_once() -> None:
    """Whoever comes second finds nothing to do, and says so."""
    group: Any = FakeGroup()
    evictor = PeerEvictor(group, Redis(), Keys())
    assert await evictor.evict("n2")
    assert group.there == {"nt-n2": set()}
    assert not await evictor.evict("n2")
    assert not await evictor.evict("n3")
