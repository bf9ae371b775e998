"""A scrape of a process that serves 500 symbols: how long it is, and that nothing waits for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agents.metrics import Metrics
from agents.side_metrics import SideMetrics
from serving.hub.metrics import HubMetrics
from serving.mcp.counts import McpCounts
from serving.metrics import ReaderMetrics
from streams.bridge_metrics import BridgeMetrics
from streams.frame_letters import LetterQueue
from streams.outbox import Outbox
from tapeline.metrics.exposition import SLICE, exposition

SYMBOLS = [f"S{n:03d}USDT" for n in range(500)]
PARTITIONS = range(64)

SERIES_MAX = 7_000
BYTES_MAX = 500_000
"""Said by docs/metrics.md."""


def samples(text: bytes) -> int:
    return sum(len(family.samples) for family in text_string_to_metric_families(text.decode()))


def busy_worker() -> Metrics:
    """Every symbol written, every partition read, every figure computed."""
    metrics = Metrics()
    for symbol in SYMBOLS:
        metrics.published(symbol, "report", 20_000)
        metrics.published(symbol, "tick", 2_000)
        metrics.data_age[symbol].observe(0.2)
    for partition in PARTITIONS:
        metrics.position[partition].set(10**9)
        metrics.committed_offset[partition].set(10**9)
    metrics.progress(dict.fromkeys(PARTITIONS, 10**9), dict.fromkeys(PARTITIONS, 0.5))
    for cycle, figures in {
        "fast": ("spread", "depth", "flow", "health"),
        "slow": ("volume_profile", "liquidity", "anomalies"),
    }.items():
        lap = metrics.laps(cycle)
        for figure in figures:
            lap(figure)
    parts: Any = SimpleNamespace(
        owned=lambda: SYMBOLS, counts=Counter(), outcomes=list, written={}, dropped={}
    )
    metrics.registry.register(SideMetrics(parts, parts, parts, parts))
    return metrics


async def test_a_worker_of_500_symbols_is_scraped_in_bounds() -> None:
    text = await exposition(busy_worker().registry)
    print(f"\nworker, 500 symbols: {samples(text)} series, {len(text)} bytes")
    assert 500 * 5 < samples(text) < SERIES_MAX
    assert len(text) < BYTES_MAX
    assert b"_created" not in text


async def test_what_is_given_up_is_scraped_no_more() -> None:
    """With a rebalance: symbols, partitions, and what is owned of them."""
    metrics = busy_worker()
    metrics.assigned({3}, SYMBOLS[:2])
    metrics.progress({3: 1}, {3: 0.0})
    left = [
        sample
        for family in metrics.registry.collect()
        for sample in family.samples
        if family.name != "tapeline_symbol_owned"
    ]
    assert {s.labels["symbol"] for s in left if "symbol" in s.labels} == set(SYMBOLS[:2])
    assert {s.labels["partition"] for s in left if "partition" in s.labels} == {"3"}


async def test_a_bridge_of_500_feeds_is_scraped_in_bounds() -> None:
    lines = {s: SimpleNamespace(symbol=s, in_sync=True, token=1_700_000_000_000) for s in SYMBOLS}
    feeds: Any = SimpleNamespace(
        lines=lines, gaps=Counter(), dropped=Counter(), records=Counter(trade=1), muted=0,
        routing_version=1, connected=True,
    )  # fmt: skip
    parts: Any = SimpleNamespace(
        refused=0, replaced={}, connected=True, reachable=True, lost=0, outcomes=list
    )
    metrics = BridgeMetrics(
        (),
        {"binance": feeds},
        Outbox(bytes_max=1, age_max_ms=1),
        parts,
        parts,
        float,
        letters=LetterQueue("t"),
        recorders={},
        telemetry=parts,
    )
    registry = metrics.registry()
    text = await exposition(registry)
    assert 2_000 < samples(text) < SERIES_MAX
    assert len(text) < BYTES_MAX
    lines.clear()
    assert b"USDT" not in await exposition(registry)


async def test_a_reader_of_500_symbols_is_scraped_in_bounds() -> None:
    metrics = ReaderMetrics()
    HubMetrics(metrics.registry)
    McpCounts(metrics.registry)
    for symbol in SYMBOLS:
        metrics.report_age.labels(symbol).observe(0.2)
    text = await exposition(metrics.registry)
    assert 5_000 <= samples(text) < SERIES_MAX
    assert len(text) < BYTES_MAX


def lines_of(text: bytes) -> list[bytes]:
    """Without what changes from one look at a process to the next."""
    return [line for line in text.splitlines() if b"process_" not in line]


async def test_it_is_the_text_that_the_client_library_gives() -> None:
    registry = busy_worker().registry
    registry.register(OneOfEach())
    assert lines_of(await exposition(registry)) == lines_of(generate_latest(registry))


async def test_others_have_their_turns_while_it_is_made() -> None:
    """However many series one family has."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    registry = CollectorRegistry()
    wide = Gauge("wide", "One family", ("n",), registry=registry)
    for n in range(10 * SLICE):
        wide.labels(n).set(n)
    task = asyncio.create_task(other())
    await exposition(registry)
    task.cancel()
    assert turns >= 10


async def test_one_symbol_less_while_it_is_made_is_no_fault() -> None:
    metrics = busy_worker()
    making = asyncio.create_task(exposition(metrics.registry))
    await asyncio.sleep(0)
    metrics.drop_symbols(SYMBOLS)
    metrics.assigned((), ())
    assert samples(await making) > 0


class OneOfEach:
    """What other collectors may give: no samples, help over two lines, names that need quoting."""

    def collect(self) -> Any:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield GaugeMetricFamily("empty", "Nothing\nof it", labels=["a"])
        family = CounterMetricFamily("odd", 'A "word" \\ and more', labels=["a"])
        for n in range(3 * SLICE):
            family.add_metric([f'"{n}"\n\\'], n)
        yield family
