"""A real Prometheus, a real Alertmanager, and the receiver that it tells."""

from __future__ import annotations

import asyncio
import copy
import shutil
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import yaml
from aiohttp import web

from tapeline.stack.ports import LOOPBACK, free_port
from tapeline.stack.processes import ChildProcess
from tests.alerts import rules

PROGRAMS: Final[dict[str, tuple[str, ...]]] = {
    "prometheus": ("prometheus",),
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
    "promtool": ("promtool",),
}
"""By what they are called here: by what distributions call them."""

READY_S: Final = 60.0

Labels = frozenset[tuple[str, str]]


def find(name: str) -> str | None:
    """Where a program is; None where this machine has none."""
    return next(filter(None, map(shutil.which, PROGRAMS[name])), None)


@dataclass(frozen=True, slots=True)
class Notice:
    """What the receiver was told of one alert.

    Attributes:
        labels: Of the alert.
        firing: Whether it fires; else it has been resolved.
        heard_s: When that came, monotonic.
        annotations: Its texts.
    """

    labels: Mapping[str, str]
    firing: bool
    heard_s: float
    annotations: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.labels["alertname"]

    def is_of(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether it is of such an alert."""
        return self.name == name and labels.items() <= self.labels.items()


class Receiver:
    """A webhook that remembers."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.port = free_port()
        self._heard = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def firing(self) -> list[Notice]:
        """The newest notice of each alert that fires, as far as it was told."""
        newest: dict[Labels, Notice] = {}
        for notice in self.notices:
            newest[frozenset(notice.labels.items())] = notice
        return [notice for notice in newest.values() if notice.firing]

    async def fired(self, name: str, labels: Mapping[str, str], since_s: float) -> Notice:
        """The first notice since then that such an alert fires."""
        async with self._heard:
            while True:
                for notice in self.notices:
                    if notice.firing and notice.heard_s >= since_s and notice.is_of(name, labels):
                        return notice
                await self._heard.wait()

    async def resolved(self, name: str, labels: Mapping[str, str], since_s: float) -> float:
        """When the last of such alerts had ended; monotonic, not before ``since_s``."""
        async with self._heard:
            while any(notice.is_of(name, labels) for notice in self.firing()):
                await self._heard.wait()
            ended = [n.heard_s for n in self.notices if not n.firing and n.is_of(name, labels)]
            return max(since_s, *ended) if ended else since_s

    async def _take(self, request: web.Request) -> web.Response:
        told = await request.json()
        heard_s = time.monotonic()
        async with self._heard:
            for alert in told["alerts"]:
                firing = alert["status"] == "firing"
                self.notices.append(
                    Notice(alert["labels"], firing, heard_s, alert.get("annotations", {}))
                )
            self._heard.notify_all()
        return web.Response()


class Watch:
    """All of it, on what is shipped: but for ports, targets and, where scaled, times.

    Args:
        folder: Where it may write.
        targets: By job, by instance: port of ``/metrics``.
        scale: How many times faster than shipped.

    Attributes:
        receiver: Who is told.
        alerts: The alerting rules that hold.
        delay_s: Of a notice, at most: scrapes, evaluations and groups.
    """

    def __init__(
        self, folder: Path, targets: Mapping[str, Mapping[str, int]], scale: float
    ) -> None:
        self.receiver = Receiver()
        self._folder, self._targets, self._scale = folder, targets, scale
        self._ports = {"prometheus": free_port(), "alertmanager": free_port()}
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None
        document = rules.scaled(rules.load(), scale)
        self.alerts = rules.alerts(document)
        self._documents = {
            "rules.yml": document,
            "prometheus.yml": self._prometheus(),
            "alertmanager.yml": self._alertmanager(),
        }

    async def __aenter__(self) -> Self:
        for name, document in self._documents.items():
            (self._folder / name).write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
        await self._stack.enter_async_context(self.receiver)
        timeout = aiohttp.ClientTimeout(total=10)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=timeout)
        )
        await self._start("alertmanager", "--storage.path", "--cluster.listen-address=")
        await self._start("prometheus", "--storage.tsdb.path")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """An instant query's samples."""
        assert self._session is not None
        url = f"http://{LOOPBACK}:{self._ports['prometheus']}/api/v1/query"
        async with self._session.get(url, params={"query": expr}) as answer:
            body = await answer.json()
        if body["status"] != "success":
            raise ValueError(f"{expr}: {body}")
        found: list[dict[str, Any]] = body["data"]["result"]
        return found

    async def value(self, expr: str) -> float:
        """Of a query with one sample; 0 without any."""
        found = await self.query(expr)
        return float(found[0]["value"][1]) if found else 0.0

    async def unrest(self) -> str:
        """Alerts that are pending or firing; '' without any."""
        pending = [sample["metric"] for sample in await self.query("ALERTS")]
        firing = [notice.labels for notice in self.receiver.firing()]
        return ", ".join(sorted({labels["alertname"] for labels in (*pending, *firing)}))

    # --- programs ------------------------------------------------------------------------------

    async def _start(self, name: str, data: str, *more: str) -> None:
        path = find(name)
        assert path is not None, f"this machine has no {name}"
        child = ChildProcess(
            name,
            [
                path,
                f"--config.file={self._folder / f'{name}.yml'}",
                f"{data}={self._folder / name}",
                f"--web.listen-address={LOOPBACK}:{self._ports[name]}",
                "--log.level=warn",
                *more,
            ],
        )
        await child.start()
        self._stack.push_async_callback(child.stop)
        await child.wait_ready(lambda: self._ready(name), READY_S)

    async def _ready(self, name: str) -> bool:
        assert self._session is not None
        try:
            url = f"http://{LOOPBACK}:{self._ports[name]}/-/ready"
            async with self._session.get(url) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    # --- what is shipped, elsewhere and faster ---------------------------------------------------

    def _faster(self, text: str, least_s: float = 0.0) -> str:
        if self._scale == 1:
            return text
        return rules.spelled(max(rules.seconds(text) / self._scale, least_s))

    def _prometheus(self) -> dict[str, Any]:
        found = rules.load("prometheus.yml")
        world = found["global"]
        for name in ("scrape_interval", "evaluation_interval"):
            world[name] = self._faster(world[name], 1.0)
        world["scrape_timeout"] = self._faster(world["scrape_timeout"], 1.0)
        (manager,) = found["alerting"]["alertmanagers"]
        manager["static_configs"] = [{"targets": [f"{LOOPBACK}:{self._ports['alertmanager']}"]}]
        for job in found["scrape_configs"]:
            job["static_configs"] = [
                {"targets": [f"{LOOPBACK}:{port}"], "labels": {"instance": instance}}
                for instance, port in self._targets[job["job_name"]].items()
            ]
        return found

    def _alertmanager(self) -> dict[str, Any]:
        found = copy.deepcopy(rules.load("alertmanager.yml"))
        route = found["route"]
        for name in ("group_wait", "group_interval"):
            route[name] = self._faster(route[name], 0.1)
        for receiver in found["receivers"]:
            for hook in receiver["webhook_configs"]:
                hook["url"] = f"http://{LOOPBACK}:{self.receiver.port}/"
        return found

    @property
    def delay_s(self) -> float:
        """Of a notice, at most: a scrape, two evaluations, a group that waits."""
        world = self._documents["prometheus.yml"]["global"]
        route = self._documents["alertmanager.yml"]["route"]
        scrape, evaluation, wait, interval = (
            rules.seconds(text)
            for text in (
                world["scrape_interval"],
                world["evaluation_interval"],
                route["group_wait"],
                route["group_interval"],
            )
        )
        return 2 * scrape + 2 * evaluation + wait + interval
