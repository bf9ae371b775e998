"""Who has asked to be relieved: one start of a node, and not the next."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from agents.coordination.presence import Presence
from agents.coordination.takeover import Takeover
from agents.coordination.view import View
from lua import Keys, Sight

SYMBOL = "S"


def reasons(lease_value: str, draining: set[str]) -> list[str]:
    """Why node ``b``, which is as far on, takes a lease that looks like this."""
    takeover = Takeover("b", 2000)
    takeover.watch([SYMBOL])
    takeover.note(SYMBOL, 10, 0)
    sight = Sight(lease_value, 1500, 5, 10)
    takeover.saw(SYMBOL, sight, 0)
    takings = takeover.due({SYMBOL: sight}, frozenset(), frozenset(), frozenset(draining), 1)
    return [taking.reason for taking in takings]


def test_only_the_start_of_a_node_that_asked_is_relieved() -> None:
    assert reasons("a|first|5", {"a|first"}) == ["draining"]
    assert reasons("a|second|5", {"a|first"}) == []
    assert reasons("", {"a|first"}) == []


def test_who_has_no_heartbeat_any_more_asks_for_nothing() -> None:
    view = View("b")
    view.draining = {"a|first", "c|only"}
    view.keep(["a"])
    assert view.draining == {"a|first"}


async def test_what_is_announced_is_understood() -> None:
    """And says which start of the node it is about."""
    sent: list[bytes] = []

    class Writer:
        async def publish(self, _channel: str, data: bytes) -> None:
            sent.append(data)

    def made(node: str, incarnation: str, changed: Any) -> Presence:
        return Presence(
            Writer(),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            Keys(),
            node,
            incarnation,
            lambda: (),
            changed=changed,
        )

    woken = asyncio.Event()
    leaving, other = made("a", "first", woken.set), made("b", "only", woken.set)
    await leaving.announce_leave()
    leaving._heard(sent[0])
    assert not leaving.view.draining
    assert not woken.is_set()
    other._heard(sent[0])
    assert other.view.draining == {"a|first"}
    assert woken.is_set()
    other._heard(orjson.dumps({"node_id": "a", "state": "draining"}))
    assert other.view.draining == {"a|first"}
