"""Frames of the hub as tests look at them: decoded by the protocol's own types."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from serving.hub.protocol import Events, Snapshot, Update, decode_frame
from serving.hub.wire import Entry, State, payload_of
from tests.support.reports import stored

T0_MS = 1_800_000_000_000


def state(
    symbol: str = "BTCUSDT", seq: int = 1, *, token: int = 7, channel: str = "reports.fast"
) -> State:
    """A state without anything in it but its place."""
    data = b'{"seq":%d}' % seq
    return State(channel, symbol, (token, seq), data, written_ms=0, data_age_ms=0, at_ms=0)


def entries(*numbers: int, venue: str = "binance") -> list[Entry]:
    """Events at these places."""
    return [Entry((1, n), venue, b'{"n":%d}' % n) for n in numbers]


def decoded(frames: Iterable[bytes]) -> list[Any]:
    """Whole WebSocket frames as what they say."""
    return [decode_frame(payload_of(frame)) for frame in frames]


def seqs(frames: Iterable[Any], symbol: str | None = None) -> list[int]:
    """Places of the states among them."""
    return [
        frame.seq
        for frame in frames
        if isinstance(frame, Snapshot | Update) and symbol in {None, frame.symbol}
    ]


def numbers(frames: Iterable[Any], channel: str | None = None) -> list[int]:
    """Places of the events among them."""
    return [
        one["n"]
        for frame in frames
        if isinstance(frame, Events) and channel in {None, frame.channel}
        for one in frame.data
    ]


SLOW = b'"now_ms":1723161261210'


class _Anomalies(msgspec.Struct):
    anomalies: msgspec.Raw


def report(
    seq: int, *, token: int = 7, slow_ms: int = 1, anomalies: Any = (), **more: Any
) -> bytes:
    """A report whose slow part is of that moment."""
    payload = stored(seq=seq, token=token, now_ms=more.pop("now_ms", T0_MS), **more)
    assert payload.count(SLOW) == 1
    found = json.dumps(list(anomalies), separators=(",", ":")).encode()
    old = msgspec.json.decode(payload, type=_Anomalies).anomalies
    payload = payload.replace(b'"anomalies":' + bytes(old), b'"anomalies":' + found, 1)
    return payload.replace(SLOW, b'"now_ms":%d' % slow_ms)


def finding(n: int) -> dict[str, Any]:
    return {"type": "spoofing", "severity": "low", "note": f"finding {n}"}
