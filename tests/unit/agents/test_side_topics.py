"""What is written beside the changelog: in order, bounded, and never lost quietly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from agents import side_topics
from agents.side_topics import SideTopics


class Broker:
    """Takes records, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.has: list[tuple[str, bytes, bytes]] = []

    async def send(self, topic: str, key: bytes, value: bytes, *_: Any) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.away:
            done.set_exception(KafkaError("away"))
        else:
            self.has.append((topic, key, value))
            done.set_result(None)
        return done


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    monkeypatch.setattr(side_topics, "RETRY_S", 0.001)
    return Broker()


async def settled(topics: SideTopics) -> None:
    task = asyncio.create_task(topics.run())
    await asyncio.sleep(0.03)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_records_go_in_order(broker: Broker) -> None:
    topics = SideTopics(lambda: broker)
    for n in range(250):
        topics.put("t", b"k", b"%d" % n)
    await settled(topics)
    assert [value for _, _, value in broker.has] == [b"%d" % n for n in range(250)]
    assert topics.written == {"t": 250}


async def test_they_wait_for_a_broker_that_is_away(broker: Broker) -> None:
    topics = SideTopics(lambda: broker)
    broker.away = True
    topics.put("t", b"k", b"1")
    await settled(topics)
    assert broker.has == []
    broker.away = False
    topics.put("t", b"k", b"2")
    await settled(topics)
    assert [value for _, _, value in broker.has] == [b"1", b"2"]


async def test_the_oldest_go_where_too_many_wait(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_topics, "WAITING_MAX", 3)
    monkeypatch.setattr(side_topics, "WAITING_BYTES_MAX", 10)
    topics = SideTopics(lambda: broker)
    for n in range(5):
        topics.put("t", b"k", b"%d" % n)
    topics.put("t", b"k", b"123456789")
    assert topics.dropped == {"t": 4}
    await topics.flush()
    assert [value for _, _, value in broker.has] == [b"4", b"123456789"]


async def test_a_topic_that_is_not_there_is_never_asked_for(broker: Broker) -> None:
    topics = SideTopics(lambda: broker)
    topics.known({"t": 1})
    topics.put("u", b"k", b"1")
    topics.put("u", b"k", b"1")
    topics.put("t", b"k", b"2")
    await topics.flush()
    assert broker.has == [("t", b"k", b"2")]
    assert topics.dropped == {"u": 2}


async def test_a_stop_does_not_wait_long(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_topics, "FLUSH_S", 0.01)

    async def send(*_: Any) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    monkeypatch.setattr(broker, "send", send)
    topics = SideTopics(lambda: broker)
    topics.put("t", b"k", b"1")
    async with asyncio.timeout(2):
        await topics.flush()
    assert topics.written == {}
