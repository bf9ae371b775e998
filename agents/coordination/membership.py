"""This node's heartbeat, and the right to its name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from agents.coordination.connections import FAILURES, failure_reason
from agents.coordination.sink import CoordinationSink, NullSink
from lua import BeatCode, Beaten, Scripts
from tapeline.clock import Clock, SystemClock
from tapeline.errors import CoordinationError
from tapeline.logging import get_logger
from tapeline.tasks import end

BEAT_MS: Final = 1000
JITTER_MS: Final = 100
TTL_S: Final = 5
RETRY_S: Final = 0.25
"""Between two tries at a start."""

PATIENCE_MS: Final = TTL_S * 1000 + 1500
"""By then the heartbeat of a dead process has expired: whoever still has the name lives."""

log = get_logger("membership")


class DuplicateNode(CoordinationError):
    """Another live process has this node id."""

    def __init__(self, node_id: str, holder: dict[str, Any]) -> None:
        who = f"pid {holder.get('pid', '?')} on {holder.get('hostname', '?')}"
        super().__init__(
            f"node id {node_id!r} is in use by {who}; expected one process a node id: "
            "stop that one, or set another NT_NODE_ID"
        )
        self.node_id, self.holder = node_id, holder


def new_incarnation() -> str:
    """A name for one start of a process, never used twice."""
    return secrets.token_hex(8)


def pid_space() -> str:
    """Names the kernel's boot and pid namespace; '' where there is no telling."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Node:
    """Who beats.

    Attributes:
        node_id: The node's name.
        metrics_url: Where its metrics are served.
        started_at: Start of the process, ms since the epoch.
        incarnation: This start of the node.
        hostname: Its machine.
        pid: Its process.
        pid_space: Within which pids mean the same: the kernel's boot and pid namespace.
    """

    node_id: str
    metrics_url: str
    started_at: int
    incarnation: str = field(default_factory=new_incarnation)
    hostname: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    pid_space: str = field(default_factory=pid_space)

    def payload(self, now_ms: int, state: str = "up", weight: float = 1.0) -> bytes:
        """The heartbeat sent at ``now_ms``, JSON; ``state`` is ``up`` or ``draining``."""
        return orjson.dumps(
            {
                "node_id": self.node_id,
                "incarnation": self.incarnation,
                "hostname": self.hostname,
                "pid": self.pid,
                "pid_space": self.pid_space,
                "started_at": self.started_at,
                "metrics_url": self.metrics_url,
                "last_heartbeat": now_ms,
                "state": state,
                "weight": weight,
            }
        )


class Membership:
    """Beats each second, give or take a tenth, while the process lives.

    Args:
        scripts: On a client that neither retries nor waits (`Connections.writer`).
        node_id: The node's name.
        metrics_url: Where its metrics are served.
        clock: Stamps.
        sink: Whoever counts.
        rng: Source of the jitter.
        on_duplicate: Called once if another process takes the name while this one runs, which
            it may after this one was paused for longer than a heartbeat lives.

    Attributes:
        node: Who beats.
        state: ``up``, or ``draining`` once it is about to leave; goes into each heartbeat.
        weight: Its share of the symbols, as a multiple of another's.
        last_heartbeat_ts: When the last accepted heartbeat was sent, ms since the epoch; 0
            before the first.
        alive: Ids of the nodes alive at that time.
    """

    def __init__(
        self,
        scripts: Scripts,
        node_id: str,
        metrics_url: str,
        *,
        clock: Clock | None = None,
        sink: CoordinationSink | None = None,
        rng: random.Random | None = None,
        on_duplicate: Callable[[DuplicateNode], None] | None = None,
    ) -> None:
        self._scripts = scripts
        self._clock = clock or SystemClock()
        self.node = Node(node_id, metrics_url, self._clock.now_ms())
        self._sink = sink or NullSink()
        self._rng = rng or random.Random()
        self._on_duplicate = on_duplicate
        self._replaces = ""
        self._task: asyncio.Task[None] | None = None
        self.state, self.weight = "up", 1.0
        self.last_heartbeat_ts = 0
        self.alive: tuple[str, ...] = ()

    @property
    def incarnation(self) -> str:
        """This start of the node."""
        return self.node.incarnation

    async def start(self) -> None:
        """Take the name and begin to beat; waits for as long as Redis is away.

        The name of a process that died is free at once if it died on this machine, else when
        its heartbeat has expired.

        Raises:
            DuplicateNode: A live process has the name.
        """
        refused_ms: int | None = None
        first: dict[str, Any] = {}
        while True:
            try:
                answer = await self._beat()
            except FAILURES as error:
                log.warning("membership.redis_away", error=repr(error))
                await asyncio.sleep(RETRY_S)
                continue
            if answer.code is BeatCode.ACCEPTED:
                break
            holder = decode_beat(answer.holder)
            now_ms = self._clock.monotonic_ms()
            if refused_ms is None:
                refused_ms, first = now_ms, holder
                log.warning("membership.name_taken", holder=holder)
                if self._is_dead(holder):
                    self._replaces = str(holder["incarnation"])
                    continue
            if holder != first or now_ms - refused_ms > PATIENCE_MS:
                raise DuplicateNode(self.node.node_id, holder)
            await asyncio.sleep(RETRY_S)
        self._task = asyncio.create_task(self._run(), name="heartbeat")

    async def stop(self) -> None:
        """Stop beating and leave, as far as Redis answers; else the heartbeat expires."""
        if self._task is None:
            return
        await end(self._task)
        self._task = None
        with contextlib.suppress(*FAILURES):
            await self._scripts.beat(self.node.node_id, self.node.incarnation, b"", 0)
        self._sink.heartbeat(False)

    async def _run(self) -> None:
        while True:
            pause_ms = BEAT_MS + self._rng.uniform(-JITTER_MS, JITTER_MS)
            await asyncio.sleep(pause_ms / 1000)
            try:
                answer = await self._beat()
            except FAILURES as error:
                log.warning("membership.redis_away", error=repr(error))
                continue
            if answer.code is BeatCode.DUPLICATE_ID:
                duplicate = DuplicateNode(self.node.node_id, decode_beat(answer.holder))
                log.error("membership.duplicate", error=str(duplicate))
                if self._on_duplicate is not None:
                    self._on_duplicate(duplicate)
                return

    async def _beat(self) -> Beaten:
        sent_ms = self._clock.now_ms()
        node = self.node
        try:
            answer = await self._scripts.beat(
                node.node_id,
                node.incarnation,
                node.payload(sent_ms, self.state, self.weight),
                TTL_S,
                replaces=self._replaces,
            )
        except FAILURES as error:
            self._sink.failed(failure_reason(error))
            self._sink.heartbeat(False)
            raise
        accepted = answer.code is BeatCode.ACCEPTED
        if accepted:
            self.last_heartbeat_ts, self.alive = sent_ms, answer.alive
        self._sink.heartbeat(accepted)
        return answer

    def _is_dead(self, holder: dict[str, Any]) -> bool:
        """Whether the holder is a process of this machine that is no more."""
        node = self.node
        if not node.pid_space or holder.get("pid_space") != node.pid_space:
            return False
        pid = holder.get("pid")
        if not isinstance(pid, int) or pid <= 0:
            return False
        if pid == node.pid:
            # In one process two nodes of one name are a mistake; but a container's first
            # process has the same pid at each start, in a pid namespace of its own.
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


def decode_beat(payload: bytes) -> dict[str, Any]:
    """What a heartbeat says; nothing if it can't be read."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
