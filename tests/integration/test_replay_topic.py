"""`tapeline replay` of a real topic: the same bytes whenever, however fast, by however many."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from agents.backtest import Plan, backtest
from agents.parameters import parameters_of
from streams import events
from streams.capture.records import Placed, TapeRecords
from streams.topics import partition_of
from tables.report import Report, encode_report
from tests.support import commands
from tests.support.data import recording
from tests.support.tape import SYMBOL, random_tape
from tests.support.worker import PARTITIONS, Client, Installation, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis]

OTHERS = ("ETHUSDT", "SOLUSDT")
SYMBOLS = (SYMBOL, *OTHERS)
WHOLE = 1 << 30


def listed(*symbols: str) -> str:
    return ",".join(f"binance:{symbol}" for symbol in symbols)


def tape_of(symbol: str, steps: int, step_ms: int = 60) -> list[bytes]:
    records = random_tape(SYMBOLS.index(symbol) + 50, steps, step_ms=step_ms).records
    return [raw.replace(SYMBOL.encode(), symbol.encode()) for _, raw in records]


async def filled(one: Installation, steps: int = 400, step_ms: int = 60) -> dict[str, list[Placed]]:
    """Three symbols' records in the topic, mixed; as they stand there, by symbol."""
    tapes = {symbol: tape_of(symbol, steps, step_ms) for symbol in SYMBOLS}
    mixed = [
        (symbol.encode(), tape[at])
        for at in range(max(map(len, tapes.values())))
        for symbol, tape in tapes.items()
        if at < len(tape)
    ]
    offsets = await one.write(mixed)
    held: dict[str, list[Placed]] = {symbol: [] for symbol in SYMBOLS}
    for (key, raw), offset in zip(mixed, offsets, strict=True):
        held[key.decode()].append((key.decode(), offset, raw))
    return held


async def run(
    one: Installation, *options: str, status: int = 0, symbols: tuple[str, ...] = SYMBOLS
) -> tuple[dict[str, Any], str]:
    """The summary (empty unless status 0), and what was said on stderr."""
    env = one.environment(SYMBOLS=listed(*symbols))
    process = await commands.start("replay", "--json", *options, **env)
    out, err = await process.communicate()
    assert process.returncode == status, err.decode()[-3000:]
    return (json.loads(out.splitlines()[-1]) if status == 0 else {}), err.decode()


def expected(one: Installation, held: list[Placed], **limits: int) -> list[bytes]:
    """What the backtest makes of the same records."""
    settings = one.settings()
    symbol = held[0][0]
    plan = Plan(
        report_period_ms=settings.report_period_ms,
        slow_period_ms=settings.slow_period_ms,
        parameters=parameters_of(settings),
        topic=one.topic,
        **limits,
    )
    home = partition_of(symbol, PARTITIONS)
    lines = []
    for _, _, item in backtest(held, plan=plan, kinds=()):
        assert isinstance(item, Report)
        body = encode_report(item, WHOLE)[0]
        lines.append(body.replace(b'"partition":0', b'"partition":%d' % home) + b"\n")
    return lines


def left_in(folder: Path) -> set[str]:
    return set(os.listdir(folder))


@pytest.mark.slow
async def test_three_replays_give_one_digest(one: Installation, tmp_path: Path) -> None:
    """At full speed, ten times as fast as it was, and by two workers; and the file is the same."""
    held = await filled(one)
    out = [tmp_path / f"{name}.ndjson" for name in ("plain", "paced", "two")]
    plain, _ = await run(one, "--out", str(out[0]))
    paced, _ = await run(one, "--speed", "10", "--out", str(out[1]))
    two, _ = await run(one, "--workers", "2", "--out", str(out[2]))
    assert plain["digest"] == paced["digest"] == two["digest"]
    assert (plain["workers"], two["workers"]) == (1, 2)
    assert len({path.read_bytes() for path in out}) == 1
    lines = b"".join(b"".join(expected(one, held[symbol])) for symbol in sorted(SYMBOLS))
    assert out[0].read_bytes() == lines
    assert plain["records"] == sum(map(len, held.values()))
    assert plain["reports"] == lines.count(b"\n")
    for symbol in SYMBOLS:
        digest = hashlib.sha256(b"".join(expected(one, held[symbol]))).hexdigest()
        assert plain["symbols"][symbol]["digest"] == digest
    # Some 24 s of tape cannot have been gone through in less than a tenth of that.
    assert paced["seconds"] > 2
    assert left_in(tmp_path) == {path.name for path in out}


