"""Connections that do not wait for ever: what uvicorn leaves to a proxy in front of it."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def patient(head_s: float) -> type[asyncio.Protocol]:
    """The HTTP protocol with a limit on how long clients may keep it waiting.

    Uvicorn's own timer runs between requests only: a client that sends a byte of a header now and
    then, or nothing at all, would hold its connection, and a few thousand of them the reader.

    Args:
        head_s: From the connection, or the answer before, to the last byte of the head. A
            connection that is idle between requests ends by uvicorn's timer, which is shorter.
            Also how long a client may take nothing of an answer that lies ready.
    """

    class Patient(H11Protocol):
        """H11 with limits on the head, and on an answer that nobody takes."""

        _waiting: asyncio.TimerHandle | None = None
        _draining: asyncio.TimerHandle | None = None
        _left = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_busy():
                self._end()
            else:
                self._wait()  # the head is not whole yet

        def pause_writing(self) -> None:
            super().pause_writing()
            self._left = self.transport.get_write_buffer_size()
            self._draining = self.loop.call_later(head_s, self._look_at_buffer)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop_looking()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end()
            self._stop_looking()
            super().connection_lost(exc)

        def _wait(self) -> None:
            if self._waiting is None:
                self._waiting = self.loop.call_later(head_s, self._too_slow)

        def _end(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _too_slow(self) -> None:
            self._waiting = None
            # After an upgrade the connection is the websocket's.
            ours = self.transport.get_protocol() is self and not self.transport.is_closing()
            if ours and not self._is_busy():
                self.transport.abort()

        def _look_at_buffer(self) -> None:
            """A client that takes some of its answer may take its time; one that takes nothing goes."""
            left, before = self.transport.get_write_buffer_size(), self._left
            if left >= before:
                self._draining = None
                self.transport.abort()
                return
            self._left = left
            self._draining = self.loop.call_later(head_s, self._look_at_buffer)

        def _stop_looking(self) -> None:
            if self._draining is not None:
                self._draining.cancel()
                self._draining = None

        def _is_busy(self) -> bool:
            cycle: Any = self.cycle  # None before the first
            return cycle is not None and not cycle.response_complete

    return Patient
