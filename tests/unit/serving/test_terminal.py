"""``tapeline report``: exit statuses, shapes, and an end without a traceback."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time

import pytest
import uvicorn
from redis.asyncio import Redis

from serving.app import create_api
from serving.reader import StoreUnavailable, aged, reader_client
from serving.terminal import one_line, run_report, with_age
from tapeline.config import Settings, load_settings
from tapeline.errors import ConfigError, ReportError
from tests.support import commands
from tests.support.redis_process import RedisProcess
from tests.support.reports import WHOLE, stored


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return load_settings({"REDIS_URL": redis_url})


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- what is printed ------------------------------------------------------------------------------


def test_one_line_says_what_matters() -> None:
    """Price, spread, flow, health, gaps and age."""
    line = one_line(aged(stored(now_ms=1000, data_age_ms=40), 1010))
    for part in ("BTCUSDT", "mid ", "spread ", "last ", "health ", "gaps ", "age 50 ms"):
        assert part in line
    assert "STALE" not in line
    assert "synthetic" not in line
    assert "\n" not in line


def test_one_line_says_stale_and_synthetic_and_what_is_missing() -> None:
    """A report before any data."""
    bare = WHOLE.replace(b'"synthetic":false', b'"synthetic":true')
    assert "synthetic" in one_line(aged(bare, 0))
    assert "STALE" in one_line(aged(stored(now_ms=0), 60_000))
    from tests.support.reports import BARE

    line = one_line(aged(BARE, 0))
    for part in ("no book", "no data", "STALE"):
        assert part in line


def test_with_age_leaves_the_report_alone() -> None:
    """Its reading stands beside it."""
    payload = stored(now_ms=1000, data_age_ms=40)
    both = with_age(aged(payload, 1010))
    assert both["report"] == json.loads(payload)
    assert both["read"] == {"age_ms": 10, "data_age_ms": 50, "stale": False}


# --- one report -----------------------------------------------------------------------------------


async def test_a_fresh_report_is_printed_with_status_0(
    settings: Settings, redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole, then in one line."""
    payload = stored(now_ms=now_ms())
    await redis.set("report:BTCUSDT", payload)
    assert await run_report(settings, "BTCUSDT", watch=False, as_json=False) == 0
    text = capsys.readouterr().out
    body, _, line = text.rstrip("\n").rpartition("\n")
    assert json.loads(body) == json.loads(payload)
    assert line.startswith("BTCUSDT  mid ")


