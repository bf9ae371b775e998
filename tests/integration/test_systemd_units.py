"""What the systemd units start: a system of two workers, by their ExecStart lines and settings.

There is not always a systemd to ask, and never one to disturb, so the lines are run here, each with
the variables of its unit and nothing else of this process's.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from streams.simulator import SimulatedExchange
from tapeline.stack.ports import free_port
from tests.support.imports import ROOT
from tests.support.units import SYSTEMD, environment, value_of
from tests.support.worker import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
UNITS = SYSTEMD / "units"


@dataclass
class Running:
    """One unit's process.

    Attributes:
        unit: Its file.
        process: The process.
        port: Where it answers.
        log: Where its lines go.
    """

    unit: Path
    process: asyncio.subprocess.Process
    port: int
    log: Path

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; (0, b"") where nobody answers."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
            ):
                return answer.status, await answer.read()
        except aiohttp.ClientError:
            return 0, b""

    def said(self) -> str:
        return f"{self.unit.name}: " + self.log.read_text()[-3000:]


@asynccontextmanager
async def started(
    folder: Path, name: str, own: dict[str, str], instance: str = "", port: int = 0
) -> AsyncIterator[Running]:
    """A unit's process; killed at the end, if it still runs."""
    unit = UNITS / name
    program, *rest = value_of(unit, "ExecStart").split()
    log = folder / f"{unit.stem}{instance}.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).parent / Path(program).name,
            *rest,
            # Nothing of this process's but where to find the program and the checkout.
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                **environment(unit, instance),
                **own,
            },
            cwd=folder,
            stdout=out,
            stderr=out,
        )
    try:
        yield Running(unit, process, port, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def settings(kafka_url: str, redis_url: str, sim: SimulatedExchange) -> dict[str, str]:
    """What an operator writes into the files of settings; topics of a test's own."""
    name = f"u{secrets.token_hex(4)}"
    kinds = ("EVENTS", "COMMANDS", "ROUTING", "TELEMETRY", "MERGED")
    return {
        "KAFKA_URL": kafka_url,
        "REDIS_URL": redis_url,
        "SYMBOLS": ",".join(f"binance:{symbol}" for symbol in SYMBOLS),
        "NT_BINANCE_STREAM_URL": sim.stream_url,
        "NT_BINANCE_REST_URL": sim.rest_url,
        "NT_PARTITIONS": "8",
        "NT_APP_ID": name,
        "NT_BRIDGE_PORT": str(free_port()),
        "NT_SERVE_PORT": str(free_port()),
        **{f"NT_{kind}_TOPIC": f"{name}.{kind.lower()}" for kind in kinds},
    }


async def test_units_start_a_system_of_two_workers_and_stop_it_in_time(
    kafka_url: str, redis_url: str, tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    async with SimulatedExchange(SYMBOLS, seed=11, rate=60.0) as sim:
        own = settings(kafka_url, redis_url, sim)
        async with started(tmp_path, "tapeline-topics.service", own) as once:
            assert await once.process.wait() == 0, once.said()
        worker, bridge = "tapeline-worker@.service", "tapeline-bridge.service"
        async with (
            started(tmp_path, bridge, own, port=int(own["NT_BRIDGE_PORT"])) as one,
            started(tmp_path, worker, own, str(ports[0]), ports[0]) as two,
            started(tmp_path, worker, own, str(ports[1]), ports[1]) as three,
            started(
                tmp_path, "tapeline-serve.service", own, port=int(own["NT_SERVE_PORT"])
            ) as reader,
        ):
            running = (one, two, three, reader)

            async def settled() -> bool:
                for each in running:
                    assert each.process.returncode is None, each.said()
                return all([(await each.get("/ready"))[0] == 200 for each in running])

            await eventually(settled, 40.0, "all four ready")

            async def reported() -> bool:
                answers = [await reader.get(f"/get_report?symbol={s}") for s in SYMBOLS]
                return all(status == 200 and body != b"null" for status, body in answers)

            await eventually(reported, what=reader.said())
            for each in running:
                began = time.monotonic()
                each.process.send_signal(signal.SIGTERM)
                assert await each.process.wait() == 0, each.said()
                allowed = float(value_of(each.unit, "TimeoutStopSec"))
                assert time.monotonic() - began < allowed, each.unit.name


async def test_a_wrong_setting_ends_a_unit_with_the_status_that_is_not_tried_again(
    tmp_path: Path,
) -> None:
    common = UNITS / "tapeline-.service.d" / "10-common.conf"
    never_again = int(value_of(common, "RestartPreventExitStatus"))
    wrong = {"NT_PARTITIONS": "none"}
    for name in ("tapeline-bridge.service", "tapeline-worker@.service", "tapeline-serve.service"):
        async with started(tmp_path, name, wrong, "9101") as one:
            assert await one.process.wait() == never_again, one.said()
            assert "NT_PARTITIONS" in one.said()
