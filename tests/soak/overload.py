"""More than one worker can take, for a while: it lags, says so, keeps its memory, and catches up."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from redis.exceptions import RedisError

from benchmarks import mix
from benchmarks.machine import ROOT, machine
from tapeline.stack.processes import ChildProcess
from tests.soak import overload_claims
from tests.soak.burn import SPEC, VARIABLE
from tests.soak.claims import Claim, as_json, say, say_all, well, write
from tests.soak.feed import READY
from tests.soak.house import TOPIC, House, house
from tests.soak.pictures import overload_picture
from tests.soak.restarts import Hand
from tests.soak.run import beside
from tests.soak.servers import until
from tests.soak.tally import Probe, Tally
from tests.soak.topic import audited, probes_of, tallied
from tests.soak.watch import Watcher, positions, worker_samples

WORKER: Final = "w1"
IDLE: Final = 0.2
"""Load before and after, as a share of what the worker can take."""

RECORD_US: Final = 15.0
"""What a record costs a worker beside the burning, roughly: only to size the calibration."""

CALIBRATION_FACTOR: Final = 2.5
CALIBRATED_S: Final = 120.0
LOOK_S: Final = 0.5
LOOKS_LEAST: Final = 5
FEED_UP_S: Final = 60.0
CALM_LOOKS: Final = 5


@dataclass(slots=True)
class Feed:
    """Who writes records, at a rate that can be changed."""

    child: ChildProcess
    rates: Path

    def at(self, rate: float) -> None:
        """Events a second from now on."""
        self.rates.write_text(f"{rate:.1f}", "ascii")


@dataclass(slots=True)
class Phase:
    """From one moment to another, of the run."""

    begin_s: float = 0.0
    end_s: float = 0.0

    def has(self, at_s: float, after_s: float = 0.0) -> bool:
        """Whether a moment is in it, its first seconds left out."""
        return self.begin_s + after_s <= at_s <= self.end_s


@dataclass(slots=True)
class Overload:
    """One run.

    Attributes:
        capacity: Records a second that the worker takes when it is never idle.
        before, over, after: Idle, more than it can take, and until it had caught up.
        caught_up: Whether it has, in time.
        limit_s: The time it had.
        pid, last_pid: The worker's, before and after.
        said: What the reader's ``/status`` said of workers meanwhile, and how often.
        published, skipped: Reports accepted, and cycles skipped, while there was too much.
    """

    args: argparse.Namespace
    house: House
    watcher: Watcher
    hand: Hand
    feed: Feed
    capacity: float = 0.0
    before: Phase = field(default_factory=Phase)
    over: Phase = field(default_factory=Phase)
    after: Phase = field(default_factory=Phase)
    caught_up: bool = False
    limit_s: float = 0.0
    pid: int = 0
    last_pid: int = 0
    said: dict[str, int] = field(default_factory=dict)
    published: int = 0
    skipped: int = 0
    probes: list[Probe] = field(default_factory=list)
    audits: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    async def calibrate(self) -> None:
        """A backlog, and how fast the worker takes it while nothing else comes."""
        guess = 1e6 / (self.args.burn_us + RECORD_US)
        self.feed.at(guess * CALIBRATION_FACTOR)
        await asyncio.sleep(self.args.calibration_s)
        self.feed.at(0)
        await asyncio.sleep(1.0)
        looks: list[tuple[float, int]] = []
        async with asyncio.timeout(CALIBRATED_S):
            while len(looks) < LOOKS_LEAST or looks[-1][1] != looks[-2][1]:
                if reached := await self._reached():
                    looks.append((time.monotonic(), reached))
                await asyncio.sleep(LOOK_S)
        # At one of the last two the backlog was over already.
        (begin_s, begin), (end_s, end) = looks[0], looks[-3]
        self.capacity = (end - begin) / (end_s - begin_s)
        say(
            f"one worker takes {self.capacity:,.0f} records/s with {self.args.burn_us:g} us burnt at each,"
            f" over {end_s - begin_s:.1f} s"
        )

    async def _reached(self) -> int:
        port = self.house.parts[WORKER].port
        return sum(positions(await worker_samples(port)).values())

    async def idle(self) -> None:
        """The load that there is before and after."""
        self.feed.at(self.capacity * IDLE)
        await self.house.whole(supervised=True)
        self.before.begin_s = self.house.now_s
        await asyncio.sleep(self.args.baseline_s)
        self.before.end_s = self.house.now_s
        self.pid = self.house.parts[WORKER].pid

    async def overload(self) -> None:
        """More than it can take."""
        args, house = self.args, self.house
        before = self._cycles()
        self.over.begin_s = house.now_s
        self.feed.at(self.capacity * args.factor)
        say(f"{self.capacity * args.factor:,.0f} records/s for {args.seconds:g} s")
        while (left_s := self.over.begin_s + args.seconds - house.now_s) > 0:
            await asyncio.sleep(min(left_s, args.seconds / 12))
            await self.look()
        self.feed.at(self.capacity * IDLE)
        self.over.end_s = house.now_s
        await asyncio.sleep(2 * args.period_s)
        self.published, self.skipped = (
            now - then for now, then in zip(self._cycles(), before, strict=True)
        )

    def _cycles(self) -> tuple[int, int]:
        seen = self.watcher.seen
        return seen.counted("reports_published"), seen.counted("cycles_skipped")

    async def look(self) -> None:
        """Keep reports and what ``/status`` says."""
        house, seen = self.house, self.watcher.seen
        with suppress(RedisError, OSError):
            self.probes += probes_of(house.now_s, await house.stored())
        status = await house.reader.get("/status")
        for stage in (status or {}).get("chain", ()):
            if stage["stage"] == "workers":
                text = f"{stage['state']}: {stage['sentence']}"
                self.said[text] = self.said.get(text, 0) + 1
        lag = seen.lags[-1].records if seen.lags else 0
        age = next((a.ms for a in reversed(seen.ages) if a.ms is not None), None)
        mb = seen.memory[WORKER][-1].mb if seen.memory[WORKER] else 0.0
        say(f"{house.now_s:6.0f} s  lag {lag:,}, data age {age} ms, worker {mb:.0f} MB")

    async def catch_up(self) -> None:
        """Until there is no lag to speak of, and data is fresh."""
        seen, house = self.watcher.seen, self.house
        lag = seen.lags[-1].records if seen.lags else 0
        # At its capacity, less what comes meanwhile; half as long again, on a machine that is shared.
        self.limit_s = 1.5 * lag / (self.capacity * (1 - IDLE)) + 30.0
        self.after.begin_s = self.over.end_s
        told_s = calm = 0.0
        while house.now_s - self.after.begin_s < self.limit_s:
            await asyncio.sleep(1.0)
            age = seen.ages[-1] if seen.ages else None
            fresh = age is not None and age.ms is not None and age.ms < 1000 and not age.missing
            behind = seen.lags[-1].records if seen.lags else lag
            calm = calm + 1 if fresh and behind < self.capacity else 0
            if calm == CALM_LOOKS:
                self.caught_up = True
                break
            if house.now_s - told_s > self.args.seconds / 4:
                told_s = house.now_s
                await self.look()
        self.after.end_s = house.now_s
        self.last_pid = house.parts[WORKER].pid

    async def account(self) -> None:
        """Hold what was published against what there is."""
        self.probes += probes_of(self.house.now_s, await self.house.stored())
        say("audits")
        self.audits = await audited(self.house, {VARIABLE: "0"})
        self.feed.at(0)
        await asyncio.sleep(1.0)
        say("the whole topic, counted once more")
        self.tally = await tallied(self.house.kafka.url, self.probes)


@asynccontextmanager
async def feeding(found: House, symbols: int, partitions: int) -> AsyncIterator[Feed]:
    """A feed that writes nothing yet but what each symbol begins with."""
    rates = found.folder / "rate"
    rates.write_text("0", "ascii")
    ready = asyncio.Event()

    def on_line(_name: str, line: str) -> None:
        if line == READY:
            ready.set()

    child = ChildProcess(
        "feed",
        [
            *(sys.executable, "-m", "tests.soak.feed"),
            *("--kafka", found.kafka.url.removeprefix("kafka://"), "--topic", TOPIC),
            *("--partitions", str(partitions), "--symbols", str(symbols)),
            *("--rate-file", str(rates)),
        ],
        cwd=ROOT,
        on_line=on_line,
    )
    await child.start()
    try:

        async def begun() -> bool:
            if not child.running:
                raise AssertionError(f"the feed has ended: {child.tail()}")
            return ready.is_set()

        await until(begun, FEED_UP_S, "the feed begins")
        yield Feed(child, rates)
    finally:
        await child.stop(grace_s=2)


async def overloaded(args: argparse.Namespace) -> Overload:
    """All phases."""
    symbols = mix.symbols(args.symbols)
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(
            house(
                symbols,
                workers=1,
                bridges=0,
                partitions=args.partitions,
                env={"NT_CALCULATORS": SPEC, VARIABLE: f"{args.burn_us:g}"},
                broker=args.broker,
                logs=Path(args.keep) if args.keep else None,
                listings=mix.listings(args.symbols),
            )
        )
        for part in found.parts.values():
            await part.start()
        feed = await stack.enter_async_context(feeding(found, args.symbols, args.partitions))
        feed.at(1e6 / (args.burn_us + RECORD_US) * IDLE)
        say(f"whole after {await found.whole():.1f} s")
        watcher = Watcher(found, args.period_s)
        run = Overload(args, found, watcher, Hand(found), feed)
        found.began_s = time.monotonic()
        await beside(_through(run), [watcher.run(), run.hand.supervise()])
        return run


async def _through(run: Overload) -> None:
    await run.calibrate()
    await run.idle()
    await run.overload()
    await run.catch_up()
    await run.account()


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """All of it, and what it comes to."""
    about = machine()
    one = await overloaded(args)
    claims: list[Claim] = overload_claims.claims(one)
    say_all(claims)
    found: dict[str, Any] = {
        "factor": args.factor,
        "seconds": args.seconds,
        "burn_us": args.burn_us,
        "symbols": args.symbols,
        "capacity_per_s": round(one.capacity),
        "records": one.tally.records,
        "lag_max": max((lag.records for lag in one.watcher.seen.lags), default=0),
        "data_age_max_ms": max((a.ms or 0 for a in one.watcher.seen.ages), default=0),
        "caught_up_s": round(one.after.end_s - one.after.begin_s, 1) if one.caught_up else None,
        "worker_mb": round(median(look.mb for look in one.watcher.seen.memory[WORKER]), 1),
        "status_said": one.said,
        "cores": one.watcher.seen.cores(),
        "machine": about,
        "claims": as_json(claims),
        "well": well(claims),
    }
    if args.plot:
        write(args.plot, overload_picture(one, found))
        say(f"plot: {args.plot}")
    if args.keep:
        write(f"{args.keep}/overload.json", json.dumps(found, indent=1))
    return found
