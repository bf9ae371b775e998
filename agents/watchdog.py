"""Finding out that a worker has stalled, and ending it, so that another may go on.

Faust and aiokafka are known to fall silent: a consumer that no longer fetches, a commit that
never returns, a recovery that waits for ever, a thread or a loop that hangs. None of them raises.
So progress is watched from beside:

- `Judge` is pure. It is given what ought to move and how far it has got, and keeps for each the
  time without progress, counted in its own ticks: a process stopped and continued, or a machine
  that had no time for it, is not judged by the clock on the wall. While something it needs is
  away (broker, coordinator, topic, Redis) nothing is held against it, nor for a while after.
- `Watchdog` is the shell in the event loop: it collects the facts four times a second, looks at
  the broker by a connection of its own, tells metrics and ``/health``, and fails the worker.
- `Deadman` is a thread: it ends the process when the loop itself hangs, or when a worker that
  has been failed does not manage to end.

A market without records gives nothing to do, so nothing can stall.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from agents.broker_look import BrokerLook, Look
from agents.ledger import COMMIT_PERIOD_MS
from agents.metrics import Metrics
from tapeline.errors import TapelineError
from tapeline.logging import get_logger

TICK_MS: Final = 250
STEP_MAX_MS: Final = 1000
"""What one tick counts at most: whoever was stopped for longer was not watching."""

JUMP_MS: Final = 3000
"""A tick that took this long: connections and leases have to be found again first."""

SETTLE_MS: Final = 10_000
"""After an outage or a jump: time to reconnect, to find the coordinator, to join again."""

LOOK_PERIOD_MS: Final = 1500
EXIT_GRACE_S: Final = 2.0
"""A failed worker's time to end in good order; it may be the very thing that hangs."""

EXIT_FAILURE: Final = 1

log = get_logger("watchdog")

PROCESS_KINDS: Final = frozenset({"fetcher", "consumer_thread"})
"""What stands whatever the broker does: parts of this process that have died or hang."""


class Stalled(TapelineError):
    """Something of this process no longer moves, and nothing outside of it is the reason."""


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that has work to do, and ought to get on with it.

    Attributes:
        kind: ``records``, ``commit``, ``assignment``, ``fetcher`` or ``consumer_thread``.
        partition: Which, where there are several.
        progress: Anything that changes when it gets on.
        limit_ms: Time without progress after which it has stalled.
        detail: What it is at, for people.
        period_ms: Of what is done now and then: that long it does not move when all is well, which
            is not held against it.
    """

    kind: str
    partition: int | None
    progress: Hashable
    limit_ms: int
    detail: str = ""
    period_ms: int = 0


@dataclass(slots=True)
class Standstill:
    """A concern, and how long it has not moved."""

    concern: Concern
    ms: int = 0

    @property
    def suspected(self) -> bool:
        """Half of the limit has passed."""
        return 2 * (self.ms - self.concern.period_ms) >= self.concern.limit_ms

    @property
    def stalled(self) -> bool:
        """All of it has."""
        return self.ms - self.concern.period_ms >= self.concern.limit_ms

    def as_json(self) -> dict[str, Any]:
        """For ``/health``."""
        one = self.concern
        return {
            "what": one.kind,
            "partition": one.partition,
            "seconds": self.ms / 1000,
            "limit_seconds": one.limit_ms / 1000,
            "detail": one.detail,
        }


class Judge:
    """Time without progress, by (kind, partition)."""

    def __init__(self) -> None:
        self._standing: dict[tuple[str, int | None], Standstill] = {}
        self._settle_ms = 0
        self._back: set[tuple[str, int | None]] = set()

    def settled(self) -> None:
        """It has found all it needs again; there is nothing left to be lenient about."""
        self._settle_ms = 0

    def step(
        self, elapsed_ms: int, concerns: Iterable[Concern], *, excused: bool
    ) -> list[Standstill]:
        """Count one tick.

        Args:
            elapsed_ms: Since the tick before.
            concerns: All that has work to do now; what is not named has none.
            excused: Something that is needed is away.

        Returns:
            What is suspected or stalled, the longest first.
        """
        if excused or elapsed_ms >= JUMP_MS:
            self._settle_ms = SETTLE_MS
            self._back.clear()
        counted_ms = min(elapsed_ms, STEP_MAX_MS)
        standing: dict[tuple[str, int | None], Standstill] = {}
        for concern in concerns:
            key = (concern.kind, concern.partition)
            before = self._standing.get(key)
            now = Standstill(concern)
            standing[key] = now
            if before is None:
                continue
            if before.concern.progress != concern.progress:
                self._back.add(key)  # it moves again: no more need to wait for that
            elif not self._settle_ms or key in self._back or concern.kind in PROCESS_KINDS:
                now.ms = before.ms + counted_ms
        self._standing = standing
        if excused:
            self._back.clear()
        else:
            self._settle_ms = max(0, self._settle_ms - counted_ms)
        found = [one for one in standing.values() if one.suspected]
        return sorted(found, key=lambda one: one.ms, reverse=True)

    def ages_ms(self, kind: str) -> dict[int, int]:
        """Time without progress of that kind, by partition."""
        return {p: one.ms for (k, p), one in self._standing.items() if k == kind and p is not None}


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a worker can tell of itself at one moment.

    Attributes:
        complete: Partitions are assigned, restored, and records flow.
        recovering: Partitions are assigned, and not all of that is done yet.
        joined: It has had an assignment before.
        recovery: Changes as a recovery gets on.
        taken: Next offset to take from the broker, by partition; None for one without a position.
        undone: Partitions of which the agent has a batch that it is not through with.
        positions: Next offset to apply, by partition.
        committable: Offset that may be committed, by partition.
        committed: Offset known to be committed, by partition.
        ended: Parts of the process that have died, by kind.
        thread_beats: Rises while the consumer's thread runs its loop.
    """

    complete: bool
    recovering: bool
    joined: bool
    recovery: Hashable
    taken: Mapping[int, int | None]
    undone: frozenset[int]
    positions: Mapping[int, int | None]
    committable: Mapping[int, int | None]
    committed: Mapping[int, int]
    ended: Mapping[str, str]
    thread_beats: int | None


