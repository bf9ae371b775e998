"""`tapeline audit` against a real worker, and against reports that are not what they say."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from redis.asyncio import Redis

from streams.topics import admin_of, changelog_of
from tables.changelog import Checkpoint, encode_checkpoint
from tables.engine import ENGINE_VERSION
from tapeline.audit import Audit, Auditor, Verdict
from tests.support import commands
from tests.support.tape import Tape, random_tape
from tests.support.worker import SYMBOL, Client, Installation, eventually, report_at, report_of

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

KEY = f"report:{SYMBOL}"
WALL = {"side": "bid", "price": 1.0, "qty": 1.0, "severity": "high"}


async def audit(one: Installation, *options: str, status: int) -> tuple[dict[str, Any], str]:
    """The command's object, and what it said on both outputs."""
    process = await commands.start("audit", SYMBOL, *options, **one.environment())
    out, err = await process.communicate()
    assert process.returncode == status, (out.decode()[-3000:], err.decode()[-3000:])
    body = json.loads(out.splitlines()[-1]) if "--json" in options and out else {}
    return body, out.decode() + err.decode()


async def audited(one: Installation, redis: Redis) -> Audit:
    """The same, in this process."""
    (found,) = await Auditor(one.settings(), SYMBOL, redis).run(1, lambda _: None)
    return found


async def settled(one: Installation, redis: Client, tape: Tape) -> dict[str, Any]:
    """A tape, and a worker's report of all of it; the worker is gone then."""
    worker = await one.worker()
    await worker.ready()
    offsets = await one.write_tape(tape.records)
    report = await report_at(redis, offsets[-1], worker=worker)
    await worker.killed()
    return report


async def test_reports_of_a_live_worker_under_load_are_equal(
    kafka_url: str, redis_url: str
) -> None:
    """On the wall's clock, three in a row, while records go on coming."""
    one = Installation(kafka_url, redis_url)
    await one.apply_topics()
    try:
        worker = await one.worker()
        await worker.ready()
        tape = random_tape(41, 6000, step_ms=5)
        behind_ms = round(time.time() * 1000) - tape.now_ms
        values = [later(raw, behind_ms) for _, raw in tape.records]
        await one.write((SYMBOL.encode(), raw) for raw in values[:500])

        enough = asyncio.Event()

        async def load() -> None:
            async with one.producer() as producer:
                for raw in values[500:]:
                    if enough.is_set():
                        return
                    await producer.send_and_wait(one.topic, key=SYMBOL.encode(), value=raw)
                    await asyncio.sleep(0.005)
            raise AssertionError("the load ended before the audits did")

        async with one.redis() as redis:

            async def there() -> bool:
                return await report_of(redis) is not None

            await eventually(there, what=f"a report; {worker.tail()}")
        loading = asyncio.create_task(load())
        try:
            body, said = await audit(one, "--times", "3", "--json", status=0)
        finally:
            enough.set()
            await loading
        assert (body["verdict"], body["equal"]) == ("equal", 3), said
        orders = [(one["token"], one["seq"]) for one in body["audits"]]
        assert orders == sorted(set(orders))
        assert all(one["records"] >= 500 for one in body["audits"])
        await worker.stopped()
    finally:
        await one.close()


def later(raw: bytes, by_ms: int) -> bytes:
    record = json.loads(raw)
    for name in ("ts_event_ms", "ts_recv_ms"):
        record[name] += by_ms
    return json.dumps(record, separators=(",", ":")).encode()


async def test_a_tampered_report_is_found(one: Installation, redis: Client) -> None:
    """Each field by its name and with both values, and exit status 1; writer, seq and updatedAt
    alone may be what they like.
    """
    tape = random_tape(42, 500, step_ms=60)
    tape.snapshot([(5_999_000 - n, 5) for n in range(9)], [(6_001_000 + n, 7) for n in range(9)])
    report = await settled(one, redis, tape)
    assert report["ingestion"]["book"] == "ok"
    assert report["gaps"]["count"]
    assert (await audited(one, redis)).verdict is Verdict.EQUAL
    changes: dict[str, Any] = {
        "mid_price": lambda r: r.update(mid_price=r["mid_price"] * 1.0001),
        "depth.bids[3][1]": lambda r: r["depth"]["bids"][3].__setitem__(1, 9.0),
        "gaps.count": lambda r: r["gaps"].update(count=0),
        "synthetic": lambda r: r.update(synthetic=True),
        "venue": lambda r: r.update(venue="elsewhere"),
        "symbol": lambda r: r.update(symbol="ETHUSDT"),
        "extra": lambda r: r.update(extra=1),
        "source.fast.offset": lambda r: r["source"]["fast"].update(offset=report["source"]["fast"]["offset"] - 1),
        "source.fast.topic": lambda r: r["source"]["fast"].update(topic="md.other"),
        "generated_at": lambda r: r["source"]["fast"].update(now_ms=r["source"]["fast"]["now_ms"] + 1),
        "liquidity.walls": lambda r: r["liquidity"]["walls"].append(WALL),
    }  # fmt: skip
    for path, change in changes.items():
        tampered = json.loads(json.dumps(report))
        change(tampered)
        await redis.set(KEY, json.dumps(tampered))
        found = await audited(one, redis)
        assert found.verdict is Verdict.DIFFERENT, path
        paths = {difference.path for difference in found.differences}
        if path == "venue":
            assert "best_bid" in paths
        elif path == "source.fast.offset":
            assert paths, path
        else:
            assert path in paths
    unchanged = {**report, "seq": 1, "updatedAt": 5, "writer": {"nodeId": "x", "writerToken": 1}}
    await redis.set(KEY, json.dumps(unchanged))
    assert (await audited(one, redis)).verdict is Verdict.EQUAL
    tampered = {**report, "last_price": 1.5}
    await redis.set(KEY, json.dumps(tampered))
    body, _ = await audit(one, "--json", status=1)
    (only,) = body["audits"][0]["differences"]
    assert only == {"field": "last_price", "published": 1.5, "recomputed": report["last_price"]}
    _, said = await audit(one, status=1)
    assert f"last_price: published 1.5, recomputed {report['last_price']}" in said


