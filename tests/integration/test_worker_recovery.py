"""A worker killed, stopped and started again: the same reports, nothing lost, nothing twice."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from tables.changelog import newest
from tests.support.tape import Tape, random_tape
from tests.support.worker import (
    SYMBOL,
    Client,
    Installation,
    WorkerProcess,
    compared,
    eventually,
    recomputed,
    report_at,
    report_of,
    total,
)

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

RESTART_LIMIT_S = 10.0
STOP_LIMIT_S = 5.0


def parts(tape: Tape, *cuts: int) -> list[list[tuple[int, bytes]]]:
    """The tape's records, cut at these offsets."""
    ends = [0, *cuts, len(tape.records)]
    return [tape.records[start:end] for start, end in pairwise(ends)]


async def uninterrupted(one: Installation, redis: Client, last: int) -> dict[str, object]:
    """The final report of a worker of another group, that reads the same topic in one go."""
    await redis.flushdb()
    name = f"{one.name}-whole"
    await one.apply_topics(NT_APP_ID=name)
    worker = await one.worker(NT_APP_ID=name, NT_NODE_ID=name)
    report = await report_at(redis, last, worker=worker)
    await worker.killed()
    return compared(report)


async def saved_up_to(one: Installation, offset: int) -> None:
    """Until a checkpoint holds ``offset``, and the group has committed something."""

    async def there() -> bool:
        best = newest(await one.checkpoints())
        return SYMBOL in best and best[SYMBOL].applied >= offset and await one.committed() > 0

    await eventually(there, what=f"a checkpoint at {offset}")


async def applied_up_to(redis: Client, offset: int, worker: WorkerProcess) -> None:
    """Until the fast part has ``offset``."""

    async def there() -> bool:
        report = await report_of(redis)
        return report is not None and report["source"]["fast"]["offset"] == offset

    await eventually(there, what=f"offset {offset}; {worker.tail()}")


async def settled(*workers: WorkerProcess) -> None:
    """Until each says that a rolling upgrade may go on from it."""

    async def all_ready() -> bool:
        return all([await worker.unready() == "" for worker in workers])

    await eventually(all_ready, what=str([await worker.unready() for worker in workers]))


async def commits_were_due(worker: WorkerProcess) -> None:
    """Longer than Faust's commit interval of 1 s."""
    before = await worker.health()
    assert before is not None

    async def later() -> bool:
        health = await worker.health()
        return health is not None and health["uptime"] > before["uptime"] + 1.2

    await eventually(later, what="time for a commit")


async def test_killed_in_the_middle_of_a_tape(one: Installation, redis: Client) -> None:
    """With records applied beyond the checkpoint, which come again, and with records written
    while it was down. In the end its report is that of a worker never interrupted, and that of
    an engine given the topic's records.
    """
    tape = random_tape(31, 3000, step_ms=60)
    last = len(tape.records) - 1
    first, behind, away, rest = parts(tape, 900, 1500, 2100)
    worker = await one.worker(NT_CHECKPOINT_PERIOD_MS="5000")
    await worker.ready()
    offsets = await one.write_tape(first)
    await saved_up_to(one, offsets[-1])
    offsets = await one.write_tape(behind)
    await applied_up_to(redis, offsets[-1], worker)
    await commits_were_due(worker)
    await worker.killed()
    held, committed = newest(await one.checkpoints())[SYMBOL].applied, await one.committed()
    assert committed <= held + 1, "committed beyond what the checkpoints hold"
    assert held < offsets[-1], "everything had been saved: the kill proves nothing"
    written = await one.write_tape(away)
    old = await report_of(redis)
    assert old is not None
    started = time.monotonic()
    worker = await one.worker()

    async def newer() -> bool:
        report = await report_of(redis)
        return report is not None and report["writer"] != old["writer"]

    await eventually(newer, what="a report of the restarted worker")
    seconds = time.monotonic() - started
    print(f"\nfirst report {seconds:.2f} s after the restart")
    assert seconds <= RESTART_LIMIT_S
    report = await report_at(redis, written[-1], worker=worker)
    assert report["seq"] > old["seq"]
    assert report["writer"]["writerToken"] > old["writer"]["writerToken"]
    # What the checkpoint holds is skipped, everything behind it applied, once.
    metrics = await worker.metrics()
    assert total(metrics, "tapeline_records_skipped_total") == held + 1 - committed
    assert total(metrics, "tapeline_records_applied_total") == written[-1] - held
    await one.write_tape(rest)
    final = compared(await report_at(redis, last, worker=worker))
    assert await worker.stopped() == 0
    assert final == await recomputed(one)
    assert final == await uninterrupted(one, redis, last)


