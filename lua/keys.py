"""Names of everything Tapeline keeps in Redis. Scripts are given names and never build any."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# The report itself, the long lists beside it, and the three keys of the lease on both.
_OF_A_REPORT: Final = re.compile(r"report:(?:meta:|writer:|writer:token:)?([^:]+)(?::heavy)?")


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


class Keys:
    """Key names.

    Args:
        cluster: Put the symbol in braces, so that Redis Cluster keeps all keys of a symbol in
            one hash slot and one script may touch them: ``report:{BTCUSDT}``.
    """

    def __init__(self, *, cluster: bool = False) -> None:
        self._tag = "{%s}" if cluster else "%s"
        # Its two membership keys share a script as well, and so a slot.
        self._node_prefix = "{nt}" if cluster else "nt"

    def report(self, symbol: str) -> str:
        """The report; also the channel on which it is announced."""
        return f"report:{self._tag % symbol}"

    def heavy(self, symbol: str) -> str:
        """The long lists of a report that was split."""
        return f"report:{self._tag % symbol}:heavy"

    def trace(self, symbol: str) -> str:
        """Which trace the newest sampled report is of: ``token.seq traceparent``; expires."""
        return f"{self.report(symbol)}:trace"

    def tick(self, symbol: str) -> str:
        """Last trade and top of book; also the channel on which it is announced."""
        return f"tick:{self._tag % symbol}"

    def meta(self, symbol: str) -> str:
        """Order and watermark of the last accepted report."""
        return f"report:meta:{self._tag % symbol}"

    def writer(self, symbol: str) -> LeaseKeys:
        """The lease on writing a symbol's report and tick."""
        tagged = self._tag % symbol
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
        return f"{self._node_prefix}:node:{node_id}"

    def nodes(self) -> str:
        """All nodes by their last heartbeat."""
        return f"{self._node_prefix}:nodes"

    def alive(self, node_id: str) -> str:
        """The channel that a node listens on for as long as its process lives."""
        return f"{self._node_prefix}:alive:{node_id}"

    def handover(self) -> str:
        """The channel on which nodes say that they are about to leave."""
        return f"{self._node_prefix}:handover"

    def every_report(self) -> str:
        """A pattern that all keys of reports match, and the channels they are announced on."""
        return "report:*"

    def symbol_of(self, key: str) -> str:
        """Whose report a key belongs to; '' where it is no key of a report, or of other braces."""
        match = _OF_A_REPORT.fullmatch(key)
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
        return "nt:mcp:events"

    def node_stats(self, node_id: str) -> str:
        """How far a node is, beside its heartbeat."""
        return f"{self.node(node_id)}:stats"

    def log_level(self, node_id: str) -> str:
        """Level of logs of a node's processes, ``*`` for all nodes: no node's name has one."""
        return f"{self.node(node_id)}:log_level"

    def node_of(self, key: str) -> str:
        """Whose heartbeat a key is; '' where it is none. No node's name has a colon."""
        prefix = self.node("")
        name = key.removeprefix(prefix) if key.startswith(prefix) else ""
        return "" if ":" in name else name

    def bridge(self, bridge_id: str) -> str:
        """A bridge's heartbeat."""
        return f"{self._node_prefix}:bridge:{bridge_id}"

    def bridges(self) -> str:
        """All bridges of the last hour by their last heartbeat."""
        return f"{self._node_prefix}:bridges"

    def starts(self, kind: str, name: str) -> str:
        """How often a process of this name was started; forgotten a day after the last."""
        return f"{self._node_prefix}:starts:{kind}:{name}"

    def feed_minutes(self, venue: str, symbol: str) -> str:
        """The capped stream of a feed's minutes."""
        return f"nt:feed:minutes:{venue}:{self._tag % symbol}"

    def topic_epoch(self, topic: str) -> str:
        """How often a topic was recreated."""
        return f"nt:topic:epoch:{topic}"

    def events(self, symbol: str) -> str:
        """The capped stream of raw events."""
        return f"events:{self._tag % symbol}"

    def merged(self, symbol: str) -> str:
        """The capped stream of merged windows."""
        return f"merged:{self._tag % symbol}"

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
        return "tick:*"
