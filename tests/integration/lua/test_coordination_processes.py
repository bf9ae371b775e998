"""Two processes want one symbol, and everything is stopped, killed and restarted around them."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from tapeline.tasks import end
from tests.support.redis_process import RedisProcess

META = Keys().meta("X")
SEED = 20261121
START_S = 20.0
"""Two interpreters start, on a busy machine."""

FAULTS_S = 12.0


@dataclass
class Observer:
    """Hears of every accepted write while Redis is up, and looks at what is stored."""

    url: str
    orders: list[tuple[int, int]] = field(default_factory=list)
    stored: list[tuple[int, int, int, int]] = field(default_factory=list)
    writers: set[str] = field(default_factory=set)
    last_s: float = 0.0

    async def run(self) -> None:
        while True:
            try:
                async with Redis.from_url(self.url) as redis, redis.pubsub() as pubsub:
                    await pubsub.subscribe("report:X")
                    while True:
                        message = await pubsub.get_message(timeout=0.5)
                        if message and message["type"] == "message":
                            await self.heard(redis, orjson.loads(message["data"]))
            except (RedisError, OSError):
                await asyncio.sleep(0.02)

    async def heard(self, redis: Redis, said: dict[str, int]) -> None:
        self.orders.append((said["token"], said["seq"]))
        self.last_s = time.monotonic()
        meta = await redis.hmget(META, "token", "seq", "watermark", "updated_at")
        token, seq, watermark, updated_at = (int(value or 0) for value in meta)
        self.stored.append((token, seq, watermark, updated_at))
        report = await redis.get("report:X")
        if report:
            self.writers.add(orjson.loads(report)["word"])

    def violations(self) -> list[str]:
        found = [f"{a} then {b}" for a, b in pairwise(self.orders) if b <= a]
        for before, now in pairwise(self.stored):
            if now[:2] < before[:2] or now[2] < before[2] or now[3] < before[3]:
                found.append(f"stored {before} then {now}")
        return found

    async def hears(self, timeout_s: float) -> bool:
        since = time.monotonic()
        while self.last_s <= since:
            if time.monotonic() - since > timeout_s:
                return False
            await asyncio.sleep(0.01)
        return True


def start(url: str, node: str, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / f"writer-{node}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.writer_process", url, node],
            stdout=log,
            stderr=log,
        )


@pytest.mark.slow
async def test_accepted_writes_stay_in_order_and_go_on(own_server: RedisProcess) -> None:
    """Stops, kills and restarts of either process and of Redis (which keeps its data)."""
    own_server.kill()
    own_server.durable = True
    own_server.start()
    rng = random.Random(SEED)
    processes = {node: start(own_server.url, node, own_server.folder) for node in "ab"}
    observer = Observer(own_server.url)
    watching = asyncio.create_task(observer.run())
    done: list[str] = []
    try:
        assert await observer.hears(START_S), "no first report"
        deadline = time.monotonic() + FAULTS_S
        while time.monotonic() < deadline:
            node = rng.choice("ab")
            fault = rng.choice(["stop", "stop", "kill", "redis_kill", "redis_stop", "pause"])
            done.append(f"{fault} {node}")
            length_s = rng.uniform(0.1, 1.0)
            if fault == "stop":
                processes[node].send_signal(signal.SIGSTOP)
                await asyncio.sleep(length_s)
                processes[node].send_signal(signal.SIGCONT)
            elif fault == "kill":
                processes[node].kill()
                processes[node].wait()
                processes[node] = start(own_server.url, node, own_server.folder)
            elif fault == "redis_kill":
                own_server.kill()
                await asyncio.sleep(length_s / 2)
                own_server.start()
            elif fault == "redis_stop":
                own_server.pause()
                await asyncio.sleep(length_s)
                own_server.resume()
            else:
                async with Redis.from_url(own_server.url) as redis:
                    await redis.client_pause(int(length_s * 500))
            await asyncio.sleep(rng.uniform(0.1, 0.6))
        assert await observer.hears(2), done
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
        await end(watching)
    assert observer.violations() == [], (SEED, done)
    assert len(observer.orders) > 200
    assert observer.writers == {"a", "b"}
    assert len({token for token, _ in observer.orders}) > 5
