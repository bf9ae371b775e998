"""A whole house of one test: simulated venue, bridge, worker and reader, each a real process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from lua import Keys
from serving.access.keys import KeyStore, mint
from serving.status.models import Stage, Status
from streams import topics
from streams.simulator import SimulatedExchange
from streams.topics import dead_letters_of
from tapeline.stack.ports import free_port
from tapeline.stack.processes import ChildProcess
from tapeline.stack.programs import program
from tests.support.worker import PATIENCE_S, Installation, WorkerProcess, eventually

LISTED = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


class House:
    """What runs, and how a client asks it.

    Attributes:
        one: Names and settings.
        sim: The venue.
        lines: What each child has written.
        hears: Whether `told` has been told anything.
    """

    def __init__(
        self, one: Installation, sim: SimulatedExchange, http: aiohttp.ClientSession
    ) -> None:
        self.one, self.sim, self.http = one, sim, http
        self.serve_port = free_port()
        self.url = f"http://127.0.0.1:{self.serve_port}"
        self.lines: dict[str, list[str]] = {}
        self.hears = False
        self._children: list[ChildProcess] = []

    async def child(self, name: str, **env: str) -> ChildProcess:
        """A started ``bridge`` or ``serve``."""
        said = self.lines.setdefault(name, [])
        started = program(
            name, env=self.one.environment(**env), on_line=lambda _, line: said.append(line)
        )
        self._children.append(started)
        await started.start()
        return started

    async def bridge(self) -> ChildProcess:
        """``tapeline bridge``."""
        return await self.child(
            "bridge", NT_BRIDGE_PORT="0", NT_NODE_ID=f"{self.one.name}-b", NT_METRICS_PORT="0"
        )

    async def serve(self, patience_s: float = PATIENCE_S, **env: str) -> ChildProcess:
        """``tapeline serve``, once it answers."""
        started = await self.child("serve", NT_SERVE_PORT=str(self.serve_port), **env)

        async def answers() -> bool:
            try:
                async with self.http.get(f"{self.url}/health"):
                    return True
            except aiohttp.ClientError:
                return False

        await eventually(answers, patience_s, what=f"a reader; {self.tail('serve')}")
        return started

    async def worker(self) -> WorkerProcess:
        """A worker whose assignment is complete."""
        started = await self.one.worker()
        await started.ready()
        return started

    async def close(self) -> None:
        """Leave nothing running."""
        for each in reversed(self._children):
            await each.stop(grace_s=2)
        await self.one.close()

    # --- asking -----------------------------------------------------------------------------------

    async def ask(
        self, path: str, method: str = "GET", key: str = "", body: Any = None
    ) -> tuple[int, Any]:
        """Status and body of an answer."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with self.http.request(method, self.url + path, headers=headers, json=body) as answer:
            return answer.status, json.loads(await answer.read())

    async def status(self) -> Status:
        """What ``/status`` says."""
        code, body = await self.ask("/status")
        assert code == 200
        return Status.model_validate(body)

    async def stage(self, name: str) -> Stage:
        """One link of the chain."""
        return next(stage for stage in (await self.status()).chain if stage.stage == name)

    async def until(
        self, true: Callable[[Status], bool], timeout_s: float = 25.0, what: str = ""
    ) -> Status:
        """The first status of which that is true."""

        async def there() -> Status | None:
            status = await self.status()
            return status if true(status) else None

        try:
            return await eventually(there, timeout_s, what)
        except AssertionError as error:
            last = await self.status()
            said = [(s.stage, s.state, s.sentence) for s in last.chain]
            raise AssertionError(
                f"{error}; {last.sentence}; {said}; {self.tail('bridge')}"
            ) from None

    async def told(self, symbol: str, stage: str, state: str) -> None:
        """Follow ``status`` of a symbol over the hub until it says that of the chain."""
        async with self.http.ws_connect(f"{self.url}/ws") as socket:
            wish = {"op": "subscribe", "id": "1", "channels": ["status"], "symbols": [symbol]}
            await socket.send_json(wish)
            async for message in socket:
                data = message.json().get("data") or {}
                stages = data.get("chain", {}).get("stages", {})
                self.hears = self.hears or bool(stages)
                if stages.get(stage) == state:
                    return
        raise AssertionError("the hub has closed")

    async def admin_key(self) -> str:
        """A key as ``tapeline keys create`` makes it."""
        key, text = mint("ops", ["admin"], None, 0)
        async with self.one.redis() as redis:
            await KeyStore(redis, Keys()).put(key)
        return text

    def tail(self, name: str) -> str:
        """A child's last lines, for a failure's message."""
        return f"{name}:\n" + "\n".join(line[:300] for line in self.lines.get(name, [])[-15:])


@asynccontextmanager
async def house(
    kafka_url: str,
    redis_url: str,
    symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT"),
    rate: float = 40.0,
) -> AsyncIterator[House]:
    """Venue and topics; processes are started by the test."""
    async with (
        SimulatedExchange(LISTED, seed=11, rate=rate) as sim,
        aiohttp.ClientSession() as http,
    ):
        listings = ",".join(f"binance:{symbol}" for symbol in symbols)
        one = Installation(kafka_url, redis_url, symbols=listings)
        kinds = ("commands", "routing", "telemetry", "merged")
        one.env |= {f"NT_{kind.upper()}_TOPIC": f"{one.name}.{kind}" for kind in kinds}
        one.env |= {"NT_BINANCE_STREAM_URL": sim.stream_url, "NT_BINANCE_REST_URL": sim.rest_url}
        await one.apply_topics()
        async with topics.admin_of(kafka_url) as admin:
            names = {f"{one.name}.{kind}" for kind in kinds}
            names.add(dead_letters_of(f"{one.name}.commands"))
            plan = topics.plan(one.settings())
            await topics.apply(admin, [topic for topic in plan if topic.name in names])
        whole = House(one, sim, http)
        try:
            yield whole
        finally:
            await whole.close()
