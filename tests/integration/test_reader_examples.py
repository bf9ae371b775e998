"""The clients of ``examples/readers`` as people start them, against a real reader and writer.

The writer is killed (SIGKILL): each client says ``stale`` within 2 s, by the data's own age. Of that
age no line may be wrong, whatever the load; only the limit on the clock is a generous one.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import commands
from tests.support.reader_house import WAIT_S, House, child, reading_house, writing
from tests.support.reader_process import Serving, serving
from tests.support.redis_process import RedisProcess, redis_binary, valkey_binary

pytestmark = [pytest.mark.redis, pytest.mark.e2e, pytest.mark.slow]

READERS = commands.ROOT / "examples" / "readers"
STALE_MS = 2000
SLACK_S = 1.5
"""For a machine that has other things to do."""


def python(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(READERS / f"{name}.py"), *arguments]


@pytest.fixture
async def house(redis_url: str) -> AsyncIterator[House]:
    async with reading_house(redis_url) as made:
        yield made


async def line_where(
    process: asyncio.subprocess.Process, wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The first line that is as wanted; every line before it was honest."""
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        while line := await process.stdout.readline():
            said: dict[str, Any] = json.loads(line)
            honest(said)
            if wanted(said):
                return said
    assert process.stderr is not None
    raise AssertionError(f"it ended: {(await process.stderr.read()).decode()}")


def honest(said: dict[str, Any]) -> None:
    """Stale is what is older than 2 s or of unknown age, and nothing else."""
    age_ms = said.get("data_age_ms")
    assert said["stale"] == (age_ms is None or age_ms > STALE_MS), said


def fresh(said: dict[str, Any]) -> bool:
    return not said["stale"]


def stale(said: dict[str, Any]) -> bool:
    return bool(said["stale"])


PYTHONS = ["http_sync", "http_async", "ws_async"]


@pytest.mark.parametrize("name", PYTHONS)
async def test_a_client_shows_the_report_with_its_age(house: House, name: str) -> None:
    """Numbers as stored, an age beside each, the slow part's own."""
    argv = python(name, "BTCUSDT", "ETHUSDT", "--json", "--url", house.server.url)
    async with child(*argv) as process:
        for symbol, mid in (("BTCUSDT", 60_000.05), ("ETHUSDT", 60_001.5)):
            said = await line_where(
                process, lambda said, symbol=symbol: fresh(said) and said["symbol"] == symbol
            )
            assert said["mid_price"] == pytest.approx(mid)
            assert said["poc_age_ms"] >= said["data_age_ms"] >= 40
            assert said["note"] == ""


@pytest.mark.parametrize("name", PYTHONS)
async def test_the_writer_is_killed_and_a_client_says_stale(house: House, name: str) -> None:
    """Within 2 s; it goes on with the writer that comes after."""
    argv = python(name, "BTCUSDT", "--json", "--every", "0.1", "--url", house.server.url)
    async with child(*argv) as process:
        before = await line_where(process, fresh)
        house.writer.kill()
        killed_s = time.monotonic()
        said = await line_where(process, stale)
        took_s = time.monotonic() - killed_s
        assert took_s < 2 + SLACK_S
        assert (said["token"], said["seq"]) >= (before["token"], before["seq"])
        assert said["note"] == ""  # the reader is well, and says itself that nobody writes
        async with writing(house.redis_url, "w2"):
            after = await line_where(process, fresh)
        assert after["token"] > said["token"]


@pytest.mark.parametrize("name", PYTHONS)
async def test_the_reader_is_killed_and_a_client_says_stale(house: House, name: str) -> None:
    """By its own clock, with the reason; it comes back by itself."""
    port = str(house.server.port)
    argv = python(name, "BTCUSDT", "--json", "--every", "0.1", "--url", house.server.url)
    async with child(*argv) as process:
        await line_where(process, fresh)
        house.server.process.kill()
        killed_s = time.monotonic()
        said = await line_where(process, stale)
        assert time.monotonic() - killed_s < 2 + SLACK_S
        assert said["note"] != ""
        async with serving(REDIS_URL=house.redis_url, NT_SERVE_PORT=port):
            after = await line_where(process, lambda said: fresh(said) and not said["note"])
        assert (after["token"], after["seq"]) > (said["token"], said["seq"])


