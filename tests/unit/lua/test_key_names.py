"""Key names are contracts: readers in other languages spell them out."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from lua import AcquireCode, Acquired, Keys, PublishCode


def test_names_without_a_cluster_are_those_of_the_contract() -> None:
    keys = Keys()
    assert keys.report("BTCUSDT") == "report:BTCUSDT"
    assert keys.heavy("BTCUSDT") == "report:BTCUSDT:heavy"
    assert keys.trace("BTCUSDT") == "report:BTCUSDT:trace"
    assert keys.tick("BTCUSDT") == "tick:BTCUSDT"
    assert keys.meta("BTCUSDT") == "report:meta:BTCUSDT"
    assert keys.writer("BTCUSDT") == (
        "report:writer:BTCUSDT",
        "report:writer:token:BTCUSDT",
        "report:meta:BTCUSDT",
    )
    assert keys.feed("binance", "BTCUSDT") == (
        "feed:writer:binance:BTCUSDT",
        "feed:writer:token:binance:BTCUSDT",
        "feed:meta:binance:BTCUSDT",
    )
    assert keys.node("n1") == "nt:node:n1"
    assert keys.nodes() == "nt:nodes"
    assert keys.node_stats("n1") == "nt:node:n1:stats"
    assert keys.log_level("n1") == "nt:node:n1:log_level"
    assert keys.bridge("b1") == "nt:bridge:b1"
    assert keys.bridges() == "nt:bridges"
    assert keys.starts("worker", "n1") == "nt:starts:worker:n1"
    assert keys.feed_minutes("kraken", "BTCUSD") == "nt:feed:minutes:kraken:BTCUSD"
    assert keys.merged("BTCUSD") == "merged:BTCUSD"
    assert keys.topic_epoch("md.events.v1") == "nt:topic:epoch:md.events.v1"
    assert keys.events("BTCUSDT") == "events:BTCUSDT"


def test_in_a_cluster_all_keys_of_a_symbol_share_a_slot() -> None:
    keys = Keys(cluster=True)
    assert keys.report("BTCUSDT") == "report:{BTCUSDT}"
    mine = [
        keys.report("BTCUSDT"),
        keys.heavy("BTCUSDT"),
        keys.trace("BTCUSDT"),
        keys.tick("BTCUSDT"),
        keys.events("BTCUSDT"),
        *keys.writer("BTCUSDT"),
        *keys.feed("binance", "BTCUSDT"),
    ]
    assert len({key_slot(key.encode()) for key in mine}) == 1
    assert key_slot(keys.report("ETHUSDT").encode()) != key_slot(mine[0].encode())


def test_in_a_cluster_the_keys_of_a_heartbeat_share_a_slot() -> None:
    keys = Keys(cluster=True)
    assert key_slot(keys.node("n1").encode()) == key_slot(keys.nodes().encode())


@pytest.mark.parametrize("cluster", [False, True])
def test_a_node_s_other_keys_are_no_heartbeat(cluster: bool) -> None:
    keys = Keys(cluster=cluster)
    assert keys.node_of(keys.node("n.1-a_b")) == "n.1-a_b"
    others = (keys.node_stats("n1"), keys.nodes(), keys.bridge("n1"), "n1", "")
    assert [keys.node_of(key) for key in others] == [""] * 5


@pytest.mark.parametrize("cluster", [False, True])
def test_whose_report_a_key_belongs_to_is_read_off_its_name(cluster: bool) -> None:
    keys, other = Keys(cluster=cluster), Keys(cluster=not cluster)
    mine = [keys.report("B.T-1"), keys.heavy("B.T-1"), *keys.writer("B.T-1")]
    assert [keys.symbol_of(key) for key in mine] == ["B.T-1"] * 5
    foreign = [keys.tick("A"), keys.feed("binance", "A").lease, keys.node("A"), "report:a:b", "A"]
    foreign.append(keys.trace("A"))
    assert [keys.symbol_of(key) for key in foreign] == [""] * 6
    if cluster:
        assert keys.symbol_of(other.report("BTCUSDT")) == ""


@pytest.mark.parametrize(
    ("value", "holder"),
    [("n1|abc|7", ("n1", "abc")), ("somebody", ("somebody", "")), ("a|b|c|d", ("a|b|c|d", ""))],
)
def test_a_lease_names_its_holder(value: str, holder: tuple[str, str]) -> None:
    assert Acquired(AcquireCode.HELD, 7, value, 100, 0, 0).holder == holder


def test_a_repeated_write_counts_as_stored() -> None:
    assert [code for code in PublishCode if code.stored] == [PublishCode.OK, PublishCode.DUPLICATE]
