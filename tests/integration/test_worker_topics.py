"""The topic under a worker changes: created anew, or its oldest records expired."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from agents.shards import TOPIC_EPOCH_SHIFT
from streams.topics import admin_of
from tests.support.tape import Tape, opened
from tests.support.worker import (
    SYMBOL,
    Client,
    Installation,
    WorkerProcess,
    eventually,
    report_at,
    report_of,
)

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]


def trades(tape: Tape, count: int, px: int) -> Tape:
    for _ in range(count):
        tape.wait(20).trade(px, 5)
    return tape


async def committed_up_to(one: Installation, offset: int) -> None:
    async def there() -> bool:
        return await one.committed() == offset + 1

    await eventually(there, what=f"offset {offset} committed")


async def meta(redis: Client) -> dict[str, int]:
    found = await redis.hgetall(f"report:meta:{SYMBOL}")
    return {name.decode(): int(value) for name, value in found.items()}


async def started_over(
    one: Installation, redis: Client, worker: WorkerProcess, tape: Tape, before: dict[str, int]
) -> dict[str, Any]:
    """The new topic's report, of its records alone, above all that was written before."""
    report = await report_at(redis, len(tape.records) - 1, worker=worker)
    assert report["flow"]["trade_count"] == tape.trade_id
    assert report["ingestion"]["book"] == "ok"
    assert report["gaps"]["count"] == 0
    assert int(await redis.get(f"nt:topic:epoch:{one.topic}")) == 1
    after = await meta(redis)
    assert after["watermark"] == (1 << TOPIC_EPOCH_SHIFT) + len(tape.records)
    assert after["watermark"] > before["watermark"]
    assert after["seq"] > before["seq"]
    recreated = worker.logged("topic.recreated")
    assert [entry["topic"] for entry in recreated] == [one.topic]
    await committed_up_to(one, len(tape.records) - 1)
    return report


async def test_recreated_while_the_worker_is_down(one: Installation, redis: Client) -> None:
    """States of before are discarded, and not believed again by the next start either."""
    old, new = trades(opened(), 200, 6_000_000), trades(opened(5_000_000), 20, 5_000_000)
    worker = await one.worker()
    await worker.ready()
    await one.write_tape(old.records)
    await report_at(redis, len(old.records) - 1, worker=worker)
    assert await worker.stopped() == 0
    before = await meta(redis)
    await one.recreate_topic()
    await one.write_tape(new.records)
    worker = await one.worker()
    report = await started_over(one, redis, worker, new, before)
    await worker.killed()
    worker = await one.worker()
    trades(new, 5, 5_000_000)
    await worker.ready()
    await one.write_tape(new.records[-5:])
    again = await report_at(redis, len(new.records) - 1, worker=worker)
    assert worker.logged("topic.recreated") == []
    assert again["flow"]["trade_count"] == report["flow"]["trade_count"] + 5


@pytest.mark.parametrize("seen", [True, False], ids=["deletion seen", "deletion not seen"])
async def test_recreated_while_the_worker_runs(
    one: Installation, redis: Client, seen: bool
) -> None:
    """Where the worker looks while there is no topic, its group is assigned anew; where it does
    not, offsets step back under it.
    """
    old, new = trades(opened(), 200, 6_000_000), trades(opened(5_000_000), 20, 5_000_000)
    worker = await one.worker()
    await worker.ready()
    await one.write_tape(old.records)
    await report_at(redis, len(old.records) - 1, worker=worker)
    await committed_up_to(one, len(old.records) - 1)
    before = await meta(redis)
    if not seen:
        worker.pause()
    await one.delete_topic(one.topic)
    if seen:

        async def noticed() -> bool:
            return bool(worker.logged("topic.missing"))

        await eventually(noticed, what="an assignment without the topic")
    await one.apply_topics()
    await one.write_tape(new.records)
    if not seen:
        worker.resume()
    await started_over(one, redis, worker, new, before)
    trades(new, 5, 5_000_000)
    await one.write_tape(new.records[-5:])
    await report_at(redis, len(new.records) - 1, worker=worker)
    assert len(worker.logged("topic.recreated")) == 1
    assert bool(worker.logged("offsets.stepped_back")) != seen


async def test_a_topic_that_is_away_is_waited_for(one: Installation, redis: Client) -> None:
    """Its recovery can't end before the topic is back: an outage, not a stall."""
    tape = trades(opened(), 20, 6_000_000)
    worker = await one.worker(NT_STALL_MS="2000")
    await worker.ready()
    await one.write_tape(tape.records)
    await committed_up_to(one, len(tape.records) - 1)
    before = await meta(redis)
    await one.delete_topic(one.topic)

    async def away() -> bool:
        status, body = await worker.probe()
        return status == 200 and body["outages"].get("topic", {"seconds": 0})["seconds"] > 6

    await eventually(away, what=f"the topic being away; {worker.tail()}")
    await one.apply_topics()
    new = trades(opened(5_000_000), 10, 5_000_000)
    await one.write_tape(new.records)
    await started_over(one, redis, worker, new, before)
    assert worker.logged("worker.stalled") == []


async def test_records_that_expired_before_they_were_read(one: Installation, redis: Client) -> None:
    """A gap is counted, and the book muted until the next snapshot."""
    tape = trades(opened(), 20, 6_000_000)
    worker = await one.worker()
    await worker.ready()
    await one.write_tape(tape.records)
    await committed_up_to(one, len(tape.records) - 1)
    assert await worker.stopped() == 0
    trades(tape, 30, 6_000_000)
    await one.write_tape(tape.records[22:])
    async with admin_of(one.kafka_url) as admin:
        tp = TopicPartition(one.topic, one.partition)
        await admin.delete_records({tp: RecordsToDelete(before_offset=40)})
    worker = await one.worker()
    report = await report_at(redis, len(tape.records) - 1, worker=worker)
    assert report["gaps"]["by_reason"] == {"feed_seq": 1}
    assert report["gaps"]["trades_missing"] == 18
    assert report["ingestion"]["book"] == "muted"
    assert report["best_bid"] is None
    tape.snapshot([(5_999_999, 5)], [(6_000_001, 5)])
    await one.write_tape(tape.records[-1:])
    report = await report_at(redis, len(tape.records) - 1, worker=worker)
    assert report["ingestion"]["book"] == "ok"
    assert report["best_bid"]["price"] == 59999.99
    assert await report_of(redis) is not None
