"""A worker's part for the dashboard's tests, in a process of its own, to be told and killed.

``python -m tests.support.desk_writer REDIS_URL NODE COUNT [HZ]``; a line on its input is a
command: ``hold``, ``go``, ``gap SYMBOL``, ``mend SYMBOL``. It answers each, and ``ready`` first.
Reports and ticks go through the real leases and the real publish scripts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from functools import partial

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from tables.report import encode_report, encode_tick
from tests.support.coordination import Desk, desk, until
from tests.support.desk_market import Market, encode_trade, symbols

KEPT = 2000


class Writer:
    """Writes its markets, as long as it is not told to hold."""

    def __init__(self, made: Desk, redis: Redis, node: str, count: int, hz: float) -> None:
        self._desk, self._redis, self._hz = made, redis, hz
        self._markets = {name: Market(name, 7, node) for name in symbols(count)}
        self._epoch, self._offset = time.time_ns() // 1_000_000, 0
        self._going = asyncio.Event()
        self._going.set()
        self._still = asyncio.Event()

    async def run(self) -> None:
        self._desk.leases.want(dict.fromkeys(self._markets, 0))
        await until(lambda: len(list(self._desk.leases.owned())) == len(self._markets), 20)
        say("ready")
        while True:
            began = time.monotonic()
            await self._round()
            if not self._going.is_set():
                await self._desk.publisher.flush(2.0)
                self._still.set()
            await self._going.wait()
            await asyncio.sleep(max(0.01, 1 / self._hz - (time.monotonic() - began)))

    async def _round(self) -> None:
        """One write of every symbol, spread over half the period as a worker's are."""
        keys = Keys()
        for n, market in enumerate(self._markets.values()):
            now_ms, mark = time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000
            trades = market.step(now_ms)
            self._desk.publisher.put(market.symbol, mark, partial(self._report, market, now_ms))
            self._desk.publisher.put_tick(market.symbol, mark, partial(self._tick, market, now_ms))
            if trades:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for trade in trades:
                        self._offset += 1
                        pipe.xadd(
                            keys.events(market.symbol),
                            {"event": encode_trade(trade)},
                            id=f"{self._epoch}-{self._offset}",
                            maxlen=KEPT,
                        )
                    with contextlib.suppress(RedisError):  # as a worker: the oldest are lost
                        await pipe.execute()
            if n % 10 == 9:
                await asyncio.sleep(0.4 / self._hz / max(1, len(self._markets) / 10))

    @staticmethod
    def _report(
        market: Market, now_ms: int, token: int, seq: int, updated_at: int
    ) -> tuple[bytes, bytes]:
        return encode_report(market.report(now_ms, token, seq, updated_at), 10**9)

    @staticmethod
    def _tick(market: Market, now_ms: int, token: int, seq: int) -> bytes:
        return encode_tick(market.tick_record(now_ms, token, seq))

    async def obey(self, word: str, *symbol: str) -> None:
        if word == "hold":
            self._still.clear()
            self._going.clear()
            await self._still.wait()
        elif word == "go":
            self._going.set()
        elif word == "gap":
            self._markets[symbol[0]].gap(time.time_ns() // 1_000_000)
        elif word == "mend":
            self._markets[symbol[0]].mend()
        say(word)


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def main(url: str, node: str, count: str, hz: str = "4") -> None:
    # Its words are all there is on its output, which is read only for them.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    incarnation = f"{os.getpid()}-{time.monotonic_ns()}"
    async with desk(url, node, incarnation, ttl_ms=3000) as made, Redis.from_url(url) as redis:
        writer = Writer(made, redis, node, int(count), float(hz))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(writer.run())
            async for line in commands:
                await writer.obey(*line.decode().split())
            running.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
