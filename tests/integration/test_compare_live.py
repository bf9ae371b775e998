"""Two systems of real workers on one topic: neither touches the other's, and `tapeline compare`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lua import Keys
from streams import topics
from tests.support import commands
from tests.support.tape import random_tape
from tests.support.worker import SYMBOL, Client, Installation, WorkerProcess, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

SUFFIX = "nt"
PAUSE_S = 0.1


def later(raw: bytes, by_ms: int) -> bytes:
    record = json.loads(raw)
    for name in ("ts_event_ms", "ts_recv_ms"):
        record[name] += by_ms
    return json.dumps(record, separators=(",", ":")).encode()


@asynccontextmanager
async def market(one: Installation) -> AsyncIterator[None]:
    """Records on the wall's time, for as long as the block lasts."""
    tape = random_tape(91, 12_000, step_ms=25)
    behind_ms = round(time.time() * 1000) - tape.now_ms
    values = [later(raw, behind_ms) for _, raw in tape.records]
    await one.write((SYMBOL.encode(), raw) for raw in values[:500])

    async def go_on() -> None:
        async with one.producer() as producer:
            for raw in values[500:]:
                # The tape's own times are past: what is written now came now.
                shift_ms = round(time.time() * 1000) - json.loads(raw)["ts_recv_ms"]
                raw = later(raw, shift_ms)  # noqa: PLW2901
                await producer.send_and_wait(one.topic, key=SYMBOL.encode(), value=raw)
                await asyncio.sleep(PAUSE_S)

    going = asyncio.create_task(go_on())
    try:
        yield
        assert not going.done(), going
    finally:
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)


async def beside(one: Installation, **env: str) -> WorkerProcess:
    """A worker of the second system, under the live one's NT_APP_ID; its topics made."""
    named = {"NT_REPORT_SUFFIX": SUFFIX, "NT_NODE_ID": f"{one.name}-b", **env}
    settings = one.settings(**named)
    async with topics.admin_of(one.kafka_url) as admin:
        await topics.apply(admin, topics.needed(settings))
    return await one.worker(**named)


async def reported(redis: Client, keys: Keys, worker: WorkerProcess) -> None:
    async def there() -> bool:
        return bool(await redis.exists(keys.report(SYMBOL)))

    await eventually(there, what=f"{keys.report(SYMBOL)}; {worker.tail()}")


async def compare(one: Installation, *options: str, status: int) -> tuple[dict[str, Any], str]:
    """The command's object, and all it said."""
    process = await commands.start(
        "compare", "live", f"live:{SUFFIX}", *options, "--json", **one.environment()
    )
    out, err = await process.communicate()
    assert process.returncode == status, (out.decode()[-3000:], err.decode()[-3000:])
    return json.loads(out.splitlines()[-1]), err.decode()


async def test_a_second_system_beside_a_live_one(kafka_url: str, redis_url: str) -> None:
    """The same analytics: equal. Other thresholds: the field is named. And the live one's keys,
    group, checkpoints and dead letters are the live one's alone, as is its topic of windows.
    """
    one = Installation(kafka_url, redis_url)
    one.env |= {
        f"NT_{kind.upper()}_TOPIC": f"{one.name}.{kind}"
        for kind in ("merged", "telemetry", "routing")
    }
    await one.apply_topics()
    live, nt = Keys(), Keys(suffix=SUFFIX)
    try:
        async with one.redis() as redis, market(one):
            first = await one.worker()
            await reported(redis, live, first)
            second = await beside(one)
            await reported(redis, nt, second)
            body, _ = await compare(one, "--for", "10s", status=0)
            assert (body["verdict"], body["different"]) == ("equal", 0)
            found = body["symbols"][SYMBOL]
            assert found["pairs"] >= 10
            assert found["slow_pairs"] >= 1

            await apart(one, redis, live, nt)
            body, _ = await compare(one, "--for", "1s", "--symbols", "ETHUSDT", status=3)
            assert body["too_few_pairs"] == ["ETHUSDT"]

            assert await second.stopped() == 0
            other = await beside(one, NT_PROFILE_BIN_TICKS="9", NT_CALCULATORS=VWAP)
            await reported(redis, nt, other)
            await own(redis, nt, f"{one.name}-b", other)
            body, _ = await compare(one, "--for", "10s", status=1)
            names = {each["field"] for each in body["fields"] if each["verdict"] == "different"}
            assert "custom" in names
            assert any(name.startswith("liquidity.volume_profile.") for name in names)
            fields = {name.partition(".")[0] for name in names}
            assert fields == {"custom", "liquidity"}
            expected = ("--ignore", "custom", "--ignore", "liquidity.volume_profile")
            await compare(one, "--for", "8s", *expected, status=0)
            assert await redis.get(live.writer(SYMBOL).lease), first.tail()
    finally:
        await one.close()


VWAP = "examples.calculator_vwap:Vwap"


async def own(redis: Client, keys: Keys, node: str, worker: WorkerProcess) -> None:
    """Until this node's lease is on the symbol, and a report of it is there with its figures."""

    async def written() -> bool:
        lease = await redis.get(keys.writer(SYMBOL).lease)
        report = json.loads(await redis.get(keys.report(SYMBOL)) or b"{}")
        return bool(lease and lease.startswith(node.encode()) and report.get("custom"))

    await eventually(written, what=f"a report by {node}; {worker.tail()}")


async def apart(one: Installation, redis: Client, live: Keys, nt: Keys) -> None:
    """What each system has is its own."""
    leases = [await redis.get(keys.writer(SYMBOL).lease) for keys in (live, nt)]
    assert [lease.split(b"|")[0].decode() for lease in leases] == [f"{one.name}-a", f"{one.name}-b"]
    assert await redis.zrange(live.nodes(), 0, -1) == [f"{one.name}-a".encode()]
    assert await redis.zrange(nt.nodes(), 0, -1) == [f"{one.name}-b".encode()]
    reports = [json.loads(await redis.get(keys.report(SYMBOL))) for keys in (live, nt)]
    assert [report["writer"]["nodeId"] for report in reports] == [f"{one.name}-a", f"{one.name}-b"]
    words = [key.decode() for key in await redis.keys("*")]
    suffixed = [word for word in words if word.endswith(f":{SUFFIX}")]
    assert {word.removesuffix(f":{SUFFIX}").replace(f"{one.name}-b", f"{one.name}-a") for word in suffixed} <= set(words)  # fmt: skip
    groups = [one.name, f"{one.name}-{SUFFIX}"]
    assert all([await one.committed(group) > 0 for group in groups])
    tokens = []
    for group in groups:
        checkpoints = await one.checkpoints(group)
        assert checkpoints
        tokens.append({checkpoint.token for checkpoint in checkpoints})
    assert not tokens[0] & tokens[1]
    settings = one.settings(NT_REPORT_SUFFIX=SUFFIX)
    told = await one.read(settings.suffixed(settings.telemetry_topic))
    assert [json.loads(record.value)["event"] for record in told] == ["ownership.gained"]


async def test_the_second_system_s_refused_records_are_its_own(
    one: Installation, redis: Client
) -> None:
    """A record that neither can apply is one dead letter of each."""
    first, second = await one.worker(), await beside(one)
    await first.ready()
    await second.ready()
    await one.write([(SYMBOL.encode(), b"no record")])

    async def kept() -> bool:
        settings = one.settings(NT_REPORT_SUFFIX=SUFFIX)
        theirs = await one.read(topics.letters_of(settings))
        return len(theirs) == len(await one.dead_letters()) == 1

    await eventually(kept, what=f"a letter of each; {second.tail()}")
