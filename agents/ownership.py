"""What this node writes, and by what right: heartbeat, leases and publisher as one piece.

Without reports (``NT_ENABLE_KV_REPORTS=false``) and without streams there is no Redis at all:
engines run, checkpoints are kept, nothing is owned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from redis.asyncio import Redis

from agents.coordination.connections import FAILURES, Connections
from agents.coordination.lanes import TickEncoder
from agents.coordination.lease import LeaseManager
from agents.coordination.membership import DuplicateNode, Membership
from agents.coordination.publisher import Publisher
from agents.cycles import Draft
from agents.metrics import Metrics
from agents.shards import Shards
from lua import Keys, Scripts
from tapeline.clock import Clock
from tapeline.config import Settings
from tapeline.logging import get_logger

log = get_logger("ownership")


class Ownership:
    """Leases of the assigned symbols, and the way to write under them."""

    def __init__(
        self,
        settings: Settings,
        shards: Shards,
        metrics: Metrics,
        clock: Clock,
        on_duplicate: Callable[[DuplicateNode], None],
    ) -> None:
        self._settings = settings
        self.keys = Keys(cluster=settings.redis_cluster_keys)
        self._on_duplicate = on_duplicate
        self._tokens: dict[str, int] = {}
        self._shards = shards
        self._metrics = metrics
        self._clock = clock
        self._connections: Connections | None = None
        self._membership: Membership | None = None
        self._leases: LeaseManager | None = None
        self._publisher: Publisher | None = None
        self._on_gained: list[Callable[[str], None]] = []

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
        scripts = Scripts(connections.writer, self.keys)
        self._membership = Membership(
            scripts,
            settings.node_id,
            metrics_url,
            clock=self._clock,
            sink=self._metrics,
            on_duplicate=self._on_duplicate,
        )
        await self._membership.start()
        self._leases = LeaseManager(
            scripts,
            settings.node_id,
            self._membership.incarnation,
            settings.lease_ttl_ms,
            clock=self._clock,
            sink=self._metrics,
        )
        self._publisher = Publisher(
            scripts,
            self._leases,
            ttl_ms=settings.report_ttl_ms,
            tick_period_ms=settings.tick_period_ms,
            timeout_s=connections.timeout_s,
            clock=self._clock,
            sink=self._metrics,
        )
        self._leases.listen(self._gained)
        self._leases.listen(self._publisher.resume)
        await self._leases.start()
        await self._publisher.start()

    async def stop(self) -> None:
        """Write what waits, release, leave, disconnect."""
        for part in (self._publisher, self._leases, self._membership):
            if part is not None:
                await part.stop()
        if self._connections is not None:
            await self._connections.close()
        self._publisher = self._leases = self._membership = self._connections = None

    @property
    def redis(self) -> Redis:
        """A patient client for what is not a decision."""
        assert self._connections is not None
        return self._connections.reader

    # --- what is owned ---------------------------------------------------------------------------

    async def assigned(self, tokens: Mapping[str, int]) -> None:
        """The shards' symbols are ours to write.

        Args:
            tokens: Highest token known of a symbol, out of its checkpoints.
        """
        if self._leases is None:
            return
        self._leases.want({symbol: tokens.get(symbol, 0) for symbol in self._shards.symbols()})
        await self._leases.settled()

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

    def _gained(self, symbol: str) -> None:
        lease = self._leases.current(symbol) if self._leases is not None else None
        if lease is not None:
            self._tokens[symbol] = lease.token

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
