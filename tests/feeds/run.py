"""One run: faults, bridges that die and stop, and rounds that end in a comparison."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import aiohttp

from streams import topics
from streams.symbols import Listing, parse_symbols
from tapeline.config import Settings, load_settings, variable_name
from tapeline.stack.embedded import EmbeddedKeyValueStore
from tapeline.stack.kafka_local import LocalKafka
from tapeline.stack.ports import LOOPBACK, free_port
from tapeline.stack.processes import ChildProcess
from tapeline.stack.programs import program
from tests.feeds.reader import Levels, Reader

BASES: Final = ("BTC", "ETH", "SOL", "XRP", "ADA")
SYMBOLS: Final = ",".join(
    [f"binance:{base}USDT" for base in BASES]
    + [f"coinbase:{base}-USD>{base}USD" for base in BASES]
    + [f"kraken:{base}/USD>X{base}USD" for base in BASES]
)
PARTITIONS: Final = 8
DEPTH: Final = 100
CHECKED_DEPTH: Final = {"kraken": 10}
"""What a venue proves of a book: a change further down that is lost is found by the next refresh."""

DOWN_S: Final = 3.0
PAUSE_S: Final = 6.0
SETTLE_S: Final = 90.0

SHOWN_BY: Final[dict[str, tuple[str, ...]]] = {
    "drop": ("book.resync", "sequence.gap", "late_event.dropped", "checksum.failed"),
    "duplicate": ("stale_event.dropped", "duplicate_event.dropped"),
    "delay": ("book.resync", "stale_event.dropped", "late_event.dropped"),
    "reorder": ("book.resync", "stale_event.dropped", "late_event.dropped"),
    "hole": ("sequence.gap",),
    "checksum": ("checksum.failed",),
    "malform": ("frame.refused",),
    "truncate": ("frame.refused",),
    "disconnect": ("ws_resubscribe",),
    "restart": ("ws_resubscribe",),
    "half_open": ("ws_resubscribe",),
    "refuse_connections": ("ws_connect.refused",),
    "limit": ("request.refused",),
    "ban": ("request.refused",),
}
"""By fault: telemetry of which some has to be there where it has struck three times."""


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


class Bridges:
    """Two of them."""

    def __init__(self, settings: Settings) -> None:
        self.ports = {name: free_port() for name in ("b1", "b2")}
        self.children: dict[str, ChildProcess] = {}
        self._settings = settings

    async def start(self, name: str) -> None:
        env = {variable_name(k): str(v) for k, v in self._settings.model_dump().items()}
        env |= {"NT_NODE_ID": name, "NT_BRIDGE_PORT": str(self.ports[name])}
        self.children[name] = program("bridge", env=env, label=name)
        await self.children[name].start()

    async def health(self, name: str) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.get(f"http://{LOOPBACK}:{self.ports[name]}/health") as response,
        ):
            found: dict[str, Any] = await response.json()
            return found

    async def lines(self, name: str) -> list[dict[str, Any]]:
        try:
            venues = (await self.health(name))["venues"]
        except (aiohttp.ClientError, TimeoutError, OSError):
            return []
        return [line for venue in venues.values() for line in venue["symbols"].values()]

    async def writer(self) -> str:
        """Whoever holds most feeds."""
        held = {n: sum(bool(x["feed_token"]) for x in await self.lines(n)) for n in self.ports}
        return max(held, key=lambda name: held[name])

    async def right(self, symbols: int) -> bool:
        """Whether both have all books, and all feeds are held."""
        found = [await self.lines(name) for name in self.ports]
        held = sum(bool(line["feed_token"]) for lines in found for line in lines)
        return held == symbols and all(
            len(lines) == symbols and all(line["in_sync"] for line in lines) for lines in found
        )

    async def stop(self) -> None:
        await asyncio.gather(*(child.stop(grace_s=10) for child in self.children.values()))


class Venues:
    """The control interface of each."""

    def __init__(self, told: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self.urls = {venue: urls["control_url"] for venue, urls in told["venues"].items()}
        self._session = session

    async def _all(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        found = {}
        for venue, url in self.urls.items():
            async with self._session.request(method, url + path, json=body or None) as response:
                found[venue] = await response.json()
        return found

    async def faults(self, rules: Sequence[str]) -> None:
        for rule in rules:
            await self._all("POST", "/faults", rule=rule)

    async def no_faults(self) -> None:
        await self._all("DELETE", "/faults")

    async def freeze(self) -> None:
        await self._all("POST", "/freeze")

    async def thaw(self) -> None:
        await self._all("POST", "/thaw")

    async def struck(self) -> dict[str, dict[str, int]]:
        """How often each fault has struck, by venue."""
        state = await self._all("GET", "/state")
        return {venue: dict(one["faults"]["totals"]) for venue, one in state.items()}

    async def book(self, listing: Listing) -> tuple[Levels, Levels]:
        url = self.urls[listing.venue]
        async with self._session.get(
            f"{url}/book", params={"symbol": listing.venue_symbol}
        ) as response:
            told = await response.json()
        bids, asks = (
            [(Decimal(str(px)), Decimal(str(sz))) for px, sz, *_ in told[side]]
            for side in ("bids", "asks")
        )
        return bids, asks


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds, and what they come to."""
    chance = random.Random(args.seed)
    listings = [*parse_symbols(SYMBOLS)]
    say(f"{len(listings)} symbols of three venues, {args.minutes:g} minutes, seed {args.seed}")
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tapeline-feeds-"))
        kafka = LocalKafka(Path(folder))
        await stack.enter_async_context(kafka)
        store = await stack.enter_async_context(EmbeddedKeyValueStore())
        told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def listen(_name: str, line: str) -> None:
            if not told.done() and line.startswith("{"):
                told.set_result(json.loads(line))

        names = ",".join(f"{one.venue}:{one.venue_symbol}" for one in listings)
        exchange = program(
            "simulator",
            *("--port", "0", "--symbols", names, "--seed", str(args.seed)),
            *("--rate", str(args.rate)),
            on_line=listen,
        )
        await exchange.start()
        stack.push_async_callback(exchange.stop)
        async with asyncio.timeout(30):
            urls = await told
        session = await stack.enter_async_context(aiohttp.ClientSession())
        venues = Venues(urls, session)
        settings = load_settings(
            {},
            kafka_url=kafka.url,
            redis_url=store.url,
            symbols=SYMBOLS,
            partitions=PARTITIONS,
            app_id="feeds",
            **{
                f"{venue}_{kind}_url": one[f"{kind}_url"]
                for venue, one in urls["venues"].items()
                for kind in ("stream", "rest")
                if f"{venue}_{kind}_url" in Settings.model_fields
            },
        )
        async with topics.admin_of(settings.kafka_url) as admin:
            await topics.apply(admin, topics.plan(settings))
        bridges = Bridges(settings)
        stack.push_async_callback(bridges.stop)
        for name in bridges.ports:
            await bridges.start(name)
        reader = Reader(settings, listings)
        reading = asyncio.create_task(reader.run())
        stack.callback(reading.cancel)
        rounds = await _rounds(args, chance, listings, bridges, venues, reader)
        struck = await venues.struck()
    return concluded(args, listings, rounds, struck, reader)


