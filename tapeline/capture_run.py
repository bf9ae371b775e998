"""``tapeline capture run``: a recording through the whole path, on a real Kafka.

The recording takes the sockets' place in a bridge of this process; a worker of its own applies
the records and publishes; then the topic is read back, counted by a second opinion, and the
report is recomputed from it. Topics, consumer group and worker are this run's alone.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
from redis.asyncio import Redis

from agents.parameters import parameters_of
from agents.recompute import recompute
from lua import Keys
from streams import topics
from streams.bridge import Bridge
from streams.sources import Sink
from streams.symbols import Listing
from streams.tape_audit import TapeAudit
from streams.tape_source import TapeSource
from streams.topic_reader import TopicReader
from tables.report import Report, decode_report, encode_report
from tapeline.config import Settings, load_settings
from tapeline.config_security import refuse_for_own_servers
from tapeline.errors import ConfigError, StackError
from tapeline.stack.embedded import EmbeddedKeyValueStore
from tapeline.stack.kafka_jars import unavailable
from tapeline.stack.kafka_local import AT_ONCE, LocalKafka
from tapeline.stack.ports import free_port
from tapeline.stack.processes import ChildProcess
from tapeline.stack.programs import program
from tapeline.tasks import end_all

REPORT_WAIT_S: Final = 60.0
POLL_S: Final = 0.02
AGAIN_S: Final = 4.0
"""Longer than the bridge takes to end well."""


@dataclass(slots=True)
class CaptureRun:
    """What a run found.

    Attributes:
        frames: Frames played.
        audit: Counts over the records that the topic holds.
        problems: Frames that were refused, the first of them.
        errors: How many were.
        reports: The worker's last report by symbol.
        recomputed: Whether each is the very bytes that the topic's records give.
        restarts: Times the worker was killed and started again.
        first_report_s: From the restart to the next report; None without one.
        seconds: From the first frame to the last report.
    """

    frames: int = 0
    audit: TapeAudit = field(default_factory=TapeAudit)
    problems: list[str] = field(default_factory=list)
    errors: int = 0
    reports: dict[str, Report] = field(default_factory=dict)
    recomputed: dict[str, bool] = field(default_factory=dict)
    restarts: int = 0
    first_report_s: float | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Nothing lost, nothing wrong, every report the one its records give."""
        audit = self.audit
        wrong = audit.gaps + audit.crossed + audit.errors + self.errors
        unequal = audit.tops_compared - audit.tops_equal
        return not wrong and not unequal and all(self.recomputed.values())

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; ``report`` is the first symbol's."""
        reports = {s: orjson.loads(msgspec.json.encode(r)) for s, r in self.reports.items()}
        counts = self.audit.as_json()
        return {
            "frames": self.frames,
            **counts,
            "errors": counts["errors"] + self.errors,
            "recomputed_equal": self.recomputed,
            "restarts": self.restarts,
            "seconds_to_report_after_restart": self.first_report_s,
            "seconds": round(self.seconds, 3),
            "ok": self.ok,
            "report": next(iter(reports.values()), None),
            **({"reports": reports} if len(reports) > 1 else {}),
        }


class _GatedTape(TapeSource):
    """A tape that can be held at a frame."""

    hold_at: int | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()

    async def run(self, sink: Sink) -> None:
        await super().run(_Gate(sink, self))


class _Gate:
    """A sink that has no room while the tape is held."""

    def __init__(self, sink: Sink, tape: _GatedTape) -> None:
        self._sink, self._tape = sink, tape
        self.accept, self.tick = sink.accept, sink.tick
        self.unlisted, self.ready = sink.unlisted, sink.ready
        self.frame_refused = sink.frame_refused

    async def room(self) -> None:
        tape = self._tape
        if tape.hold_at is not None and tape.counts.frames >= tape.hold_at:
            tape.hold_at = None
            tape.held.set()
            await tape.go_on.wait()
        await self._sink.room()


