"""How long a command takes: subscribe to the first data on the topic, unsubscribe to the last record.

    python -m benchmarks subscribe [--times 100] [--json]

A bridge on the simulated exchange and a real Kafka follows one symbol. Another one is subscribed to
and unsubscribed from, again and again, by the commands that ``tapeline symbols`` sends. The clock
starts before a command is sent; a reader of the events topic notes when the symbol's first record
with data arrives, and when its last one does. Between two subscriptions a second passes, as more of
them would spend the venue's request budget, which the bridge keeps.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.machine import described, machine, versions
from benchmarks.servers import Bench, servers
from streams import topics
from streams.bridge import Bridge
from streams.control_client import ControlClient, control_client, subscribe, unsubscribe
from streams.events import FeedStatus, decode
from streams.simulator import SimulatedExchange
from streams.symbols import Listing
from tapeline.config import Settings, load_settings

TIMES = 100
RATE = 60.0
PARTITIONS = 8
FOLLOWED = "BTCUSDT"
OTHER = Listing("binance", "SOLUSDT", "SOLUSDT")
PACE_S = 1.0
SETTLE_S = 0.3
"""After an unsubscription: a record that comes later than this would be seen in the next round."""

GOAL_MS = 1_000.0
ANSWER_S = 10.0


class Arrivals:
    """When records of a symbol arrive at a reader of the topic.

    Attributes:
        data_s: Of each record with data, since it was cleared.
        last_s: Of the newest record.
    """

    def __init__(self, consumer: Any, symbol: str) -> None:
        self._consumer, self._key = consumer, symbol.encode()
        self.data_s: list[float] = []
        self.last_s = 0.0
        self.came = asyncio.Event()

    async def read(self) -> None:
        """Until cancelled."""
        async for record in self._consumer:
            if record.key == self._key:
                self.last_s = time.perf_counter()
                if not isinstance(decode(record.value), FeedStatus):
                    self.data_s.append(self.last_s)
                    self.came.set()


async def settings_of(bench: Bench, sim: SimulatedExchange) -> Settings:
    """Of a bridge with topics of its own."""
    names = {
        f"NT_{kind.upper()}_TOPIC": f"{bench.name}.{kind}"
        for kind in ("commands", "routing", "telemetry")
    }
    settings = load_settings(
        bench.environment(
            NT_BINANCE_STREAM_URL=sim.stream_url,
            NT_BINANCE_REST_URL=sim.rest_url,
            NT_BRIDGE_PORT="0",
            **names,
        )
    )
    planned = [t for t in topics.plan(settings) if t.name.startswith(bench.name)]
    async with topics.admin_of(settings.kafka_url) as admin:
        await topics.apply(admin, planned)
    return settings


@asynccontextmanager
async def arrivals(settings: Settings) -> AsyncIterator[Arrivals]:
    """A reader at the end of the events topic."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=topics.bootstrap_servers(settings.kafka_url),
        auto_offset_reset="latest",
    )
    await consumer.start()
    try:
        tps = [TopicPartition(settings.events_topic, p) for p in range(settings.partitions)]
        consumer.assign(tps)
        for tp in tps:
            await consumer.position(tp)
        found = Arrivals(consumer, OTHER.symbol)
        reading = asyncio.create_task(found.read())
        try:
            yield found
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    finally:
        await consumer.stop()


@asynccontextmanager
async def bridging(settings: Settings) -> AsyncIterator[Bridge]:
    """A bridge whose book is in sync."""
    bridge = Bridge(settings)
    running = asyncio.create_task(bridge.run())
    try:
        async with asyncio.timeout(ANSWER_S):
            while not all(line.in_sync for line in bridge.feeds["binance"].lines.values()):
                if running.done():
                    raise SystemExit(f"subscribe: the bridge ended with {await running}")
                await asyncio.sleep(0.01)
        yield bridge
    finally:
        bridge.stop()
        await asyncio.gather(running, return_exceptions=True)


async def sent(client: ControlClient, command: Any) -> None:
    """Send a command, and wait until it is acknowledged.

    Raises:
        SystemExit: With an error, or not at all.
    """
    answer = (await client.send([command], ANSWER_S)).get(command.command_id)
    if answer is None or answer.status != "success":
        raise SystemExit(f"subscribe: {command.type} came to {answer}")


async def measured(times: int) -> dict[str, Any]:
    """Milliseconds of each round."""
    subscribed: list[float] = []
    acknowledged: list[float] = []
    unsubscribed: list[float] = []
    async with (
        servers() as running,
        SimulatedExchange([FOLLOWED, OTHER.symbol], seed=7, rate=RATE) as sim,
    ):
        bench = Bench(running, f"binance:{FOLLOWED}", PARTITIONS)
        settings = await settings_of(bench, sim)
        try:
            async with (
                bridging(settings),
                arrivals(settings) as found,
                control_client(settings) as client,
            ):
                for turn in range(times):
                    found.data_s.clear()
                    found.came.clear()
                    began_s = time.perf_counter()
                    await sent(client, subscribe(OTHER))
                    acknowledged.append((time.perf_counter() - began_s) * 1e3)
                    async with asyncio.timeout(ANSWER_S):
                        await found.came.wait()
                    subscribed.append((found.data_s[0] - began_s) * 1e3)
                    await asyncio.sleep(PACE_S - (time.perf_counter() - began_s) % PACE_S)
                    began_s = time.perf_counter()
                    await sent(client, unsubscribe((OTHER.venue, OTHER.symbol)))
                    await asyncio.sleep(SETTLE_S)
                    unsubscribed.append((found.last_s - began_s) * 1e3)
                    if (turn + 1) % 10 == 0:
                        print(f"  {turn + 1}/{times}", file=sys.stderr)
                sockets = sim.counts["accepted"]
        finally:
            await bench.delete_topics()
    return {
        "times": times,
        "sockets": sockets,
        "subscribe_to_data_ms": spread(subscribed),
        "subscribe_to_acknowledged_ms": spread(acknowledged),
        "unsubscribe_to_last_record_ms": spread(unsubscribed),
        "broker": running.broker,
        "machine": machine(),
        "versions": versions(),
    }


def spread(found_ms: list[float]) -> dict[str, float]:
    """p50, p99 and the longest."""
    p50, p99, longest = np.percentile(found_ms, [50, 99, 100])
    return {"p50": round(p50, 1), "p99": round(p99, 1), "max": round(longest, 1)}


def main(argv: list[str] | None = None) -> int:
    """Measure, and print; 1 where the goal is not reached, or a socket was opened anew."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--times", type=int, default=TIMES)
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = options.parse_args(argv)
    if args.times < 1:
        print(f"subscribe: --times is {args.times}; expected 1 or more", file=sys.stderr)
        return 2
    found = asyncio.run(measured(args.times))
    print(described(found["machine"]), file=sys.stderr)
    for name in ("subscribe_to_data", "subscribe_to_acknowledged", "unsubscribe_to_last_record"):
        ms = found[f"{name}_ms"]
        print(
            f"{name.replace('_', ' '):<28} p50 {ms['p50']:7.1f} ms  p99 {ms['p99']:7.1f} ms  "
            f"max {ms['max']:7.1f} ms",
            file=sys.stderr,
        )
    print(f"{found['sockets']} socket(s); goal: p99 under {GOAL_MS:g} ms", file=sys.stderr)
    if args.json:
        print(json.dumps(found))
    slowest = max(
        found["subscribe_to_data_ms"]["p99"], found["unsubscribe_to_last_record_ms"]["p99"]
    )
    return 0 if slowest <= GOAL_MS and found["sockets"] == 1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
