"""Metrics of a venue, a bridge, a worker and a reader that are real, against what really happened.

The simulated venue knows what it has sent, broken and cut; clients know what they asked. Markets are
frozen whenever figures are compared, so that nothing is under way.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from streams.simulator.faults import by_fault
from tapeline.metrics.alerts import names_in
from tapeline.metrics.docs import RULES
from tapeline.metrics.live import families
from tapeline.stack.ports import free_port
from tapeline.stack.processes import ChildProcess
from tests.support.dashboards import concrete, expressions
from tests.support.house import House, house
from tests.support.imports import ROOT
from tests.support.scrapes import Scrape, Targets, scrape, targets_of
from tests.support.worker import eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.slow(limit_s=240),
]

SYMBOLS = ("BTCUSDT", "ETHUSDT")
OF_TRACES = {"tapeline_trace_spans_total"}
"""There while spans are made, and none are here."""

RATE = 160.0
"""Book changes a second and symbol; a thirtieth or so of it are trades."""

BROKEN = 3
CUT = 2
CLIENTS = 3
PATIENT_S = 60.0
"""On a machine that has much else to do."""

CHANNELS = ("reports.fast", "ticks")


class Chain:
    """A whole house that runs, and its metrics."""

    def __init__(self, home: House, targets: Targets) -> None:
        self.home, self.sim, self.targets = home, home.sim, targets

    async def worker(self) -> Scrape:
        return await scrape(self.home.http, self.targets.worker)

    async def bridge(self) -> Scrape:
        return await scrape(self.home.http, self.targets.bridge)

    async def reader(self) -> Scrape:
        return await scrape(self.home.http, self.targets.reader)

    def frames(self) -> int:
        """That the venue has sent, replies included."""
        return int(self.sim.state()["frames"])

    def trades(self) -> int:
        """That the venue has sent, broken ones included."""
        return sum(one["sent"].get("trade", 0) for one in self.sim.state()["symbols"].values())

    async def frozen(self) -> None:
        """Markets stand still, and everybody has counted what there was."""
        self.sim.freeze()

        async def all_here() -> bool:
            bridge, worker = await self.bridge(), await self.worker()
            kind = "trade"
            return bridge.value("tapeline_bridge_frames_total") == self.frames() and (
                worker.value("tapeline_records_applied_total", kind=kind)
                == bridge.value("tapeline_bridge_records_total", kind=kind)
            )

        await eventually(all_here, what=f"every frame and trade counted; {await self.told()}")

    async def running_for(self, trades: int) -> None:
        """Markets go on until there have been so many more."""
        before = self.trades()
        self.sim.thaw()

        async def enough() -> bool:
            return self.trades() - before >= trades

        await eventually(enough, what=f"{trades} trades")

    async def told(self) -> str:
        """Where figures stand, for a failure's message."""
        bridge, worker = await self.bridge(), await self.worker()
        return (
            f"venue: {self.frames()} frames, {self.trades()} trades; bridge: "
            f"{bridge.value('tapeline_bridge_frames_total')}, "
            f"{bridge.value('tapeline_bridge_records_total', kind='trade')}; worker: "
            f"{worker.value('tapeline_records_applied_total', kind='trade')}"
        )


@asynccontextmanager
async def chain(kafka_url: str, redis_url: str) -> AsyncIterator[Chain]:
    """All of it, once each symbol is written and each book is in sync."""
    async with house(kafka_url, redis_url, SYMBOLS, RATE) as home:
        await home.serve()
        await home.bridge()
        worker = await home.one.worker()
        await worker.ready(PATIENT_S)
        one = Chain(home, await targets_of(home, worker))

        async def all_well() -> bool:
            worker, bridge = await one.worker(), await one.bridge()
            return (
                worker.value("tapeline_symbol_owned") == len(SYMBOLS)
                and bridge.value("tapeline_bridge_in_sync") == len(SYMBOLS)
                and all(worker.value("nt_reports_published_total", symbol=s) for s in SYMBOLS)
            )

        await eventually(all_well, PATIENT_S, f"a chain that is well; {home.tail('bridge')}")
        yield one


