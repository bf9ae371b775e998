"""Apache Kafka on the JVM: what it holds survives its restarts."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tapeline.stack import kafka_jars
from tapeline.stack.kafka_local import LocalKafka

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.skipif(kafka_jars.unavailable() is not None, reason=str(kafka_jars.unavailable())),
]


async def test_records_survive_restart_and_kill(tmp_path: Path) -> None:
    async with LocalKafka(tmp_path / "data", heap_mb=256) as kafka:
        url, servers = kafka.url, kafka.url.removeprefix("kafka://")
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        await admin.create_topics([NewTopic("t", 1, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
            await producer.send_and_wait("t", b"one")

            await kafka.restart()
            assert kafka.url == url
            await producer.send_and_wait("t", b"two")

        kafka.kill()
        await kafka.stop()
        assert not kafka.running
        await kafka.start()

        partition = TopicPartition("t", 0)
        consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=None)
        async with consumer:
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            assert [(await consumer.getone()).value for _ in range(2)] == [b"one", b"two"]


async def test_topics_are_never_made_by_a_mistyped_name(kafka_url: str) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_url.removeprefix("kafka://"), request_timeout_ms=1000
    )
    async with producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait("nobody-made-this", b"x")
