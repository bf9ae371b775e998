"""Commands carried out by the bridge, with made-up venues, broker, Redis and control topics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from streams import bridge as bridge_module
from streams import kafka_writer, subscriptions
from streams.bridge import Bridge
from streams.commands import RoutingState, decode_state
from streams.control import Record
from streams.events import Event, FeedStatus, decode
from streams.sources import Sink, SourceCounts
from streams.symbols import Listing
from streams.topics import partition_of
from tapeline.config import load_settings
from tests.support.bridge import NOW_MS, FakeAssembler, delta, snapshot, status
from tests.support.bridge_fakes import FakeBroker, FakeScripts

PARTITIONS = 4
BTC = "BTCUSDT"


class FakeSockets:
    """A venue's sockets: open, and silent until a test says something."""

    def __init__(self, listings: Sequence[Listing]) -> None:
        self.assembler = FakeAssembler(listings)
        self.assembler.venue = "binance"
        self.counts = SourceCounts()
        self.sink: Sink
        self.running = asyncio.Event()

    async def run(self, sink: Sink) -> None:
        self.sink = sink
        sink.accept("binance", self.assembler.connected(NOW_MS))
        self.running.set()
        await asyncio.Event().wait()

    def add(self, listing: Listing) -> list[Event]:
        return self.assembler.add(listing, NOW_MS)

    def remove(self, symbol: str) -> list[Event]:
        return self.assembler.remove(symbol, NOW_MS)

    def say(self, *events: Event) -> None:
        self.sink.accept("binance", events)


class FakeLog:
    """The control topics: what is written is kept, and commands written are read."""

    made: FakeLog

    def __init__(self, sink: Any, **_: Any) -> None:
        FakeLog.made = self
        self.ready = asyncio.Event()
        self.sink = sink
        self.written: list[tuple[str, bytes | None, bytes | None]] = []
        self.kept: RoutingState | None = None
        self.commands: list[bytes] = []
        self.stopped = False

    async def run(self) -> None:
        if self.kept is not None:
            self.sink.restored(self.kept)
        self.ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped = True

    def write(self, topic: str, key: bytes | None, value: bytes | None, *_: Any) -> None:
        self.written.append((topic, key, value))

    def put(self, *values: bytes) -> None:
        first = len(self.commands)
        self.commands += values
        self.sink.commands([Record(first + n, b"", value) for n, value in enumerate(values)])

    def deliver(self) -> None:
        """What the bridge itself has written to the command topic comes back."""
        undone = [v for topic, _, v in self.written if topic == "control.commands.v1" and v]
        self.written = [w for w in self.written if w[0] != "control.commands.v1"]
        self.put(*undone)

    def told(self) -> list[dict[str, Any]]:
        return [
            orjson.loads(v or b"") for topic, _, v in self.written if topic == "ops.telemetry.v1"
        ]

    def answers(self) -> list[dict[str, Any]]:
        return [one for one in self.told() if one["event"] == "command.acknowledged"]

    def state(self) -> RoutingState:
        newest = [v for topic, _, v in self.written if topic == "control.routing.v1"][-1]
        state = decode_state(newest)
        assert state is not None
        return state


def command(type_: str, symbol: str, command_id: str = "", **more: Any) -> bytes:
    wish = {"v": 1, "type": type_, "venue": "binance", "symbol": symbol}
    return orjson.dumps(wish | {"command_id": command_id or f"{type_}-{symbol}"} | more)


