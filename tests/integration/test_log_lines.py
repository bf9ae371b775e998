"""Every line that processes write to stderr is a log line, whatever goes wrong around them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streams import topics
from streams.simulator import SimulatedExchange
from tapeline.logging import TRANSITIONS
from tapeline.stack.kafka_local import LocalKafka
from tapeline.stack.ports import free_port
from tapeline.stack.programs import COMMANDS
from tests.support.background import BackgroundLoop
from tests.support.commands import environment, start
from tests.support.redis_process import RedisProcess, running_server
from tests.support.servers import kill_kafka, own_kafka, start_kafka
from tests.support.worker import Installation, eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.slow(limit_s=240),
]

FIELDS = {"timestamp", "level", "logger", "event", "component", "node_id"}
LEVELS = {"debug", "info", "warning", "error", "critical"}
COMPONENTS = ("bridge", "worker", "serve")


class Process:
    """One of Tapeline's processes, with all that it writes to stderr."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name, self.process = name, process
        self.lines: list[str] = []
        self._reading = [
            asyncio.create_task(self._read_err()),
            asyncio.create_task(self._read_out()),
        ]

    async def _read_err(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode().rstrip("\n"))

    async def _read_out(self) -> None:
        assert self.process.stdout is not None
        while await self.process.stdout.read(65_536):
            pass

    def events(self) -> list[dict[str, Any]]:
        """Its lines; fails on the first that is none."""
        found = []
        for line in self.lines:
            try:
                one = json.loads(line)
            except ValueError:
                raise AssertionError(f"{self.name} has written {line!r}") from None
            assert isinstance(one, dict), line
            found.append(one)
        return found

    async def says(self, event: str, after: int = 0, timeout_s: float = 40.0) -> dict[str, Any]:
        """The first line of that event, behind the first ``after`` lines."""

        async def there() -> dict[str, Any] | None:
            return next((one for one in self.events()[after:] if one["event"] == event), None)

        try:
            return await eventually(there, timeout_s, f"{event} of {self.name}")
        except AssertionError as error:
            tail = "\n".join(line[:300] for line in self.lines[-20:])
            raise AssertionError(f"{error}\n{tail}") from None

    async def ended(self, signum: signal.Signals) -> int:
        """Its status after a signal."""
        if self.process.returncode is None:
            os.kill(self.process.pid, signum)
        try:
            async with asyncio.timeout(30):
                status = await self.process.wait()
                await asyncio.gather(*self._reading)
        except TimeoutError:
            self.process.kill()
            raise AssertionError(f"{self.name} did not end: {self.lines[-5:]}") from None
        return status

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.gather(*self._reading)


@pytest.fixture
def broker(
    background: BackgroundLoop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalKafka]:
    """A Kafka of the test's own, to be killed."""
    with own_kafka(background, tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisProcess]:
    with running_server(tmp_path) as process:
        yield process


@asynccontextmanager
async def processes(one: Installation, sim: SimulatedExchange) -> AsyncIterator[dict[str, Process]]:
    """Bridge, worker and reader, each with a name of its own."""
    kinds = ("commands", "routing", "telemetry", "merged")
    one.env |= {f"NT_{kind.upper()}_TOPIC": f"{one.name}.{kind}" for kind in kinds}
    one.env |= {"NT_BINANCE_STREAM_URL": sim.stream_url, "NT_BINANCE_REST_URL": sim.rest_url}
    async with topics.admin_of(one.kafka_url) as admin:
        await topics.apply(admin, topics.plan(one.settings()))
    started: dict[str, Process] = {}
    try:
        for name in COMPONENTS:
            env = one.environment(
                NT_NODE_ID=f"{one.name}-{name}",
                NT_BRIDGE_PORT="0",
                NT_SERVE_PORT=str(free_port()),
                NT_NONSENSE="1",  # said in a line, too
            )
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *COMMANDS[name],
                env=environment(**env, PYTHONWARNINGS="always"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=1 << 22,
                process_group=0,
            )
            started[name] = Process(name, process)
        yield started
    finally:
        for each in started.values():
            await each.close()