def concerns_of(pulse: Pulse, look: Look, stall_ms: int, group_ms: int) -> list[Concern]:
    """What has work to do.

    Args:
        pulse: The worker.
        look: The broker.
        stall_ms: Limit of what is up to this process.
        group_ms: Limit of what is up to the group: its members have as long to join.
    """
    found = [Concern(kind, None, None, stall_ms, what) for kind, what in pulse.ended.items()]
    if pulse.thread_beats is not None:
        # It has something to do at all times: to answer.
        beats = pulse.thread_beats
        found.append(Concern("consumer_thread", None, beats, stall_ms, "its loop does not answer"))
    if not pulse.complete:
        if pulse.recovering:
            found.append(Concern("assignment", None, pulse.recovery, stall_ms, "recovery"))
        else:
            waits = look.group_forming is not False or not pulse.joined
            limit_ms = group_ms if waits else stall_ms
            progress = (pulse.recovery, look.group_forming)
            found.append(Concern("assignment", None, progress, limit_ms, "joining the group"))
        return found
    for partition, taken in pulse.taken.items():
        position = pulse.positions.get(partition)
        end = look.ends.get(partition, 0)
        behind = taken is None or taken < end
        if behind or partition in pulse.undone:
            where = "not fetched" if behind else "not applied"
            detail = f"{where}: at {taken if behind else position}, the topic ends at {end}"
            found.append(Concern("records", partition, (taken, position), stall_ms, detail))
        due = pulse.committable.get(partition)
        at = max(pulse.committed.get(partition, -1), look.committed.get(partition, -1))
        if due is not None and at < due:
            detail = f"{due} may be committed, {at} is"
            found.append(Concern("commit", partition, at, stall_ms, detail, COMMIT_PERIOD_MS))
    return found


class Watched(Protocol):
    """The worker, as the watchdog sees it."""

    def pulse(self) -> Pulse: ...
    def outages(self) -> dict[str, str]: ...
    def fail(self, error: BaseException | None) -> None: ...


