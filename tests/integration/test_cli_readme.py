"""What the pages tell people to type is there, and does what they say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import typer

from docs.site.pages import blocks, pages
from tapeline.cli import app
from tapeline.stack.embedded import EmbeddedBroker, EmbeddedKeyValueStore
from tapeline.stack.ports import free_port
from tapeline.stack.processes import ChildProcess
from tests.support import commands

ROOT = commands.ROOT
PAGES = [page for page in pages() if page.startswith(("README.md", "CONTRIBUTING.md", "docs/"))]

WAIT_S = 30.0


def console(page: str) -> list[str]:
    """What is typed in the blocks of a page."""
    return [command for block in blocks(page) for command in block.commands]


def named(page: str) -> Iterator[list[str]]:
    """Every ``tapeline ...`` that a page names, in a block or in a sentence, as words."""
    text = (ROOT / page).read_text().replace("\\|", "|")
    for code in [*re.findall(r"`([^`\n]+)`", text), *console(page)]:
        match = re.match(r"(?:\.venv/bin/)?tapeline ([a-z].*)", code)
        if match:
            first, *rest = match[1].partition(" | ")[0].rstrip("& ").split()
            yield [first, *rest]


def _known(words: list[str]) -> None:
    """Walks the commands as the command line does.

    Raises:
        AssertionError: A command or an option that there is not.
    """
    command: Any = typer.main.get_command(app)
    for at, word in enumerate(words):
        if not hasattr(command, "get_command"):
            options = {name for param in command.params for name in param.opts}
            used = re.findall(r"(?<!\S)--?[a-z][a-z-]*", " ".join(words[at:]))
            assert set(used) <= options, f"{words}: {set(used) - options}"
            return
        choices = [command.get_command(None, name) for name in word.split("|")]
        assert all(choices), f"no such command: tapeline {' '.join(words[: at + 1])}"
        command = choices[0]
    assert not hasattr(command, "get_command"), f"{words} is a group"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_that_a_page_names_is_there(page: str) -> None:
    """In console blocks, in tables and in sentences."""
    for words in named(page):
        _known(words)


def test_the_readme_names_the_commands_that_people_need() -> None:
    """Or the test above would pass over an empty page."""
    assert {words[0] for words in named("README.md")} >= {
        "audit", "bridge", "capture", "config", "dev", "replay", "report", "serve", "top", "topics",
    }  # fmt: skip


@pytest.mark.parametrize(
    "words", [["nothing"], ["topics", "nothing"], ["report", "X", "--nothing"]]
)
def test_a_command_that_is_not_there_would_be_found(words: list[str]) -> None:
    """The check above checks."""
    with pytest.raises(AssertionError):
        _known(words)


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_a_page_names_is_there(page: str) -> None:
    """`make dev` is `tapeline dev`, with the same options."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)\b(?=[`\s])", "\n".join(console(page))):
        assert re.search(rf"^{target}:", makefile, re.M), target
    assert "$(BIN)/tapeline dev $(ARGS)" in makefile


@pytest.mark.slow
@pytest.mark.parametrize("command", ["version", "config"])
async def test_commands_that_need_nothing_run_with_nothing(command: str) -> None:
    """Status 0."""
    process = await commands.start(command)
    out, err = await process.communicate()
    assert process.returncode == 0, err
    assert out.strip()


@pytest.mark.slow
async def test_help_names_every_command() -> None:
    """Those of groups that are imported on demand, too."""
    process = await commands.start("--help")
    out, _ = await process.communicate()
    assert process.returncode == 0
    for command in (
        "audit", "bridge", "capture", "config", "dev", "replay", "report", "serve", "top", "topics", "version",
    ):  # fmt: skip
        assert re.search(rf"\b{command}\b", out.decode())


