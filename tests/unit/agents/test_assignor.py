"""What the group's leader deals out, from what its members say to what each of them hears."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata

from agents.assignor import HrwAssignor, NodeMetadata, url_of
from agents.kafka_app import TABLE_NAME, create_kafka_app
from agents.ledger import CommitLedger
from agents.transport import BatchConsumer
from tapeline.config import load_settings

EVENTS = "md.events.v1"
PARTITIONS = 64
OF_CLASS = ("node_id", "weight", "sticky_pct", "symbols", "events_topic")
SYMBOLS = Counter({3: 2, 17: 1, 40: 1, 41: 1, 55: 1, 60: 3})


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """The assignor is made by Faust, so what it knows of its node is on its class."""
    kept = {name: getattr(HrwAssignor, name) for name in OF_CLASS}
    consumer = {
        name: vars(BatchConsumer)[name]
        for name in ("batch_topics", "ledger")
        if name in vars(BatchConsumer)
    }
    yield
    for name, value in kept.items():
        setattr(HrwAssignor, name, value)
    for name, value in consumer.items():
        setattr(BatchConsumer, name, value)


class Member:
    """One worker's assignor, and its id in the group."""

    def __init__(self, node_id: str, weight: float = 1.0, member: str = "") -> None:
        settings = load_settings(
            {}, node_id=node_id, events_topic=EVENTS, kafka_url="kafka://127.0.0.1:1"
        )
        self.app, _, self.table = create_kafka_app(settings, CommitLedger(), SYMBOLS)
        self.assignor = self.app.assignor
        assert isinstance(self.assignor, HrwAssignor)
        self.id = member or f"nt-{node_id}-1"
        self.node_id, self.weight = node_id, weight
        self.changelog = self.table._changelog_topic_name()
        self.topics = {EVENTS, self.changelog}

    def says(self) -> Any:
        """Its metadata as the leader gets it."""
        HrwAssignor.node_id, HrwAssignor.weight = self.node_id, self.weight
        return self.assignor.metadata(self.topics)

    def actives(self) -> list[int]:
        return sorted(tp.partition for tp in self.assignor.assigned_actives() if tp.topic == EVENTS)


class Cluster:
    """The broker's metadata."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = counts

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        count = self.counts.get(topic)
        return None if count is None else set(range(count))


def cluster_of(member: Member, events: int = PARTITIONS) -> Cluster:
    return Cluster({EVENTS: events, member.changelog: events})


def rebalance(*members: Member, others: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All say what they are, the first deals out, and each hears what it got."""
    said = {member.id: member.says() for member in members} | dict(others or {})
    dealt = members[0].assignor.assign(cluster_of(members[0]), said)
    for member in members:
        member.assignor.on_assignment(dealt[member.id])
    return dict(dealt)


def told(dealt: Any) -> dict[str, list[int]]:
    """Partitions by topic, as the group's protocol has them."""
    return {topic: sorted(partitions) for topic, partitions in dealt.assignment}


def foreign(*partitions: int, url: str = "http://old.invalid") -> Any:
    """What a member of stock Faust says."""
    actives = {EVENTS: list(partitions)} if partitions else {}
    data = ClientMetadata(
        assignment=ClientAssignment(actives=actives, standbys={}),
        url=url,
        changelog_distribution={},
    )
    topics = [EVENTS, f"{load_settings({}).app_id}-{TABLE_NAME}-changelog"]
    return SimpleNamespace(version=4, subscription=topics, user_data=data.dumps())


def test_every_partition_of_every_topic_is_somebody_s_and_the_same_one_s() -> None:
    """An engine's records and its checkpoints belong together."""
    members = [Member(f"n{n}") for n in range(4)]
    dealt = rebalance(*members)
    changelog = members[0].changelog
    for topic in (EVENTS, changelog):
        every = [p for answer in dealt.values() for p in told(answer)[topic]]
        assert sorted(every) == list(range(PARTITIONS))
    for member in members:
        assert set(told(dealt[member.id])) == {EVENTS, changelog}
        assert told(dealt[member.id])[EVENTS] == told(dealt[member.id])[changelog]
        assert member.actives() == told(dealt[member.id])[EVENTS]
        assert member.actives()


