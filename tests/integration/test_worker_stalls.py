"""Real stalls in a real worker: it says so, and ends itself. What is no stall, it sits out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.tape import Tape, opened
from tests.support.worker import Client, Installation, WorkerProcess, eventually, total

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

EXIT_LIMIT_S = 10.0
QUIET_S = 20.0
PAUSED_S = 12.0
COMPLAINTS_S = 6.0
"""Faust looks every 2.5 s."""


@asynccontextmanager
async def market(one: Installation, tape: Tape, period_s: float = 0.05) -> AsyncIterator[None]:
    """A trade every 50 ms while the block lasts."""

    async def trade() -> None:
        async with one.producer() as producer:
            while True:
                tape.wait(50).trade(6_000_000, 5)
                await producer.send(one.topic, key=b"BTCUSDT", value=tape.records[-1][1])
                await asyncio.sleep(period_s)

    trading = asyncio.create_task(trade())
    try:
        yield
    finally:
        trading.cancel()
        await asyncio.gather(trading, return_exceptions=True)


async def probed_until_end(worker: WorkerProcess) -> list[tuple[int, dict[str, Any]]]:
    """All answers of ``/health`` until the process is gone."""
    found = []
    while worker.child.running:
        found.append(await worker.probe(timeout_s=0.5))
        await asyncio.sleep(0.1)
    return [answer for answer in found if answer[0]]


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("silent_consumer", "records"),
        ("dead_fetcher", "fetcher"),
        ("stopped_fetcher", "fetcher"),
        ("stuck_commit", "commit"),
        ("hung_agent", "records"),
        ("hung_thread", "consumer_thread"),
    ],
)
async def test_a_stall_is_said_and_ends_the_process(
    one: Installation, redis: Client, tmp_path: Path, fault: str, what: str
) -> None:
    """``/health`` turns 503 and names it first; within 10 s the process is gone, not with 0."""
    tape = opened()
    begin = tmp_path / "begin"
    worker = await one.worker(fault=fault, fault_file=str(begin), NT_STALL_MS="4000")
    await worker.ready()
    await one.write_tape(tape.records)
    async with market(one, tape):

        async def committed() -> bool:
            return await one.committed() > 20

        await eventually(committed, what=f"a worker that works; {worker.tail()}")
        assert (await worker.probe())[0] == 200
        begin.touch()
        began = time.monotonic()
        answers = await probed_until_end(worker)
        seconds = time.monotonic() - began
    assert await worker.ended() not in {0, 2}
    print(f"\n{fault}: gone after {seconds:.1f} s")
    assert seconds <= EXIT_LIMIT_S, worker.tail()
    assert answers[0][0] == 200
    status, body = next(a for a in answers if a[0] == 503)
    assert status == 503
    assert body["status"] == "stalled"
    (stall,) = [s for s in body["stalled"] if s["what"] == what]
    assert stall["partition"] == (one.partition if what in {"records", "commit"} else None)
    assert stall["seconds"] > 0
    (said,) = worker.logged("worker.stalled")
    assert said["what"] == what


async def test_a_recovery_that_hangs(one: Installation, redis: Client) -> None:
    """It has not got as far as any record."""
    began = time.monotonic()
    worker = await one.worker(fault="hung_recovery")

    async def unwell() -> bool:
        return (await worker.probe())[0] == 503

    await eventually(unwell, what=worker.tail())
    assert await worker.ended() not in {0, 2}
    print(f"\ngone {time.monotonic() - began:.1f} s after the start")
    (said,) = worker.logged("worker.stalled")
    assert said["what"] == "assignment"


async def test_a_loop_that_is_blocked(one: Installation, redis: Client, tmp_path: Path) -> None:
    """It can't answer any more; the log says where it hangs."""
    begin = tmp_path / "begin"
    worker = await one.worker(fault="blocked_loop", fault_file=str(begin), NT_STALL_MS="4000")
    await worker.ready()
    begin.touch()
    began = time.monotonic()
    assert await worker.ended() not in {0, 2}
    assert time.monotonic() - began <= EXIT_LIMIT_S
    (said,) = worker.logged("loop.blocked")
    assert any("faults.py" in frame for frame in said["where"])
    (said,) = worker.logged("worker.stalled")
    assert said["what"] == "loop"


async def test_a_healthy_worker_complains_of_nothing(one: Installation, redis: Client) -> None:
    """Faust looks at partitions by means that batches don't keep, and at changelogs nobody reads."""
    tape = opened()
    worker = await one.worker(fault="quick_to_complain")
    await worker.ready()
    await one.write_tape(tape.records)
    async with market(one, tape):
        await asyncio.sleep(COMPLAINTS_S)
    assert await one.committed() > 20
    await asyncio.sleep(COMPLAINTS_S)
    errors = [line for line in worker.lines if '"level": "error"' in line]
    assert [line for line in errors if "agents.transport" in line] == []


async def test_a_quiet_market_is_no_stall(one: Installation, redis: Client) -> None:
    """Neither before the first record nor after the last."""
    worker = await one.worker(NT_STALL_MS="2000")
    await worker.ready()
    await eventually(worker.well, what="a coordinator: a broker's first group waits for it")
    answers = []
    until = time.monotonic() + QUIET_S
    await one.write_tape(opened().records)
    while time.monotonic() < until:
        answers.append(await worker.probe())
        await asyncio.sleep(0.5)
    assert {(status, body["status"]) for status, body in answers} == {(200, "ok")}
    metrics = await worker.metrics()
    assert total(metrics, "tapeline_stalls_total") == 0
    assert metrics[f"tapeline_end_offset{{partition={one.partition}}}"] == 2
    assert metrics[f"tapeline_progress_age_seconds{{partition={one.partition}}}"] == 0
    assert worker.child.running


async def test_stopped_and_continued_is_no_stall(one: Installation, redis: Client) -> None:
    """Records came meanwhile, its session has ended: it joins again, and goes on."""
    tape = opened()
    worker = await one.worker()
    await worker.ready()
    await one.write_tape(tape.records)
    async with market(one, tape):

        async def applied(count: int) -> bool:
            metrics = await worker.metrics()
            return total(metrics, "tapeline_records_applied_total") >= count

        await eventually(lambda: applied(50), what="records applied")
        worker.pause()
        await asyncio.sleep(PAUSED_S)
        written = len(tape.records)
        worker.resume()
        await eventually(lambda: applied(written + 50), what=f"records applied; {worker.tail()}")
    assert worker.child.running
    assert worker.logged("worker.stalled") == []
    assert (await worker.probe())[0] == 200

    def joined() -> int:
        return len([line for line in worker.lines if "Executing _on_partitions_assigned" in line])

    # Its engines go on before it is in the group again, which may come a moment later.
    async def again() -> bool:
        return joined() > 1 and (await worker.health() or {}).get("assigned") is True

    await eventually(again, what="a second assignment")
    # It joins once: who throws a seat away has the whole group wait for that seat's session. Where
    # it was quicker than its first heartbeat to Redis, it asks for its share once it has that, too.
    seats = joined()
    assert seats <= 2 + len(worker.logged("ownership.able_again"))
