"""``tapeline dev --kill-after``: one worker is killed, and what a reader sees of it is written down."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from lua import Keys
from serving.reader import StoreUnavailable, reader_client
from serving.survey import Health, Surveyor, ask_health, health_url
from serving.writes import Listener
from tapeline.config import load_settings
from tapeline.errors import StackError
from tapeline.stack.dev import DevStack, Say
from tapeline.tasks import end

PUBLISHED_S: Final = 60.0
"""Longest wait for a report of every symbol."""

WATCH_S: Final = 10.0
"""How long is watched after the kill."""

GOES_ON_S: Final = 2.0
"""A symbol goes on if its newest report of later records is younger than this at the end."""

ASK_S: Final = 0.2
POLL_S: Final = 0.05
HEALTH_S: Final = 2.0
"""For an answer of a worker's ``/health``: all of them share this machine's cores."""


EMBEDDED_SAYS: Final = (
    "the embedded broker makes every join wait for half a session (1 s here), so its group's view "
    "settles later; reports wait for a warm standby, not for the group"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolOutcome:
    """What became of one symbol.

    Attributes:
        symbol: Which.
        owner_before, owner_after: Node in its lease before the kill and at the end; '' if nobody.
        gap_s: Longest time between two accepted reports of later and later records, from the
            last before the kill to the end.
        reports: Accepted reports heard from the kill to the end.
        silent_s: Since the last of them that was of later records, at the end.
    """

    symbol: str
    owner_before: str
    owner_after: str
    gap_s: float
    reports: int
    silent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of all.

    Attributes:
        killed: The worker.
        broker: ``embedded``, ``Apache Kafka`` or ``yours``.
        symbols: By name.
        warm: How many of the killed worker's symbols had a current standby at the kill; None if not
            every other worker told.
        assigned_s: From the kill until Kafka had assigned every symbol to a survivor; None if that
            was later than the end.
        watched_s: From the kill to the end.
    """

    killed: str
    broker: str
    symbols: tuple[SymbolOutcome, ...]
    warm: int | None
    assigned_s: float | None
    watched_s: float

    def goes_on(self, one: SymbolOutcome) -> bool:
        """Whether a symbol is still published, and by somebody who lives."""
        return (
            one.reports > 0
            and one.silent_s <= GOES_ON_S
            and one.owner_after not in {"", self.killed}
        )

    @property
    def stopped(self) -> list[str]:
        """Symbols that do not go on."""
        return [one.symbol for one in self.symbols if not self.goes_on(one)]

    @property
    def lost(self) -> list[SymbolOutcome]:
        """Symbols that the killed worker wrote."""
        return [one for one in self.symbols if one.owner_before == self.killed]

    @property
    def kept(self) -> list[SymbolOutcome]:
        """The others."""
        return [one for one in self.symbols if one.owner_before != self.killed]

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; gaps and times in seconds."""
        return {
            "killed": self.killed,
            "broker": self.broker,
            "broker_note": EMBEDDED_SAYS if self.broker == "embedded" else None,
            "watched_s": round(self.watched_s, 3),
            "standbys_warm": self.warm,
            "assigned_after_s": None if self.assigned_s is None else round(self.assigned_s, 3),
            "longest_gap_s": {"killed": _longest(self.lost), "others": _longest(self.kept)},
            "goes_on": not self.stopped,
            "symbols": [
                {
                    "symbol": one.symbol,
                    "owner_before": one.owner_before,
                    "owner_after": one.owner_after,
                    "gap_s": round(one.gap_s, 3),
                    "reports": one.reports,
                    "goes_on": self.goes_on(one),
                }
                for one in self.symbols
            ],
        }

    def table(self) -> str:
        """For people: a line a symbol, and below what it comes to. Ends without a newline."""
        rows = [("symbol", "before", "after", "longest gap", "reports", "")]
        rows += [
            (
                one.symbol,
                one.owner_before or "-",
                one.owner_after or "-",
                f"{one.gap_s:.2f} s",
                str(one.reports),
                "" if self.goes_on(one) else "STOPPED",
            )
            for one in self.symbols
        ]
        widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
        right = {3, 4}
        lines = [
            "  ".join(
                text.rjust(width) if n in right else text.ljust(width)
                for n, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, "", *self._summary()])

    def _summary(self) -> list[str]:
        going = len(self.symbols) - len(self.stopped)
        lines = [
            f"{self.killed} was killed; {going} of {len(self.symbols)} symbols go on after "
            f"{self.watched_s:.0f} s",
            f"longest gap: {_gap(self.lost)} where {self.killed} wrote, {_gap(self.kept)} elsewhere",
            "standbys: not known, as not every worker answered in time"
            if self.warm is None
            else f"standbys: {self.warm} of the {len(self.lost)} symbols of {self.killed} were warm",
        ]
        view = (
            f"assigned every symbol to a survivor after {self.assigned_s:.1f} s"
            if self.assigned_s is not None
            else f"had not assigned every symbol to a survivor after {self.watched_s:.0f} s"
        )
        lines.append(f"broker: {self.broker}; its consumer group {view}")
        if self.broker == "embedded":
            lines.append(EMBEDDED_SAYS)
        return lines


def _longest(symbols: Collection[SymbolOutcome]) -> float | None:
    return round(max(one.gap_s for one in symbols), 3) if symbols else None


def _gap(symbols: Collection[SymbolOutcome]) -> str:
    longest = _longest(symbols)
    return "none" if longest is None else f"{longest:.2f} s"


def victim_of(owners: Mapping[str, str], workers: Collection[str]) -> str:
    """Who is killed: the worker with the most symbols, of equals the first by name.

    Args:
        owners: Node in the lease, by symbol.
        workers: Those that may be killed.

    Raises:
        StackError: None of them writes a symbol.
    """
    owned = Counter(owner for owner in owners.values() if owner in workers)
    if not owned:
        raise StackError(f"none of {', '.join(sorted(workers))} writes a symbol: nobody to kill")
    return min(owned, key=lambda name: (-owned[name], name))


def warm_of(symbols: Collection[str], healths: Iterable[Health | None]) -> int | None:
    """How many symbols have a current standby; None where not every node answered."""
    warm: set[str] = set()
    for health in healths:
        if health is None:
            return None
        warm.update(health.warm_symbols)
    return len(warm.intersection(symbols))


class Failover:
    """The trial, on a stack that has started.

    Args:
        stack: With two workers or more.
        after_s: From the first report of the last symbol to the kill.
        watch_s: From there to the end.
        say: Told (part, what, remark) of each step.
    """

    def __init__(
        self, stack: DevStack, after_s: float, *, watch_s: float = WATCH_S, say: Say | None = None
    ) -> None:
        self._stack, self._after_s, self._watch_s = stack, after_s, watch_s
        self._say = say or (lambda part, where, remark: None)
        self._symbols = stack.symbol_names

    async def run(self) -> Outcome:
        """Wait, kill, watch.

        Raises:
            StackError: Not every symbol was published in time, or nobody is there to kill.
        """
        settings = load_settings(redis_url=self._stack.redis_url)
        keys = Keys.of(settings)
        async with AsyncExitStack() as life:
            redis = await life.enter_async_context(reader_client(settings.redis_url))
            ear = await life.enter_async_context(reader_client(settings.redis_url))
            surveyor = Surveyor(redis, keys, symbols=self._symbols, ask_health=False)
            listener = Listener(ear, keys)
            listener.writes.expect(self._symbols, time.monotonic())
            listening = asyncio.create_task(listener.run(), name="listen")
            try:
                await self._published(listener)
                await asyncio.sleep(self._after_s)
                return await self._kill(surveyor, listener)
            finally:
                await end(listening)

    async def _published(self, listener: Listener) -> None:
        tracks = listener.writes.tracks
        began_s = time.monotonic()
        while silent := [name for name in self._symbols if not tracks[name].writes]:
            if time.monotonic() - began_s > PUBLISHED_S:
                raise StackError(
                    f"no report of {', '.join(silent)} within {PUBLISHED_S:g} s; all symbols have "
                    "to be published before a worker is killed"
                )
            await asyncio.sleep(POLL_S)
        self._say("published", f"{len(self._symbols)} symbols", f"kill in {self._after_s:g} s")

    async def _kill(self, surveyor: Surveyor, listener: Listener) -> Outcome:
        stack, writes = self._stack, listener.writes
        healths = await self._healths(stack.worker_names)
        before = await _owners(surveyor)
        killed = victim_of(before, stack.worker_names)
        theirs = {symbol for symbol, owner in before.items() if owner == killed}
        survivors = [name for name in stack.worker_names if name != killed]
        warm = warm_of(theirs, [healths.get(name) for name in survivors])
        writes.count_anew()
        began_s = time.monotonic()
        pid = stack.kill(killed)
        self._say(
            "killed", killed, f"pid {pid}, {len(theirs)} symbols; watching {self._watch_s:g} s"
        )
        assigned_s = await self._watch(survivors, began_s)
        end_s = time.monotonic()
        outcomes = []
        after = await _owners(surveyor)
        for symbol in sorted(self._symbols):
            track = writes.tracks[symbol]
            outcomes.append(
                SymbolOutcome(
                    symbol=symbol,
                    owner_before=before[symbol],
                    owner_after=after[symbol],
                    gap_s=track.gap_s(end_s),
                    reports=track.writes,
                    silent_s=end_s - (track.since_s if track.last_s is None else track.last_s),
                )
            )
        return Outcome(
            killed=killed,
            broker=stack.broker,
            symbols=tuple(outcomes),
            warm=warm,
            assigned_s=assigned_s,
            watched_s=end_s - began_s,
        )

    async def _watch(self, survivors: Collection[str], began_s: float) -> float | None:
        """Until the end; gives when the survivors' assignments were whole."""
        assigned_s: float | None = None
        while (now_s := time.monotonic()) - began_s < self._watch_s:
            if assigned_s is None and _is_whole(await self._healths(survivors), self._symbols):
                assigned_s = time.monotonic() - began_s
            left_s = self._watch_s - (now_s - began_s)
            await asyncio.sleep(min(ASK_S, left_s))
        return assigned_s

    async def _healths(self, workers: Collection[str]) -> dict[str, Health]:
        urls = {name: health_url(self._stack.urls[name], "") for name in workers}
        return await ask_health(urls, HEALTH_S)


def _is_whole(healths: Mapping[str, Health], symbols: Collection[str]) -> bool:
    assigned: set[str] = set()
    for health in healths.values():
        assigned |= set(health.assigned_symbols) if health.assigned else set()
    return assigned >= set(symbols)


async def _owners(surveyor: Surveyor) -> dict[str, str]:
    try:
        survey = await surveyor.look()
    except StoreUnavailable as error:
        raise StackError(str(error)) from None
    return {one.symbol: one.owner for one in survey.symbols}
