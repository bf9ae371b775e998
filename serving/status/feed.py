"""What the hub's ``status`` channel says of a symbol, beside who writes it: how the chain is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serving.status.board import StatusBoard
from serving.status.models import Status

Words = Callable[[str], dict[str, Any]]
"""By symbol: ``state``, ``sentence``, ``feeds`` and ``chain``; nothing of one that is not known."""


class ChainFeed:
    """Shares the board's looks with all who follow ``status`` over the hub."""

    def __init__(self, board: StatusBoard) -> None:
        self._board = board

    async def words(self) -> Words:
        """The chain as it is now."""
        return words_of(await self._board.status())


def words_of(status: Status) -> Words:
    """What is said of each symbol, without figures that change each time somebody looks."""
    chain = {
        "state": status.state,
        "sentence": status.sentence,
        "stages": {stage.stage: stage.state for stage in status.chain},
    }
    by_symbol = {
        one.symbol: {
            "state": one.state,
            "sentence": one.sentence,
            "feeds": {feed.stream_id: feed.state for feed in one.feeds},
        }
        for one in status.symbols
    }

    def words(symbol: str) -> dict[str, Any]:
        return {**by_symbol.get(symbol, {}), "chain": chain}

    return words
