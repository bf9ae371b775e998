"""The stop-watch of the peers' runners."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.peers.meter import DONE, FIRST
from tests.support.imports import ROOT


def told(code: str) -> list[str]:
    """What a program with a meter writes until the meter ends it."""
    program = f"from benchmarks.peers.meter import Meter\n{code}\nprint('went on')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_first_batch_starts_the_clock_and_does_not_count() -> None:
    first, done = told("m = Meter(250, 60)\nfor n in (100, 100, 50): m.add(n)")
    assert first == FIRST
    assert json.loads(done.removeprefix(DONE))["records"] == 150


def test_a_clock_started_before_counts_all() -> None:
    _, done = told("m = Meter(250, 60)\nm.start()\nfor _ in range(250): m.add()")
    assert json.loads(done.removeprefix(DONE))["records"] == 250


def test_it_ends_when_the_time_is_over() -> None:
    code = "import time\nm = Meter(10**9, 0.05)\nm.add()\nwhile True: time.sleep(0.001); m.add(100)"
    _, done = told(code)
    assert json.loads(done.removeprefix(DONE))["seconds"] >= 0.05
