"""Metrics that processes export, by the names they are scraped under, without any process."""

from __future__ import annotations

import re
from functools import cache

from agents.metrics import Metrics
from serving.hub.metrics import HubMetrics
from serving.metrics import ReaderMetrics
from streams.bridge_metrics import PREFIX
from tests.support.imports import ROOT


@cache
def metric_names() -> frozenset[str]:
    """Families of worker, bridge and reader; a counter ends with ``_total``, a histogram is there
    with its buckets too.
    """
    names = set()
    reader = ReaderMetrics().registry
    HubMetrics(reader)
    for family in (*Metrics().registry.collect(), *reader.collect()):
        if family.type == "histogram":
            names |= {f"{family.name}_{part}" for part in ("bucket", "count", "sum")}
        names.add(f"{family.name}_total" if family.type == "counter" else family.name)
    # The bridge's collector needs a bridge to be asked, so its source is.
    source = (ROOT / "streams/bridge_metrics.py").read_text()
    for kind, name in re.findall(r'_(counter|gauge)\(\s*"([a-z_]+)"', source):
        names.add(f"{PREFIX}{name}" + ("_total" if kind == "counter" else ""))
    names |= {f"{PREFIX}{name}_total" for name in re.findall(r'\("([a-z_]+)", "', source)}
    return frozenset(names)
