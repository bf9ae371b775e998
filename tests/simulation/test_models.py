"""What the simulator stands on: virtual time, and a consumer group."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.simulation.kafka_model import KafkaModel, Seat
from tests.simulation.loop import ProcessLoop, World


def process(world: World, start_s: float = 0.0, rate: float = 1.0) -> ProcessLoop:
    loop = ProcessLoop(world, start_s, rate)
    world.add(loop)
    return loop


def ended(world: World, *loops: ProcessLoop) -> None:
    for loop in loops:
        world.remove(loop)
        loop.kill()


# --- time ----------------------------------------------------------------------------------------


def test_time_jumps_to_whatever_is_next() -> None:
    """An hour takes no time, and timeouts are those of virtual time."""
    world = World()
    loop = process(world)
    seen: list[float] = []

    async def work() -> None:
        await asyncio.sleep(3600)
        seen.append(world.now_s)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.Event().wait()
        seen.append(world.now_s)

    loop.spawn(work(), "work")
    world.at(1800.0, lambda: seen.append(world.now_s))
    began_s = time.perf_counter()
    world.run(4000.0)
    assert time.perf_counter() - began_s < 1
    assert seen == pytest.approx([1800.0, 3600.0, 3600.5])
    assert world.now_s == 4000.0
    ended(world, loop)


def test_a_clock_may_be_slow_and_change_its_rate() -> None:
    world = World()
    slow = process(world, start_s=100.0, rate=0.5)
    woke: list[float] = []

    async def work() -> None:
        await asyncio.sleep(1.0)
        woke.append(world.now_s)
        await asyncio.sleep(1.0)
        woke.append(world.now_s)

    slow.spawn(work(), "work")
    world.at(3.0, lambda: slow.set_rate(2.0))
    world.run(10.0)
    # Half of the second sleep at half the speed, the rest at double.
    assert woke == pytest.approx([2.0, 3.25])
    assert slow.time() == pytest.approx(100.0 + 1.5 + 14.0)
    ended(world, slow)


def test_what_happens_to_a_paused_process_waits_for_it() -> None:
    """First what came in, then what fell due: as after a real stop."""
    world = World()
    loop = process(world)
    seen: list[str] = []
    answers: list[asyncio.Future[str]] = []

    async def asks() -> None:
        answers.append(asyncio.get_running_loop().create_future())
        seen.append(await answers[0])

    async def sleeps() -> None:
        await asyncio.sleep(1.0)
        seen.append("timer")

    loop.spawn(sleeps(), "sleeps")
    loop.spawn(asks(), "asks")
    world.at(0.5, lambda: setattr(loop, "paused", True))
    world.at(2.0, lambda: answers[0].set_result("answer"))
    world.run(4.0)
    assert seen == []
    loop.paused = False
    world.run(5.0)
    assert seen == ["answer", "timer"]
    ended(world, loop)


def test_a_killed_process_runs_nothing_more_but_its_ends() -> None:
    world = World()
    loop, other = process(world), process(world)
    seen: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(5.0)
            seen.append(f"{name} woke")
        finally:
            await asyncio.sleep(0)
            seen.append(f"{name} ended")

    loop.spawn(work("first"), "first")
    other.spawn(work("second"), "second")
    world.run(1.0)
    ended(world, loop)
    assert seen == ["first ended"]
    world.run(6.0)
    assert seen == ["first ended", "second woke", "second ended"]
    ended(world, other)


# --- the group -----------------------------------------------------------------------------------


@pytest.fixture
def kafka() -> KafkaModel:
    return KafkaModel(World(), random.Random(1), 4, lambda *_: None)


def seat_of(kafka: KafkaModel, name: str) -> Seat:
    answer = kafka.heartbeat(name, 0)
    assert isinstance(answer, Seat)
    return answer


def test_members_share_partitions_once_all_have_joined(kafka: KafkaModel) -> None:
    first = kafka.join("a", 1.0, frozenset())
    kafka.world.run(2.0)
    assert seat_of(kafka, first).own == {0, 1, 2, 3}
    second = kafka.join("b", 1.0, frozenset())
    kafka.world.run(4.0)
    assert kafka.heartbeat(first, 1) == "rebalance"
    assert kafka.heartbeat(second, 0) == "ok"
    kafka.rejoin(first, 1.0, frozenset(range(4)))
    one, two = seat_of(kafka, first), seat_of(kafka, second)
    assert one.own | two.own == {0, 1, 2, 3}
    assert not one.own & two.own
    assert (one.standby, two.standby) == (two.own, one.own)
    assert one.generation == two.generation == 2
    assert kafka.placed() == kafka.owners()


def test_a_silent_member_is_thrown_out_and_one_that_drains_gets_nothing(kafka: KafkaModel) -> None:
    silent, drains = kafka.join("a", 1.0, frozenset()), kafka.join("b", 0.0, frozenset())
    kafka.world.run(2.0)
    assert seat_of(kafka, drains).own == set()
    for at_s in range(3, 14):
        kafka.world.run(float(at_s))
        if kafka.heartbeat(drains, 1) == "rebalance":
            kafka.rejoin(drains, 0.0, frozenset())
    assert kafka.heartbeat(silent, 1) == "unknown"
    assert seat_of(kafka, drains).own == {0, 1, 2, 3}


def test_a_commit_needs_a_seat_and_a_checkpoint_does_not(kafka: KafkaModel) -> None:
    """So a late checkpoint of a lower token must not count, and a late commit is refused."""
    name = kafka.join("a", 1.0, frozenset())
    kafka.world.run(2.0)
    kafka.save(name, 0, 7, 99, [])
    kafka.save("gone", 0, 5, 120, [])
    assert kafka.saved(0) == (7, 99)
    assert kafka.committed == {0: 100}
    kafka.save(name, 0, 9, 130, [5, 7])
    assert kafka.changelog[0] == {9: 130}
