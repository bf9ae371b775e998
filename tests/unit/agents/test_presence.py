"""Being seen and seeing the others, over a real Redis; the clock is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from agents.coordination import presence as presences
from agents.coordination.connections import Connections
from agents.coordination.presence import Presence
from agents.coordination.view import MISSES, QUIET_MS
from lua import Keys
from tapeline.clock import ManualClock
from tapeline.tasks import end
from tests.support.coordination import until
from tests.support.worker import Client, eventually


class Seer:
    """A node's presence, with its two tasks."""

    def __init__(self, url: str, node_id: str, nodes: list[str], clock: ManualClock) -> None:
        self.connections = Connections(url, 2000)
        self.changes = 0
        self.presence = Presence(
            self.connections.writer,
            self.connections.listener,
            Keys(),
            node_id,
            f"start-of-{node_id}",
            lambda: nodes,
            clock=clock,
            changed=self._count,
        )
        self.view = self.presence.view
        self.listening = asyncio.create_task(self.presence.listen())
        self.looking = asyncio.create_task(self.presence.look())
        self.clock = clock

    def _count(self) -> None:
        self.changes += 1

    def suspects(self) -> list[str]:
        return sorted(self.view.suspects(self.clock.monotonic_ms()))

    async def close(self) -> None:
        await end(self.listening)
        await end(self.looking)
        await self.connections.close()


class Room:
    """Where nodes see each other."""

    def __init__(self, url: str) -> None:
        self.url, self.clock = url, ManualClock(50_000)
        self.nodes: list[str] = []
        self.seers: list[Seer] = []

    def enter(self, node_id: str) -> Seer:
        self.nodes.append(node_id)
        self.seers.append(Seer(self.url, node_id, self.nodes, self.clock))
        return self.seers[-1]

    async def all_seen(self) -> None:
        """Until each has seen all others, and is past its quiet time."""
        others = len(self.seers) - 1
        await until(lambda: all(len(one.view.present()) == others for one in self.seers))
        self.clock.advance(QUIET_MS)


@pytest.fixture
async def room(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    monkeypatch.setattr(presences, "LOOK_S", 0.05)
    monkeypatch.setattr(presences, "RETRY_S", 0.01)
    room = Room(redis_url)
    yield room
    async with AsyncExitStack() as stack:
        for one in room.seers:
            stack.push_async_callback(one.close)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Client]:
    async with Redis.from_url(redis_url) as client:
        yield client


async def subscribers(redis: Client) -> set[str]:
    """Ids of the connections that listen to anything."""
    return {one["id"] for one in await redis.client_list(_type="pubsub") if one["sub"] != "0"}


@pytest.mark.redis
async def test_who_ends_is_suspected_by_the_other_at_once(room: Room) -> None:
    """As soon as its socket is closed; and no more when it listens again."""
    a, b = room.enter("a"), room.enter("b")
    await room.all_seen()
    assert a.suspects() == b.suspects() == []
    await end(b.listening)
    await until(lambda: a.suspects() == ["b"])
    assert a.changes == 1
    assert b.suspects() == []
    b.listening = asyncio.create_task(b.presence.listen())
    await until(lambda: a.suspects() == [] and a.view.present() == ["b"])
    assert a.changes == 1


@pytest.mark.redis
async def test_who_vanishes_while_nobody_is_trusted_is_told_of_when_somebody_is(room: Room) -> None:
    """Time alone has made it a suspect: the watch is woken all the same."""
    a, b = room.enter("a"), room.enter("b")
    await until(lambda: a.view.present() == ["b"])
    await end(b.listening)
    await until(lambda: a.view.present() == [])
    assert a.suspects() == []
    assert a.changes == 0
    room.clock.advance(QUIET_MS)
    await until(lambda: a.changes == 1)
    assert a.suspects() == ["b"]


