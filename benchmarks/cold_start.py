"""How long a worker takes from nothing to reports: a clean start, and straight after a kill -9.

    python -m benchmarks cold_start [--symbols 100] [--rounds 3] [--json]

The topic holds more than 30 minutes of record time, so every engine's windows are full and every
checkpoint is of full size. A first worker applies it all, saves and stops. From then on a worker
is started again and again, once after a clean stop and once straight after a SIGKILL of the one
before, and a subscriber notes when each symbol's first report is announced; the clock starts with
the process. Twice over: on a broker with ``group.initial.rebalance.delay.ms=0``, as it should be
set, and on one with stock settings (3000).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from typing import Any

from redis.asyncio import Redis

from benchmarks import mix
from benchmarks.consumers import APPLIED
from benchmarks.machine import described, machine, versions
from benchmarks.servers import Bench, metrics_text, samples, servers, total
from lua import Keys
from tapeline.stack.kafka_local import AT_ONCE
from tapeline.stack.processes import ChildProcess
from tapeline.stack.programs import program

PARTITIONS = 64
MINUTES = 34
RATE = 500
"""Events a second of record time, all symbols: the windows are what has to be full."""

ANSWER_S = 120.0
POLL_S = 0.1
BROKERS = {
    "group.initial.rebalance.delay.ms=0": AT_ONCE,
    "stock": {},
}


class Starts:
    """Starts workers of one installation, one after the other."""

    def __init__(self, bench: Bench, symbols: list[str]) -> None:
        self._bench, self._symbols = bench, symbols
        self.worker: ChildProcess | None = None
        self.port = 0

    async def start(self) -> dict[str, float]:
        """Seconds from the process's start to the first report, and to every symbol's."""
        env = self._bench.environment(NT_CLOCK="records")
        self.port = int(env["NT_METRICS_PORT"])
        self.worker = program("worker", env=env)
        keys = Keys()
        waiting = {keys.report(symbol).encode() for symbol in self._symbols}
        first_s = 0.0
        url = self._bench.servers.redis_url
        async with Redis.from_url(url) as store, store.pubsub() as channel:
            await channel.subscribe(*(name.decode() for name in waiting))
            began = time.perf_counter()
            await self.worker.start()
            async with asyncio.timeout(ANSWER_S):
                async for message in channel.listen():
                    if message["type"] != "message":
                        continue
                    waiting.discard(message["channel"])
                    first_s = first_s or time.perf_counter() - began
                    if not waiting:
                        break
        all_s = time.perf_counter() - began
        return {"first_s": round(first_s, 2), "all_s": round(all_s, 2)}

    async def caught_up(self, records: int) -> None:
        """Until the worker has applied everything and committed it."""
        async with asyncio.timeout(ANSWER_S + records / 1000):
            ends = {p: end for p, end in (await self._bench.end_offsets()).items() if end}
            while True:
                found = samples(await metrics_text(self.port))
                committed = [
                    found.get(f'tapeline_committed_offset{{partition="{p}"}}') for p in ends
                ]
                if total(found, APPLIED) >= records and committed == [*ends.values()]:
                    return
                await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """As an operator does."""
        if self.worker is not None:
            await self.worker.stop(grace_s=15)

    async def kill(self) -> None:
        """SIGKILL."""
        if self.worker is not None:
            self.worker.kill()
            await self.worker.wait()


@asynccontextmanager
async def installation(
    settings: dict[str, str], args: argparse.Namespace
) -> AsyncIterator[tuple[Starts, int]]:
    """A broker whose topic one worker has worked through."""
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(servers(settings))
        bench = Bench(running, mix.listings(args.symbols), args.partitions)
        await stack.enter_async_context(bench.topics())
        made = mix.cached(
            args.minutes * 60 * args.rate, symbol_count=args.symbols, events_per_s=args.rate
        )
        records = await bench.fill(made)
        starts = Starts(bench, mix.symbols(args.symbols))
        stack.push_async_callback(starts.stop)
        yield starts, records


async def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Both brokers."""
    about = {"machine": machine(), "versions": versions()}
    found: dict[str, Any] = {}
    for name, settings in BROKERS.items():
        clean: list[dict[str, float]] = []
        killed: list[dict[str, float]] = []
        async with installation(settings, args) as (starts, records):
            print(f"{name}: a first worker applies {records:,} records", file=sys.stderr)
            await starts.start()
            await starts.caught_up(records)
            for turn in range(args.rounds):
                await starts.stop()
                clean.append(await starts.start())
                await starts.kill()
                killed.append(await starts.start())
                print(
                    f"  round {turn + 1}/{args.rounds}  clean {clean[-1]['all_s']:6.2f} s  "
                    f"after kill -9 {killed[-1]['all_s']:6.2f} s",
                    file=sys.stderr,
                )
        found[name] = {
            "clean_s": median(run["all_s"] for run in clean),
            "after_kill_s": median(run["all_s"] for run in killed),
            "clean": clean,
            "after_kill": killed,
        }
    return {"symbols": args.symbols, "records": records, "brokers": found, **about}


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: there is no goal to miss here."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--symbols", type=int, default=100)
    options.add_argument("--minutes", type=int, default=MINUTES, help="of record time")
    options.add_argument("--rate", type=int, default=RATE, help="events a second of record time")
    options.add_argument("--partitions", type=int, default=PARTITIONS)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = options.parse_args(argv)
    found = asyncio.run(measured(args))
    print(f"{args.symbols} symbols; {described(found['machine'])}", file=sys.stderr)
    for name, figures in found["brokers"].items():
        print(
            f"{name:<40} clean start {figures['clean_s']:.2f} s, after kill -9 "
            f"{figures['after_kill_s']:.2f} s, to every symbol's first report (median)",
            file=sys.stderr,
        )
    if args.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