async def test_a_topic_that_has_lost_what_is_needed(one: Installation, redis: Client) -> None:
    """Cut further back than 35 minutes: equal. Cut within them: status 3, and from when on it
    can tell. Never cut: its beginning is enough.
    """
    tape = random_tape(43, 1500, step_ms=3_000)
    report = await settled(one, redis, tape)
    assert (await audited(one, redis)).verdict is Verdict.EQUAL
    times = [json.loads(raw)["ts_recv_ms"] for _, raw in tape.records]
    span_ms = times[report["source"]["fast"]["offset"]] - times[0]
    assert span_ms > 60 * 60_000
    limit_ms = times[report["source"]["slow"]["offset"]] - 35 * 60_000
    early = next(at for at, ms in enumerate(times) if ms > limit_ms) - 1
    await cut(one, early)
    assert (await audited(one, redis)).verdict is Verdict.EQUAL
    await cut(one, early + 1)
    found = await audited(one, redis)
    assert found.verdict is Verdict.NOT_HELD
    assert f"(offset {early + 1}) on, so reports from" in found.reason
    _, said = await audit(one, status=3)
    assert "not held (the topic no longer holds the 35 minutes before the report" in said
    await cut(one, len(times) - 1)
    _, said = await audit(one, status=3)
    assert "the topic no longer holds the" in said


async def cut(one: Installation, before: int) -> None:
    """Delete the records of the symbol's partition before an offset."""
    tp = TopicPartition(one.topic, one.partition)
    async with admin_of(one.kafka_url) as admin:
        await admin.delete_records({tp: RecordsToDelete(before)})


async def test_what_can_t_be_judged_is_refused(one: Installation, redis: Client) -> None:
    """A writer of another engine version: status 2. A topic created anew, a record that was
    never there, no report: 3. What is no report at all: 1.
    """
    report = await settled(one, redis, random_tape(44, 300, step_ms=60))
    token, seq = report["writer"]["writerToken"], report["seq"]
    await redis.set(f"nt:topic:epoch:{one.topic}", 1)
    meta = await redis.hgetall(f"report:meta:{SYMBOL}")
    assert (int(meta[b"token"]), int(meta[b"seq"])) == (token, seq)
    assert "created anew" in (await audited(one, redis)).reason
    await redis.delete(f"nt:topic:epoch:{one.topic}")
    assert (await audited(one, redis)).verdict is Verdict.EQUAL
    await checkpoint(one, token, ENGINE_VERSION + 1)
    _, said = await audit(one, status=2)
    assert f"runs engine version {ENGINE_VERSION + 1}, this release {ENGINE_VERSION}" in said
    await checkpoint(one, token, ENGINE_VERSION)
    report["source"]["fast"]["offset"] += 1000
    await redis.set(KEY, json.dumps(report))
    found = await audited(one, redis)
    assert found.verdict is Verdict.NOT_HELD
    assert "the topic holds no record at offset" in found.reason
    await redis.set(KEY, "{}")
    _, said = await audit(one, status=1)
    assert "is no report" in said
    await redis.delete(KEY)
    _, said = await audit(one, status=3)
    assert f"no report of {SYMBOL}" in said


async def checkpoint(one: Installation, token: int, version: int) -> None:
    """A checkpoint of the symbol under a token, of some engine version."""
    snapshot = bytes([1]) + version.to_bytes(2, "big")
    record = Checkpoint(SYMBOL, token, 0, 10**6, snapshot)
    async with one.producer() as producer:
        await producer.send_and_wait(
            changelog_of(one.name),
            key=record.key,
            value=encode_checkpoint(record),
            partition=one.partition,
        )


async def test_a_report_in_two_halves_is_audited_whole(one: Installation, redis: Client) -> None:
    """Whatever the auditor's own limit is."""
    one.env["NT_REPORT_SPLIT_BYTES"] = "1024"
    tape = random_tape(45, 300, step_ms=60)
    tape.snapshot([(5_999_000, 5)], [(6_001_000, 7)])
    report = await settled(one, redis, tape)
    assert report["heavy"] is True
    one.env.pop("NT_REPORT_SPLIT_BYTES")
    assert (await audited(one, redis)).verdict is Verdict.EQUAL
    heavy = json.loads(await redis.get(f"{KEY}:heavy"))
    heavy["depth"]["asks"][0][1] += 1
    await redis.set(f"{KEY}:heavy", json.dumps(heavy))
    found = await audited(one, redis)
    assert [d.path for d in found.differences] == ["depth.asks[0][1]"]
