"""What this node writes, and by what right: heartbeat, leases, publisher and takeover as one piece.

Without reports (``NT_ENABLE_KV_REPORTS=false``) and without streams there is no Redis at all:
engines run, checkpoints are kept, nothing is owned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

from redis.asyncio import Redis

from agents.coordination.connections import FAILURES, Connections
from agents.coordination.lanes import TickEncoder
from agents.coordination.lease import LeaseManager
from agents.coordination.membership import TTL_S, DuplicateNode, Membership, decode_beat
from agents.coordination.presence import Presence
from agents.coordination.publisher import Publisher, WriteTraces
from agents.coordination.takeover import Takeover, stall_ms
from agents.coordination.watch import Watched, Watcher
from agents.cycles import Draft
from agents.eviction import Group, PeerEvictor
from agents.metrics import Metrics
from agents.shards import Shards
from lua import Keys, Scripts
from tapeline.clock import Clock
from tapeline.config import Settings
from tapeline.logging import get_logger
from tapeline.tasks import end

HAND_OVER_S: Final = 1.5
"""At a stop: longest wait for others to take what this node writes."""

ASK_AGAIN_S: Final = 0.2

log = get_logger("ownership")


class Ownership:
    """Leases of the assigned symbols, and the way to write under them.

    Args:
        settings: Of the worker.
        shards: Where the engines are.
        metrics: Whoever counts.
        clock: For all of it.
        on_duplicate: Told if another process takes this node's name.
        warm: Symbols that are another's, and of which this node has a copy that is current.
        seated: Whether this node's seat in the consumer group is certain.
        on_change: Told of a symbol that may, or may not any more, be written.
        group: The consumer group, for taking dead nodes out of it.

    Attributes:
        traces: Whoever follows sampled records to their reports; before `start`.
    """

    traces: WriteTraces | None = None

    def __init__(
        self,
        settings: Settings,
        shards: Shards,
        metrics: Metrics,
        clock: Clock,
        on_duplicate: Callable[[DuplicateNode], None],
        *,
        warm: Callable[[], Iterable[str]],
        seated: Callable[[], bool],
        on_change: Callable[[str, bool], None],
        group: Group,
    ) -> None:
        self._settings = settings
        self.keys = Keys.of(settings)
        self._on_duplicate = on_duplicate
        self._tokens: dict[str, int] = {}
        self._shards = shards
        self._metrics = metrics
        self._clock = clock
        self._connections: Connections | None = None
        self._scripts: Scripts | None = None
        self._membership: Membership | None = None
        self._leases: LeaseManager | None = None
        self._publisher: Publisher | None = None
        self._presence: Presence | None = None
        self._watcher: Watcher | None = None
        self._warm, self._seated, self._on_change = warm, seated, on_change
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving = False

    # --- life ----------------------------------------------------------------------------------

    async def start(self, metrics_url: str) -> None:
        """Connect and beat; leases come with `assigned`.

        Raises:
            DuplicateNode: Another live process has this node id.
        """
        settings = self._settings
        if not (settings.enable_kv_reports or settings.enable_streams):
            return
        connections = Connections(settings.redis_url, settings.lease_ttl_ms)
        self._connections = connections
        if not settings.enable_kv_reports:
            return
        scripts = self._scripts = Scripts(connections.writer, self.keys)
        self._membership = Membership(
            scripts,
            settings.node_id,
            metrics_url,
            clock=self._clock,
            sink=self._metrics,
            on_duplicate=self._on_duplicate,
        )
        self._membership.weight = settings.node_weight
        await self._membership.start()
        self._leases = LeaseManager(
            scripts,
            settings.node_id,
            self._membership.incarnation,
            settings.lease_ttl_ms,
            clock=self._clock,
            sink=self._metrics,
            on_lost=self._lost,
        )
        self._publisher = Publisher(
            scripts,
            self._leases,
            ttl_ms=settings.report_ttl_ms,
            tick_period_ms=settings.tick_period_ms,
            timeout_s=connections.timeout_s,
            clock=self._clock,
            sink=self._metrics,
            traces=self.traces,
        )
        self._leases.listen(self._gained)
        self._leases.listen(self._publisher.resume)
        await self._leases.start()
        await self._publisher.start()
        membership = self._membership
        self._presence = Presence(
            connections.writer,
            connections.listener,
            self.keys,
            settings.node_id,
            membership.incarnation,
            lambda: membership.alive,
            clock=self._clock,
            changed=self._wake,
        )
        self._watcher = Watcher(
            scripts,
            self._leases,
            self._presence.view,
            Takeover(settings.node_id, settings.min_hold_ms, stall_ms(settings.report_period_ms)),
            self._watched,
            PeerEvictor(self._group, connections.reader, self.keys),
            clock=self._clock,
            sink=self._metrics,
        )
        self._spawn(self._presence.listen(), "presence-listen")
        self._spawn(self._presence.look(), "presence-look")
        self._spawn(self._watcher.run(), "takeover")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    def _wake(self) -> None:
        if self._watcher is not None:
            self._watcher.wake()

    async def hand_over(self) -> None:
        """At a stop: have others take what this node writes, while it still does."""
        presence, leases = self._presence, self._leases
        self._leaving = True
        if self._membership is not None:
            self._membership.state = "draining"
        if presence is None or leases is None or not presence.view.present():
            return
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + HAND_OVER_S
        asked_s = 0.0
        while leases.owned() and loop.time() < ends_s:
            if loop.time() - asked_s >= ASK_AGAIN_S:
                asked_s = loop.time()
                try:
                    await presence.announce_leave()
                except FAILURES as error:
                    log.warning("handover.not_announced", error=repr(error))
            await asyncio.sleep(0.01)
        log.info("handover.done", left=leases.owned())

    async def stop(self) -> None:
        """Write what waits, release, leave, disconnect."""
        for task in self._tasks:
            await end(task)
        self._tasks.clear()
        self._presence = self._watcher = None
        for part in (self._publisher, self._leases, self._membership):
            if part is not None:
                await part.stop()
        if self._connections is not None:
            await self._connections.close()
        self._publisher = self._leases = self._membership = self._connections = None
        self._scripts = None

    @property
    def redis(self) -> Redis:
        """A patient client for what is not a decision."""
        assert self._connections is not None
        return self._connections.reader

    async def weights(self) -> dict[str, float]:
        """Each node that is alive, with its weight; 0 while it drains. Empty without reports."""
        if self._scripts is None or self._membership is None:
            return {}
        found = {}
        for node, beat in (await self._scripts.heartbeats(self._membership.alive)).items():
            said = decode_beat(beat)
            draining = said.get("state") == "draining"
            found[node] = 0.0 if draining else float(said.get("weight", 1.0))
        return found

    async def is_written(self, symbol: str) -> bool:
        """Whether some node holds the lease of a symbol."""
        if self._scripts is None:
            return False
        return bool((await self._scripts.look(self.keys.writer(symbol))).lease_value)

    async def erase(self, symbol: str) -> None:
        """Delete the reports of a symbol that nobody writes any more; not its token, nor its meta."""
        if self._scripts is not None:
            keys = self.keys
            await self.redis.delete(keys.report(symbol), keys.heavy(symbol), keys.tick(symbol))

    # --- what is owned ---------------------------------------------------------------------------

    async def assigned(self, tokens: Mapping[str, int]) -> None:
        """The shards' symbols are ours to write.

        Args:
            tokens: Highest token known of a symbol, out of its checkpoints.
        """
        if self._leases is None:
            return
        symbols = self._shards.symbols()
        # What another is to write is written here until it does.
        self._leases.want(
            {symbol: tokens.get(symbol, 0) for symbol in symbols}, keep=self._leases.owned()
        )
        await self._leases.settled()

    def _watched(self) -> dict[str, Watched]:
        """What this node could write and does not."""
        leases = self._leases
        if leases is None or self._leaving:
            return {}
        owned = set(leases.owned())
        ours = set(self._shards.symbols()) if self._seated() else set()
        watched = {}
        for symbol in sorted((ours | set(self._warm())) - owned):
            engine = self._shards.engine(symbol)
            if engine is not None and engine.applied >= 0:
                watched[symbol] = Watched(self._shards.watermark(engine), symbol in ours)
        return watched

    def came_on(self, symbol: str) -> None:
        """A copy of another's symbol has applied records."""
        engine = self._shards.engine(symbol)
        if self._watcher is not None and engine is not None:
            self._watcher.note(symbol, self._shards.watermark(engine))

    def holds(self, symbol: str) -> bool:
        """Whether this node may write a symbol now."""
        return self._leases is not None and self._leases.current(symbol) is not None

    def owned(self) -> list[str]:
        """Symbols that may be written now."""
        return self._leases.owned() if self._leases is not None else []

    def wanted(self) -> list[str]:
        """Symbols that are ours to write, held or not: reports are computed for them."""
        return self._leases.wanted() if self._leases is not None else []

    def token(self, symbol: str) -> int:
        """Token of the lease that is held, or was last; 0 without any.

        Not the highest one seen: a state kept under another writer's token would replace what
        that writer has kept.
        """
        return self._tokens.get(symbol, 0)

    def may_keep(self, symbol: str, stored: int) -> bool:
        """Whether a state of the symbol may be kept, where one is kept under the token ``stored``.

        Only under a token of ours: under another's, that writer's late checkpoint could replace
        ours by an older one, behind which records are committed. Where no reports are written there
        are no tokens, and nobody to write late.
        """
        return self._leases is None or self.token(symbol) >= stored

    def _gained(self, symbol: str) -> None:
        lease = self._leases.current(symbol) if self._leases is not None else None
        if lease is not None:
            self._tokens[symbol] = lease.token
        self._on_change(symbol, True)

    def _lost(self, symbol: str, _reason: str) -> None:
        if self._publisher is not None and not self._is_ours(symbol):
            self._publisher.clear((symbol,))
        self._on_change(symbol, False)

    def _is_ours(self, symbol: str) -> bool:
        return self._leases is not None and self._leases.assigned(symbol)

    def is_alive(self) -> bool:
        """Whether a heartbeat of this node stands in Redis, and it is not about to leave."""
        if self._membership is None:
            return True
        age_ms = self._clock.now_ms() - self._membership.last_heartbeat_ts
        return not self._leaving and age_ms < TTL_S * 1000

    def last_heartbeat_ms(self) -> int:
        """Time of the newest accepted heartbeat, 0 without any."""
        return self._membership.last_heartbeat_ts if self._membership is not None else 0

    # --- writing -----------------------------------------------------------------------------------

    def put(self, symbol: str, draft: Draft) -> None:
        """Take the newest report of a symbol."""
        if self._publisher is not None:
            self._publisher.put(symbol, draft.watermark, draft.encode)

    def put_tick(self, symbol: str, watermark: int, encode: TickEncoder) -> None:
        """Take the newest tick of a symbol."""
        if self._publisher is not None:
            self._publisher.put_tick(symbol, watermark, encode)

    # --- the topic's epoch ---------------------------------------------------------------------------

    async def load_epoch(self, topic: str) -> None:
        """Learn how often the topic has been recreated; kept at what is known while Redis is away."""
        if self._connections is None:
            return
        try:
            stored = await self.redis.get(self.keys.topic_epoch(topic))
        except FAILURES as error:
            log.warning("epoch.unknown", error=repr(error))
            return
        self._shards.epoch = max(self._shards.epoch, int(stored or 0))

    async def raise_epoch(self, topic: str) -> int:
        """The topic has been recreated: watermarks go on above all that was published before."""
        epoch = self._shards.epoch + 1
        if self._connections is not None:
            key = self.keys.topic_epoch(topic)
            counted = int(await self.redis.incr(key))
            if counted < epoch:  # Redis has lost what the checkpoints still know
                await self.redis.set(key, epoch)
            epoch = max(epoch, counted)
        self._shards.epoch = epoch
        return epoch
