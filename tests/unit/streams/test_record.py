"""Recording the simulated exchange: what is in the files is what the run itself has counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from streams import bridge as bridge_module
from streams import kafka_writer
from streams.bridge import Bridge
from streams.capture.check import check
from streams.record import Recorded, Recording
from streams.simulator import SimulatedExchange
from streams.symbols import Listing, parse_symbols
from tapeline.config import Settings, load_settings
from tapeline.errors import ConfigError
from tests.support.bridge import until
from tests.support.bridge_fakes import FakeBroker, FakeScripts
from tests.support.commands import start

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def settings_for(sim: SimulatedExchange, **changed: Any) -> Settings:
    values = {"binance_stream_url": sim.stream_url, "binance_rest_url": sim.rest_url}
    return load_settings({}, **{**values, **changed})


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl.gz"))


def compared(told: dict[str, Any], folder: Path) -> None:
    """``capture check`` finds in the files what the run has counted."""
    found = check("binance", files(folder)).as_json()
    same = found.keys() & told.keys() - {"symbols"}
    assert {"frames", "events", "gaps", "trades", "tops", "errors", "crossed"} <= same
    assert {name: found[name] for name in same} == {name: told[name] for name in same}
    assert sorted(found["symbols"]) == sorted(told["symbols"])


Acts = Callable[[SimulatedExchange, Recording], Awaitable[None]]


async def recorded(
    folder: Path, acts: Acts, symbols: Sequence[str] = SYMBOLS, **settings: Any
) -> Recorded:
    """A recording during which something happens, ended by a stop."""
    async with SimulatedExchange(SYMBOLS, seed=5, rate=100.0) as sim:
        listings = parse_symbols(",".join(f"binance:{symbol}" for symbol in symbols))
        recording = Recording(settings_for(sim, **settings), listings, folder, clock=None)
        task = asyncio.create_task(recording.run())
        try:
            await acts(sim, recording)
        finally:
            recording.stop()
        return await task


async def frames(recording: Recording, count: int) -> None:
    """So many more have come."""
    (source,) = recording.sources
    wanted = source.counts.frames + count
    await until(lambda: source.counts.frames >= wanted, 10)


async def test_the_files_hold_what_the_run_has_counted(tmp_path: Path) -> None:
    async def quietly(_: SimulatedExchange, recording: Recording) -> None:
        await frames(recording, 100)

    run = await recorded(tmp_path, quietly)
    told = run.venues["binance"]
    assert run.status == 0
    assert told["frames"] == told["recorded"] >= 100
    assert told["events"]["book_delta"] > 0
    assert (told["gaps"], told["errors"], told["dropped"]) == (0, 0, 0)
    compared(told, tmp_path)
    (file,) = files(tmp_path)
    report = json.loads((tmp_path / file.name.replace(".jsonl.gz", ".gaps.json")).read_text())
    assert report == told["files"][0]
    assert (report["frames"], report["gaps"], report["reconnects"]) == (told["frames"], [], 0)


@pytest.mark.slow
async def test_faults_are_on_the_tape_and_in_the_report(tmp_path: Path) -> None:
    """Rubbish, a hole in the venue's sequence, lost sockets, and a file that ends in between."""

    async def badly(sim: SimulatedExchange, recording: Recording) -> None:
        await frames(recording, 100)
        sim.start_episode("garbage", "BTCUSDT")
        await frames(recording, 50)
        sim.start_episode("gap", "BTCUSDT", count=2)
        await frames(recording, 100)
        await sim.close_sessions("fault")
        await frames(recording, 100)

    run = await recorded(tmp_path, badly, record_rotate_s=1)
    told = run.venues["binance"]
    assert run.status == 0
    assert (told["errors"], told["gaps"]) == (1, 1)
    assert sum(told["reconnects"].values()) == 1
    compared(told, tmp_path)
    assert len(files(tmp_path)) > 1
    gaps = [gap["reason"] for file in told["files"] for gap in file["gaps"]]
    assert gaps.count("sequence") == 1
    assert "disconnected" in gaps
    assert sum(file["reconnects"] for file in told["files"]) == 1
    # Any file may be read alone.
    for file in files(tmp_path):
        check("binance", [file], symbols=SYMBOLS)


async def test_a_symbol_that_is_not_listed_ends_it_with_2(tmp_path: Path) -> None:
    async with SimulatedExchange(SYMBOLS, seed=5) as sim:
        listings = parse_symbols("binance:NOSUCHUSDT")
        recording = Recording(settings_for(sim), listings, tmp_path, clock=None)
        async with asyncio.timeout(5):
            assert (await recording.run()).status == 2


