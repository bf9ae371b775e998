"""The topics Tapeline needs, what the broker has, and how to get from one to the other.

Tables are co-partitioned with the events topic, so its partition count is fixed for its life: a
different one is refused, never changed. Everything else may be applied again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.partitioner import murmur2

from tapeline.config import Settings
from tapeline.errors import TopicError
from tapeline.kafka_access import KafkaAccess, Where, servers_of

ORDER_REQUESTS: Final = "orders.requests.v1"
ORDER_EXECUTIONS: Final = "orders.executions.v1"

ORDER_PARTITIONS_MAX: Final = 8
HOUR_MS: Final = 3_600_000
WEEK_MS: Final = 7 * 24 * HOUR_MS
REQUEST_TIMEOUT_MS: Final = 10_000

_ALREADY_EXISTS: Final = 36
_SET_ON_THE_TOPIC: Final = 1
"""Kafka's config source of a value that somebody set on this very topic."""


class PartitionCountError(TopicError):
    """A topic has another number of partitions than the settings say (exit status 2).

    Attributes:
        topic: Which topic.
        wanted: What the settings say.
        found: What the broker has.
    """

    def __init__(self, topic: str, wanted: int, found: int) -> None:
        super().__init__(
            f"topic {topic} has {found} partitions, the plan asks for {wanted}: that is fixed "
            "for a topic's life; set NT_PARTITIONS to what the topics have, or give new ones other "
            "names by NT_EVENTS_TOPIC and NT_APP_ID"
        )
        self.topic, self.wanted, self.found = topic, wanted, found


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should be; ``configs`` are those that must not be the broker's defaults."""

    name: str
    partitions: int
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the broker has it.

    Attributes:
        configs: Value by name; None if the broker does not tell.
        set_here: Those of them that were set on this topic.
    """

    partitions: int
    configs: Mapping[str, str] | None = None
    set_here: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Changes:
    """What has to be done, or was.

    Attributes:
        create: Topics that are missing.
        alter: By topic and config: (value now, value wanted).
        unknown: By topic: configs that this broker does not tell or can't change.
        mismatched: Topics with a wrong number of partitions.
    """

    create: list[Topic] = field(default_factory=list)
    alter: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    mismatched: list[PartitionCountError] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.create or self.alter or self.mismatched)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "create": {topic.name: topic.partitions for topic in self.create},
            "alter": {
                name: {key: {"from": now, "to": to} for key, (now, to) in configs.items()}
                for name, configs in self.alter.items()
            },
            "unknown": self.unknown,
            "mismatched": {
                error.topic: {"wanted": error.wanted, "found": error.found}
                for error in self.mismatched
            },
        }


def partition_of(symbol: str, partitions: int) -> int:
    """Where a symbol's records are: what Kafka's and aiokafka's default partitioner answers."""
    hashed: int = murmur2(symbol.encode())
    return (hashed & 0x7FFFFFFF) % partitions


def bootstrap_servers(kafka_url: str) -> list[str]:
    """``kafka://a:1,b:2`` as a list of ``host:port``."""
    return [*servers_of(kafka_url)]


def dead_letters_of(topic: str) -> str:
    """The topic beside ``topic`` that keeps what could not be applied."""
    return f"{topic}.dlq"


def letters_of(settings: Settings) -> str:
    """Where workers keep the events that they could not apply."""
    return dead_letters_of(settings.suffixed(settings.events_topic))


def changelog_of(group: str) -> str:
    """The topic of the worker's checkpoints, named as Faust names a table's changelog."""
    return f"{group}-engine-changelog"


def needed(settings: Settings) -> tuple[Topic, ...]:
    """The topics that these settings may create and alter.

    A system beside another one writes to a few of its own; all others are the live system's, and
    none of its business: another version may plan them otherwise.
    """
    return beside(settings) if settings.report_suffix else plan(settings)


def beside(settings: Settings) -> tuple[Topic, ...]:
    """Topics of a system beside another one, named by its suffix; none without a suffix."""
    if not settings.report_suffix:
        return ()
    merged, telemetry = map(settings.suffixed, (settings.merged_topic, settings.telemetry_topic))
    changelog = changelog_of(settings.suffixed(settings.app_id))
    return (
        Topic(merged, settings.partitions, _kept_for(settings.retention_ms)),
        Topic(telemetry, 1, _kept_for(WEEK_MS)),
        Topic(letters_of(settings), 1, _kept_for(WEEK_MS)),
        Topic(changelog, settings.partitions, _COMPACTED),
    )


def plan(settings: Settings) -> tuple[Topic, ...]:
    """All topics of an installation, with those of a system beside it where there is a suffix."""
    partitions = settings.partitions
    orders = min(partitions, ORDER_PARTITIONS_MAX)
    streams = (
        Topic(settings.events_topic, partitions, _kept_for(settings.retention_ms)),
        Topic(settings.merged_topic, partitions, _kept_for(settings.retention_ms)),
        Topic(ORDER_REQUESTS, orders, _kept_for(WEEK_MS)),
        Topic(ORDER_EXECUTIONS, orders, _kept_for(WEEK_MS)),
        Topic(settings.commands_topic, 1, _kept_for(WEEK_MS)),
        Topic(settings.telemetry_topic, 1, _kept_for(WEEK_MS)),
    )
    dead = tuple(Topic(dead_letters_of(t.name), 1, _kept_for(WEEK_MS)) for t in streams)
    kept = Topic(settings.routing_topic, 1, _COMPACTED)
    changelog = Topic(changelog_of(settings.app_id), partitions, _COMPACTED)
    return *streams, *dead, kept, changelog, *beside(settings)


