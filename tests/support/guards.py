"""Limits that fail a test: too slow, off loopback, a task left running.

A plugin, so that its own tests can load it into a pytest of their own. Two more limits are
settings in ``pyproject.toml``: every warning is an error, which covers coroutines never awaited,
and what Python can't raise (in threads, in ``__del__``) is a warning.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import ipaddress
import os
import signal
import sys
import threading
from collections.abc import Generator
from typing import Any

import pytest
from pytest_asyncio import is_async_test

Task = asyncio.Task[Any]

LIMIT_S = 5.0
SLOW_LIMIT_S = 60.0
# Containers are pulled and the whole suite runs inside one such test.
DOCKER_LIMIT_S = 900.0

# A test over its limit fails when it ends. One that hangs is ended this much later, its setup
# included, and a first test that has to start a broker (Maven may fetch it) gets more.
_HUNG_S = 30.0
_BROKER_START_S = 330.0

# What the end at `_HUNG_S` did not end is ended again after each of these, so many times; then the
# whole run is, with what every thread was doing.
_AGAIN_S = 10.0
_ATTEMPTS = 6

# A task that ends by itself at once, such as a transport closing, is no leak.
_TASK_GRACE_S = 0.1


# --- time ----------------------------------------------------------------------------------------


def limit_s(item: pytest.Item) -> float:
    """How long the call of this test may take."""
    if item.get_closest_marker("docker"):
        return DOCKER_LIMIT_S
    slow = item.get_closest_marker("slow")
    # A test whose size is set from outside may need longer where it was made larger.
    return float(slow.kwargs.get("limit_s", SLOW_LIMIT_S)) if slow else LIMIT_S


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_hung_s(item)))


def pytest_collection_finish() -> None:
    """Thousands of tests and their modules live to the end: no search for garbage need pass them.

    One that does takes half a second, in which leases run out and connections are given up.
    """
    gc.collect()
    gc.freeze()


def _hung_s(item: pytest.Item) -> float:
    own = item.get_closest_marker("timeout")
    if own is not None and own.args:
        return float(own.args[0])
    starts_broker = "kafka_url" in getattr(item, "fixturenames", ())
    tries = 2 if item.get_closest_marker("flaky") else 1  # one clock runs through both
    return tries * (limit_s(item) + _HUNG_S) + (_BROKER_START_S if starts_broker else 0.0)


class HangGuard:
    """Ends a test that its timeout did not end.

    The timeout raises once, in whatever the main thread is doing: where that is a callback or a
    task of the test's loop, the loop takes it for that task's own failure, and the test waits on.
    So it is raised again and again. Where nothing can be raised, as the main thread is inside
    something that never comes back to Python, the run ends, and says where it was.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._main = threading.main_thread()

    @contextlib.contextmanager
    def watching(self, name: str, hung_s: float) -> Generator[None, None, None]:
        """Look after a test that counts as hung after so long."""
        self._over = threading.Event()
        before = signal.signal(signal.SIGUSR2, self._raise)
        thread = threading.Thread(target=self._watch, args=(self._over, name, hung_s), daemon=True)
        thread.start()
        try:
            yield
        finally:
            with self._lock:  # no signal is on its way any more once this is through
                self._over.set()
            thread.join()
            signal.signal(signal.SIGUSR2, before)

    @staticmethod
    def _raise(_signum: int, _frame: object) -> None:
        pytest.fail("hung: its timeout has not ended it", pytrace=True)

    def _watch(self, over: threading.Event, name: str, hung_s: float) -> None:
        if over.wait(hung_s + _AGAIN_S):
            return
        for attempt in range(1, _ATTEMPTS + 1):
            with self._lock:
                if over.is_set():
                    return
                self._say(f"{name} hangs, ending it again ({attempt}/{_ATTEMPTS})")
                assert self._main.ident is not None
                signal.pthread_kill(self._main.ident, signal.SIGUSR2)
            if over.wait(_AGAIN_S):
                return
        self._say(f"{name} can't be ended")
        os._exit(1)

    @staticmethod
    def _say(what: str) -> None:
        # Not through pytest, whose output is captured and dies with it.
        with contextlib.suppress(OSError):
            out = _stderr if _stderr is not None else 2
            os.write(out, f"\n{what}\n".encode())
            faulthandler.dump_traceback(out, all_threads=True)


