"""The WebSocket hub under load: how soon a written report is at its clients, and how many it holds.

    python -m benchmarks readers_hub [--only hub|stuck|many ...] [--seconds 20] [--json]

``hub``: 100 symbols at 4 Hz, 100 clients that follow all of them. ``stuck``: 1,000 clients of five
symbols each, without and with ten more that follow all and read nothing. ``many``: 10,000 clients
of one symbol each over several ``serve`` processes, and the time to each one's first snapshot.

Writer, server and clients are processes of their own; reports go through the publish script. The
time of a report runs from before its write is sent to when its frame has been read, so Redis'
acceptance and the way there are part of it. Everything shares the machine's cores: where the
processors are the limit, the figures say so by ``server_cpu``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.hub_clients import BIN_NS
from benchmarks.machine import cpu_seconds, described, machine, memory_mb, versions
from tapeline.stack.embedded import EmbeddedKeyValueStore
from tests.support import commands

SCENARIOS = ("hub", "stuck", "many")
HZ = 4.0
GOAL_MS = 50.0
GOAL_FIRST_S = 3.0
START_S = 60.0
SETTLE_S = 2.0
FILES = 20_000


def names(number: int) -> list[str]:
    """Symbols."""
    return [f"SYM{n}USDT" for n in range(number)]


def milliseconds(counts: Counter[int], share: float, bin_ns: int = BIN_NS) -> float:
    """The latency below which that share stays; the upper edge of its bin."""
    wanted, seen = share * counts.total(), 0
    for took in sorted(counts):
        seen += counts[took]
        if seen >= wanted:
            return round((took + 1) * bin_ns / 1e6, 2)
    return 0.0


class Child:
    """A process that is told by lines and answers by lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def tell(self, text: str) -> None:
        """One line."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")

    async def said(self, timeout_s: float) -> str:
        """The next line.

        Raises:
            SystemExit: It ended, or said nothing in time.
        """
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout_s):
            line = await self.process.stdout.readline()
        if not line:
            raise SystemExit(f"readers_hub: a child ended with {await self.process.wait()}")
        return line.decode()

    async def end(self) -> None:
        """Its input ends, and so does it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def child(module: str, options: dict[str, Any]) -> AsyncIterator[Child]:
    """A process of this package."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    made = Child(process)
    try:
        made.tell(json.dumps(options))
        yield made
    finally:
        await made.end()


@asynccontextmanager
async def serving(redis_url: str) -> AsyncIterator[tuple[int, int]]:
    """A ``tapeline serve``: its port and its process id."""
    process = await commands.start("serve", REDIS_URL=redis_url, NT_SERVE_PORT="0")
    reading = None
    try:
        assert process.stderr is not None
        port = 0
        async with asyncio.timeout(START_S):
            async for line in process.stderr:
                said = json.loads(line)
                if said["event"] == "serve.starting":
                    port = said["port"]
                if said["event"].startswith("Application startup complete"):
                    break
        reading = asyncio.create_task(_drain(process.stderr))
        yield port, process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if reading is not None:
            await reading


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65_536):
        pass


@asynccontextmanager
async def writing(redis_url: str, symbols: Sequence[str]) -> AsyncIterator[None]:
    """A writer at work, each symbol written once at least."""
    options = {"redis_url": redis_url, "symbols": list(symbols), "hz": HZ}
    async with child("benchmarks.hub_writer", options) as writer:
        await writer.said(START_S)
        yield


@asynccontextmanager
async def crowd(options: list[dict[str, Any]]) -> AsyncIterator[list[Child]]:
    """Processes of clients."""
    children: list[Child] = []
    try:
        for one in options:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.hub_clients"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 26,
            )
            children.append(Child(process))
            children[-1].tell(json.dumps(one))
        yield children
    finally:
        for made in children:
            await made.end()


async def counted(
    port: int, pid: int, wishes: list[list[str]], stuck: int, seconds: float, processes: int
) -> dict[str, Any]:
    """Latencies of clients with these wishes, and what the server needed for them."""
    common = {"port": port, "seconds": seconds, "ready_s": START_S}
    options = [
        {**common, "symbols": wishes[n::processes], "stuck": stuck if n == 0 else 0}
        for n in range(processes)
    ]
    async with crowd(options) as clients:
        ready = [json.loads(await one.said(2 * START_S)) for one in clients]
        await asyncio.sleep(SETTLE_S)
        before_s = cpu_seconds(pid)
        for one in clients:
            one.tell("go")
        results = [json.loads(await one.said(seconds + START_S)) for one in clients]
        cpu = (cpu_seconds(pid) - before_s) / seconds
    counts: Counter[int] = Counter()
    for found in results:
        counts.update({int(took): number for took, number in found["counts"].items()})
    first = sorted(s for found in ready for s in found["first_s"])
    return {
        "clients": len(wishes),
        "stuck": stuck,
        "frames_per_s": round(counts.total() / seconds),
        "p50_ms": milliseconds(counts, 0.5),
        "p99_ms": milliseconds(counts, 0.99),
        "p999_ms": milliseconds(counts, 0.999),
        "first_snapshot_max_s": round(first[-1], 2) if first else None,
        "lost": sum(found["lost"] for found in results),
        "server_cpu": round(cpu, 2),
        "server_mb": round(memory_mb(pid)),
        "server_peak_mb": round(memory_mb(pid, "VmHWM")),
    }


async def hub(redis_url: str, args: argparse.Namespace) -> dict[str, Any]:
    """Everybody follows everything."""
    symbols = names(args.symbols)
    async with writing(redis_url, symbols), serving(redis_url) as (port, pid):
        wishes = [["*"]] * args.clients
        return await counted(port, pid, wishes, 0, args.seconds, args.processes)


async def stuck(redis_url: str, args: argparse.Namespace) -> dict[str, Any]:
    """The same crowd without and with clients that read nothing."""
    symbols = names(args.symbols)
    each = min(args.symbols_each, len(symbols))
    wishes = [
        [symbols[(n * each + k) % len(symbols)] for k in range(each)]
        for n in range(args.stuck_clients)
    ]
    found = {}
    for name, number in (("without", 0), ("with", args.stuck)):
        async with writing(redis_url, symbols), serving(redis_url) as (port, pid):
            found[name] = await counted(port, pid, wishes, number, args.seconds, args.processes)
    return found


async def many(redis_url: str, args: argparse.Namespace) -> dict[str, Any]:
    """As many clients as the machine holds, and the time to their first snapshot.

    They come at a steady rate, as people and machines do, and then, to new servers, all at once, as
    after an outage.
    """
    symbols = names(args.symbols)
    wishes = [[symbols[n % len(symbols)]] for n in range(args.many_clients)]
    found: dict[str, Any] = {"clients": len(wishes), "servers": args.servers}
    async with writing(redis_url, symbols):
        for name, per_s in (("steady", args.arrivals_per_s), ("at_once", 0)):
            found[name] = {
                "arrivals_per_s": per_s,
                **await _arrivals(redis_url, wishes, per_s, args),
            }
    return found


async def _arrivals(
    redis_url: str, wishes: list[list[str]], per_s: int, args: argparse.Namespace
) -> dict[str, Any]:
    servers = [serving(redis_url) for _ in range(args.servers)]
    started = [await server.__aenter__() for server in servers]
    try:
        shares = [
            {
                "port": port,
                "seconds": 0,
                "ready_s": START_S,
                "stuck": 0,
                "per_s": per_s / args.servers,
                "symbols": wishes[n :: args.servers],
            }
            for n, (port, _) in enumerate(started)
        ]
        patience_s = 4 * START_S + (len(wishes) / per_s if per_s else 0)
        async with crowd(shares) as clients:
            ready = [json.loads(await one.said(patience_s)) for one in clients]
            held = [round(memory_mb(pid)) for _, pid in started]
            for one in clients:
                one.tell("go")
                await one.said(START_S)
    finally:
        for server in reversed(servers):
            await server.__aexit__(None, None, None)
    first = sorted(s for found in ready for s in found["first_s"])
    return {
        "served": len(first),
        "lost": sum(found["lost"] for found in ready),
        "first_snapshot_p50_s": round(first[len(first) // 2], 3) if first else None,
        "first_snapshot_p99_s": round(first[int(len(first) * 0.99)], 3) if first else None,
        "first_snapshot_max_s": round(first[-1], 3) if first else None,
        "server_mb": held,
    }


async def measured(args: argparse.Namespace) -> dict[str, Any]:
    """All scenarios that were asked for."""
    found: dict[str, Any] = {"machine": machine(), "versions": versions()}
    run = {"hub": hub, "stuck": stuck, "many": many}
    for name in args.only:
        async with EmbeddedKeyValueStore() as store:
            found[name] = await run[name](store.url, args)
        print(f"{name}: {json.dumps(found[name])}", file=sys.stderr)
    return found


def reached(found: dict[str, Any]) -> bool:
    """Whether the goals are, of those scenarios that ran."""
    good = True
    if "hub" in found:
        good &= 0 < found["hub"]["p99_ms"] <= GOAL_MS and not found["hub"]["lost"]
    if "stuck" in found:
        good &= 0 < found["stuck"]["with"]["p99_ms"] <= GOAL_MS
    if "many" in found:
        steady = found["many"]["steady"]
        good &= (
            steady["served"] == found["many"]["clients"]
            and steady["first_snapshot_max_s"] <= GOAL_FIRST_S
        )
    return good


def main(argv: list[str] | None = None) -> int:
    """Measure, and print; 1 where a goal is not reached."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--only", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--symbols", type=int, default=100)
    options.add_argument("--clients", type=int, default=100)
    options.add_argument("--processes", type=int, default=2, help="that the clients are dealt to")
    options.add_argument("--stuck-clients", type=int, default=1000)
    options.add_argument("--symbols-each", type=int, default=5, help="of a client in `stuck`")
    options.add_argument("--stuck", type=int, default=10)
    options.add_argument("--many-clients", type=int, default=10_000)
    options.add_argument("--arrivals-per-s", type=int, default=500, help="in `many`")
    options.add_argument("--servers", type=int, default=4, help="in `many`")
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = options.parse_args(argv)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    found = asyncio.run(measured(args))
    print(described(found["machine"]), file=sys.stderr)
    if args.json:
        print(json.dumps(found))
    return 0 if reached(found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
