"""The simulated Redis server and the way to it: delays, lost replies, cuts, connections that break."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from lua import Keys, PublishCode, Scripts
from lua.scripts import Call
from tests.simulation.loop import World
from tests.simulation.redis_model import Copy, RedisModel, TokenLimitReached
from tests.support.invariants import Held, History, Write

EPOCH_MS: Final = 1_700_000_000_000
NEAR_S: Final = (0.0002, 0.001)
"""One way, where nothing is wrong."""

CALM_S: Final = 3.0

Tell = Callable[..., None]


class Server:
    """A Redis: up or down, and what it was asked, in its order, in the history.

    Args:
        world: Whose time it lives in.
        history: Told of writes and leases.
        trace: Told in words.
        fenced, floored: See `RedisModel`.
    """

    def __init__(
        self, world: World, history: History, trace: Tell, *, fenced: bool, floored: bool
    ) -> None:
        self._world, self._history, self._trace = world, history, trace
        self.model = RedisModel(self._now_ms, fenced=fenced, floored=floored)
        self.up = True
        self.life = self.losses = 0
        self.subscriptions: list[Subscription] = []
        self._symbols: dict[str, str] = {}
        self._open: dict[str, Held] = {}
        self.copies: dict[int, Copy] = {}

    def _now_ms(self) -> int:
        return EPOCH_MS + int(self._world.now_s * 1000)

    # --- its life ------------------------------------------------------------------------------

    def crash(self) -> None:
        """The process ends, and every connection with it."""
        self.up = False
        for subscription in list(self.subscriptions):
            subscription.broken()
        self.subscriptions.clear()

    def start(self, data: str, copy: Copy | None = None) -> None:
        """It is back, with its data ``kept``, with none (``wiped``), or as a ``stale`` copy."""
        self.up = True
        if data == "kept":
            return
        self.losses += 1
        for lease in self._open.values():
            self._end(lease, "lost")
        self._open.clear()
        self.model.become(copy if data == "stale" else None)
        if data == "stale":
            self.life += 1
            for key, symbol in self._symbols.items():
                value, left_ms = self.model.get(key), self.model.pttl(key)
                if value is not None:
                    self._begin(symbol, value, left_ms, "restored")

    def close(self) -> None:
        """The run ends: close the books."""
        for lease in self._open.values():
            if lease.expires_s <= self._world.now_s:
                self._end(lease, "expired")

    # --- scripts -------------------------------------------------------------------------------

    def run(self, call: Call) -> Any:
        """One script; its reply, or the error it answers with."""
        try:
            reply: Any = getattr(self, f"_{call.script.name}")(call.keys, call.args)
        except TokenLimitReached as error:
            reply = ResponseError(f"TOKENLIMIT {error}")
        return reply

    def _acquire(self, keys: Any, args: Any) -> Any:
        reply = self.model.acquire(keys, *args)
        code, _, value, pttl_ms = reply[:4]
        symbol = self._symbols.setdefault(keys[0], keys[0].rpartition(":")[2])
        if code == 0:
            return reply
        before = self._open.get(symbol)
        if before is not None and before.lease_value == value:
            before.expires_s = self._world.now_s + pttl_ms / 1000
            return reply
        if before is not None:
            if before.expires_s <= self._world.now_s:
                self._end(before, "expired")
            else:
                self._end(before, "stolen" if code == 3 else "replaced")
        self._begin(symbol, value, pttl_ms, "stolen" if code == 3 else "granted")
        self._trace("redis", f"{symbol}: {value} {'stolen' if code == 3 else 'granted'}")
        return reply

    def _renew(self, keys: Any, args: Any) -> int:
        reply = self.model.renew(keys[0], *args)
        if reply:
            lease = self._open.get(self._symbols[keys[0]])
            if lease is not None:
                lease.expires_s = self._world.now_s + args[1] / 1000
        return reply

    def _release(self, keys: Any, args: Any) -> int:
        reply = self.model.release(keys[0], args[0])
        if reply:
            self._end(self._open.pop(self._symbols[keys[0]]), "released")
        return reply

    def _look(self, keys: Any, _args: Any) -> Any:
        return self.model.look(*keys)

    def _publish(self, keys: Any, args: Any) -> int:
        lease_value, token, seq, watermark, updated_at, ttl_ms, payload, heavy = args[:8]
        held = self.model.get(keys[2]) or ""
        reply = self.model.publish(
            keys, lease_value, token, seq, watermark, updated_at, ttl_ms, payload, heavy
        )
        if reply == PublishCode.OK:
            # What a reader finds inside the report, not what its writer told Redis beside it.
            self._wrote("report", keys[2], lease_value, held, payload)
        return reply

    def _publish_tick(self, keys: Any, args: Any) -> int:
        lease_value, token, seq, watermark, ttl_ms, payload = args[:6]
        held = self.model.get(keys[1]) or ""
        reply = self.model.publish_tick(keys, lease_value, token, seq, watermark, ttl_ms, payload)
        if reply == PublishCode.OK:
            self._wrote("tick", keys[1], lease_value, held, payload + b",0")
        return reply

    def _beat(self, keys: Any, args: Any) -> Any:
        return self.model.beat(keys, *args)

    # --- books ---------------------------------------------------------------------------------

    def _begin(self, symbol: str, value: str, left_ms: int, how: Any) -> None:
        now_s = self._world.now_s
        lease = Held(symbol, value, now_s, now_s + left_ms / 1000, how)
        self._open[symbol] = lease
        self._history.held.append(lease)

    def _end(self, lease: Held, end: str) -> None:
        lease.end = end
        lease.until_s = lease.expires_s if end == "expired" else self._world.now_s

    def _wrote(
        self, kind: str, lease_key: str, lease_value: str, held: str, payload: bytes
    ) -> None:
        token, seq, watermark, updated_at = map(int, payload.split(b","))
        self._history.writes.append(
            Write(
                self._world.now_s,
                self._symbols.setdefault(lease_key, lease_key.rpartition(":")[2]),
                lease_value,
                held,
                token,
                seq,
                watermark,
                updated_at,
                self.life,
                self.losses,
                kind,
            )
        )

    # --- channels ------------------------------------------------------------------------------

    def listeners(self, channels: Iterable[str]) -> list[tuple[bytes, int]]:
        """PUBSUB NUMSUB."""
        return [
            (channel.encode(), sum(channel in s.channels for s in self.subscriptions))
            for channel in channels
        ]

    def announce(self, channel: str, data: bytes) -> int:
        """PUBLISH."""
        heard = [s for s in self.subscriptions if channel in s.channels]
        for subscription in heard:
            subscription.link.to_client(partial(subscription.heard, data))
        return len(heard)


@dataclass(slots=True)
class Wire:
    """What is wrong between a node and Redis; it stays through restarts of the node.

    Attributes:
        cut: Nothing passes in either direction.
        loss: Share of replies that are lost.
        delay_s: Longest additional way of a request or a reply.
    """

    rng: random.Random
    cut: bool = False
    loss: float = 0.0
    delay_s: float = 0.0
    disturbed_s: float = -100.0
    healed: list[Callable[[], None]] = field(default_factory=list)

    def is_calm(self, now_s: float) -> bool:
        """Whether nothing sent before may still be under way."""
        at_rest = not (self.cut or self.loss or self.delay_s)
        return at_rest and now_s - self.disturbed_s > CALM_S

    def way_s(self) -> float:
        """How long the next message is under way."""
        delay_s = self.rng.uniform(*NEAR_S)
        return delay_s + self.rng.random() ** 3 * self.delay_s if self.delay_s else delay_s

    def heal(self) -> None:
        """The cut is over: what waited for that happens now."""
        self.cut = False
        waiting, self.healed = self.healed, []
        for event in waiting:
            event()


class Link:
    """One process's connections to Redis.

    Args:
        world, server, wire: Between which it lies.
        timeout_s: How long the process waits for a reply.
    """

    def __init__(self, world: World, server: Server, wire: Wire, timeout_s: float) -> None:
        self._world, self.server, self.wire = world, server, wire
        self._timeout_s = timeout_s
        self.dead = False

    async def ask(self, step: Callable[[], Any]) -> Any:
        """Have the server take a step; its reply."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if not self.dead:
            self._world.after(self.wire.way_s(), lambda: self._arrive(step, answer))
        timer = loop.call_later(self._timeout_s, _time_out, answer)
        try:
            return await answer
        finally:
            timer.cancel()

    def _arrive(self, step: Callable[[], Any], answer: asyncio.Future[Any]) -> None:
        if self.wire.cut:
            return
        reply = step() if self.server.up else RedisConnectionError("connection refused")
        if self.wire.loss and self.wire.rng.random() < self.wire.loss:
            return
        self.to_client(lambda: _settle(answer, reply))

    def to_client(self, event: Callable[[], None]) -> None:
        """Something is on its way to the process."""
        self._world.after(self.wire.way_s(), lambda: self._deliver(event))

    def _deliver(self, event: Callable[[], None]) -> None:
        if not self.wire.cut and not self.dead:
            event()

    def closed(self, subscription: Subscription) -> None:
        """A socket is closed; the server hears of it if it can."""
        if self.wire.cut:
            self.wire.healed.append(lambda: self.closed(subscription))
        elif subscription in self.server.subscriptions:
            self.server.subscriptions.remove(subscription)

    def kill(self) -> None:
        """The process is gone, and its sockets are closed."""
        self.dead = True
        for subscription in list(self.server.subscriptions):
            if subscription.link is self:
                self.closed(subscription)


