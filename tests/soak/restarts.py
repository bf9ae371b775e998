"""Who is ended and started anew, when, and how; and what has ended by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tapeline.errors import StackError
from tests.soak.claims import say
from tests.soak.house import House
from tests.soak.watch import Age

DOWN_S: Final = 2.0
"""From the end of a process to the start of the next: what a supervisor waits."""

LOOK_S: Final = 0.5
CALM: Final = 4
"""Fresh looks in a row that end what a restart has stirred up."""

TRIES: Final = 5


class Turn(NamedTuple):
    """One restart that is due.

    Attributes:
        at_s: Since the restarts began.
        component: What is restarted, such as ``worker``.
        name: Which process of it.
        hard: By SIGKILL, else by SIGTERM.
    """

    at_s: float
    component: str
    name: str
    hard: bool


def turns(
    components: Mapping[str, Sequence[str]], every_s: float, seconds: float
) -> Iterator[Turn]:
    """Each component once in ``every_s``, spread evenly, its processes in turn; half are killed.

    Args:
        components: Names of its processes, by component.
        every_s: Between two restarts of a component.
        seconds: How long; the last restart has half of a step left.
    """
    step_s = every_s / len(components)
    count = 0
    while (at_s := (count + 0.5) * step_s) <= seconds - 0.5 * step_s:
        cycle, place = divmod(count, len(components))
        component, names = list(components.items())[place]
        name = names[cycle % len(names)]
        # Each process by SIGTERM and by SIGKILL alike, and not all by one in the same cycle.
        hard = (cycle // len(names) + place) % 2 == 1
        yield Turn(at_s, component, name, hard)
        count += 1


@dataclass(slots=True)
class Restart:
    """One that has been done.

    Attributes:
        at_s, ended_s, back_s: Of the run: when it was told to end, had ended, and was started.
        at_ms, back_ms: The same by the wall clock, to hold against records.
        status: Of its exit; None of one that was killed.
        fresh_s: From ``at_s`` until every symbol's data was fresh at the reader again; None if never.
    """

    turn: Turn
    at_s: float
    at_ms: int
    ended_s: float = 0.0
    back_s: float = 0.0
    back_ms: int = 0
    status: int | None = None
    fresh_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "component": self.turn.component,
            "name": self.turn.name,
            "by": "SIGKILL" if self.turn.hard else "SIGTERM",
            "at_s": round(self.at_s, 1),
            "back_s": round(self.back_s, 1),
            "fresh_s": None if self.fresh_s is None else round(self.fresh_s, 1),
        }


@dataclass(slots=True)
class Hand:
    """Whoever ends and starts processes; a supervisor, too.

    Attributes:
        done: Restarts.
        unexpected: Processes that have ended though nobody told them to, in words.
        refused: Processes that were told to end and ended badly, in words.
    """

    house: House
    down_s: float = DOWN_S
    done: list[Restart] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _away: set[str] = field(default_factory=set)

    async def restart(self, turn: Turn) -> Restart:
        """End a process, and start it again a moment later."""
        house, name = self.house, turn.name
        one = Restart(turn, house.now_s, int(time.time() * 1000))
        self._away.add(name)
        try:
            status = await house.end(name, hard=turn.hard)
            one.ended_s = house.now_s
            if not turn.hard:
                one.status = status
                if name in house.parts and status != 0:
                    tail = house.parts[name].tail()
                    self.refused.append(f"{name} ended with {status} at {one.at_s:.0f} s: {tail}")
            await asyncio.sleep(self.down_s)
            await self._start(name)
        finally:
            self._away.discard(name)
        one.back_s, one.back_ms = house.now_s, int(time.time() * 1000)
        self.done.append(one)
        return one

    async def _start(self, name: str) -> None:
        """As often as it takes: on a busy machine a broker may not answer in time at first."""
        for tries_left in reversed(range(TRIES)):
            try:
                await self.house.start(name)
                return
            except StackError as error:
                say(f"{name} did not start: {str(error).splitlines()[0]}")
                if not tries_left:
                    raise

    async def supervise(self) -> None:
        """Start again what has ended by itself, and keep that it has; until cancelled."""
        house = self.house
        while True:
            for name, part in house.parts.items():
                if name in self._away or part.away or part.running:
                    continue
                status = None if part.child is None else part.child.returncode
                self.unexpected.append(
                    f"{name} ended with {status} at {house.now_s:.0f} s: {part.tail()}"
                )
                say(f"{name} has ended by itself, with {status}; its last lines:\n{part.tail()}")
                await part.start()
            for name, service in house.services.items():
                if name not in self._away and not service.running:
                    raise AssertionError(f"{name} has ended by itself: {service.child.tail()}")
            await asyncio.sleep(LOOK_S)

    def recovered(self, ages: Sequence[Age], fresh_ms: int) -> None:
        """Tell of each restart when all was fresh again."""
        for one in self.done:
            fresh = first_fresh(ages, one.ended_s, fresh_ms)
            one.fresh_s = None if fresh is None else fresh - one.at_s


def first_fresh(ages: Sequence[Age], since_s: float, fresh_ms: int) -> float | None:
    """When, from a time on, every symbol's newest data was first younger than that.

    Directly behind the end of a process data is fresh still: what counts is the first fresh look
    behind the last stale one that belongs to it, which a fresh stretch of `CALM` looks ends.
    """
    calm: list[float] = []
    for age in ages:
        if age.at_s < since_s:
            continue
        if age.ms is not None and age.ms < fresh_ms and not age.missing:
            calm.append(age.at_s)
            if len(calm) == CALM:
                return calm[0]
        else:
            calm.clear()
    return None
