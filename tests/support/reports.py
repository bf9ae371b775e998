"""Reports as they lie in Redis, made of a golden one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tables.report import Position, Source, Writer, decode_report, encode_report

_GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "reports-1.1.jsonl"
_ALL = _GOLDEN.read_bytes().splitlines()

BARE = _ALL[0]
"""One of before any data."""

WHOLE = _ALL[2]
"""One with every field."""


def stored(
    symbol: str = "BTCUSDT",
    *,
    token: int = 7,
    seq: int = 1,
    now_ms: int = 1_800_000_000_000,
    written_ms: int | None = None,
    data_age_ms: int | None = 40,
) -> bytes:
    """A whole report of ``symbol``.

    Args:
        symbol: Whose.
        token: Its writer's.
        seq: Its place under the token.
        now_ms: The moment it was computed for.
        written_ms: When it was written; the same moment unless given.
        data_age_ms: How old its newest record was then.
    """
    golden = decode_report(WHOLE)
    fast = golden.source.fast
    report = msgspec.structs.replace(
        golden,
        symbol=symbol,
        writer=Writer(golden.writer.node_id, token),
        seq=seq,
        updated_at=now_ms if written_ms is None else written_ms,
        source=Source(
            fast=Position(fast.topic, fast.partition, fast.offset, now_ms),
            slow=golden.source.slow,
        ),
        data_age_ms=data_age_ms,
        synthetic=False,
    )
    payload, heavy = encode_report(report, 10**9)
    assert not heavy
    return payload
