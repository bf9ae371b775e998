"""Topics on a real broker, and on the one of `tapeline dev`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from typer.testing import CliRunner

from streams import topics
from streams.topics import PartitionCountError, Topic
from streams.topics_cli import app
from tapeline.config import load_settings
from tapeline.stack.embedded import EmbeddedBroker
from tests.support.background import BackgroundLoop


def own_plan(**settings: Any) -> list[Topic]:
    """The whole plan under names of its own: the broker is shared."""
    prefix = uuid.uuid4().hex[:8]
    plan = topics.plan(load_settings({}, partitions=4, **settings))
    return [replace(topic, name=f"{prefix}.{topic.name}") for topic in plan]


@pytest.mark.kafka
async def test_applying_twice_changes_nothing_the_second_time(kafka_url: str) -> None:
    wanted = own_plan()
    async with topics.admin_of(kafka_url) as admin:
        first = await topics.apply(admin, wanted)
        assert len(first.create) == len(wanted) == 14
        assert first.unknown == {}
        second = await topics.apply(admin, wanted)
        assert not second
        found = await topics.observe(admin, [topic.name for topic in wanted])
        assert {n: f.partitions for n, f in found.items()} == {t.name: t.partitions for t in wanted}
        changelog = found[wanted[-1].name].configs or {}
        assert changelog["cleanup.policy"] == "compact"


@pytest.mark.kafka
async def test_a_config_is_altered_beside_those_that_somebody_else_set(kafka_url: str) -> None:
    (topic,) = [t for t in own_plan() if t.name.endswith("md.merged.v1")]
    by_hand = replace(topic, configs={"retention.ms": "9000000", "max.message.bytes": "2000000"})
    async with topics.admin_of(kafka_url) as admin:
        await topics.apply(admin, [by_hand])
        changes = await topics.apply(admin, [topic])
        assert set(changes.alter[topic.name]) >= {"retention.ms", "segment.ms"}
        configs = (await topics.observe(admin, [topic.name]))[topic.name].configs or {}
        assert configs["retention.ms"] == topic.configs["retention.ms"]
        assert configs["max.message.bytes"] == "2000000"
        assert not await topics.apply(admin, [topic])


@pytest.mark.kafka
async def test_a_changelog_of_before_is_brought_up_to_the_plan(kafka_url: str) -> None:
    """As Faust would have made it; the broker takes every value as it is, and keeps the records."""
    (topic,) = [t for t in own_plan() if t.name.endswith("changelog")]
    faust_made = replace(
        topic, configs={"cleanup.policy": "compact", "max.message.bytes": "2000000"}
    )
    servers = topics.bootstrap_servers(kafka_url)
    async with topics.admin_of(kafka_url) as admin:
        await topics.apply(admin, [faust_made])
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            await producer.send_and_wait(topic.name, b"v", key=b"K@1", partition=0)
        changes = await topics.apply(admin, [topic])
        assert changes.alter[topic.name].keys() == topic.configs.keys() - {"cleanup.policy"}
        configs = (await topics.observe(admin, [topic.name]))[topic.name].configs or {}
        assert {name: configs[name] for name in topic.configs} == topic.configs
        assert configs["max.message.bytes"] == "2000000"
        assert not await topics.apply(admin, [topic])
    async with AIOKafkaConsumer(
        topic.name, bootstrap_servers=servers, auto_offset_reset="earliest"
    ) as consumer:
        assert (await consumer.getone()).value == b"v"


@pytest.mark.kafka
async def test_another_partition_count_is_refused_and_nothing_is_touched(kafka_url: str) -> None:
    (topic,) = [t for t in own_plan() if t.name.endswith("md.events.v1")]
    other = replace(topic, name=topic.name + ".new")
    async with topics.admin_of(kafka_url) as admin:
        await topics.apply(admin, [topic])
        with pytest.raises(PartitionCountError, match="has 4 partitions, the plan asks for 6"):
            await topics.apply(admin, [other, replace(topic, partitions=6)])
        counts = await topics.partition_counts(admin)
        assert counts[topic.name] == 4
        assert other.name not in counts


@pytest.mark.kafka
async def test_more_replicas_than_brokers_is_the_broker_s_own_words(kafka_url: str) -> None:
    (topic,) = [t for t in own_plan() if t.name.endswith("ops.telemetry.v1")]
    async with topics.admin_of(kafka_url) as admin:
        with pytest.raises(topics.TopicError, match="refused to create"):
            await topics.apply(admin, [topic], replication_factor=9)


@pytest.fixture(scope="module")
def tansu(background: BackgroundLoop) -> Iterator[str]:
    broker = EmbeddedBroker()
    background.run(broker.__aenter__())
    yield broker.url
    background.run(broker.stop())


class Cli:
    """``tapeline topics`` on a broker of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, *args: str, **env: str) -> tuple[int, dict[str, Any], str]:
        result = CliRunner().invoke(app, [*args], env={"KAFKA_URL": self.url, **env})
        last = result.stdout.strip().splitlines()[-1:] or ["{}"]
        body = json.loads(last[0]) if "--json" in args and last[0].startswith("{") else {}
        return result.exit_code, body, result.output


def test_the_command_plans_applies_and_applies_again(tansu: str) -> None:
    cli, name = Cli(tansu), uuid.uuid4().hex[:8]
    env = {"NT_EVENTS_TOPIC": name, "NT_APP_ID": name}
    code, body, _ = cli.run("plan", "--json", **env)
    assert code == 0
    assert body["planned"]["create"][name] == 64
    code, body, _ = cli.run("apply", "--json", **env)
    assert code == 0
    assert body["applied"]["create"][name] == 64
    code, body, _ = cli.run("apply", "--json", **env)
    assert code == 0
    assert body["applied"] == {"create": {}, "alter": {}, "unknown": {}, "mismatched": {}}
    code, _, text = cli.run("plan", **env)
    assert code == 0
    assert "no change" in text


def test_the_command_refuses_another_partition_count_with_2(tansu: str) -> None:
    cli = Cli(tansu)
    assert cli.run("apply", "--json")[0] == 0
    for command in ("plan", "apply"):
        code, _, text = cli.run(command, NT_PARTITIONS="32")
        assert code == 2
        assert "has 64 partitions, the plan asks for 32" in text.replace("\n", " ")


def test_a_broker_that_can_not_alter_says_which_configs_stay(tansu: str) -> None:
    cli = Cli(tansu)
    assert cli.run("apply", "--json")[0] == 0
    code, body, _ = cli.run("apply", "--json", NT_RETENTION_MS="7200000")
    assert code == 0
    assert body["applied"]["unknown"]["md.events.v1"] == ["retention.ms"]
    code, _, text = cli.run("apply", NT_RETENTION_MS="7200000")
    assert code == 0
    assert "retention.ms" in text


def test_no_broker_is_1_and_no_setting_is_2() -> None:
    code, _, text = Cli("kafka://127.0.0.1:1").run("plan")
    assert code == 1
    assert "does not answer" in text
    code, _, text = Cli("").run("plan")
    assert code == 2
    assert "KAFKA_URL" in text
