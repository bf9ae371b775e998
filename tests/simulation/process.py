"""One simulated worker process: the product's coordination on a model of everything around it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

from agents.coordination.membership import TTL_S, DuplicateNode, Membership, Node
from agents.coordination.sink import NullSink
from agents.eviction import MISSED_BEATS_MS, SIGN_PERIOD_S, SIGN_WAIT_S
from agents.group import CERTAIN_MS
from agents.ownership import Ownership
from lua.scripts import Call
from tests.simulation.feeds import ModelShards, ModelStandby, ModelTail
from tests.simulation.kafka_model import KafkaModel, Seat
from tests.simulation.loop import ProcessLoop, World
from tests.simulation.network import EPOCH_MS, Client, Connections, Link, ModelScripts
from tests.support.invariants import Belief, History, Move, Stop, Told

POLL_S: Final = 0.1
HEARTBEAT_S: Final = 0.5
CYCLE_S: Final = 0.25
CHECKPOINT_S: Final = 2.0
FLOW_RECORDS: Final = 60
"""Most that one poll of the group's flow brings of a partition: it takes a while to catch up."""

SETTINGS: Final = SimpleNamespace(
    enable_kv_reports=True, enable_streams=False, redis_cluster_keys=False, report_suffix="",
    redis_url="", lease_ttl_ms=2000, report_ttl_ms=300_000, tick_period_ms=500, node_weight=1.0,
    report_period_ms=250, min_hold_ms=2000,
)  # fmt: skip

RUNNING: ContextVar[Process] = ContextVar("running")
"""The process whose code runs: what the product makes for itself finds its model by it."""


@dataclass(slots=True)
class ProcessClock:
    """What a process's clocks show.

    Attributes:
        wall_off_ms: By how much the wall clock is off.
    """

    loop: ProcessLoop
    wall_off_ms: int = 0

    def now_ms(self) -> int:
        """Wall clock."""
        return EPOCH_MS + int(self.loop.time() * 1000) + self.wall_off_ms

    def monotonic_ms(self) -> int:
        """Monotonic clock."""
        return int(self.loop.time() * 1000)


class Watching(NullSink):
    """Told by the product of what becomes of leases."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def leases(self, held: int) -> None:
        """Passes of the lease manager end with this."""
        self._process.note_beliefs()

    def lease_lost(self, symbol: str, reason: str) -> None:
        """A lease may not be written under any more."""
        self._process.note_beliefs()

    def taking(self, symbol: str, reason: str) -> None:
        """The watcher asks for a lease."""
        self._process.taking[symbol] = reason


class ModelMembership(Membership):
    """The product's, with names that a seed decides."""

    def __init__(self, scripts: Any, node_id: str, metrics_url: str, **more: Any) -> None:
        process = RUNNING.get()
        super().__init__(scripts, node_id, metrics_url, rng=process.rng, **more)
        self.node = Node(
            node_id, metrics_url, 0, process.incarnation, "sim", process.number, process.machine
        )

    def _is_dead(self, holder: dict[str, Any]) -> bool:
        process = RUNNING.get()
        return holder.get("pid_space") == process.machine and not process.lives(holder["pid"])


class ModelEvictor:
    """Stands for `agents.eviction.PeerEvictor`, by its rules."""

    def __init__(self, _group: Any, redis: Client, keys: Any) -> None:
        self._redis, self._keys = redis, keys

    async def second_sign(self, node: str) -> str:
        """As the product's."""
        process = RUNNING.get()
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + SIGN_WAIT_S
        while True:
            beat, left_ms = await self._redis.heartbeat(self._keys.node(node))
            if beat is None:
                return "heartbeat expired"
            if TTL_S * 1000 - left_ms > MISSED_BEATS_MS:
                return "heartbeats missed"
            if process.refuses(node):
                return "connection refused"
            if loop.time() > deadline_s:
                return ""
            await asyncio.sleep(SIGN_PERIOD_S)

    async def evict(self, node: str) -> bool:
        """As the product's."""
        process = RUNNING.get()
        if not process.reaches_kafka():
            raise OSError("no broker")
        return process.kafka.leave(process.kafka.members_of(node), f"is evicted by {process.name}")


