"""Who is there and what is written, as Redis and the nodes' own ``/health`` show it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from serving.reader import StoreUnavailable, aged
from tapeline.clock import Clock, SystemClock
from tapeline.errors import ReportError

HEALTH_TIMEOUT_S: Final = 0.5
DISCOVER_MS: Final = 5000
"""Between two searches for symbols and nodes that nobody has named: each walks all keys."""

GONE_MS: Final = 60_000
"""How long a node is still shown after its heartbeat has expired."""

_SCAN_COUNT: Final = 1000


class _Beat(msgspec.Struct):
    """A heartbeat, ``nt:node:ID``."""

    node_id: str
    incarnation: str = ""
    hostname: str = ""
    pid: int = 0
    started_at: int = 0
    metrics_url: str = ""
    last_heartbeat: int = 0


class Health(msgspec.Struct, frozen=True):
    """What a worker says of itself under ``/health``.

    Attributes:
        node_id: Who answered.
        status: ``ok``, ``degraded`` or ``stalled``.
        owned_symbols: What it may write.
        assigned_symbols: What Kafka has assigned to it.
        warm_symbols: What it is a current standby of.
        assigned: Whether its assignment is complete.
    """

    node_id: str
    status: str = ""
    owned_symbols: tuple[str, ...] = ()
    assigned_symbols: tuple[str, ...] = ()
    warm_symbols: tuple[str, ...] = ()
    assigned: bool = False


class _Position(msgspec.Struct):
    partition: int
    offset: int


class _Source(msgspec.Struct):
    fast: _Position


class _Gaps(msgspec.Struct):
    count: int


class _Head(msgspec.Struct):
    """Fields of a report beside those that its age is told from."""

    source: _Source
    gaps: _Gaps


_decode_beat: Final = msgspec.json.Decoder(_Beat).decode
_decode_health: Final = msgspec.json.Decoder(Health).decode
_decode_head: Final = msgspec.json.Decoder(_Head).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSight:
    """One node.

    Attributes:
        node_id, hostname, pid, incarnation, metrics_url: As in its heartbeat.
        started_at: ms since the epoch.
        up_s: Since then.
        heartbeat_age_ms: Since the heartbeat was sent, by the clocks of both machines.
        state: ``up``; ``draining`` once it has said that it is about to leave; ``vanished`` where
            its heartbeat has not expired, but its connection to Redis has gone. Where there is no
            heartbeat any more, and somebody watched it go: ``left`` if it had said so, else
            ``gone``.
        health: ``ok``, ``degraded`` or ``stalled``; None where its ``/health`` did not answer.
        owned, assigned, warm: How many symbols it writes, Kafka has assigned to it, it is a current
            standby of; None where its ``/health`` did not answer.
    """

    node_id: str
    hostname: str
    pid: int
    incarnation: str
    started_at: int
    up_s: float
    heartbeat_age_ms: int
    metrics_url: str
    state: str
    health: str | None
    owned: int | None
    assigned: int | None
    warm: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolSight:
    """One symbol.

    Attributes:
        owner: The node in the lease, '' while nobody has it.
        lease_ms: What is left of the lease; 0 without one.
        token, seq, watermark: Of the last accepted report; 0 before the first.
        report_age_ms: Since that was written; None before the first.
        state: ``ok``; ``stale`` where the newest data is older than 2000 ms; ``none`` where no
            report is stored; ``unreadable`` where what is stored is no report.
        data_age_ms: Since the newest record behind the report was received; None without any.
        partition, offset: Of the newest record behind the report; None without a report.
        feed_gaps: Gaps in the feed that the report counts, of the last 30 minutes; likewise.
    """

    symbol: str
    owner: str
    lease_ms: int
    token: int
    seq: int
    watermark: int
    report_age_ms: int | None
    state: str
    data_age_ms: int | None
    partition: int | None
    offset: int | None
    feed_gaps: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All of it at one moment.

    Attributes:
        at_ms: The moment, ms since the epoch.
        nodes, symbols: By name.
    """

    at_ms: int
    nodes: tuple[NodeSight, ...] = ()
    symbols: tuple[SymbolSight, ...] = ()