def _time_out(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(RedisTimeoutError("no reply"))


def _settle(answer: asyncio.Future[Any], reply: Any) -> None:
    if answer.done():
        return
    if isinstance(reply, Exception):
        answer.set_exception(reply)
    else:
        answer.set_result(reply)


class Subscription:
    """What `redis.asyncio` calls a pubsub."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.channels: frozenset[str] = frozenset()
        self._messages: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._broken = False

    async def subscribe(self, *channels: str) -> None:
        """SUBSCRIBE."""
        await self.link.ask(lambda: self._subscribed(channels))

    def _subscribed(self, channels: tuple[str, ...]) -> None:
        if self.link.dead:
            return
        self.channels = frozenset(channels)
        self.link.server.subscriptions.append(self)

    def heard(self, data: bytes) -> None:
        """A message has come in."""
        self._messages.append(data)
        self._changed.set()

    def broken(self) -> None:
        """The server has closed the connection."""
        self._broken = True
        self.link.to_client(self._changed.set)

    async def get_message(self, timeout: float) -> dict[str, Any] | None:
        """The next message; None after a while without."""
        if not self._messages and not self._broken:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                return None
        if self._messages:
            return {"data": self._messages.popleft()}
        raise RedisConnectionError("connection closed by server")

    async def aclose(self) -> None:
        """Close the connection."""
        self.link.closed(self)


class Client:
    """The few commands that the product sends beside scripts."""

    def __init__(self, link: Link) -> None:
        self.link = link

    async def ping(self) -> bool:
        """PING."""
        return bool(await self.link.ask(lambda: True))

    async def pubsub_numsub(self, *channels: str) -> list[tuple[bytes, int]]:
        """PUBSUB NUMSUB."""
        counts: list[tuple[bytes, int]] = await self.link.ask(
            lambda: self.link.server.listeners(channels)
        )
        return counts

    async def publish(self, channel: str, data: bytes) -> int:
        """PUBLISH."""
        return int(await self.link.ask(lambda: self.link.server.announce(channel, data)))

    async def heartbeat(self, key: str) -> tuple[bytes | None, int]:
        """GET and PTTL in one."""
        model = self.link.server.model
        found: tuple[bytes | None, int] = await self.link.ask(
            lambda: (model.get(key), model.pttl(key))
        )
        return found

    def pubsub(self, **_options: Any) -> Subscription:
        """A subscription."""
        return Subscription(self.link)

    async def aclose(self) -> None:
        """Close all connections."""


class Connections:
    """Stands for `agents.coordination.connections.Connections`."""

    def __init__(self, link: Link, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.writer = self.reader = self.listener = Client(link)

    async def close(self) -> None:
        """Nothing is open."""


class ModelScripts(Scripts):
    """The product's typed calls, run by the model.

    Args:
        client: Of the process.
        keys: Key names.
        asking: Given the scripts before they are sent.
        told: Given the scripts and their replies, as they reach the process.
    """

    def __init__(
        self,
        client: Client,
        keys: Keys,
        asking: Callable[[Sequence[Call]], None],
        told: Callable[[Sequence[Call], Sequence[Any]], None],
    ) -> None:
        super().__init__(None, keys)  # type: ignore[arg-type]
        self._link, self._asking, self._told = client.link, asking, told

    async def _run(self, call: Call) -> Any:
        (reply,) = await self._run_many([call])
        if isinstance(reply, RedisError):
            raise reply
        return reply

    async def _run_many(
        self, calls: Sequence[Call], traces: Sequence[tuple[str, str]] = ()
    ) -> list[Any]:
        assert not traces, "no record is sampled here"
        if not calls:
            return []
        self._asking(calls)
        server = self._link.server
        replies: list[Any] = await self._link.ask(lambda: [server.run(call) for call in calls])
        self._told(calls, replies)
        return replies
