"""The WebSocket hub, ``/ws``: states and events out of Redis, to many clients at once.

`protocol` has the frames, `wire` their bytes; `streams`, `session` and `hub` decide who gets what
and when, and `states` what is newest, all without a clock or a socket. `state_feed` and
`event_feed` read Redis, `endpoint` reads clients, `service` hands frames to sockets.
"""

from __future__ import annotations

from serving.hub.service import Hub

__all__ = ["Hub"]
