"""A bridge's stand-in that writes the standard mix at a rate that is changed while it runs.

    python -m tests.soak.feed --kafka HOST:PORT --topic T --partitions N --symbols 15 --rate-file F

A process of its own. The file holds the events a second, all symbols together, and is looked at
every tenth of a second. Records go in batches of whole partitions, which costs a fraction of what
it does to give a client record by record: what is tested is who reads them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from benchmarks import mix
from streams.topics import partition_of

READY: Final = "FEED ready"
SLOT_S: Final = 0.02
LOOK_S: Final = 0.1
BEHIND_MAX_S: Final = 1.0
"""What it is behind its rate by is made up for, up to so much."""


class Writer:
    """Batches by partition."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partitions: int) -> None:
        self._producer, self._topic, self._partitions = producer, topic, partitions
        self._home: dict[bytes, int] = {}
        self._open: dict[int, Any] = {}
        self._failed: BaseException | None = None

    async def add(self, key: bytes, value: bytes, now_ms: int) -> None:
        """One record."""
        home = self._home.get(key)
        if home is None:
            home = self._home[key] = partition_of(key.decode(), self._partitions)
        batch = self._open.get(home)
        if batch is None or batch.append(key=key, value=value, timestamp=now_ms) is None:
            if batch is not None:
                await self._send(home)
            batch = self._open[home] = self._producer.create_batch()
            assert batch.append(key=key, value=value, timestamp=now_ms) is not None

    async def flush(self) -> None:
        """Send what is open.

        Raises:
            KafkaError: Something that was sent has been refused.
        """
        for home in list(self._open):
            await self._send(home)
        if self._failed is not None:
            raise self._failed

    async def _send(self, home: int) -> None:
        batch = self._open.pop(home)
        sent = await self._producer.send_batch(batch, self._topic, partition=home)
        sent.add_done_callback(self._sent)

    def _sent(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and future.exception() is not None:
            self._failed = future.exception()


async def feed(args: argparse.Namespace) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    producer = AIOKafkaProducer(
        bootstrap_servers=args.kafka, acks="all", enable_idempotence=True, max_batch_size=512 * 1024
    )
    await producer.start()
    try:
        await _feed(Writer(producer, args.topic, args.partitions), args, stop)
    finally:
        await producer.stop()


async def _feed(writer: Writer, args: argparse.Namespace, stop: asyncio.Event) -> None:
    markets = mix.markets(args.symbols, args.seed)
    for market in markets:
        now_ms = int(time.time() * 1000)
        await writer.add(*market.record(market.instrument(now_ms)), now_ms)
        await writer.add(*market.record(market.snapshot(now_ms, "initial")), now_ms)
    await writer.flush()
    os.write(1, f"{READY}\n".encode())
    chance = random.Random(args.seed)
    rates = Path(args.rate_file)
    last_s, looked_s, rate, owed = time.monotonic(), 0.0, 0.0, 0.0
    while not stop.is_set():
        now_s = time.monotonic()
        if now_s - looked_s >= LOOK_S:
            looked_s = now_s
            rate = read_rate(rates)
        owed = min(owed + (now_s - last_s) * rate, max(1.0, rate * BEHIND_MAX_S))
        last_s = now_s
        now_ms = int(time.time() * 1000)
        for _ in range(int(owed)):
            market = markets[int(chance.random() * len(markets))]
            await writer.add(*market.record(market.next_event(now_ms, chance)), now_ms)
        owed -= int(owed)
        await writer.flush()
        await asyncio.sleep(SLOT_S)


def read_rate(path: Path) -> float:
    """What the file says; 0 while it is being written."""
    return float(path.read_text("ascii") or 0)


def main() -> None:
    """Feed until told to stop."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kafka", required=True)
    options.add_argument("--topic", required=True)
    options.add_argument("--partitions", type=int, required=True)
    options.add_argument("--symbols", type=int, required=True)
    options.add_argument("--rate-file", required=True)
    options.add_argument("--seed", type=int, default=mix.SEED)
    asyncio.run(feed(options.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
