"""Virtual time: one asyncio loop for each simulated process, and a world that takes turns.

A process has a loop of its own, so that it can be stopped like a process: its callbacks wait while
what others do to it (a reply in its socket, a timer that falls due) piles up. Its clock runs at a
rate of its own. Nothing ever sleeps: where nobody has anything to do, time jumps.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

TICK_S = 1e-9
"""What two times may differ by for the arithmetic's sake."""

STEPS_MAX = 2_000_000
"""In one run: a process that spins without time going on would never end."""


class ProcessLoop(asyncio.BaseEventLoop):
    """The loop of one simulated process.

    Args:
        world: Whose time it lives in.
        start_s: What its own clock shows at the beginning.
        rate: How fast that clock goes.

    Attributes:
        paused: Whether nothing of it runs.
        before_step: Called before each turn of it: who is running now.
    """

    def __init__(self, world: World, start_s: float, rate: float = 1.0) -> None:
        super().__init__()
        self._world, self._rate = world, rate
        self._then_s, self._local_s = world.now_s, start_s
        self.paused = False
        self.errors: list[str] = []
        self.set_exception_handler(self._note_error)

    # --- its clock -----------------------------------------------------------------------------

    def time(self) -> float:
        """Its own clock, in seconds."""
        return self._local_s + (self._world.now_s - self._then_s) * self._rate

    def set_rate(self, rate: float) -> None:
        """From now on its clock goes this fast."""
        self._local_s, self._then_s, self._rate = self.time(), self._world.now_s, rate

    def world_s(self, local_s: float) -> float:
        """When its clock shows this, at the rate of now."""
        return self._then_s + (local_s - self._local_s) / self._rate

    # --- its turns -----------------------------------------------------------------------------

    def due_s(self) -> float | None:
        """When it next has something to do, in the world's time; None if never."""
        if self.paused:
            return None
        if self._ready:  # type: ignore[attr-defined]
            return self._world.now_s
        timers = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        return self.world_s(timers[0]._when) if timers else None

    def turn(self) -> None:
        """Run what is ready, once."""
        ready, timers = self._ready, self._scheduled  # type: ignore[attr-defined]
        end_s = self.time() + TICK_S
        while timers and (timers[0]._cancelled or timers[0]._when < end_s):
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if not timer._cancelled:
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task from outside."""
        return self.create_task(work, name=name)

    def kill(self) -> None:
        """The process is gone: end its tasks, which no longer reach anything.

        They are ended and not dropped, for Python would run their ``finally`` at a moment of its
        own choosing.
        """
        self.paused = True
        self._world.enter(self)
        for _ in range(200):
            tasks = asyncio.all_tasks(self)
            if not tasks:
                break
            for task in sorted(tasks, key=lambda task: task.get_name()):
                task.cancel()
            for timer in self._scheduled:  # type: ignore[attr-defined]
                timer.cancel()
            while self._ready:  # type: ignore[attr-defined]
                self.turn()
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self._world.enter(None)
        self.close()

    # --- what BaseEventLoop leaves open --------------------------------------------------------

    def __del__(self) -> None:
        """Nothing was ever open that a loop left unclosed could leak."""

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """Cancelled timers are thrown away when their time comes."""

    def _note_error(self, _loop: Any, context: dict[str, Any]) -> None:
        self.errors.append(f"{context['message']}: {context.get('exception')!r}")


class World:
    """Virtual time, what is to happen in it, and the loops that live in it.

    Attributes:
        now_s: Seconds since the beginning.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._loops: list[ProcessLoop] = []
        self._running: ProcessLoop | None = None
        self.steps = 0

    def at(self, when_s: float, event: Callable[[], None]) -> None:
        """Have something happen at a time."""
        heapq.heappush(self._events, (max(when_s, self.now_s), next(self._order), event))

    def after(self, delay_s: float, event: Callable[[], None]) -> None:
        """Have something happen in a while."""
        self.at(self.now_s + delay_s, event)

    def add(self, loop: ProcessLoop) -> None:
        """A process begins to run."""
        self._loops.append(loop)

    def remove(self, loop: ProcessLoop) -> None:
        """A process has ended."""
        self._loops.remove(loop)

    def enter(self, loop: ProcessLoop | None) -> None:
        """This loop is the running one; asking the interpreter to say so is slow."""
        if loop is not self._running:
            asyncio._set_running_loop(loop)
            self._running = loop

    def run(self, until_s: float) -> None:
        """Let time go on."""
        try:
            self._run(until_s)
        finally:
            self.enter(None)

    def _run(self, until_s: float) -> None:
        events = self._events
        while self.steps < STEPS_MAX:
            next_s = min(events[0][0] if events else until_s, until_s)
            first: ProcessLoop | None = None
            for loop in self._loops:
                due_s = loop.due_s()
                if due_s is not None and due_s < next_s:
                    next_s, first = due_s, loop
            self.now_s = max(self.now_s, next_s)
            self.steps += 1
            if first is not None:
                self.enter(first)
                first.turn()
            elif events and events[0][0] <= until_s:
                heapq.heappop(events)[2]()
            else:
                return
        raise AssertionError(f"no end after {self.steps} steps, at {self.now_s:.3f} s")
