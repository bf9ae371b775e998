"""Broker and Redis away, killed and back: the worker waits or goes on, and says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tapeline.stack.kafka_local import LocalKafka
from tests.support.background import BackgroundLoop
from tests.support.redis_process import RedisProcess, redis_binary, valkey_binary
from tests.support.servers import kill_kafka, mended_kafka, own_kafka, start_kafka
from tests.support.tape import opened, random_tape
from tests.support.worker import (
    SYMBOL,
    Installation,
    compared,
    eventually,
    recomputed,
    report_at,
    report_of,
    total,
)

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

BACK_LIMIT_S = 1.0
STOP_LIMIT_S = 10.0
OUTAGE_S = 15.0


@pytest.fixture(scope="module")
def module_broker(
    background: BackgroundLoop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalKafka]:
    """A Kafka of this module's own, to be killed."""
    with own_kafka(background, tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture
def broker(background: BackgroundLoop, module_broker: LocalKafka) -> LocalKafka:
    return mended_kafka(background, module_broker)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis of the test's own, that forgets everything when killed; not started."""
    binary = valkey_binary() or redis_binary()
    if binary is None:
        pytest.skip("no valkey-server and no redis-server on this machine")
    process = RedisProcess(binary, tmp_path)
    yield process
    process.kill()


@pytest.fixture
async def one(broker: LocalKafka, store: RedisProcess) -> AsyncIterator[Installation]:
    installation = Installation(broker.url, store.url, env={"NT_CLOCK": "records"})
    yield installation
    await installation.close()


async def test_redis_away_at_start_and_lost_while_running(
    one: Installation, store: RedisProcess
) -> None:
    """The worker waits for it. Killed and back empty, it has the newest report within 1 s, of
    records applied meanwhile, under a higher token.
    """
    tape = opened()
    await one.apply_topics()
    worker = await one.worker()
    await worker.says("membership.redis_away")
    assert worker.logged("rebalance_triggered") == []
    store.start()
    await worker.ready()
    async with one.redis() as redis:
        offsets = await one.write_tape(tape.records)
        before = await report_at(redis, offsets[-1], worker=worker)
    store.kill()
    for nth in range(20):
        tape.wait(50).trade(6_000_000 + nth, 5)
    offsets = await one.write_tape(tape.records[2:])

    async def applied() -> bool:
        metrics = await worker.metrics()
        return total(metrics, "tapeline_records_applied_total") == len(tape.records)

    await eventually(applied, what="records applied without Redis")
    store.start()
    back = time.monotonic()
    async with one.redis() as redis:

        async def newest() -> bool:
            report = await report_of(redis)
            return report is not None and report["source"]["fast"]["offset"] == offsets[-1]

        await eventually(newest, what="the newest report")
        seconds = time.monotonic() - back
        print(f"\nnewest report {seconds:.2f} s after Redis was back")
        assert seconds <= BACK_LIMIT_S
        after = await report_of(redis)
        assert after is not None
        assert after["writer"]["writerToken"] > before["writer"]["writerToken"]
        assert after["seq"] > before["seq"]
        assert after["flow"]["trade_count"] == 20
    assert worker.child.running
    assert await worker.stopped() == 0


async def test_the_broker_is_killed_and_comes_back(
    background: BackgroundLoop, broker: LocalKafka, one: Installation, store: RedisProcess
) -> None:
    """Down at the start, it is waited for; killed while records flow, it is waited for as well.
    Nothing is lost: the final report equals what an engine makes of the topic.
    """
    store.start()
    tape = random_tape(41, 1200, step_ms=60)
    last = len(tape.records) - 1
    await one.apply_topics()
    await kill_kafka(background, broker)
    worker = await one.worker()
    await worker.says("broker.unavailable")
    health = await worker.health()
    assert health is not None
    assert not health["assigned"]
    assert await worker.live(), "a restart brings no broker back"
    assert await worker.unready()
    await start_kafka(background, broker)
    await worker.ready()
    async with one.redis() as redis:
        await one.write_tape(tape.records[:600])
        await report_at(redis, 599, worker=worker)
        await kill_kafka(background, broker)
        await start_kafka(background, broker)
        back = time.monotonic()
        await one.write_tape(tape.records[600:])
        report = await report_at(redis, last, worker=worker)
        print(f"\nlast report {time.monotonic() - back:.2f} s after the broker was back")

        async def committed() -> bool:
            return await one.committed() == last + 1

        await eventually(committed, what="the last offset committed")
        assert compared(report) == await recomputed(one)
        metrics = await worker.metrics()
        assert total(metrics, "tapeline_records_applied_total") == len(tape.records)
    assert worker.child.running


async def test_an_outage_is_no_stall(
    background: BackgroundLoop, broker: LocalKafka, one: Installation, store: RedisProcess
) -> None:
    """The broker is away for 15 s with records still to be applied and to be committed, then
    Redis: ``/health`` says what is away, stays 200, and the worker goes on by itself.
    """
    store.start()
    tape = random_tape(43, 900, step_ms=60)
    last = len(tape.records) - 1
    await one.apply_topics()
    worker = await one.worker(NT_STALL_MS="3000")
    await worker.ready()
    async with one.redis() as redis:
        await one.write_tape(tape.records[:300])
        worker.pause()
        await one.write_tape(tape.records[300:600])
        await kill_kafka(background, broker)
        worker.resume()
        answers = []
        until = time.monotonic() + OUTAGE_S
        while time.monotonic() < until:
            answers.append(await worker.probe())
            await asyncio.sleep(0.2)
        assert {status for status, _ in answers} <= {0, 200}
        assert answers[-1][1]["status"] == "degraded"
        assert answers[-1][1]["outages"]["broker"]["seconds"] > OUTAGE_S / 2
        await start_kafka(background, broker)
        await one.write_tape(tape.records[600:])
        report = await report_at(redis, last, worker=worker)
        assert compared(report) == await recomputed(one)

        await eventually(worker.well, what="no outage")
    store.kill()

    async def said() -> bool:
        status, body = await worker.probe()
        return status == 200 and "redis" in body["outages"]

    await eventually(said, what="Redis being away")
    assert worker.child.running
    assert worker.logged("worker.stalled") == []


async def test_asked_to_stop_without_a_broker(
    background: BackgroundLoop, broker: LocalKafka, one: Installation, store: RedisProcess
) -> None:
    """What it could not keep is said, and read again by the next start."""
    store.start()
    tape = random_tape(42, 300, step_ms=60)
    first = len(tape.records) - 6
    one.env["NT_CHECKPOINT_PERIOD_MS"] = "10000"
    await one.apply_topics()
    worker = await one.worker()
    await worker.ready()
    async with one.redis() as redis:
        await one.write_tape(tape.records[:first])
        # Right behind a checkpoint there are ten seconds until the next one could keep one more;
        # not behind the first, as a partition's second has a phase of its own.
        for last in range(first, len(tape.records)):

            async def committed(last: int = last) -> bool:
                return await one.committed() == last

            async def applied(last: int = last) -> bool:
                report = await report_of(redis)
                return report is not None and report["source"]["fast"]["offset"] == last

            await eventually(committed, what="all but the last record committed")
            await one.write_tape(tape.records[last : last + 1])
            await eventually(applied, what="the whole tape")
            if last > first and await committed():
                break
        else:
            pytest.fail("a checkpoint fell behind each record at once")
        await kill_kafka(background, broker)
        asked = time.monotonic()
        assert await worker.stopped() == 0, worker.tail()
        seconds = time.monotonic() - asked
        print(f"\nstopped in {seconds:.2f} s without a broker")
        assert seconds <= STOP_LIMIT_S
        [not_kept] = worker.logged("checkpoint.not_kept")
        assert not_kept["symbols"] == [SYMBOL]
        assert await redis.keys("report:writer:*") == [f"report:writer:token:{SYMBOL}".encode()]
        await start_kafka(background, broker)
        worker = await one.worker()
        await worker.ready()
        report = await report_at(redis, last, worker=worker)
        assert compared(report) == await recomputed(one)
