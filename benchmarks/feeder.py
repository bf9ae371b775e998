"""A bridge's stand-in that writes the standard mix live: paced, stamped with the wall clock.

    python -m benchmarks.feeder --kafka HOST:PORT --topic T --symbols 15 --rate 5000 --seconds 30

A process of its own, so that whoever watches the reports has nothing else to do. It says
``FEEDER ready`` when each symbol has its book, ``FEEDER done {...}`` at its end, and leaves the
offset and ``ts_recv_ms`` of each record in ``--out``, a line each.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks import mix
from benchmarks.peers.meter import say

READY = "FEEDER ready"
DONE = "FEEDER done "
SLOT_S = 0.002
LINGER_MS = 3
"""As a bridge: records that come within this time share a request."""

BATCH_BYTES = 512 * 1024


async def feed(args: argparse.Namespace) -> None:
    """Write openings, then the mix at its rate."""
    producer = AIOKafkaProducer(
        bootstrap_servers=args.kafka,
        acks="all",
        enable_idempotence=True,
        linger_ms=LINGER_MS,
        max_batch_size=BATCH_BYTES,
    )
    await producer.start()
    try:
        lines = await _feed(producer, args)
    finally:
        await producer.stop()
    await asyncio.to_thread(Path(args.out).write_text, "".join(lines), encoding="ascii")
    say(DONE + json.dumps(args.told))


async def _feed(producer: AIOKafkaProducer, args: argparse.Namespace) -> list[str]:
    rows: list[str] = []
    acknowledged_ms: list[int] = []
    markets = mix.markets(args.symbols, args.seed)

    async def write(market: mix.Market, event: Any) -> None:
        symbol, stamp_ms = market.symbol, event.ts_recv_ms
        key, value = market.record(event)

        def acknowledged(future: asyncio.Future[Any]) -> None:
            rows.append(f"{symbol} {future.result().offset} {stamp_ms}\n")
            acknowledged_ms.append(int(time.time() * 1000) - stamp_ms)

        future = await producer.send(args.topic, key=key, value=value)
        future.add_done_callback(acknowledged)

    for market in markets:
        now_ms = int(time.time() * 1000)
        await write(market, market.instrument(now_ms))
        await write(market, market.snapshot(now_ms, "initial"))
    await producer.flush()
    acknowledged_ms.clear()  # the first batches of a topic just made are slow
    say(READY)
    chance = random.Random(args.seed)
    began, written, late_s = time.monotonic(), 0, 0.0
    while (gone_s := time.monotonic() - began) < args.seconds:
        due = int(gone_s * args.rate)
        late_s = max(late_s, (due - written) / args.rate)
        now_ms = int(time.time() * 1000)
        for _ in range(due - written):
            market = markets[int(chance.random() * len(markets))]
            await write(market, market.next_event(now_ms, chance))
        written = due
        await asyncio.sleep(SLOT_S)
    await producer.flush()
    await asyncio.sleep(0)  # the last callbacks
    cuts = quantiles(acknowledged_ms, n=100)
    args.told = {
        "records": written,
        "latest_ms": round(late_s * 1000, 1),
        "acknowledged_ms": {"p50": cuts[49], "p99": cuts[98], "max": max(acknowledged_ms)},
        "cpu": round(time.process_time() / (time.monotonic() - began), 2),
    }
    return rows


def main() -> None:
    """Feed until the time is over."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kafka", required=True)
    options.add_argument("--topic", required=True)
    options.add_argument("--symbols", type=int, required=True)
    options.add_argument("--rate", type=int, required=True, help="events a second, all symbols")
    options.add_argument("--seconds", type=float, required=True)
    options.add_argument("--out", required=True)
    options.add_argument("--seed", type=int, default=mix.SEED)
    # What it keeps has no cycles, and a collection would hold up the feed for a tenth of a second.
    gc.disable()
    asyncio.run(feed(options.parse_args()))


if __name__ == "__main__":
    main()
