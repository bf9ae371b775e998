"""What coordination tells whoever counts. The worker's metrics implement it."""

from __future__ import annotations

from typing import Literal, Protocol

WriteKind = Literal["report", "tick"]


class CoordinationSink(Protocol):
    """Told of everything that should be counted; must not block or raise."""

    def published(self, symbol: str, kind: WriteKind, size: int) -> None:
        """A write of ``size`` bytes was accepted, now or by an earlier try."""
        ...

    def round_trip(self, seconds: float) -> None:
        """Redis has answered a batch of writes."""
        ...

    def split(self, symbol: str, size: int) -> None:
        """A report was too large and was split; ``size`` is both parts' bytes."""
        ...

    def stale(self, symbol: str, kind: WriteKind) -> None:
        """A write was dropped: later records have been published already."""
        ...

    def conflict(self, symbol: str, reason: str) -> None:
        """A write was refused to this writer, ``fenced`` or ``not_owner``."""
        ...

    def failed(self, reason: str) -> None:
        """A try came to nothing: ``timeout``, ``connection``, ``refused``, ``encode``,
        ``internal``; or all tries of a write did: ``gave_up``.
        """
        ...

    def lease_lost(self, symbol: str, reason: str) -> None:
        """A lease may no longer be written under: ``taken``, ``unknown``, ``fenced``, ..."""
        ...

    def leases(self, held: int) -> None:
        """How many leases are held now."""
        ...

    def taking(self, symbol: str, reason: str) -> None:
        """A lease is asked for that is another's: ``absent``, ``draining``, ``stalled``,
        ``assigned``; or nobody's: ``free``.
        """
        ...

    def evicted(self, node: str) -> None:
        """A dead node was taken out of the consumer group."""
        ...

    def heartbeat(self, accepted: bool) -> None:
        """A heartbeat was accepted or not."""
        ...


class NullSink:
    """Counts nothing; a base for sinks that care for a part."""

    def published(self, symbol: str, kind: WriteKind, size: int) -> None: ...

    def round_trip(self, seconds: float) -> None: ...

    def split(self, symbol: str, size: int) -> None: ...

    def stale(self, symbol: str, kind: WriteKind) -> None: ...

    def conflict(self, symbol: str, reason: str) -> None: ...

    def failed(self, reason: str) -> None: ...

    def lease_lost(self, symbol: str, reason: str) -> None: ...

    def leases(self, held: int) -> None: ...

    def taking(self, symbol: str, reason: str) -> None: ...

    def evicted(self, node: str) -> None: ...

    def heartbeat(self, accepted: bool) -> None: ...
