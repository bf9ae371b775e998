"""The faults in short, on real processes; and what keeps them harmless, taken away.

``python -m tests.chaos SCENARIO`` has the long forms, and the figures. Here a gap only has to be
shorter than Kafka's own session timeout, without which nothing would have been taken over at all.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from itertools import groupby
from typing import Any

import pytest

from tapeline.stack import kafka_jars
from tapeline.stack.kafka_local import AT_ONCE
from tests.chaos import run, scenarios
from tests.chaos.cluster import Cluster, cluster
from tests.chaos.figures import gap_s
from tests.chaos.history import calls, judged, overdue, regranted
from tests.support.background import BackgroundLoop
from tests.support.redis_process import redis_binary, valkey_binary

SYMBOLS = 4
SESSION_S = 10.0
MENDED_S = 15.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.skipif(
        kafka_jars.unavailable() is not None, reason=f"no broker: {kafka_jars.unavailable()}"
    ),
    pytest.mark.skipif(
        not (redis_binary() or valkey_binary()), reason="no redis-server, and no Valkey"
    ),
]


@pytest.fixture(autouse=True)
def _shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "PAUSE_S", 3.0)
    monkeypatch.setattr(scenarios, "DOWN_S", 2.0)
    monkeypatch.setattr(scenarios, "FLAPS", 2)


class Clusters:
    """Three nodes and a few symbols, for all the faults in turn; new ones after one that stayed."""

    def __init__(self, background: BackgroundLoop) -> None:
        self._background = background
        self._made: AbstractAsyncContextManager[Cluster] | None = None
        self._cluster: Cluster | None = None

    def get(self) -> Cluster:
        """The one that there is, or a new one."""
        if self._cluster is None:
            self._made = cluster(3, SYMBOLS, durable=True, broker=AT_ONCE)
            self._cluster = self._background.run(self._made.__aenter__())
        return self._cluster

    def end(self) -> None:
        made, self._made, self._cluster = self._made, None, None
        if made is not None:
            self._background.run(made.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def clusters(background: BackgroundLoop) -> Iterator[Clusters]:
    made = Clusters(background)
    yield made
    made.end()


@pytest.fixture
def running(background: BackgroundLoop, clusters: Clusters) -> Iterator[Cluster]:
    """Settled, also where the test before failed with a node paused, cut off or dead."""
    one = clusters.get()
    yield one
    try:
        background.run(one.settled(MENDED_S))
    except AssertionError as error:
        print(f"the next test has a cluster of its own: {error}")
        clusters.end()


def _brought_about(
    background: BackgroundLoop, running: Cluster, name: str
) -> tuple[scenarios.Fault, dict[str, float]]:
    """A fault, and the gap of each symbol; and all is settled again."""
    fault = background.run(scenarios.SCENARIOS[name](running, random.Random(name)))
    background.run(running.settled())
    history = running.history()
    return fault, {s: gap_s(history[s], fault.began_s, fault.ended_s) for s in running.symbols}


@pytest.mark.parametrize(
    "name", ["kill", "pause", "cut-redis", "cut-kafka", "zombie-publish", "flap"]
)
def test_a_writers_symbols_go_on_without_it(
    background: BackgroundLoop, running: Cluster, name: str
) -> None:
    """And the others' do not stop."""
    _, gaps = _brought_about(background, running, name)
    print(f"{name}: longest gap {max(gaps.values()):.3f} s")
    assert max(gaps.values()) < SESSION_S / 2


@pytest.mark.parametrize("name", ["redis-restart", "redis-stale-replica"])
def test_redis_comes_back_and_everybody_writes(
    background: BackgroundLoop, running: Cluster, name: str
) -> None:
    """Nobody is thrown out of the group for what Redis did."""
    fault, _ = _brought_about(background, running, name)
    assert fault.told["first_write_s"] < fault.ended_s - fault.began_s - scenarios.DOWN_S
    assert fault.told["evictions"] == 0


def test_workers_are_replaced_one_by_one(background: BackgroundLoop, running: Cluster) -> None:
    """Each hands over what it writes before it goes; nothing waits for a timeout."""
    _, gaps = _brought_about(background, running, "rolling")
    print(f"rolling: longest gap {max(gaps.values()):.3f} s")
    assert max(gaps.values()) < SESSION_S / 2


def test_after_all_of_it_nothing_is_lost_nothing_twice(
    background: BackgroundLoop, running: Cluster
) -> None:
    """Of the whole history of this cluster: no stale write, no token twice, equal reports."""
    verdict = judged(running.history(), fenced_reader=True)
    made = calls(running.folder)
    verdict.regranted, verdict.overdue = regranted(made), overdue(made, run.LEASE_TTL_S)
    assert verdict.well(), verdict
    assert background.run(run.applied_twice(running)) == 0
    assert background.run(run.audited(running)) == []


# --- safeguards taken away -------------------------------------------------------------------------


def _options(scenario: str, off: str) -> argparse.Namespace:
    # A kill right behind a commit, or before its standby is warm, leaves nothing to apply twice.
    runs = 5 if off == "no_gate" else 1
    return argparse.Namespace(
        scenario=scenario, off=off, runs=runs, nodes=2, symbols=2, rate=40, seed=7, logs=""
    )


@pytest.mark.parametrize(
    ("scenario", "off", "seen"),
    [
        ("zombie-publish", "no_fencing", "stale_accepted"),
        ("redis-wipe", "no_floor", "regranted"),
        ("cut-redis", "no_deadline", "overdue_sent"),
        ("kill", "no_gate", "applied_twice"),
    ],
)
@pytest.mark.slow(limit_s=120)
def test_without_this_the_checkers_find_it(
    background: BackgroundLoop, scenario: str, off: str, seen: str
) -> None:
    """Each safeguard is what keeps the figure beside it at 0."""
    enough = run.applied_twice if off == "no_gate" else None
    found: dict[str, Any] = background.run(
        run.run(_options(scenario, off), quick=True, enough=enough)
    )
    assert found[seen] > 0
    assert not found["well"]


def test_a_state_that_stands_still_is_no_report(
    background: BackgroundLoop, running: Cluster
) -> None:
    """Without its broker everybody goes on to write; no gap ends by that."""
    fault, gaps = _brought_about(background, running, "broker-restart")
    for symbol, gap in gaps.items():
        writes = [w for w in running.observer.writes[symbol] if w.heard_s > fault.began_s]
        still = [list(same) for _, same in groupby(writes, key=lambda write: write.watermark)]
        longest = max(still, key=lambda same: same[-1].heard_s - same[0].heard_s)
        assert len(longest) > 4, symbol
        assert gap > longest[-1].heard_s - longest[0].heard_s > 1, symbol