async def test_metrics_tell_what_the_venue_and_the_clients_know(
    kafka_url: str, redis_url: str
) -> None:
    async with chain(kafka_url, redis_url) as one:
        await the_families_are_those_of_the_catalogue(one)
        await frames_and_trades_are_those_that_the_venue_sent(one)
        await what_was_broken_and_cut_is_counted(one)
        await owners_and_records_add_up(one)
        await subscribers_are_those_that_there_are(one)
        await calls_are_those_that_were_made(one)
        await labels_go_with_partitions_and_symbols(one)


async def the_families_are_those_of_the_catalogue(one: Chain) -> None:
    """Of each process; and what dashboards and rules ask for is among them."""
    known = families().values()
    seen: set[str] = set()
    for component, url in one.targets.named().items():
        expected = {
            family.name
            for family in known
            if component in family.components and family.name not in OF_TRACES
        }

        async def all_there(url: str = url, expected: set[str] = expected) -> Scrape | None:
            # A reader's MCP server is imported once it answers.
            found = await scrape(one.home.http, url)
            return found if found.families == expected else None

        try:
            found = await eventually(all_there, what=f"families of the {component}")
        except AssertionError:
            found = await scrape(one.home.http, url)
            assert found.families == expected, component
        assert found.value("tapeline_build_info", component=component) == 1
        seen |= {
            name for family in known if family.name in found.families for name in family.series
        }
    rules = ROOT / RULES
    recorded: set[str] = set()
    asked: dict[str, set[str]] = {}
    for file in sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")):
        for where, expr in expressions(json.loads(file.read_text())):
            asked[f"{file.stem}: {where.panel}"] = names_in(expr)
    if rules.exists():
        for group in yaml.safe_load(rules.read_text())["groups"]:
            for rule in group["rules"]:
                recorded |= {rule["record"]} if "record" in rule else set()
                asked[rule.get("alert", rule.get("record"))] = names_in(rule["expr"])
    assert len(asked) > 100
    for where, names in asked.items():
        assert names <= seen | recorded, where


async def frames_and_trades_are_those_that_the_venue_sent(one: Chain) -> None:
    await one.frozen()
    before, sent = await one.bridge(), one.trades()
    await one.running_for(15)
    await one.frozen()
    after = await one.bridge()
    made = "tapeline_bridge_records_total"
    assert after.value(made, kind="trade") - before.value(made, kind="trade") == one.trades() - sent
    assert after.value("tapeline_bridge_frames_total", venue="binance") == one.frames()
    assert after.value("tapeline_bridge_frame_errors_total") == 0
    assert after.value("tapeline_bridge_reconnects_total") == 0


async def what_was_broken_and_cut_is_counted(one: Chain) -> None:
    """Frames that are no JSON, and sockets that are gone."""
    before, sent = await one.bridge(), one.trades()
    one.sim.add_faults(f"malform@0::trade,count={BROKEN}")
    one.sim.thaw()

    async def missed() -> bool:
        # A trade is missed when the next one of its symbol comes.
        missing = (await one.bridge()).value("tapeline_bridge_trades_missing_total")
        return bool(missing == BROKEN)

    await eventually(missed, PATIENT_S, "broken trades missed")
    await one.frozen()
    broken = by_fault(one.sim.faults.counts)["malform"]
    assert broken == BROKEN
    after = await one.bridge()
    made = "tapeline_bridge_records_total"
    for name, count in {
        "tapeline_bridge_frame_errors_total": broken,
        "tapeline_bridge_connects_total": 0,
    }.items():
        assert after.value(name) - before.value(name) == count, name
    seen = after.value(made, kind="trade") - before.value(made, kind="trade")
    assert seen == one.trades() - sent - broken

    for n in range(1, CUT + 1):
        for session in list(one.sim.sessions):
            session.abort("cut")

        async def back(n: int = n) -> bool:
            return one.sim.counts["accepted"] == n + 1 and len(one.sim.sessions) == 1

        await eventually(back, what=f"socket {n + 1}; {one.home.tail('bridge')}")
    await one.running_for(6)
    await one.frozen()
    after = await one.bridge()
    assert after.value("tapeline_bridge_connects_total") == one.sim.counts["accepted"] == CUT + 1
    assert after.value("tapeline_bridge_reconnects_total") == one.sim.counts["cut"] == CUT
    assert after.value("nt_ws_resubscribe_total", venue="binance") == CUT
    assert after.value("tapeline_bridge_connected", venue="binance") == 1

    async def kept() -> bool:
        return (await one.bridge()).value("tapeline_bridge_dead_letters_total") == broken

    await eventually(kept, what="dead letters acknowledged")


