"""What processes of a house export, scraped as a Prometheus would."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tapeline.metrics.live import scraped_name
from tests.support.house import House
from tests.support.worker import WorkerProcess, eventually


@dataclass(frozen=True)
class Scrape:
    """One answer of a ``/metrics``.

    Attributes:
        text: As it came.
        families: Names of all families, with or without series.
        samples: Values by name and labels.
    """

    text: str
    families: frozenset[str]
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """Sum of the series of a name that have these labels, whatever else they have."""
        wanted = set(labels.items())
        return sum(v for (found, has), v in self.samples.items() if found == name and wanted <= has)


def parsed(text: str) -> Scrape:
    """A scrape's text, read."""
    families = list(text_string_to_metric_families(text))
    return Scrape(
        text=text,
        families=frozenset(map(scraped_name, families)),
        samples={
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        },
    )


async def scrape(http: aiohttp.ClientSession, url: str) -> Scrape:
    """What a process answers now."""
    async with http.get(url) as answer:
        assert answer.status == 200, url
        return parsed(await answer.text())


@dataclass(frozen=True)
class Targets:
    """Addresses of ``/metrics``, by component."""

    worker: str
    bridge: str
    reader: str

    def named(self) -> dict[str, str]:
        """By component."""
        return {"worker": self.worker, "bridge": self.bridge, "reader": self.reader}


async def targets_of(home: House, worker: WorkerProcess) -> Targets:
    """Where the three processes of a house answer; the bridge's port is in its log."""

    async def started() -> dict[str, Any] | None:
        for line in home.lines.get("bridge", ()):
            if '"bridge.started"' in line:
                found: dict[str, Any] = json.loads(line)
                return found
        return None

    entry = await eventually(started, what=f"a bridge; {home.tail('bridge')}")
    return Targets(
        worker=f"http://127.0.0.1:{worker.port}/metrics",
        bridge=f"{entry['url']}/metrics",
        reader=f"{home.url}/metrics",
    )
