"""A whole house behind locks: each process has its own user of Kafka and of Redis, all speak TLS."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from streams.simulator import SimulatedExchange
from tests.support import commands
from tests.support.certificates import Authority
from tests.support.house import House
from tests.support.redis_process import RedisProcess
from tests.support.secured import SecuredKafka, TlsDoor, grant, kafka_rules, make_users
from tests.support.worker import Installation

KAFKA_USERS = ("tapeline-worker", "tapeline-bridge", "tapeline-reader", "tapeline-operator")
REDIS_USERS = (
    "tapeline-worker", "tapeline-bridge", "tapeline-reader", "tapeline-keys", "tapeline-admin",
)  # fmt: skip

MECHANISMS = {
    "tapeline-worker": "SCRAM-SHA-512",
    "tapeline-bridge": "PLAIN",
    "tapeline-reader": "SCRAM-SHA-256",
    "tapeline-operator": "SCRAM-SHA-512",
}


def secret(name: str) -> str:
    """A password that nobody has by chance, and that URLs have to escape."""
    return f"{name}@:/%+{secrets.token_urlsafe(12)}"


@dataclass
class Locks:
    """Who may come in, and by what.

    Attributes:
        authority: Signs all certificates.
        kafka, redis: Passwords by user.
    """

    authority: Authority
    kafka: dict[str, str] = field(
        default_factory=lambda: {user: secret(f"k-{user}") for user in KAFKA_USERS}
    )
    redis: dict[str, str] = field(
        default_factory=lambda: {user: secret(f"r-{user}") for user in REDIS_USERS}
    )


class SecuredHouse(House):
    """A `House` whose processes are given what their role may have.

    Attributes:
        locks: Passwords and certificates.
        door: Where Redis is reached by TLS.
        sim: The venue.
        folder: For secrets in files.
    """

    def __init__(
        self,
        one: Installation,
        http: aiohttp.ClientSession,
        *,
        locks: Locks,
        kafka: SecuredKafka,
        door: TlsDoor,
        sim: SimulatedExchange,
        folder: Path,
    ) -> None:
        super().__init__(one, sim, http)
        self.locks, self.kafka, self.door, self.folder = locks, kafka, door, folder

    def of_kafka(self, role: str) -> dict[str, str]:
        """Settings of a role towards Kafka."""
        user = f"tapeline-{role}"
        return {
            "KAFKA_URL": self.kafka.secure_url,
            "NT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "NT_KAFKA_SASL_MECHANISM": MECHANISMS[user],
            "NT_KAFKA_USERNAME": user,
            "NT_KAFKA_PASSWORD": self.locks.kafka[user],
            "NT_KAFKA_CA_FILE": str(self.locks.authority.ca),
        }

    def of_redis(self, role: str, name: str = "REDIS") -> dict[str, str]:
        """Settings of a role towards Redis, in ``NAME_URL``."""
        user = f"tapeline-{role}"
        return {
            f"{name}_URL": f"rediss://{user}@localhost:{self.door.port}/0",
            f"NT_{name}_PASSWORD": self.locks.redis[user],
            "NT_REDIS_CA_FILE": str(self.locks.authority.ca),
        }

    def in_file(self, env: dict[str, str], *names: str) -> dict[str, str]:
        """``env`` with these secrets in files."""
        found = dict(env)
        for name in names:
            path = self.folder / f"{name}-{secrets.token_hex(4)}"
            path.write_text(f"{found[name]}\n")
            found[f"{name}_FILE"], found[name] = str(path), ""
        return found

    def env(self, role: str) -> dict[str, str]:
        """All of a role: ``worker``, ``bridge``, ``reader`` or ``operator``."""
        match role:
            case "reader":
                return {
                    **self.of_kafka(role), **self.of_redis("keys"),
                    **self.of_redis("reader", "REDIS_READER"), "NT_REQUIRE_KEYS": "always",
                }  # fmt: skip
            case "operator":
                return {**self.of_kafka(role), **self.of_redis("reader")}
            case "bridge":
                env = {**self.of_kafka(role), **self.of_redis(role), "NT_BRIDGE_PORT": "0"}
                return self.in_file(env, "NT_KAFKA_PASSWORD", "NT_REDIS_PASSWORD")
            case _:
                return {**self.of_kafka(role), **self.of_redis(role)}

    async def command(
        self, *arguments: str, role: str = "operator", **more: str
    ) -> tuple[int, str, str]:
        """(exit status, stdout, stderr) of a ``tapeline`` command."""
        env = {**self.one.environment(), **self.env(role), **more}
        process = await commands.start(*arguments, **env)
        out, err = await asyncio.wait_for(process.communicate(), 50)
        assert process.returncode is not None
        said = self.lines.setdefault(arguments[0], [])
        said += (out + err).decode().splitlines()
        return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def secured_house(
    kafka: SecuredKafka, redis: RedisProcess, locks: Locks, folder: Path, symbols: Sequence[str]
) -> AsyncIterator[SecuredHouse]:
    """Venue, rights, users and a door; topics and processes are made by the test."""
    door = TlsDoor(locks.authority, redis.port)
    async with (
        SimulatedExchange(symbols, seed=11, rate=40.0) as sim,
        aiohttp.ClientSession() as http,
        door.open(),
    ):
        one = Installation(
            kafka.url, redis.url, symbols=",".join(f"binance:{symbol}" for symbol in symbols)
        )
        kinds = ("commands", "routing", "telemetry", "merged")
        one.env |= {f"NT_{kind.upper()}_TOPIC": f"{one.name}.{kind}" for kind in kinds}
        one.env |= {"NT_BINANCE_STREAM_URL": sim.stream_url, "NT_BINANCE_REST_URL": sim.rest_url}
        await make_users(redis.url, locks.redis)
        await grant(kafka.url, kafka_rules(), _names(one.name))
        whole = SecuredHouse(one, http, locks=locks, kafka=kafka, door=door, sim=sim, folder=folder)
        try:
            yield whole
        finally:
            await whole.close()


def _names(name: str) -> dict[str, str]:
    """The page's names of topics and group, and a test's own."""
    return {
        "md.events.v1": f"{name}.events",
        "md.events.v1.dlq": f"{name}.events.dlq",
        "md.merged.v1": f"{name}.merged",
        "control.commands.v1": f"{name}.commands",
        "control.commands.v1.dlq": f"{name}.commands.dlq",
        "control.routing.v1": f"{name}.routing",
        "ops.telemetry.v1": f"{name}.telemetry",
        "tapeline-engine-changelog": f"{name}-engine-changelog",
        "tapeline": name,
        "md.": name, "control.": name, "ops.": name, "orders.": "orders.", "tapeline-": name,
    }  # fmt: skip
