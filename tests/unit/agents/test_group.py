"""What the worker says to its group's coordinator, and when it says nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import CommitFailedError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from agents import group
from agents.group import CERTAIN_MS, SeatedCoordinator
from tapeline.clock import ManualClock

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


# --- certainty -----------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock(50_000)
    monkeypatch.setattr(group, "_CLOCK", clock)
    return clock


def answering(monkeypatch: pytest.MonkeyPatch, clock: ManualClock, *, slow_ms: int = 0) -> Any:
    """Has heartbeats answered; ``accepted`` may be set."""
    answers = SimpleNamespace(accepted=True)

    async def beat(_self: Any) -> bool:
        clock.advance(slow_ms)
        return bool(answers.accepted)

    monkeypatch.setattr(GroupCoordinator, "_do_heartbeat", beat)
    return answers


async def test_a_seat_that_nobody_has_confirmed_is_not_certain(
    coordinator: SeatedCoordinator,
) -> None:
    """What was assigned then may be another's by now."""
    assert not coordinator.is_certain()


async def test_a_seat_is_certain_for_a_while_after_each_heartbeat(
    coordinator: SeatedCoordinator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from when it was asked: the answer may have been long on its way."""
    answering(monkeypatch, clock, slow_ms=400)
    assert await coordinator._do_heartbeat()
    clock.advance(CERTAIN_MS - 401)
    assert coordinator.is_certain()
    clock.advance(1)
    assert not coordinator.is_certain()
    assert await coordinator._do_heartbeat()
    assert coordinator.is_certain()


async def test_a_heartbeat_that_is_refused_ends_the_certainty_at_once(
    coordinator: SeatedCoordinator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = answering(monkeypatch, clock)
    await coordinator._do_heartbeat()
    answers.accepted = False
    assert not await coordinator._do_heartbeat()
    assert not coordinator.is_certain()


async def test_a_seat_that_is_lost_is_not_certain(
    coordinator: SeatedCoordinator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However lately it was confirmed."""
    answering(monkeypatch, clock)
    await coordinator._do_heartbeat()
    coordinator.generation = -1
    assert not coordinator.is_certain()


async def test_a_seat_is_certain_again_when_it_has_joined(
    coordinator: SeatedCoordinator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not while it joins, nor after it has failed to."""
    broker = Broker(coordinator)

    async def join(_self: Any, _subscription: Any) -> bool:
        return bool(await broker.join)

    monkeypatch.setattr(GroupCoordinator, "_do_rejoin_group", join)
    answering(monkeypatch, clock)
    for outcome in (False, True):
        broker.join = asyncio.get_running_loop().create_future()
        joining = asyncio.create_task(coordinator._do_rejoin_group(None))
        await asyncio.sleep(0)
        await coordinator._do_heartbeat()
        assert not coordinator.is_certain()
        clock.advance(CERTAIN_MS)
        broker.join.set_result(outcome)
        await joining
        assert coordinator.is_certain() is outcome
