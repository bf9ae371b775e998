"""Symbols that are followed no more are retired once nobody writes them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents import retirement
from agents.retirement import Retirement


class Owners:
    """Stands for `Ownership`: who writes, and what was erased."""

    def __init__(self) -> None:
        self.written: set[str] = set()
        self.erased: list[str] = []
        self.away = 0

    async def is_written(self, symbol: str) -> bool:
        if self.away:
            self.away -= 1
            raise ConnectionError
        return symbol in self.written

    async def erase(self, symbol: str) -> None:
        self.erased.append(symbol)


class Bench:
    """A retirement at work, with looks without a pause."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
        monkeypatch.setattr(retirement, "LOOK_S", 0)
        monkeypatch.setattr(retirement, "LOOKS", looks)
        self.owners = Owners()
        self.sent: list[tuple[int, bytes, Any]] = []
        self.work = Retirement(
            self.owners,  # type: ignore[arg-type]
            lambda partition, key, value: self.sent.append((partition, key, value)),
            lambda _symbol: 3,
        )

    async def looks(self, count: int) -> None:
        running = asyncio.create_task(self.work.run())
        for _ in range(2 * count + 4):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_reports_go_and_checkpoints_are_tombstoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its keys; once."""
    bench = Bench(monkeypatch, 3)
    bench.work.assigned({"OLD": [b"OLD@1", b"OLD@2"]})
    await bench.looks(20)
    assert bench.owners.erased == ["OLD"]
    assert bench.sent == [(3, b"OLD@1", None), (3, b"OLD@2", None)]


async def test_who_is_written_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is not replaced yet follows it still."""
    bench = Bench(monkeypatch, 1)
    bench.owners.written = {"OLD"}
    bench.work.assigned({"OLD": [b"OLD@1"]})
    await bench.looks(10)
    assert bench.owners.erased == bench.sent == []


async def test_one_look_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows it may be about to start."""
    bench = Bench(monkeypatch, 1000)
    bench.work.assigned({"OLD": [b"OLD@1"]})
    await bench.looks(10)
    assert bench.owners.erased == bench.sent == []


async def test_redis_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, 1)
    bench.owners.away = 3
    bench.work.assigned({"OLD": [b"OLD@1"]})
    await bench.looks(30)
    assert bench.owners.erased == ["OLD"]


async def test_what_is_assigned_elsewhere_is_that_nodes_to_retire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, 1)
    bench.work.assigned({"OLD": [b"OLD@1"]})
    bench.work.assigned({})
    await bench.looks(10)
    assert bench.owners.erased == bench.sent == []
