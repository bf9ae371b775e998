"""What a parent leaves when it is killed outright: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import alive, listens

PARENT = """
import asyncio, json, os
from tapeline.stack.embedded import EmbeddedBroker, EmbeddedKeyValueStore

async def main():
    async with EmbeddedBroker() as broker, EmbeddedKeyValueStore() as store:
        found = {"pids": [broker.pid, store.pid], "ports": [broker.port, store.port]}
        print(json.dumps(found), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_no_child_no_port_no_folder(signum: signal.Signals, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        found = json.loads(parent.stdout.readline())
        assert all(alive(pid) for pid in found["pids"])
        parent.send_signal(signum)
        parent.wait(10)
    deadline = time.monotonic() + 3
    while any(alive(pid) for pid in found["pids"]) and time.monotonic() < deadline:
        time.sleep(0.01)  # init reaps them
    assert not any(alive(pid) for pid in found["pids"])
    # A process is a zombie as soon as its first thread is; the last one closes the sockets.
    while any(listens(port) for port in found["ports"]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(listens(port) for port in found["ports"])
    assert list(tmp_path.iterdir()) == []