class Watchdog:
    """Watches one worker from within its event loop.

    Attributes:
        standing: What is suspected or stalled now.
        outages: What is away now, with the seconds it has been.
    """

    def __init__(
        self, worker: Watched, look: BrokerLook, metrics: Metrics, stall_ms: int, group_ms: int
    ) -> None:
        self._worker, self._look, self._metrics = worker, look, metrics
        self._stall_ms, self._group_ms = stall_ms, group_ms
        self._judge = Judge()
        self._seen = Look()
        self._looked_s = self._assigned_s = 0.0
        self._away_s: dict[str, float] = {}
        self._failed = self._complete = False
        self._suspected: set[str] = set()
        self.standing: list[Standstill] = []
        self.outages: dict[str, dict[str, Any]] = {}
        self.deadman = Deadman(stall_ms)

    async def run(self) -> None:
        """Watch until cancelled."""
        self.deadman.start()
        looking = asyncio.create_task(self._keep_looking())
        last_s = time.monotonic()
        try:
            while True:
                await asyncio.sleep(TICK_MS / 1000)
                now_s = time.monotonic()
                elapsed_ms, last_s = int((now_s - last_s) * 1000), now_s
                self.deadman.beat()
                self._metrics.loop_delay.set(max(0, elapsed_ms - TICK_MS) / 1000)
                if looking.done():
                    looking.result()
                self.tick(elapsed_ms, now_s)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await self._look.close()

    def stop(self) -> None:
        """Let a process go that is about to end; the thread would call it dead."""
        self.deadman.stop()

    async def _keep_looking(self) -> None:
        while True:
            # Since its start: what is asked for in between is younger than the answer.
            began_s = time.monotonic()
            self._seen = await self._look.look(set(self._worker.pulse().taken))
            self._looked_s = began_s
            await asyncio.sleep(LOOK_PERIOD_MS / 1000)

    def tick(self, elapsed_ms: int, now_s: float) -> None:
        """One look at the worker, and what follows from it."""
        pulse, look = self._worker.pulse(), self._seen
        if pulse.complete and not self._complete:
            self._judge.settled()  # an assignment has been through every connection
            self._assigned_s = now_s
        self._complete = pulse.complete
        # What was away for a look that is older than the assignment is back.
        of_broker = look.outages if self._looked_s >= self._assigned_s else {}
        away = {**of_broker, **self._worker.outages()}
        self._tell_outages(away, now_s)
        concerns = concerns_of(pulse, look, self._stall_ms, self._group_ms)
        self.standing = self._judge.step(elapsed_ms, concerns, excused=bool(away))
        self._tell(pulse, look)
        # What needs a broker is held against us only where the broker has just been seen.
        seen_lately = (now_s - self._looked_s) * 2000 <= self._stall_ms
        for one in self.standing:
            if one.stalled and (seen_lately or one.concern.kind in PROCESS_KINDS):
                self._end(one)
                break

    def _end(self, one: Standstill) -> None:
        if self._failed:
            return
        self._failed = True
        concern = one.concern
        log.error(
            "worker.stalled",
            what=concern.kind,
            partition=concern.partition,
            seconds=one.ms / 1000,
            detail=concern.detail,
        )
        self.deadman.arm(EXIT_GRACE_S)
        where = "" if concern.partition is None else f" of partition {concern.partition}"
        self._worker.fail(
            Stalled(f"{concern.kind}{where} stood still for {one.ms / 1000:g} s: {concern.detail}")
        )

    def _tell_outages(self, away: Mapping[str, str], now_s: float) -> None:
        for what in away.keys() - self._away_s.keys():
            log.warning("outage.began", what=what, error=away[what])
            self._metrics.outage.labels(what).set(1)
        for what in self._away_s.keys() - away.keys():
            log.info("outage.ended", what=what, seconds=round(now_s - self._away_s[what], 1))
            self._metrics.outage.labels(what).set(0)
        self._away_s = {what: self._away_s.get(what, now_s) for what in away}
        self.outages = {
            what: {"seconds": round(now_s - self._away_s[what], 1), "error": error}
            for what, error in away.items()
        }

    def _tell(self, pulse: Pulse, look: Look) -> None:
        metrics = self._metrics
        longest: dict[str, int] = {}
        for one in self.standing:
            longest[one.concern.kind] = max(longest.get(one.concern.kind, 0), one.ms)
        for kind in longest.keys() - self._suspected:
            first = next(one for one in self.standing if one.concern.kind == kind)
            log.warning("stall.suspected", **first.as_json())
            metrics.stalls.labels(kind).inc()
        for kind in self._suspected - longest.keys():
            metrics.stall_seconds.labels(kind).set(0)
        for kind, ms in longest.items():
            metrics.stall_seconds.labels(kind).set(ms / 1000)
        self._suspected = set(longest)
        ages_ms = self._judge.ages_ms("records")
        metrics.progress(
            # A look is a little old, and one broker answers too low: it ends where we are, at least.
            ends={p: max(look.ends.get(p, 0), at or 0) for p, at in pulse.taken.items()},
            ages_s={p: ages_ms.get(p, 0) / 1000 for p in pulse.taken},
        )

    # --- health ----------------------------------------------------------------------------------

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether all moves, and what ``/health`` says of it."""
        status = "stalled" if self.standing else "degraded" if self.outages else "ok"
        body = {
            "status": status,
            "stalled": [one.as_json() for one in self.standing],
            "outages": self.outages,
        }
        return not self.standing, body


class Deadman(threading.Thread):
    """Ends the process when its event loop hangs, or does not end by itself when told to.

    A thread, because whatever lives in the loop hangs with it. Its time is its own ticks, too.
    """

    def __init__(
        self,
        stall_ms: int,
        *,
        tick_ms: int = TICK_MS,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        super().__init__(name="deadman", daemon=True)
        self._stall_ms, self._tick_ms, self._leave = stall_ms, tick_ms, leave
        self._beats = 0
        self._stopping = threading.Event()
        self._left_ms: float | None = None
        self._loop_thread = threading.get_ident()

    def beat(self) -> None:
        """The loop runs."""
        self._loop_thread = threading.get_ident()
        self._beats += 1

    def arm(self, seconds: float) -> None:
        """The process is to end by itself; it has this long."""
        self._left_ms = seconds * 1000

    def stop(self) -> None:
        """Watch no more, unless armed."""
        self._stopping.set()

    def run(self) -> None:
        """Tick until stopped."""
        seen, silent_ms, warned = -1, 0.0, False
        last_s = time.monotonic()
        while not self._stopping.is_set() or self._left_ms is not None:
            time.sleep(self._tick_ms / 1000)
            now_s = time.monotonic()
            elapsed_ms, last_s = min((now_s - last_s) * 1000, 2 * self._tick_ms), now_s
            if self._left_ms is not None:
                self._left_ms -= elapsed_ms
                if self._left_ms <= 0:
                    log.error("worker.forced_out", why="it did not end by itself")
                    self._leave(EXIT_FAILURE)
                    return
            if self._beats != seen or self._stopping.is_set():
                seen, silent_ms, warned = self._beats, 0.0, False
                continue
            silent_ms += elapsed_ms
            if silent_ms * 2 >= self._stall_ms and not warned:
                warned = True
                log.warning("loop.blocked", seconds=round(silent_ms / 1000, 1), where=self._where())
            if silent_ms >= self._stall_ms:
                log.error("worker.stalled", what="loop", seconds=round(silent_ms / 1000, 1))
                self._leave(EXIT_FAILURE)
                return

    def _where(self) -> list[str]:
        """The innermost frames of the loop's thread."""
        frame = sys._current_frames().get(self._loop_thread)
        if frame is None:
            return []
        return [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_stack(frame)[-4:]]


class ThreadBeats:
    """Asks the consumer's thread for a sign of life; counts those it gave."""

    def __init__(self) -> None:
        self.answered = 0
        self._asked = False

    def ask(self, loop: asyncio.AbstractEventLoop) -> int:
        """The signs so far; asks for the next unless one is owed."""
        if not self._asked:
            self._asked = True
            with suppress(RuntimeError):  # its loop is closed: no sign will come
                loop.call_soon_threadsafe(self._answer)
        return self.answered

    def _answer(self) -> None:
        self.answered += 1
        self._asked = False
