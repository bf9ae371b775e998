"""The Redis of the simulator against a real one: random calls to both, and the same answers.

What the simulator finds is worth as much as its model of the scripts.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any, Final

import pytest
from redis.asyncio import Redis

from lua import Keys, Scripts
from lua.scripts import Call
from tests.simulation.redis_model import RedisModel

KEYS: Final = Keys()
SYMBOLS: Final = ("X", "Y")
NODES: Final = ("a", "b", "c")
LONG_MS: Final = 60_000
PTTL_MS: Final = 2_000
"""What is left of a lease is looked at twice, in two places: it may differ by this."""


class Both:
    """A real Redis, and the model that is to answer as it does."""

    def __init__(self, redis: Redis, seed: int) -> None:
        self.redis, self.scripts = redis, Scripts(redis)
        self.now_ms = 0
        self.model = RedisModel(lambda: self.now_ms)
        self.rng = random.Random(seed)
        self.leases: dict[str, list[str]] = {symbol: ["a|1|1", "b|1|7"] for symbol in SYMBOLS}
        self.codes: Counter[str] = Counter()

    async def clock_ms(self) -> int:
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def run(self, call: Call) -> Any:
        """The call to both; the real answer."""
        name = call.script.name
        before_ms = await self.clock_ms()
        real = await self.scripts._run(call)
        after_ms = await self.clock_ms()
        # Where the clock decided a token, it tells at what moment the script ran.
        told = name == "acquire" and before_ms <= real[1] <= after_ms
        self.now_ms = real[1] if told else before_ms
        args = call.args
        if name == "publish":
            args = args[:8]
        elif name == "publish_tick":
            args = args[:6]
        model: Any = (
            self.model.look(*call.keys)
            if name == "look"
            else self.model.renew(call.keys[0], *args)  # type: ignore[arg-type]
            if name == "renew"
            else self.model.release(call.keys[0], *args)  # type: ignore[arg-type]
            if name == "release"
            else getattr(self.model, name)(call.keys, *args)
        )
        self._compare(call, plain(real), plain(model))
        return real

    def _compare(self, call: Call, real: Any, model: Any) -> None:
        said = (call.script.name, call.keys, call.args)
        at = {"acquire": 3, "look": 1}.get(call.script.name)
        if at is not None:
            left, expected = real.pop(at), model.pop(at)
            assert abs(left - expected) <= PTTL_MS, said
            assert (left > 0) == (expected > 0), said
        assert real == model, said
        code = real[0] if isinstance(real, list) else real
        if call.script.name != "look":
            self.codes[f"{call.script.name}:{code}"] += 1

    # --- calls -----------------------------------------------------------------------------------

    async def step(self) -> None:
        rng = self.rng
        symbol = rng.choice(SYMBOLS)
        action = rng.choices(
            ["acquire", "publish", "tick", "renew", "release", "look", "beat", "fault"],
            [14, 30, 14, 5, 3, 6, 12, 3],
        )[0]
        keys, value = KEYS.writer(symbol), self._value(symbol)
        if action == "acquire":
            floor = rng.choice((0, 0, rng.randrange(10**13)))
            below, expected = rng.choice(((0, ""), (2**53, value), (2**53, value), (1, value)))
            node = rng.choice(NODES)
            call = self.scripts._acquire(keys, node, "1", LONG_MS, floor, below, expected)
            reply = await self.run(call)
            self.leases[symbol].append(reply[2].decode())
        elif action == "publish":
            await self.run(self.scripts._publish(self._write(symbol, value), LONG_MS))
        elif action == "tick":
            await self.run(self.scripts._publish_tick(self._write(symbol, value), LONG_MS))
        elif action == "renew":
            await self.run(self.scripts._renew(keys.lease, value, LONG_MS))
        elif action == "release":
            await self.run(self.scripts._release(keys.lease, value))
        elif action == "look":
            await self.run(self.scripts._look(keys))
        elif action == "beat":
            await self._beat()
        else:
            await self._fault(symbol)
        await self._same_data(symbol)

    def _value(self, symbol: str) -> str:
        """A lease value: mostly the newest, now and then one of long ago."""
        leases = self.leases[symbol]
        return leases[-1] if self.rng.random() < 0.7 else self.rng.choice(leases)

    def _write(self, symbol: str, value: str) -> Any:
        rng = self.rng
        seq = rng.randrange(1, 30)
        return Scripted(
            symbol=symbol,
            lease_value=value,
            token=int(value.rpartition("|")[2]) + rng.choice((0, 0, 0, 0, 1, -1)),
            seq=seq,
            watermark=rng.choice((seq, seq, rng.randrange(30))),
            updated_at=rng.randrange(10**13),
            payload=b"p%d" % seq,
            heavy=rng.choice((b"", b"h")),
        )

    async def _beat(self) -> None:
        rng = self.rng
        node, incarnation = rng.choice(NODES), rng.choice(("1", "1", "2"))
        payload = rng.choice((b'{"incarnation":"%s"}' % incarnation.encode(), b"?", b"[1]"))
        ttl_s, replaces = rng.choice((50, 50, 50, 0)), rng.choice(("", "", "1", "2"))
        keys = (KEYS.node(node), KEYS.nodes())
        beat = self.scripts._scripts["beat"]
        await self.run(Call(beat, keys, (node, incarnation, payload, ttl_s, replaces)))

    async def _fault(self, symbol: str) -> None:
        """Something is lost, or a lease ends by itself."""
        keys = KEYS.writer(symbol)
        what = self.rng.choice(("lease", "counter", "meta", "all", "expires", "older"))
        if what == "all":
            await self.redis.flushdb()
            self.model.become(None)
        elif what == "expires":
            value = self.leases[symbol][-1]
            await self.run(self.scripts._renew(keys.lease, value, 1))
            await asyncio.sleep(0.005)
            self.now_ms += 10
            assert await self.redis.get(keys.lease) == self._bytes(self.model.get(keys.lease))
        elif what == "older":
            # The lease of another time, as an older copy of the data would bring it back.
            value = self.rng.choice(self.leases[symbol])
            await self.redis.set(keys.lease, value, px=LONG_MS)
            self.model.set(keys.lease, value, LONG_MS)
        else:
            key = getattr(keys, what)
            await self.redis.delete(key)
            self.model.delete(key)

    # --- data ------------------------------------------------------------------------------------

    async def _same_data(self, symbol: str) -> None:
        keys = KEYS.writer(symbol)
        plain_keys = (keys.lease, keys.counter, KEYS.report(symbol), KEYS.heavy(symbol))
        plain_keys += (KEYS.tick(symbol), *(KEYS.node(node) for node in NODES))
        stored = await self.redis.mget(plain_keys)
        assert stored == [self._bytes(self.model.get(key)) for key in plain_keys]
        meta = await self.redis.hgetall(keys.meta)
        assert {k.decode(): v.decode() for k, v in meta.items()} == (
            self.model.get(keys.meta) or {}
        )

    @staticmethod
    def _bytes(value: Any) -> bytes | None:
        return value.encode() if isinstance(value, str) else value


class Scripted:
    """The fields of a report and of a tick, without the checks of either."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def plain(reply: Any) -> Any:
    """A reply without what differs by the client only."""
    if isinstance(reply, list | tuple):
        return [plain(part) for part in reply]
    if isinstance(reply, bytes):
        return reply.decode()
    return int(reply) if isinstance(reply, int) else reply


