"""Reports and ticks over HTTP at a steady rate, while they are being written.

    python -m benchmarks readers [--rate 500] [--seconds 20] [--json]

A ``tapeline serve`` with stock settings, its log line for each request included, and a bare
FastAPI and redis app that only hands on what is stored, as a measure of the same machine in the
same minutes: in turns, on the same store, with the same client. 100 symbols are written at 4 Hz by
the publish script meanwhile. Each request's time runs from the moment it was due.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from benchmarks.http_clients import BIN_NS
from benchmarks.machine import cpu_seconds, described, machine, memory_mb, versions
from benchmarks.readers_hub import START_S, Child, child, milliseconds, names, serving, writing
from tables.report import LastTrade, Tick, encode_tick
from tapeline.stack.embedded import EmbeddedKeyValueStore

PATHS = {"get_report": ("/get_report", 20.0), "ticks": ("/ticks/realtime", 10.0)}
"""By name: the path, and the p99 in ms that it is to keep below."""

ROUNDS = 3
LEVELS = 50
TICK_S = 0.25


def tick(symbol: str, seq: int) -> bytes:
    """A tick with as many levels as a worker writes."""
    now_ms = time.time_ns() // 1_000_000
    return encode_tick(
        Tick(
            symbol=symbol,
            venue="binance",
            writer_token=1,
            seq=seq,
            offset=seq,
            ts_recv_ms=now_ms,
            last_trade=LastTrade(100.0, 0.5, "buy", seq, now_ms, now_ms),
            quote=None,
            book="ok",
            bids=[(100.0 - n / 10, 1.0 + n) for n in range(LEVELS)],
            asks=[(100.1 + n / 10, 1.0 + n) for n in range(LEVELS)],
            synthetic=True,
        )
    )


async def write_ticks(redis_url: str, symbols: list[str], written: asyncio.Event) -> None:
    """Until cancelled; set plainly, as no one measures their way there."""
    seq = 0
    async with Redis.from_url(redis_url) as redis:
        while True:
            seq += 1
            async with redis.pipeline(transaction=False) as pipe:
                for symbol in symbols:
                    pipe.set(f"tick:{symbol}", tick(symbol, seq))
                await pipe.execute()
            written.set()
            await asyncio.sleep(TICK_S)


@asynccontextmanager
async def ticking(redis_url: str, symbols: list[str]) -> AsyncIterator[None]:
    """Ticks of these symbols are written meanwhile."""
    written = asyncio.Event()
    writer = asyncio.create_task(write_ticks(redis_url, symbols, written))
    try:
        await asyncio.wait_for(written.wait(), START_S)
        yield
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


@asynccontextmanager
async def bare(redis_url: str) -> AsyncIterator[tuple[int, int]]:
    """The measure: its port and its process id."""
    async with child("benchmarks.bare_reader", {"redis_url": redis_url}) as made:
        told = json.loads(await made.said(START_S))
        try:
            yield told["port"], told["pid"]
        finally:
            made.process.terminate()


async def measured_at(
    client: Child, port: int, pid: int, path: str, args: argparse.Namespace
) -> tuple[Counter[int], Counter[str], float]:
    """(latencies in bins, failures, processors used by the server) of one round."""
    before_s, began_s = cpu_seconds(pid), time.monotonic()
    client.tell(
        json.dumps(
            {
                "port": port,
                "path": path,
                "symbols": names(args.symbols),
                "rate": args.rate,
                "seconds": args.seconds / ROUNDS,
                "connections": args.connections,
            }
        )
    )
    found = json.loads(await client.said(args.seconds + START_S))
    cpu = (cpu_seconds(pid) - before_s) / (time.monotonic() - began_s)
    return Counter({int(k): v for k, v in found["counts"].items()}), Counter(found["failed"]), cpu


async def http(redis_url: str, args: argparse.Namespace) -> dict[str, Any]:
    """Both paths of both servers, in turns."""
    symbols, found = names(args.symbols), {}
    async with (
        writing(redis_url, symbols),
        ticking(redis_url, symbols),
        serving(redis_url) as ours,
        bare(redis_url) as theirs,
        _client() as client,
    ):
        for name, (path, goal_ms) in PATHS.items():
            sums: dict[str, tuple[Counter[int], Counter[str], list[float]]] = {
                who: (Counter(), Counter(), []) for who in ("tapeline", "bare")
            }
            for _ in range(ROUNDS):
                for who, (port, pid) in (("tapeline", ours), ("bare", theirs)):
                    counts, failed, cpu = await measured_at(client, port, pid, path, args)
                    sums[who][0].update(counts)
                    sums[who][1].update(failed)
                    sums[who][2].append(cpu)
            row: dict[str, Any] = {"rate_per_s": args.rate, "goal_p99_ms": goal_ms}
            for who, (counts, failed, cpus) in sums.items():
                row[who] = {
                    "requests": counts.total(),
                    "failed": dict(failed),
                    "p50_ms": milliseconds(counts, 0.5, BIN_NS),
                    "p99_ms": milliseconds(counts, 0.99, BIN_NS),
                    "p999_ms": milliseconds(counts, 0.999, BIN_NS),
                    "server_cpu": round(sum(cpus) / len(cpus), 2),
                }
            row["p50_ratio"] = round(row["tapeline"]["p50_ms"] / row["bare"]["p50_ms"], 2)
            row["p99_ratio"] = round(row["tapeline"]["p99_ms"] / row["bare"]["p99_ms"], 2)
            found[name] = row
        found["server_mb"] = round(memory_mb(ours[1]))
    return found


@asynccontextmanager
async def _client() -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.http_clients"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    made = Child(process)
    try:
        yield made
    finally:
        await made.end()


def reached(found: dict[str, Any]) -> bool:
    """Whether each path's p99 is, and nothing failed."""
    rows = [found["http"][name] for name in PATHS]
    return all(
        0 < row["tapeline"]["p99_ms"] <= row["goal_p99_ms"] and not row["tapeline"]["failed"]
        for row in rows
    )


async def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Everything, on a store that is this run's alone."""
    found: dict[str, Any] = {"machine": machine(), "versions": versions()}
    async with EmbeddedKeyValueStore() as store:
        found["http"] = await http(store.url, args)
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure, and print; 1 where a goal is not reached."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rate", type=int, default=500, help="requests a second")
    options.add_argument("--seconds", type=float, default=30.0, help="of each path and server")
    options.add_argument("--symbols", type=int, default=100)
    options.add_argument("--connections", type=int, default=32, help="that are kept open")
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = options.parse_args(argv)
    found = asyncio.run(measured(args))
    print(described(found["machine"]), file=sys.stderr)
    for name in PATHS:
        print(f"{name}: {json.dumps(found['http'][name])}", file=sys.stderr)
    if args.json:
        print(json.dumps(found))
    return 0 if reached(found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
