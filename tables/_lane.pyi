"""What ``tables/_lane.c`` offers; see `tables.lane`."""

from typing import Any

def take(engine: Any, records: list[tuple[int, bytes | None]], at: int) -> None: ...
