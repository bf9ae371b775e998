"""Being seen, and seeing the others: a subscription for as long as the process lives.

Redis knows in the same moment that a killed process's socket is closed, and so does whoever asks
it how many listen on that process's channel. A machine that is gone, or a process that is stopped,
leaves its socket open: what those do not do any more is seen elsewhere (`takeover`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from agents.coordination.connections import FAILURES
from agents.coordination.view import MISSES, View
from lua import Keys
from tapeline.clock import Clock, SystemClock
from tapeline.logging import get_logger

LOOK_S: Final = 0.15
LISTEN_S: Final = 0.5
RETRY_S: Final = 0.1
CONNECT_S: Final = 1.0

log = get_logger("presence")


class Presence:
    """Listens on this node's channel and looks who else listens on theirs.

    Args:
        writer: A client that neither retries nor waits (`Connections.writer`).
        listener: A client for the subscription alone.
        keys: Key names.
        node_id: Ours.
        incarnation: This start of it.
        others: Nodes whose heartbeats Redis has.
        clock: For the view.
        changed: Called when somebody has vanished, or is about to leave.

    Attributes:
        view: Who is there.
    """

    def __init__(
        self,
        writer: Redis,
        listener: Redis,
        keys: Keys,
        node_id: str,
        incarnation: str,
        others: Callable[[], Iterable[str]],
        *,
        clock: Clock | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._writer, self._listener, self._keys = writer, listener, keys
        self._node_id, self._incarnation, self._others = node_id, incarnation, others
        self._clock = clock or SystemClock()
        self._changed = changed
        self._away = False
        self._unheard = 0
        self._suspects: set[str] = set()
        self.view = View(node_id)

    async def listen(self) -> None:
        """Be seen, until cancelled."""
        while True:
            pubsub = self._listener.pubsub(ignore_subscribe_messages=True)
            try:
                async with asyncio.timeout(CONNECT_S):
                    await pubsub.subscribe(self._keys.alive(self._node_id), self._keys.handover())
                self._unheard = 0
                while self._unheard < MISSES:
                    message = await pubsub.get_message(timeout=LISTEN_S)
                    if message is not None:
                        self._heard(message["data"])
                log.warning("presence.unseen")
            except FAILURES as error:
                log.warning("presence.redis_away", error=repr(error))
                await asyncio.sleep(RETRY_S)
            finally:
                await _close(pubsub)

    async def look(self) -> None:
        """See the others, until cancelled."""
        while True:
            try:
                await self._look()
            except FAILURES as error:
                if not self._away:
                    log.warning("presence.blind", error=repr(error))
                self._away = True
                self.view.disconnected()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        nodes = sorted(set(self._others()) - {self._node_id})
        if self._away or self.view.is_blind():
            await self._writer.ping()
            self._away = False
            self.view.connected(self._clock.monotonic_ms())
        channels = {self._keys.alive(node): node for node in (self._node_id, *nodes)}
        counts = await self._writer.pubsub_numsub(*channels)
        listeners = {channels[_text(name)]: int(count) for name, count in counts}
        # A connection of ours that Redis has given up, and that we have not noticed.
        self._unheard = 0 if listeners.pop(self._node_id, 0) else self._unheard + 1
        now_ms = self._clock.monotonic_ms()
        self.view.keep(nodes)
        self.view.looked(listeners, now_ms)
        # Not by what the view says before this look: a suspicion may have become one by waiting.
        before, self._suspects = self._suspects, set(self.view.suspects(now_ms))
        for node in sorted(self._suspects - before):
            log.warning("node.vanished", peer=node)
        for node in sorted((before - self._suspects).intersection(self.view.present())):
            log.info("node.back", peer=node)
        if self._suspects - before:
            self._changed()

    async def announce_leave(self) -> None:
        """Ask the others to take what this node writes."""
        said = {"node_id": self._node_id, "incarnation": self._incarnation, "state": "draining"}
        await self._writer.publish(self._keys.handover(), orjson.dumps(said))

    def _heard(self, data: bytes) -> None:
        try:
            said = orjson.loads(data)
            node, state = str(said["node_id"]), said["state"]
            writer = f"{node}|{said['incarnation']}"
        except (orjson.JSONDecodeError, KeyError, TypeError):
            log.warning("presence.not_understood", data=repr(data[:100]))
            return
        if node == self._node_id:
            return
        if state == "draining" and writer not in self.view.draining:
            log.info("node.draining", peer=node)
            self.view.draining.add(writer)
        self._changed()


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


async def _close(pubsub: Any) -> None:
    with contextlib.suppress(*FAILURES):
        await pubsub.aclose()
