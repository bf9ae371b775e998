"""Which streams the sockets carry, and the control frames that change it. Pure.

The address of a socket names what is followed when it is opened. What joins later is asked for by
frames, which go to every open socket. They are merged as long as nobody has taken them, because
the venue takes five messages a second of a connection, pings included.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

from streams.venues.binance import urls

FRAME_SYMBOLS_MAX: Final = urls.FRAME_STREAMS_MAX // len(urls.STREAMS)

ASKED_MAX: Final = 256
"""Requests remembered for an answer. Each open socket answers each frame, so none is forgotten with
its first answer."""


class Subscriptions:
    """The venue symbols that sockets carry.

    Attributes:
        joining: To be asked for by the next frames.
        leaving: To be given up by the next frames.
    """

    def __init__(self) -> None:
        self.joining: dict[str, None] = {}
        self.leaving: dict[str, None] = {}
        self._addressed: dict[str, None] | None = None  # nobody asked: it carries all
        self._asked: dict[int, list[str]] = {}
        self._id = 0

    def address(self, venue_symbols: Sequence[str]) -> str:
        """Path and query that carry these; the next socket is opened with it."""
        self._addressed = dict.fromkeys(venue_symbols)
        return urls.stream_path(venue_symbols)

    def opened(self, followed: Iterable[str]) -> list[str]:
        """A first socket is open: those of the followed that its address carries.

        The others joined while it was being opened, and are asked for by the next frames.
        """
        self._asked.clear()
        self.leaving.clear()
        addressed = self._addressed if self._addressed is not None else dict.fromkeys(followed)
        self.joining = {s: None for s in followed if s not in addressed}
        return [s for s in followed if s in addressed]

    def closed(self) -> None:
        """No socket is left: the next one's address says it all."""
        self.joining.clear()
        self.leaving.clear()
        self._asked.clear()

    def join(self, venue_symbol: str) -> None:
        """Carry one more."""
        self.joining[venue_symbol] = None

    def leave(self, venue_symbol: str) -> None:
        """Carry one less."""
        if venue_symbol in self.joining:
            del self.joining[venue_symbol]
        else:
            self.leaving[venue_symbol] = None

    def frames(self) -> list[str]:
        """What is owed to every open socket, each frame once."""
        leaving, self.leaving = [*self.leaving], {}
        joining, self.joining = [*self.joining], {}
        return self._written("UNSUBSCRIBE", leaving) + self._written("SUBSCRIBE", joining)

    def catching_up(self, followed: Iterable[str]) -> list[str]:
        """Frames for a further socket, opened with an address that may be out of date by now."""
        now = dict.fromkeys(followed)
        addressed = self._addressed if self._addressed is not None else now
        gone = [s for s in addressed if s not in now]
        new = [s for s in now if s not in addressed and s not in self.joining]
        return self._written("UNSUBSCRIBE", gone) + self._written("SUBSCRIBE", new)

    def answered(self, ident: object) -> list[str] | None:
        """The symbols that a request has asked for; None if it is none of ours.

        An unsubscription has asked for none: nobody waits for its answer.
        """
        return self._asked.get(ident) if type(ident) is int else None

    def _written(self, method: str, venue_symbols: Sequence[str]) -> list[str]:
        frames = []
        for at in range(0, len(venue_symbols), FRAME_SYMBOLS_MAX):
            some = list(venue_symbols[at : at + FRAME_SYMBOLS_MAX])
            self._id += 1
            self._asked[self._id] = some if method == "SUBSCRIBE" else []
            while len(self._asked) > ASKED_MAX:
                del self._asked[next(iter(self._asked))]
            frame = {"method": method, "params": urls.stream_names(some), "id": self._id}
            frames.append(json.dumps(frame, separators=(",", ":")))
        return frames
