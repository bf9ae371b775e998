"""Kafka or Redpanda: there, able to do what is asked of it, and with the topics as planned."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import ApiVersionRequest

from streams.topics import Changes, admin_of, diff, needed, observe
from tapeline.config import Settings, mask
from tapeline.doctor.model import Check, Finding, fail, ok, skip, warn
from tapeline.errors import TopicError
from tapeline.kafka_access import KafkaAccess

NOT_SET: Final = "KAFKA_URL is not set"
REQUEST_MS: Final = 2_500

NEEDED: Final = {
    0: "Produce", 1: "Fetch", 2: "ListOffsets", 3: "Metadata", 8: "OffsetCommit",
    9: "OffsetFetch", 10: "FindCoordinator", 11: "JoinGroup", 12: "Heartbeat", 13: "LeaveGroup",
    14: "SyncGroup", 19: "CreateTopics",
}  # fmt: skip
WISHED: Final = {
    15: "DescribeGroups", 22: "InitProducerId", 32: "DescribeConfigs", 33: "AlterConfigs",
}  # fmt: skip
"""Without these something is missing: duplicates can't be told, or topics not be looked at."""

_FETCH: Final = 1


def checks(settings: Settings) -> list[Check]:
    """All checks of the broker."""
    return [
        Check("broker", partial(look_at_broker, settings), "see that KAFKA_URL can be reached"),
        Check("topics", partial(look_at_topics, settings), "tapeline topics plan"),
    ]


async def look_at_broker(settings: Settings) -> Finding:
    """Who answers, how many there are, and what they can do."""
    url = mask(settings.kafka_url)
    expected = f"a broker that answers, and {settings.replication_factor} for NT_REPLICATION_FACTOR"
    if not settings.kafka_url:
        fix = (
            "export KAFKA_URL=kafka://127.0.0.1:9092; readers need none, `tapeline dev` brings one"
        )
        return warn(NOT_SET, expected, fix)
    access = KafkaAccess.of(settings)
    client = AIOKafkaClient(**access.arguments(), request_timeout_ms=REQUEST_MS)
    try:
        await client.bootstrap()
        answer: Any = await client.send(client.get_random_node(), ApiVersionRequest())
        brokers = len(client.cluster.brokers())
    except (KafkaError, OSError) as error:
        fix = "start the broker, or set KAFKA_URL; behind it, see advertised.listeners"
        why = await access.reason() or str(error) or type(error).__name__
        return fail(f"{url}: {why}", expected, fix)
    finally:
        await client.close()
    apis = {key: most for key, _, most, *_ in answer.api_versions}
    found = f"{brokers} broker{'s' * (brokers != 1)}, {len(apis)} kinds of requests, Fetch up to v{apis.get(_FETCH, 0)}"
    lacking = [name for key, name in NEEDED.items() if key not in apis]
    if lacking:
        return fail(
            f"{found}; lacks {', '.join(lacking)}", expected, "a newer Apache Kafka, or Redpanda"
        )
    if brokers < settings.replication_factor:
        fix = f"NT_REPLICATION_FACTOR={brokers}, or more brokers"
        return fail(found, expected, fix)
    lacking = [name for key, name in WISHED.items() if key not in apis]
    if lacking:
        fix = "for more than trying it out: Apache Kafka or Redpanda"
        return warn(f"{found}; lacks {', '.join(lacking)}", expected, fix)
    return ok(found, expected)


async def look_at_topics(settings: Settings) -> Finding:
    """What `tapeline topics plan` says."""
    wanted = needed(settings)
    expected = f"{len(wanted)} topics as planned: partitions, retention, cleanup policy"
    if not settings.kafka_url:
        return skip(NOT_SET, expected)
    try:
        async with admin_of(settings) as admin:
            found = await observe(admin, [topic.name for topic in wanted])
    except TopicError as error:
        return skip(f"the broker can't be asked: {error}", expected)
    return judge_topics(diff(wanted, found), expected)


def judge_topics(changes: Changes, expected: str) -> Finding:
    """What is to be done to the topics, as a finding."""
    if changes.mismatched:
        return fail(
            "; ".join(
                f"{error.topic} has {error.found} partitions, planned are {error.wanted}"
                for error in changes.mismatched
            ),
            expected,
            "set NT_PARTITIONS to what the topics have: it is fixed for their life; or give new "
            "ones other names by NT_EVENTS_TOPIC and NT_APP_ID",
        )
    if changes.create:
        missing = ", ".join(topic.name for topic in changes.create)
        return fail(f"missing: {missing}", expected, "tapeline topics apply")
    if changes.alter:
        altered = "; ".join(
            f"{name}: {', '.join(f'{key} is {now}, planned {to}' for key, (now, to) in each.items())}"
            for name, each in changes.alter.items()
        )
        return warn(altered, expected, "tapeline topics apply")
    if changes.unknown:
        return ok(f"all there; this broker does not tell all of {len(changes.unknown)}", expected)
    return ok("all as planned", expected)
