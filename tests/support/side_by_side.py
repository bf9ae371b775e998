"""Tests in several processes at once, ``pytest -n 2``; some of them have the machine to themselves.

Most tests of real processes wait for most of their time. Those marked ``alone`` tell how long
something takes, or bring about what a busy machine would hide: nobody else's test runs beside them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

GIVEN = ("NT_TEST_REDIS_URL", "NT_TEST_KAFKA_URL")
"""Servers that tests are given: they empty the one, and find their own topics alone on the other."""

_FOLDER = pytest.StashKey[Path]()


class Machine:
    """Whose turn it is, between processes: one that is alone, or any number of others.

    Args:
        folder: The same for all of them.
    """

    def __init__(self, folder: Path) -> None:
        self._queue, self._busy = folder / "queue", folder / "busy"

    @contextmanager
    def turn(self, *, alone: bool) -> Generator[None, None, None]:
        """Wait for it, and have it."""
        with self._busy.open("a") as busy:
            # Who waits to be alone stands first in the queue: nobody slips in before it.
            with self._queue.open("a") as queue:
                fcntl.flock(queue, fcntl.LOCK_EX)
                fcntl.flock(busy, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield


# --- in the process that shares the tests out ------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    processes = getattr(config.option, "numprocesses", None)
    if processes:
        given = [name for name in GIVEN if os.environ.get(name)]
        if processes > 1 and given:
            raise pytest.UsageError(f"-n {processes}: expected 1, as {given[0]} is for one process")
        config.stash[_FOLDER] = Path(tempfile.mkdtemp(prefix="tests-"))


def pytest_unconfigure(config: pytest.Config) -> None:
    if _FOLDER in config.stash:
        shutil.rmtree(config.stash[_FOLDER], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["machine"] = str(node.config.stash[_FOLDER])


# --- in those that run them ------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Before any clock is started: a wait for one's turn is nobody's time."""
    given = getattr(item.config, "workerinput", {}).get("machine")
    if given is None:
        return (yield)
    with Machine(Path(given)).turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)
