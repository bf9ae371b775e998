"""What `docs/operations/recovery.md` and `production.md` tell people to do when something is gone.

Their own commands, on a real Kafka and a real Redis or Valkey that are really lost.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from docs.site.pages import Block, blocks
from streams.topics import admin_of, changelog_of, partition_counts
from tapeline.stack.kafka_local import LocalKafka
from tests.support import commands
from tests.support.background import BackgroundLoop
from tests.support.doc_commands import Page, programs
from tests.support.redis_process import RedisProcess, redis_binary, valkey_binary
from tests.support.servers import own_kafka
from tests.support.tape import Tape, opened
from tests.support.worker import (
    SYMBOL,
    Installation,
    WorkerProcess,
    compared,
    eventually,
    report_at,
    report_of,
)

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

RECOVERY = "docs/operations/recovery.md"
PRODUCTION = "docs/operations/production.md"

TOPIC = "md.events.v1"
PARTITIONS = "16"
"""In place of the 256 of the page: the broker is a small one."""


@dataclass
class House(Installation):
    """One with the names that the pages say: it has a broker of its own."""

    @property
    def topic(self) -> str:
        return self.env["NT_EVENTS_TOPIC"]


@pytest.fixture(scope="module")
def broker(
    background: BackgroundLoop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalKafka]:
    with own_kafka(background, tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisProcess]:
    binary = valkey_binary() or redis_binary()
    if binary is None:
        pytest.skip("no valkey-server and no redis-server on this machine")
    folder = tmp_path / "redis"
    folder.mkdir()
    process = RedisProcess(binary, folder)
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def one(broker: LocalKafka, store: RedisProcess) -> AsyncIterator[House]:
    """No topic yet; what a test before has left is gone."""
    async with admin_of(broker.url) as admin:
        left = [name for name in await partition_counts(admin) if not name.startswith("__")]
        if left:
            await admin.delete_topics(left)

        async def gone() -> bool:
            return not (await partition_counts(admin)).keys() & set(left)

        await eventually(gone, what=f"deletion of {left}")
    names = {"NT_CLOCK": "records", "NT_EVENTS_TOPIC": TOPIC, "NT_APP_ID": "tapeline"}
    names["NT_PARTITIONS"] = "8"
    house = House(broker.url, store.url, env=names)
    yield house
    await house.close()


@pytest.fixture
def terminal(one: House, store: RedisProcess, tmp_path: Path) -> Page:
    """Where the page's commands are typed; its folder of Redis is the test's."""
    (tmp_path / "bin").mkdir()
    env = commands.environment(**one.environment(), PATH=programs(tmp_path / "bin"))
    (tmp_path / "backup").mkdir()
    return Page(tmp_path, env, {"/var/lib/redis": str(store.folder), "=256": f"={PARTITIONS}"})


def section(page: str, first: str) -> Block:
    """The block that begins with this command."""
    (found,) = (block for block in blocks(page) if block.commands[0].startswith(first))
    return found


async def typed(terminal: Page, *commands: str) -> None:
    """Run these, although a mark in the page names this test."""
    assert await terminal.follow([Block(RECOVERY, 1, commands, ())]) == len(commands)


def traded(tape: Tape, count: int) -> Tape:
    for _ in range(count):
        tape.wait(20).trade(6_000_000, 5)
    return tape


async def written(one: House, terminal: Page, count: int = 20) -> tuple[WorkerProcess, Tape]:
    """Topics, a worker, and its report of so many trades."""
    await typed(terminal, section(RECOVERY, "tapeline topics apply").commands[0])
    worker = await one.worker()
    await worker.ready()
    tape = traded(opened(), count)
    await one.write_tape(tape.records)
    async with one.redis() as client:
        await report_at(client, len(tape.records) - 1, worker=worker)
    return worker, tape


async def token_above(one: House, least: int, worker: WorkerProcess) -> int:
    """The token of a report that was written under a newer one."""
    async with one.redis() as client:

        async def newer() -> int | None:
            try:
                report = await report_of(client)
            except redis.ConnectionError:
                return None
            token = report["writer"]["writerToken"] if report else 0
            return token if token > least else None

        return await eventually(newer, what=f"a token above {least}; {worker.tail()}")


async def keys(url: str) -> dict[str, bool]:
    """Names of API keys, and whether they are in force."""
    process = await commands.start("keys", "list", "--json", REDIS_URL=url)
    out, err = await process.communicate()
    assert process.returncode == 0, err
    listed = json.loads(out.splitlines()[-1])["keys"]
    return {key["name"]: key["revoked_ms"] is None for key in listed}


async def key_command(url: str, *arguments: str) -> dict[str, str]:
    process = await commands.start("keys", *arguments, "--json", REDIS_URL=url)
    out, err = await process.communicate()
    assert process.returncode == 0, err
    found: dict[str, str] = json.loads(out.splitlines()[-1])
    return found


async def test_a_redis_that_is_wiped_and_one_that_is_restored(
    one: House, terminal: Page, store: RedisProcess
) -> None:
    """Tokens rise each time under a running worker; keys are those of the backup."""
    key = await key_command(store.url, "create", "--name", "bot", "--scope", "reports:read")
    worker, tape = await written(one, terminal)
    first = await token_above(one, 0, worker)
    # Between the page's second command and its third, the `cp`, somebody looks and waits.
    save, info, copy = section(RECOVERY, "redis-cli BGSAVE").commands
    await typed(terminal, save, info)

    async def saved() -> bool:
        return "rdb_bgsave_in_progress:0" in store.call("INFO", "persistence")

    await eventually(saved, what="a background save")
    await typed(terminal, copy)
    await key_command(store.url, "revoke", key["id"])
    assert await keys(store.url) == {"bot": False}

    store.kill()
    shutil.rmtree(store.folder)
    store.folder.mkdir()
    store.start()
    wiped = await token_above(one, first, worker)
    assert await keys(store.url) == {}
    seq_wiped = (await published(one))["seq"]

    store.kill()
    shutil.copy(terminal.folder / "backup" / "redis.rdb", store.folder / "dump.rdb")
    store.start()
    restored = await token_above(one, wiped, worker)
    assert restored > wiped > first
    assert await keys(store.url) == {"bot": True}, "revoked after the backup, valid again"
    assert store.call("CONFIG", "SET", "appendonly", "yes") == "+OK"
    traded(tape, 5)
    await one.write_tape(tape.records[-5:])
    async with one.redis() as client:
        last = await report_at(client, len(tape.records) - 1, worker=worker)
    assert last["seq"] > seq_wiped
    assert last["flow"]["trade_count"] == tape.trade_id
    assert worker.logged("publisher.stale_data") == []


async def published(one: House) -> dict[str, int]:
    async with one.redis() as client:
        report = await report_of(client)
    assert report is not None
    return report


async def test_an_append_only_log_is_a_backup_as_well(tmp_path: Path) -> None:
    """Copied from a killed server, it makes another one like it."""
    binary = valkey_binary() or redis_binary()
    if binary is None:
        pytest.skip("no valkey-server and no redis-server on this machine")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here = RedisProcess(binary, tmp_path / "here", durable=True)
    here.start()
    try:
        await key_command(here.url, "create", "--name", "bot", "--scope", "reports:read")
    finally:
        here.kill()
    log = "appendonlydir"
    shutil.copytree(tmp_path / "here" / log, tmp_path / "there" / log)
    there = RedisProcess(binary, tmp_path / "there", durable=True)
    there.start()
    try:
        assert await keys(there.url) == {"bot": True}
    finally:
        there.kill()


async def test_a_lost_changelog_costs_nothing_in_a_new_group(one: House, terminal: Page) -> None:
    """The report of before, out of the events alone."""
    worker, tape = await written(one, terminal)
    before = await published(one)
    assert await worker.stopped() == 0
    await one.delete_topic(changelog_of("tapeline"))
    await typed(terminal, *section(RECOVERY, "export NT_APP_ID").commands)
    one.env["NT_APP_ID"] = terminal.env["NT_APP_ID"]
    async with one.redis() as client:
        await client.delete(f"report:{SYMBOL}")
        worker = await one.worker()
        again = await report_at(client, len(tape.records) - 1, worker=worker)
    assert compared(again) == compared(before)
    assert again["writer"]["writerToken"] > before["writer"]["writerToken"]


async def test_a_kafka_that_is_lost_wholly(one: House, terminal: Page) -> None:
    """Until the epoch is raised nothing is written, and the log says why; who comes too late with it
    gives the workers a new group as well.
    """
    worker, _ = await written(one, terminal, count=60)
    before = await published(one)
    assert await worker.stopped() == 0
    await one.delete_topic(TOPIC)
    await one.delete_topic(changelog_of("tapeline"))
    apply, incr = section(RECOVERY, "tapeline topics apply").commands
    await typed(terminal, apply)
    tape = traded(opened(5_000_000), 10)
    await one.write_tape(tape.records)
    worker = await one.worker()
    await worker.says("publisher.stale_data")
    assert await worker.stopped() == 0
    assert (await published(one))["source"] == before["source"]
    await typed(terminal, incr, *section(RECOVERY, "export NT_APP_ID").commands)
    one.env["NT_APP_ID"] = terminal.env["NT_APP_ID"]
    async with one.redis() as client:
        worker = await one.worker()
        report = await report_at(client, len(tape.records) - 1, worker=worker)
    assert report["flow"]["trade_count"] == tape.trade_id
    assert report["seq"] > before["seq"]


async def test_topics_with_more_partitions(one: House, terminal: Page, broker: LocalKafka) -> None:
    """New topics and a new group beside the old ones; the writer goes on above what it wrote."""
    worker, _ = await written(one, terminal, count=60)
    before = await published(one)
    assert await worker.stopped() == 0
    await typed(terminal, *section(PRODUCTION, "export NT_EVENTS_TOPIC").commands)
    names = ("NT_EVENTS_TOPIC", "NT_MERGED_TOPIC", "NT_APP_ID", "NT_PARTITIONS")
    one.env |= {name: terminal.env[name] for name in names}
    async with admin_of(broker.url) as admin:
        counts = await partition_counts(admin)
    assert counts[one.topic] == counts[changelog_of(one.env["NT_APP_ID"])] == int(PARTITIONS)
    assert counts[TOPIC] == 8
    tape = traded(opened(5_000_000), 10)
    await one.write_tape(tape.records)
    worker = await one.worker()
    async with one.redis() as client:
        report = await report_at(client, len(tape.records) - 1, worker=worker)
    assert report["source"]["fast"]["topic"] == one.topic
    assert report["seq"] > before["seq"]
    assert worker.logged("publisher.stale_data") == []


def test_the_pages_blocks_are_those_that_are_run_here() -> None:
    """Each that names this file."""
    named = [
        block.commands[0]
        for page in (RECOVERY, PRODUCTION)
        for block in blocks(page)
        if any("test_disaster_recovery" in mark.text for mark in block.marks)
    ]
    firsts = (
        "redis-cli BGSAVE",
        "export NT_APP_ID",
        "tapeline topics apply",
        "export NT_EVENTS_TOPIC",
    )
    assert len(named) == len(firsts)
    assert all(any(name.startswith(first) for first in firsts) for name in named)
