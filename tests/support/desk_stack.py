"""A store, a reader and a writer as real processes, each to be killed and started again; and pages.

Not asynchronous: Playwright's plain interface is not, and neither are the tests that use it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.support import commands
from tests.support.redis_process import RedisProcess, any_binary

START_S = 30.0


class Stack:
    """All of it.

    Args:
        folder: Where logs and the store's files are.
        count: How many symbols are written.
        hz: How often each.
        variables: Further settings of the reader.
    """

    def __init__(self, folder: Path, count: int = 20, hz: float = 4.0, **variables: str) -> None:
        binary = any_binary()
        if binary is None:
            raise RuntimeError("no redis-server and no valkey-server on this machine")
        self._count, self._hz, self._variables = count, hz, variables
        # A store that forgot its tokens would have readers refuse what comes after, rightly.
        self.store = RedisProcess(binary, folder, durable=True)
        self.port = 0  # the one that it got, once it has started
        self.serve_log = folder / "serve.log"
        self._serve: subprocess.Popen[bytes] | None = None
        self._writer: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Stack:
        self.store.start()
        return self.start_rest()

    def start_rest(self) -> Stack:
        """Reader and writer, on a store that runs."""
        self.start_serve()
        self.start_writer()
        return self

    def stop(self) -> None:
        self.kill_writer()
        self.kill_serve()
        self.store.kill()

    def mend(self) -> None:
        """Start what a test has left dead."""
        if not self.store.runs:
            self.store.start()
        if self._serve is None or self._serve.poll() is not None:
            self.start_serve()
        if self._writer is None or self._writer.poll() is not None:
            self.start_writer()

    # --- reader --------------------------------------------------------------------------------

    def start_serve(self) -> None:
        with self.serve_log.open("ab") as log:
            self._serve = subprocess.Popen(
                commands.tapeline("serve"),
                env=commands.environment(
                    REDIS_URL=self.store.url, NT_SERVE_PORT=str(self.port), **self._variables
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        if not self.port:
            until(lambda: self._ended() or self.logged("serve.starting"), START_S, "it listens")
            assert not self._ended(), self.serve_log.read_text()
            self.port = int(self.logged("serve.starting")[-1]["port"])
        until(self._answers, START_S, "the reader answers")

    def kill_serve(self, signum: signal.Signals = signal.SIGKILL) -> None:
        if self._serve is not None:
            self._serve.send_signal(signum)
            self._serve.wait(15)
            self._serve = None

    def pause_serve(self, *, paused: bool) -> None:
        """Stop it without an end: connections stay open and nothing comes."""
        assert self._serve is not None
        self._serve.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    def _ended(self) -> bool:
        return self._serve is None or self._serve.poll() is not None

    def _answers(self) -> bool:
        try:
            return self.get("/health")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """A GET: status, body, headers with small letters."""
        with urlopen(Request(self.url + path), timeout=5) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, answer.read(), headers

    def report(self, symbol: str) -> dict[str, Any]:
        """What ``/get_report`` gives."""
        found: dict[str, Any] = json.loads(self.get(f"/get_report?symbol={symbol}")[1])
        return found

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Events of the reader's log."""
        lines = self.serve_log.read_text().splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return [one for one in told if one.get("event") == event]

    # --- writer --------------------------------------------------------------------------------

    def start_writer(self, node: str = "w1") -> None:
        arguments = [self.store.url, node, str(self._count), str(self._hz)]
        self._writer = subprocess.Popen(
            [sys.executable, "-m", "tests.support.desk_writer", *arguments],
            env=commands.environment(PYTHONHASHSEED="0"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,
        )
        self._heard("ready")

    def tell(self, command: str) -> None:
        """``hold``, ``go``, ``gap SYMBOL``, ``mend SYMBOL``; done when this returns."""
        assert self._writer is not None
        assert self._writer.stdin is not None
        self._writer.stdin.write(command + "\n")
        self._writer.stdin.flush()
        self._heard(command.split(maxsplit=1)[0])

    def kill_writer(self) -> None:
        if self._writer is not None:
            self._writer.kill()
            self._writer.communicate()
            self._writer = None

    def _heard(self, word: str) -> None:
        # Its log goes the same way: a pipe that nobody read would hold it up.
        assert self._writer is not None
        assert self._writer.stdout is not None
        for line in self._writer.stdout:
            if line.strip() == word:
                return
        raise AssertionError("the writer ended")


def until(condition: Callable[[], object], within_s: float, what: str = "it") -> float:
    """Wait for a condition; how long it took, in seconds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within_s:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - began