async def test_states_that_are_of_no_use_are_rebuilt_from_the_topic(
    one: Installation, redis: Client
) -> None:
    """Of another version, or with other calculators; everything is committed by then."""
    tape = random_tape(33, 600, step_ms=60)
    last = len(tape.records) - 1
    worker = await one.worker()
    await worker.ready()
    await one.write_tape(tape.records)
    await applied_up_to(redis, last, worker)
    assert await worker.stopped() == 0
    assert await one.committed() == last + 1
    one.env["NT_CALCULATORS"] = "examples.calculator_vwap:Vwap"

    async def calculated() -> bool:
        report = await report_of(redis)
        return report is not None and report["custom"] is not None

    worker = await one.worker()
    await eventually(calculated, what="a report with the calculator's figure")
    report = compared(await report_at(redis, last, worker=worker))
    assert [entry["symbol"] for entry in worker.logged("snapshot.discarded")] == [SYMBOL]
    assert report == await recomputed(one)
    assert await worker.stopped() == 0
    worker = await one.worker()
    await worker.ready()
    assert worker.logged("snapshot.discarded") == []
    await applied_up_to(redis, last, worker)
    assert compared(await report_at(redis, last, worker=worker)) == report


async def test_asked_to_stop(one: Installation, redis: Client) -> None:
    """It keeps and commits all it has, writes its last report, gives back lease and name, and
    ends within 5 s; started again it applies nothing twice.
    """
    tape = random_tape(32, 800, step_ms=60)
    last = len(tape.records) - 1
    worker = await one.worker()
    await worker.ready()
    await one.write_tape(tape.records)
    await applied_up_to(redis, last, worker)
    node = f"nt:node:{one.name}-a"
    assert await redis.exists(node)
    assert await redis.exists(f"report:writer:{SYMBOL}")
    started = time.monotonic()
    assert await worker.stopped() == 0, worker.tail()
    seconds = time.monotonic() - started
    print(f"\nstopped in {seconds:.2f} s")
    assert seconds <= STOP_LIMIT_S
    assert not any("Traceback" in line for line in worker.lines), worker.tail()
    assert newest(await one.checkpoints())[SYMBOL].applied == last
    assert await one.committed() == last + 1
    assert not await redis.exists(node)
    assert not await redis.exists(f"report:writer:{SYMBOL}")
    before = await report_of(redis)
    assert before is not None
    assert before["source"]["fast"]["offset"] == last
    again = await one.worker()

    async def rewritten() -> bool:
        report = await report_of(redis)
        return report is not None and report["seq"] > before["seq"]

    await again.ready()
    await eventually(rewritten, what="a report of the second start")
    metrics = await again.metrics()
    assert total(metrics, "tapeline_records_applied_total") == 0
    assert total(metrics, "tapeline_records_skipped_total") == 0
    assert compared(await report_at(redis, last, worker=again)) == await recomputed(one)


async def test_an_assignment_reads_on_where_the_last_one_ended(
    one: Installation, redis: Client
) -> None:
    """Not the whole changelog again, nor all that this very worker has written since."""
    tape = random_tape(34, 1200, step_ms=60)
    last = len(tape.records) - 1
    stays = await one.worker()
    await stays.ready()
    for part in parts(tape, 400, 800):
        offsets = await one.write_tape(part)
        await saved_up_to(one, offsets[-1])
    before = (await stays.says("changelog.read"))["records_total"]
    assert len(await one.checkpoints()) >= 3
    # Which of the two has the symbol's partition in between is the group's choice.
    comes = await one.worker(NT_NODE_ID=f"{one.name}-b")
    await comes.ready()
    await stays.says("changelog.read", count=2)
    await settled(stays, comes)
    warm = [(await worker.health() or {})["warm_symbols"] for worker in (stays, comes)]
    assert sorted(warm) == [[], [SYMBOL]], "ready, and nobody keeps the symbol warm"
    between = (await stays.says("changelog.read", count=2))["records_total"]
    assert await comes.stopped() == 0
    after = (await stays.says("changelog.read", count=3))["records_total"]
    kept = len(stays.logged("symbol_dropped")) == 0
    print(f"\nread at the start {before}, with another {between}, alone again {after}; kept {kept}")
    assert between == before
    held = {(c.symbol, c.token) for c in await one.checkpoints()}
    # Kept, there is nothing to read; given away, its partition is read from its beginning.
    assert (after == between) if kept else (after >= between + len(held))
    assert compared(await report_at(redis, last, worker=stays)) == await recomputed(one)


async def test_a_node_id_that_is_in_use(one: Installation, redis: Client) -> None:
    """The second worker leaves with an error that names it, and the first goes on; paused for
    so long that its name was given to another, the first is the one to leave.
    """
    tape = random_tape(33, 400, step_ms=60)
    first = await one.worker()
    await first.ready()
    offsets = await one.write_tape(tape.records[:200])
    second = await one.worker()
    assert await second.ended() == 1
    (refusal,) = second.logged("worker.refused")
    assert f"{one.name}-a" in refusal["error"]
    assert "NT_NODE_ID" in refusal["error"]
    assert not any("Traceback" in line for line in second.lines), second.tail()
    report = await report_at(redis, offsets[-1], worker=first)
    first.pause()

    async def forgotten() -> bool:
        return not await redis.exists(f"nt:node:{one.name}-a")

    await eventually(forgotten, what="the heartbeat of the paused worker")
    third = await one.worker()
    await third.ready()
    first.resume()
    assert await first.ended() == 1, first.tail()
    assert any(f"{one.name}-a" in line and '"level": "error"' in line for line in first.lines), (
        first.tail()
    )
    offsets = await one.write_tape(tape.records[200:])
    newer = await report_at(redis, offsets[-1], worker=third)
    assert newer["writer"]["writerToken"] > report["writer"]["writerToken"]
