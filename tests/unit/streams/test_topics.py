"""The topic plan, and what differs from it."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from streams import topics
from streams.topics import Changes, Found, PartitionCountError, Topic
from tapeline.config import load_settings
from tapeline.errors import TopicError


@given(symbol=st.from_regex(r"[A-Z0-9][A-Z0-9._-]{0,31}", fullmatch=True), n=st.integers(1, 200))
def test_partitions_are_those_of_the_default_partitioner(symbol: str, n: int) -> None:
    assert topics.partition_of(symbol, n) == DefaultPartitioner()(symbol.encode(), [*range(n)], [])


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("abc", 479470107),
    ],
)
def test_partitions_are_those_of_the_java_client(key: str, hashed: int) -> None:
    """Vectors of apache/kafka, UtilsTest.testMurmur2."""
    assert topics.partition_of(key, 2**31) == hashed & 0x7FFFFFFF


def test_known_partitions_stay_what_they_are() -> None:
    """Records are where they are: an answer that changes loses every symbol."""
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    assert [topics.partition_of(symbol, 64) for symbol in symbols] == [18, 29, 41]


def test_the_plan_has_a_dead_letter_topic_beside_each_stream_and_one_changelog() -> None:
    plan = {t.name: t for t in topics.plan(load_settings({}, partitions=16, app_id="a"))}
    streams = [
        "md.events.v1",
        "md.merged.v1",
        "orders.requests.v1",
        "orders.executions.v1",
        "control.commands.v1",
        "ops.telemetry.v1",
    ]
    assert [*plan] == [
        *streams,
        *(f"{name}.dlq" for name in streams),
        "control.routing.v1",
        "a-engine-changelog",
    ]
    assert plan["md.events.v1"].partitions == plan["a-engine-changelog"].partitions == 16
    assert plan["control.commands.v1"].partitions == 1
    assert plan["orders.requests.v1"].partitions == 8


def test_the_plan_keeps_events_and_compacts_states() -> None:
    plan = {t.name: t.configs for t in topics.plan(load_settings({}, retention_ms=7_200_000))}
    assert plan["md.events.v1"]["cleanup.policy"] == "delete"
    assert plan["md.events.v1"]["retention.ms"] == "7200000"
    assert "max.message.bytes" not in plan["md.events.v1"]
    for compacted in ("tapeline-engine-changelog", "control.routing.v1"):
        assert plan[compacted]["cleanup.policy"] == "compact"


def test_another_events_topic_takes_its_dead_letters_along() -> None:
    names = [t.name for t in topics.plan(load_settings({}, events_topic="mine"))]
    assert {"mine", "mine.dlq"} <= {*names}
    assert "md.events.v1" not in names


def test_nothing_differs_when_everything_is_there() -> None:
    wanted = [Topic("a", 4, {"k": "1"})]
    changes = topics.diff(wanted, {"a": Found(4, {"k": "1", "other": "9"})})
    assert not changes
    assert changes == Changes()


def test_what_is_missing_or_different_is_listed() -> None:
    wanted = [Topic("a", 4), Topic("b", 4, {"k": "1", "strange": "2"}), Topic("c", 4)]
    changes = topics.diff(wanted, {"b": Found(4, {"k": "0"}), "c": Found(5, {})})
    assert [t.name for t in changes.create] == ["a"]
    assert changes.alter == {"b": {"k": ("0", "1")}}
    assert changes.unknown == {"b": ["strange"]}
    (error,) = changes.mismatched
    assert (error.topic, error.wanted, error.found) == ("c", 4, 5)
    assert changes.as_json() == {
        "create": {"a": 4},
        "alter": {"b": {"k": {"from": "0", "to": "1"}}},
        "unknown": {"b": ["strange"]},
        "mismatched": {"c": {"wanted": 4, "found": 5}},
    }


def test_a_wrong_partition_count_is_told_with_both_numbers() -> None:
    text = str(PartitionCountError("md.events.v1", 64, 32))
    assert "has 32 partitions" in text
    assert "asks for 64" in text
    assert "NT_PARTITIONS" in text


def test_urls_may_name_several_brokers_and_need_no_scheme() -> None:
    assert topics.bootstrap_servers("kafka://a:1,b:2") == ["a:1", "b:2"]
    assert topics.bootstrap_servers("a:1") == ["a:1"]


async def test_a_broker_that_does_not_answer_is_named() -> None:
    with pytest.raises(TopicError, match=r"127\.0\.0\.1:1 does not answer"):
        async with topics.admin_of("kafka://127.0.0.1:1"):
            pass


class _Answer:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class FakeAdmin:
    """A broker's admin side: Kafka's by default, Tansu's with ``partial``."""

    def __init__(self, partitions: dict[str, int], *, partial: bool = False) -> None:
        self.partitions = partitions
        self.configs: dict[str, dict[str, str]] = {name: {"k": "0"} for name in partitions}
        self.partial = partial
        self.altered: dict[str, dict[str, str]] = {}
        self.refuse_create = self.refuse_alter = self.refuse_describe = 0
        self.created_after = 0

    async def describe_topics(self, names: None) -> list[dict[str, Any]]:
        assert names is None, "asked by name, some brokers create the topic"
        if self.created_after:
            self.created_after -= 1
            return []
        return [{"topic": t, "partitions": [*range(n)]} for t, n in self.partitions.items()]

    async def describe_configs(self, resources: list[Any]) -> list[_Answer]:
        if self.partial:
            raise IncompatibleBrokerVersion("DescribeConfigs")
        (resource,) = resources
        entries = [(k, v, False, 1, False) for k, v in self.configs[resource.name].items()]
        entries.append(("theirs", "x", False, 5, False))
        return [_Answer(resources=[(self.refuse_describe, "no", 2, resource.name, entries)])]

    async def create_topics(self, new: list[Any]) -> _Answer:
        for topic in new:
            if not self.refuse_create:
                self.partitions[topic.name] = topic.num_partitions
                self.configs[topic.name] = {**topic.topic_configs}
        return _Answer(topic_errors=[(t.name, self.refuse_create, "no room") for t in new])

    async def alter_configs(self, resources: list[Any]) -> list[_Answer]:
        if self.partial:
            raise IncompatibleBrokerVersion("AlterConfigs")
        (resource,) = resources
        self.altered[resource.name] = dict(resource.configs)
        return [_Answer(resources=[(self.refuse_alter, "not so", 2, resource.name)])]