@pytest.mark.parametrize("name", PYTHONS)
async def test_the_store_is_killed_and_a_client_says_stale(tmp_path: Path, name: str) -> None:
    """The reader is there and can't know better: its reason is shown."""
    binary = valkey_binary() or redis_binary()
    if binary is None:
        pytest.skip("no valkey-server and no redis-server on this machine")
    store = RedisProcess(binary, tmp_path)
    store.start()
    try:
        async with reading_house(store.url) as made:
            argv = python(name, "BTCUSDT", "--json", "--every", "0.1", "--url", made.server.url)
            async with child(*argv) as process:
                await line_where(process, fresh)
                store.kill()
                killed_s = time.monotonic()
                await line_where(process, lambda said: stale(said) and said["note"] != "")
                assert time.monotonic() - killed_s < 2 + SLACK_S
    finally:
        store.kill()


@pytest.mark.parametrize("name", ["http_sync", "http_async"])
async def test_once_ends_with_a_status_that_scripts_can_use(house: House, name: str) -> None:
    """0 fresh, 3 without a report, 1 where the reader refuses."""
    expected = {"BTCUSDT": (0, "fresh"), "NOTHING": (3, "stale"), "no-symbol": (1, "")}
    for symbol, (status, word) in expected.items():
        async with child(*python(name, symbol, "--once", "--url", house.server.url)) as process:
            out, err = await asyncio.wait_for(process.communicate(), WAIT_S)
        assert process.returncode == status, err
        assert word in out.decode()
        assert status != 1 or b"malformed" in err


async def test_a_key_is_taken_from_the_environment_and_shown_nowhere(redis_url: str) -> None:
    """Without one each client ends and says what to do."""
    async with serving(REDIS_URL=redis_url, NT_REQUIRE_KEYS="always") as server:
        created = await commands.start(
            *("keys", "create", "--name", "clients", "--scope", "reports:read", "--json"),
            REDIS_URL=redis_url,
        )
        out, err = await asyncio.wait_for(created.communicate(), WAIT_S)
        assert created.returncode == 0, err
        key = json.loads(out.splitlines()[-1])["key"]
        async with writing(redis_url):
            for name in PYTHONS:
                argv = python(name, "BTCUSDT", "--url", server.url)
                async with child(*argv) as process:
                    said, why = await asyncio.wait_for(process.communicate(), WAIT_S)
                assert (process.returncode, said) == (1, b"") or b"stale" in said, why
                assert b"key" in why
                async with child(*argv, "--json", TAPELINE_KEY=key) as process:
                    shown = await line_where(process, fresh)
                assert key not in json.dumps(shown)
            status, line = await curl(server, "BTCUSDT", TAPELINE_KEY=key)
            assert (status, "fresh" in line) == (0, True), line


# --- cURL ----------------------------------------------------------------------------------------


async def curl(server: Serving, symbol: str, **variables: str) -> tuple[int, str]:
    """Status and output of the script."""
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    argv = ["sh", str(READERS / "curl.sh"), symbol]
    async with child(*argv, READER=server.url, **variables) as process:
        out, _ = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_the_shell_script_tells_fresh_from_stale(house: House) -> None:
    """By its status, too; the age stands beside each number."""
    status, line = await curl(house.server, "BTCUSDT")
    assert status == 0
    words = line.split()
    assert words[:4] == ["BTCUSDT", "fresh", "mid", "60000.05"]
    assert line.count("ms old)") == 2
    assert await curl(house.server, "NOTHING") == (3, "NOTHING  stale  no report\n")
    house.writer.kill()
    killed_s = time.monotonic()
    while status == 0:
        status, line = await curl(house.server, "BTCUSDT")
        assert time.monotonic() - killed_s < 2 + SLACK_S
    assert (status, line.split()[1]) == (3, "stale")
    house.server.process.kill()
    await house.server.process.wait()
    status, line = await curl(house.server, "BTCUSDT")
    assert (status, line.split()[1]) == (1, "stale")