_stderr: int | None = None
_hangs = HangGuard()


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    global _stderr  # noqa: PLW0603
    if _stderr is None:
        _stderr = os.dup(2)  # before pytest puts a file there


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.passed:
        reason = _too_slow(item, call.duration) or _off_loopback(item)
        if reason:
            report.outcome = "failed"
            report.longrepr = reason
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    before_s = _waited_s()
    try:
        return (yield)
    finally:
        item.stash[_WAITED_S] = _waited_s() - before_s


_WAITED_S = pytest.StashKey[float]()


def _waited_s() -> float:
    """How long this thread was ready to run and another had the core; 0 where nothing tells."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _too_slow(item: pytest.Item, duration_s: float) -> str | None:
    limit = limit_s(item)
    # A machine that is busy with something else makes no test slow.
    duration_s -= item.stash.get(_WAITED_S, 0.0)
    if duration_s <= limit:
        return None
    hint = "" if limit > LIMIT_S else f"; mark it slow if it needs up to {SLOW_LIMIT_S:g} s"
    return f"took {duration_s:.2f} s, limit {limit:g} s{hint}"


# --- network -------------------------------------------------------------------------------------


class NetworkGuard:
    """Refuses what leaves loopback while a unit test runs.

    An audit hook sees every socket of the process, whatever library opens it; it can't be
    removed, so it is installed once and switched. What it refused is kept as well: a client
    that swallows the error and tries again must not hide it.
    """

    def __init__(self) -> None:
        self.active = False
        self.refused: list[str] = []
        self._installed = False

    def install(self) -> None:
        """Once in the life of the process."""
        if not self._installed:
            self._installed = True
            sys.addaudithook(self._on_event)

    def _on_event(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.active or not event.startswith("socket."):
            return
        if event in {"socket.connect", "socket.sendto", "socket.bind"}:
            address = args[1]
            host = address[0] if isinstance(address, tuple) else None  # else: a Unix socket
        elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
            host = args[0]
        else:
            return
        if isinstance(host, str | bytes) and not is_loopback(host):
            self.refused.append(f"{event} {host!r}")
            raise ConnectionRefusedError(
                f"a unit test stays on loopback; refused: {event} {host!r}"
            )


def is_loopback(host: str | bytes) -> bool:
    """Whether an address or a name stays on this machine; '' is every interface, which does not."""
    name = host.decode() if isinstance(host, bytes) else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


_network = NetworkGuard()


def folder_of(item: pytest.Item) -> str:
    """The folder of ``tests`` that a test lies below; '' where in none."""
    try:
        parts = item.path.relative_to(item.config.rootpath).parts
    except ValueError:
        return ""
    return parts[1] if len(parts) > 2 and parts[0] == "tests" else ""


def is_unit(item: pytest.Item) -> bool:
    """Whether a test lies below ``tests/unit``."""
    return folder_of(item) == "unit"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _network.install()
    _network.refused.clear()
    _network.active = is_unit(item)
    try:
        with _hangs.watching(item.nodeid, _hung_s(item)):
            return (yield)
    finally:
        _network.active = False


def _off_loopback(item: pytest.Item) -> str | None:
    if not is_unit(item) or not _network.refused:
        return None
    return "a unit test stays on loopback; refused: " + ", ".join(_network.refused)


# --- tasks ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_task_is_left(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    """No task outlives an async test and its fixtures.

    Autouse, so set up before the test's own fixtures and torn down after them; what then still
    runs would be cancelled unseen when the loop is closed.
    """
    if not is_async_test(request.node):
        yield
        return
    # The loop's owner has no public name; the locked version of pytest-asyncio has this one.
    scope = request.node._loop_scope
    runner: asyncio.Runner = request.getfixturevalue(f"_{scope}_scoped_runner")
    loop = runner.get_loop()
    before = asyncio.all_tasks(loop)  # those of fixtures of a wider scope
    yield
    left = asyncio.all_tasks(loop) - before
    if left:
        _, left = runner.run(_wait(left))
    if left:
        names = ", ".join(sorted(f"{t.get_name()} ({t.get_coro()!r})" for t in left))
        pytest.fail(f"left {len(left)} task(s) running: {names}", pytrace=False)


async def _wait(tasks: set[Task]) -> tuple[set[Task], set[Task]]:
    return await asyncio.wait(tasks, timeout=_TASK_GRACE_S)
