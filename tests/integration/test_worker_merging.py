"""Merged windows by a real worker on a real Kafka: written once, and told where they are not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streams import topics
from streams.commands import encode
from streams.merged import Merged, decode
from streams.routing import Routing
from streams.symbols import parse_symbols
from tests.support.tape import Tape
from tests.support.worker import SYMBOL, Installation, WorkerProcess, eventually, total

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

LISTINGS = f"binance:{SYMBOL},kraken:BTC/USDT>{SYMBOL}"
VENUES = ("binance", "kraken")


@pytest.fixture
async def one(kafka_url: str, redis_url: str) -> AsyncIterator[Installation]:
    installation = Installation(kafka_url, redis_url, symbols=LISTINGS)
    named = {kind: f"{installation.name}.{kind}" for kind in ("routing", "merged", "telemetry")}
    installation.env |= {f"NT_{kind.upper()}_TOPIC": name for kind, name in named.items()}
    installation.env["NT_ENABLE_STREAMS"] = "true"
    await installation.apply_topics()
    async with topics.admin_of(kafka_url) as admin:
        plan = topics.plan(installation.settings())
        await topics.apply(admin, [topic for topic in plan if topic.name in named.values()])
    yield installation
    await installation.close()


async def ask(one: Installation, type_: str = "merged_subscribe", window_s: float = 1.0) -> None:
    """As a bridge keeps what a command has come to."""
    routing = Routing(parse_symbols(LISTINGS))
    wish = {"v": 1, "command_id": "m", "type": type_, "symbol": SYMBOL, "kinds": ["trade"]}
    (answer,) = routing.take(0, json.dumps(wish | {"window_s": window_s}).encode()).answers
    assert answer.status == "success"
    async with one.producer() as producer:
        state = encode(routing.state())
        await producer.send_and_wait(one.settings().routing_topic, state, b"routing")


async def merged(one: Installation) -> list[Merged]:
    return [decode(record.value) for record in await one.read(one.settings().merged_topic)]


async def told(one: Installation) -> list[dict[str, Any]]:
    records = await one.read(one.settings().telemetry_topic)
    return [json.loads(record.value) for record in records]


class Trades:
    """Two venues' trades on one partition."""

    def __init__(self, one: Installation) -> None:
        self.one = one
        self.tapes = {venue: Tape(venue=venue) for venue in VENUES}

    async def begin(self, worker: WorkerProcess) -> None:
        """What is there when a writer begins is passed over: give it something, and see it gone."""
        applied = total(await worker.metrics(), "tapeline_records_applied_total")
        await self.write((0, "binance"))

        async def passed() -> bool:
            return total(await worker.metrics(), "tapeline_records_applied_total") > applied

        await eventually(passed, what=f"a record applied; {worker.tail()}")

    async def write(self, *steps: tuple[int, str]) -> None:
        """(milliseconds since the one before, venue) of each."""
        records = []
        for wait_ms, venue in steps:
            for tape in self.tapes.values():
                tape.wait(wait_ms)
            records.append((0, self.tapes[venue].trade(6_000_000, 5)))
        await self.one.write_tape(records)


def sent(one: Merged) -> list[str]:
    return [json.loads(bytes(raw))["venue"] for raw in one.events]


async def test_complete_windows_are_written_and_others_told(one: Installation) -> None:
    await ask(one)
    worker = await one.worker()
    await worker.ready()
    trades = Trades(one)
    await trades.begin(worker)
    await trades.write((0, "binance"), (300, "kraken"), (300, "binance"))
    await trades.write((400, "binance"), (100, "binance"))  # the first of it closes that window
    await trades.write((1_000, "kraken"), (10, "binance"), (-200, "kraken"))

    async def both() -> bool:
        return len(await merged(one)) == 2

    # Nothing closes the last one: time does.
    await eventually(both, what=f"two windows; {worker.tail()}")
    first, last = await merged(one)
    assert (sent(first), first.closed_by) == (["binance", "kraken", "binance"], "time")
    assert first.counts == {"binance": 2, "kraken": 1}
    assert (first.first_offset, first.last_offset) == (1, 3)
    assert first.closed_ms - first.opened_ms == 1_000
    assert sent(last) == ["kraken", "binance"]
    assert first.token == last.token > 0
    gained, *found = await told(one)
    assert (gained["event"], gained["symbol"]) == ("ownership.gained", SYMBOL)
    assert gained["token"] == first.token
    assert [entry["trace_id"] for entry in worker.logged("ownership.gained")] == [
        gained["trace_id"]
    ]
    assert [one["event"] for one in found] == ["merge.suppressed_partial", "late_event.dropped"]
    assert (found[0]["missing_providers"], found[0]["events"]) == (["kraken"], 2)
    assert (found[1]["provider"], found[1]["symbol"]) == ("kraken", SYMBOL)
    assert [entry["decision_id"] for entry in worker.logged("merge.suppressed_partial")] == [
        found[0]["decision_id"]
    ]
    samples = await worker.metrics()
    assert total(samples, "tapeline_merge_total") == 4
    assert total(samples, "tapeline_telemetry_total") == 3
    assert await worker.stopped() == 0, worker.tail()


async def test_what_is_open_when_a_worker_dies_is_given_up_and_nothing_is_written_twice(
    one: Installation,
) -> None:
    await ask(one)
    worker = await one.worker()
    await worker.ready()
    trades = Trades(one)
    await trades.begin(worker)
    await trades.write((0, "binance"), (1, "kraken"), (1_000, "binance"), (1, "kraken"))

    async def windows(count: int) -> bool:
        return len(await merged(one)) == count

    await eventually(lambda: windows(1), what=f"a window; {worker.tail()}")
    await worker.killed()
    worker = await one.worker()
    await worker.ready()
    await trades.begin(worker)
    await trades.write((2_000, "binance"), (1, "kraken"), (1_000, "binance"))
    await eventually(lambda: windows(2), what=f"another window; {worker.tail()}")
    before, after = await merged(one)
    assert before.merge_id != after.merge_id
    assert after.first_offset == 6, "what the first had open is given up"
    assert after.token > before.token
    assert await worker.stopped() == 0, worker.tail()
    async with one.redis() as redis:
        entries = await redis.xrange(f"merged:{SYMBOL}")
    records = await one.read(one.settings().merged_topic)
    assert [fields[b"merged"] for _, fields in entries] == [record.value for record in records]
    assert [entry for entry, _ in entries] == [f"{w.token}-1".encode() for w in (before, after)]


async def test_a_command_begins_and_ends_it_while_the_worker_runs(one: Installation) -> None:
    worker = await one.worker()
    await worker.ready()
    trades = Trades(one)
    await trades.write((0, "binance"), (1, "kraken"), (1_000, "binance"))
    await ask(one)

    async def written() -> bool:
        await trades.write((600, "binance"), (1, "kraken"))
        return len(await merged(one)) > 1

    await eventually(written, what=f"windows; {worker.tail()}")
    await ask(one, "merged_unsubscribe")

    async def ended() -> bool:
        before = len(await merged(one))
        for _ in range(3):
            await trades.write((600, "binance"), (1, "kraken"))
        return len(await merged(one)) == before and not total(
            await worker.metrics(), "tapeline_merge_total"
        )

    await eventually(ended, what=f"no windows any more; {worker.tail()}")
    assert await worker.stopped() == 0, worker.tail()