async def run_capture(
    venue: str,
    files: Sequence[Path],
    *,
    listings: Sequence[Listing] = (),
    kill_worker_at: int | None = None,
    on_frames: Callable[[int, int], None] | None = None,
    on_stage: Any = None,
) -> CaptureRun:
    """Play a recording through bridge, Kafka, worker and Redis.

    Args:
        venue: Whose recording it is.
        files: In the order they were recorded.
        listings: Symbols to follow; all on the tape if empty.
        kill_worker_at: SIGKILL the worker at this frame, and start it again.
        on_frames: Told of the frames played, and of how many there are, now and then.
        on_stage: Told what is being waited for.

    Raises:
        ConfigError: Nothing to follow, or symbols that are live in the given Redis.
        StackError: No Kafka to be had, or a part has died.
    """
    stage = on_stage or (lambda _text: None)
    tape = _GatedTape(venue, files, listings or None)
    if not tape.listings:
        raise ConfigError("symbols", None, f"a tape of {venue} that names one, or --symbol")
    tape.hold_at = kill_worker_at
    async with AsyncExitStack() as stack:
        stage("starting broker and store")
        settings = await _settings(stack, tape)
        redis = Redis.from_url(settings.redis_url)
        stack.push_async_callback(redis.aclose)
        await stack.enter_async_context(_keys_of_our_own(redis, _keys(settings), tape.listings))
        await stack.enter_async_context(_topics_of_our_own(settings))
        worker = _Worker(settings)
        stack.push_async_callback(worker.stop)
        stage("starting the worker")
        await worker.start()
        run = CaptureRun()
        began = time.monotonic()
        stage("playing")
        await _play(settings, tape, worker, redis, run, on_frames)
        stage("reading the topic back")
        records = await _read_back(settings, run.audit)
        stage("waiting for the last report")
        for symbol, held in records.items():
            payload = await _last_report(
                redis, worker, _keys(settings).report(symbol), symbol, held[-1][0]
            )
            run.reports[symbol] = decode_report(payload)
            again = recompute(run.reports[symbol], held, parameters_of(settings))
            run.recomputed[symbol] = payload == encode_report(again, settings.report_split_bytes)[0]
        run.seconds = time.monotonic() - began
        run.frames, run.errors = tape.player.frames, tape.player.problem_count
        run.problems = tape.player.problems
        return run


async def _settings(stack: AsyncExitStack, tape: TapeSource) -> Settings:
    given = load_settings()
    refuse_for_own_servers(given)
    kafka_url, redis_url = given.kafka_url, given.redis_url
    if not kafka_url:
        reason = unavailable()
        if reason is not None:
            raise StackError(f"a capture runs on a real Kafka: set KAFKA_URL ({reason})")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tapeline-kafka-"))
        kafka = LocalKafka(Path(folder), settings=AT_ONCE)
        kafka_url = (await stack.enter_async_context(kafka)).url
    if not redis_url:
        redis_url = (await stack.enter_async_context(EmbeddedKeyValueStore())).url
    name = f"capture-{uuid.uuid4().hex[:8]}"
    return load_settings(
        kafka_url=kafka_url,
        redis_url=redis_url,
        symbols=",".join(str(listing) for listing in tape.listings),
        events_topic=f"{name}.events",
        app_id=name,
        report_suffix="",
        node_id=name,
        clock="records",
        metrics_port=free_port(),
        bridge_port=0,
    )


def _keys(settings: Settings) -> Keys:
    return Keys.of(settings)


@asynccontextmanager
async def _keys_of_our_own(
    redis: Redis, keys: Keys, listings: Sequence[Listing]
) -> AsyncIterator[None]:
    """No report of somebody else's is overwritten, and none of ours is left."""
    for listing in listings:
        if await redis.exists(keys.report(listing.symbol), keys.writer(listing.symbol).lease):
            raise ConfigError(
                "REDIS_URL",
                f"a store that holds a report of {listing.symbol}",
                "one without, such as another database",
            )
    try:
        yield
    finally:
        for listing in listings:
            s = listing.symbol
            await redis.delete(
                keys.report(s), keys.heavy(s), keys.tick(s), keys.meta(s), *keys.writer(s),
                *keys.feed(listing.venue, s),
            )  # fmt: skip


@asynccontextmanager
async def _topics_of_our_own(settings: Settings) -> AsyncIterator[None]:
    """The events topic, its dead letters and the changelog; removed at the end."""
    ours = [
        topic
        for topic in topics.plan(settings)
        if topic.name.startswith((settings.events_topic, settings.app_id))
    ]
    async with topics.admin_of(settings) as admin:
        await topics.apply(admin, ours, replication_factor=settings.replication_factor)
    try:
        yield
    finally:
        async with topics.admin_of(settings) as admin:
            await admin.delete_topics([topic.name for topic in ours])


