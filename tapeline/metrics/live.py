"""The metrics that the three processes have, read off the registries that their own code makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf
from types import SimpleNamespace
from typing import Any, Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics import MetricWrapperBase

from agents.metrics import Metrics
from agents.side_metrics import SideMetrics
from serving.hub.metrics import HubMetrics
from serving.mcp.counts import McpCounts
from serving.metrics import ReaderMetrics
from streams.bridge_metrics import BridgeMetrics
from streams.frame_letters import LetterQueue
from streams.outbox import Outbox
from tapeline.metrics.registry import Component
from tapeline.tracing_metrics import register

COMPONENTS: Final[tuple[Component, ...]] = ("worker", "bridge", "reader")

SUFFIXES: Final = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
"""What a family's series are called beside its name, by type."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One metric.

    Attributes:
        name: As it is asked for: a counter's ends in ``_total``.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: What the code says of it.
        labels: Without those that a scrape adds.
        buckets: Upper bounds of a histogram, in its unit, without infinity.
        components: The processes that have it.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...]
    components: tuple[Component, ...]

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series in a query."""
        return tuple(self.name + suffix for suffix in SUFFIXES.get(self.kind, ("",)))


def registry_of(component: Component) -> CollectorRegistry:
    """A process's registry, with nothing behind it that runs; spans are made."""
    made = {"worker": _worker, "bridge": _bridge, "reader": _reader}[component]()
    spans: Any = SimpleNamespace(counts=dict)
    return register(made, spans)


def families() -> dict[str, Family]:
    """All metrics, by name; of one that several processes have, the first's words."""
    found: dict[str, Family] = {}
    for component in COMPONENTS:
        for family in _families(registry_of(component), component):
            known = found.get(family.name)
            found[family.name] = (
                family
                if known is None
                else replace(known, components=(*known.components, component))
            )
    return found


def scraped_name(family: Metric) -> str:
    """A family's name in a query."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def _families(registry: CollectorRegistry, component: Component) -> Iterable[Family]:
    # Only here does the client library tell the labels of a family that has no series yet.
    for collector in registry._collector_to_names:
        for family in collector.collect():
            of = collector if isinstance(collector, MetricWrapperBase) else family
            yield Family(
                name=scraped_name(family),
                kind=family.type,
                help=family.documentation,
                labels=tuple(getattr(of, "_labelnames", ())),
                buckets=tuple(b for b in getattr(of, "_upper_bounds", ()) if b != inf),
                components=(component,),
            )


def _worker() -> CollectorRegistry:
    registry = Metrics().registry
    nothing: Any = SimpleNamespace(
        owned=list, counts=Counter(), outcomes=list, written=Counter(), dropped=Counter()
    )
    registry.register(SideMetrics(nothing, nothing, nothing, nothing))
    return registry


def _reader() -> CollectorRegistry:
    registry = ReaderMetrics().registry
    HubMetrics(registry)
    McpCounts(registry)
    return registry


def _bridge() -> CollectorRegistry:
    nothing: Any = SimpleNamespace(
        refused=0, replaced={}, connected=False, reachable=False, lost=0, outcomes=list
    )
    return BridgeMetrics(
        (),
        {},
        Outbox(bytes_max=1, age_max_ms=1),
        nothing,
        nothing,
        float,
        letters=LetterQueue("none"),
        recorders={},
        telemetry=nothing,
    ).registry()