async def test_json_is_one_object_on_the_last_line(
    settings: Settings, redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Report and reading."""
    payload = stored(now_ms=now_ms())
    await redis.set("report:BTCUSDT", payload)
    assert await run_report(settings, "BTCUSDT", watch=False, as_json=True) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["report"] == json.loads(payload)
    assert json.loads(line)["read"]["stale"] is False


async def test_a_stale_report_is_printed_with_status_3(
    settings: Settings, redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unhealthy, and said so."""
    await redis.set("report:BTCUSDT", stored(now_ms=now_ms() - 10_000))
    assert await run_report(settings, "BTCUSDT", watch=False, as_json=False) == 3
    assert "STALE" in capsys.readouterr().out


@pytest.mark.parametrize(("as_json", "printed"), [(False, ""), (True, "null\n")])
async def test_no_report_is_status_3(
    settings: Settings, capsys: pytest.CaptureFixture[str], as_json: bool, printed: str
) -> None:
    """Said on stderr."""
    assert await run_report(settings, "BTCUSDT", watch=False, as_json=as_json) == 3
    said = capsys.readouterr()
    assert said.out == printed
    assert said.err == "no report of BTCUSDT\n"


async def test_what_is_no_report_is_an_error(settings: Settings, redis: Redis) -> None:
    """Not a report with holes."""
    await redis.set("report:BTCUSDT", b"{}")
    with pytest.raises(ReportError):
        await run_report(settings, "BTCUSDT", watch=False, as_json=False)


# --- as a process ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("BTCUSDT",), ("BTCUSDT", "--json")])
@pytest.mark.parametrize("age_ms", [0, 60_000, None])
async def test_the_command_ends_with_0_for_fresh_and_3_otherwise(
    redis: Redis, redis_url: str, arguments: tuple[str, ...], age_ms: int | None
) -> None:
    """Fresh for the time that a slow machine needs to start it."""
    if age_ms is not None:
        await redis.set("report:BTCUSDT", stored(now_ms=now_ms() + 60_000 - 2 * age_ms))
    process = await commands.start("report", *arguments, REDIS_URL=redis_url)
    out, err = await process.communicate()
    assert process.returncode == (0 if age_ms == 0 else 3), err
    last = out.decode().splitlines()[-1:] or [""]
    if "--json" in arguments:
        body = json.loads(last[0])
        assert body is None if age_ms is None else body["read"]["stale"] is bool(age_ms)
    assert b"Traceback" not in err


async def test_without_a_redis_the_reader_on_this_machine_is_asked(
    redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the second terminal beside `tapeline dev`; the report is the same bytes."""
    payload = stored(seq=3, now_ms=now_ms())
    await redis.set("report:BTCUSDT", payload)
    settings = load_settings({"NT_ACCESS_LOG": "false"})
    config = uvicorn.Config(create_api(settings, redis), port=0, log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        settings = load_settings({"NT_SERVE_PORT": str(sock.getsockname()[1])})
        serving = asyncio.create_task(server._serve([sock]))
        assert await run_report(settings, "BTCUSDT", watch=False, as_json=True) == 0
        assert json.loads(capsys.readouterr().out)["report"] == json.loads(payload)
        assert await run_report(settings, "ETHUSDT", watch=False, as_json=True) == 3
        await redis.set("report:BTCUSDT", b"{}")
        with pytest.raises(StoreUnavailable, match="502"):
            await run_report(settings, "BTCUSDT", watch=False, as_json=True)
        server.should_exit = True
        await serving
    with pytest.raises(ConfigError, match=r"REDIS_URL is not set; .* or a `tapeline serve` on"):
        await run_report(settings, "BTCUSDT", watch=False, as_json=True)


@pytest.mark.slow
@pytest.mark.parametrize("symbol", ["btcusdt", "BTC/USD", "A" * 33])
async def test_the_command_ends_with_2_for_a_malformed_symbol(redis_url: str, symbol: str) -> None:
    """And says what was expected."""
    process = await commands.start("report", symbol, REDIS_URL=redis_url)
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    [line] = err.decode().splitlines()
    assert line.startswith(f"ERROR: symbol {symbol!r} is malformed; expected 1 to 32")


@pytest.mark.slow
async def test_the_command_ends_with_1_where_redis_does_not_answer(
    own_server: RedisProcess,
) -> None:
    """One line, no traceback, no password."""
    own_server.pause()
    url = own_server.url.replace("redis://", "redis://user:hush@")
    process = await commands.start("report", "BTCUSDT", REDIS_URL=url)
    out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert err.startswith(b"ERROR: Redis did not answer")
    assert b"Traceback" not in err
    assert b"hush" not in err


async def _line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    return (await asyncio.wait_for(stream.readline(), 30)).decode()


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--json",)])
async def test_watching_prints_each_new_report_until_ctrl_c(
    redis: Redis, redis_url: str, flags: tuple[str, ...]
) -> None:
    """Status 130, as shells have it, and not a word more."""
    process = await commands.start("report", "BTCUSDT", "--watch", *flags, REDIS_URL=redis_url)
    assert await _line(process.stderr) == "no report of BTCUSDT yet\n"
    for seq in (1, 2):
        await redis.set("report:BTCUSDT", stored(seq=seq, now_ms=now_ms()))
        line = await _line(process.stdout)
        if flags:
            assert json.loads(line)["report"]["seq"] == seq
        else:
            assert line.startswith("BTCUSDT  mid ")
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")


@pytest.mark.slow
async def test_watching_outlives_an_outage_of_redis(own_server: RedisProcess) -> None:
    """Said once; what is new afterwards is printed."""
    async with reader_client(own_server.url) as redis:
        await redis.set("report:BTCUSDT", stored(seq=1, now_ms=now_ms()))
        process = await commands.start("report", "BTCUSDT", "--watch", REDIS_URL=own_server.url)
        assert (await _line(process.stdout)).startswith("BTCUSDT")
        own_server.pause()
        said = await _line(process.stderr)
        assert said.startswith("Redis did not answer")
        assert said.endswith("trying again\n")
        own_server.resume()
        await redis.set("report:BTCUSDT", stored(seq=2, now_ms=now_ms()))
        assert (await _line(process.stdout)).startswith("BTCUSDT")
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 130


@pytest.mark.slow
async def test_a_reader_of_the_output_that_goes_away_ends_the_watch(
    redis: Redis, redis_url: str
) -> None:
    """As with `tapeline report BTCUSDT --watch | head -1`."""
    process = await commands.start("report", "BTCUSDT", "--watch", REDIS_URL=redis_url)
    await redis.set("report:BTCUSDT", stored(seq=1, now_ms=now_ms()))
    assert (await _line(process.stdout)).startswith("BTCUSDT")
    transport = process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
    transport.close()
    await redis.set("report:BTCUSDT", stored(seq=2, now_ms=now_ms()))
    await asyncio.wait_for(process.wait(), 30)
    assert process.stderr is not None
    assert b"Traceback" not in await process.stderr.read()
