"""Names of a system beside another one: never the other's, and what both share is shared."""

from __future__ import annotations

import re

import pytest
from redis.crc import key_slot

from lua import Keys
from lua.keys import RESERVED
from tapeline import config_beside
from tapeline.config import load_settings
from tests.support.imports import PACKAGES, ROOT


def owned(keys: Keys) -> list[str]:
    """All names of workers, and of what they write."""
    return [
        keys.report("BTCUSDT"),
        keys.heavy("BTCUSDT"),
        keys.trace("BTCUSDT"),
        keys.tick("BTCUSDT"),
        keys.meta("BTCUSDT"),
        *keys.writer("BTCUSDT"),
        keys.node("n1"),
        keys.nodes(),
        keys.node_stats("n1"),
        keys.log_level("n1"),
        keys.alive("n1"),
        keys.handover(),
        keys.starts("worker", "n1"),
        keys.topic_epoch("md.events.v1"),
        keys.events("BTCUSDT"),
        keys.merged("BTCUSDT"),
        keys.mcp_events(),
    ]


def shared(keys: Keys) -> list[str]:
    """Names of bridges, keys and orders."""
    return [
        *keys.feed("binance", "BTCUSDT"),
        keys.bridge("b1"),
        keys.bridges(),
        keys.starts("bridge", "b1"),
        keys.feed_minutes("binance", "BTCUSDT"),
        keys.api_keys(),
        keys.queries("k1"),
        keys.executions("BTCUSDT"),
    ]


@pytest.mark.parametrize("cluster", [False, True])
def test_what_workers_have_is_their_own_and_all_else_is_shared(cluster: bool) -> None:
    live, beside = Keys(cluster=cluster), Keys(cluster=cluster, suffix="nt")
    assert [name + ":nt" for name in owned(live)] == owned(beside)
    assert not set(owned(live)) & set(owned(beside))
    assert shared(live) == shared(beside)
    assert Keys(suffix="nt").report("BTCUSDT") == "report:BTCUSDT:nt"
    assert Keys(suffix="nt").every_report() == "report:*:nt"
    assert Keys(suffix="nt").every_tick() == "tick:*:nt"


def test_every_method_that_names_something_is_one_or_the_other() -> None:
    """A new one has to be put into one of the two lists above."""
    names = {name for name in vars(Keys) if not name.startswith("_")}
    patterns = {
        "every_report",
        "every_tick",
        "every_node",
        "announces",
        "symbol_of",
        "node_of",
        "of",
    }
    of_workers = {
        "report", "heavy", "tick", "meta", "writer", "node", "nodes", "node_stats", "log_level", "trace", "alive",
        "handover", "starts", "topic_epoch", "events", "merged", "mcp_events",
    }  # fmt: skip
    of_all = {"feed", "bridge", "bridges", "feed_minutes", "api_keys", "queries", "executions"}
    assert names == patterns | of_workers | of_all


@pytest.mark.parametrize("cluster", [False, True])
def test_neither_takes_the_other_s_keys_for_its_own(cluster: bool) -> None:
    live, beside = Keys(cluster=cluster), Keys(cluster=cluster, suffix="nt")
    third = Keys(cluster=cluster, suffix="x-nt")
    for ours, others in ((live, (beside, third)), (beside, (live, third)), (third, (live, beside))):
        assert ours.symbol_of(ours.report("BTCUSDT")) == "BTCUSDT"
        assert ours.symbol_of(ours.heavy("BTCUSDT")) == "BTCUSDT"
        assert ours.node_of(ours.node("n1")) == "n1"
        assert ours.node_of(ours.node_stats("n1")) == ""
        assert ours.announces(ours.report("BTCUSDT").encode())
        assert ours.announces(ours.tick("BTCUSDT"))
        assert not ours.announces(ours.heavy("BTCUSDT"))
        for other in others:
            assert ours.symbol_of(other.report("BTCUSDT")) == ""
            assert ours.symbol_of(other.heavy("BTCUSDT")) == ""
            assert ours.node_of(other.node("n1")) == ""
            assert not ours.announces(other.report("BTCUSDT"))
            assert not ours.announces(other.tick("BTCUSDT").encode())


def test_in_a_cluster_a_symbol_s_keys_still_share_a_slot() -> None:
    keys = Keys(cluster=True, suffix="nt")
    mine = [keys.report("X"), keys.heavy("X"), keys.tick("X"), *keys.writer("X")]
    assert len({key_slot(name.encode()) for name in mine}) == 1
    assert key_slot(keys.node("n1").encode()) == key_slot(keys.nodes().encode())


def test_a_suffix_that_would_make_one_key_of_two_is_refused() -> None:
    """``report:X:heavy`` has a meaning already."""
    assert set(RESERVED) == set(config_beside._TAKEN)
    for word in RESERVED:
        with pytest.raises(ValueError, match="suffix"):
            Keys(suffix=word)


def test_names_are_made_of_the_settings_everywhere() -> None:
    """Made of one of them alone, they would be the live system's whatever the suffix."""
    assert Keys.of(load_settings({"NT_REPORT_SUFFIX": "nt"})).report("X") == "report:X:nt"
    settings = load_settings({"NT_REPORT_SUFFIX": "nt", "NT_REDIS_CLUSTER_KEYS": "true"})
    assert Keys.of(settings).report("X") == "report:{X}:nt"
    guilty = [
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"\bKeys\(cluster=settings\.\w+\)", path.read_text())
    ]
    assert guilty == []
