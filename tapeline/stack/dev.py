"""The whole system on this machine: broker, store, exchange, bridge, worker, reader."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from streams.symbols import Listing, parse_symbols
from streams.topics import admin_of, apply, plan
from tapeline.config import Settings, load_settings, mask
from tapeline.config_security import refuse_for_own_servers
from tapeline.errors import StackError
from tapeline.stack.embedded import EmbeddedBroker, EmbeddedKeyValueStore
from tapeline.stack.ports import LOOPBACK, answers, free_port, is_free
from tapeline.stack.processes import ChildProcess
from tapeline.stack.programs import program

DEFAULT_SYMBOLS: Final = "binance:BTCUSDT,binance:ETHUSDT"
SERVE_PORT: Final = 8080
"""The reader's, where it is free: what the README says."""

SIMULATOR_SEED: Final = 7
EMBEDDED_SESSION_MS: Final = 2000
"""The embedded broker lets nobody join a group before half a session is over, nor before 1 s."""

READY_S: Final = 30.0
REACH_S: Final = 5.0
REACHED_BY: Final = {"kraken": "stream"}
"""Which of a venue's addresses is tried: nothing is asked of Kraken but by its websocket."""

POLL_S: Final = 0.05

Say = Callable[[str, str, str], None]
"""Told (part, where, remark) of each part that has come up."""


