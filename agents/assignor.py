"""The one place that decides who gets which partition: rendezvous hashing in the group's leader.

Faust gives every member's metadata to the group's leader, whose assignor deals out the partitions.
This one deals them out by `agents.coordination.hrw`: loads are symbols, holders are whoever had a
partition last, and the second choice of each is told to keep it warm. Leases follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from faust.assignor.client_assignment import ClientAssignment, ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor

from agents.coordination.hrw import STICKY_PCT, Placement, place_symbols
from tapeline.logging import get_logger

log = get_logger("assignor")


class NodeMetadata(ClientMetadata, include_metadata=False, namespace="@ClientMetadata"):  # type: ignore[call-arg, misc, unused-ignore]
    """What a member says of itself when it joins; members of other versions may leave it out.

    Attributes:
        node_id: The node's name.
        weight: Its share, as a multiple of another's; 0 while it drains.
        generation: Of the group, when it was last given partitions.
        started_ms: When its process started.
    """

    node_id: str = ""
    weight: float = 1.0
    generation: int = -1
    started_ms: int = 0


class HrwAssignor(PartitionAssignor):  # type: ignore[misc, unused-ignore]
    """Places partitions by rendezvous hashing.

    Attributes:
        node_id: Who we are.
        weight: What share we want; 0 to be given nothing.
        sticky_pct: See `place`.
        symbols: How many listed symbols each partition has.
        standbys: Partitions of the events topic that we are to keep warm.
        placement: What was decided last, where it was decided here.
        said_weight: The weight that the group was told last; None before it was told any.
    """

    node_id: ClassVar[str] = ""
    sticky_pct: ClassVar[float] = STICKY_PCT
    symbols: ClassVar[Counter[int]] = Counter()
    events_topic: ClassVar[str] = ""
    weight: ClassVar[float] = 1.0
    started_ms: ClassVar[int] = 0
    placement: Placement | None = None
    said_weight: float | None = None

    @property
    def _metadata(self) -> NodeMetadata:
        said = super()._metadata
        self.said_weight = self.weight
        return NodeMetadata(
            assignment=said.assignment,
            url=said.url,
            changelog_distribution=said.changelog_distribution,
            external_topic_distribution=said.external_topic_distribution,
            topic_groups=said.topic_groups,
            node_id=self.node_id,
            weight=self.weight,
            generation=self.app.consumer_generation_id,
            started_ms=self.started_ms,
        )

    @classmethod
    def _get_client_metadata(cls, metadata: Any) -> NodeMetadata:
        loaded: NodeMetadata = NodeMetadata.loads(metadata.user_data)
        return loaded

    @property
    def standbys(self) -> set[int]:
        """Partitions of the events topic that we are to keep warm."""
        return set(self._assignment.standbys.get(self.events_topic, ()))

    def assigned_standbys(self) -> set[Any]:
        """None, to Faust: a warm copy is fed by the events, not by the changelog."""
        return set()

    def _perform_assignment(self, cluster: Any, member_metadata: Mapping[str, Any]) -> Any:
        members = {m: self._get_client_metadata(data) for m, data in member_metadata.items()}
        topics: set[str] = set()
        for data in member_metadata.values():
            topics.update(data.subscription)
        counts = {t: len(cluster.partitions_for_topic(t) or ()) for t in sorted(topics)}
        if missing := [topic for topic, count in counts.items() if not count]:
            log.warning("topic.missing", topics=missing)
        counts = {topic: count for topic, count in counts.items() if count}
        placement = self._place(members, max(counts.values(), default=0))
        events = counts.get(self.events_topic, 0)
        self.placement = placement
        assignments = {
            member: ClientAssignment(
                actives={
                    topic: [p for p in placement.owned(member) if p < count]
                    for topic, count in counts.items()
                },
                standbys={
                    self.events_topic: [p for p in placement.standing_by(member) if p < events]
                },
            )
            for member in members
        }
        self._update_member_urls(members)
        log.info(
            "partitions.placed",
            nodes={_name(members[m], m): len(placement.owned(m)) for m in sorted(members)},
        )
        return self._protocol_assignments(
            assignments,
            self._get_changelog_distribution(assignments),
            self._get_external_topic_distribution(assignments),
            dict.fromkeys(counts, 0),
        )

    def _place(self, members: Mapping[str, NodeMetadata], partitions: int) -> Placement:
        """Of members, not of nodes: for a moment there may be two of one node."""
        # Of two the one that started later lives.
        in_time = sorted(members.items(), key=lambda one: (one[1].started_ms, one[0]))
        by_name = {_name(data, member): member for member, data in in_time}
        weights = {name: members[member].weight for name, member in by_name.items()}
        if not any(weight > 0 for weight in weights.values()):
            weights = dict.fromkeys(weights, 1.0)  # all drain: somebody must have them
        held: dict[int, str] = {}
        # Who was away still names what it had before; who was given it later comes later here.
        for name, member in sorted(by_name.items(), key=lambda one: members[one[1]].generation):
            actives = members[member].assignment.actives.get(self.events_topic, ())
            held |= dict.fromkeys(actives, name)
        counts = {partition: self.symbols[partition] for partition in range(partitions)}
        by_node = place_symbols(counts, weights, held, self.sticky_pct)
        return Placement(
            {partition: by_name[node] for partition, node in by_node.owners.items()},
            {partition: by_name[node] for partition, node in by_node.standbys.items()},
        )

    def seats(self) -> dict[str, list[int]]:
        """Each member's partitions of the events topic, by node, as the leader told all of us."""
        return {
            node_of(url): list(topics.get(self.events_topic, ()))
            for url, topics in self.external_topic_distribution.items()
        }


def url_of(node_id: str) -> str:
    """What Faust knows a member by; never opened."""
    return f"http://tapeline.invalid/{node_id}"


def node_of(url: str) -> str:
    """The node id in a `url_of`; another's whole URL."""
    return url.removeprefix(url_of(""))


def _name(data: NodeMetadata, member: str) -> str:
    """A member of another version has no node id; its own id is as good, while it lasts."""
    return data.node_id or member
