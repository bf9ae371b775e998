"""Faults: each does what it says, is counted, and is the same for the same seed."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.simulator.dialect import Frame
from streams.simulator.fault_rules import FAULTS, Rule, rules_of
from streams.simulator.faults import Faults, Line, by_fault
from streams.simulator.mangling import MANGLERS
from tapeline.errors import ConfigError

ROOT = Path(__file__).parents[4]
NOW_MS = 1_700_000_000_000
BODY = '{"channel":"book","data":[{"symbol":"%s","n":%d,"checksum":123456789}]}'


def frame(number: int, symbol: str = "BTCUSDT", kind: str = "book") -> Frame:
    return Frame(BODY % (symbol, number), f"{symbol.lower()}@{kind}", symbol, kind)


def numbers(frames: list[Frame]) -> list[int]:
    return [json.loads(each.text)["data"][0]["n"] for each in frames]


def line_of(*rules: str, venue: str = "kraken", seed: int = 1) -> tuple[Faults, Line]:
    faults = Faults(seed)
    for text in rules:
        for rule in rules_of(text, venue, NOW_MS):
            faults.add(rule)
    return faults, faults.line(1)


def sent(line: Line, count: int, step_ms: int = 10) -> list[int]:
    """Numbers of the frames that come out of ``count`` that go in, late ones included."""
    out: list[Frame] = []
    for number in range(count):
        now_ms = NOW_MS + number * step_ms
        out += line.due(now_ms)
        out += line.send(frame(number), now_ms)
    return numbers(out + line.due(NOW_MS + 10**6))


def test_without_rules_every_frame_is_sent_as_it_is() -> None:
    faults, line = line_of()
    assert line.send(frame(1), NOW_MS) == [frame(1)]
    assert line.due(NOW_MS + 10**6) == []
    assert faults.state() == {"counts": {}, "totals": {}, "silenced": 0, "rules": [], "log": []}


# --- each kind ---


def test_a_dropped_frame_is_missing() -> None:
    faults, line = line_of("drop#3")
    assert sent(line, 5) == [0, 1, 3, 4]
    assert faults.counts == {"drop": {"BTCUSDT": {"book": 1}}}


def test_a_duplicated_frame_comes_twice() -> None:
    faults, line = line_of("duplicate#2")
    assert sent(line, 4) == [0, 1, 1, 2, 3]
    assert by_fault(faults.counts) == {"duplicate": 1}


def test_a_reordered_frame_changes_places_with_the_next_of_its_stream() -> None:
    faults, line = line_of("reorder#2:BTCUSDT")
    out = line.send(frame(0), NOW_MS) + line.send(frame(1), NOW_MS)
    out += line.send(frame(7, "ETHUSDT"), NOW_MS) + line.send(frame(8, kind="trade"), NOW_MS)
    assert by_fault(faults.counts) == {}
    out += line.send(frame(2), NOW_MS) + line.send(frame(3), NOW_MS)
    assert numbers(out) == [0, 7, 8, 2, 1, 3]
    assert faults.counts == {"reorder": {"BTCUSDT": {"book": 1}}}


def test_a_frame_whose_neighbour_does_not_come_is_late_and_counted_as_that() -> None:
    faults, line = line_of("reorder#1,ms=200")
    assert line.send(frame(0), NOW_MS) == []
    assert line.due(NOW_MS + 199) == []
    assert numbers(line.due(NOW_MS + 200)) == [0]
    assert faults.counts == {"delay": {"BTCUSDT": {"book": 1}}}


def test_a_delayed_frame_is_overtaken() -> None:
    faults, line = line_of("delay#2,ms=25")
    assert sent(line, 6) == [0, 2, 3, 1, 4, 5]
    assert by_fault(faults.counts) == {"delay": 1}


def test_a_frame_that_waits_for_its_neighbour_survives_a_fault_of_the_neighbour() -> None:
    for other in ("truncate#2", "malform#2", "duplicate#2", "huge#2,bytes=500", "checksum#2"):
        _, line = line_of("reorder#1", other)
        out = line.send(frame(0), NOW_MS) + line.send(frame(1), NOW_MS)
        assert frame(0) in out, other
    _, line = line_of("reorder#1", "drop#2")
    out = line.send(frame(0), NOW_MS) + line.send(frame(1), NOW_MS)
    assert numbers(out + line.send(frame(2), NOW_MS)) == [2, 0]


@pytest.mark.parametrize("fault", ["truncate", "malform"])
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(), number=st.integers(0, 10**6))
def test_a_broken_frame_is_no_object_of_the_dialect(fault: str, seed: int, number: int) -> None:
    faults, line = line_of(f"{fault}#1", seed=seed)
    (out,) = line.send(frame(number), NOW_MS)
    with contextlib.suppress(ValueError):
        assert not isinstance(json.loads(out.text), dict)
    assert by_fault(faults.counts) == {fault: 1}


@settings(max_examples=50, deadline=None)
@given(seed=st.integers())
def test_a_wrong_checksum_is_all_that_is_wrong(seed: int) -> None:
    _, line = line_of("checksum#1", seed=seed)
    (out,) = line.send(frame(5), NOW_MS)
    body, own = json.loads(out.text), json.loads(frame(5).text)
    assert 0 <= body["data"][0].pop("checksum") != own["data"][0].pop("checksum")
    assert body == own


def test_a_frame_without_a_checksum_has_none_to_be_wrong() -> None:
    faults, line = line_of("checksum#1")
    plain = Frame('{"a":1}', "x@book", "X", "book")
    assert line.send(plain, NOW_MS) == [plain]
    assert faults.counts == {}


def test_a_huge_frame_says_the_same() -> None:
    _, line = line_of("huge#1,bytes=100000")
    (out,) = line.send(frame(5), NOW_MS)
    assert len(out.text) == 100_000
    assert json.loads(out.text) == json.loads(frame(5).text)


def test_a_hole_leaves_out_numbers_and_no_frame() -> None:
    faults, line = line_of("hole#2,numbers=3", venue="coinbase")
    assert [line.holes("BTC-USD", "book", NOW_MS) for _ in range(3)] == [0, 3, 0]
    assert line.send(frame(1), NOW_MS) == [frame(1)]
    assert faults.counts == {"hole": {"BTC-USD": {"book": 1}}}


def test_a_silent_socket_brings_nothing_for_a_while() -> None:
    faults, line = line_of("silent#3,seconds=0.05")
    assert sent(line, 10) == [0, 1, 7, 8, 9]
    assert not line.half_open(NOW_MS + 30)
    assert (by_fault(faults.counts), faults.silenced) == ({"silent": 1}, 5)
    beat = Frame('{"channel":"heartbeat"}', "", "", "heartbeat")
    line.silent_until_ms = NOW_MS + 10
    assert line.send(beat, NOW_MS) == []
    assert line.send(beat, NOW_MS + 10) == [beat]


def test_a_half_open_connection_hears_and_says_nothing() -> None:
    faults, line = line_of("half_open#1,seconds=5")
    assert line.send(frame(0), NOW_MS) == []
    assert line.half_open(NOW_MS + 4999)
    assert not line.half_open(NOW_MS + 5000)
    assert by_fault(faults.counts) == {"half_open": 1}


def test_what_was_held_back_does_not_get_through_silence() -> None:
    faults, line = line_of("delay#1,ms=50", "silent#2,seconds=1")
    assert line.send(frame(0), NOW_MS) + line.send(frame(1), NOW_MS) == []
    assert line.due(NOW_MS + 500) == []
    assert line.due(NOW_MS + 2000) == []
    assert faults.silenced == 2


def test_a_disconnect_cuts_one_line() -> None:
    faults, line = line_of("disconnect#1")
    other = faults.line(2)
    assert line.send(frame(0), NOW_MS) == [frame(0)]
    other.send(frame(0), NOW_MS)
    assert (line.cut, other.cut) == (True, False)


def test_a_restart_and_refused_connections_are_the_venues() -> None:
    faults, line = line_of("restart#1", "refuse_connections#2,seconds=3")
    assert sent(line, 3) == [0, 1, 2]
    assert (faults.take_restarts(), faults.take_restarts()) == (1, 0)
    assert faults.refuse_until_ms == NOW_MS + 10 + 3000
    assert by_fault(faults.counts) == {"restart": 1, "refuse_connections": 1}


def test_a_limit_and_a_ban_last_as_long_as_they_say() -> None:
    faults, _ = line_of("limit#2,retry_after=2", "ban#4,retry_after=3")
    asked = [
        faults.request("BTCUSDT", "depth", NOW_MS + ms) for ms in (0, 0, 500, 1999, 2000, 2000)
    ]
    assert asked == [("", 0), ("limit", 2), ("limit", 2), ("limit", 1), ("", 0), ("ban", 3)]
    assert faults.request("", "exchangeInfo", NOW_MS + 4999) == ("ban", 1)
    assert faults.counts == {"limit": {"BTCUSDT": {"depth": 1}}, "ban": {"BTCUSDT": {"depth": 1}}}


def test_an_old_snapshot_is_binances() -> None:
    faults, _ = line_of("old_snapshot#1:ETHUSDT:depth", venue="binance")
    assert faults.request("BTCUSDT", "depth", NOW_MS) == ("", 0)
    assert faults.request("ETHUSDT", "depth", NOW_MS) == ("old_snapshot", 0)


# --- when and where ---


def test_a_rule_looks_at_its_symbol_and_kind_only() -> None:
    faults, line = line_of("drop#1:ETHUSDT:trade,count=2")
    out = line.send(frame(0), NOW_MS) + line.send(frame(1, "ETHUSDT"), NOW_MS)
    out += line.send(frame(2, kind="trade"), NOW_MS)
    for number in (3, 4, 5):
        out += line.send(frame(number, "ETHUSDT", "trade"), NOW_MS)
    assert numbers(out) == [0, 1, 2, 5]
    assert faults.counts == {"drop": {"ETHUSDT": {"trade": 2}}}
    assert faults.rules == []


def test_a_rule_by_time_strikes_the_first_frame_from_then_on() -> None:
    faults, line = line_of("drop@0.025")
    assert sent(line, 6) == [0, 1, 2, 4, 5]
    (strike,) = faults.log
    assert (strike.ts_ms, strike.frame, strike.connection) == (NOW_MS + 30, 4, 1)


def test_a_script_strikes_once_however_many_are_connected() -> None:
    faults, line = line_of("drop@0")
    other = faults.line(2)
    assert line.send(frame(0), NOW_MS) == []
    assert other.send(frame(0), NOW_MS) == [frame(0)]
    faults, line = line_of("drop@0,connection=2,count=2")
    other = faults.line(2)
    assert line.send(frame(0), NOW_MS) == [frame(0)]
    assert other.send(frame(0), NOW_MS) + other.send(frame(1), NOW_MS) == []


def test_acks_and_heartbeats_are_left_alone_unless_named() -> None:
    ack = Frame("{}", "", "", "control")
    _, line = line_of("drop%1")
    assert line.send(ack, NOW_MS) == [ack]
    _, line = line_of("drop%1::control")
    assert line.send(ack, NOW_MS) == []
    assert line.send(frame(0), NOW_MS) == [frame(0)]


def test_chance_is_about_as_frequent_as_its_rate() -> None:
    faults, line = line_of("drop%0.05")
    assert 9400 < len(sent(line, 10_000)) < 9600
    assert by_fault(faults.counts)["drop"] == 10_000 - len(sent(line_of("drop%0.05")[1], 10_000))


FEEDS = st.lists(
    st.tuples(st.sampled_from(["BTCUSDT", "ETHUSDT"]), st.sampled_from(["book", "trade"])),
    min_size=50,
    max_size=300,
)
BY_CHANCE = ("drop%0.1", "duplicate%0.1", "delay%0.05", "truncate%0.05", "malform%0.05")


@settings(max_examples=30, deadline=None)
@given(feed=FEEDS, seed=st.integers(0, 1000), other=st.integers(0, 1000))
def test_the_same_seed_has_the_same_faults(
    feed: list[tuple[str, str]], seed: int, other: int
) -> None:
    def run(seed: int) -> tuple[list[Frame], list[object]]:
        faults, line = line_of(*BY_CHANCE, seed=seed)
        out = [f for n, key in enumerate(feed) for f in line.send(frame(n, *key), NOW_MS + n)]
        return out, [*faults.log]

    assert run(seed) == run(seed)
    if seed != other and len(feed) > 200:
        assert run(seed)[1] != run(other)[1]


@settings(max_examples=30, deadline=None)
@given(feed=FEEDS, seed=st.integers(0, 1000))
def test_chance_does_not_depend_on_how_streams_interleave(
    feed: list[tuple[str, str]], seed: int
) -> None:
    def struck(feed: list[tuple[str, str]]) -> set[tuple[str, str, str, int]]:
        faults, line = line_of(*BY_CHANCE, seed=seed)
        for key in feed:
            line.send(frame(0, *key), NOW_MS)
        return {(s.fault, s.symbol, s.kind, s.frame) for s in faults.log}

    assert struck(feed) == struck(sorted(feed))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_frame_is_sent_or_accounted_for(seed: int) -> None:
    """What goes in comes out as often as the counts say, whole or broken."""
    rules = [
        f"{name}%0.05" for name in ("drop", "duplicate", "reorder", "delay", "truncate", "malform")
    ]
    faults, line = line_of(*rules, seed=seed)
    out: list[Frame] = []
    for number in range(200):
        out += line.due(NOW_MS + number)
        out += line.send(frame(number), NOW_MS + number)
    out += line.due(NOW_MS + 10**7)
    totals = Counter(by_fault(faults.counts))
    assert len(out) == 200 - totals["drop"] + totals["duplicate"]
    whole = {each.text for each in out} & {frame(n).text for n in range(200)}
    assert len(whole) == 200 - totals["drop"] - totals["truncate"] - totals["malform"]


def test_cleared_rules_strike_no_more_and_what_is_held_comes() -> None:
    faults, line = line_of("drop%1:ETHUSDT", "delay#1:BTCUSDT")
    assert line.send(frame(0), NOW_MS) == []
    faults.clear()
    assert line.send(frame(1, "ETHUSDT"), NOW_MS) != []
    assert numbers(line.due(NOW_MS + 300)) == [0]


# --- how rules are written ---


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("drop", Rule("drop", at_ms=NOW_MS)),
        ("drop@1.5:BTC/USD:book", Rule("drop", "BTC/USD", "book", at_ms=NOW_MS + 1500)),
        ("kraken=drop#7", Rule("drop", at_ms=NOW_MS, number=7)),
        ("drop%0.25::trade", Rule("drop", None, "trade", at_ms=NOW_MS, rate=0.25)),
        ("delay,ms=5,count=3,connection=2", Rule("delay", at_ms=NOW_MS, count=3, connection=2, params={"ms": 5})),
        ("silent", Rule("silent", at_ms=NOW_MS, params={"seconds": 30})),
    ],
)  # fmt: skip
def test_a_rule_is_read(text: str, rule: Rule) -> None:
    assert rules_of(text, "kraken", NOW_MS) == [rule]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drop at noon", "NAME"),
        ("explode", "one of all, drop"),
        ("drop%0", "a rate above 0"),
        ("drop%2", "a rate above 0"),
        ("drop,ms=5", "count, connection"),
        ("delay,count=0", "a count from 1"),
        ("all", "all%RATE"),
        ("kraken=hole", "hole is coinbase's"),
    ],
)
def test_a_bad_rule_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        rules_of(text, "kraken", NOW_MS)


def test_a_rule_for_another_venue_is_none_of_ours() -> None:
    assert rules_of("coinbase=drop", "kraken", NOW_MS) == []
    assert rules_of("hole", "kraken", NOW_MS) == []


def test_all_by_chance_is_every_fault_that_the_venue_has() -> None:
    names = {rule.fault for rule in rules_of("all%0.01", "kraken", NOW_MS)}
    assert names == set(FAULTS) - {"hole", "old_snapshot"}
    rates = {rule.fault: rule.rate for rule in rules_of("all%0.01", "binance", NOW_MS)}
    assert rates["drop"] == 0.01
    assert rates["restart"] < rates["silent"] < rates["drop"] < rates["old_snapshot"]
    assert set(MANGLERS) <= set(FAULTS)


def test_every_fault_is_explained_with_its_parameters() -> None:
    page = (ROOT / "docs" / "simulator.md").read_text()
    for name, fault in FAULTS.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        told = row.split("|")[3].strip()
        said = ", ".join(f"`{key}` {value}" for key, value in fault.defaults.items())
        assert told == said, name