@pytest.mark.slow
async def test_serving_imports_nothing_of_kafka() -> None:
    """Commands pay for what they use; a reader runs where aiokafka and Faust are not."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys, tapeline.cli, serving.run;"
        "print(*{name.split('.')[0] for name in sys.modules})",
        stdout=asyncio.subprocess.PIPE,
        env=commands.environment(),
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    loaded = set(out.decode().split())
    assert loaded >= {"tapeline", "serving", "fastapi"}
    assert not loaded & {"aiokafka", "faust", "numpy", "aiohttp", "streams", "agents", "tables"}


# --- the block "For real" ----------------------------------------------------------------------------


def _argv(line: str) -> list[str]:
    """A line of the README as this interpreter runs it, installed or not."""
    program, *arguments = shlex.split(line.removesuffix("&"))
    name = program.removeprefix(".venv/bin/")
    if name == "tapeline":
        return commands.tapeline(*arguments)
    assert name == "faust"
    return [sys.executable, "-m", name, *arguments]


@asynccontextmanager
async def _servers() -> AsyncIterator[dict[str, str]]:
    """What the README takes for granted: broker and store at other addresses, and a venue."""
    told: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    def listen(_name: str, line: str) -> None:
        if not told.done() and line.startswith("{"):
            told.set_result(json.loads(line))

    exchange = ChildProcess(
        "simulator",
        [sys.executable, "-m", "streams.simulator", "--port", "0"],
        env=commands.environment(PYTHONUNBUFFERED="1"),
        on_line=listen,
    )
    async with EmbeddedBroker() as broker, EmbeddedKeyValueStore() as store:
        await exchange.start()
        try:
            urls = await asyncio.wait_for(told, WAIT_S)
            yield {
                "KAFKA_URL": broker.url,
                "REDIS_URL": store.url,
                "NT_BINANCE_STREAM_URL": urls["stream_url"],
                "NT_BINANCE_REST_URL": urls["rest_url"],
                "NT_SESSION_TIMEOUT_MS": "2000",
                **{f"NT_{part}_PORT": str(free_port()) for part in ("METRICS", "BRIDGE", "SERVE")},
            }
        finally:
            await exchange.stop()


@pytest.mark.e2e
@pytest.mark.slow
async def test_the_readme_s_commands_make_a_system_that_reports() -> None:
    """Line by line as they stand; only addresses are others, and the venue is a simulator."""
    lines = console("README.md")
    variables: dict[str, str] = {}
    for line in lines:
        if line.startswith("export "):
            variables |= dict(word.split("=", 1) for word in shlex.split(line)[1:])
    assert variables.keys() == {"KAFKA_URL", "REDIS_URL", "SYMBOLS"}
    background: list[ChildProcess] = []
    async with _servers() as servers:
        env = commands.environment(**{**variables, **servers})
        try:
            for line in lines:
                if not line.startswith(("tapeline ", "faust ")):
                    continue
                child = ChildProcess(line, _argv(line), env=env, cwd=ROOT)
                await child.start()
                if line.endswith("&"):
                    background.append(child)
                else:
                    assert await asyncio.wait_for(child.wait(), WAIT_S) == 0, child.tail()
            assert len(background) == 3
            await _asked_as_the_readme_says(lines, env)
            assert all(child.running for child in background)
            statuses = [await child.stop() for child in reversed(background)]
            assert statuses == [0, 0, 0], [child.tail() for child in background]
        finally:
            await asyncio.gather(*(child.stop(grace_s=0) for child in background))


async def _asked_as_the_readme_says(lines: list[str], env: dict[str, str]) -> None:
    """The second terminal: curl, and the command that watches, with a Redis and without."""
    curl = next(line for line in lines if line.startswith("curl "))
    url = shlex.split(curl)[1].replace(":8080/", f":{env['NT_SERVE_PORT']}/")
    report = await _reported(url)
    assert report["symbol"] == "BTCUSDT"
    pushed = next(line for line in lines if "examples/readers/ws_async.py" in line)
    program, *arguments = shlex.split(pushed)
    assert program == ".venv/bin/python"
    reader = url.partition("/get_report")[0]
    first = await _first_line([sys.executable, *arguments, "--url", reader], env)
    assert first.startswith(b"BTCUSDT  fresh  mid ")
    watch = next(line for line in lines if "report BTCUSDT --watch" in line)
    without = {name: value for name, value in env.items() if name != "REDIS_URL"}
    for terminal in (env, without):
        first = await _first_line(_argv(watch), terminal)
        assert first.startswith(b"BTCUSDT  mid ")
        assert b"synthetic" in first


async def _first_line(argv: list[str], env: dict[str, str]) -> bytes:
    """What it says first; Ctrl-C then ends it."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, env=env, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        return await asyncio.wait_for(process.stdout.readline(), WAIT_S)
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
        assert process.returncode == 130


async def _reported(url: str) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < deadline:
            try:
                async with http.get(url) as response:
                    body: dict[str, Any] | None = await response.json()
                if body and body["mid_price"] is not None:
                    return body
            except aiohttp.ClientError:
                pass  # it is not up yet
            await asyncio.sleep(0.05)
    raise AssertionError(f"no report from {url}, load {os.getloadavg()[0]}")
