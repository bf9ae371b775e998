"""One client of the simulated Binance: control frames on a live socket, and how data is wrapped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from streams.simulator.dialect import Frame, Message

STREAMS_MAX: Final = 1024
METHODS: Final = (
    "SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY",
)  # fmt: skip
SHUTDOWN_STREAM: Final = "!serverShutdown"


class BinanceTalk:
    """A connection to ``/ws`` or ``/stream``.

    Attributes:
        streams: Subscribed streams, in order of subscription.
        combined: Payloads are wrapped as ``{"stream":..,"data":..}``.
    """

    def __init__(self, streams: Iterable[str] = (), *, combined: bool = False) -> None:
        self.streams: dict[str, None] = dict.fromkeys(filter(None, streams))
        self.combined = combined

    def opened(self, now_ms: int) -> list[Frame]:
        """Nothing: the venue waits."""
        return []

    def received(self, text: str, now_ms: int) -> list[Frame]:
        """Act on a control frame and answer it."""
        return [Frame(json.dumps(self.reply(text), separators=(",", ":")))]

    def frames(self, message: Message) -> list[Frame]:
        """The payload, wrapped or not."""
        _, stream, data, symbol, kind = message
        text = f'{{"stream":"{stream}","data":{data}}}' if self.combined else data
        return [Frame(text, stream, symbol, kind)]

    def beat(self, now_ms: int) -> list[Frame]:
        """Nothing: pings are the socket's."""
        return []

    def skip(self) -> None:
        """Nothing: books are numbered by symbol, not by connection."""

    def overdue(self, now_ms: int) -> bool:
        """Never: a connection may stay without streams."""
        return False

    def shutdown(self, ts_ms: int) -> list[Frame]:
        """The venue's announcement that it will close."""
        event = f'{{"e":"serverShutdown","E":{ts_ms}}}'
        return self.frames(Message(ts_ms, SHUTDOWN_STREAM, event, "", "control"))

    def broken(self, symbol: str, ts_ms: int) -> Frame:
        """A frame that breaks off in the middle."""
        stream = f"{symbol.lower()}@depth@100ms"
        text = f'{{"stream":"{stream}","data":{{"e":"depthUpdate","E":{ts_ms},"s":'
        return Frame(text, "!garbage", symbol, "control")

    def state(self) -> dict[str, Any]:
        """What the control API shows of it."""
        return {"streams": list(self.streams), "combined": self.combined}

    def reply(self, text: str) -> dict[str, Any]:
        """Act on a control frame and return its answer."""
        try:
            frame = json.loads(text)
        except ValueError as exc:
            return {"code": 3, "msg": f"Invalid JSON: {exc}"}
        if not isinstance(frame, dict):
            return {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}
        ident = frame.get("id")
        if "id" not in frame:
            return _invalid("missing field `id`", None)
        if isinstance(ident, bool) or not (ident is None or isinstance(ident, (int, str))):
            return _invalid("`id` must be an integer, a string of up to 36, or null", None)
        method, params = frame.get("method"), frame.get("params", [])
        if method not in METHODS:
            known = ", ".join(f"`{name}`" for name in METHODS)
            return _invalid(f"unknown variant `{method}`, expected one of {known}", ident)
        if method == "LIST_SUBSCRIPTIONS":
            return {"result": list(self.streams), "id": ident}
        if method == "GET_PROPERTY":
            return {"result": self.combined, "id": ident}
        if not isinstance(params, list) or not params:
            return _invalid("`params` must be a list that is not empty", ident)
        if method == "SET_PROPERTY":
            if params[0] != "combined" or not isinstance(params[-1], bool):
                return _invalid('the only property is "combined", true or false', ident)
            self.combined = params[1]
            return {"result": None, "id": ident}
        if not all(isinstance(stream, str) and "@" in stream for stream in params):
            return _invalid("each stream must be a text such as btcusdt@depth", ident)
        if method == "UNSUBSCRIBE":
            for stream in params:
                self.streams.pop(stream, None)
        elif len(self.streams.keys() | set(params)) > STREAMS_MAX:
            return _invalid(f"more than {STREAMS_MAX} streams on one connection", ident)
        else:
            self.streams.update(dict.fromkeys(params))
        return {"result": None, "id": ident}


def _invalid(why: str, ident: object) -> dict[str, Any]:
    return {"code": 2, "msg": f"Invalid request: {why}", "id": ident}