@pytest.mark.slow
async def test_a_range_by_time_is_a_piece_of_the_whole(one: Installation, tmp_path: Path) -> None:
    """It says that it warms up, and names the first and last report."""
    held = await filled(one)
    times = [events.decode(raw).ts_recv_ms for _, _, raw in held[SYMBOL]]
    from_ms, to_ms = times[len(times) // 3], times[len(times) * 2 // 3]
    out = tmp_path / "range.ndjson"
    iso = "2024-08-08T23:54:13Z"
    body, said = await run(
        one, "--from", str(from_ms), "--to", str(to_ms), "--symbols", SYMBOL, "--out", str(out)
    )
    assert "reading 35 min of warm-up" in said
    lines = expected(one, held[SYMBOL], from_ms=from_ms, to_ms=to_ms)
    assert out.read_bytes() == b"".join(lines)
    assert 0 < len(lines) == body["reports"]
    assert body["warm_up_records"] == sum(ms < from_ms for ms in times)
    assert list(body["symbols"]) == [SYMBOL]
    assert "--from" in (await run(one, "--from", iso, "--to", "2024-08-08", status=2))[1]
    _, said = await run(one, "--from", "2030-01-01", status=1)
    assert "nothing to report" in said


@pytest.mark.slow
async def test_a_range_by_offset(one: Installation, tmp_path: Path) -> None:
    held = (await filled(one))[SYMBOL]
    begin, end = held[100][1], held[300][1]
    out = tmp_path / "offsets.ndjson"
    await run(
        one, "--from", f"offset:{begin}", "--to", f"offset:{end}", "--symbols", SYMBOL,
        "--out", str(out),
    )  # fmt: skip
    before = [record for record in held if record[1] < end]
    from_ms = events.decode(held[100][2]).ts_recv_ms
    assert out.read_bytes() == b"".join(expected(one, before, from_ms=from_ms))
    _, said = await run(one, "--from", "offset:99999999", "--symbols", SYMBOL, status=2)
    assert "--from is 'offset:99999999'; expected an offset that partition" in said
    spread = {partition_of(symbol, PARTITIONS) for symbol in SYMBOLS}
    assert len(spread) > 1
    _, said = await run(one, "--from", "offset:5", status=2)
    assert "or one --symbols" in said


@pytest.mark.slow
@pytest.mark.recordings
async def test_a_recording_in_a_topic_gives_what_its_file_gives(
    one: Installation, tmp_path: Path
) -> None:
    """Five minutes of Binance's BTCUSDT, byte for byte but for the name of the source."""
    file = recording("binance/hftbacktest/btcusdt_20240808.gz")
    await one.write(
        (symbol.encode(), raw) for symbol, _, raw in TapeRecords("binance", [file]).play()
    )
    outs = [str(tmp_path / f"{name}.ndjson") for name in ("topic", "file")]
    of_topic, _ = await run(one, "--out", outs[0], symbols=(SYMBOL,))
    of_file, _ = await run(one, str(file), "--out", outs[1])
    assert of_topic["records"] == of_file["records"] > 41_000
    assert of_topic["failed"] == of_file["failed"] == 0
    named = f'"topic":"{one.topic}","partition":{one.partition},'.encode()
    from_topic, from_file = (lines_of(out) for out in outs)
    assert from_topic == from_file.replace(b'"topic":"capture","partition":0,', named)


def lines_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.slow
async def test_keys_under_a_prefix_and_never_a_live_one(one: Installation, redis: Client) -> None:
    held = await filled(one)
    await redis.set(f"report:{SYMBOL}", "live")
    await run(one, "--redis", "lab:1")
    keys = {key.decode() for key in await redis.keys("*")}
    assert keys == {f"report:{SYMBOL}", *(f"lab:1:report:{symbol}" for symbol in SYMBOLS)}
    assert await redis.get(f"report:{SYMBOL}") == b"live"
    for symbol in SYMBOLS:
        last = expected(one, held[symbol])[-1].rstrip(b"\n")
        assert await redis.get(f"lab:1:report:{symbol}") == last
        assert await redis.pttl(f"lab:1:report:{symbol}") > 0
    for prefix in ("", "report", "nt:x", "a b"):
        _, said = await run(one, "--redis", prefix, status=2)
        assert f"--redis is {prefix!r}; expected a prefix of the replay's own" in said


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_ctrl_c_leaves_nothing_behind(
    one: Installation, tmp_path: Path, redis: Client, workers: str
) -> None:
    """In the middle of a paced replay, to the whole process group as a terminal does."""
    await filled(one)
    out = tmp_path / "never.ndjson"
    env = one.environment(SYMBOLS=listed(*SYMBOLS))
    process = await commands.start(
        "replay", "--speed", "1", "--out", str(out), "--redis", "lab", "--workers", workers, **env
    )

    async def under_way() -> bool:
        return len(await redis.keys("lab:*")) == len(SYMBOLS)

    await eventually(under_way, what="reports of all symbols")
    os.killpg(process.pid, signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 130, err.decode()
    assert "Traceback" not in err.decode()
    assert "interrupted: no file was written" in err.decode()
    assert left_in(tmp_path) == set()

    async def gone() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    await eventually(gone, what="the end of its children")


@pytest.mark.slow
async def test_what_is_wrong_is_said(one: Installation) -> None:
    """By name and value; status 2 where asking differently would help, 1 where not."""
    for options, message in [
        (("--from", "yesterday"), "--from is 'yesterday'; expected a time such as"),
        (("--symbols", "NOPE"), "--symbols is 'NOPE'; expected one of BTCUSDT"),
        (("--out", "a.csv"), "--out is 'a.csv'; expected a name that ends in"),
        (("--out", "nowhere/a.ndjson"), "--out is 'nowhere/a.ndjson'; expected a file in a folder"),
    ]:
        _, said = await run(one, *options, status=2)
        assert message in said, said
    await one.delete_topic(one.topic)
    _, said = await run(one, status=1)
    assert re.search(rf"no topic {re.escape(one.topic)}", said)
