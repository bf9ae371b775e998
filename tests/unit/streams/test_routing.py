"""Which symbols are followed: commands, their answers, and what is left of them after a restart."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.commands import (
    Answer,
    RoutingState,
    acknowledgement,
    decode_acknowledgement,
    decode_state,
    encode,
)
from streams.merged import Merge
from streams.routing import ANSWERS_MAX, Routing
from streams.symbols import Listing

BTC, ETH, SOL = (Listing("binance", s, s) for s in ("BTCUSDT", "ETHUSDT", "SOLUSDT"))
SOL_KEY = ("binance", "SOLUSDT")


def body(type_: str, symbol: str, command_id: str = "", **more: Any) -> bytes:
    wish = {"v": 1, "type": type_, "venue": "binance", "symbol": symbol}
    return orjson.dumps(wish | {"command_id": command_id or f"{type_}-{symbol}"} | more)


class Log:
    """A command topic, and a bridge that reads it."""

    def __init__(self, *initial: Listing) -> None:
        self.initial = initial or (BTC,)
        self.routing = Routing(self.initial)
        self.values: list[bytes] = []

    def send(self, value: bytes) -> tuple[Answer, ...]:
        self.values.append(value)
        return self.routing.take(len(self.values) - 1, value).answers

    def subscribe(self, symbol: str, command_id: str = "", **more: Any) -> tuple[Answer, ...]:
        return self.send(body("subscribe", symbol, command_id, **more))

    def unsubscribe(self, symbol: str, command_id: str = "") -> tuple[Answer, ...]:
        return self.send(body("unsubscribe", symbol, command_id))

    def refuse(self, symbol: str, why: str) -> tuple[Answer, ...]:
        undo = self.routing.refused(("binance", symbol), why)
        assert undo is not None
        return self.send(encode(undo))

    def restarted(self, state: RoutingState | None = None, *initial: Listing) -> Routing:
        """A new bridge: the set that was kept, then the commands behind it."""
        routing = Routing(initial or self.initial)
        if state is not None:
            routing.restore(state)
        for offset in range(routing.applied + 1, len(self.values)):
            routing.take(offset, self.values[offset])
        return routing

    @property
    def symbols(self) -> list[str]:
        return [symbol for _, symbol in self.routing.listings]


def kept(routing: Routing) -> RoutingState:
    """A state as it comes back from the broker."""
    state = decode_state(encode(routing.state()))
    assert state is not None
    return state


def test_a_subscription_is_answered_when_something_has_come() -> None:
    log = Log()
    assert log.subscribe("SOLUSDT", "a") == ()
    assert log.symbols == ["BTCUSDT", "SOLUSDT"]
    assert log.routing.version == 2
    (answer,) = log.routing.came(SOL_KEY)
    assert (answer.command_id, answer.status, answer.changed) == ("a", "success", True)
    assert answer.routing_version == 2
    assert log.routing.came(SOL_KEY) == ()


def test_an_unsubscription_is_answered_at_once() -> None:
    log = Log()
    (answer,) = log.unsubscribe("BTCUSDT")
    assert (answer.status, answer.changed, answer.routing_version) == ("success", True, 2)
    assert log.symbols == []


def test_the_same_id_again_is_answered_the_same_and_changes_nothing() -> None:
    log = Log()
    log.subscribe("SOLUSDT", "a")
    assert log.subscribe("SOLUSDT", "a") == (), "it waits still"
    (first,) = log.routing.came(SOL_KEY)
    (removed,) = log.unsubscribe("SOLUSDT", "b")
    assert log.subscribe("SOLUSDT", "a") == (first,)
    assert log.unsubscribe("SOLUSDT", "b") == (removed,)
    assert log.symbols == ["BTCUSDT"]
    assert log.routing.version == 3


def test_the_same_wish_again_succeeds_and_changes_nothing() -> None:
    log = Log()
    (answer,) = log.subscribe("BTCUSDT")
    assert (answer.status, answer.changed, answer.routing_version) == ("success", False, 1)
    (answer,) = log.unsubscribe("SOLUSDT")
    assert (answer.status, answer.changed, answer.routing_version) == ("success", False, 1)


def test_two_that_wait_for_one_symbol_are_answered_together() -> None:
    log = Log()
    log.subscribe("SOLUSDT", "a")
    assert log.subscribe("SOLUSDT", "b") == ()
    assert [(a.command_id, a.changed) for a in log.routing.came(SOL_KEY)] == [
        ("a", True),
        ("b", False),
    ]


def test_a_refusal_is_a_command_that_undoes_and_every_bridge_follows_it() -> None:
    log = Log()
    other = Routing([BTC])
    log.subscribe("SOLUSDT", "a")
    other.take(0, log.values[0])
    (answer,) = log.refuse("SOLUSDT", "not listed")
    assert (answer.command_id, answer.status, answer.error) == ("a", "error", "not listed")
    assert (answer.changed, answer.routing_version) == (False, 3)
    assert log.symbols == ["BTCUSDT"]
    (same,) = other.take(1, log.values[1]).answers
    assert (same, [*other.listings]) == (answer, [*log.routing.listings])
    # The other bridge was refused, too, and says so a moment later.
    assert log.send(log.values[1]) == ()
    assert log.routing.version == 3


def test_an_undo_that_comes_late_leaves_a_newer_subscription_alone() -> None:
    log = Log()
    log.subscribe("SOLUSDT", "a")
    undo = log.routing.refused(SOL_KEY, "not listed")
    log.unsubscribe("SOLUSDT", "b")
    log.subscribe("SOLUSDT", "c")
    assert undo is not None
    assert log.send(encode(undo)) == ()
    assert log.symbols == ["BTCUSDT", "SOLUSDT"]


def test_a_symbol_followed_for_long_stays_when_its_venue_drops_it() -> None:
    log = Log()
    log.subscribe("SOLUSDT", "a")
    log.routing.came(SOL_KEY)
    assert log.routing.refused(SOL_KEY, "delisted") is None
    assert log.routing.refused(("binance", "BTCUSDT"), "delisted") is None
    assert log.symbols == ["BTCUSDT", "SOLUSDT"]
    (answer,) = log.subscribe("SOLUSDT", "b")
    assert (answer.status, answer.error) == ("error", "delisted")


def test_one_removed_before_anything_came_is_answered_with_why() -> None:
    log = Log()
    log.subscribe("SOLUSDT", "a")
    waited, removed = log.unsubscribe("SOLUSDT", "b")
    assert (waited.command_id, waited.status) == ("a", "error")
    assert "removed by b" in waited.error
    assert (removed.command_id, removed.status) == ("b", "success")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"symbol": "AAPL", "venue": "nasdaq"}, "venue is 'nasdaq'; expected a venue out of"),
        ({"symbol": "XBT", "venue_symbol": "BTCUSDT"}, "binance:BTCUSDT, which is followed"),
        ({"symbol": "BTCUSDT", "venue_symbol": "BTCUSDC"}, "binance:BTCUSDT, which is followed"),
    ],
)
def test_what_can_not_be_followed_is_refused_by_name(more: dict[str, str], said: str) -> None:
    log = Log()
    (answer,) = log.subscribe(**more)
    assert answer.status == "error"
    assert said in answer.error
    assert (log.symbols, log.routing.version) == (["BTCUSDT"], 1)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "expected a JSON object"),
        (b"[]", "expected a JSON object"),
        (b"\xff", "expected a JSON object"),
        (b"{}", "version None"),
        (body("subscribe", "SOLUSDT", v=2), "version 2"),
        (body("subscribe", "sol usdt"), "$.symbol"),
        (body("subscribe", "SOLUSDT", venue="Binance!"), "$.venue"),
        (body("subscribe", "SOLUSDT", venue=7), "$.venue"),
        (
            body("set_trading_mode", "SOLUSDT"),
            "'set_trading_mode'; expected one of subscribe, unsub",
        ),
        (body("subscribe", "SOLUSDT", command_id=5), "$.command_id"),
        (body("subscribe", "SOLUSDT", "x" * 129), "$.command_id"),
    ],
)
def test_what_is_no_command_is_refused_and_kept(value: bytes, said: str) -> None:
    log = Log()
    log.values.append(value)
    taken = log.routing.take(0, value)
    assert taken.error is not None
    assert said in str(taken.error)
    if taken.error.command_id:
        (answer,) = taken.answers
        assert (answer.command_id, answer.status) == (taken.error.command_id, "error")
        assert answer.error == str(taken.error)
        assert log.routing.take(1, value).answers == (answer,)
    else:
        assert taken.answers == ()
    assert (log.symbols, log.routing.version, log.routing.applied >= 0) == (["BTCUSDT"], 1, True)


def test_a_removal_outweighs_symbols_until_it_is_added_again() -> None:
    log = Log(BTC, ETH)
    log.unsubscribe("BTCUSDT", "a")
    again = log.restarted(kept(log.routing))
    assert [symbol for _, symbol in again.listings] == ["ETHUSDT"]
    assert again.overruled() == [BTC]
    assert again.version == 2
    log.subscribe("BTCUSDT", "b")
    again = log.restarted(kept(log.routing))
    assert [symbol for _, symbol in again.listings] == ["BTCUSDT", "ETHUSDT"]


def test_symbols_changed_between_two_starts_are_another_set() -> None:
    log = Log(BTC)
    log.subscribe("SOLUSDT", "a")
    again = log.restarted(kept(log.routing), BTC, ETH)
    assert [symbol for _, symbol in again.listings] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert again.version == 3
    assert again.changed


def test_symbols_that_clash_with_what_a_command_has_added_give_way() -> None:
    log = Log(BTC)
    log.subscribe("XSOL", "a", venue_symbol="SOLUSDT")
    again = log.restarted(kept(log.routing), BTC, SOL)
    assert [str(listing) for listing in again.listings.values()] == [
        "binance:BTCUSDT",
        "binance:SOLUSDT>XSOL",
    ]
    assert again.overruled() == [SOL]


def test_whoever_waits_is_answered_after_a_restart() -> None:
    log = Log()
    log.subscribe("SOLUSDT", "a")
    again = log.restarted(kept(log.routing))
    (answer,) = again.came(SOL_KEY)
    assert (answer.command_id, answer.status) == ("a", "success")


def test_the_state_does_not_grow_with_the_commands() -> None:
    log = Log()
    for n in range(ANSWERS_MAX + 50):
        log.subscribe("SOLUSDT", f"a{n}")
        log.routing.came(SOL_KEY)
        log.unsubscribe("SOLUSDT", f"b{n}")
    state = kept(log.routing)
    assert len(state.answers) == ANSWERS_MAX
    assert state.decisions == []


def test_a_state_of_another_version_is_not_read() -> None:
    state = encode(Routing([BTC]).state())
    assert decode_state(state) is not None
    assert decode_state(state.replace(b'"v":1', b'"v":2')) is None
    assert decode_state(b"rubbish") is None
    assert decode_state(None) is None


# --- any sequence ---------------------------------------------------------------------------------

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
steps = st.lists(
    st.tuples(
        st.sampled_from(["subscribe", "unsubscribe", "came", "refused", "rubbish", "again"]),
        st.sampled_from(SYMBOLS),
    ),
    max_size=40,
)


@given(steps=steps, cuts=st.sets(st.integers(0, 40)), keeps=st.sets(st.integers(0, 40)))
def test_any_commands_end_in_the_model_s_set_whenever_the_bridge_restarts(
    steps: list[tuple[str, str]], cuts: set[int], keeps: set[int]
) -> None:
    """After each of ``cuts`` the bridge starts anew, from the state kept after the last of ``keeps``."""
    log = Log(BTC, ETH)
    model = {"BTCUSDT", "ETHUSDT"}
    waiting: set[str] = set()
    state: RoutingState | None = None
    versions = [log.routing.version]
    for n, (step, symbol) in enumerate(steps):
        key = ("binance", symbol)
        before = [*log.routing.listings], log.routing.version
        if step == "subscribe":
            waiting |= {symbol} - model
            model.add(symbol)
            log.subscribe(symbol, f"c{n}")
        elif step == "unsubscribe":
            model.discard(symbol)
            waiting.discard(symbol)
            log.unsubscribe(symbol, f"c{n}")
        elif step == "came" and symbol in waiting:
            waiting.discard(symbol)
            assert all(answer.status == "success" for answer in log.routing.came(key))
            # Success is nothing that a later start could find out from the commands alone.
            state = kept(log.routing)
        elif step == "refused" and symbol in waiting:
            model.discard(symbol)
            waiting.discard(symbol)
            assert all(answer.status == "error" for answer in log.refuse(symbol, "no"))
        elif step == "rubbish":
            assert log.routing.take(len(log.values), b"{").error is not None
            log.values.append(b"{")
            assert ([*log.routing.listings], log.routing.version) == before
        elif step == "again" and log.values:
            log.send(log.values[-1])
            assert ([*log.routing.listings], log.routing.version) == before
        changed = {*before[0]} != {*log.routing.listings}
        assert log.routing.version - before[1] == changed, (
            "raised by each change, and by nothing else"
        )
        if n in keeps:
            state = kept(log.routing)
        if n in cuts:
            answers = {a.command_id: a for a in log.routing.state().answers}
            log.routing = log.restarted(state)
            assert {a.command_id: a for a in log.routing.state().answers} == answers
        assert {*log.symbols} == model
        assert {symbol for _, symbol in log.routing.waiting} == waiting
        versions.append(log.routing.version)
    assert versions == sorted(versions)


@given(steps=steps)
def test_two_bridges_that_read_the_same_commands_have_the_same_set(
    steps: list[tuple[str, str]],
) -> None:
    log = Log(BTC)
    for n, (step, symbol) in enumerate(steps):
        if step in ("subscribe", "unsubscribe"):
            log.send(body(step, symbol, f"c{n}"))
        elif step == "came":
            log.routing.came(("binance", symbol))
        elif step == "refused" and ("binance", symbol) in log.routing.waiting:
            log.refuse(symbol, "no")
    late = log.restarted()
    assert late.listings == log.routing.listings
    assert late.version == log.routing.version


def test_an_answer_can_be_told_from_other_telemetry() -> None:
    answer = Answer(command_id="a", type="subscribe", status="success", routing_version=2)
    said = acknowledgement(answer, "b1", 5)
    assert decode_acknowledgement(encode(said)) == said
    assert said.decision_id == "a"
    other = msgspec.structs.replace(said, event="book.resync")
    assert decode_acknowledgement(encode(other)) is None
    assert decode_acknowledgement(b'{"event":"book.resync"}') is None
    assert decode_acknowledgement(None) is None


# --- merged windows ---------------------------------------------------------------------------------

BTCUSD = (Listing("coinbase", "BTC-USD", "BTCUSD"), Listing("kraken", "BTC/USD", "BTCUSD"))


def merging(log: Log, symbol: str = "BTCUSD", command_id: str = "m1", **more: Any) -> Answer:
    wish = {"v": 1, "type": "merged_subscribe", "command_id": command_id, "symbol": symbol}
    (answer,) = log.send(orjson.dumps(wish | {"kinds": ["trade"]} | more))
    return answer


def unmerging(log: Log, command_id: str = "u1", **more: Any) -> Answer:
    wish = {"v": 1, "type": "merged_unsubscribe", "command_id": command_id, "symbol": "BTCUSD"}
    (answer,) = log.send(orjson.dumps(wish | more))
    return answer


def test_windows_are_merged_of_all_venues_that_list_the_symbol() -> None:
    log = Log(BTC, *BTCUSD)
    answer = merging(log, kinds=["trade", "ticker"])
    assert (answer.status, answer.changed, answer.routing_version) == ("success", True, 2)
    assert (answer.type, answer.venue, answer.symbol) == ("merged_subscribe", "", "BTCUSD")
    assert list(log.routing.merges.values()) == [
        Merge("BTCUSD", kind, ("coinbase", "kraken"), 10.0, 1000) for kind in ("trade", "ticker")
    ]
    again = merging(log, command_id="m2", venues=["kraken", "coinbase"])
    assert (again.status, again.changed, again.routing_version) == ("success", False, 2)
    assert merging(log, window_s=3.0) == answer  # the same id


def test_windows_are_kept_and_go_on_after_a_restart() -> None:
    log = Log(BTC, *BTCUSD)
    merging(log, window_s=0.5, max_events=7)
    assert log.restarted(kept(log.routing)).merges == log.routing.merges
    assert unmerging(log, kinds=["ticker"]).changed is False
    assert unmerging(log, "u2").changed
    assert log.restarted(kept(log.routing)).merges == {}


def test_what_is_merged_in_another_way_is_another_s() -> None:
    log = Log(BTC, *BTCUSD)
    merging(log)
    answer = merging(log, command_id="m2", window_s=2.0)
    assert answer.status == "error"
    assert "merged already (coinbase, kraken, 10 s, 1000 events)" in answer.error
    assert log.routing.merges["BTCUSD", "trade"].window_s == 10.0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"symbol": "BTCUSDT"}, "two or more that list it; BTCUSDT is followed at binance"),
        ({"symbol": "XRPUSD"}, "XRPUSD is followed at none"),
        ({"venues": ["kraken"]}, "venues is ['kraken']; expected two or more"),
        ({"venues": ["kraken", "binance"]}, "BTCUSD is followed at coinbase, kraken"),
        ({"kinds": []}, "kinds is []; expected some of book_delta, book_snapshot"),
        ({"kinds": ["feed_status"]}, "kinds is 'feed_status'; expected some of"),
    ],
)
def test_what_can_not_be_merged_is_refused_by_name(more: dict[str, Any], said: str) -> None:
    log = Log(BTC, *BTCUSD)
    answer = merging(log, **more)
    assert (answer.status, answer.changed) == ("error", False)
    assert said in answer.error
    assert log.routing.version == 1
    assert not log.routing.merges


@pytest.mark.parametrize(
    "more", [{"window_s": 0}, {"window_s": 9e9}, {"max_events": 0}, {"max_events": 1e6}]
)
def test_a_window_out_of_range_is_no_command(more: dict[str, Any]) -> None:
    log = Log(BTC, *BTCUSD)
    answer = merging(log, **more)
    assert answer.status == "error"
    assert "Expected" in answer.error
