"""What is brought about, and which alerts have to tell of it.

A fault is a context: entering it brings it about, leaving it mends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from streams.topics import dead_letters_of
from tests.alerts.system import OTHER, SYMBOLS, System

TOKEN_LIMIT: Final = 2**53 - 500
GHOST: Final = "ghost|0|1"
"""A lease that nobody renews, and that does not expire."""

CLIENTS: Final = 6


@dataclass(frozen=True, slots=True)
class Expected:
    """An alert that a fault has to raise."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        named = ",".join(self.labels.values())
        return f"{self.name} ({named})" if named else self.name


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong.

    Attributes:
        what: In words.
        alerts: What it raises.
        brought: Brings it about, and mends it.
    """

    what: str
    alerts: tuple[Expected, ...]
    brought: Callable[[System], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def repeating(step: Callable[[], Awaitable[Any]], every_s: float) -> AsyncIterator[None]:
    """``step`` again and again; the last one is let through to its end.

    Raises:
        Exception: That a step has ended with; no other came after it.
    """
    over = asyncio.Event()

    async def go_on() -> None:
        while not over.is_set():
            await step()
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await over.wait()

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        over.set()
        await task


# --- processes -----------------------------------------------------------------------------------


def killed(*names: str) -> Callable[[System], AbstractAsyncContextManager[None]]:
    """kill -9, and started anew."""

    @asynccontextmanager
    async def brought(system: System) -> AsyncIterator[None]:
        await asyncio.gather(*(system.kill(name) for name in names))
        yield
        for name in names:
            await system.start(name)

    return brought


@asynccontextmanager
async def restarts(system: System) -> AsyncIterator[None]:
    """A worker ends and begins again, all the time."""
    async with repeating(lambda: system.restart("w2"), 4.0):
        yield


@asynccontextmanager
async def slow_cycles(system: System) -> AsyncIterator[None]:
    system.slow_file.write_text("1.8 1.4")
    try:
        yield
    finally:
        system.slow_file.unlink()


@asynccontextmanager
async def second_house(system: System) -> AsyncIterator[None]:
    await system.start(OTHER)
    yield
    await system.stop(OTHER)


# --- venues --------------------------------------------------------------------------------------


def struck(venue: str, rule: str) -> Callable[[System], AbstractAsyncContextManager[None]]:
    """A rule of the simulated exchange."""

    @asynccontextmanager
    async def brought(system: System) -> AsyncIterator[None]:
        await system.fault(venue, rule)
        yield
        await system.no_faults(venue)

    return brought


@asynccontextmanager
async def venue_refuses(system: System) -> AsyncIterator[None]:
    async def refuse() -> None:
        await system.fault("binance", "refuse_connections@0,seconds=5")
        await system.fault("binance", "disconnect@0")

    async with repeating(refuse, 2.0):
        yield
    await system.no_faults("binance")


# --- Redis ---------------------------------------------------------------------------------------


@asynccontextmanager
async def feed_lease_kept(system: System) -> AsyncIterator[None]:
    lease = system.keys.feed("binance", "BTCUSDT").lease
    async with system.redis() as redis:
        await redis.set(lease, GHOST)
        yield
        await redis.delete(lease)


@asynccontextmanager
async def no_token_left(system: System) -> AsyncIterator[None]:
    lease = system.keys.writer("BTCUSDT")
    async with system.redis() as redis:
        token = await redis.get(lease.counter)
        await redis.set(lease.counter, str(TOKEN_LIMIT + 400))
        await redis.delete(lease.lease)
        yield
        await redis.set(lease.counter, token)


@asynccontextmanager
async def no_meta(system: System) -> AsyncIterator[None]:
    """What the fence compares is of another kind: Redis refuses each write of the symbol."""
    meta = system.keys.meta("ETHUSDT")
    async with system.redis() as redis:
        kept = await redis.hgetall(meta)

        async def spoil() -> None:
            await redis.set(meta, "no hash")

        async with repeating(spoil, 0.5):
            yield
        await redis.delete(meta)
        await redis.hset(meta, mapping=kept)


# --- broker --------------------------------------------------------------------------------------


@asynccontextmanager
async def broker_hangs(system: System) -> AsyncIterator[None]:
    system.freeze(system.kafka.child)
    try:
        yield
    finally:
        system.thaw(system.kafka.child)


@asynccontextmanager
async def no_checkpoints(system: System) -> AsyncIterator[None]:
    async with system.topic_takes_nothing(system.changelog):
        yield


@asynccontextmanager
async def no_dead_letters(system: System) -> AsyncIterator[None]:
    """A record can't be applied and can't be kept either: its partition waits."""
    async with (
        system.topic_takes_nothing(dead_letters_of(system.events_topic)),
        system.producer() as producer,
    ):
        await producer.send_and_wait(system.events_topic, key=b"BTCUSDT", value=b"{")
        yield


@asynccontextmanager
async def bad_records(system: System) -> AsyncIterator[None]:
    async with system.producer() as producer:

        async def write() -> None:
            await producer.send_and_wait(system.events_topic, key=b"ETHUSDT", value=b"{")

        async with repeating(write, 0.3):
            yield


# --- clients -------------------------------------------------------------------------------------


@asynccontextmanager
async def strangers(system: System) -> AsyncIterator[None]:
    """A page of somebody else's tries to connect."""

    async def knock() -> None:
        status = 101
        with suppress(aiohttp.ClientError):
            try:
                async with system.websocket(Origin="https://elsewhere.example"):
                    pass
            except aiohttp.WSServerHandshakeError as refused:
                status = refused.status
                raise
        assert status == 403, f"a page of elsewhere was answered {status}"

    async with repeating(knock, 0.3):
        yield


