"""Tests in several processes at once, ``pytest -n 2``, and some that have the machine to themselves.

Most tests of real processes wait for most of their time. Those marked ``alone`` tell how long
something takes, or bring about what a busy machine would hide: they are a run of their own,
``--turn alone``, and ``--turn others`` is the rest.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

GIVEN = ("NT_TEST_REDIS_URL", "NT_TEST_KAFKA_URL")
"""Servers that tests are given: they empty the one, and find their own topics alone on the other."""

_LEFT_OUT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--turn",
        choices=("alone", "others"),
        help="run only the tests marked `alone`, or only the others",
    )


def pytest_configure(config: pytest.Config) -> None:
    processes = getattr(config.option, "numprocesses", None) or 1
    given = [name for name in GIVEN if os.environ.get(name)]
    if processes > 1 and given:
        raise pytest.UsageError(f"-n {processes}: expected 1, as {given[0]} is for one process")


@pytest.hookimpl(trylast=True)  # of what ``-k`` and others have left
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    turn = config.option.turn
    if turn is None:
        return
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        alone = item.get_closest_marker("alone") is not None
        (kept if alone == (turn == "alone") else left_out).append(item)
    config.stash[_LEFT_OUT] = len(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    left_out = session.config.stash.get(_LEFT_OUT, 0)
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = left_out
    # What was asked for is all of the other turn.
    if left_out and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)