class Running:
    def __init__(self, symbols: str, kept: RoutingState | None) -> None:
        settings = load_settings(
            {},
            kafka_url="kafka://127.0.0.1:1",
            redis_url="redis://127.0.0.1:1/0",
            symbols=symbols,
            partitions=PARTITIONS,
            bridge_port=0,
            lease_ttl_ms=400,
            node_id="b1",
        )
        self.bridge = Bridge(settings, flush_s=0.3)
        self.log = FakeLog.made
        self.log.kept = kept
        self.task = asyncio.create_task(self.bridge.run())

    @property
    def sockets(self) -> FakeSockets:
        (source,) = self.bridge._sources
        assert isinstance(source, FakeSockets)
        return source

    @property
    def lines(self) -> dict[str, Any]:
        return self.bridge.feeds["binance"].lines

    async def until(self, true: Any) -> None:
        async with asyncio.timeout(3):
            while not true():
                assert not self.task.done(), self.task
                await asyncio.sleep(0.005)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    made = FakeBroker(PARTITIONS)
    monkeypatch.setattr(kafka_writer, "_producer", made.producer)
    monkeypatch.setattr(kafka_writer, "RETIRE_S", 0.02)
    return made


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> FakeScripts:
    made = FakeScripts()
    monkeypatch.setattr(bridge_module, "Scripts", lambda *_: made)
    monkeypatch.setattr(subscriptions, "ControlLog", FakeLog)
    monkeypatch.setattr(
        bridge_module, "socket_sources", lambda _, listings, *__, **___: [FakeSockets(listings)]
    )
    return made


@asynccontextmanager
async def running(
    symbols: str = "binance:BTCUSDT", kept: RoutingState | None = None
) -> AsyncIterator[Running]:
    made = Running(symbols, kept)
    try:
        await made.until(made.sockets.running.is_set)
        await made.until(lambda: all(line.token for line in made.lines.values()))
        yield made
    finally:
        made.bridge.stop()
        await asyncio.gather(made.task, return_exceptions=True)


def written(broker: FakeBroker, symbol: str) -> list[Any]:
    values = broker.log.get(partition_of(symbol, PARTITIONS), [])
    return [event for value in values if (event := decode(value)).symbol == symbol]


