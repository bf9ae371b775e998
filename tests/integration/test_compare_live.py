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

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.kafka,
    pytest.mark.redis,
    # Four workers, on a machine that may have other things to do.
    pytest.mark.slow(limit_s=150),
]

SUFFIX, CHANGED = "nt", "changed"
PAUSE_S = 0.2
LISTEN_S = "10s"
VWAP = "examples.calculator_vwap:Vwap"


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


async def beside(one: Installation, suffix: str, **env: str) -> WorkerProcess:
    """A worker of another system, under the live one's NT_APP_ID; its topics made."""
    named = {"NT_REPORT_SUFFIX": suffix, "NT_NODE_ID": f"{one.name}-{suffix}", **env}
    settings = one.settings(**named)
    async with topics.admin_of(one.kafka_url) as admin:
        await topics.apply(admin, topics.needed(settings))
    return await one.worker(**named)


async def reported(redis: Client, keys: Keys, worker: WorkerProcess) -> None:
    async def there() -> bool:
        return bool(await redis.exists(keys.report(SYMBOL)))

    await eventually(there, what=f"{keys.report(SYMBOL)}; {worker.tail()}")


async def compare(one: Installation, other: str, *options: str, status: int) -> dict[str, Any]:
    """The command's object."""
    process = await commands.start(
        "compare", "live", other, *options, "--json", **one.environment()
    )
    out, err = await process.communicate()
    assert process.returncode == status, (out.decode()[-3000:], err.decode()[-3000:])
    body: dict[str, Any] = json.loads(out.splitlines()[-1])
    return body


async def test_systems_beside_a_live_one(kafka_url: str, redis_url: str) -> None:
    """The same analytics: equal. Other thresholds and a calculator: their fields are named, and no
    others. And keys, group, checkpoints and telemetry of the live one are its own.
    """
    one = Installation(kafka_url, redis_url)
    one.env |= {
        f"NT_{kind.upper()}_TOPIC": f"{one.name}.{kind}"
        for kind in ("merged", "telemetry", "routing")
    }
    await one.apply_topics()
    try:
        async with one.redis() as redis, market(one):
            workers = {
                "": await one.worker(),
                SUFFIX: await beside(one, SUFFIX),
                CHANGED: await beside(
                    one, CHANGED, NT_PROFILE_BIN_TICKS="1000", NT_CALCULATORS=VWAP
                ),
            }
            for suffix, worker in workers.items():
                await reported(redis, Keys(suffix=suffix), worker)
            same, changed, other = await asyncio.gather(
                compare(one, f"live:{SUFFIX}", "--for", LISTEN_S, status=0),
                compare(one, f"live:{CHANGED}", "--for", LISTEN_S, status=1),
                compare(one, f"live:{SUFFIX}", "--for", "1s", "--symbols", "ETHUSDT", status=3),
            )
            assert (same["verdict"], same["different"]) == ("equal", 0)
            assert same["symbols"][SYMBOL]["close_pairs"] >= 10
            assert same["symbols"][SYMBOL]["slow_pairs"] >= 1
            names = {one["field"] for one in changed["fields"] if one["verdict"] == "different"}
            assert "custom" in names
            assert any(name.startswith("liquidity.volume_profile.") for name in names)
            assert {name.partition(".")[0] for name in names} == {"custom", "liquidity"}
            assert other["too_few_pairs"] == ["ETHUSDT"]
            await apart(one, redis)
    finally:
        await one.close()


async def apart(one: Installation, redis: Client) -> None:
    """What each system has is its own."""
    live, nt = Keys(), Keys(suffix=SUFFIX)
    nodes = [f"{one.name}-a", f"{one.name}-{SUFFIX}"]
    leases = [await redis.get(keys.writer(SYMBOL).lease) for keys in (live, nt)]
    assert [lease.split(b"|")[0].decode() for lease in leases] == nodes
    assert await redis.zrange(live.nodes(), 0, -1) == [nodes[0].encode()]
    assert await redis.zrange(nt.nodes(), 0, -1) == [nodes[1].encode()]
    reports = [json.loads(await redis.get(keys.report(SYMBOL))) for keys in (live, nt)]
    assert [report["writer"]["nodeId"] for report in reports] == nodes
    words = {key.decode() for key in await redis.keys("*")}
    ours = {word for word in words if word.endswith(f":{SUFFIX}")}
    assert len(ours) >= 8
    # Each has its like among the live one's.
    as_live = {word.removesuffix(f":{SUFFIX}").replace(nodes[1], nodes[0]) for word in ours}
    assert as_live <= words
    groups = [one.name, f"{one.name}-{SUFFIX}"]
    assert all([await one.committed(group) > 0 for group in groups])
    for group, report in zip(groups, reports, strict=True):
        checkpoints = await one.checkpoints(group)
        assert checkpoints
        # Tokens begin at the time in each suffix, so the two may be equal.
        assert {checkpoint.token for checkpoint in checkpoints} == {report["writer"]["writerToken"]}
    settings = one.settings(NT_REPORT_SUFFIX=SUFFIX)
    told = await one.read(settings.suffixed(settings.telemetry_topic))
    assert [json.loads(record.value)["event"] for record in told] == ["ownership.gained"]


async def test_the_second_system_s_refused_records_are_its_own(
    one: Installation, redis: Client
) -> None:
    """A record that neither can apply is one dead letter of each."""
    first, second = await one.worker(), await beside(one, SUFFIX)
    await first.ready()
    await second.ready()
    await one.write([(SYMBOL.encode(), b"no record")])

    async def kept() -> bool:
        settings = one.settings(NT_REPORT_SUFFIX=SUFFIX)
        theirs = await one.read(topics.letters_of(settings))
        return len(theirs) == len(await one.dead_letters()) == 1

    await eventually(kept, what=f"a letter of each; {second.tail()}")