async def owners_and_records_add_up(one: Chain) -> None:
    """What one process hands on, the next one takes."""

    async def equal() -> bool:
        # Signs of life go on in a frozen market: both are looked at again until neither is late.
        bridge, worker = await one.bridge(), await one.worker()
        return bridge.value("tapeline_bridge_acknowledged_total") == worker.value(
            "tapeline_records_applied_total"
        )

    await eventually(equal, what=f"as many applied as acknowledged; {await one.told()}")
    worker = await one.worker()
    assert worker.value("nt_symbols_assigned") == worker.value("tapeline_symbols_known") == 2
    for symbol in SYMBOLS:
        assert worker.value("tapeline_symbol_owned", symbol=symbol) == 1
        assert worker.value("nt_data_age_seconds_count", symbol=symbol) > 0
    assert worker.value("nt_node_heartbeat") == 1
    assert worker.value("nt_lease_conflicts_total") == 0
    assert worker.value("tapeline_dead_letters_total") == 0


async def subscribers_are_those_that_there_are(one: Chain) -> None:
    followed = len(CHANNELS) * len(SYMBOLS)
    wish = {"op": "subscribe", "id": "1", "channels": [*CHANNELS], "symbols": [*SYMBOLS]}

    async def counted(clients: int) -> bool:
        reader = await one.reader()
        return (
            reader.value("tapeline_hub_connections") == clients
            and reader.value("tapeline_hub_subscribers") == clients * followed
            and reader.value("tapeline_hub_streams") == (followed if clients else 0)
        )

    async with AsyncExitStack() as clients:
        for _ in range(CLIENTS):
            address = f"{one.home.url}/ws"
            socket = await clients.enter_async_context(one.home.http.ws_connect(address))
            await socket.send_json(wish)
        await eventually(lambda: counted(CLIENTS), what=f"{CLIENTS} clients counted")
        await socket.send_json({**wish, "id": "2", "channels": ["nothing"]})

        async def refused() -> bool:
            return (await one.reader()).value("tapeline_hub_refused_total") == 1

        await eventually(refused, what="a refused request counted")
    await eventually(lambda: counted(0), what="that they have left")
    reader = await one.reader()
    assert reader.value("tapeline_hub_subscribers_peak") == CLIENTS * followed
    assert reader.value("tapeline_hub_session_seconds_count") == CLIENTS
    assert reader.value("tapeline_hub_broadcast_errors_total") == 0


async def calls_are_those_that_were_made(one: Chain) -> None:
    requests = "tapeline_http_requests_total"
    before = await one.reader()
    for _ in range(5):
        assert (await one.home.ask("/get_report?symbol=BTCUSDT"))[0] == 200
    for _ in range(2):
        assert (await one.home.ask("/get_report?symbol=btc"))[0] == 422
    after = await one.reader()
    for status, count in {"200": 5, "422": 2}.items():
        labels = {"route": "/get_report", "status": status}
        assert after.value(requests, **labels) - before.value(requests, **labels) == count
    ages = "tapeline_report_age_seconds_count"
    assert after.value(ages, symbol="BTCUSDT") - before.value(ages, symbol="BTCUSDT") == 5


async def labels_go_with_partitions_and_symbols(one: Chain) -> None:
    """A second worker takes a part of them: no series of that part stays with the first."""
    first = one.home.one.workers[0]
    second = await one.home.one.worker(NT_NODE_ID=f"{one.home.one.name}-c")
    by_partition = ("tapeline_position", "tapeline_committed_offset", "tapeline_end_offset")
    by_symbol = ("nt_data_age_seconds_count", "nt_reports_published_total", "tapeline_symbol_owned")

    async def shared() -> bool:
        seats: list[int] = []
        owners: list[str] = []
        for worker in (first, second):
            health = await worker.health()
            if health is None or not health["assigned"] or not health["partitions"]:
                return False
            found = await scrape(one.home.http, f"http://127.0.0.1:{worker.port}/metrics")
            labels = [(name, dict(has)) for name, has in found.samples]
            partitions = {int(has["partition"]) for name, has in labels if name in by_partition}
            symbols = {has["symbol"] for name, has in labels if name in by_symbol}
            if partitions - {*health["partitions"]} or symbols - {*health["owned_symbols"]}:
                return False
            seats += health["partitions"]
            owners += health["owned_symbols"]
        return len(seats) == len({*seats}) == 4 and sorted(owners) == sorted(SYMBOLS)

    await eventually(shared, PATIENT_S, f"two workers, each with its own series; {second.tail()}")


