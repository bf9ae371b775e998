"""``tapeline top`` as a process: one look, a live table, and clean ends."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from serving.top_cli import check_interval, picked_symbols
from tapeline.errors import ConfigError
from tests.support import commands
from tests.support.redis_process import RedisProcess
from tests.support.reports import stored

WAIT_S = 30.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def fill(redis: Redis, *symbols: str) -> None:
    beat = {
        "node_id": "w1", "incarnation": "abc", "hostname": "host-a", "pid": 4711,
        "started_at": now_ms() - 60_000, "metrics_url": "", "last_heartbeat": now_ms(),
    }  # fmt: skip
    await redis.set("nt:node:w1", json.dumps(beat))
    for symbol in symbols:
        await redis.set(f"report:writer:{symbol}", "w1|abc|9")
        meta = {"token": 9, "seq": 4, "watermark": 77, "updated_at": now_ms()}
        await redis.hset(f"report:meta:{symbol}", mapping=meta)
        await redis.set(f"report:{symbol}", stored(symbol, token=9, seq=4, now_ms=now_ms()))


async def line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    return (await asyncio.wait_for(stream.readline(), WAIT_S)).decode()


# --- options --------------------------------------------------------------------------------------


def test_symbols_are_picked_each_once() -> None:
    assert picked_symbols(" BTCUSDT,ETHUSDT ,,BTCUSDT") == ("BTCUSDT", "ETHUSDT")
    assert picked_symbols("") == ()


@pytest.mark.parametrize("name", ["btcusdt", "BTC/USD", "binance:BTCUSDT", "A" * 33])
def test_what_can_t_be_a_symbol_is_named_with_what_was_expected(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        picked_symbols(f"BTCUSDT,{name}")
    said = f"--symbols is {name!r}; expected canonical symbols such as BTCUSDT,ETHUSDT"
    assert str(caught.value) == said


@pytest.mark.parametrize("seconds", [0.0, 0.19, 60.1, -1.0, float("nan"), float("inf")])
def test_an_interval_out_of_range_is_named_with_the_range(seconds: float) -> None:
    with pytest.raises(ConfigError) as caught:
        check_interval(seconds)
    assert str(caught.value) == f"--interval is {seconds!r}; expected seconds from 0.2 to 60"
    check_interval(0.2)
    check_interval(60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--interval", "0"], "ERROR: --interval is 0.0; expected seconds from 0.2 to 60"),
        (["--symbols", "x"], "ERROR: --symbols is 'x'; expected canonical symbols such as"),
        ([], "ERROR: REDIS_URL is not set; expected `redis[s]://"),
    ],
)
async def test_the_command_ends_with_2_for_a_bad_argument(arguments: list[str], said: str) -> None:
    process = await commands.start("top", *arguments)
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    [words] = err.decode().splitlines()
    assert words.startswith(said)


# --- once -----------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_once_prints_one_table_and_ends(redis: Redis, redis_url: str) -> None:
    await fill(redis, "BTCUSDT", "ETHUSDT")
    process = await commands.start("top", "--once", REDIS_URL=redis_url)
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    text = out.decode()
    assert "\x1b" not in text
    assert text.startswith("tapeline top  1 nodes  2 of 2 symbols written")
    assert [row.split()[:2] for row in text.splitlines() if "USDT" in row] == [
        ["BTCUSDT", "w1"],
        ["ETHUSDT", "w1"],
    ]


@pytest.mark.slow
async def test_a_redis_that_does_not_answer_is_said_and_once_has_failed(
    own_server: RedisProcess,
) -> None:
    own_server.pause()
    url = own_server.url.replace("redis://", "redis://user:hush@")
    process = await commands.start("top", "--once", "--json", REDIS_URL=url)
    out, err = await process.communicate()
    assert process.returncode == 1
    assert err.startswith(b"ERROR: Redis did not answer")
    body = json.loads(out.splitlines()[-1])
    assert body["error"].startswith("Redis did not answer")
    assert body["nodes"] == body["symbols"] == []
    assert b"hush" not in out + err
    assert b"Traceback" not in err


# --- live -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_it_goes_on_until_a_signal_and_ends_without_a_word(
    redis: Redis, redis_url: str, signum: signal.Signals, status: int
) -> None:
    await fill(redis, "BTCUSDT")
    process = await commands.start("top", "--json", "--interval", "0.2", REDIS_URL=redis_url)
    looks: list[dict[str, Any]] = [json.loads(await line(process.stdout)) for _ in range(3)]
    assert [one["symbol"] for look in looks for one in look["symbols"]] == ["BTCUSDT"] * 3
    gaps = [look["symbols"][0]["gap_s"] for look in looks]
    assert gaps == sorted(gaps), "nothing is written, so the gap grows"
    assert gaps[-1] > 0.3
    process.send_signal(signum)
    _, err = await process.communicate()
    assert (process.returncode, err) == (status, b"")


@pytest.mark.slow
async def test_it_outlives_an_outage_of_redis_with_what_it_saw_last(
    own_server: RedisProcess,
) -> None:
    async with Redis.from_url(own_server.url) as redis:
        await fill(redis, "BTCUSDT")
    process = await commands.start("top", "--json", "--interval", "0.2", REDIS_URL=own_server.url)
    assert json.loads(await line(process.stdout))["error"] is None
    own_server.pause()
    while (look := json.loads(await line(process.stdout)))["error"] is None:
        pass
    assert look["error"].startswith("Redis did not answer")
    assert [one["symbol"] for one in look["symbols"]] == ["BTCUSDT"]
    own_server.resume()
    while json.loads(await line(process.stdout))["error"] is not None:
        pass
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")


@pytest.mark.slow
async def test_on_a_terminal_ctrl_c_gives_the_screen_back_and_leaves_the_last_table(
    redis: Redis, redis_url: str
) -> None:
    """A terminal of 60 columns, so that not every column is there."""
    await fill(redis, "BTCUSDT")
    main, sub = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *commands.tapeline("top", "--interval", "0.2"),
        stdin=asyncio.subprocess.DEVNULL, stdout=sub, stderr=asyncio.subprocess.PIPE,
        env=commands.environment(
            REDIS_URL=redis_url, TERM="xterm", COLUMNS="60", LINES="20", NO_COLOR="1"
        ),
        process_group=0,
    )  # fmt: skip
    os.close(sub)
    os.set_blocking(main, False)
    shown = b""
    try:
        async with asyncio.timeout(WAIT_S):
            while shown.count(b"BTCUSDT") < 3:
                shown += _read(main)
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            status = await process.wait()
        shown += _read(main)
    finally:
        os.close(main)
    assert process.stderr is not None
    assert (status, await process.stderr.read()) == (130, b"")
    enter, leave = b"\x1b[?1049h", b"\x1b[?1049l"
    assert shown.count(enter) == shown.count(leave) == 1
    assert shown.count(b"\x1b[?25h") >= 1, "the cursor is there again"
    last = shown.rpartition(leave)[2].decode()
    rows = [row for row in last.splitlines() if row.startswith("BTCUSDT")]
    assert len(rows) == 1
    assert "watermark" not in last


def _read(file: int) -> bytes:
    try:
        return os.read(file, 1 << 16)
    except OSError:  # nothing there, or the other side is closed
        return b""