def check(process: Process, node_id: str) -> None:
    """All that a process has written."""
    events = process.events()
    assert events, process.name
    for one in events:
        assert one.keys() >= FIELDS, one
        assert one["node_id"] == node_id, one
        assert one["level"] in LEVELS, one
        assert one["component"], one
        assert datetime.fromisoformat(one["timestamp"]).utcoffset() is not None
        if one["event"] in TRANSITIONS:
            assert {"symbol", "lag_ms"} <= one.keys(), one
    assert "setting.unknown" in {one["event"] for one in events}


async def nothing_is_traced(one: Installation) -> None:
    """As long as nobody asks for it: no header, no id, no key."""
    async with one.redis() as redis:

        async def there() -> bool:
            return bool(await redis.exists("report:BTCUSDT"))

        await eventually(there, 40.0, "a report")
        assert await redis.keys("*trace*") == []
    records = await one.read(one.topic)
    assert records
    assert [r for r in records if r.headers or b"trace_id" in (r.value or b"")] == []


async def test_every_line_is_one_through_outages_of_everything(
    background: BackgroundLoop, broker: LocalKafka, store: RedisProcess
) -> None:
    """Redis and the broker are killed and come back; the level is changed; all end by signals."""
    one = Installation(broker.url, store.url)
    async with (
        SimulatedExchange(["BTCUSDT"], seed=11, rate=40.0) as sim,
        processes(one, sim) as house,
    ):
        bridge, worker, serve = (house[name] for name in COMPONENTS)
        await bridge.says("feed.granted")
        acquired = await worker.says("lease_acquired")
        assert acquired["symbol"] == "BTCUSDT"
        assert "lag_ms" in acquired
        await serve.says("serve.starting")
        await nothing_is_traced(one)

        marks = {name: len(each.lines) for name, each in house.items()}
        command = await start(*("loglevel", "DEBUG", "--for", "60s", "--json"), REDIS_URL=store.url)
        out, err = await command.communicate()
        assert command.returncode == 0, err
        assert json.loads(out)["level"] == "DEBUG"
        for name, each in house.items():
            changed = await each.says("log_level.changed", marks[name])
            assert (changed["before"], changed["now"]) == ("INFO", "DEBUG")
        renewed = await worker.says("lease_renewed", marks["worker"])
        assert (renewed["level"], renewed["symbol"]) == ("debug", "BTCUSDT")
        assert renewed["lag_ms"] >= 0

        mark = len(worker.lines)
        await asyncio.to_thread(store.kill)
        await worker.says("lease_lost", mark)
        await serve.says("hub.store_down")
        await asyncio.to_thread(store.start)
        await worker.says("lease_acquired", mark)

        await kill_kafka(background, broker)
        await bridge.says("broker.outage")
        mark = len(bridge.lines)
        await start_kafka(background, broker)
        await bridge.says("broker.recovered", mark, 60.0)

        # The key went with the Redis that was killed; the level has ended with its time, or does.
        mark = len(bridge.lines)
        os.kill(bridge.process.pid, signal.SIGUSR1)
        os.kill(worker.process.pid, signal.SIGUSR1)
        await bridge.says("log_level.changed", mark)
        assert worker.process.returncode is None

        # Somebody who is no client of ours, so that libraries complain as well.
        async with aiohttp.ClientSession() as http:
            url = (await bridge.says("bridge.started"))["url"]
            async with http.get(f"{url}/nowhere") as answer:
                assert answer.status == 404
        statuses = [
            await worker.ended(signal.SIGINT),
            await bridge.ended(signal.SIGTERM),
            await serve.ended(signal.SIGINT),
        ]
        for name, each in house.items():
            check(each, f"{one.name}-{name}")
        assert statuses == [0, 0, 0]
        said = {event["event"] for event in worker.events()}
        assert said >= TRANSITIONS - {"symbol_dropped", "lease_conflict", "calculation_error"}
