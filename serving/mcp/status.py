"""The chain from feed to reader, in the few words of `get_service_status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

from serving.directory import SymbolRow
from serving.mcp.contract import Stage, StatusAnswer
from serving.mcp.market import Market
from serving.reader import StoreUnavailable
from serving.status.board import StatusBoard
from serving.status.models import Status

StatusSource = Callable[[], Awaitable[StatusAnswer]]
"""Tells how the chain stands now; raises nothing of the store."""


def status_source(board: StatusBoard, market: Market) -> StatusSource:
    """Tell it as ``/status`` does.

    Args:
        board: Looks at the chain.
        market: Knows all symbols.
    """

    async def source() -> StatusAnswer:
        try:
            rows = await market.rows()
        except StoreUnavailable:
            rows = ()
        return told(await board.status(), rows)

    return source


def told(status: Status, rows: Iterable[SymbolRow]) -> StatusAnswer:
    """The chain as an answer. Pure."""
    counts = Counter({"live": 0, "stale": 0, "gap": 0, "down": 0})
    counts.update(row.state for row in rows)
    return StatusAnswer(
        now_ms=status.at_ms,
        state=status.state,
        stages=[
            Stage(one.stage, one.state, one.sentence, one.runbook.rpartition("#")[2])
            for one in status.chain
        ],
        symbols=dict(counts),
    )