async def test_apply_creates_waits_until_known_and_sets_configs_beside_those_of_others() -> None:
    admin = FakeAdmin({"old": 4})
    admin.configs["old"] = {"k": "0", "set.by.hand": "1"}

    async def create(new: list[Any]) -> _Answer:
        admin.created_after = 2
        return await FakeAdmin.create_topics(admin, new)

    admin.create_topics = create  # type: ignore[method-assign]
    changes = await topics.apply(admin, [Topic("old", 4, {"k": "1"}), Topic("new", 2, {"k": "1"})])
    assert [t.name for t in changes.create] == ["new"]
    assert admin.altered == {"old": {"k": "1", "set.by.hand": "1"}}
    assert not admin.created_after


async def test_apply_on_a_broker_that_can_not_alter_says_so_and_goes_on() -> None:
    admin = FakeAdmin({"old": 4}, partial=True)
    changes = await topics.apply(admin, [Topic("old", 4, {"k": "1"})])
    assert not changes
    assert changes.unknown == {"old": ["k"]}


async def test_a_config_that_can_be_read_but_not_set_is_not_called_changed() -> None:
    admin = FakeAdmin({"old": 4})

    async def alter(_: list[Any]) -> list[_Answer]:
        raise IncompatibleBrokerVersion("AlterConfigs")

    admin.alter_configs = alter  # type: ignore[method-assign]
    changes = await topics.apply(admin, [Topic("old", 4, {"k": "1"})])
    assert not changes
    assert changes.unknown == {"old": ["k"]}


async def test_a_wrong_partition_count_changes_nothing_at_all() -> None:
    admin = FakeAdmin({"old": 4})
    with pytest.raises(PartitionCountError):
        await topics.apply(admin, [Topic("new", 2), Topic("old", 8)])
    assert admin.partitions == {"old": 4}


@pytest.mark.parametrize(
    ("field", "code", "words"),
    [
        ("refuse_create", 38, "refused to create new: no room"),
        ("refuse_alter", 40, "refused to alter old: not so"),
        ("refuse_describe", 29, "configs of topic old: no"),
    ],
)
async def test_what_a_broker_refuses_is_told(field: str, code: int, words: str) -> None:
    admin = FakeAdmin({"old": 4})
    setattr(admin, field, code)
    with pytest.raises(TopicError, match=words):
        await topics.apply(admin, [Topic("new", 2), Topic("old", 4, {"k": "1"})])
