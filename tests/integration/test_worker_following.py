"""Symbols that commands have added: served by workers of which SYMBOLS does not name them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streams import topics
from streams.commands import RoutingState, encode
from streams.routing import Routing
from streams.symbols import Listing, parse_symbols
from tests.support.tape import Tape, opened
from tests.support.worker import SYMBOL, Client, Installation, eventually, report_at, report_of

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

NAMED = "binance:ETHUSDT"


@pytest.fixture
async def one(kafka_url: str, redis_url: str) -> AsyncIterator[Installation]:
    """``SYMBOLS`` names another symbol than the one that tapes are of."""
    installation = Installation(kafka_url, redis_url, symbols=NAMED, env={"NT_CLOCK": "records"})
    installation.env["NT_ROUTING_TOPIC"] = f"{installation.name}.routing"
    await installation.apply_topics()
    async with topics.admin_of(kafka_url) as admin:
        settings = installation.settings()
        routing = [t for t in topics.plan(settings) if t.name == settings.routing_topic]
        await topics.apply(admin, routing)
    yield installation
    await installation.close()


def state_after(*commands: bytes, symbols: str = NAMED) -> RoutingState:
    routing = Routing(parse_symbols(symbols))
    for offset, command in enumerate(commands):
        routing.take(offset, command)
    return routing.state()


async def keep(one: Installation, state: RoutingState) -> None:
    """As a bridge keeps it."""
    async with one.producer() as producer:
        await producer.send_and_wait(one.settings().routing_topic, encode(state), b"routing")


def wish(type_: str) -> bytes:
    listing = Listing("binance", SYMBOL, SYMBOL)
    fields = f'"venue":"{listing.venue}","symbol":"{listing.symbol}"'
    return f'{{"v":1,"command_id":"{type_}","type":"{type_}",{fields}}}'.encode()


def trades(tape: Tape, count: int) -> Tape:
    for _ in range(count):
        tape.wait(20).trade(6_000_000, 5)
    return tape


async def test_a_symbol_added_while_the_worker_runs_gets_its_whole_report(
    one: Installation, redis: Client
) -> None:
    """Also of records that came before the worker knew; and a restart goes on from its checkpoint."""
    worker = await one.worker()
    await worker.ready()
    tape = trades(opened(), 20)
    await one.write_tape(tape.records)

    async def passed() -> bool:
        return await one.committed() == len(tape.records)

    await eventually(passed, what=f"the records passed over; {worker.tail()}")
    assert await report_of(redis) is None
    await keep(one, state_after(wish("subscribe")))
    report = await report_at(redis, len(tape.records) - 1, worker=worker)
    assert report["flow"]["trade_count"] == 20
    assert report["ingestion"]["book"] == "ok"
    assert [entry["symbols"] for entry in worker.logged("symbols.followed")] == [[SYMBOL]]
    assert await worker.stopped() == 0

    worker = await one.worker()
    await worker.ready()
    trades(tape, 5)
    await one.write_tape(tape.records[-5:])
    report = await report_at(redis, len(tape.records) - 1, worker=worker)
    assert report["flow"]["trade_count"] == 25
    assert worker.logged("symbols.followed") == []


async def test_a_symbol_removed_is_not_served_by_the_next_start_though_symbols_names_it(
    one: Installation, redis: Client
) -> None:
    one.symbols = f"{NAMED},binance:{SYMBOL}"
    await keep(one, state_after(wish("unsubscribe"), symbols=one.symbols))
    worker = await one.worker()
    await worker.ready()
    tape = trades(opened(), 5)
    await one.write_tape(tape.records)

    async def passed() -> bool:
        return await one.committed() == len(tape.records)

    await eventually(passed, what=f"the records passed over; {worker.tail()}")
    assert await report_of(redis) is None