@asynccontextmanager
async def clients_leave(system: System) -> AsyncIterator[None]:
    """Clients that have been there for a while close their sockets."""
    wish = {"op": "subscribe", "channels": ["reports.fast"], "symbols": [*SYMBOLS]}
    async with AsyncExitStack() as connected:
        readers = []
        for _ in range(CLIENTS):
            socket = await connected.enter_async_context(system.websocket())
            await socket.send_json(wish)
            readers.append(asyncio.create_task(_read(socket)))
        await asyncio.sleep(25)  # scraped by then
    await asyncio.gather(*readers)
    yield


async def _read(socket: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in socket:
        pass


FAULTS: Final[dict[str, Fault]] = {
    "worker-killed": Fault("kill -9 of a worker", (Expected("ProducerDown"),), killed("w2")),
    "workers-killed": Fault(
        "kill -9 of all workers",
        (
            Expected("ProducerDown"),
            Expected("MarketDataStale", {"seen_by": "reader"}),
            Expected("SymbolWithoutOwner", {"seen_by": "reader"}),
        ),
        killed("w1", "w2"),
    ),
    "bridge-killed": Fault("kill -9 of the bridge", (Expected("BridgeDown"),), killed("b1")),
    "reader-killed": Fault("kill -9 of the reader", (Expected("ReaderDown"),), killed("r1")),
    "restarts": Fault(
        "a worker is restarted every few seconds", (Expected("ExcessiveRebalancing"),), restarts
    ),
    "second-house": Fault(
        "a worker of another NT_APP_ID on the same Redis",
        (Expected("LeaseConflictSpike"),),
        second_house,
    ),
    "no-token": Fault(
        "a symbol's fencing counter at its limit",
        (Expected("SymbolWithoutOwner", {"seen_by": "worker"}),),
        no_token_left,
    ),
    "venue-refuses": Fault(
        "Binance cuts its sockets and refuses new ones",
        (
            Expected("WebsocketConnectionFailures", {"side": "venue"}),
            Expected("MarketDataStale", {"seen_by": "worker"}),
            Expected("MarketDataStale", {"seen_by": "reader"}),
        ),
        venue_refuses,
    ),
    "frames-lost": Fault(
        "one book frame in twenty is lost",
        (Expected("FeedGapRate"),),
        struck("binance", "drop%0.05::book"),
    ),
    "checksums": Fault(
        "one of Kraken's checksums in twenty is wrong",
        (Expected("ChecksumFailures"),),
        struck("kraken", "checksum%0.05"),
    ),
    "feed-lease": Fault(
        "a feed's lease that nobody renews and that does not expire",
        (Expected("BridgeWithoutWriter", {"lacks": "lease"}),),
        feed_lease_kept,
    ),
    "broker-hangs": Fault(
        "SIGSTOP of the broker",
        (Expected("BridgeWithoutWriter", {"lacks": "broker"}),),
        broker_hangs,
    ),
    "no-dead-letters": Fault(
        "a record that can't be applied, and a dead-letter topic that refuses it",
        (Expected("ConsumerLag"),),
        no_dead_letters,
    ),
    "bad-records": Fault(
        "three records a second that can't be applied",
        (Expected("DeadLettersGrowing"),),
        bad_records,
    ),
    "no-checkpoints": Fault(
        "the changelog refuses checkpoints", (Expected("StuckCommits"),), no_checkpoints
    ),
    "slow-cycles": Fault(
        "a calculator that takes 1.8 s, every now and then",
        (Expected("SlowCycleSkipped"),),
        slow_cycles,
    ),
    "writes-refused": Fault(
        "Redis refuses the writes of one symbol in three", (Expected("PublishErrors"),), no_meta
    ),
    "strangers": Fault(
        "a foreign page tries three websockets a second",
        (Expected("WebsocketConnectionFailures", {"side": "client"}),),
        strangers,
    ),
    "clients-leave": Fault(
        "all clients of the hub leave", (Expected("SubscribersDrop"),), clients_leave
    ),
}
