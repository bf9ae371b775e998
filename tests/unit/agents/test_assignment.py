"""What is restored of an assignment that is superseded meanwhile is not at work."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agents.assignment import Assignments
from agents.shards import Assigned
from tapeline.config import load_settings


class Restoring(Assignments):
    """With nothing around it, held at its last wait."""

    def __init__(self) -> None:
        clock: Any = SimpleNamespace(now_ms=int)
        self.fed: list[str] = []
        self.go_on = asyncio.Event()
        app = SimpleNamespace(
            consumer=SimpleNamespace(assignment=set), assignor=SimpleNamespace(standbys=())
        )
        shards = SimpleNamespace(
            symbols=list, partition_of={}, epoch=0, assign=lambda *_: Assigned(), engine=None
        )
        ownership = SimpleNamespace(load_epoch=self._at_once, assigned=self._held, owned=list)
        standby = SimpleNamespace(
            pause=lambda _: self.fed.append("pause"),
            restart=lambda _: None,
            assigned=lambda *_: self.fed.append("assigned"),
        )
        metrics = SimpleNamespace(
            warm_partitions=SimpleNamespace(set=lambda _: None),
            hrw_rebalances=SimpleNamespace(inc=lambda: None),
            assigned=lambda *_: None,
        )
        super().__init__(
            app,  # type: ignore[arg-type]
            SimpleNamespace(data=SimpleNamespace(data={})),
            load_settings({"KAFKA_URL": "kafka://h:1", "NT_EVENTS_TOPIC": "t"}),
            shards,  # type: ignore[arg-type]
            SimpleNamespace(partitions=set),  # type: ignore[arg-type]
            ownership,  # type: ignore[arg-type]
            standby,  # type: ignore[arg-type]
            SimpleNamespace(set_symbols=lambda _: None),  # type: ignore[arg-type]
            SimpleNamespace(refresh=lambda: None),  # type: ignore[arg-type]
            metrics,  # type: ignore[arg-type]
            clock,
            SimpleNamespace(assigned=lambda _: None),  # type: ignore[arg-type]
        )

    async def _at_once(self, _topic: str) -> None:
        return

    async def _held(self, _tokens: Any) -> None:
        await self.go_on.wait()

    async def _check_positions(self, *_: Any) -> None:
        return

    async def _look_back(self, *_: Any) -> None:
        return


@pytest.fixture
async def restoring() -> Restoring:
    return Restoring()


async def ended(task: asyncio.Task[None], one: Restoring) -> None:
    one.go_on.set()
    async with asyncio.timeout(1):
        await task


async def test_an_assignment_is_complete_when_it_is_restored(restoring: Restoring) -> None:
    restoring.flow_stops()
    restoring.seated()
    task = asyncio.create_task(restoring.restore())
    await asyncio.sleep(0)
    assert not restoring.complete
    await ended(task, restoring)
    assert restoring.complete
    assert restoring.fed == ["pause", "assigned"]


@pytest.mark.parametrize("given_too", [False, True])
async def test_one_whose_flow_stops_meanwhile_is_not(restoring: Restoring, given_too: bool) -> None:
    """Whether or not the next one has been given by then; that one is."""
    restoring.flow_stops()
    restoring.seated()
    task = asyncio.create_task(restoring.restore())
    await asyncio.sleep(0)
    restoring.flow_stops()
    if given_too:
        restoring.seated()
    await ended(task, restoring)
    assert not restoring.complete
    assert "assigned" not in restoring.fed
    restoring.seated()
    await restoring.restore()
    assert restoring.complete


async def test_nor_is_one_that_is_restored_after_its_flow_has_stopped(restoring: Restoring) -> None:
    """It has waited for the tables, or for the one before."""
    restoring.flow_stops()
    restoring.seated()
    restoring.flow_stops()
    restoring.go_on.set()
    await restoring.restore()
    assert not restoring.complete
