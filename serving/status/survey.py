"""Looks at Redis for the chain: two round trips, whatever the number of symbols.

Reports are not read whole: what is needed of them stands in their first kilobyte, and whole ones of
200 symbols are megabytes a look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from serving.status.facts import (
    HEAD_BYTES,
    BridgeBeat,
    BridgeFacts,
    Facts,
    NodeBeat,
    NodeFacts,
    ReaderFacts,
    StoreFacts,
    SymbolFacts,
    bridge_beat,
    node_beat,
    node_stats,
    symbol_facts,
)
from tapeline.beats import TTL_S
from tapeline.clock import Clock, SystemClock
from tapeline.tasks import end

TIMEOUT_S: Final = 0.1
"""Of a look; what asks for the status is answered within 150 ms, Redis or no Redis."""

DISCOVER_MS: Final = 5_000
"""Between two walks over all keys for symbols that no bridge names."""

DISCOVER_S: Final = 2.0
FIRST_S: Final = 0.025
"""How long the first look waits for that."""

GONE_MS: Final = 60_000
"""How long a worker is told of after its heartbeat has expired; bridges have an index for that."""

NODES_MAX: Final = 500
SCAN_COUNT: Final = 1_000


class StatusSurvey:
    """Looks, again and again; one look at a time.

    Args:
        redis: A client of `serving.reader.reader_client`.
        keys: Key names.
        reader: What this process says of itself.
        clock: What ages are told by.
        timeout_s: How long Redis may take.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        reader: Callable[[], ReaderFacts] = ReaderFacts,
        *,
        clock: Clock | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._redis, self._keys, self._reader = redis, keys, reader
        self._clock, self._timeout_s = clock or SystemClock(), timeout_s
        self._symbols: set[str] = set()
        self._discovered_ms: int | None = None
        self._discovering: asyncio.Task[None] | None = None
        self._bridges: dict[str, BridgeBeat] = {}
        self._nodes: dict[str, NodeBeat] = {}
        self._orders: tuple[int, dict[str, tuple[int, int]]] | None = None

    async def look(self) -> Facts:
        """Everything as it is now; never raises for a Redis that is away, slow or odd."""
        self._discover_anew()
        if self._discovered_ms is None and self._discovering is not None:
            await asyncio.wait([self._discovering], timeout=FIRST_S)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._look()
        except (RedisError, OSError, TimeoutError) as error:
            said = str(error) or type(error).__name__
            return self._facts(StoreFacts(error=said[:200]))

    async def close(self) -> None:
        """End what is under way."""
        if self._discovering is not None:
            await end(self._discovering)

    # --- symbols that there are -------------------------------------------------------------------

    def _discover_anew(self) -> None:
        """Beside the looks: a walk over a large store takes longer than an answer may."""
        now_ms = self._clock.monotonic_ms()
        due = self._discovered_ms is None or now_ms - self._discovered_ms >= DISCOVER_MS
        if due and (self._discovering is None or self._discovering.done()):
            self._discovering = asyncio.create_task(self._discover_quietly(), name="status-symbols")

    async def _discover_quietly(self) -> None:
        try:
            async with asyncio.timeout(DISCOVER_S):
                await self._discover()
        except (RedisError, OSError, TimeoutError):
            pass  # the next look says that Redis is away

    async def _discover(self) -> None:
        found = set()
        pattern = self._keys.every_report()
        async for key in self._redis.scan_iter(pattern, count=SCAN_COUNT):
            symbol = self._keys.symbol_of(_text(key))
            if symbol:
                found.add(symbol)
        self._symbols = found
        self._discovered_ms = self._clock.monotonic_ms()

    # --- a look -----------------------------------------------------------------------------------

    async def _look(self) -> Facts:
        keys = self._keys
        began = perf_counter()
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zrange(keys.bridges(), 0, -1)
            pipe.zrange(keys.nodes(), 0, -1)
            indexes: list[Any] = await pipe.execute(raise_on_error=False)
        took_ms = round((perf_counter() - began) * 1000, 2)
        bridges = _names(indexes[0])
        nodes = _names(indexes[1])
        self._bridges = {name: b for name, b in self._bridges.items() if name in bridges}
        nodes += [name for name in self._nodes if name not in nodes][: NODES_MAX - len(nodes)]
        known = {name.partition(":")[2] for b in self._bridges.values() for name in b.feeds}
        symbols = sorted(self._symbols | known)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.info()
            for name in bridges:
                pipe.get(keys.bridge(name))
                pipe.pttl(keys.bridge(name))
            for name in nodes:
                pipe.get(keys.node(name))
                pipe.pttl(keys.node(name))
                pipe.get(keys.node_stats(name))
            pipe.pubsub_numsub(*[keys.alive(name) for name in nodes])
            for symbol in symbols:
                lease = keys.writer(symbol)
                pipe.get(lease.lease)
                pipe.pttl(lease.lease)
                pipe.hmget(lease.meta, "token", "seq", "updated_at")
                pipe.getrange(keys.report(symbol), 0, HEAD_BYTES - 1)
            answers = iter(_told(await pipe.execute(raise_on_error=False)))
        now_ms = self._clock.now_ms()
        info = next(answers)
        told = {name: (next(answers), next(answers)) for name in bridges}
        heard = {name: (next(answers), next(answers), next(answers)) for name in nodes}
        listening = _listening(nodes, next(answers))
        reports = {
            symbol: symbol_facts(
                next(answers), next(answers), next(answers), next(answers), now_ms=now_ms
            )
            for symbol in symbols
        }
        return self._facts(
            _store(info, took_ms, self._accepted_per_s(reports)),
            {name: self._bridge(name, *told[name]) for name in bridges},
            {
                name: node
                for name in nodes
                if (node := self._node(name, *heard[name], listening.get(name), now_ms)) is not None
            },
            reports,
            now_ms=now_ms,
        )

    def _facts(
        self,
        store: StoreFacts,
        bridges: dict[str, BridgeFacts] | None = None,
        nodes: dict[str, NodeFacts] | None = None,
        symbols: dict[str, SymbolFacts] | None = None,
        now_ms: int | None = None,
    ) -> Facts:
        return Facts(
            at_ms=self._clock.now_ms() if now_ms is None else now_ms,
            store=store,
            reader=self._reader(),
            bridges=bridges or {},
            nodes=nodes or {},
            symbols=symbols or {},
        )

    def _bridge(self, name: str, payload: Any, pttl_ms: Any) -> BridgeFacts:
        beat = bridge_beat(payload)
        if beat is not None:
            self._bridges[name] = beat
        age_ms = _age_ms(payload, pttl_ms)
        # One that has gone is told of by its last words: which feeds are missing since.
        return BridgeFacts(beat=beat if payload else self._bridges.get(name), age_ms=age_ms)

    def _node(
        self,
        name: str,
        payload: Any,
        pttl_ms: Any,
        stats: Any,
        listens: bool | None,
        now_ms: int,
    ) -> NodeFacts | None:
        beat, age_ms = node_beat(payload), _age_ms(payload, pttl_ms)
        if beat is not None:
            self._nodes[name] = beat
        if payload is None:
            beat = self._nodes.get(name)
            if beat is None or now_ms - beat.last_heartbeat > GONE_MS:
                self._nodes.pop(name, None)
                return None
        return NodeFacts(beat=beat, age_ms=age_ms, stats=node_stats(stats), listens=listens)

    def _accepted_per_s(self, symbols: dict[str, SymbolFacts]) -> float | None:
        now_ms = self._clock.monotonic_ms()
        orders = {name: (one.token, one.seq) for name, one in symbols.items()}
        before, self._orders = self._orders, (now_ms, orders)
        if before is None or now_ms <= before[0]:
            return None
        then_ms, earlier = before
        # A new writer goes on with the numbers of the one before.
        risen = sum(
            max(0, seq - earlier.get(name, (0, seq))[1]) for name, (_, seq) in orders.items()
        )
        return round(risen * 1000 / (now_ms - then_ms), 1)


