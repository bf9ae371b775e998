"""A report that was split, put together again."""

from __future__ import annotations

from typing import Any, Final

import orjson

_HEAVY: Final = ("depth", "liquidity", "anomalies", "custom")


def join_halves(body: dict[str, Any], heavy: bytes | None) -> bool:
    """Put the long lists back into a report; False where the other half is not of this report.

    Args:
        body: The report; changed.
        heavy: What is stored beside it.
    """
    half = orjson.loads(heavy) if heavy else None
    if half is None or (half["writer_token"], half["seq"]) != (
        body["writer"]["writerToken"],
        body["seq"],
    ):
        return False
    body.update({name: half[name] for name in _HEAVY}, heavy=False)
    return True
