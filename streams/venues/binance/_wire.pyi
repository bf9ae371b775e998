"""What ``streams/venues/binance/_wire.c`` offers; see `streams.venues.binance.wire`."""

from collections.abc import Callable
from typing import Any

from streams.events import Event

class Lane:
    def __init__(
        self,
        kind: str,
        feed: Any,
        event: Event,
        quote: Any,
        tag: str,
        pass_on: Callable[[list[Event]], list[Event]],
        again: Callable[[str | bytes], Any],
        /,
    ) -> None: ...

def take(lanes: dict[str, Lane], frame: str | bytes, ts_recv_ms: int) -> list[Event] | None: ...