async def test_what_is_left_out_is_told_and_fails_the_run(tmp_path: Path) -> None:
    async def quietly(_: SimulatedExchange, recording: Recording) -> None:
        recording.recorders["binance"].queue._bytes_max = 1_000
        await frames(recording, 100)

    run = await recorded(tmp_path, quietly)
    told = run.venues["binance"]
    assert run.status == 1
    assert told["dropped"] > 0
    in_reports = sum(file["dropped"]["frames"] for file in told["files"])
    assert in_reports == told["dropped"]
    assert told["recorded"] < told["frames"]


async def test_it_ends_by_itself_after_its_time(tmp_path: Path) -> None:
    async with SimulatedExchange(SYMBOLS, seed=5) as sim:
        listings = parse_symbols("binance:BTCUSDT")
        recording = Recording(settings_for(sim), listings, tmp_path, clock=None)
        async with asyncio.timeout(5):
            assert (await recording.run(0.5)).status == 0


async def test_a_folder_that_can_not_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with SimulatedExchange(SYMBOLS, seed=5) as sim:
        with pytest.raises(ConfigError, match="--out"):
            Recording(
                settings_for(sim), parse_symbols("binance:BTCUSDT"), tmp_path / "file", clock=None
            )


@pytest.mark.slow
async def test_sigterm_ends_the_command_with_its_files_finished(tmp_path: Path) -> None:
    async with SimulatedExchange(SYMBOLS, seed=5, rate=100.0) as sim:
        process = await start(
            "record",
            "binance:BTCUSDT",
            "--out",
            str(tmp_path / "tape"),
            "--json",
            NT_BINANCE_STREAM_URL=sim.stream_url,
            NT_BINANCE_REST_URL=sim.rest_url,
        )
        try:
            await until(lambda: any(sum(s.sent.values()) > 50 for s in sim.sessions), 20)
        finally:
            process.terminate()
        out, _ = await process.communicate()
    assert process.returncode == 0
    told = json.loads(out.splitlines()[-1])["venues"]["binance"]
    assert all(file["complete"] for file in told["files"])
    compared(told, tmp_path / "tape")


@pytest.mark.slow
async def test_a_bridge_records_what_its_sockets_bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = FakeBroker(4)
    monkeypatch.setattr(kafka_writer, "_producer", broker.producer)
    monkeypatch.setattr(bridge_module, "Scripts", lambda *_: FakeScripts())
    async with SimulatedExchange(SYMBOLS, seed=5, rate=100.0) as sim:
        settings = settings_for(
            sim,
            kafka_url="kafka://127.0.0.1:1",
            redis_url="redis://127.0.0.1:1/0",
            symbols="binance:BTCUSDT,binance:ETHUSDT",
            partitions=4,
            bridge_port=0,
            record_dir=str(tmp_path / "tape"),
        )
        bridge = Bridge(settings)
        running = asyncio.create_task(bridge.run())
        source = bridge._sockets["binance"]
        async with asyncio.timeout(10):
            while source.counts.frames < 100:
                assert not running.done(), running
                await asyncio.sleep(0.01)
        bridge.stop()
        assert await running == 0
    found = check("binance", files(tmp_path / "tape"))
    assert found.frames == source.counts.frames
    assert found.counts.events == source.assembler.counts.events
    assert bridge.recorders["binance"].dropped == 0
    assert [file.name.partition("-")[0] for file in files(tmp_path / "tape")] == ["binance"]


@pytest.mark.slow
async def test_a_venue_that_is_followed_later_is_recorded_too(tmp_path: Path) -> None:
    """No file before; then the header names what is followed by then."""
    settings = load_settings(
        {},
        kafka_url="kafka://127.0.0.1:1",
        redis_url="redis://127.0.0.1:1/0",
        symbols="binance:BTCUSDT",
        record_dir=str(tmp_path),
    )
    bridge = Bridge(settings)
    bridge.follow(Listing("kraken", "BTC/USD", "BTCUSD"))
    bridge.follow(Listing("kraken", "ETH/USD", "ETHUSD"))
    bridge.unfollow(Listing("kraken", "BTC/USD", "BTCUSD"))
    kraken = bridge.recorders["kraken"]
    assert bridge._sockets["kraken"].tap is kraken
    kraken.start()
    kraken.opened("c1", "wss://kraken", 1_000)
    kraken.close()
    (file,) = files(tmp_path)
    assert file.name.startswith("kraken-")
    assert kraken.reports[0].symbols == ("ETH/USD",)
