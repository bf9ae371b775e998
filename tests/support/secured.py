"""Servers that let nobody in without TLS and a user: an Apache Kafka, and TLS before a Redis."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from redis.asyncio import Redis

from streams.topics import admin_of
from tapeline.stack.kafka_local import AT_ONCE, LocalKafka
from tapeline.stack.ports import LOOPBACK, free_port
from tests.support.certificates import Authority
from tests.support.imports import ROOT

PAGE = ROOT / "docs" / "operations" / "security.md"
USERS = ROOT / "deploy" / "redis" / "users.acl"

_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


# --- Kafka ----------------------------------------------------------------------------------------


class SecuredKafka(LocalKafka):
    """Two listeners: the stock one for the test's own eyes, and one of SASL_SSL for all others.

    Who comes by the second needs a certificate's trust, a user and rights (ACLs); the first is
    the superuser's.

    Args:
        data_dir: Where it keeps everything.
        authority: Signs its certificate.
        users: Passwords; each user may log in by PLAIN and by both SCRAMs.
    """

    def __init__(self, data_dir: Path, authority: Authority, users: Mapping[str, str]) -> None:
        super().__init__(data_dir, settings=AT_ONCE)
        self.secure_port = free_port(frozenset({self.port}))
        self.mutual_port = free_port(frozenset({self.port, self.secure_port}))
        self._authority, self._users = authority, users
        self._server = authority.issue("kafka", LOOPBACK, "localhost")
        self.format_options = tuple(
            option
            for user, password in users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for option in ("--add-scram", f"{mechanism}=[name={user},password={password}]")
        )

    @property
    def secure_url(self) -> str:
        """The listener that lets nobody in."""
        return f"kafka://{LOOPBACK}:{self.secure_port}"

    @property
    def mutual_url(self) -> str:
        """The listener that knows clients by their certificates."""
        return f"kafka://{LOOPBACK}:{self.mutual_port}"

    def _properties(self) -> dict[str, str]:
        stock = super()._properties()
        secure = f"SECURE://{LOOPBACK}:{self.secure_port},MUTUAL://{LOOPBACK}:{self.mutual_port}"
        here = "listener.name.secure"
        users = " ".join(f'user_{name}="{word}"' for name, word in self._users.items())
        return {
            **stock,
            "listeners": f"{stock['listeners']},{secure}",
            "advertised.listeners": f"{stock['advertised.listeners']},{secure}",
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL"
            ),
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"{here}.plain.sasl.jaas.config": f"{_PLAIN} required {users};",
            f"{here}.scram-sha-256.sasl.jaas.config": f"{_SCRAM} required;",
            f"{here}.scram-sha-512.sasl.jaas.config": f"{_SCRAM} required;",
            "listener.name.mutual.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._server.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._authority.ca),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:CN=operator",
        }


class Rule(NamedTuple):
    """One ``kafka-acls.sh --add`` of the page, taken apart."""

    principal: str
    operations: tuple[str, ...]
    resource: str
    name: str
    prefixed: bool


_OPERATIONS = {
    "Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Alter": 7, "Describe": 8,
    "DescribeConfigs": 10, "AlterConfigs": 11,
}  # fmt: skip
_RESOURCES = {"topic": 2, "group": 3, "cluster": 4}
_ALLOW, _LITERAL, _PREFIXED = 3, 3, 4


def kafka_rules() -> Iterator[Rule]:
    """The page's rules."""
    for line in re.findall(r"^acl (.+)$", PAGE.read_text(), re.M):
        words = line.split()
        options: dict[str, list[str]] = {}
        for name, value in zip(words[::2], words[1::2], strict=True):
            options.setdefault(name.removeprefix("--"), []).append(value)
        (resource,) = options.keys() & _RESOURCES.keys()
        for name in options[resource]:
            yield Rule(
                options["allow-principal"][0],
                tuple(options["operation"]),
                resource,
                name,
                options.get("resource-pattern-type") == ["prefixed"],
            )


async def grant(kafka_url: str, rules: Iterable[Rule], names: Mapping[str, str]) -> None:
    """Make the rules, with a test's own names of topics and group for those of the page."""
    async with admin_of(kafka_url) as admin:
        for rule in rules:
            for operation in rule.operations:
                await _create(admin, rule, _OPERATIONS[operation], names.get(rule.name, rule.name))


async def _create(admin: AIOKafkaAdminClient, rule: Rule, operation: int, name: str) -> None:
    pattern = _PREFIXED if rule.prefixed else _LITERAL
    name = "kafka-cluster" if rule.resource == "cluster" else name
    request = CreateAclsRequest(
        _RESOURCES[rule.resource], name, pattern, rule.principal, "*", operation, _ALLOW
    )
    answer: Any = await admin._send_request(request)
    for code, message in answer.creation_responses:
        assert code == 0, (rule, code, message)


# --- Redis ----------------------------------------------------------------------------------------


def redis_users(passwords: Mapping[str, str]) -> dict[str, list[str]]:
    """Arguments of ``ACL SETUSER`` by user, of deploy/redis/users.acl; the default user excepted."""
    found = {}
    for line in USERS.read_text().splitlines():
        _, user, *rules = line.split()
        if user != "default":
            own = [f">{passwords[user]}" if rule[0] == "#" else rule for rule in rules]
            found[user] = [user, "reset", *own]
    return found


async def make_users(url: str, passwords: Mapping[str, str]) -> None:
    """The users of the file, in a running server."""
    async with Redis.from_url(url) as redis:
        for arguments in redis_users(passwords).values():
            await redis.execute_command("ACL", "SETUSER", *arguments)


class TlsDoor:
    """Takes TLS connections and hands what is in them to a server that speaks none.

    Attributes:
        port: Where.
        admitted: Connections whose TLS was good.
    """

    def __init__(
        self, authority: Authority, target_port: int, *, client_certs: bool = False
    ) -> None:
        issued = authority.issue("redis", LOOPBACK, "localhost")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(issued.cert, issued.key)
        if client_certs:
            self._context.load_verify_locations(authority.ca)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._target_port = target_port
        self._pairs: set[asyncio.Task[None]] = set()
        self.port = self.admitted = 0

    async def _pair(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.admitted += 1
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        try:
            inner = await asyncio.open_connection(LOOPBACK, self._target_port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_pump(reader, inner[1]), _pump(inner[0], writer))
        finally:
            self._pairs.discard(task)
            for end in (writer, inner[1]):
                end.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[TlsDoor]:
        """Listen."""
        server = await asyncio.start_server(self._pair, LOOPBACK, 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._pairs:
                task.cancel()
            await asyncio.gather(*self._pairs, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()