class _Worker:
    """The worker of this run, and the one started in its place."""

    def __init__(self, settings: Settings) -> None:
        self._env = {
            "KAFKA_URL": settings.kafka_url,
            "REDIS_URL": settings.redis_url,
            "SYMBOLS": settings.symbols,
            "NT_EVENTS_TOPIC": settings.events_topic,
            "NT_APP_ID": settings.app_id,
            "NT_REPORT_SUFFIX": "",
            "NT_NODE_ID": settings.node_id,
            "NT_CLOCK": "records",
            "NT_METRICS_PORT": str(settings.metrics_port),
        }
        self.child: ChildProcess | None = None

    async def start(self) -> None:
        self.child = program("worker", env=self._env)
        await self.child.start()

    async def kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        await self.child.wait()

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop(grace_s=10.0)

    def check(self) -> None:
        """Raises StackError if it has died by itself."""
        child = self.child
        if child is not None and not child.running:
            raise StackError(
                f"the worker ended with status {child.returncode}; its last lines:\n{child.tail()}"
            )


async def _play(
    settings: Settings,
    tape: _GatedTape,
    worker: _Worker,
    redis: Redis,
    run: CaptureRun,
    on_frames: Callable[[int, int], None] | None,
) -> None:
    bridge = asyncio.create_task(Bridge(settings, source=tape).run())
    helpers = [asyncio.create_task(_tell(tape, on_frames))]
    if tape.hold_at is not None:
        helpers.append(asyncio.create_task(_kill_midway(tape, worker, redis, _keys(settings), run)))
    try:
        status = await bridge
        if status != 0:
            raise StackError(f"the bridge ended with status {status}; its log says why")
        for helper in helpers[1:]:
            await helper
    finally:
        await end_all([bridge, *helpers], AGAIN_S)


async def _tell(tape: TapeSource, on_frames: Callable[[int, int], None] | None) -> None:
    while on_frames is not None:
        on_frames(tape.counts.frames, tape.frames)
        await asyncio.sleep(0.1)


async def _kill_midway(
    tape: _GatedTape, worker: _Worker, redis: Redis, keys: Keys, run: CaptureRun
) -> None:
    """Kill the worker once it has published some of the tape, while the rest is being played."""
    await tape.held.wait()
    key = keys.report(tape.listings[0].symbol)
    while True:
        worker.check()
        payload: Any = await redis.get(key)
        if payload is not None and decode_report(payload).source.fast.offset > 0:
            break
        await asyncio.sleep(POLL_S)
    tape.go_on.set()
    await worker.kill()
    stored: Any = await redis.get(key)
    before = decode_report(stored)
    restarted = time.monotonic()
    await worker.start()
    run.restarts += 1
    while True:
        worker.check()
        stored = await redis.get(key)
        now = decode_report(stored)
        if (now.writer.writer_token, now.seq) > (before.writer.writer_token, before.seq):
            run.first_report_s = round(time.monotonic() - restarted, 3)
            return
        await asyncio.sleep(POLL_S)


async def _read_back(settings: Settings, audit: TapeAudit) -> dict[str, list[tuple[int, bytes]]]:
    """Every record of the topic, by symbol, counted on the way."""
    records: dict[str, list[tuple[int, bytes]]] = {}
    async with TopicReader(settings, settings.events_topic) as reader:
        reader.open(await reader.held(range(reader.partitions)))
        while reader.left:
            for batch in (await reader.read()).values():
                for record in batch:
                    audit.add(record.value)
                    symbol = record.key.decode()
                    records.setdefault(symbol, []).append((record.offset, record.value))
    return records


async def _last_report(redis: Redis, worker: _Worker, key: str, symbol: str, offset: int) -> bytes:
    """The report whose fast and slow part are both of the tape's last record."""
    deadline = time.monotonic() + REPORT_WAIT_S
    while time.monotonic() < deadline:
        worker.check()
        payload: Any = await redis.get(key)
        if payload is not None:
            source = decode_report(payload).source
            if source.fast.offset == offset and source.slow and source.slow.offset == offset:
                return bytes(payload)
        await asyncio.sleep(POLL_S)
    assert worker.child is not None
    raise StackError(
        f"no report of {symbol} up to offset {offset} within {REPORT_WAIT_S:g} s; the worker's "
        f"last lines:\n{worker.child.tail()}"
    )