class Surveyor:
    """Looks, again and again.

    Args:
        redis: A client of `serving.reader.reader_client`.
        keys: Key names.
        symbols: Which to look at; all that Redis knows of where it is empty.
        ask_health: Whether to ask nodes for their ``/health``.
        timeout_s: How long Redis may take.
        clock: What ages are told by.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        symbols: Iterable[str] = (),
        ask_health: bool = True,
        timeout_s: float = 2.0,
        clock: Clock | None = None,
    ) -> None:
        self._redis, self._keys = redis, keys
        self._named = frozenset(symbols)
        self._symbols: set[str] = set(self._named)
        self._ask_health, self._timeout_s = ask_health, timeout_s
        self._clock = clock or SystemClock()
        self._discovered_ms: int | None = None
        self._nodes: set[str] = set()
        self._beats: dict[str, _Beat] = {}
        self._leaving: dict[str, str] = {}  # node to the incarnation that said so

    async def look(self, draining: Collection[str] = (), also: Iterable[str] = ()) -> Survey:
        """Everything as it is now.

        Args:
            draining: Nodes that have said that they are about to leave.
            also: Symbols known from elsewhere, such as announcements.

        Raises:
            StoreUnavailable: Redis did not answer in time.
        """
        if not self._named:
            self._symbols.update(also)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._discover()
                listening = await self._look_at_nodes()
                symbols = await self._look_at_symbols(sorted(self._symbols))
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"Redis did not answer: {error!r}") from None
        for node in self._beats.keys() & set(draining):
            self._leaving[node] = self._beats[node].incarnation
        healths = await self._healths() if self._ask_health else {}
        now_ms = self._clock.now_ms()
        nodes = [
            self._node(node, now_ms, node in listening, healths.get(node))
            for node in sorted(self._beats)
        ]
        return Survey(at_ms=now_ms, nodes=tuple(nodes), symbols=tuple(symbols))

    # --- what there is -------------------------------------------------------------------------

    async def _discover(self) -> None:
        """Names that no index holds; the nodes' index forgets nobody only while one of them beats."""
        now_ms = self._clock.monotonic_ms()
        if self._discovered_ms is not None and now_ms - self._discovered_ms < DISCOVER_MS:
            return
        async for key in self._redis.scan_iter(self._keys.every_node(), count=_SCAN_COUNT):
            node = self._keys.node_of(_text(key))
            if node:
                self._nodes.add(node)
        if not self._named:
            pattern = self._keys.every_report()
            async for key in self._redis.scan_iter(pattern, count=_SCAN_COUNT):
                symbol = self._keys.symbol_of(_text(key))
                if symbol:
                    self._symbols.add(symbol)
        self._discovered_ms = now_ms

    # --- nodes ---------------------------------------------------------------------------------

    async def _look_at_nodes(self) -> set[str]:
        """Takes the newest heartbeats; returns who listens on the channel of their own."""
        self._nodes.update(
            _text(name) for name in await self._redis.zrange(self._keys.nodes(), 0, -1)
        )
        names = sorted(self._nodes)
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.get(self._keys.node(name))
            channels = [self._keys.alive(name) for name in names]
            if channels:
                pipe.pubsub_numsub(*channels)
            answers: list[Any] = await pipe.execute(raise_on_error=False) if names else []
        now_ms = self._clock.now_ms()
        for name, payload in zip(names, answers, strict=False):
            if isinstance(payload, bytes):
                with contextlib.suppress(msgspec.DecodeError):
                    self._beats[name] = _decode_beat(payload)
                continue
            self._nodes.discard(name)
            beat = self._beats.get(name)
            if beat is not None and now_ms - beat.last_heartbeat > GONE_MS:
                del self._beats[name]
        if not names or isinstance(answers[-1], Exception):
            return set(names)  # not allowed to ask: nobody is said to have vanished
        return {name for name, (_, count) in zip(names, answers[-1], strict=True) if int(count) > 0}

    def _node(self, node: str, now_ms: int, listens: bool, health: Health | None) -> NodeSight:
        beat = self._beats[node]
        leaves = self._leaving.get(node) == beat.incarnation
        if node not in self._nodes:
            state = "left" if leaves else "gone"
        elif leaves:
            state = "draining"
        else:
            state = "up" if listens else "vanished"
        return NodeSight(
            node_id=node,
            hostname=beat.hostname,
            pid=beat.pid,
            incarnation=beat.incarnation,
            started_at=beat.started_at,
            up_s=max(0, now_ms - beat.started_at) / 1000,
            heartbeat_age_ms=max(0, now_ms - beat.last_heartbeat),
            metrics_url=beat.metrics_url,
            state=state,
            health=health.status if health else None,
            owned=len(health.owned_symbols) if health else None,
            assigned=len(health.assigned_symbols) if health else None,
            warm=len(health.warm_symbols) if health else None,
        )

    async def _healths(self) -> dict[str, Health]:
        urls = {
            node: url
            for node, beat in self._beats.items()
            if node in self._nodes and (url := health_url(beat.metrics_url, beat.hostname))
        }
        return await ask_health(urls) if urls else {}

    # --- symbols -------------------------------------------------------------------------------

    async def _look_at_symbols(self, symbols: list[str]) -> list[SymbolSight]:
        if not symbols:
            return []
        async with self._redis.pipeline(transaction=False) as pipe:
            for symbol in symbols:
                lease = self._keys.writer(symbol)
                pipe.get(lease.lease)
                pipe.pttl(lease.lease)
                pipe.hmget(lease.meta, "token", "seq", "watermark", "updated_at")
                pipe.get(self._keys.report(symbol))
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        now_ms = self._clock.now_ms()
        # A key of another kind, set by hand, answers with an error: as good as no answer.
        told = [None if isinstance(answer, Exception) else answer for answer in answers]
        return [
            _symbol(symbol, now_ms, *told[4 * n : 4 * n + 4]) for n, symbol in enumerate(symbols)
        ]


