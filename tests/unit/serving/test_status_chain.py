"""The chain as it is judged, of facts made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.reader import aged
from serving.status.chain import status_of
from serving.status.facts import (
    HEAD_BYTES,
    BridgeBeat,
    BridgeFacts,
    Broker,
    Facts,
    Feed,
    NodeBeat,
    NodeFacts,
    NodeStats,
    Partition,
    ReaderFacts,
    StoreFacts,
    SymbolFacts,
    Venue,
    bridge_beat,
    node_beat,
    node_stats,
    symbol_facts,
)
from serving.status.feed import words_of
from serving.status.models import Stage, Status
from tests.support.imports import ROOT
from tests.support.reports import BARE, stored

NOW_MS = 1_800_000_000_000
BTC, ETH = "BTCUSDT", "ETHUSDT"


def feed(**changed: Any) -> Feed:
    well = Feed(
        book="in_sync", token=9, records_per_s=50.0, last_record_age_ms=20, gaps=0, resyncs=0
    )
    return msgspec.structs.replace(well, **changed)


def bridge(feeds: Mapping[str, Feed], *, age_ms: int | None = 400, **changed: Any) -> BridgeFacts:
    venues = {name.partition(":")[0]: VENUE for name in feeds}
    beat = BridgeBeat(
        hostname="h", pid=41, version="0.1.0", started_at=NOW_MS - 60_000, topic="md.events.v1",
        partitions=64, broker=BROKER, venues=venues, feeds=dict(feeds),
    )  # fmt: skip
    return BridgeFacts(beat=msgspec.structs.replace(beat, **changed), age_ms=age_ms)


VENUE = Venue(connected=True, frame_age_ms=12, frames_per_s=80.0, symbols=2, in_sync=2)
BROKER = Broker(connected=True, acknowledged_per_s=100.0)
STATS = NodeStats(
    status="ok", complete=True, owned=2, rate_per_s=99.0, lag=3, partitions=[Partition(3, 7, 10, 3)]
)
NODE = NodeFacts(
    beat=NodeBeat(hostname="h", pid=42, started_at=NOW_MS - 5_000, last_heartbeat=NOW_MS),
    age_ms=300,
    stats=STATS,
    listens=True,
)


def symbol(name: str = BTC, *, owner: str = "w1", **changed: Any) -> SymbolFacts:
    payload = stored(name, now_ms=NOW_MS - 90, **changed)
    return SymbolFacts(
        owner=owner, lease_ms=1_500, token=7, seq=1, updated_at=NOW_MS - 90, stored=True,
        report=aged(payload, NOW_MS), venue="binance", book="ok", partition=37, offset=231,
    )  # fmt: skip


WELL = Facts(
    at_ms=NOW_MS,
    store=StoreFacts(took_ms=0.4, version="9.1", role="master", up_s=10.0, accepted_per_s=8.0),
    reader=ReaderFacts(id="r", version="0.1.0", pid=1, started_at=NOW_MS - 1_000),
    bridges={"b1": bridge({f"binance:{BTC}": feed(), f"binance:{ETH}": feed()})},
    nodes={"w1": NODE},
    symbols={BTC: symbol(BTC), ETH: symbol(ETH)},
)


def stages(status: Status) -> dict[str, Stage]:
    return {stage.stage: stage for stage in status.chain}


def told(facts: Facts) -> dict[str, str]:
    return {stage.stage: stage.state for stage in status_of(facts).chain}


def with_bridge(**changed: Any) -> Facts:
    feeds = {f"binance:{BTC}": feed(), f"binance:{ETH}": feed()}
    return replace(WELL, bridges={"b1": bridge(feeds, **changed)})


def with_node(**changed: Any) -> Facts:
    return replace(WELL, nodes={"w1": replace(NODE, **changed)})


def test_a_whole_chain_is_well_and_every_figure_is_told() -> None:
    status = status_of(WELL)
    assert (status.state, status.sentence) == ("ok", "all is well")
    chain = stages(status)
    assert [*chain] == ["feed", "topic", "workers", "redis", "reader"]
    figures = {
        name: (stage.rate_per_s, stage.lag, stage.age_ms, stage.restarts)
        for name, stage in chain.items()
    }
    assert figures == {
        "feed": (80.0, None, 12, 0),
        "topic": (100.0, 0, 0, None),
        "workers": (99.0, 3, 300, 0),
        "redis": (8.0, 0.4, 90, None),
        "reader": (None, None, 0, None),
    }
    assert (chain["topic"].topic, chain["topic"].partitions) == ("md.events.v1", 64)
    one = status.symbols[0]
    assert (one.symbol, one.owner, one.token, one.seq, one.lease_ms) == (BTC, "w1", 7, 1, 1_500)
    assert (one.report_age_ms, one.data_age_ms, one.partition, one.offset) == (90, 130, 37, 231)
    assert [f.stream_id for f in one.feeds] == [f"binance:{BTC}"]


def test_a_figure_that_nobody_tells_is_null_with_a_reason() -> None:
    for facts in (WELL, Facts(at_ms=NOW_MS), replace(WELL, store=StoreFacts(error="away"))):
        for stage in status_of(facts).chain:
            for figure in ("rate_per_s", "lag", "age_ms", "restarts"):
                assert (getattr(stage, figure) is None) == bool(stage.unknown.get(figure)), stage


def test_runbooks_are_named_where_something_is_wrong_and_exist() -> None:
    text = (ROOT / "docs/runbooks/troubleshooting.md").read_text()
    anchors = {line[3:].lower().replace(" ", "-") for line in text.split("\n") if line[:3] == "## "}
    ill = [
        Facts(at_ms=NOW_MS),
        replace(WELL, store=StoreFacts(error="away")),
        with_bridge(broker=Broker()),
        replace(WELL, symbols={BTC: symbol(owner="")}),
        replace(WELL, symbols={}),
        with_bridge(venues={}),
        with_node(stats=msgspec.structs.replace(STATS, status="stalled")),
    ]
    for facts in [WELL, *ill]:
        status = status_of(facts)
        for one in [*status.chain, *status.symbols]:
            if one.state == "ok":
                assert one.runbook == ""
            else:
                path, _, anchor = one.runbook.partition("#")
                assert path == "docs/runbooks/troubleshooting.md"
                assert anchor in anchors, anchor


# --- feed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "state", "words"),
    [
        ({"book": "out_of_sync"}, "degraded", "out of sync"),
        ({"book": "unlisted"}, "down", "does not list it"),
        ({"book": "nonsense"}, "degraded", "out of sync"),
        ({"token": 0}, "degraded", "no bridge holds its lease"),
        ({"last_record_age_ms": 1_900}, "degraded", "for 2.3 s"),
        ({"last_record_age_ms": 20_000}, "down", "for 20 s"),
    ],
)
def test_a_feed_is_judged_by_what_its_bridge_says(
    changed: dict[str, Any], state: str, words: str
) -> None:
    feeds = {f"binance:{BTC}": feed(**changed), f"binance:{ETH}": feed()}
    status = status_of(replace(WELL, bridges={"b1": bridge(feeds)}))
    sight = status.feeds[0]
    assert sight.state == state
    assert words in sight.sentence
    stage = stages(status)["feed"]
    assert stage.state == "degraded"
    assert stage.sentence.startswith(f"1 of 2 feeds not well: binance:{BTC}: ")
    assert status.symbols[0].state == "degraded"
    assert status.symbols[1].state == "ok"


@pytest.mark.parametrize("age_ms", [None, 3_001])
def test_a_bridge_that_is_silent_is_a_feed_that_is_down(age_ms: int | None) -> None:
    status = status_of(with_bridge(age_ms=age_ms))
    assert told(with_bridge(age_ms=age_ms))["feed"] == "down"
    assert stages(status)["feed"].sentence == "no bridge is running: b1 fell silent"
    assert {one.state for one in status.feeds} == {"down"}
    assert status.state == "down"
    assert status.sentence.startswith("feed: no bridge")


def test_of_two_bridges_the_one_that_writes_speaks() -> None:
    name = f"binance:{BTC}"
    idle = bridge({name: feed(token=0, records_per_s=None)})
    facts = replace(WELL, bridges={"a": idle, "b": bridge({name: feed(token=4)})})
    [sight] = status_of(facts).feeds
    assert (sight.bridge, sight.state) == ("b", "ok")
    # The one that wrote has gone, with the higher token: whoever lives speaks.
    facts = replace(WELL, bridges={"a": idle, "b": bridge({name: feed(token=4)}, age_ms=None)})
    [sight] = status_of(facts).feeds
    assert (sight.bridge, sight.state) == ("a", "degraded")


def test_a_venue_without_a_socket_is_down_for_its_feeds_alone() -> None:
    feeds = {f"binance:{BTC}": feed(), f"kraken:{ETH}": feed()}
    venues = {"binance": VENUE, "kraken": Venue(connected=False)}
    status = status_of(replace(WELL, bridges={"b1": bridge(feeds, venues=venues)}))
    assert [one.state for one in status.feeds] == ["ok", "down"]
    assert stages(status)["feed"].state == "degraded"
    part = stages(status)["feed"].parts[0]
    assert (part.state, part.sentence) == ("degraded", "no connection to kraken")  # type: ignore[union-attr]


# --- topic ----------------------------------------------------------------------------------------


def test_a_broker_that_takes_nothing_is_down() -> None:
    outage = msgspec.structs.replace(BROKER, outage=True, records=500, age_ms=9_000)
    waits = msgspec.structs.replace(STATS, outages={"broker": {}})
    assert told(with_bridge(broker=outage))["topic"] == "degraded"  # the worker reaches it
    facts = replace(with_bridge(broker=outage), nodes={"w1": replace(NODE, stats=waits)})
    topic = stages(status_of(facts))["topic"]
    assert (topic.state, topic.lag, topic.age_ms) == ("down", 500, 9_000)


def test_without_anybody_to_tell_the_topic_is_not_known() -> None:
    topic = stages(status_of(replace(WELL, bridges={}, nodes={})))["topic"]
    assert topic.state == "degraded"
    assert topic.sentence.startswith("not known")


# --- workers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "presence"),
    [
        ({"listens": False}, "vanished"),
        ({"age_ms": 3_001}, "silent"),
        ({"age_ms": None}, "gone"),
        ({"beat": None}, "silent"),
    ],
)
def test_a_worker_that_is_not_there_is_down(changed: dict[str, Any], presence: str) -> None:
    stage = stages(status_of(with_node(**changed)))["workers"]
    assert (stage.state, stage.parts[0].presence) == ("down", presence)  # type: ignore[union-attr]
    both = replace(WELL, nodes={"w0": NODE, "w1": replace(NODE, **changed)})
    assert told(both)["workers"] == "ok"


def test_where_we_may_not_ask_who_listens_heartbeats_decide() -> None:
    assert told(with_node(listens=None))["workers"] == "ok"


def test_workers_are_judged_by_their_own_word_by_leases_and_by_lag() -> None:
    replaced = msgspec.structs.replace
    assert told(with_node(stats=replaced(STATS, status="stalled")))["workers"] == "down"
    waits = status_of(with_node(stats=replaced(STATS, outages={"redis": {}})))
    assert stages(waits)["workers"].sentence == "1 of 1 worker not well: w1: it waits for redis"
    assert told(with_node(stats=replaced(STATS, complete=False)))["workers"] == "degraded"
    assert told(with_node(stats=replaced(STATS, lag=2_000)))["workers"] == "degraded"
    assert told(with_node(stats=replaced(STATS, lag=900)))["workers"] == "ok"
    orphan = replace(WELL, symbols={BTC: symbol(owner=""), ETH: symbol(ETH)})
    assert told(orphan)["workers"] == "degraded"
    stage = stages(status_of(orphan))["workers"]
    assert stage.sentence == f"1 of 2 symbols without a writer: {BTC}"
    assert stage.runbook.endswith("#symbol-without-a-writer")


# --- Redis, symbols -------------------------------------------------------------------------------


def test_without_redis_the_rest_is_not_known_and_is_not_called_down() -> None:
    status = status_of(Facts(at_ms=NOW_MS, store=StoreFacts(error="refused")))
    assert [stage.state for stage in status.chain] == ["degraded"] * 3 + ["down", "ok"]
    assert status.sentence == "redis: Redis does not answer: refused"


@pytest.mark.parametrize(
    ("one", "state", "words"),
    [
        (symbol(data_age_ms=2_500), "down", "stale"),
        (symbol(data_age_ms=1_500), "degraded", "its newest data is"),
        (symbol(data_age_ms=None), "down", "no data yet"),
        (symbol(owner=""), "degraded", "nobody holds its lease"),
        (SymbolFacts(owner="w1"), "down", "no report is stored"),
        (SymbolFacts(owner="w1", stored=True), "down", "no report"),
        (replace(symbol(), book="gap", reason="sequence"), "degraded", "gap: sequence"),
    ],
)
def test_a_symbol_is_judged_by_its_report_and_its_lease(
    one: SymbolFacts, state: str, words: str
) -> None:
    sight = status_of(replace(WELL, symbols={BTC: one, ETH: symbol(ETH)})).symbols[0]
    assert (sight.symbol, sight.state) == (BTC, state)
    assert words in sight.sentence


def test_stale_symbols_are_told_of_even_where_all_stages_are_well() -> None:
    status = status_of(replace(WELL, symbols={BTC: symbol(data_age_ms=9_000), ETH: symbol(ETH)}))
    assert status.state == "degraded"
    assert status.sentence.startswith(f"1 of 2 symbols not well: {BTC}: stale")


def test_a_symbol_of_which_only_its_order_is_left_is_not_told_of() -> None:
    """It was followed once; that is kept for ever."""
    past = SymbolFacts(token=7, seq=1, updated_at=NOW_MS - 10**7)
    status = status_of(replace(WELL, symbols={**WELL.symbols, "OLDUSDT": past}))
    assert [one.symbol for one in status.symbols] == [BTC, ETH]
    assert status.state == "ok"


# --- what lies in Redis ---------------------------------------------------------------------------


def test_the_head_of_a_report_tells_its_age() -> None:
    payload = stored(now_ms=NOW_MS - 90)
    one = symbol_facts(b"w1|x|7", 900, [b"7", b"1", b"5"], payload[:HEAD_BYTES], NOW_MS)
    assert one.report is not None
    assert one.report.data_age_ms == aged(payload, NOW_MS).data_age_ms == 130
    assert (one.owner, one.lease_ms, one.token, one.seq, one.updated_at) == ("w1", 900, 7, 1, 5)
    assert (one.venue, one.partition, one.offset) == ("binance", 37, 231)
    bare = symbol_facts(None, -2, [None] * 3, BARE[:HEAD_BYTES], NOW_MS)
    assert bare.report is not None
    assert bare.report.data_age_ms is None


def test_the_head_fits_whatever_the_topic_is_called() -> None:
    payload = stored("A" * 32).replace(b"md.events.v1", b"t" * 200).replace(b"node-a", b"n" * 64)
    assert b',"last_price":' in payload[: HEAD_BYTES - 300]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["feeds", "venues", "broker", "binance:BTCUSDT", "binance", "book", "token", "lag",
                 "partitions", "started_at", "outages", "state", "status", "seq", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)  # fmt: skip
payloads = st.none() | st.binary(max_size=40) | json_like.map(msgspec.json.encode) | st.integers()
ages = st.none() | st.integers(-10, 10_000)


@given(
    bridges=st.dictionaries(st.text(max_size=5), st.tuples(payloads, ages), max_size=3),
    nodes=st.dictionaries(
        st.text(max_size=5),
        st.tuples(payloads, ages, payloads, st.none() | st.booleans()),
        max_size=3,
    ),
    symbols=st.dictionaries(
        st.sampled_from([BTC, ETH, "X"]),
        st.tuples(
            payloads, ages, st.none() | st.lists(payloads, max_size=4), payloads | st.just(BARE)
        ),
        max_size=3,
    ),
    error=st.sampled_from(["", "away"]),
)
def test_whatever_lies_in_redis_the_status_is_told(
    bridges: dict[str, Any], nodes: dict[str, Any], symbols: dict[str, Any], error: str
) -> None:
    facts = Facts(
        at_ms=NOW_MS,
        store=StoreFacts(error=error),
        bridges={n: BridgeFacts(beat=bridge_beat(p), age_ms=a) for n, (p, a) in bridges.items()},
        nodes={
            n: NodeFacts(beat=node_beat(p), age_ms=a, stats=node_stats(s), listens=listens)
            for n, (p, a, s, listens) in nodes.items()
        },
        symbols={
            n: symbol_facts(lease, ttl, meta, head, NOW_MS)
            for n, (lease, ttl, meta, head) in symbols.items()
        },
    )
    status = status_of(facts)
    assert Status.model_validate_json(status.model_dump_json()) == status
    assert len(status.chain) == 5


# --- what the hub says ----------------------------------------------------------------------------


def test_the_hub_says_of_each_symbol_how_its_chain_is() -> None:
    words = words_of(status_of(with_node(listens=False)))
    said = words(BTC)
    assert (said["state"], said["feeds"]) == ("ok", {f"binance:{BTC}": "ok"})
    assert said["chain"]["state"] == "down"
    assert said["chain"]["stages"] == {
        "feed": "ok",
        "topic": "ok",
        "workers": "down",
        "redis": "ok",
        "reader": "ok",
    }
    assert [*words("UNKNOWN")] == ["chain"]
