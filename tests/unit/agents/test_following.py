"""What a worker serves: SYMBOLS, and what commands have made of it."""

from __future__ import annotations

from agents.following import Followed, followed_by
from streams.commands import Decision, RoutingState
from streams.symbols import parse_symbols


def state(*decisions: Decision) -> RoutingState:
    """As a bridge with other ``SYMBOLS`` has kept it."""
    return RoutingState(
        v=1, applied=3, routing_version=4, symbols=["binance:XRPUSDT"], decisions=[*decisions]
    )


def test_commands_outweigh_the_worker_s_own_symbols() -> None:
    """Not the bridge's ``SYMBOLS``: a worker may serve fewer than there are."""
    own = parse_symbols("binance:BTCUSDT,binance:ETHUSDT")
    added = Decision(venue="binance", symbol="SOLUSDT", venue_symbol="SOLUSDT", command_id="a")
    removed = Decision(venue="binance", symbol="ETHUSDT", command_id="b")
    found = followed_by(own, state(added, removed))
    assert [one.symbol for one in found.listings] == ["BTCUSDT", "SOLUSDT"]
    assert followed_by(own, state()) == Followed(own)