async def _rounds(
    args: argparse.Namespace,
    chance: random.Random,
    listings: list[Listing],
    bridges: Bridges,
    venues: Venues,
    reader: Reader,
) -> list[dict[str, Any]]:
    await _settled(bridges, len(listings))
    rounds: list[dict[str, Any]] = []
    ends_s = time.monotonic() + args.minutes * 60
    while time.monotonic() < ends_s or not rounds:
        kills = len(rounds) % 2 == 0
        await venues.faults(args.rules)
        before_s = chance.uniform(0.1, 0.6) * args.faults_s
        await asyncio.sleep(before_s)
        name = await bridges.writer()
        if kills:
            bridges.children[name].kill()
            await bridges.children[name].wait()
            await asyncio.sleep(DOWN_S)
            await bridges.start(name)
        else:
            os.kill(bridges.children[name].pid, signal.SIGSTOP)
            await asyncio.sleep(PAUSE_S)
            os.kill(bridges.children[name].pid, signal.SIGCONT)
        await asyncio.sleep(max(0.0, args.faults_s - before_s - PAUSE_S))
        await venues.no_faults()
        await asyncio.sleep(args.quiet_s)
        settled_s = await _settled(bridges, len(listings))
        await venues.freeze()
        await asyncio.sleep(1.5)
        await reader.drained()
        found = [await compared(one, venues, reader) for one in listings]
        await venues.thaw()
        counts = Counter(found)
        rounds.append(
            {
                "bridge": f"{name} {'killed' if kills else 'stopped'}",
                "settled_s": round(settled_s, 1),
                **{what: counts[what] for what in ("equal", "deeper", "diverged", "not_right")},
                "symbols": [
                    one.symbol
                    for one, what in zip(listings, found, strict=True)
                    if what in ("diverged", "not_right")
                ],
            }
        )
        say(f"round {len(rounds)}: {rounds[-1]}; {reader.records:,} records")
    return rounds


