from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest

from tapeline.errors import StackError
from tapeline.stack.processes import ChildProcess, run_to_end

FOREVER = "import signal; print('up', flush=True); signal.pause()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + FOREVER


def python(code: str, **options: object) -> ChildProcess:
    return ChildProcess("child", [sys.executable, "-I", "-u", "-c", code], **options)  # type: ignore[arg-type]


async def says_up(child: ChildProcess) -> bool:
    return child.tail() == "up"


async def started(code: str, **options: object) -> ChildProcess:
    child = python(code, **options)
    await child.start()
    await child.wait_ready(lambda: says_up(child), 5)
    return child


async def never() -> bool:
    return False


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_end(pid: int) -> None:
    """It is not our child: init reaps it, and nobody tells us."""
    while alive(pid):
        time.sleep(0.01)


async def test_a_child_is_asked_to_end_and_reaped() -> None:
    child = await started(FOREVER)
    assert child.running
    assert alive(child.pid)
    assert await child.stop() == -signal.SIGTERM
    assert not child.running
    assert not alive(child.pid)


async def test_a_deaf_child_is_killed() -> None:
    child = await started(DEAF)
    assert await child.stop(grace_s=0.1) == -signal.SIGKILL


async def test_a_stopped_child_is_killed() -> None:
    """It can't act on SIGTERM before it is woken, which SIGKILL does."""
    child = await started(FOREVER)
    os.kill(child.pid, signal.SIGSTOP)
    assert await child.stop(grace_s=0.1) in {-signal.SIGKILL, -signal.SIGTERM}


async def test_its_children_end_with_it() -> None:
    code = (
        "import subprocess, sys; "
        "p = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']); "
        "print(p.pid, flush=True); p.wait()"
    )
    child = python(code)
    await child.start()
    await child.wait_ready(lambda: asyncio.sleep(0, bool(child.tail())), 5)
    grandchild = int(child.tail())
    child.kill()
    await child.stop()
    await asyncio.wait_for(asyncio.to_thread(wait_for_end, grandchild), 3)


async def test_the_last_lines_are_kept_and_passed_on() -> None:
    lines: list[tuple[str, str]] = []
    child = python(
        "import sys\nfor n in range(100): print(n)\nprint('oops', file=sys.stderr)",
        on_line=lambda name, line: lines.append((name, line)),
    )
    await child.start()
    assert await child.wait() == 0
    assert len(lines) == 101
    assert lines[0] == ("child", "0")
    kept = child.tail().splitlines()
    assert len(kept) == 40
    assert {"99", "oops"} <= set(kept)


async def test_a_line_without_an_end_does_not_stop_the_reading() -> None:
    child = python("print('x' * (3 << 20)); print('after')")
    await child.start()
    assert await child.wait() == 0
    assert child.tail().splitlines()[-1] == "after"


async def test_a_child_that_ends_before_it_is_ready_says_why() -> None:
    child = python("raise SystemExit('no disk left')")
    await child.start()
    with pytest.raises(StackError, match=r"child ended with status 1(?s:.*)no disk left"):
        await child.wait_ready(never, 5)


async def test_a_child_that_is_never_ready_is_killed() -> None:
    child = await started(FOREVER)
    with pytest.raises(StackError, match=r"did not answer within 0\.1 s(?s:.*)up"):
        await child.wait_ready(never, 0.1)
    assert not child.running


async def test_an_answer_from_somebody_else_is_no_answer() -> None:
    """The port is another program's: the child ends, the probe says yes all the same."""
    child = python("raise SystemExit('address in use')")
    await child.start()
    await child.wait()
    with pytest.raises(StackError, match="address in use"):
        await child.wait_ready(lambda: asyncio.sleep(0, True), 5)


async def test_a_child_can_be_started_again() -> None:
    child = await started(FOREVER)
    with pytest.raises(StackError, match="running already"):
        await child.start()
    first = child.pid
    await child.stop()
    await child.start()
    assert child.pid != first
    await child.stop(grace_s=0)


async def test_a_program_that_is_not_there() -> None:
    child = ChildProcess("child", ["/nonexistent/program"])
    await child.start()
    assert await child.wait() == 1
    assert child.tail() == "/nonexistent/program: No such file or directory"


async def test_what_was_never_started() -> None:
    child = python(FOREVER)
    assert await child.stop() is None
    assert child.returncode is None
    with pytest.raises(StackError, match="was not started"):
        _ = child.pid
    with pytest.raises(StackError, match="was not started"):
        await child.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not enforce RLIMIT_DATA")
async def test_memory_is_capped() -> None:
    child = python("data = bytearray(300 << 20)", data_limit_mb=200)
    await child.start()
    assert await child.wait() == 1
    assert "MemoryError" in child.tail()


async def test_run_to_end() -> None:
    await run_to_end("good", [sys.executable, "-c", "print('fine')"], timeout_s=5)
    with pytest.raises(StackError, match=r"bad ended with status 3(?s:.*)why"):
        await run_to_end(
            "bad", [sys.executable, "-c", "print('why'); raise SystemExit(3)"], timeout_s=5
        )
    with pytest.raises(StackError, match=r"long took longer than 0\.2 s"):
        await run_to_end("long", [sys.executable, "-c", FOREVER], timeout_s=0.2)
