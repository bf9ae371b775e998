"""The soak: a warm-up, then restarts of everything in turn, then what it comes to."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from redis.exceptions import RedisError

from benchmarks.machine import machine
from tests.chaos.history import Verdict, accepted, judged
from tests.chaos.observer import Observer
from tests.soak import alarms, judging
from tests.soak.claims import Claim, as_json, say, say_all, well, write
from tests.soak.house import House, house, with_venue
from tests.soak.judging import FRESH_MS
from tests.soak.pictures import soak_picture
from tests.soak.restarts import Hand, turns
from tests.soak.tally import Probe, Tally
from tests.soak.topic import account, audited, probes_of, tallied
from tests.soak.venue import flow_rate, symbols_of
from tests.soak.watch import Watcher

PROBE_AFTER_S: Final = 10.0
PROBE_EVERY_S: Final = 60.0
SAY_EVERY_S: Final = 60.0
HEADROOM: Final = 1.04
"""The market has waves: asked for a little more, it makes at least what was asked for."""

FROZEN_S: Final = 4.0


@dataclass(slots=True)
class Soak:
    """One run.

    Attributes:
        warm_s, ended_s: Of the run: when the restarts began, and were over.
        quiet_s: How long alerts took to fall silent.
        frozen_s: When the market was stopped.
        probes: Reports that were read on the way.
        firing: Alerts that fire at the end; None where nobody could say.
        ledger: What the venue says it has made.
        audits: Symbols whose report is not what the records give.
    """

    args: argparse.Namespace
    house: House
    watcher: Watcher
    hand: Hand
    observer: Observer
    alarms: alarms.Alarms | None = None
    rules: int = 0
    warm_s: float = 0.0
    ended_s: float = 0.0
    quiet_s: float = 0.0
    frozen_s: float = 0.0
    probes: list[Probe] = field(default_factory=list)
    firing: list[str] | None = None
    ledger: list[str] = field(default_factory=list)
    audits: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    verdict: Verdict = field(default_factory=Verdict)
    began_ms: int = 0

    def lines(self) -> dict[str, int]:
        """What each process has logged, in all of its lives."""
        return {name: part.said for name, part in self.house.parts.items()}

    async def probe(self) -> None:
        """Keep the reports that are there now; Redis may be away for a moment."""
        for _ in range(20):
            try:
                found = await self.house.stored()
            except (RedisError, OSError):
                await asyncio.sleep(0.5)
                continue
            self.probes += probes_of(self.house.now_s, found)
            return

    async def warm_up(self) -> None:
        """Load, and nothing else: windows fill."""
        ends_s = self.house.now_s + self.args.warm_up_minutes * 60
        while (left_s := ends_s - self.house.now_s) > 0:
            await asyncio.sleep(min(left_s, PROBE_EVERY_S))
            await self.probe()
        self.warm_s = self.house.now_s

    async def restarts(self) -> None:
        """Everything in turn."""
        args, house = self.args, self.house
        components = {
            "worker": [f"w{n + 1}" for n in range(args.workers)],
            "bridge": [f"b{n + 1}" for n in range(args.bridges)],
            "reader": ["reader"],
            "redis": ["redis"],
            "kafka": ["kafka"],
        }
        begin_s = house.now_s
        async with asyncio.TaskGroup() as later:
            for turn in turns(components, args.restart_every_s, args.minutes * 60):
                await asyncio.sleep(max(0.0, begin_s + turn.at_s - house.now_s))
                one = await self.hand.restart(turn)
                by = "SIGKILL" if turn.hard else "SIGTERM"
                say(
                    f"{house.now_s / 60:5.1f} min  {turn.name} by {by}, back after"
                    f" {one.back_s - one.at_s:.1f} s"
                )
                later.create_task(self._probe_later())
            await asyncio.sleep(max(0.0, begin_s + args.minutes * 60 - house.now_s))
        self.ended_s = house.now_s

    async def _probe_later(self) -> None:
        await asyncio.sleep(min(PROBE_AFTER_S, self.args.restart_every_s / 10))
        await self.probe()

    async def fall_silent(self) -> None:
        """Wait until no alert fires, or is about to."""
        if self.alarms is None:
            return
        began_s = self.house.now_s
        while self.house.now_s - began_s < self.args.alerts_quiet_s:
            self.firing = await self.alarms.active("firing")
            # What only waits for its time might still come to fire.
            if self.firing == [] and await self.alarms.active("pending") == []:
                break
            await asyncio.sleep(5.0)
        self.quiet_s = self.house.now_s - began_s

    async def progress(self) -> None:
        """A line each minute, until cancelled."""
        seen = self.watcher.seen
        while True:
            await asyncio.sleep(SAY_EVERY_S)
            age = next((a.ms for a in reversed(seen.ages) if a.ms is not None), None)
            lag = seen.lags[-1].records if seen.lags else None
            written = seen.ends[-1][1] if seen.ends else 0
            memory = ", ".join(
                f"{name} {looks[-1].mb:.0f}" for name, looks in seen.memory.items() if looks
            )
            say(
                f"{self.house.now_s / 60:5.1f} min  {written:,} records, lag {lag}, data age {age} ms;"
                f" MB: {memory}"
            )

    async def account(self) -> None:
        """Stop the market, and hold everything against everything."""
        venue = self.house.venue
        assert venue is not None
        await self.probe()
        self.frozen_s = self.house.now_s
        await venue.freeze()
        await asyncio.sleep(FROZEN_S)
        state = await venue.state()
        say("audits")
        self.audits = await audited(self.house)
        say("the whole topic, counted once more")
        self.tally = await tallied(self.house.kafka.url, self.probes)
        self.ledger = account(state, self.tally)
        self.verdict = judged(accepted(self.observer.writes, []))


async def soaked(args: argparse.Namespace) -> Soak:
    """A house, watched and supervised, from its first record to the last account of it."""
    symbols = symbols_of(args.symbols)
    rate = await asyncio.to_thread(
        flow_rate, symbols, args.rate * HEADROOM, args.seed, args.flow_symbol_s
    )
    say(f"{args.symbols} symbols, {rate:.0f} changes a second each: {args.rate:g} records/s")
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(
            house(
                symbols,
                workers=args.workers,
                bridges=args.bridges,
                partitions=args.partitions,
                broker=args.broker,
                logs=Path(args.keep) if args.keep else None,
            )
        )
        await stack.enter_async_context(with_venue(found, rate, args.seed))
        for part in found.parts.values():
            await part.start()
        say(f"whole after {await found.whole():.1f} s")
        watcher = Watcher(found, args.period_s)
        observer = Observer(found.store.url, symbols)
        soak = Soak(args, found, watcher, Hand(found), observer)
        others = [watcher.run(), soak.hand.supervise(), observer.run(), soak.progress()]
        if missing := alarms.unavailable(Path(args.rules)):
            say(f"alerts are not checked: {missing}")
        else:
            targets: dict[str, list[int]] = {}
            for part in found.parts.values():
                targets.setdefault(part.command, []).append(part.port)
            soak.alarms = await stack.enter_async_context(
                alarms.alarms(found.folder / "prometheus", targets, Path(args.rules))
            )
            soak.rules = await soak.alarms.rules()
            others.append(soak.alarms.watch(lambda: found.now_s))
        found.began_s = time.monotonic()
        soak.began_ms = int(time.time() * 1000)
        await beside(_through(soak), others)
        return soak


async def beside(
    work: Coroutine[Any, Any, None], others: Iterable[Coroutine[Any, Any, None]]
) -> None:
    """Do the work; the others are cancelled with its end, and whichever fails first fails all."""
    group = [asyncio.create_task(each) for each in (work, *others)]
    try:
        done, _ = await asyncio.wait(group, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if group[0] not in done:
            raise AssertionError("the watching has ended before the work")
    finally:
        for task in group:
            task.cancel()
        await asyncio.gather(*group, return_exceptions=True)


async def _through(soak: Soak) -> None:
    args = soak.args
    say(
        f"{args.warm_up_minutes:g} minutes of warm-up, {args.minutes:g} with a restart of each component"
        f" every {args.restart_every_s:g} s"
    )
    await soak.warm_up()
    await soak.restarts()
    say(f"whole again after {await soak.house.whole(supervised=True):.1f} s")
    await soak.fall_silent()
    soak.hand.recovered(soak.watcher.seen.ages, FRESH_MS)
    await soak.account()


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """All of it, and what it comes to."""
    about = machine()
    soak = await soaked(args)
    claims: list[Claim] = judging.claims(soak)
    say_all(claims)
    found = judging.found(soak, about)
    found["claims"], found["well"] = as_json(claims), well(claims)
    if args.plot:
        write(args.plot, soak_picture(soak, found))
        say(f"plot: {args.plot}")
    if args.keep:
        write(f"{args.keep}/found.json", json.dumps(found, indent=1))
    return found