async def _settled(bridges: Bridges, symbols: int) -> float:
    """Seconds until every book is right at both bridges.

    Raises:
        TimeoutError: They are not, in time.
    """
    began_s = time.monotonic()
    async with asyncio.timeout(SETTLE_S):
        while not await bridges.right(symbols):  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.25)
    return time.monotonic() - began_s


async def compared(listing: Listing, venues: Venues, reader: Reader) -> str:
    """``equal``; ``deeper``: equal as far as the venue proves it; ``diverged``; ``not_right``."""
    ours = reader.book(listing.symbol, DEPTH)
    if ours is None:
        return "not_right"
    theirs = await venues.book(listing)
    depths = (DEPTH, CHECKED_DEPTH.get(listing.venue, DEPTH))
    same = [
        all(
            mine[:depth] == whole[: min(depth, len(mine))]
            for mine, whole in zip(ours, theirs, strict=True)
        )
        for depth in depths
    ]
    if same[0]:
        return "equal"
    return "deeper" if same[1] else "diverged"


def concluded(
    args: argparse.Namespace,
    listings: list[Listing],
    rounds: list[dict[str, Any]],
    struck: dict[str, dict[str, int]],
    reader: Reader,
) -> dict[str, Any]:
    totals = {
        what: sum(one[what] for one in rounds)
        for what in ("equal", "deeper", "diverged", "not_right")
    }
    untold = [
        f"{venue}: {fault} struck {times} times"
        for venue, faults in struck.items()
        for fault, times in faults.items()
        if times >= 3
        and fault in SHOWN_BY
        and not any(reader.telemetry[venue, event] for event in SHOWN_BY[fault])
    ]
    accounted = reader.applied + sum(reader.passed_over.values()) + len(reader.failures)
    telemetry: dict[str, dict[str, int]] = {}
    for (venue, event), count in sorted(reader.telemetry.items()):
        telemetry.setdefault(venue, {})[event] = count
    well = (
        not (totals["diverged"] or totals["not_right"] or untold or reader.failures)
        and accounted == reader.records
    )
    return {
        "minutes": args.minutes,
        "seed": args.seed,
        "symbols": len(listings),
        "rounds": len(rounds),
        "books": totals,
        "settled_s": max(one["settled_s"] for one in rounds),
        "records": reader.records,
        "applied": reader.applied,
        "passed_over": dict(reader.passed_over),
        "failures": reader.failures[:10],
        "faults": struck,
        "telemetry": telemetry,
        "untold": untold,
        "well": well,
    }
