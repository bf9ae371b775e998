"""Names of everything Tapeline keeps in Redis. Scripts are given names and never build any."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol, Self

# The report itself, the long lists beside it, and the three keys of the lease on both.
_OF_A_REPORT: Final = r"report:(?:meta:|writer:|writer:token:)?([^:]+)(?::heavy)?"
_CHANNEL: Final = r"(?:report|tick):[^:]+"

RESERVED: Final = ("heavy", "log_level", "stats", "trace")
"""Last words of keys that have no suffix."""


class LeaseKeys(NamedTuple):
    """The three keys of one lease; in one hash slot with the cluster option.

    Attributes:
        lease: The lease, ``node|incarnation|token``; expires.
        counter: The newest token granted; never expires.
        meta: The last accepted write; never expires.
    """

    lease: str
    counter: str
    meta: str


class KeySettings(Protocol):
    """The settings that names depend on."""

    @property
    def redis_cluster_keys(self) -> bool:
        """Whether symbols stand in braces."""
        ...

    @property
    def report_suffix(self) -> str:
        """Last word of all names of a system beside another one; '' for the one there is."""
        ...


class Keys:
    """Key names.

    Args:
        cluster: Put the symbol in braces, so that Redis Cluster keeps all keys of a symbol in
            one hash slot and one script may touch them: ``report:{BTCUSDT}``.
        suffix: Last word of every key and channel of workers and of what they write, for a
            system that runs beside another one: ``report:BTCUSDT:nt``. What bridges, keepers of
            API keys and orders have is shared by both, and has none.

    Raises:
        ValueError: The suffix is one of `RESERVED`.
    """

    def __init__(self, *, cluster: bool = False, suffix: str = "") -> None:
        if suffix in RESERVED:
            raise ValueError(f"suffix {suffix!r}")
        self._tag = "{%s}" if cluster else "%s"
        # Its two membership keys share a script as well, and so a slot.
        self._node_prefix = "{nt}" if cluster else "nt"
        self._end = f":{suffix}" if suffix else ""
        self._of_a_report = re.compile(_OF_A_REPORT + re.escape(self._end))
        self._channel = re.compile(_CHANNEL + re.escape(self._end))

    @classmethod
    def of(cls, settings: KeySettings) -> Self:
        """The names that these settings give."""
        return cls(cluster=settings.redis_cluster_keys, suffix=settings.report_suffix)

    def report(self, symbol: str) -> str:
        """The report; also the channel on which it is announced."""
        return f"report:{self._tag % symbol}{self._end}"

    def heavy(self, symbol: str) -> str:
        """The long lists of a report that was split."""
        return f"report:{self._tag % symbol}:heavy{self._end}"

    def trace(self, symbol: str) -> str:
        """Which trace the newest sampled report is of: ``token.seq traceparent``; expires."""
        return f"report:{self._tag % symbol}:trace{self._end}"

    def tick(self, symbol: str) -> str:
        """Last trade and top of book; also the channel on which it is announced."""
        return f"tick:{self._tag % symbol}{self._end}"

    def meta(self, symbol: str) -> str:
        """Order and watermark of the last accepted report."""
        return f"report:meta:{self._tag % symbol}{self._end}"

    def writer(self, symbol: str) -> LeaseKeys:
        """The lease on writing a symbol's report and tick."""
        tagged = f"{self._tag % symbol}{self._end}"
        return LeaseKeys(
            f"report:writer:{tagged}", f"report:writer:token:{tagged}", f"report:meta:{tagged}"
        )

    def feed(self, venue: str, symbol: str) -> LeaseKeys:
        """The lease on writing a symbol's events of one venue to the topic."""
        tagged = f"{venue}:{self._tag % symbol}"
        return LeaseKeys(
            f"feed:writer:{tagged}", f"feed:writer:token:{tagged}", f"feed:meta:{tagged}"
        )

    def node(self, node_id: str) -> str:
        """A node's heartbeat."""
        return f"{self._node_prefix}:node:{node_id}{self._end}"

    def nodes(self) -> str:
        """All nodes by their last heartbeat."""
        return f"{self._node_prefix}:nodes{self._end}"

    def alive(self, node_id: str) -> str:
        """The channel that a node listens on for as long as its process lives."""
        return f"{self._node_prefix}:alive:{node_id}{self._end}"

    def handover(self) -> str:
        """The channel on which nodes say that they are about to leave."""
        return f"{self._node_prefix}:handover{self._end}"

    def every_report(self) -> str:
        """A pattern that all keys of reports match, and the channels they are announced on."""
        return f"report:*{self._end}"

    def announces(self, channel: bytes | str) -> bool:
        """Whether it is a channel of these names: the patterns match others' too."""
        name = channel.decode(errors="replace") if isinstance(channel, bytes) else channel
        return self._channel.fullmatch(name) is not None

    def symbol_of(self, key: str) -> str:
        """Whose report a key belongs to; '' where it is no key of a report, or of other braces."""
        match = self._of_a_report.fullmatch(key)
        if match is None:
            return ""
        before, after = self._tag.split("%s")
        tagged = match[1]
        if not (tagged.startswith(before) and tagged.endswith(after)):
            return ""
        return tagged[len(before) : len(tagged) - len(after)]

    def every_node(self) -> str:
        """A pattern that all heartbeats match."""
        return self.node("*")

    def mcp_events(self) -> str:
        """The channel on which MCP servers tell each other's listeners of changes."""
        return f"nt:mcp:events{self._end}"

    def node_stats(self, node_id: str) -> str:
        """How far a node is, beside its heartbeat."""
        return f"{self._node_prefix}:node:{node_id}:stats{self._end}"

    def log_level(self, node_id: str) -> str:
        """Level of logs of a node's processes, ``*`` for all nodes: no node's name has one."""
        return f"{self._node_prefix}:node:{node_id}:log_level{self._end}"

    def node_of(self, key: str) -> str:
        """Whose heartbeat a key is; '' where it is none. No node's name has a colon."""
        before, after = f"{self._node_prefix}:node:", self._end
        if not (key.startswith(before) and key.endswith(after)):
            return ""
        name = key[len(before) : len(key) - len(after)]
        return "" if ":" in name else name

    def bridge(self, bridge_id: str) -> str:
        """A bridge's heartbeat."""
        return f"{self._node_prefix}:bridge:{bridge_id}"

    def bridges(self) -> str:
        """All bridges of the last hour by their last heartbeat."""
        return f"{self._node_prefix}:bridges"

    def starts(self, kind: str, name: str) -> str:
        """How often a process of this name was started; forgotten a day after the last."""
        end = "" if kind == "bridge" else self._end
        return f"{self._node_prefix}:starts:{kind}:{name}{end}"

    def feed_minutes(self, venue: str, symbol: str) -> str:
        """The capped stream of a feed's minutes."""
        return f"nt:feed:minutes:{venue}:{self._tag % symbol}"

    def topic_epoch(self, topic: str) -> str:
        """How often a topic was recreated."""
        return f"nt:topic:epoch:{topic}{self._end}"

    def events(self, symbol: str) -> str:
        """The capped stream of raw events."""
        return f"events:{self._tag % symbol}{self._end}"

    def merged(self, symbol: str) -> str:
        """The capped stream of merged windows."""
        return f"merged:{self._tag % symbol}{self._end}"

    def api_keys(self) -> str:
        """The hash of API keys, by id; secrets are not in it."""
        return f"{self._node_prefix}:keys"

    def queries(self, key_id: str) -> str:
        """The capped stream of calls of an API key."""
        return f"{self._node_prefix}:queries:{key_id}"

    def executions(self, symbol: str) -> str:
        """The capped stream of execution reports."""
        return f"executions:{self._tag % symbol}"

    def every_tick(self) -> str:
        """A pattern that all ticks match, and the channels they are announced on."""
        return f"tick:*{self._end}"