async def test_a_subscription_is_carried_out_leased_and_answered_with_its_first_data(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running() as r:
        r.log.put(command("subscribe", "SOLUSDT", "a"))
        assert [*r.lines] == ["BTCUSDT", "SOLUSDT"]
        await r.until(lambda: bool(r.lines["SOLUSDT"].token))
        r.sockets.say(status("SOLUSDT", "connected", venue="binance"))
        assert r.log.answers() == [], "that it is connected is said of it, not by it"
        r.sockets.say(snapshot("SOLUSDT"))
        (answer,) = r.log.answers()
        assert (answer["event"], answer["status"]) == ("command.acknowledged", "success")
        assert (answer["command_id"], answer["decision_id"]) == ("a", "a")
        assert (answer["node_id"], answer["routing_version"]) == ("b1", 2)
        r.sockets.say(delta(BTC))
        await r.until(
            lambda: len(written(broker, BTC)) >= 3 and len(written(broker, "SOLUSDT")) >= 2
        )
        assert written(broker, BTC)[-1].routing_version == 2
        assert r.log.state().symbols == ["binance:BTCUSDT", "binance:SOLUSDT"]


async def test_an_unsubscription_ends_in_a_goodbye_and_frees_the_lease(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running("binance:BTCUSDT,binance:ETHUSDT") as r:
        r.log.put(command("unsubscribe", BTC, "a"))
        assert [*r.lines] == ["ETHUSDT"]
        assert r.bridge.feeds["binance"].connected
        r.sockets.say(delta(BTC))
        await r.until(lambda: len(scripts.held) == 1)
        await r.until(lambda: r.bridge.outbox.depth == 0)
        last = written(broker, BTC)[-1]
        assert isinstance(last, FeedStatus)
        assert (last.status, last.reason, last.routing_version) == ("disconnected", "removed", 2)
        assert [answer["status"] for answer in r.log.answers()] == ["success"]
        r.bridge.feeds["binance"].lost(BTC)  # an outbox that overflows may hold some of its records


async def test_the_last_symbol_may_go_and_another_one_come(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running() as r:
        r.log.put(command("unsubscribe", BTC))
        assert r.lines == {}
        assert r.bridge.health()[1]["venues"] == {}
        await asyncio.sleep(0.05)
        assert not r.task.done()
        r.log.put(command("subscribe", "SOLUSDT"))
        await r.until(lambda: bool(r.lines["SOLUSDT"].token))
        r.log.put(command("unsubscribe", "SOLUSDT"))
        r.bridge.stop()
        assert await r.task == 0, "to follow nothing is no mistake in SYMBOLS"


@pytest.mark.parametrize("how", ["unlisted", "refused"])
async def test_what_the_venue_refuses_is_undone_by_a_command(
    how: str, broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running() as r:
        r.log.put(command("subscribe", "NOPEUSDT", "a"))
        if how == "unlisted":
            r.bridge.unlisted("binance", "NOPEUSDT")
        else:
            said = status("NOPEUSDT", "disconnected", reason="refused", venue="binance")
            said.detail = "2 'NOPEUSDT' is not for you"
            r.sockets.say(said)
        assert r.lines["NOPEUSDT"].closed
        assert r.log.answers() == []
        r.log.deliver()
        assert [*r.lines] == [BTC]
        (answer,) = r.log.answers()
        assert (answer["command_id"], answer["status"]) == ("a", "error")
        assert "'NOPEUSDT'" in answer["error"]
        assert r.bridge.feeds["binance"].connected
        r.bridge.unlisted("binance", "NOPEUSDT")  # an answer that comes late
        await asyncio.sleep(0.02)
        assert not r.task.done(), "the others go on"


async def test_what_the_connection_does_not_carry_is_undone_too(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running() as r:
        r.log.put(command("subscribe", "FULLUSDT", "a"))
        assert "FULLUSDT" not in r.lines
        r.log.deliver()
        (answer,) = r.log.answers()
        assert (answer["status"], answer["routing_version"]) == ("error", 3)
        assert "room on the connection" in answer["error"]


async def test_a_start_follows_the_set_that_was_kept(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running() as r:
        r.log.put(command("unsubscribe", BTC), command("subscribe", "SOLUSDT"))
        kept = r.log.state()
    async with running(kept=kept) as r:
        assert [*r.lines] == ["SOLUSDT"]
        assert r.bridge.feeds["binance"].routing_version == 3
        assert ("connected",) in r.sockets.assembler.calls
        assert r.sockets.assembler.calls[0] == ("remove", BTC), "before any socket is opened"
        assert r.bridge.subscriptions is not None
        (overruled,) = r.bridge.subscriptions.routing.overruled()
        assert overruled.symbol == BTC


async def test_a_broker_that_is_away_does_not_keep_the_venues_waiting(
    broker: FakeBroker, scripts: FakeScripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: FakeLog) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(FakeLog, "run", never)
    monkeypatch.setattr(bridge_module, "COMMANDS_S", 0.05)
    async with running() as r:
        assert [*r.lines] == [BTC]
        # It comes back while the sockets are open.
        r.log.sink.restored(
            RoutingState(v=1, applied=4, routing_version=7, symbols=["binance:BTCUSDT"])
        )
        assert r.bridge.feeds["binance"].routing_version == 7


async def test_what_is_no_command_goes_to_the_dead_letters(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running() as r:
        r.log.put(b"{", command("set_trading_mode", BTC, "m"))
        letters = [value for topic, _, value in r.log.written if topic.endswith(".dlq")]
        assert letters == r.log.commands
        (answer,) = r.log.answers()
        assert (answer["command_id"], answer["status"]) == ("m", "error")
        assert r.lines[BTC].token


async def test_metrics_and_health_say_which_set_it_is(
    broker: FakeBroker, scripts: FakeScripts
) -> None:
    async with running() as r:
        r.log.put(command("subscribe", "SOLUSDT"))
        assert r.bridge.health()[1]["routing_version"] == 2
        (sample,) = [
            sample
            for family in r.bridge.probe._registry.collect()
            for sample in family.samples
            if sample.name == "tapeline_bridge_routing_version"
        ]
        assert sample.value == 2