def _symbol(
    symbol: str, now_ms: int, lease: Any, lease_ms: Any, meta: Any, payload: Any
) -> SymbolSight:
    token, seq, watermark, updated_at = (_number(value) for value in meta or (None,) * 4)
    state, data_age_ms, head = "none", None, None
    if payload is not None:
        try:
            report, head = aged(payload, now_ms), _decode_head(payload)
            state, data_age_ms = "stale" if report.stale else "ok", report.data_age_ms
        except (ReportError, msgspec.DecodeError):
            state = "unreadable"
    return SymbolSight(
        symbol=symbol,
        owner=_text(lease or b"").partition("|")[0],
        lease_ms=max(0, lease_ms or 0),
        token=token,
        seq=seq,
        watermark=watermark,
        report_age_ms=max(0, now_ms - updated_at) if updated_at else None,
        state=state,
        data_age_ms=data_age_ms,
        partition=head.source.fast.partition if head else None,
        offset=head.source.fast.offset if head else None,
        feed_gaps=head.gaps.count if head else None,
    )


def _number(value: Any) -> int:
    try:
        return int(value or 0)
    except ValueError:
        return 0


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


# --- /health -------------------------------------------------------------------------------------


def health_url(metrics_url: str, hostname: str) -> str:
    """Where a node answers, by its heartbeat; '' where that names no address.

    A node that listens on all addresses says so, and not on which it can be reached: then it is
    asked by its host's name.
    """
    try:
        parts = urlsplit(metrics_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not host or port is None:
        return ""
    host = hostname if host in {"0.0.0.0", "::"} else host
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}/health"


async def ask_health(
    urls: Mapping[str, str], timeout_s: float = HEALTH_TIMEOUT_S
) -> dict[str, Health]:
    """What nodes say of themselves, all asked at once.

    Args:
        urls: By node; of `health_url`.
        timeout_s: How long each may take.

    Returns:
        By node, without those that did not answer, or under whose address another answers, as a
        loopback address of another machine's node may be ours.
    """
    import aiohttp  # noqa: PLC0415 - slow to import, and not needed without nodes

    async def ask(http: Any, node: str, url: str) -> tuple[str, Health | None]:
        try:
            async with http.get(url) as response:  # a node that is not well answers 503
                health = _decode_health(await response.read())
        except (aiohttp.ClientError, OSError, msgspec.DecodeError, ValueError):
            return node, None
        return node, health if health.node_id == node else None

    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        answers = await asyncio.gather(*(ask(http, node, url) for node, url in urls.items()))
    return {node: health for node, health in answers if health is not None}
