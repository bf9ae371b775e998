"""What the worker says to its group's coordinator, and when it says nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import CommitFailedError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from agents.group import SeatedCoordinator

TP = TopicPartition("events", 0)
OFFSETS = {TP: OffsetAndMetadata(5, "")}


class Broker:
    """Takes requests; holds a join until told."""

    def __init__(self, coordinator: Any) -> None:
        self.commits: list[Any] = []
        self.join = asyncio.get_running_loop().create_future()
        coordinator._send_req = self.answer

    async def answer(self, request: Any) -> Any:
        self.commits.append(request)
        return SimpleNamespace(topics=[(TP.topic, [(TP.partition, 0)])])


@pytest.fixture
async def coordinator(monkeypatch: pytest.MonkeyPatch) -> SeatedCoordinator:
    coordinator: Any = object.__new__(GroupCoordinator)
    coordinator.group_id = "g"
    coordinator.generation = 3
    coordinator.member_id = "me"
    coordinator.coordinator_id = 1
    coordinator._commit_lock = asyncio.Lock()
    SeatedCoordinator.seat(SimpleNamespace(_coordinator=coordinator))
    return coordinator


async def test_a_member_commits(coordinator: SeatedCoordinator) -> None:
    broker = Broker(coordinator)
    await coordinator.commit_offsets(None, OFFSETS)
    assert len(broker.commits) == 1


async def test_nothing_is_committed_while_it_joins(
    coordinator: SeatedCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it commits again as soon as it has joined, or failed to."""
    broker = Broker(coordinator)

    async def join(_self: Any, _subscription: Any) -> bool:
        return bool(await broker.join)

    monkeypatch.setattr(GroupCoordinator, "_do_rejoin_group", join)
    for outcome in (True, False):
        broker.join = asyncio.get_running_loop().create_future()
        joining = asyncio.create_task(coordinator._do_rejoin_group(None))
        await asyncio.sleep(0)
        before = len(broker.commits)
        with pytest.raises(CommitFailedError, match="already rebalanced"):
            await coordinator.commit_offsets(None, OFFSETS)
        assert len(broker.commits) == before
        broker.join.set_result(outcome)
        assert await joining is outcome
        await coordinator.commit_offsets(None, OFFSETS)
        assert len(broker.commits) == before + 1


async def test_who_has_lost_its_seat_commits_nothing(coordinator: SeatedCoordinator) -> None:
    broker = Broker(coordinator)
    coordinator.generation = -1
    with pytest.raises(CommitFailedError):
        await coordinator.commit_offsets(None, OFFSETS)
    assert broker.commits == []


async def test_another_class_of_coordinator_is_refused() -> None:
    with pytest.raises(TypeError, match="SimpleNamespace where GroupCoordinator was expected"):
        SeatedCoordinator.seat(SimpleNamespace(_coordinator=SimpleNamespace()))