def _kept_for(retention_ms: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(retention_ms),
        # A broker deletes whole segments only, and rolls a quiet one after a week by default.
        "segment.ms": str(min(HOUR_MS, retention_ms // 2)),
    }


_COMPACTED: Final = {
    "cleanup.policy": "compact",
    # A cold start reads the active segment in full. Checkpoints come every 2 s, so this is 15 of
    # each symbol, and nearly all of what lies behind is superseded and may be cleaned at once.
    "segment.ms": "30000",
    "segment.bytes": str(16 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.05",
    "max.compaction.lag.ms": "60000",
    "delete.retention.ms": "60000",
}


def diff(wanted: Iterable[Topic], found: Mapping[str, Found]) -> Changes:
    """What is missing or different; configs that are not ours are left as they are."""
    changes = Changes()
    for topic in wanted:
        there = found.get(topic.name)
        if there is None:
            changes.create.append(topic)
            continue
        if there.partitions != topic.partitions:
            error = PartitionCountError(topic.name, topic.partitions, there.partitions)
            changes.mismatched.append(error)
        configs = there.configs or {}
        unknown = [name for name in topic.configs if name not in configs]
        if unknown:
            changes.unknown[topic.name] = unknown
        altered = {
            name: (configs[name], value)
            for name, value in topic.configs.items()
            if name in configs and configs[name] != value
        }
        if altered:
            changes.alter[topic.name] = altered
    return changes


@asynccontextmanager
async def admin_of(where: Where) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client, closed at the end.

    Raises:
        TopicError: No broker answers or lets us in, or it went away in between.
    """
    access = KafkaAccess.of(where)
    servers = ",".join(access.servers)
    started = False
    try:
        admin = AIOKafkaAdminClient(**access.arguments(), request_timeout_ms=REQUEST_TIMEOUT_MS)
        try:
            await admin.start()
            started = True
            yield admin
        finally:
            await admin.close()
    except (KafkaError, OSError, TimeoutError) as exc:
        reason = "" if started else await access.reason()
        reason = reason or str(exc) or type(exc).__name__
        raise TopicError(f"broker {servers} does not answer: {reason}") from exc


async def partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Partitions of every topic there is."""
    # All of them, and never by name: asked about a name, a broker may create the topic.
    described = await admin.describe_topics(None)
    return {entry["topic"]: len(entry["partitions"]) for entry in described}


async def observe(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, Found]:
    """What the broker has of these topics."""
    counts = await partition_counts(admin)
    found: dict[str, Found] = {}
    for name in names:
        if name in counts:
            found[name] = await _describe(admin, name, counts[name])
    return found


async def _describe(admin: AIOKafkaAdminClient, name: str, partitions: int) -> Found:
    try:
        # One topic a request, all configs: of what else is in the protocol Tansu drops the
        # connection. A config that is not listed is one the broker does not have.
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    except IncompatibleBrokerVersion:
        return Found(partitions)
    configs: dict[str, str] = {}
    set_here: dict[str, str] = {}
    for error_code, error_message, _type, _name, entries in answer.resources:
        if error_code:
            raise TopicError(f"configs of topic {name}: {error_message or error_code}")
        for key, value, read_only, source, sensitive, *_ in entries:
            configs[key] = value
            if source == _SET_ON_THE_TOPIC and not read_only and not sensitive:
                set_here[key] = value
    return Found(partitions, configs, set_here)


async def apply(
    admin: AIOKafkaAdminClient, wanted: Iterable[Topic], *, replication_factor: int = 1
) -> Changes:
    """Create what is missing and alter what differs; all or, where refused, nothing.

    Returns:
        What was done; empty when everything was right already.

    Raises:
        PartitionCountError: A topic has another partition count; nothing was changed.
        TopicError: The broker refused a change, and why.
    """
    wanted = tuple(wanted)
    found = await observe(admin, [topic.name for topic in wanted])
    changes = diff(wanted, found)
    if changes.mismatched:
        raise changes.mismatched[0]
    if changes.create:
        await _create(admin, changes.create, replication_factor)
    for name, altered in list(changes.alter.items()):
        if not await _alter(admin, name, found[name], altered):
            changes.unknown[name] = [*changes.unknown.get(name, ()), *changes.alter.pop(name)]
    return changes


async def _create(admin: AIOKafkaAdminClient, topics: list[Topic], replication_factor: int) -> None:
    answer = await admin.create_topics(
        [
            NewTopic(
                topic.name,
                topic.partitions,
                replication_factor,
                topic_configs=dict(topic.configs),
            )
            for topic in topics
        ]
    )
    refused = [
        f"{name}: {message or f'error {code}'}"
        for name, code, message in answer.topic_errors
        if code not in (0, _ALREADY_EXISTS)
    ]
    if refused:
        raise TopicError("the broker refused to create " + "; ".join(refused))
    await _until_known(admin, {topic.name for topic in topics})


async def _until_known(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    """The controller answers before the brokers know: a client in between would see nothing."""
    async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000):
        while not names <= (await partition_counts(admin)).keys():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _alter(
    admin: AIOKafkaAdminClient, name: str, found: Found, altered: dict[str, tuple[str, str]]
) -> bool:
    """Set some configs; False if the broker can't.

    Raises:
        TopicError: It can, but refuses these.
    """
    # This request replaces all of a topic's own configs, so the others go with it.
    configs = {**found.set_here, **{key: value for key, (_, value) in altered.items()}}
    try:
        answers = await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name, configs)]
        )
    except IncompatibleBrokerVersion:
        return False
    for answer in answers:
        for code, message, *_ in answer.resources:
            if code:
                raise TopicError(f"the broker refused to alter {name}: {message or code}")
    return True
