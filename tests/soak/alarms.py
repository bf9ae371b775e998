"""The project's own alert rules, evaluated by a real Prometheus that scrapes the house."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from tapeline.stack.ports import LOOPBACK, free_port
from tapeline.stack.processes import ChildProcess
from tests.soak.claims import write

RULES: Final = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yml"
JOBS: Final = {
    "worker": "tapeline-worker",
    "bridge": "tapeline-bridge",
    "serve": "tapeline-reader",
}
"""By command, the name of a job that the rules know."""

SCRAPE_S: Final = 10
UP_S: Final = 30.0
PERIOD_S: Final = 5.0


def unavailable(rules: Path = RULES) -> str:
    """Why alerts can't be checked here; '' where they can."""
    if not rules.exists():
        return f"no {rules.name} in deploy/prometheus"
    if shutil.which("prometheus") is None:
        return "no prometheus on the PATH"
    return ""


class Alarms:
    """A running Prometheus.

    Attributes:
        fired: Alerts that have fired at some time, with the times of the run they were seen at.
        child: Its process.
    """

    def __init__(self, port: int, child: ChildProcess) -> None:
        self.port, self.child = port, child
        self.fired: dict[str, list[float]] = {}

    async def active(self, state: str) -> list[str] | None:
        """What is ``firing`` or ``pending``, such as ``FeedDown{symbol=BTCUSDT}``; None where it
        can't say."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.get(f"http://{LOOPBACK}:{self.port}/api/v1/alerts") as answer,
            ):
                told = json.loads(await answer.read())
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None
        return sorted(
            named(one["labels"]) for one in told["data"]["alerts"] if one["state"] == state
        )

    async def rules(self) -> int:
        """How many alerting rules it evaluates."""
        url = f"http://{LOOPBACK}:{self.port}/api/v1/rules?type=alert"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            told = json.loads(await answer.read())
        return sum(len(group["rules"]) for group in told["data"]["groups"])

    async def watch(self, now_s: Any) -> None:
        """Keep what fires, until cancelled; ``now_s()`` is the time of the run."""
        while True:
            for name in await self.active("firing") or ():
                self.fired.setdefault(name.partition("{")[0], []).append(round(now_s(), 1))
            await asyncio.sleep(PERIOD_S)


def named(labels: Mapping[str, str]) -> str:
    """An alert with what it is about."""
    rest = ",".join(
        f"{name}={value}"
        for name, value in sorted(labels.items())
        if name in ("instance", "symbol", "partition", "venue", "job", "node")
    )
    return f"{labels['alertname']}{{{rest}}}" if rest else labels["alertname"]


async def ready(port: int) -> bool:
    """Whether it has read its rules, too."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.get(f"http://{LOOPBACK}:{port}/-/ready") as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def configuration(targets: Mapping[str, Sequence[int]], rules: Path) -> dict[str, Any]:
    """What Prometheus is told; JSON is YAML."""
    return {
        "global": {
            "scrape_interval": f"{SCRAPE_S}s",
            "scrape_timeout": "5s",
            "evaluation_interval": f"{SCRAPE_S}s",
            "external_labels": {"cluster": "soak"},
        },
        "rule_files": [str(rules)],
        "scrape_configs": [
            {
                "job_name": JOBS[command],
                "static_configs": [{"targets": [f"{LOOPBACK}:{port}" for port in ports]}],
            }
            for command, ports in targets.items()
        ],
    }


@asynccontextmanager
async def alarms(
    folder: Path, targets: Mapping[str, Sequence[int]], rules: Path = RULES
) -> AsyncIterator[Alarms]:
    """A Prometheus with the rules.

    Args:
        folder: Where it may write.
        targets: By command of the house's parts, ports of ``/metrics``.
        rules: The rules' file.
    """
    config = folder / "prometheus.yml"
    write(str(config), json.dumps(configuration(targets, rules)))
    port = free_port()
    child = ChildProcess(
        "prometheus",
        [
            *(str(shutil.which("prometheus")), f"--config.file={config}"),
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{port}",
            "--log.level=warn",
        ],
        cwd=folder,
    )
    await child.start()
    try:
        await child.wait_ready(lambda: ready(port), UP_S)
        yield Alarms(port, child)
    finally:
        await child.stop(grace_s=5)