@pytest.mark.slow
async def test_model_and_scripts_give_the_same_answers(redis: Redis) -> None:
    """Every code of every script comes up, and the data behind it is the same."""
    codes: Counter[str] = Counter()
    for seed in range(6):
        await redis.flushdb()
        both = Both(redis, seed)
        for _ in range(400):
            await both.step()
        codes += both.codes
    assert set(codes) == {
        *(f"acquire:{code}" for code in (0, 1, 2, 3)),
        *(f"publish:{code}" for code in (1, 0, -1, -2, -3)),
        *(f"publish_tick:{code}" for code in (1, 0, -1, -2, -3)),
        *(f"{name}:{code}" for name in ("renew", "release", "beat") for code in (0, 1)),
    }


async def test_model_and_scripts_refuse_the_last_token_alike(redis: Redis) -> None:
    """A reply that is an error, in both."""
    from redis.exceptions import ResponseError

    from tests.simulation.redis_model import TokenLimitReached

    both = Both(redis, 0)
    call = both.scripts._acquire(KEYS.writer("X"), "a", "1", LONG_MS, 2**53 - 1000, 0, "")
    with pytest.raises(ResponseError, match="TOKENLIMIT"):
        await both.scripts._run(call)
    with pytest.raises(TokenLimitReached):
        both.model.acquire(call.keys, *call.args)  # type: ignore[arg-type]


async def test_model_counts_listeners_as_redis_does(redis: Redis) -> None:
    """Who subscribes is counted, who closes is not any more, and messages count their readers."""
    from tests.simulation.loop import World
    from tests.simulation.network import Client, Link, Server, Wire
    from tests.support.invariants import History

    server = Server(World(), History(), lambda *_: None, fenced=True, floored=True)
    link = Link(World(), server, Wire(random.Random(0)), 1.0)
    ours = Client(link).pubsub()
    ours._subscribed(("one", "two"))
    async with redis.pubsub() as theirs:
        await theirs.subscribe("one", "two")
        channels = ("one", "two", "three")
        assert await redis.pubsub_numsub(*channels) == server.listeners(channels)
        assert await redis.publish("one", b"x") == server.announce("one", b"x") == 1
        assert await redis.publish("three", b"x") == server.announce("three", b"x") == 0
    await ours.aclose()
    assert await redis.pubsub_numsub("one") == server.listeners(["one"])
