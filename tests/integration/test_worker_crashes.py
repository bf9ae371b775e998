"""Workers killed at any moment: nothing is lost, nothing is counted twice, the state is the same.

``NT_CRASH_KILLS`` sets how often a worker is killed (5), ``NT_CRASH_SEED`` when.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.topics import admin_of, changelog_of
from tables.changelog import Checkpoint, newest
from tapeline.stack.kafka_local import LocalKafka
from tests.support.background import BackgroundLoop
from tests.support.crashes import (
    LISTINGS,
    SYMBOLS,
    all_committed,
    assert_nothing_lost_nothing_twice,
    assert_nothing_twice,
    clean_tape,
    market,
)
from tests.support.processes import state_of
from tests.support.servers import kill_kafka, mended_kafka, own_kafka, start_kafka
from tests.support.worker import Installation, WorkerProcess, eventually, total

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

KILLS = int(os.environ.get("NT_CRASH_KILLS", "5"))
SEED = int(os.environ.get("NT_CRASH_SEED", "1"))
RATE = 40
"""Records a second and symbol."""


@pytest.fixture(scope="module")
def module_broker(
    background: BackgroundLoop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalKafka]:
    """A Kafka of this module's own: killed, and with a cleaner that does not wait."""
    eager = {"log.cleaner.backoff.ms": "200"}
    with own_kafka(background, tmp_path_factory.mktemp("kafka"), **eager) as kafka:
        yield kafka


@pytest.fixture
def broker(background: BackgroundLoop, module_broker: LocalKafka) -> LocalKafka:
    return mended_kafka(background, module_broker)


@pytest.fixture
async def one(broker: LocalKafka, redis_url: str) -> AsyncIterator[Installation]:
    installation = Installation(
        broker.url,
        redis_url,
        symbols=LISTINGS,
        env={"NT_CLOCK": "records", "NT_SESSION_TIMEOUT_MS": "6000"},
    )
    await installation.apply_topics()
    yield installation
    await installation.close()


async def applying(worker: WorkerProcess, least: int = 1) -> None:
    """Until it has applied something."""

    async def some() -> bool:
        assert worker.child.running, worker.tail()
        return total(await worker.metrics(), "tapeline_records_applied_total") >= least

    await eventually(some, what=f"records applied; {worker.tail()}")


async def killed_and_restarted(
    one: Installation, rng: random.Random, kills: int, fault: str = ""
) -> WorkerProcess:
    """The worker that lives after so many were killed; the moments are spread over its life.

    A third die within the time a start takes, so some in the middle of a recovery; of the rest,
    whose acknowledgements come late with the fault, many on a checkpoint under way.
    """
    for nth in range(kills):
        worker = await one.worker(fault=fault)
        if nth % 3 == 2:
            await asyncio.sleep(rng.uniform(0.5, 3.5))
        else:
            await applying(worker)
            await asyncio.sleep(rng.uniform(0.0, 2.0))
            await assert_nothing_twice(worker)
        await worker.killed()
    worker = await one.worker(fault=fault)
    await applying(worker)
    return worker


@pytest.mark.slow(limit_s=max(60, 12 * KILLS))
async def test_killed_at_random_moments(one: Installation) -> None:
    """Again and again while records flow; in the end all is there, once."""
    rng = random.Random(SEED)
    count = RATE * 5 * KILLS
    async with market(one, count, 4.0 * KILLS, seed=SEED):
        worker = await killed_and_restarted(one, rng, KILLS, fault="late_acknowledgement")
    await assert_nothing_lost_nothing_twice(one, count, worker)


@pytest.mark.slow(limit_s=max(60, 12 * KILLS))
async def test_workers_join_and_leave(one: Installation) -> None:
    """One stays, another comes and goes, asked or killed, so partitions change hands."""
    rng = random.Random(SEED)
    rounds = 1 + KILLS // 3
    count = RATE * 15 * rounds
    async with market(one, count, 12.0 * rounds, seed=SEED):
        stays = await one.worker()
        await applying(stays)
        for nth in range(rounds):
            comes = await one.worker(NT_NODE_ID=f"{one.name}-b")
            await applying(comes)
            await asyncio.sleep(rng.uniform(0.5, 2.0))
            await assert_nothing_twice(comes)
            if nth % 2:
                await comes.killed()
            else:
                assert await comes.stopped() == 0, comes.tail()
    await assert_nothing_lost_nothing_twice(one, count, stays)


@pytest.mark.parametrize("both", [False, True], ids=["broker", "broker and worker"])
async def test_the_broker_is_killed_and_restarted(
    background: BackgroundLoop, broker: LocalKafka, one: Installation, both: bool
) -> None:
    """While records flow; the worker outlives it, or is killed while the broker is away."""
    count = RATE * 10
    async with market(one, count, 8.0, seed=SEED):
        worker = await one.worker()
        await applying(worker, RATE)
        await kill_kafka(background, broker)
        if both:
            await worker.killed()
        await start_kafka(background, broker)
        if both:
            worker = await one.worker()
        await applying(worker)
    await assert_nothing_lost_nothing_twice(one, count, worker)


# --- a writer from before ------------------------------------------------------------------------


