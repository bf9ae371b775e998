"""One client as the hub's shell has it: its session, its socket, and what it may."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from serving.access import Access
from serving.hub.session import Session
from serving.hub.transport import Sink


@dataclass(eq=False, slots=True)
class Client:
    """One client.

    Attributes:
        access: What it may; None before it has said its key.
        since_ms: When it came.
        blocked_ms: Since when its socket has taken nothing; None while it does.
        timer_ms: When the pump looks at it again by itself.
        throttled_told: Of its session's `throttled_ms`, what the metrics have.
        heard: Whether it may be read: not while it leaves its answers lying.
    """

    session: Session
    sink: Sink
    access: Access | None
    since_ms: float
    blocked_ms: float | None = None
    timer_ms: float | None = None
    throttled_told: float = 0.0
    heard: asyncio.Event = field(default_factory=asyncio.Event)
