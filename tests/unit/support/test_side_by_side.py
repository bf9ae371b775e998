"""Who runs beside whom, between threads and between the processes of a real run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.side_by_side import Machine

SUITE = """
import pathlib
import time

import pytest

LOG = pathlib.Path(__file__).parent / "log"

def told(name):
    with LOG.open("a") as log:
        log.write(f"begin {name}\\n")
    time.sleep(0.5)
    with LOG.open("a") as log:
        log.write(f"end {name}\\n")
"""


def started(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def test_tests_run_beside_each_other(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def run() -> None:
        with Machine(tmp_path).turn(alone=False):
            both.wait(4)

    threads = [started(run), started(run)]
    for thread in threads:
        thread.join(4)
    assert not both.broken


def test_one_that_is_alone_waits_for_others_and_comes_before_later_ones(tmp_path: Path) -> None:
    order: list[str] = []
    first_ends = threading.Event()
    alone_waits = threading.Event()

    def alone() -> None:
        alone_waits.set()
        with Machine(tmp_path).turn(alone=True):
            order.append("alone")

    def later() -> None:
        with Machine(tmp_path).turn(alone=False):
            order.append("later")

    with Machine(tmp_path).turn(alone=False):
        threads = [started(alone)]
        assert alone_waits.wait(4)
        first_ends.wait(0.2)  # until it stands in the queue
        threads.append(started(later))
        first_ends.wait(0.2)
        assert order == []
    for thread in threads:
        thread.join(4)
    assert order == ["alone", "later"]


@pytest.mark.slow
def test_a_run_of_several_processes(pytester: pytest.Pytester) -> None:
    """The marked test of one process overlaps none of the other's; unmarked ones do."""
    pytester.makeini(
        "[pytest]\nmarkers = alone: alone\nasyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makeconftest("pytest_plugins = ['tests.support.side_by_side']\n")
    for nr in (1, 2):
        body = "".join(f"def test_{n}():\n    told('{nr}{n}')\n\n" for n in "abc")
        mark = "@pytest.mark.alone\n" if nr == 1 else ""
        alone = f"{mark}def test_last():\n    told('{nr}last')\n"
        pytester.makepyfile(**{f"test_file_{nr}": SUITE + body + alone})
    result = pytester.runpytest_subprocess(
        *("-n", "2", "--dist", "loadfile", "-p", "no:valkey", "-p", "no:schemathesis")
    )
    result.assert_outcomes(passed=8)
    log = (pytester.path / "log").read_text().splitlines()
    at = log.index("begin 1last")
    assert log[at + 1] == "end 1last"
    assert any(a.startswith("begin") and b.startswith("begin") for a, b in pairwise(log))


@pytest.mark.slow
def test_given_servers_serve_one_process(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NT_TEST_REDIS_URL", "redis://127.0.0.1:1/0")
    pytester.makeconftest("pytest_plugins = ['tests.support.side_by_side']\n")
    result = pytester.runpytest_subprocess("-n", "2", "-p", "no:valkey", "-p", "no:schemathesis")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*-n 2: expected 1, as NT_TEST_REDIS_URL is for one process"])