def test_each_hears_what_to_keep_warm_which_is_another_s() -> None:
    """Of the events only: a warm copy is fed by them, and Faust is told of no standby at all."""
    members = [Member(f"n{n}") for n in range(4)]
    rebalance(*members)
    warm = [p for member in members for p in member.assignor.standbys]
    assert sorted(warm) == list(range(PARTITIONS))
    for member in members:
        assert member.assignor.standbys.isdisjoint(member.actives())
        assert member.assignor.assigned_standbys() == set()
        assert set(member.assignor._assignment.standbys) == {EVENTS}


def test_who_alone_is_there_has_all_and_keeps_nothing_warm() -> None:
    member = Member("n1")
    assert member.assignor.standbys == set()
    rebalance(member)
    assert member.actives() == list(range(PARTITIONS))
    assert member.assignor.standbys == set()


def test_what_was_dealt_is_dealt_again() -> None:
    """A rebalance for no reason moves nothing, whoever leads it."""
    members = [Member(f"n{n}") for n in range(5)]
    rebalance(*members)
    before = [member.actives() for member in members]
    warm = [member.assignor.standbys for member in members]
    rebalance(*reversed(members))
    assert [member.actives() for member in members] == before
    assert [member.assignor.standbys for member in members] == warm


def test_when_one_goes_its_partitions_go_to_who_has_them_warm() -> None:
    members = [Member(f"n{n}") for n in range(5)]
    rebalance(*members)
    *left, gone = members
    expected = {
        member.id: sorted({*member.actives(), *(member.assignor.standbys & {*gone.actives()})})
        for member in left
    }
    rebalance(*left)
    assert {member.id: member.actives() for member in left} == expected


def test_holders_keep_what_they_have_though_names_would_say_otherwise() -> None:
    """Two partitions exchanged by hand stay where they are."""
    members = [Member(f"n{n}") for n in range(3)]
    rebalance(*members)
    first, second, _ = members
    mine, yours = (next(p for p in m.actives() if not SYMBOLS[p]) for m in (first, second))
    for member, out, into in ((first, mine, yours), (second, yours, mine)):
        for partitions in member.assignor._assignment.actives.values():
            partitions[partitions.index(out)] = into
    rebalance(*members)
    assert yours in first.actives()
    assert mine in second.actives()


def test_symbols_are_spread_by_themselves() -> None:
    """Empty partitions weigh nothing against them, and are spread too."""
    members = [Member(f"n{n}") for n in range(3)]
    rebalance(*members)
    for member in members:
        assert 2 <= sum(SYMBOLS[p] for p in member.actives()) <= 4  # of 9
        assert 15 <= sum(1 for p in member.actives() if not SYMBOLS[p]) <= 25  # of 58


@pytest.mark.parametrize(("seed", "symbols"), [(1, 2), (2, 3), (3, 7), (4, 10)])
def test_few_symbols_stay_where_they_are_while_others_come_and_go(seed: int, symbols: int) -> None:
    """The usual case: some symbols on many partitions. Nothing moves but what it must."""
    rng = random.Random(seed)
    members = [Member(f"node-{rng.randrange(1000)}") for _ in range(4)]
    HrwAssignor.symbols = Counter(dict.fromkeys(rng.sample(range(PARTITIONS), symbols), 1))
    up = list(members)
    rebalance(*up)
    for _ in range(12):
        had = {p: m.id for m in up for p in m.actives()}
        if len(up) > 1 and rng.random() < 0.5:
            gone = up.pop(rng.randrange(len(up)))
            lost = set(gone.actives())
            rebalance(*up)
            assert {p for m in up for p in m.actives() if had[p] != m.id} == lost
            gone.assignor._assignment = ClientAssignment(actives={}, standbys={})
        else:
            rebalance(*up)
            assert {p: m.id for m in up for p in m.actives()} == had
            back = [m for m in members if m not in up]
            up += back[:1]
            rebalance(*up)


