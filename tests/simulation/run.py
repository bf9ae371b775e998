"""One run: a plan carried out, and its history."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from agents.coordination.lease_state import LeaseBook
from tests.simulation.faults import Fault, Plan
from tests.simulation.kafka_model import KafkaModel
from tests.simulation.loop import World
from tests.simulation.network import Link, Server, Wire
from tests.simulation.process import (
    RUNNING,
    ModelEvictor,
    ModelMembership,
    Process,
)
from tests.support.invariants import History, Place, gaps, violations

CLOCKS: Final = {"clock_jump", "drift"}
CAUGHT: Final = {"node.not_evicted"}
"""What is logged with its traceback, and expected where a broker or Redis is away."""

RESTART_S: Final = 1.0
"""After a process has ended itself, its supervisor starts it anew."""

TIMEOUT_S: Final = 0.5
WRITTEN_S: Final = 1.0
LOGGERS: Final = ("lease", "membership", "presence", "publisher", "watch")


@dataclass(frozen=True, slots=True)
class Guards:
    """What keeps writes right; switched off one by one to see that it is missed.

    Attributes:
        fenced: Redis checks token and lease.
        floored: Tokens are granted above the caller's floor and Redis' clock.
        gated: A state skips what it has applied.
        limited: A lease is believed in for less time than Redis keeps it.
    """

    fenced: bool = True
    floored: bool = True
    gated: bool = True
    limited: bool = True


ALL: Final = Guards()


@dataclass(slots=True)
class Result:
    """What a run came to.

    Attributes:
        violations: A sentence each.
        trace: What happened, in words, as it happened.
        steps: How many turns were taken.
    """

    plan: Plan
    history: History
    violations: list[str]
    trace: list[str]
    steps: int

    def digest(self) -> str:
        """The same for the same history, and the same trace of it."""
        said = repr((self.history, self.trace, self.steps))
        return hashlib.sha256(said.encode()).hexdigest()


@dataclass(slots=True)
class Machine:
    """Where a node runs, and what is wrong there; it stays when a process ends."""

    name: str
    wire: Wire
    where: str
    rate: float = 1.0
    wall_off_ms: int = 0
    process: Process | None = None
    paused_until_s: float = 0.0
    gone: bool = False
    starting: int = 0


@dataclass(slots=True)
class Run:
    """A cluster on models, and the plan that befalls it."""

    plan: Plan
    guards: Guards = ALL
    world: World = field(default_factory=World)
    history: History = field(default_factory=History)
    trace: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    server: Server = field(init=False)
    kafka: KafkaModel = field(init=False)
    machines: dict[str, Machine] = field(default_factory=dict)
    _started: int = 0
    _downs: int = 0
    _alive: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        plan, guards = self.plan, self.guards
        self.history.clocks_right = not any(f.kind in CLOCKS for f in plan.faults)
        self.server = Server(
            self.world, self.history, self.say, fenced=guards.fenced, floored=guards.floored
        )
        self.kafka = KafkaModel(self.world, self._rng("kafka"), len(plan.symbols), self.say)
        for number, node in enumerate(plan.nodes):
            machine = Machine(node, Wire(self._rng(f"wire/{node}")), node)
            self.machines[node] = machine
            self.world.at(0.1 * number, partial(self._start, machine))
        for fault in plan.faults:
            self.world.at(fault.at_s, partial(self._befall, fault))
            if fault.how == "stale":
                self.world.at(fault.at_s - fault.size, partial(self._copy, fault))

    def _rng(self, what: str) -> random.Random:
        return random.Random(f"{self.plan.seed}/{what}")

    def say(self, who: str, what: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{self.world.now_s:8.3f} {who:6} {what}")

    # --- the run -------------------------------------------------------------------------------

    def carry_out(self) -> Result:
        """From the first start to the last look."""
        with self._models():
            try:
                self.world.run(self.plan.ends_s)
                self._look()
            finally:
                self._end()
        found = [*violations(self.history), *self.errors]
        return Result(self.plan, self.history, found, self.trace, self.world.steps)

    @contextmanager
    def _models(self) -> Iterator[None]:
        """The product finds models where it would connect, and says what it logs to the trace."""
        made: dict[str, Any] = {
            "Connections": lambda _url, ttl_ms: RUNNING.get().connections(ttl_ms),
            "Scripts": lambda client, keys: RUNNING.get().scripts(client, keys),
            "Membership": ModelMembership,
            "PeerEvictor": ModelEvictor,
        }
        words = Words(self)
        with ExitStack() as stack:
            stack.enter_context(patch.multiple("agents.ownership", log=words, **made))
            stack.enter_context(patch("agents.standby.log", words))
            for name in LOGGERS:
                stack.enter_context(patch(f"agents.coordination.{name}.log", words))
            if not self.guards.limited:
                stack.enter_context(patch.object(LeaseBook, "_deadline", lambda _, ms: ms + 10**9))
            yield

    def _look(self) -> None:
        """Everything should be at rest."""
        keys = [f"report:writer:{symbol}" for symbol in self.plan.symbols]
        owners, placed = self.kafka.owners(), self.kafka.placed()
        wrote, marks = {}, dict.fromkeys(self.plan.symbols, -1)
        for write in self.history.writes:
            if write.kind == "report" and write.watermark > marks[write.symbol]:
                marks[write.symbol] = write.watermark
                if write.at_s > self.world.now_s - WRITTEN_S:
                    wrote[write.symbol] = write.lease_value.partition("|")[0]
        for partition, symbol in enumerate(self.plan.symbols):
            self.history.places.append(
                Place(
                    symbol,
                    (self.server.model.get(keys[partition]) or "").partition("|")[0],
                    owners.get(partition, ""),
                    placed.get(partition, ""),
                    wrote.get(symbol, ""),
                )
            )

    def _end(self) -> None:
        for machine in self.machines.values():
            self._kill(machine)
        self.server.close()

    # --- processes -----------------------------------------------------------------------------

    def _start(self, machine: Machine) -> None:
        if machine.process is not None or machine.gone:
            return
        self._started += 1
        number = self._started
        process = Process(
            self.world,
            machine.name,
            number,
            machine.where,
            list(self.plan.symbols),
            Link(self.world, self.server, machine.wire, TIMEOUT_S),
            self.kafka,
            self.history,
            self.say,
            rng=self._rng(f"process/{number}"),
            rate=machine.rate,
            wall_off_ms=machine.wall_off_ms,
            gated=self.guards.gated,
            lives=self._alive.__contains__,
            refuses=lambda node: self.machines[node].process is None,
            fail=lambda process: self._failed(machine, process),
        )
        machine.process = process
        self._alive.add(number)
        self.world.add(process.loop)
        self.say(machine.name, f"starts as {process.incarnation}")
        process.begin()
        if self.world.now_s < machine.paused_until_s:
            process.loop.paused = True

    def _kill(self, machine: Machine) -> None:
        process, machine.process = machine.process, None
        if process is None:
            return
        process.close_beliefs()
        process.link.kill()
        self._alive.discard(process.number)
        self.world.remove(process.loop)
        process.loop.kill()
        self.errors += [f"{machine.name}: {error}" for error in process.loop.errors]

    def _failed(self, machine: Machine, process: Process) -> None:
        """A process has ended itself."""
        if machine.process is not process:
            return
        stopped = process.stopping
        self._kill(machine)
        if not stopped:
            self.world.after(RESTART_S, lambda: self._start(machine))

    # --- faults --------------------------------------------------------------------------------

    def _copy(self, fault: Fault) -> None:
        if self.server.up:
            self.server.copies[id(fault)] = self.server.model.copy()

    def _befall(self, fault: Fault) -> None:
        self.say("fault", str(fault))
        if fault.node:
            machine = self.machines[fault.node]
            over: Callable[[], None] = getattr(self, f"_{fault.kind}")(machine, fault) or _nothing
        else:
            over = self._redis_down(fault)
        if fault.lasts_s:
            self.world.at(fault.at_s + fault.lasts_s, over)

    def _again(self, machine: Machine, fault: Fault) -> Callable[[], None]:
        if fault.how == "gone":
            machine.gone = True
        if fault.how == "elsewhere":
            machine.where = f"{machine.name}@{fault.at_s}"
        return lambda: self._start(machine)

    def _crash(self, machine: Machine, fault: Fault) -> Callable[[], None]:
        self._kill(machine)
        return self._again(machine, fault)

    def _stop(self, machine: Machine, fault: Fault) -> Callable[[], None]:
        process = machine.process
        if process is not None:
            process.stop()
        again = self._again(machine, fault)

        def when_stopped() -> None:
            if machine.process is not None and machine.process.stopping:
                self.world.after(0.1, when_stopped)
            else:
                again()

        return when_stopped

    def _flap(self, machine: Machine, fault: Fault) -> Callable[[], None]:
        for turn in range(1, int(fault.lasts_s / 2)):
            self.world.at(fault.at_s + 2 * turn - 0.3, lambda: self._start(machine))
            self.world.at(fault.at_s + 2 * turn, lambda: self._kill(machine))
        self._kill(machine)
        return lambda: self._start(machine)

    def _pause(self, machine: Machine, fault: Fault) -> Callable[[], None]:
        until_s = fault.at_s + fault.lasts_s
        machine.paused_until_s = max(machine.paused_until_s, until_s)
        if machine.process is not None:
            machine.process.loop.paused = True

        def go_on() -> None:
            if machine.process is not None and self.world.now_s >= machine.paused_until_s:
                machine.process.loop.paused = False

        return go_on

    def _clock_jump(self, machine: Machine, fault: Fault) -> None:
        machine.wall_off_ms += int(fault.size)
        if machine.process is not None:
            machine.process.clock.wall_off_ms += int(fault.size)

    def _drift(self, machine: Machine, fault: Fault) -> None:
        machine.rate = fault.size
        if machine.process is not None:
            machine.process.loop.set_rate(fault.size)

    def _lost_replies(self, machine: Machine, fault: Fault) -> Callable[[], None]:
        machine.wire.loss = fault.size
        return lambda: self._calm(machine)

    def _delay(self, machine: Machine, fault: Fault) -> Callable[[], None]:
        machine.wire.delay_s = fault.size
        return lambda: self._calm(machine)

    def _calm(self, machine: Machine) -> None:
        machine.wire.loss = machine.wire.delay_s = 0.0
        machine.wire.disturbed_s = self.world.now_s

    def _cut_redis(self, machine: Machine, fault: Fault) -> Callable[[], None]:
        machine.wire.cut = True

        def heal() -> None:
            machine.wire.heal()
            machine.wire.disturbed_s = self.world.now_s

        return heal

    def _cut_kafka(self, machine: Machine, fault: Fault) -> Callable[[], None]:
        self.kafka.cut.add(machine.name)
        return lambda: self.kafka.cut.discard(machine.name)

    def _redis_down(self, fault: Fault) -> Callable[[], None]:
        self._downs += 1
        if self._downs == 1:
            self.server.crash()

        def back() -> None:
            self._downs -= 1
            for machine in self.machines.values():
                machine.wire.disturbed_s = self.world.now_s
            if self._downs == 0:
                copy = self.server.copies.get(id(fault))
                how = "kept" if fault.how == "stale" and copy is None else fault.how
                self.server.start(how, copy)
                self.say("redis", f"is back, data {how}")

        return back


def _nothing() -> None:
    """Nothing ends."""


class Words:
    """Stands for the product's loggers: what they say goes to the trace."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def info(self, event: str, **fields: Any) -> None:
        """A line."""
        said = " ".join(f"{name}={value}" for name, value in fields.items())
        self._run.say(RUNNING.get().name, f"{event} {said}")

    warning = error = info

    def debug(self, event: str, **fields: Any) -> None:
        """Too much for a trace."""

    def exception(self, event: str, **fields: Any) -> None:
        """The product has met what it did not expect: that is a finding by itself."""
        import traceback

        self.info(event, **fields)
        if event not in CAUGHT:
            self._run.errors.append(f"{RUNNING.get().name}: {event}: {traceback.format_exc()}")


def carry_out(plan: Plan, guards: Guards = ALL) -> Result:
    """Run a plan."""
    return Run(plan, guards).carry_out()


def gaps_of(result: Result, from_s: float) -> list[str]:
    """Standstills of any symbol from a moment on."""
    return gaps(result.history.writes, result.plan.symbols, from_s, result.plan.ends_s)