class Process:
    """One start of a node, from its first heartbeat to its end.

    Args:
        number: Which start of any node this is: its pid, too.
        machine: Processes of one machine can tell that another of it is dead.
        start_s: How long its machine has been up.
        rate: How fast its clock goes.
        wall_off_ms: By how much its wall clock is off.
        lives: Whether a pid lives.
        refuses: Whether a node's port refuses connections.
        fail: Called if it can't go on.
    """

    def __init__(
        self,
        world: World,
        name: str,
        number: int,
        machine: str,
        symbols: list[str],
        link: Link,
        kafka: KafkaModel,
        history: History,
        trace: Callable[[str, str], None],
        *,
        rng: random.Random,
        rate: float,
        wall_off_ms: int,
        gated: bool,
        lives: Callable[[int], bool],
        refuses: Callable[[str], bool],
        fail: Callable[[Process], None],
    ) -> None:
        self.name, self.number, self.machine = name, number, machine
        self.incarnation = f"i{number}"
        self.loop = ProcessLoop(world, 1000.0 * rng.random(), rate)
        self.clock = ProcessClock(self.loop, wall_off_ms - int(self.loop.time() * 1000))
        self.clock.wall_off_ms += int(world.now_s * 1000)
        self.link, self.kafka, self.rng = link, kafka, rng
        self.lives, self.refuses = lives, refuses
        self._world, self._history, self._trace, self._fail = world, history, trace, fail
        self.taking: dict[str, str] = {}
        self.stopping = False
        self.stopped = False
        self._believed: dict[str, tuple[str, float, float]] = {}
        self._symbols = symbols
        self._weight = 1.0
        self.shards = ModelShards(f"{name}|{self.incarnation}", symbols, kafka, history, gated)
        self.tail = ModelTail()
        self.standby = ModelStandby(
            self.shards, self.tail, self._holds, kafka, rng, self.reaches_kafka
        )
        self._member = ""
        self._generation = 0
        self._confirmed_ms: int | None = None
        self._flowing = False
        self._flow: dict[int, int] = {}
        self._stored: dict[int, set[int]] = {}
        self._complete = False
        self._stops = 0
        self._restoring = asyncio.Lock()
        self._heartbeat_s = 0.0
        self._fetch_late_s = rng.uniform(0.005, 0.04)
        self._tasks: list[asyncio.Task[Any]] = []
        self.ownership = Ownership(
            SimpleNamespace(**{**vars(SETTINGS), "node_id": name}),  # type: ignore[arg-type]
            self.shards,  # type: ignore[arg-type]
            Watching(self),  # type: ignore[arg-type]
            self.clock,
            lambda error: self._die(str(error)),
            warm=self.standby.ready,
            seated=self._seated,
            on_change=self._on_lease,
            group=None,  # type: ignore[arg-type]
        )

    # --- what the product makes for itself -------------------------------------------------------

    def connections(self, lease_ttl_ms: int) -> Connections:
        """The way to Redis."""
        return Connections(self.link, lease_ttl_ms / 4 / 1000)

    def scripts(self, client: Client, keys: Any) -> ModelScripts:
        """Typed calls."""
        return ModelScripts(client, keys, self._asking, self._answered)

    # --- life ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start."""
        token = RUNNING.set(self)
        try:
            self.loop.spawn(self._run(), f"{self.name}-main")
        finally:
            RUNNING.reset(token)

    async def _run(self) -> None:
        try:
            await self.ownership.start(f"http://{self.name}")
        except DuplicateNode as error:
            self._die(str(error))
            return
        while not self.reaches_kafka():  # noqa: ASYNC110 - nobody tells when a cut is healed
            await asyncio.sleep(POLL_S)
        predecessors = self.kafka.members_of(self.name)
        self._member = self.kafka.join(self.name, self._weight, frozenset())
        if predecessors:
            self.kafka.leave(predecessors, "is dead")
        self._spawn(self._cycles(), "cycles")
        self._spawn(self._checkpoints(), "checkpoints")
        while not self.stopped:
            self._poll()
            await asyncio.sleep(POLL_S)

    def _spawn(self, work: Any, name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=f"{self.name}-{name}"))

    def _die(self, why: str) -> None:
        self._trace(self.name, f"ends itself: {why}")
        self._world.after(0, lambda: self._fail(self))

    def stop(self) -> None:
        """SIGTERM."""
        if self.stopping:
            return
        self.stopping = True
        token = RUNNING.set(self)
        try:
            self.loop.spawn(self._stop(), f"{self.name}-stop")
        finally:
            RUNNING.reset(token)

    async def _stop(self) -> None:
        self._weight = 0.0
        await self.ownership.hand_over()
        self._save()
        self.stopped = True
        self._flowing = False
        if self._member and self.reaches_kafka():
            self.kafka.leave({self._member})
        for task in self._tasks:
            task.cancel()
        await self.standby.stop()
        await self.ownership.stop()
        self.note_beliefs()
        now_s = self._world.now_s
        clean = self.link.server.up and self.link.wire.is_calm(now_s)
        self._history.stops.append(Stop(now_s, self.name, self.incarnation, clean))
        self._die("stopped")

    # --- the group -----------------------------------------------------------------------------

    def reaches_kafka(self) -> bool:
        """Whether the broker answers."""
        return self.name not in self.kafka.cut

    def _seated(self) -> bool:
        confirmed_ms = self._confirmed_ms
        return (
            self._complete
            and confirmed_ms is not None
            and self.clock.monotonic_ms() - confirmed_ms < CERTAIN_MS
        )

    def _poll(self) -> None:
        if not self.reaches_kafka():
            return
        now_s = self.loop.time()
        if not self._complete or now_s >= self._heartbeat_s:
            self._heartbeat_s = now_s + HEARTBEAT_S
            self._beat_group()
        self._read()

    def _beat_group(self) -> None:
        answer = self.kafka.heartbeat(self._member, self._generation)
        if isinstance(answer, Seat):
            self._generation = answer.generation
            self._stop_flow()
            self._confirmed_ms = self.clock.monotonic_ms()
            self._spawn(self._assign(answer, self._stops), f"assign-{answer.generation}")
        elif answer == "ok":
            if self._complete:
                self._confirmed_ms = self.clock.monotonic_ms()
        else:
            self._confirmed_ms = None
            self._stop_flow()
            held = frozenset(self.shards.own)
            if answer == "unknown":
                self._trace(self.name, "finds itself thrown out of the group")
                self._member = self.kafka.join(self.name, self._weight, held)
            else:
                self.kafka.rejoin(self._member, self._weight, held)

    def _stop_flow(self) -> None:
        self._stops += 1
        self._complete = False
        if self._flowing:
            self._flowing = False
            self.standby.pause(dict(self._flow))

    async def _assign(self, seat: Seat, stops: int) -> None:
        async with self._restoring:
            await asyncio.sleep(self.rng.uniform(0.02, 0.2))
            if seat.generation != self._generation or self.stopped:
                return
            replaced = self.shards.assign(seat.own)
            self.standby.restart(replaced)
            self._stored = {p: set(self.kafka.changelog.get(p, ())) for p in sorted(seat.own)}
            tokens = {self._symbols[p]: max(t, default=0) for p, t in self._stored.items()}
            await self.ownership.assigned(tokens)
            if seat.generation != self._generation or self.stopped or self._stops != stops:
                return  # as the product: the flow has stopped meanwhile, and another seat will come
            self.note_beliefs()
            self.standby.assigned(seat.own, seat.standby)
            self._flow = {p: self.kafka.committed.get(p, 0) for p in sorted(seat.own)}
            self._flowing = self._complete = True
            self._draft_all()

    # --- records ---------------------------------------------------------------------------------

    def _read(self) -> None:
        # What the broker has now, as it arrives.
        now_s = self._world.now_s - self._fetch_late_s
        touched = set()
        for partition, position in list(self.tail.positions.items()):
            end = self.kafka.end(partition, now_s)
            if end > position:
                if self.shards.apply(partition, position, end):
                    touched.add(partition)
                self.tail.positions[partition] = end
            self.tail.current.add(partition)
        if self._flowing:
            for partition, position in self._flow.items():
                end = min(self.kafka.end(partition, now_s), position + FLOW_RECORDS)
                if end > position:
                    if self.shards.apply(partition, position, end):
                        touched.add(partition)
                    self._flow[partition] = end
                    self.standby.flowing(partition, end)
        for partition in sorted(touched):
            symbol = self._symbols[partition]
            if self.ownership.holds(symbol):
                self._tick(symbol)
            else:
                self.ownership.came_on(symbol)

    # --- reports -----------------------------------------------------------------------------------

    def _holds(self, partition: int) -> bool:
        return self.ownership.holds(self._symbols[partition])

    def _on_lease(self, symbol: str, gained: bool) -> None:
        self.note_beliefs()
        if gained:
            self._tick(symbol)
            self._draft(symbol)
        elif self.shards.partition_of[symbol] not in self.shards.own:
            self.standby.review()

    async def _cycles(self) -> None:
        await asyncio.sleep(self.rng.uniform(0, CYCLE_S))
        while True:
            self._draft_all()
            await asyncio.sleep(CYCLE_S)

    def _draft_all(self) -> None:
        for symbol in self.ownership.wanted():
            self._draft(symbol)

    def _draft(self, symbol: str) -> None:
        engine = self.shards.engine(symbol)
        if engine is None or engine.applied < 0:
            return
        watermark = self.shards.watermark(engine)

        def encode(token: int, seq: int, updated_at: int) -> tuple[bytes, bytes]:
            return b"%d,%d,%d,%d" % (token, seq, watermark, updated_at), b""

        self.ownership.put(symbol, SimpleNamespace(watermark=watermark, encode=encode))  # type: ignore[arg-type]

    def _tick(self, symbol: str) -> None:
        engine = self.shards.engine(symbol)
        if engine is None or engine.applied < 0:
            return
        watermark = self.shards.watermark(engine)
        self.ownership.put_tick(
            symbol, watermark, lambda token, seq: b"%d,%d,%d" % (token, seq, watermark)
        )

    async def _checkpoints(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_S)
            if self._complete:  # as the checkpointer, which is paused while the group assigns
                self._save()

    def _save(self) -> None:
        if not self.reaches_kafka():
            return
        for partition in sorted(self.shards.own):
            symbol = self._symbols[partition]
            engine = self.shards.engine(symbol)
            stored = self._stored.get(partition)
            if engine is not None and engine.applied >= 0 and stored is not None:
                # Never below what is stored: it would be ignored when restoring.
                token = max(self.ownership.token(symbol), max(stored, default=0))
                older = {held for held in stored if held < token}
                stored.difference_update(older)
                stored.add(token)
                self.kafka.save(self._member, partition, token, engine.applied, sorted(older))

    # --- what is recorded --------------------------------------------------------------------------

    def note_beliefs(self) -> None:
        """Which leases this process takes for valid now, and until when it will at most."""
        if self.link.dead:
            return
        now_s = self._world.now_s
        leases = self.ownership._leases
        for symbol in self._symbols:
            lease = leases.current(symbol) if leases is not None else None
            before = self._believed.get(symbol)
            if lease is None:
                if before is not None:
                    self._close(symbol, now_s)
                continue
            ends_s = self.loop.world_s(lease.deadline_ms / 1000)
            if before is None or before[0] != lease.value or before[2] < now_s:
                if before is not None:
                    self._close(symbol, now_s)
                self._believed[symbol] = (lease.value, now_s, ends_s)
            else:
                self._believed[symbol] = (lease.value, before[1], ends_s)

    def _close(self, symbol: str, now_s: float) -> None:
        value, from_s, until_s = self._believed.pop(symbol)
        self._history.beliefs.append(Belief(symbol, value, from_s, min(until_s, now_s)))

    def close_beliefs(self) -> None:
        """The process has ended, or the run: what it believes it believes no longer."""
        for symbol in list(self._believed):
            self._close(symbol, self._world.now_s)

    def _asking(self, calls: Sequence[Call]) -> None:
        if calls[0].script.name == "release":
            self.note_beliefs()  # what is given back is believed in no longer

    def _answered(self, calls: Sequence[Call], replies: Sequence[Any]) -> None:
        for call, reply in zip(calls, replies, strict=True):
            name = call.script.name
            if name == "acquire" and not isinstance(reply, Exception):
                self._moved(call, reply)
            elif name == "renew" and reply == 0:
                self._over(call.keys[0], call.args[0])
            elif name in {"publish", "publish_tick"} and reply in {-1, -2}:
                self._over(call.keys[2 if name == "publish" else 1], call.args[0])

    def _over(self, lease_key: str, value: Any) -> None:
        symbol = lease_key.rpartition(":")[2]
        self._history.told.append(Told(self._world.now_s, symbol, str(value)))

    def _moved(self, call: Call, reply: Any) -> None:
        symbol = call.keys[0].rpartition(":")[2]
        reason = self.taking.pop(symbol, "")
        before = str(call.args[5]).partition("|")[0]
        if reply[0] == 3 and before != self.name:
            self._history.moves.append(Move(self._world.now_s, symbol, before, self.name, reason))
