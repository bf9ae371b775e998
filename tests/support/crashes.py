"""Known records for every partition, and what must be true of a worker that has had them all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import TopicPartition

from agents.parameters import parameters_of
from streams.topics import admin_of, partition_of
from tables.changelog import newest
from tables.engine import Engine
from tests.support.tape import SYMBOL, opened
from tests.support.worker import PARTITIONS, Installation, WorkerProcess, eventually, total

SYMBOLS = tuple(
    next(name for n in range(100) if partition_of(name := f"C{n}USDT", PARTITIONS) == partition)
    for partition in range(PARTITIONS)
)
"""One symbol for each partition."""

LISTINGS = ",".join(f"binance:{symbol}" for symbol in SYMBOLS)
TWICE = ("duplicate_records", "duplicate_trades", "stale_feed")


def clean_tape(symbol: str, seed: int, count: int) -> list[bytes]:
    """``count`` records without a gap, a repetition or another bridge."""
    rng = random.Random(f"{symbol}{seed}")
    tape = opened()
    while len(tape.records) < count:
        tape.wait(rng.randint(0, 100))
        px = 6_000_000 + rng.randint(-5, 5)
        if rng.random() < 0.4:
            tape.trade(px, rng.randint(1, 10**5), rng.choice(["buy", "sell"]))
        else:
            tape.delta([(5_999_990 - rng.randint(0, 9), rng.randint(1, 10**5))])
    return [value.replace(SYMBOL.encode(), symbol.encode()) for _, value in tape.records]


@asynccontextmanager
async def market(
    one: Installation, count: int, seconds: float, *, seed: int = 1
) -> AsyncIterator[asyncio.Task[None]]:
    """A task that writes ``count`` records of each symbol, spread over so many seconds."""
    tapes = {symbol: clean_tape(symbol, seed, count) for symbol in SYMBOLS}

    async def write() -> None:
        async with one.producer() as producer:
            for nth in range(count):
                sent = [
                    await producer.send(one.topic, key=symbol.encode(), value=tape[nth])
                    for symbol, tape in tapes.items()
                ]
                await asyncio.gather(*sent)
                await asyncio.sleep(seconds / count)

    writing = asyncio.create_task(write())
    try:
        yield writing
        await writing
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def all_committed(one: Installation, count: int, *workers: WorkerProcess) -> None:
    """Applied, and committed, is what was produced, in every partition."""
    wanted = [count] * PARTITIONS

    async def there() -> bool:
        for worker in workers:
            assert worker.child.running, f"ended; {worker.tail()}"
        return await committed(one) == wanted

    try:
        await eventually(there, what="all offsets committed")
    except AssertionError as error:
        raise AssertionError(f"{await committed(one)} are committed, not {wanted}") from error


async def committed(one: Installation) -> list[int]:
    """The group's committed offsets by partition."""
    tps = [TopicPartition(one.topic, partition) for partition in range(PARTITIONS)]
    async with admin_of(one.kafka_url) as admin:
        found = await admin.list_consumer_group_offsets(one.name, partitions=tps)
    return [found[tp].offset for tp in tps]


async def assert_nothing_lost_nothing_twice(
    one: Installation, count: int, *workers: WorkerProcess
) -> None:
    """The workers have it all, stop in good order, and leave what an engine makes of the topic."""
    await all_committed(one, count, *workers)
    for worker in workers:
        await assert_nothing_twice(worker)
    for worker in workers:
        assert await worker.stopped() == 0, worker.tail()
    best = newest(await one.checkpoints())
    parameters = parameters_of(one.settings())
    records = await one.read(one.topic)
    for symbol in SYMBOLS:
        own = [r for r in records if r.key == symbol.encode()]
        assert len(own) == count
        whole = Engine(symbol, "binance", parameters)
        outcome = whole.apply((record.offset, record.value) for record in own)
        assert outcome.applied == count
        assert not outcome.failures
        kept = Engine.restore(best[symbol].snapshot, parameters)
        assert (symbol, best[symbol].applied) == (symbol, count - 1)
        report = kept.fast_report(kept.newest_ms)
        assert report.gaps.count == 0, f"{symbol}: {report.gaps}"
        assert best[symbol].snapshot == whole.snapshot(), f"{symbol}: another state"


async def assert_nothing_twice(worker: WorkerProcess) -> None:
    """No engine of a living worker has been given a record again, or has missed one."""
    metrics = await worker.metrics()
    events = {
        name: value for name, value in metrics.items() if "tapeline_engine_events_total" in name
    }
    for event in TWICE:
        assert not events.get(f"tapeline_engine_events_total{{event={event}}}"), events
    assert not any("event=gap." in name and value for name, value in events.items()), events
    assert total(metrics, "tapeline_dead_letters_total") == 0
