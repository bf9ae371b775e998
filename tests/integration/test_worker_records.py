"""Records that can't be applied, raw events and large reports: what a worker makes of each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.topics import admin_of, dead_letters_of, partition_of
from tables.changelog import newest
from tests.support.tape import Tape, opened, random_tape
from tests.support.worker import (
    PARTITIONS,
    SYMBOL,
    Client,
    Installation,
    eventually,
    report_at,
    report_of,
    total,
)

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

KEY = SYMBOL.encode()
OTHER = "ETHUSDT"


@pytest.fixture
async def one(kafka_url: str, redis_url: str) -> AsyncIterator[Installation]:
    installation = Installation(
        kafka_url,
        redis_url,
        symbols=f"binance:{SYMBOL},binance:{OTHER}",
        env={"NT_CLOCK": "records"},
    )
    await installation.apply_topics()
    yield installation
    await installation.close()


def changed(record: bytes, **fields: object) -> bytes:
    """A good record with some fields changed."""
    return json.dumps(json.loads(record) | fields).encode()


async def all_written(one: Installation, count: int) -> None:
    """Until the dead-letter topic holds this many."""

    async def there() -> bool:
        return len(await one.dead_letters()) >= count

    await eventually(there, what=f"{count} dead letters")


async def test_bad_records_of_a_batch_are_kept_and_the_rest_applied(
    one: Installation, redis: Client
) -> None:
    """Each in the dead-letter topic as it was, with why and where; offsets are committed beyond
    them, and the book is believed again from the next snapshot on.
    """
    tape = opened()
    good = tape.delta([(5_999_000, 7)])
    book = tape.snapshot([(5_999_999, 5)], [(6_000_001, 5)])
    bad = {
        "malformed": [
            b'{"kind":"trade",',
            changed(good, bids=[[5_999_000, -7]]),
            changed(book, bids=[[6_000_002, 5]]),
            changed(good, symbol=OTHER),
            b"\x00\xff",
        ],
        "unknown_version": [changed(good, v=2)],
    }
    values = [value for _, value in tape.records]
    for nth, value in enumerate([*bad["malformed"], *bad["unknown_version"]]):
        tape.trade(6_000_000 + nth, 5)
        values += [value, tape.records[-1][1]]
    values.append(changed(good, kind="aura", feed={"token": tape.token, "seq": tape.seq + 1}))
    tape.seq += 1
    tape.snapshot([(5_999_990, 5)], [(6_000_010, 5)])
    values.append(tape.records[-1][1])
    wrong = (one.partition + 1) % PARTITIONS
    worker = await one.worker()
    await worker.ready()
    offsets = await one.write((KEY, value) for value in values)
    await one.write([(KEY, good), (b"SOLUSDT", good)], partition=wrong)
    await one.write([(None, good)], partition=wrong)
    report = await report_at(redis, offsets[-1], worker=worker)
    assert report["best_bid"]["price"] == 59999.90
    assert report["flow"]["trade_count"] == 6
    assert report["ingestion"]["book"] == "ok"
    reasons = {value: reason for reason, group in bad.items() for value in group}
    expected = [
        (value, reasons[value], one.partition, offset)
        for offset, value in zip(offsets, values, strict=True)
        if value in reasons
    ]
    home = partition_of("SOLUSDT", PARTITIONS)
    elsewhere = [(good, "misrouted", wrong, 0)]
    if home != wrong:
        elsewhere.append((good, "misrouted", wrong, 1))
    elsewhere.append((good, "malformed", wrong, 2))
    await all_written(one, len(expected) + len(elsewhere))
    found = [
        (record.value, headers["error"], int(headers["partition"]), int(headers["offset"]))
        for headers, record in await one.dead_letters()
    ]
    assert sorted(found, key=lambda row: (row[2] != one.partition, row[3])) == expected + elsewhere
    for headers, record in await one.dead_letters():
        assert headers["topic"] == one.topic
        assert headers["message"]
        if headers["error"] != "misrouted" and headers["partition"] == str(wrong):
            assert record.key is None
        elif headers["partition"] == str(one.partition):
            assert record.key == KEY
    metrics = await worker.metrics()
    assert metrics["tapeline_dead_letters_total{reason=malformed}"] == len(bad["malformed"]) + 1
    assert metrics["tapeline_dead_letters_total{reason=unknown_version}"] == 1
    assert metrics["tapeline_engine_events_total{event=unknown_kind}"] == 1
    assert total(metrics, "tapeline_records_applied_total") == len(values) - 6 - 1

    async def committed() -> bool:
        return await one.committed() == offsets[-1] + 1

    await eventually(committed, what="the last offset committed")
    metrics = await worker.metrics()
    label = f"{{partition={one.partition}}}"
    assert metrics[f"tapeline_position{label}"] == offsets[-1] + 1
    assert metrics[f"tapeline_committed_offset{label}"] == offsets[-1] + 1


async def largest_letter(one: Installation, size: int) -> None:
    """With 1 byte the dead-letter topic takes nothing."""
    name = dead_letters_of(one.topic)
    async with admin_of(one.kafka_url) as admin:
        configs = {"max.message.bytes": str(size)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs)])


async def test_killed_before_its_letter_is_acknowledged(one: Installation, redis: Client) -> None:
    """The record is read again: neither a checkpoint nor a commit has passed it."""
    tape = opened()
    tape.raw(b'{"kind":')
    tape.trade(6_000_000, 5)
    quiet = Tape(token=3)
    await largest_letter(one, 1)
    worker = await one.worker()
    await worker.ready()
    # The other symbol's state, dirty as well, shows that checkpoints go on.
    await one.write([(OTHER.encode(), changed(quiet.instrument(), symbol=OTHER))])

    async def applied() -> bool:
        return total(await worker.metrics(), "tapeline_records_applied_total") == 1

    await eventually(applied, what="the other symbol's record")
    await one.write_tape(tape.records)
    await worker.says("dead_letters.refused")
    refused = await worker.health()
    assert refused is not None

    async def later() -> bool:
        """Longer than the checkpoint period, so each symbol has been due."""
        health = await worker.health()
        return health is not None and health["uptime"] > refused["uptime"] + 1.5

    await eventually(later)
    await worker.killed()
    best = newest(await one.checkpoints())
    assert best[OTHER].applied == 0
    assert SYMBOL not in best or best[SYMBOL].applied < 2
    assert await one.committed() <= 2
    assert await one.dead_letters() == []
    await largest_letter(one, 1_000_000)
    worker = await one.worker()
    await report_at(redis, len(tape.records) - 1, worker=worker)
    await all_written(one, 1)
    assert [record.value for _, record in await one.dead_letters()] == [b'{"kind":']

    async def committed() -> bool:
        return await one.committed() == len(tape.records)

    await eventually(committed, what="the last offset committed")


async def test_raw_events_in_streams(one: Installation, redis: Client) -> None:
    """Every event of a listed symbol once, in order, through a kill -9 and a stop."""
    tape = random_tape(81, 600, step_ms=60)
    last = len(tape.records) - 1
    streams = {"NT_ENABLE_STREAMS": "true", "NT_STREAMS_MAXLEN": "10000"}
    worker = await one.worker(**streams)
    await worker.ready()
    # Of another partition, and of a symbol that is not listed: their ids would mean nothing.
    wrong = (one.partition + 1) % PARTITIONS
    await one.write([(KEY, b"{}")] * 20 + [(b"SOLUSDT", b"{}")], partition=wrong)
    await one.write_tape(tape.records[:300])

    async def copied() -> bool:
        return bool(await redis.xlen(f"events:{SYMBOL}") == 300)

    await eventually(copied, what="300 events in the stream")
    await worker.killed()
    best = newest(await one.checkpoints())
    assert SYMBOL not in best or best[SYMBOL].applied < 299, "nothing will come again"
    worker = await one.worker(**streams)
    await worker.ready()
    await one.write_tape(tape.records[300:])

    async def applied() -> bool:
        report = await report_of(redis)
        return report is not None and report["source"]["fast"]["offset"] == last

    await eventually(applied, what="the whole tape")
    assert await worker.stopped() == 0
    found = await redis.xrange(f"events:{SYMBOL}")
    assert [entry_id.decode() for entry_id, _ in found] == [f"0-{n + 1}" for n in range(last + 1)]
    assert [entry[b"event"] for _, entry in found] == [value for _, value in tape.records]
    assert await redis.keys("events:*") == [f"events:{SYMBOL}".encode()]


async def test_without_reports_there_is_no_redis(one: Installation, redis: Client) -> None:
    """Nobody connects to it; engines run and checkpoints are kept, so that a restart goes on."""
    tape = random_tape(82, 400, step_ms=60)
    first, rest = tape.records[:300], tape.records[300:]
    off = {"NT_ENABLE_KV_REPORTS": "false", "REDIS_URL": ""}
    connections = (await redis.info("stats"))["total_connections_received"]
    worker = await one.worker(**off)
    await worker.ready()
    await one.write_tape(first)

    async def kept() -> bool:
        best = newest(await one.checkpoints())
        return SYMBOL in best and best[SYMBOL].applied == 299 and await one.committed() == 300

    await eventually(kept, what="a checkpoint and a commit of the last record")
    await worker.killed()
    again = await one.worker(**off)
    await again.ready()
    await one.write_tape(rest)

    async def applied() -> bool:
        metrics = await again.metrics()
        return total(metrics, "tapeline_records_applied_total") == len(rest)

    await eventually(applied, what="records behind the checkpoint, and only those")
    assert total(await again.metrics(), "tapeline_records_skipped_total") == 0
    assert (await redis.info("stats"))["total_connections_received"] == connections
    assert await redis.keys("*") == []
    assert (await again.health() or {})["owned_symbols"] == []


async def test_a_large_report_is_split(one: Installation, redis: Client) -> None:
    """The long lists are beside it under the same token and seq; raised, the limit removes them."""
    tape = opened()
    last = len(tape.records) - 1
    await one.write_tape(tape.records)
    worker = await one.worker(NT_REPORT_SPLIT_BYTES="1024")
    await worker.ready()
    heavy_key = f"report:{SYMBOL}:heavy"

    async def both() -> tuple[dict[str, object], dict[str, object]] | None:
        light, heavy = await redis.mget(f"report:{SYMBOL}", heavy_key)
        if light is None or heavy is None or json.loads(light)["source"]["slow"]["offset"] < last:
            return None
        return json.loads(light), json.loads(heavy)

    light, heavy = await eventually(both, what="a split report")
    assert light["heavy"] is True
    assert [light[name] for name in ("depth", "liquidity", "anomalies")] == [None] * 3
    assert heavy["writer_token"] == light["writer"]["writerToken"]  # type: ignore[index]
    assert heavy["seq"] == light["seq"]
    assert heavy["depth"]["bids"]  # type: ignore[index]
    assert await redis.pttl(heavy_key) > 0
    assert await worker.stopped() == 0
    worker = await one.worker()
    await worker.ready()

    async def whole() -> bool:
        report = await report_of(redis)
        return report is not None and report["writer"] != light["writer"]

    await eventually(whole, what="a report of the second start")
    report = await report_of(redis)
    assert report is not None
    assert not report["heavy"]
    assert report["depth"] == heavy["depth"]
    assert not await redis.exists(heavy_key)
    assert await redis.keys("events:*") == []  # the switch is off


async def test_what_a_reading_lost_is_read_again(
    one: Installation, redis: Client, tmp_path: Path
) -> None:
    """Whatever lost it: reading went on behind it, and nothing assigns anew."""
    begin = tmp_path / "begin"
    worker = await one.worker(fault="lost_reading", fault_file=str(begin))
    await worker.ready()
    tape = opened()
    await report_at(redis, (await one.write_tape(tape.records))[-1], worker=worker)
    begin.touch()
    offset = -1
    for nth in range(20):
        written = len(tape.records)
        for _ in range(5):
            tape.wait(1).trade(6_000_000 + nth, 5)
        offset = (await one.write_tape(tape.records[written:]))[-1]
    report = await report_at(redis, offset, worker=worker)
    metrics = await worker.metrics()
    assert metrics["tapeline_engine_events_total{event=sought_again}"] == 1
    assert report["flow"]["trade_count"] == 100
    assert report["gaps"]["count"] == 0