def test_who_drains_gets_nothing_and_keeps_nothing_warm() -> None:
    """It has said so when it was about to leave."""
    members = [Member("n1"), Member("n2"), Member("n3")]
    rebalance(*members)
    members[1].weight = 0.0
    rebalance(*members)
    assert members[1].actives() == []
    assert members[1].assignor.standbys == set()
    assert sorted(members[0].actives() + members[2].actives()) == list(range(PARTITIONS))


def test_where_all_drain_somebody_has_them() -> None:
    """Records are applied and kept until the last one goes."""
    members = [Member("n1", 0.0), Member("n2", 0.0)]
    rebalance(*members)
    assert sorted(members[0].actives() + members[1].actives()) == list(range(PARTITIONS))
    assert members[0].actives()
    assert members[1].actives()


def test_a_weight_is_a_share() -> None:
    members = [Member("n1"), Member("n2", 3.0)]
    rebalance(*members)
    assert len(members[1].actives()) > 2 * len(members[0].actives())


def test_members_of_stock_faust_are_dealt_with_as_well() -> None:
    """While a group is upgraded; they have no name but their member id, and the usual weight."""
    member = Member("n1")
    said = HrwAssignor._get_client_metadata(foreign(3))
    assert (said.node_id, said.weight) == ("", 1.0)
    dealt = rebalance(member, others={"old-1": foreign(3, 4, 5), "old-2": foreign()})
    every = [p for answer in dealt.values() for p in told(answer)[EVENTS]]
    assert sorted(every) == list(range(PARTITIONS))
    assert all(told(dealt[name])[EVENTS] for name in ("old-1", "old-2"))
    # They can read what they are sent.
    heard = ClientMetadata.loads(HrwAssignor._decompress(dealt["old-1"].user_data))
    assert heard.url == "http://old.invalid"
    assert sorted(heard.assignment.actives[EVENTS]) == told(dealt["old-1"])[EVENTS]


def test_what_a_member_says_is_read_back_whole() -> None:
    """And by stock Faust, which leaves out what it does not know."""
    member = Member("n7", 2.5)
    rebalance(member)
    said = member.says()
    loaded = HrwAssignor._get_client_metadata(said)
    assert isinstance(loaded, NodeMetadata)
    assert (loaded.node_id, loaded.weight) == ("n7", 2.5)
    assert sorted(loaded.assignment.actives[EVENTS]) == list(range(PARTITIONS))
    assert ClientMetadata.loads(said.user_data).url == loaded.url == url_of("n7")


def test_two_members_of_one_node_are_one_node() -> None:
    """A worker that starts while its dead self is still a member: nothing is dealt out twice."""
    members = [Member("n1"), Member("n2", member="nt-n2-old"), Member("n2", member="nt-n2-young")]
    dealt = rebalance(*members)
    every = [p for answer in dealt.values() for p in told(answer)[EVENTS]]
    assert sorted(every) == list(range(PARTITIONS))
    assert sorted(bool(m.actives()) for m in members[1:]) == [False, True]
    assert members[0].actives()
    assert members[0].assignor.placement is not None


def test_a_topic_that_is_not_there_yet_is_left_out() -> None:
    """Of no partition, nobody is told anything."""
    member, other = Member("n1"), Member("n2")
    said = {one.id: one.says() for one in (member, other)}
    changelog_only = Cluster({member.changelog: 8})
    dealt = member.assignor.assign(changelog_only, said)
    assert [set(told(answer)) for answer in dealt.values()] == [{member.changelog}] * 2
    for one in (member, other):
        one.assignor.on_assignment(dealt[one.id])
        assert one.assignor.standbys == set()
    dealt = member.assignor.assign(Cluster({}), said)
    assert [told(answer) for answer in dealt.values()] == [{}, {}]


def test_what_the_group_was_told_last_is_known() -> None:
    """Each join says it anew."""
    member = Member("a", weight=0.0)
    assert member.assignor.said_weight is None
    member.says()
    assert member.assignor.said_weight == 0.0
    member.weight = 1.0
    member.says()
    assert member.assignor.said_weight == 1.0