@dataclass(slots=True)
class DevStack:
    """Starts everything, watches it, stops it.

    Attributes:
        symbols: A ``SYMBOLS`` value: what the exchange lists and the system follows.
        say: Told of each part that has come up.
        on_line: Told of each line that a part writes.
        workers: How many; more than one are called w1, w2 and so on.
        faults: Rules of what goes wrong between exchange and bridge, as `streams.simulator` takes.
        live: Follow the real venues, by the settings, instead of the simulated exchange.
        real_kafka: Run an Apache Kafka on the JVM instead of the embedded broker.
        counted_from: Monotonic time that `seconds_to_fresh_report` is counted from; None for
            that of `start`.
        seconds_to_fresh_report: To the first fresh report; 0 before it.
        urls: Where things are, by part, passwords masked.
        redis_url: The store's address, as clients need it.
        broker: What the broker is, in words.
    """

    symbols: str = DEFAULT_SYMBOLS
    say: Say = lambda part, where, remark: None
    on_line: Callable[[str, str], None] = lambda name, line: None
    workers: int = 1
    real_kafka: bool = False
    faults: tuple[str, ...] = ()
    live: bool = False
    counted_from: float | None = None
    seconds_to_fresh_report: float = 0.0
    urls: dict[str, str] = field(default_factory=dict)
    redis_url: str = ""
    broker: str = ""
    _listings: tuple[Listing, ...] = ()
    _children: list[ChildProcess] = field(default_factory=list)
    _programs: dict[str, ChildProcess] = field(default_factory=dict)
    _killed: set[str] = field(default_factory=set)
    _services: AsyncExitStack = field(default_factory=AsyncExitStack)
    _began: float = 0.0

    def __post_init__(self) -> None:
        self._listings = parse_symbols(
            self.symbols,
            name="--live" if self.live else "--symbols",
            quote_mixed=load_settings().quote_mixed,
        )
        self._began = time.monotonic() if self.counted_from is None else self.counted_from

    # --- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start every part. `close` has to be awaited, also where this fails.

        Raises:
            ConfigError: A setting of the environment is wrong.
            StackError: A part did not start.
        """
        exchange = asyncio.create_task(
            self._real_venues() if self.live else self._start_simulator()
        )
        try:
            await self._start(exchange)
        finally:
            exchange.cancel()
            await asyncio.gather(exchange, return_exceptions=True)

    async def close(self, grace_s: float = 5.0) -> None:
        """Stop what was started: who writes before who reads, servers last.

        Args:
            grace_s: How long a part may take before it is killed. Where one has died, others
                may wait for it in vain.
        """
        for names in (("bridge",), (*self.worker_names, "serve", "simulator")):
            await asyncio.gather(
                *(child.stop(grace_s) for name, child in self._programs.items() if name in names)
            )
        await self._services.aclose()

    async def __aenter__(self) -> DevStack:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def died(self) -> str:
        """Wait until a child ends that was not killed here; says which, with its last lines."""
        waits = {asyncio.create_task(child.wait()): child for child in self._children}
        ended: ChildProcess | None = None
        try:
            while ended is None:
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                gone = [waits.pop(wait) for wait in done]
                ended = next((child for child in gone if child.name not in self._killed), None)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        child = ended
        return f"{child.name} ended with status {child.returncode}; its last lines:\n{child.tail()}"

    def kill(self, name: str) -> int:
        """SIGKILL to a part; returns its process id. Nothing starts it again."""
        child = self._programs[name]
        self._killed.add(name)
        child.kill()
        return child.pid

    @property
    def worker_names(self) -> tuple[str, ...]:
        """What the workers are called, here and, if there are several, by each other."""
        if self.workers == 1:
            return ("worker",)
        return tuple(f"w{n}" for n in range(1, self.workers + 1))

    @property
    def symbol_names(self) -> tuple[str, ...]:
        """Canonical names of what is followed."""
        return tuple(dict.fromkeys(listing.symbol for listing in self._listings))

    # --- reports -------------------------------------------------------------------------------

    @property
    def report_symbol(self) -> str:
        """The first symbol, whose report is waited for."""
        return self._listings[0].symbol

    async def fresh_report(self) -> dict[str, Any]:
        """Wait for a report with a book and data under a second old.

        Raises:
            StackError: None came in time.
        """
        report = await self._until(_is_fresh, "fresh report")
        if not self.seconds_to_fresh_report:
            self.seconds_to_fresh_report = round(time.monotonic() - self._began, 3)
        return report

    async def complete_report(self) -> dict[str, Any]:
        """Wait for a fresh report in which every fast and slow field has a value.

        Raises:
            StackError: None came in time.
        """
        return await self._until(_is_complete, "complete report")

    async def _until(self, good: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        port = int(self.urls["api"].rpartition(":")[2])
        within_s = READY_S * self.workers  # they share the cores while they start
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            report = await asyncio.to_thread(_report_of, port, self.report_symbol)
            if report is not None and good(report):
                return report
            await asyncio.sleep(POLL_S)
        raise StackError(f"no {what} of {self.report_symbol} within {within_s:g} s")

    # --- starting ------------------------------------------------------------------------------

    async def _start(self, exchange: asyncio.Task[dict[str, str]]) -> None:
        given = load_settings()
        refuse_for_own_servers(given)
        # Both are awaited, whatever becomes of one: what has started must be known to `close`.
        broker, store = await asyncio.gather(
            self._broker(given), self._store(given), return_exceptions=True
        )
        for outcome in (broker, store):
            if isinstance(outcome, BaseException):
                raise outcome
        assert not isinstance(broker, BaseException)
        assert not isinstance(store, BaseException)
        kafka_url, embedded = broker
        self.redis_url = store
        settings = load_settings(kafka_url=kafka_url, redis_url=store, symbols=self.symbols)
        async with admin_of(settings) as admin:
            await apply(admin, plan(settings), replication_factor=settings.replication_factor)
        serve = SERVE_PORT if is_free(SERVE_PORT) else free_port()
        bridge, *metrics = _free_ports(1 + self.workers)
        ports = dict(zip(self.worker_names, metrics, strict=True))
        for name, port in {**ports, "bridge": bridge, "api": serve}.items():
            self.urls[name] = f"http://{LOOPBACK}:{port}"
        env = {
            "KAFKA_URL": kafka_url,
            "REDIS_URL": store,
            "SYMBOLS": self.symbols,
            "NT_BIND_HOST": LOOPBACK,
            "NT_BRIDGE_PORT": str(bridge),
            "NT_SERVE_PORT": str(serve),
        }
        if embedded:
            env["NT_SESSION_TIMEOUT_MS"] = str(EMBEDDED_SESSION_MS)
            # It says wrongly where topics end: the hub would not know where to begin.
            env |= {"NT_HUB_EVENTS": "redis", "NT_ENABLE_STREAMS": "true"}
        # The workers' way to the first report is the longest, so they go first. The reader is
        # needed last: it starts while they wait for their group, and the cores are free.
        workers = [(await self._run_worker(name, port, env), port) for name, port in ports.items()]
        await self._run("bridge", env={**env, **await exchange})
        self.say("bridge", self.urls["bridge"], "/metrics /health")
        for worker, port in workers:
            await worker.wait_ready(partial(answers, port), READY_S * self.workers)
        await self._run("serve", env=env)
        self.say("api", self.urls["api"], f"/  /get_report?symbol={self.report_symbol}  /mcp")

    async def _broker(self, given: Settings) -> tuple[str, bool]:
        if given.kafka_url:
            self.urls["broker"], self.broker = mask(given.kafka_url), "yours"
            self.say("broker", self.urls["broker"], "yours")
            return given.kafka_url, False
        if self.real_kafka:
            return await self._local_kafka(), False
        broker = EmbeddedBroker(on_line=self.on_line)
        await self._services.enter_async_context(broker)
        self._children.append(broker.child)
        self.urls["broker"], self.broker = broker.url, "embedded"
        self.say("broker", broker.url, "embedded, in memory")
        return broker.url, True

    async def _local_kafka(self) -> str:
        from tapeline.stack.kafka_local import AT_ONCE, LocalKafka  # noqa: PLC0415 - not for each `dev`

        folder = self._services.enter_context(
            tempfile.TemporaryDirectory(prefix="tapeline-kafka-", ignore_cleanup_errors=True)
        )
        kafka = LocalKafka(Path(folder), settings=AT_ONCE, on_line=self.on_line)
        await self._services.enter_async_context(kafka)
        self._children.append(kafka.child)
        self.urls["broker"], self.broker = kafka.url, "Apache Kafka"
        self.say("broker", kafka.url, "Apache Kafka, on the JVM")
        return kafka.url

    async def _store(self, given: Settings) -> str:
        if given.redis_url:
            self.urls["kv"] = mask(given.redis_url)
            self.say("kv", self.urls["kv"], "yours")
            return given.redis_url
        store = EmbeddedKeyValueStore(on_line=self.on_line)
        await self._services.enter_async_context(store)
        self._children.append(store.child)
        self.urls["kv"] = store.url
        self.say("kv", store.url, "embedded, in memory")
        return store.url

    async def _run_worker(self, name: str, port: int, env: dict[str, str]) -> ChildProcess:
        own = {"NT_METRICS_PORT": str(port)}
        if self.workers > 1:
            own["NT_NODE_ID"] = name
        worker = await self._run("worker", env={**env, **own}, label=name)
        self.say(name, self.urls[name], "/metrics /health")
        return worker

    async def _real_venues(self) -> dict[str, str]:
        """See that they are to be reached from here; the bridge's settings are as they are.

        Raises:
            StackError: One is not, with why.
        """
        settings = load_settings()
        for venue in dict.fromkeys(listing.venue for listing in self._listings):
            url = urlsplit(getattr(settings, f"{venue}_{REACHED_BY.get(venue, 'rest')}_url"))
            port = url.port or (80 if url.scheme in ("http", "ws") else 443)
            try:
                async with asyncio.timeout(REACH_S):
                    _, writer = await asyncio.open_connection(url.hostname, port)
            except (OSError, TimeoutError) as error:
                why = str(error) or f"no answer within {REACH_S:g} s"
                raise StackError(
                    f"{venue} is not to be reached from here ({url.hostname}:{port}: {why}); "
                    "without --live a simulated exchange takes its place"
                ) from None
            writer.close()
            self.urls[f"exchange_{venue}"] = f"{url.scheme}://{url.netloc}"
            self.say("exchange", f"{url.scheme}://{url.netloc}", f"{venue}, live")
        return {}

    async def _start_simulator(self) -> dict[str, str]:
        """Starts it, and reads where it listens: the bridge's settings for each venue."""
        told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def listen(name: str, line: str) -> None:
            if not told.done() and line.startswith("{"):
                told.set_result(orjson.loads(line))
            else:
                self.on_line(name, line)

        names = ",".join(f"{one.venue}:{one.venue_symbol}" for one in self._listings)
        rules = [part for rule in self.faults for part in ("--fault", rule)]
        child = await self._run(
            "simulator",
            *("--port", "0", "--symbols", names, "--seed", str(SIMULATOR_SEED), *rules),
            on_line=listen,
        )
        ended = asyncio.create_task(child.wait())
        first: set[asyncio.Future[Any]] = {told, ended}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED, timeout=READY_S)
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)
        if not told.done():
            raise StackError(f"the simulated exchange did not start:\n{child.tail()}")
        venues = told.result()["venues"]
        env = {}
        for n, (venue, urls) in enumerate(venues.items()):
            self.urls["exchange" if n == 0 else f"exchange_{venue}"] = urls["rest_url"]
            remark = f"simulated {venue}, seed {SIMULATOR_SEED}: synthetic"
            self.say("exchange", urls["rest_url"], remark)
            env[f"NT_{venue.upper()}_STREAM_URL"] = urls["stream_url"]
            env[f"NT_{venue.upper()}_REST_URL"] = urls["rest_url"]
        return env

    async def _run(
        self,
        name: str,
        *arguments: str,
        env: dict[str, str] | None = None,
        on_line: Callable[[str, str], None] | None = None,
        label: str = "",
    ) -> ChildProcess:
        child = program(name, *arguments, env=env, on_line=on_line or self.on_line, label=label)
        self._programs[label or name] = child  # before its start, which may be cancelled half-way
        await child.start()
        self._children.append(child)
        return child


def _free_ports(count: int) -> list[int]:
    """So many, each another, and not the reader's own."""
    found: list[int] = []
    while len(found) < count:
        found.append(free_port(frozenset({SERVE_PORT, *found})))
    return found


def _report_of(port: int, symbol: str) -> dict[str, Any] | None:
    """What the reader answers; None while it has nothing, or is not up yet."""
    # By the standard library: importing aiohttp takes time that the parts need to start.
    connection = HTTPConnection(LOOPBACK, port, timeout=1.0)
    try:
        connection.request("GET", f"/get_report?symbol={symbol}")
        response = connection.getresponse()
        body = response.read()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    report: dict[str, Any] | None = orjson.loads(body) if response.status == HTTPStatus.OK else None
    return report


def _is_fresh(report: dict[str, Any]) -> bool:
    age = report["data_age_ms"]
    return age is not None and age < 1000 and report["mid_price"] is not None


def _is_complete(report: dict[str, Any]) -> bool:
    optional = {"custom"}
    if not _is_fresh(report) or report["ingestion"]["book"] != "ok":
        return False
    if any(value is None for name, value in report.items() if name not in optional):
        return False
    return report["liquidity"]["volume_profile"] is not None
