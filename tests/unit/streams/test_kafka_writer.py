"""The writer against a made-up producer that fails as aiokafka's does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownError,
)

from streams import kafka_writer
from streams.feeds import OutRecord
from streams.kafka_writer import KafkaWriter, _producer
from streams.outbox import LostLine, Outbox
from streams.topics import PartitionCountError
from tapeline.kafka_access import KafkaAccess
from tests.support.bridge import until
from tests.support.bridge_fakes import FakeBroker

TOPIC, PARTITIONS = "t", 4


class Rig:
    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.box = Outbox(bytes_max=10**6, age_max_ms=30_000)
        self.lost: list[tuple[set[LostLine], str]] = []
        self.writer = KafkaWriter(
            self.box,
            access=KafkaAccess(("x:1",)),
            topic=TOPIC,
            partitions=PARTITIONS,
            client_id="c",
            on_lost=lambda lines, reason: self.lost.append((lines, reason)),
        )
        self.task = asyncio.create_task(self.writer.run())
        self.made = 0

    def put(self, count: int, partition: int = 0, now_ms: int = 0) -> list[bytes]:
        values = [str(self.made + n).encode() for n in range(count)]
        self.made += count
        self.box.put(
            [OutRecord(partition, "v", f"S{partition}", b"", value, "trade") for value in values],
            now_ms,
        )
        self.writer.wake()
        return values

    async def drained(self) -> None:
        async with asyncio.timeout(3):
            await self.writer.drained()

    async def until(self, true: Callable[[], bool]) -> None:
        await until(true)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    made = FakeBroker(PARTITIONS)
    monkeypatch.setattr(kafka_writer, "_producer", made.producer)
    monkeypatch.setattr(kafka_writer, "RETRY_S", 0.005)
    monkeypatch.setattr(kafka_writer, "RETIRE_S", 0.05)
    return made


@asynccontextmanager
async def rig(broker: FakeBroker) -> AsyncIterator[Rig]:
    running = Rig(broker)
    try:
        yield running
    finally:
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)


async def test_records_are_written_in_order_and_forgotten(broker: FakeBroker) -> None:
    async with rig(broker) as r:
        values = r.put(10)
        others = r.put(4, partition=2)
        await r.drained()
        assert broker.log == {0: values, 2: others}
        assert r.box.acknowledged == 14
        assert r.writer.connected
    assert broker.producers[0].stopped
    assert not r.writer.connected


async def test_a_broker_that_is_down_is_tried_again(broker: FakeBroker) -> None:
    broker.start_errors = [KafkaConnectionError("no"), TimeoutError(), OSError("no route")]
    async with rig(broker) as r:
        values = r.put(2)
        await r.drained()
        assert broker.log == {0: values}
        assert broker.idempotent == [True] * 4


async def test_a_topic_that_is_not_there_is_waited_for(broker: FakeBroker) -> None:
    broker.partitions = 0
    async with rig(broker) as r:
        values = r.put(1)
        await r.until(lambda: len(broker.producers) > 2)
        broker.partitions = PARTITIONS
        await r.drained()
        assert broker.log == {0: values}


async def test_a_wrong_partition_count_is_refused(broker: FakeBroker) -> None:
    broker.partitions = 7
    async with rig(broker) as r:
        with pytest.raises(PartitionCountError, match="has 7 partitions, the plan asks for 4"):
            await r.task
    assert broker.producers[0].stopped


@pytest.mark.parametrize("error", [OutOfOrderSequenceNumber(), ProducerFenced()])
async def test_an_unusable_producer_is_replaced_and_nothing_is_lost(
    broker: FakeBroker, error: Exception
) -> None:
    broker.faults = [None, error]
    async with rig(broker) as r:
        values = r.put(9)
        await r.drained()
        assert broker.log == {0: values}
        assert r.writer.replaced == {type(error).__name__: 1}
        assert len(broker.producers) == 2
        assert broker.producers[0].stopped


async def test_a_lost_answer_may_write_twice_but_never_out_of_order(broker: FakeBroker) -> None:
    """A reader knows the copies by their feed.seq."""
    broker.faults = ["lost answer"]
    async with rig(broker) as r:
        values = r.put(5)
        await r.drained()
        assert broker.log[0] == values[:3] + values


async def test_a_send_that_fails_at_once_replaces_the_producer_too(broker: FakeBroker) -> None:
    broker.faults = ["send"]
    async with rig(broker) as r:
        values = r.put(5) + r.put(1, partition=1)
        await r.drained()
        assert broker.log[0] + broker.log[1] == values
        assert r.writer.replaced == {"KafkaTimeoutError": 1}


async def test_other_batches_of_a_retired_producer_may_still_arrive_or_go_again(
    broker: FakeBroker,
) -> None:
    broker.faults = ["hang", OutOfOrderSequenceNumber()]
    async with rig(broker) as r:
        first, second = r.put(2, partition=0), r.put(2, partition=1)
        await r.drained()
        assert broker.log == {0: first, 1: second}
        assert broker.producers[0].failed_all, "its hanging batch was cut off"
        assert r.writer.replaced == {"OutOfOrderSequenceNumber": 1}


async def test_a_batch_that_nobody_ever_settles_goes_again_too(broker: FakeBroker) -> None:
    broker.faults, broker.stubborn = ["hang", ProducerFenced()], True
    async with rig(broker) as r:
        first, second = r.put(2, partition=0), r.put(2, partition=1)
        await r.drained()
        assert broker.log == {0: first, 1: second}
    for producer in broker.producers:
        for future in producer.flying:
            future.cancel()


async def test_a_record_the_broker_never_takes_is_given_up_alone(broker: FakeBroker) -> None:
    broker.faults = [MessageSizeTooLargeError(), MessageSizeTooLargeError()]
    async with rig(broker) as r:
        values = r.put(3)
        await r.drained()
        assert broker.log == {0: values[1:]}
        assert r.writer.refused == 1
        assert r.lost == [({LostLine("v", "S0")}, "record_refused")]


async def test_what_failed_after_its_lane_was_emptied_is_told_as_lost(broker: FakeBroker) -> None:
    broker.faults = ["hang"]
    async with rig(broker) as r:
        r.put(1)
        await r.until(lambda: bool(broker.producers and broker.producers[0].flying))
        r.put(1)
        assert r.box.expire(40_000) == {LostLine("v", "S0")}
        broker.producers[0].flying[0].set_exception(ProducerFenced())
        await r.until(lambda: bool(r.lost))
        assert r.lost == [({LostLine("v", "S0")}, "broker_outage")]
        assert r.box.depth == 0


async def test_a_broker_without_producer_ids_gets_a_plain_producer(broker: FakeBroker) -> None:
    broker.start_errors = [UnknownError() for _ in range(kafka_writer.IDEMPOTENCE_ATTEMPTS)]
    async with rig(broker) as r:
        values = r.put(1)
        await r.drained()
        assert broker.log == {0: values}
        assert broker.idempotent == [True, True, True, False]
        assert not r.writer.idempotent


async def test_a_stop_does_not_wait_for_a_dead_broker(broker: FakeBroker) -> None:
    broker.faults = ["hang"]
    async with rig(broker) as r:
        r.put(1)
        await r.until(lambda: bool(broker.producers and broker.producers[0].flying))
        start_s = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - start_s < 1.0
    assert r.box.depth == 1


async def test_room_is_waited_for(broker: FakeBroker) -> None:
    broker.start_errors = [OSError("not yet") for _ in range(5)]
    async with rig(broker) as r:
        r.put(5)
        async with asyncio.timeout(3):
            await r.writer.drained(4)
        assert r.box.bytes <= 4


async def test_batches_of_the_real_producer_never_expire() -> None:
    """By an attribute that is not public: this test is what notices when it moves."""
    producer = _producer(KafkaAccess(("127.0.0.1:1",)), "c", idempotent=True)
    try:
        accumulator = producer._message_accumulator
        batch = accumulator._append_batch(producer.create_batch(), object())
        batch._ctime -= 10**6
        assert not batch.expired()
        assert producer._request_timeout_ms == kafka_writer.REQUEST_TIMEOUT_MS
        batch.failure(ProducerFenced())
        accumulator._batches.clear()
    finally:
        await producer.stop()


class Followed:
    """A sampled frame's records; counts those that have arrived."""

    def __init__(self) -> None:
        self.headers = [("traceparent", b"00-x")]
        self.came = 0

    def arrived(self) -> None:
        self.came += 1


async def test_a_sampled_record_has_its_header_and_is_told_when_it_has_arrived(
    broker: FakeBroker,
) -> None:
    """Once, however often it had to be sent; others have no header."""
    broker.faults += [OutOfOrderSequenceNumber()]
    followed = Followed()
    async with rig(broker) as r:
        for value, traced in ((b"a", None), (b"b", followed), (b"c", followed)):
            r.box.put([OutRecord(0, "v", "S0", b"", value, "trade", traced)], 0)
        r.writer.wake()
        await r.until(lambda: len(broker.producers) == 1)
        await r.drained()
        assert broker.log == {0: [b"a", b"b", b"c"]}
        assert broker.headers == {b"a": (), b"b": followed.headers, b"c": followed.headers}
        assert followed.came == 2