# --- with the tools of Prometheus, where they are ----------------------------------------------------


@pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")),
    reason="prometheus is not installed",
)
async def test_prometheus_takes_the_scrapes_and_answers_every_panel(
    kafka_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with chain(kafka_url, redis_url) as one:
        for component, url in one.targets.named().items():
            found = await scrape(one.home.http, url)
            await promtool_has_nothing_to_say(component, found.text)
        await one.home.ask("/get_report?symbol=BTCUSDT")
        async with prometheus(one.targets, tmp_path) as url:
            await every_query_is_answered(one.home, url)


async def promtool_has_nothing_to_say(component: str, text: str) -> None:
    child = await asyncio.create_subprocess_exec(
        *("promtool", "check", "metrics"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await child.communicate(text.encode())
    assert child.returncode == 0, f"{component}:\n{said.decode()}"


@asynccontextmanager
async def prometheus(targets: Targets, folder: Path) -> AsyncIterator[str]:
    """One that has scraped all three processes often enough for a rate."""
    port = free_port()
    config = folder / "prometheus.yml"
    jobs = [
        {"job_name": f"tapeline-{name}", "static_configs": [{"targets": [url.split("/")[2]]}]}
        for name, url in targets.named().items()
    ]
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    child = ChildProcess(
        "prometheus",
        [
            str(shutil.which("prometheus")),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
    )
    await child.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await child.stop(grace_s=5)


async def ask(home: House, url: str, expr: str) -> list[dict[str, Any]]:
    """Series that answer a query now."""
    async with home.http.get(f"{url}/api/v1/query", params={"query": expr}) as answer:
        body = json.loads(await answer.read())
        assert body["status"] == "success", (expr, body)
        found: list[dict[str, Any]] = body["data"]["result"]
        return found


SILENT_WHERE_ALL_IS_WELL = {
    "tapeline_bridge_dead_letters_dropped_total", "tapeline_bridge_producers_replaced_total",
    "tapeline_bridge_recorder_dropped_total", "tapeline_bridge_recorder_failed",
    "tapeline_bridge_recorder_queue_bytes", "tapeline_bridge_requests_refused_total",
    "tapeline_http_refused_total", "tapeline_hub_coalesced_total", "tapeline_hub_refused_total",
    "tapeline_mcp_call_seconds_bucket", "tapeline_mcp_calls_total", "tapeline_merge_total",
    "tapeline_stall_seconds", "tapeline_stalls_total",
}  # fmt: skip
"""They have no series in a house without trouble, without a recorder, and without such calls."""


async def every_query_is_answered(home: House, url: str) -> None:
    async def scraped() -> bool:
        try:
            async with home.http.get(f"{url}/-/ready") as answer:
                if answer.status != 200:
                    return False
        except aiohttp.ClientError:
            return False
        rates = await ask(home, url, "count(rate(process_cpu_seconds_total[10s]))")
        return bool(rates) and rates[0]["value"][1] == "3"

    await eventually(scraped, PATIENT_S, "two scrapes of each process")
    boards = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
    asked = [
        (file.stem, where.panel, concrete(expr, "20s"))
        for file in boards
        for where, expr in expressions(json.loads(file.read_text()))
    ]
    assert len(asked) > 100
    silent: list[tuple[str, str, str]] = []

    async def none_is_silent() -> bool:
        silent[:] = [
            (board, panel, expr)
            for board, panel, expr in asked
            # What is compared lists only what is wrong.
            if not expr.endswith((" > 0", " == 0"))
            and not names_in(expr) <= SILENT_WHERE_ALL_IS_WELL
            and not await ask(home, url, expr)
        ]
        return not silent

    try:
        await eventually(none_is_silent, PATIENT_S, "an answer to every query")
    except AssertionError:
        assert silent == []
    for _, _, expr in asked:
        await ask(home, url, expr)
