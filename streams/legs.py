"""One socket of a source, and the pace at which frames may be sent on it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from websockets.asyncio.client import ClientConnection

FRAMES_PER_WINDOW: Final = 3
WINDOW_S: Final = 1.1
"""Frames that a socket sends in any such time. The strictest venue takes 5 messages a second: that
leaves room for a ping of ours and for a pong, and for some unevenness on the way."""

NOTHING: Final = ""
"""Ends a queue of frames."""


class Pace:
    """When the next frame may go."""

    def __init__(self) -> None:
        """None has gone yet."""
        self._sent: deque[float] = deque(maxlen=FRAMES_PER_WINDOW)

    def wait_s(self, now_s: float) -> float:
        """From now until then."""
        full = len(self._sent) == FRAMES_PER_WINDOW
        return max(0.0, self._sent[0] + WINDOW_S - now_s) if full else 0.0

    def sent(self, now_s: float) -> None:
        """One has gone."""
        self._sent.append(now_s)


class Leg:
    """One socket.

    Attributes:
        number: Later sockets have higher ones.
        name: The same for people and recordings, as ``c1``.
        frames: Received so far.
        seen_s: When the last frame or pong came.
        settled: Set when it has delivered a frame, or ended.
        over: Set when it is.
        why: Why we end it, if we do.
        owed: Frames to be sent.
    """

    def __init__(self, ws: ClientConnection, number: int, now_s: float) -> None:
        """A socket that has just been opened."""
        self.ws, self.number = ws, number
        self.name, self.frames = f"c{number}", 0
        self.opened_s = self.seen_s = now_s
        self.settled = asyncio.Event()
        self.over = asyncio.Event()
        self.why = ""
        self.owed: asyncio.Queue[str] = asyncio.Queue()

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.over.is_set()
