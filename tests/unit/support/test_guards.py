"""Each guard bites: tests that break a rule, run in a pytest of their own."""

from __future__ import annotations

import pytest

from tests.support.guards import is_loopback

RULE_BREAKERS = """
import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest


def test_too_slow():
    time.sleep(0.3)


@pytest.mark.slow
def test_slow_and_marked():
    time.sleep(0.3)


@pytest.fixture
def crowded():
    core, before = {min(os.sched_getaffinity(0))}, os.sched_getaffinity(0)
    os.sched_setaffinity(0, core)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    yield
    for one in busy:
        one.kill()
        one.wait()
    os.sched_setaffinity(0, before)


@pytest.mark.skipif(not os.path.exists("/proc/thread-self/schedstat"), reason="no schedstat")
def test_slow_as_others_have_the_core(crowded):
    began = time.monotonic()
    while time.thread_time() < 0.02 or time.monotonic() - began < 0.3:
        pass


def test_connects_far_away():
    socket.create_connection(("192.0.2.1", 9), timeout=0.1)


def test_hides_that_it_connects_far_away():
    try:
        urllib.request.urlopen("http://192.0.2.1:9/", timeout=0.1)
    except OSError:
        pass


async def test_resolves_a_name():
    try:
        await asyncio.open_connection("example.invalid", 9)
    except OSError:
        pass


def test_listens_on_every_interface():
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))


async def test_stays_on_loopback():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "localhost", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()


async def test_leaves_a_task():
    asyncio.create_task(asyncio.Event().wait(), name="forgotten")


@pytest.fixture
async def ticker():
    task = asyncio.create_task(asyncio.sleep(60))
    yield
    task.cancel()


async def test_a_fixture_ends_its_task(ticker):
    pass


async def test_a_task_that_is_about_to_end():
    asyncio.create_task(asyncio.sleep(0.01))


def test_never_awaits():
    asyncio.sleep(0)


def test_an_error_in_a_finalizer():
    class Broken:
        def __del__(self):
            raise ValueError("lost")

    Broken()
"""

CONFIG = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
markers =
    slow
"""


@pytest.fixture
def outcome(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.RunResult:
    """Of a run of the rule breakers as unit tests, with a limit of 0.2 s."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:valkey")
    pytester.makeini(CONFIG)
    pytester.makeconftest("from tests.support import guards\nguards.LIMIT_S = 0.2")
    unit = pytester.mkdir("tests") / "unit"
    unit.mkdir()
    (unit / "test_rules.py").write_text(RULE_BREAKERS)
    return pytester.runpytest_subprocess("-p", "tests.support.guards", "-rA", "-q")


def test_rules_are_enforced(outcome: pytest.RunResult) -> None:
    bitten = {
        "test_too_slow": "took 0.3",
        "test_connects_far_away": "a unit test stays on loopback",
        "test_hides_that_it_connects_far_away": "refused: socket.",
        "test_resolves_a_name": "refused: socket.getaddrinfo 'example.invalid'",
        "test_listens_on_every_interface": "a unit test stays on loopback",
        "test_leaves_a_task": "left 1 task(s) running: forgotten",
        "test_never_awaits": "was never awaited",
        "test_an_error_in_a_finalizer": "lost",
    }
    lines = [line.split(" ", 1) for line in outcome.outlines if "::test_" in line]
    named = {
        status: {rest.split("::")[1].split(" ")[0] for first, rest in lines if first == status}
        for status in ("PASSED", "FAILED", "ERROR")
    }
    assert named["FAILED"] | named["ERROR"] == bitten.keys()
    assert named["PASSED"] - bitten.keys() == {
        "test_slow_and_marked",
        "test_slow_as_others_have_the_core",
        "test_stays_on_loopback",
        "test_a_fixture_ends_its_task",
        "test_a_task_that_is_about_to_end",
    }
    for reason in bitten.values():
        assert reason in outcome.stdout.str()
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.slow
def test_a_hung_test_is_ended(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:valkey")
    pytester.makeini(CONFIG)
    pytester.makeconftest(
        "from tests.support import guards\nguards.LIMIT_S = 0.2\nguards._HUNG_S = 0.2"
    )
    pytester.makepyfile("import threading\ndef test_hangs():\n    threading.Event().wait()")
    outcome = pytester.runpytest_subprocess("-p", "tests.support.guards")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*Timeout*0.4*"])


HANGS = """
import asyncio
import time


def busy_for(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


async def test_whose_timeout_hits_another():
    # The timeout is raised in a callback, and the loop keeps what callbacks raise to itself.
    asyncio.get_running_loop().call_soon(busy_for, 0.6)
    await asyncio.Event().wait()


def test_after_it():
    pass
"""

STUCK = """
import signal
import threading


def test_that_python_never_gets_back_from():
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGALRM, signal.SIGUSR2))
    threading.Event().wait()
"""


def run_hung(pytester: pytest.Pytester, code: str) -> pytest.RunResult:
    pytester.makeini(CONFIG)
    pytester.makeconftest(
        "from tests.support import guards\nguards.LIMIT_S = 0.2\nguards._HUNG_S = 0.2\n"
        # A busy machine takes a while to tell of the first end before the next one comes.
        "guards._AGAIN_S = 2.0\nguards._ATTEMPTS = 2"
    )
    pytester.makepyfile(code)
    return pytester.runpytest_subprocess("-p", "tests.support.guards", "-p", "no:valkey")


@pytest.mark.slow
def test_a_test_whose_timeout_was_swallowed_is_ended(pytester: pytest.Pytester) -> None:
    outcome = run_hung(pytester, HANGS)
    outcome.assert_outcomes(failed=1, errors=1, passed=1)  # the error: it left its task
    outcome.stdout.fnmatch_lines(["*hung: its timeout has not ended it*"])
    assert "ending it again (1/2)" in outcome.stderr.str()


@pytest.mark.slow
def test_a_run_that_can_not_be_got_out_of_a_test_ends_and_says_where(
    pytester: pytest.Pytester,
) -> None:
    outcome = run_hung(pytester, STUCK)
    assert outcome.ret == 1
    said = outcome.stderr.str()
    assert "test_that_python_never_gets_back_from can't be ended" in said
    assert "in wait" in said


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        (b"localhost", True),
        ("0.0.0.0", False),
        ("", False),
        ("192.168.1.1", False),
        ("localhost.example.org", False),
    ],
)
def test_what_is_loopback(host: str | bytes, local: bool) -> None:
    assert is_loopback(host) is local
