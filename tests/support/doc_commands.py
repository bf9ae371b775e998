"""Commands of pages, run as they stand against a system that runs.

A command is typed into a shell of its own page: what it exports and what it writes is there for the
commands after it. Addresses are the only thing that is changed: the page says the defaults, and a
test's servers are on ports of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from docs.site.pages import ROOT, Block

ENDS_WITHIN_S: Final = 40.0
"""On a machine that has other things to do, too."""

INTERRUPTED: Final = (0, 130, -signal.SIGINT, -signal.SIGTERM)

FOREVER: Final = re.compile(
    r"--watch|^tapeline (?:top|serve|bridge|mcp)\b(?!.*--once)|^tapeline dev\b(?!.*(?:--once|--kill))"
    r"|^faust |-m (?:http\.server|streams\.simulator)"
)
"""They go on until Ctrl-C: once they have said something, that is what ends them."""

OPTIONAL: Final = ("amtool", "curl", "jq", "promtool")
"""What a page may use, and a machine need not have."""

_PROGRAMS: Final = {
    "tapeline": "-m tapeline.cli",
    "faust": "-m faust",
    "python": "",
    "redis-cli": "-m tests.support.redis_cli",
}


def programs(folder: Path) -> str:
    """A PATH on which this interpreter's programs come first, installed or not."""
    for name, argument in _PROGRAMS.items():
        if name == "redis-cli" and shutil.which(name):
            continue
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {argument} "$@"\n')
        path.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


class Page:
    """A terminal in which one page is followed.

    Args:
        folder: Where its commands run; the project's own folders are seen from there.
        env: What they are told.
        written: What a page says, and what it is here.
    """

    def __init__(
        self, folder: Path, env: Mapping[str, str], written: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.env, self._written = folder, dict(env), dict(written or {})
        self._background: list[asyncio.subprocess.Process] = []
        self._strict = folder / ".strict"
        self._strict.mkdir()
        (self._strict / ".curlrc").write_text("fail\n")
        for name in ("deploy", "docs", "examples", "tests"):
            with contextlib.suppress(FileExistsError):
                (folder / name).symlink_to(ROOT / name)

    def here(self, command: str) -> str:
        """The command with the addresses of this system."""
        for said, meant in self._written.items():
            command = command.replace(said, meant)
        return command.removeprefix(".venv/bin/")

    async def follow(self, blocks: Sequence[Block]) -> int:
        """Run what no mark speaks of.

        Returns:
            How many commands that were.

        Raises:
            AssertionError: One of them did not end as it should; with what it said.
        """
        count = 0
        for block in blocks:
            for command in block.commands:
                if block.marks_of(command, "not run") or block.marks_of(command, "run by"):
                    continue
                if self._lacks(command):
                    continue
                status = int((block.marks_of(command, "exits with") or ["0"])[0])
                await self._type(block, self.here(command), status)
                count += 1
        return count

    def _lacks(self, command: str) -> bool:
        """Whether it needs an optional program that this machine does not have."""
        words = shlex.split(command.removesuffix("&"))
        return any(
            name in words and not shutil.which(name, path=self.env["PATH"]) for name in OPTIONAL
        )

    async def close(self) -> None:
        """Leave nothing running."""
        for process in self._background:
            await _end(process, signal.SIGTERM)

    async def _type(self, block: Block, command: str, status: int) -> None:
        if command.startswith("export "):
            for word in shlex.split(command)[1:]:
                name, _, value = word.partition("=")
                self.env[name] = value
            return
        process = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            command.removesuffix("&"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.folder,
            # Else curl takes an answer of "not found" for a success. Who asks for the status sees it.
            env=self.env if " -w " in command else {**self.env, "CURL_HOME": str(self._strict)},
            process_group=0,
            limit=1 << 22,
        )
        if command.endswith("&"):
            self._background.append(process)
            return
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                if FOREVER.search(command):
                    assert process.stdout is not None
                    said = await process.stdout.readline()
                    _signal(process, signal.SIGINT)
                    said += (await process.communicate())[0]
                    expected: tuple[int, ...] = INTERRUPTED
                else:
                    said, _ = await process.communicate()
                    expected = (status,)
        except TimeoutError:
            raise AssertionError(
                f"{block.where}: no end within {ENDS_WITHIN_S:g} s: {command}"
            ) from None
        finally:
            await _end(process, signal.SIGKILL)
        text = said.decode(errors="replace")
        assert process.returncode in expected, (
            f"{block.where}: {command}\nended with {process.returncode}, not {expected}:\n{text}"
        )
        assert "Traceback" not in text, f"{block.where}: {command}\n{text}"


def _signal(process: asyncio.subprocess.Process, signum: signal.Signals) -> None:
    """To the shell's whole group: a shell does not pass it on."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signum)


async def _end(process: asyncio.subprocess.Process, signum: signal.Signals) -> None:
    if process.returncode is None:
        _signal(process, signum)
        try:
            await asyncio.wait_for(process.communicate(), 10)
        except TimeoutError:
            _signal(process, signal.SIGKILL)
            await process.communicate()