@pytest.mark.redis
async def test_two_of_three_that_vanish_together_are_not_believed_at_first(room: Room) -> None:
    """Redis may have closed what it likes; after a while they are gone indeed."""
    a, b, c = room.enter("a"), room.enter("b"), room.enter("c")
    await room.all_seen()
    await asyncio.gather(end(b.listening), end(c.listening))
    await until(lambda: a.view.present() == [])
    assert a.suspects() == []
    room.clock.advance(QUIET_MS)
    await until(lambda: a.suspects() == ["b", "c"])


@pytest.mark.redis
async def test_a_connection_that_redis_closes_is_made_again(
    room: Room, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody has missed it twice."""
    monkeypatch.setattr(presences, "LOOK_S", 0.2)
    a, b = room.enter("a"), room.enter("b")
    await room.all_seen()
    before = await subscribers(redis)
    await redis.client_kill_filter(_type="pubsub")

    async def back() -> bool:
        return len(await subscribers(redis) - before) == 2

    await eventually(back, 3)
    assert a.suspects() == b.suspects() == []
    assert a.view.present() == ["b"]


@pytest.mark.redis
async def test_a_subscription_that_redis_does_not_know_of_is_made_again(
    room: Room, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket is open on our side; but looks have found nobody who listens under our name."""
    monkeypatch.setattr(presences, "LISTEN_S", 0.05)
    a = room.enter("a")

    before = await eventually(lambda: subscribers(redis), 3)
    await end(a.looking)  # it would see that all is well
    a.presence._unheard = MISSES

    async def another() -> bool:
        now = await subscribers(redis)
        return bool(now) and now.isdisjoint(before)

    await eventually(another, 3)
    assert a.presence._unheard == 0


@pytest.mark.redis
async def test_whoever_is_about_to_leave_says_so(room: Room) -> None:
    """To all others, and not to itself."""
    a, b = room.enter("a"), room.enter("b")
    await room.all_seen()
    await b.presence.announce_leave()
    await until(lambda: a.view.draining == {"b|start-of-b"})
    assert a.changes == 1
    await a.presence.announce_leave()
    await until(lambda: b.view.draining == {"a|start-of-a"})
    assert a.view.draining == {"b|start-of-b"}
    assert b.changes == 1


@pytest.mark.redis
@pytest.mark.parametrize(
    "said", [b"junk", b"[]", b"null", b'{"node_id": "b"}', b'{"node_id": [], "state": "draining"}']
)
async def test_what_is_not_understood_is_left_and_more_is_heard(
    room: Room, redis: Client, said: bytes
) -> None:
    """Whoever stopped to listen would be taken for dead."""
    a, b = room.enter("a"), room.enter("b")
    await room.all_seen()
    await redis.publish(Keys().handover(), said)
    await b.presence.announce_leave()
    await until(lambda: "b|start-of-b" in a.view.draining)
    assert not a.listening.done()


@pytest.mark.redis
async def test_who_cannot_look_suspects_nobody_and_begins_anew(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage others may come back later than we do."""
    a, b = room.enter("a"), room.enter("b")
    await room.all_seen()
    await end(b.listening)
    await until(lambda: a.suspects() == ["b"])

    async def refuse(*_args: object) -> None:
        raise RedisConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(a.connections.writer, "pubsub_numsub", refuse)
        await until(a.view.is_blind)
        assert a.suspects() == []
    await until(lambda: not a.view.is_blind())
    room.clock.advance(QUIET_MS)
    for _ in range(4):
        await a.presence._look()
    assert a.suspects() == []  # it has not been seen since


@pytest.mark.redis
async def test_who_has_no_heartbeat_is_not_looked_for(room: Room) -> None:
    """It has left, and nobody is to take it out of anything."""
    a, b = room.enter("a"), room.enter("b")
    await room.all_seen()
    await end(b.listening)
    await until(lambda: a.suspects() == ["b"])
    room.nodes.remove("b")
    await until(lambda: a.suspects() == [])
    assert a.changes == 1
