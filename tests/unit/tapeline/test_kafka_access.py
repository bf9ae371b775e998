"""One place says how Kafka and Redis are reached: nobody makes a client any other way."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tapeline.kafka_access import KafkaAccess
from tests.support.imports import modules, tree

CLIENTS = {
    "AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaAdminClient", "AIOKafkaClient", "create_conn",
}  # fmt: skip
LOCAL = {"tapeline.stack.kafka_local"}
"""Made for a broker that it has started itself, in plain text."""

URL_IS_ENOUGH = {
    "tapeline.doctor.broker",  # shows it
    "tapeline.config",
    "tapeline.kafka_access",
    "tapeline.config_security",
    # They ask whether there is one, or print it.
    "tapeline.cli", "tapeline.reader_kafka", "tapeline.stack.dev", "tapeline.capture_run",
    "streams.topics_cli", "streams.bridge_process",
}  # fmt: skip


def calls(names: set[str]) -> Iterator[tuple[str, ast.Call]]:
    """(module, call) of each call of these, by whatever they are reached."""
    for module, path in modules().items():
        text = path.read_text(encoding="utf-8")
        if not any(name in text for name in names):
            continue
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if called in names:
                    yield module, node


def test_every_client_of_kafka_is_made_with_the_one_set_of_arguments() -> None:
    made = 0
    for module, call in calls(CLIENTS):
        if module in LOCAL:
            continue
        spread = [ast.unparse(k.value) for k in call.keywords if k.arg is None]
        good = any(s.endswith((".arguments()", ".credentials()")) for s in spread)
        assert good, (module, ast.unparse(call))
        made += 1
    assert made >= 15


def test_nobody_goes_by_the_url_alone() -> None:
    """``admin_of(settings.kafka_url)`` would be plain text, whatever the settings say."""
    for module, path in modules().items():
        if module in URL_IS_ENOUGH or ".kafka_url" not in path.read_text(encoding="utf-8"):
            continue
        read = [
            ast.unparse(node)
            for node in ast.walk(tree(module))
            if isinstance(node, ast.Attribute) and node.attr == "kafka_url"
        ]
        assert read == [], module


def test_every_client_of_redis_is_made_of_a_url() -> None:
    """Which has user, password and files: see `config_security.secured`."""
    for module, call in calls({"Redis", "StrictRedis", "ConnectionPool"}):
        # Without arguments: a client that is never connected.
        assert not call.args, module
        assert not call.keywords, module


async def test_no_broker_is_a_reason_of_its_own() -> None:
    said = await KafkaAccess.of("kafka://127.0.0.1:1").reason()
    assert said


@pytest.mark.parametrize(
    ("said", "variable"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed", "NT_KAFKA_CA_FILE"),
        ("[Error 58] SaslAuthenticationFailedError", "NT_KAFKA_PASSWORD"),
        ("KafkaConnectionError: closed", "NT_KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
    ],
)
def test_a_reason_names_the_setting_to_look_at(said: str, variable: str) -> None:
    assert variable in KafkaAccess.of("kafka://h:1")._guess(said)