async def compacted(one: Installation) -> None:
    """Until the changelog holds one record a key, but for those just written."""
    name = changelog_of(one.name)
    eager = {
        "cleanup.policy": "compact",
        "segment.ms": "50",
        "min.cleanable.dirty.ratio": "0.01",
        "max.compaction.lag.ms": "1",
    }
    async with admin_of(one.kafka_url) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, eager)])

    async def clean() -> bool:
        async with one.producer() as producer:
            for partition in range(len(SYMBOLS)):
                # A segment ends when something is written to it later than that.
                await producer.send_and_wait(name, key=b"roll", value=None, partition=partition)
        keys = [(r.partition, r.key) for r in await one.read(name) if r.key != b"roll"]
        return len(keys) == len(set(keys))

    await eventually(clean, what="compaction")


async def overtaken_writer(one: Installation, tmp_path: Path, fault: str = "") -> int:
    """A worker stops over a checkpoint it is about to send; another takes its symbols over.

    Then the first wakes up, and its old checkpoint lands behind the newer ones. Both are killed.

    Returns:
        Records a symbol that were written, and are in the newer checkpoints.
    """
    begin = tmp_path / "begin"
    faults = ",".join(filter(None, ("queued_checkpoint", fault)))
    old = await one.worker(fault=faults, fault_file=str(begin))
    await old.ready()
    tapes = {symbol: clean_tape(symbol, SEED, 300) for symbol in SYMBOLS}

    async def write(start: int, end: int) -> None:
        await one.write((s.encode(), v) for s, tape in tapes.items() for v in tape[start:end])

    await write(0, 100)
    await all_committed(one, 100, old)
    begin.touch()
    await write(100, 200)

    async def paused() -> bool:
        return await asyncio.to_thread(state_of, old.child.pid) == "T"

    await eventually(paused, what="the first worker stopped over a checkpoint")
    new = await one.worker(fault=fault, NT_NODE_ID=f"{one.name}-b")
    await write(200, 300)
    await all_committed(one, 300, new)
    before = await one.checkpoints()
    assert {c.applied for c in newest(before).values()} == {299}
    old.resume()

    overtaken = {symbol: c.token for symbol, c in newest(before).items()}

    async def landed() -> list[Checkpoint]:
        # Not what it keeps when it is in the group again, under a token of then.
        new = [c for c in await one.checkpoints() if c not in before]
        return [c for c in new if c.token < overtaken[c.symbol]]

    late = await eventually(landed, what="the old checkpoint")
    await old.killed()
    await new.killed()
    assert all(c.applied < 299 for c in late)
    await compacted(one)
    return 300


async def goes_on(one: Installation, written: int, fault: str = "") -> None:
    """Started again, a worker takes some more records, and all is there, once."""
    worker = await one.worker(fault=fault)
    await worker.ready()
    tapes = {symbol: clean_tape(symbol, SEED, written + 50) for symbol in SYMBOLS}
    await one.write((s.encode(), v) for s, tape in tapes.items() for v in tape[written:])
    await assert_nothing_lost_nothing_twice(one, written + 50, worker)


async def test_a_paused_writers_late_checkpoint_loses(one: Installation, tmp_path: Path) -> None:
    """Also after compaction, which keeps the last record of each key."""
    written = await overtaken_writer(one, tmp_path)
    await goes_on(one, written)


# --- what keeps it so ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        ("no_commits", "", None),
        ("no_commits", "no_offset_gate", "duplicate_records"),
        ("", "", None),
        ("commit_before_the_checkpoint", "", r"gap\.feed_seq|another state"),
        ("no_batch_bookkeeping", "no_batch_bookkeeping", "are committed, not"),
    ],
)
async def test_without_this_the_check_fails(
    one: Installation, before: str, after: str, seen: str | None
) -> None:
    """Each mechanism taken away in turn: the same check that passes with it finds it out.

    Killed with checkpoints that were never followed by a commit, the next start is given all
    records again; killed before a checkpoint was due, it needs those beyond the last one.
    """
    count = 200
    period_ms = "1000" if before == "no_commits" else "10000"
    worker = await one.worker(fault=before, NT_CHECKPOINT_PERIOD_MS=period_ms)
    async with market(one, count, 2.0, seed=SEED):
        await applying(worker, RATE)
    await applying(worker, count * len(SYMBOLS))
    await asyncio.sleep(1.5)  # a commit was due meanwhile
    await worker.killed()
    worker = await one.worker(fault=after)
    tapes = {symbol: clean_tape(symbol, SEED, count + 50) for symbol in SYMBOLS}
    await worker.ready()
    await one.write((s.encode(), v) for s, tape in tapes.items() for v in tape[count:])
    with pytest.raises(AssertionError, match=seen) if seen else nullcontext():
        await assert_nothing_lost_nothing_twice(one, count + 50, worker)


async def test_without_the_token_in_its_key_the_late_checkpoint_wins(
    one: Installation, tmp_path: Path
) -> None:
    """Compaction keeps the last record of each key, whoever wrote it."""
    written = await overtaken_writer(one, tmp_path, fault="key_without_token")
    with pytest.raises(AssertionError, match=r"gap\.feed_seq|another state"):
        await goes_on(one, written, fault="key_without_token")