def _told(answers: Iterable[Any]) -> list[Any]:
    """A key of another kind, set by hand, answers with an error: as good as no answer."""
    return [None if isinstance(answer, Exception) else answer for answer in answers]


def _names(answer: Any) -> list[str]:
    return [_text(name) for name in answer][:NODES_MAX] if isinstance(answer, list) else []


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _age_ms(payload: Any, pttl_ms: Any) -> int | None:
    """Since a heartbeat was sent: by what is left of its life, so by Redis' clock alone."""
    if payload is None or not isinstance(pttl_ms, int) or pttl_ms < 0:
        return None
    return max(0, TTL_S * 1000 - pttl_ms)


def _listening(nodes: list[str], answer: Any) -> dict[str, bool]:
    """Who is connected; nothing where we may not ask."""
    if not isinstance(answer, list) or len(answer) != len(nodes):
        return {}
    return {name: int(count) > 0 for name, (_, count) in zip(nodes, answer, strict=True)}


def _store(info: Any, took_ms: float, accepted_per_s: float | None) -> StoreFacts:
    told = info if isinstance(info, dict) else {}
    version = told.get("valkey_version") or told.get("redis_version")
    up_s, used = told.get("uptime_in_seconds"), told.get("used_memory")
    return StoreFacts(
        took_ms=took_ms,
        version=None if version is None else str(version),
        role=str(told["role"]) if "role" in told else None,
        up_s=float(up_s) if isinstance(up_s, int) else None,
        used_memory_bytes=used if isinstance(used, int) else None,
        accepted_per_s=accepted_per_s,
    )
