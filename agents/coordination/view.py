"""Which other nodes are there, as one node sees it. Pure: time enters with each call, in ms.

A node is present while its connection to Redis listens on a channel of its own: Redis drops the
subscription of a process that was killed in the moment its socket closes. What vanishes from
sight is not always gone: the observer's own connection may have come back a moment ago, before
the others'; and where most vanish at once, it is Redis that has trouble.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

QUIET_MS: Final = 2000
"""Nobody is suspected for so long after the observer's own connection began."""

MISSES: Final = 2
"""Looks in a row that do not find a node, for it to be missed."""

AT_ONCE_MS: Final = 1000
"""Nodes that vanish within so long vanish together."""


@dataclass(slots=True)
class _Peer:
    """One other node.

    Attributes:
        misses: Looks in a row that did not find it.
        missed_ms: When it was missed for good; None while it is there.
    """

    misses: int = 0
    missed_ms: int | None = None


class View:
    """The other nodes, as looks at Redis show them.

    Args:
        node_id: Our own, which is no peer.

    Attributes:
        draining: Writers, ``node|incarnation``, that have said that they are about to leave. Not
            nodes: the next start of one has said nothing of the kind.
    """

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._peers: dict[str, _Peer] = {}
        self._trusted_ms: int | None = None
        self.draining: set[str] = set()

    def connected(self, now_ms: int) -> None:
        """Our connection is new: whoever was there has to be seen again before it can be missed."""
        self._peers.clear()
        self._trusted_ms = now_ms + QUIET_MS

    def disconnected(self) -> None:
        """We see nothing, and so suspect nobody."""
        self._peers.clear()
        self._trusted_ms = None

    def looked(self, listeners: Mapping[str, int], now_ms: int) -> None:
        """A look was answered.

        Args:
            listeners: How many connections listen on a node's channel, by node.
            now_ms: Monotonic.
        """
        missed = False
        for node, count in listeners.items():
            if node == self._node_id:
                continue
            if count > 0:
                self._peers[node] = _Peer()
                continue
            peer = self._peers.get(node)
            if peer is None:
                continue  # never seen on this connection
            peer.misses += 1
            if peer.misses == MISSES:
                peer.missed_ms = now_ms
                missed = True
        if missed:
            self._doubt(now_ms)

    def _doubt(self, now_ms: int) -> None:
        """Most of them gone together: look at the others again, in a while."""
        together = [
            peer
            for peer in self._peers.values()
            if peer.missed_ms is not None and now_ms - peer.missed_ms < AT_ONCE_MS
        ]
        if len(together) > 1 and 2 * len(together) > len(self._peers):
            self._trusted_ms = max(self._trusted_ms or 0, now_ms + QUIET_MS)

    def keep(self, nodes: Iterable[str]) -> None:
        """These have a heartbeat; whoever has none any more is neither there nor missed."""
        known = set(nodes)
        for node in self._peers.keys() - known:
            del self._peers[node]
        self.draining = {one for one in self.draining if one.partition("|")[0] in known}

    def is_blind(self) -> bool:
        """Whether nobody can be suspected, as there is no connection to look through."""
        return self._trusted_ms is None

    def present(self) -> list[str]:
        """Peers that are there."""
        return [node for node, peer in self._peers.items() if peer.missed_ms is None]

    def suspects(self, now_ms: int) -> dict[str, int]:
        """Peers that were there and are not any more, each with the moment it was missed."""
        if self._trusted_ms is None or now_ms < self._trusted_ms:
            return {}
        return {n: p.missed_ms for n, p in self._peers.items() if p.missed_ms is not None}
