"""Which leases this process may write under. Pure: time enters with each call.

All times are monotonic ms. A lease is believed for less time than Redis keeps it, counted from
the moment its last successful renewal was *sent*: so a writer stops before another may start.
That is politeness, not safety; safety is the fencing token.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from lua import Acquired

MARGIN_MAX_MS: Final = 300
RETRY_MS: Final = 100
"""After a failure; an outage of Redis costs at most this much more."""

AGAIN_MS: Final = 20
"""Least time between two wishes for a lease that another holds or that was just refused."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease and what its writer goes on from.

    Attributes:
        symbol: Whose reports.
        value: As in Redis, ``node|incarnation|token``.
        token: The fencing token.
        deadline_ms: Nothing is written at or after this moment.
        last_seq: Of the last report accepted before the grant.
        last_updated_at: Of that report, ms since the epoch.
    """

    symbol: str
    value: str
    token: int
    deadline_ms: int
    last_seq: int
    last_updated_at: int


@dataclass(slots=True)
class _Wish:
    """A symbol that is wanted.

    Attributes:
        lease: What is held; None while nothing is, or nothing certain.
        next_try_ms: When to ask for it again.
        steal: Lease value to be taken whatever is left of it: of this node's own past, or
            another's that is to be relieved.
        assigned: Ours until we are told otherwise; else only for as long as we hold it.
    """

    lease: Lease | None = None
    next_try_ms: int = 0
    steal: str = ""
    assigned: bool = True


class LeaseBook:
    """Wishes, leases held and the highest tokens seen.

    Args:
        node: This node's id.
        incarnation: This start of it.
        ttl_ms: Life of a lease in Redis.
    """

    def __init__(self, node: str, incarnation: str, ttl_ms: int) -> None:
        self.node, self.incarnation, self.ttl_ms = node, incarnation, ttl_ms
        self.margin_ms = min(MARGIN_MAX_MS, ttl_ms // 6)
        self._wishes: dict[str, _Wish] = {}
        self._floors: dict[str, int] = {}
        self._had: set[str] = set()  # symbols ever held by this incarnation

    # --- wishes --------------------------------------------------------------------------------

    def want(self, floors: Mapping[str, int], keep: Collection[str] = ()) -> list[Lease]:
        """Set the symbols wanted, each with the highest token known of it.

        Args:
            floors: Those that are ours.
            keep: Others, whose leases are kept for as long as nobody takes them.

        Returns:
            The leases of symbols no longer wanted, to be released.
        """
        for symbol, floor in floors.items():
            self._wishes.setdefault(symbol, _Wish()).assigned = True
            self.raise_floor(symbol, floor)
        kept = {s for s in keep if s in self._wishes and self._wishes[s].lease is not None}
        for symbol in kept - floors.keys():
            self._wishes[symbol].assigned = False
        gone = sorted(self._wishes.keys() - floors.keys() - kept)
        dropped = [self._wishes.pop(symbol) for symbol in gone]
        return [wish.lease for wish in dropped if wish.lease is not None]

    def take(self, symbol: str, expected: str) -> None:
        """Ask at once for a lease, free or as last seen in another's hands.

        Where it is another's by then, nothing more is asked: whoever wished it looks again.
        """
        wish = self._wishes.setdefault(symbol, _Wish(assigned=False))
        if wish.lease is None:
            wish.steal, wish.next_try_ms = expected, 0

    def assigned(self, symbol: str) -> bool:
        """Whether the symbol is ours whoever holds its lease."""
        wish = self._wishes.get(symbol)
        return wish is not None and wish.assigned

    def wanted(self) -> list[str]:
        """The symbols wanted."""
        return list(self._wishes)

    def raise_floor(self, symbol: str, token: int) -> None:
        """A token of ``symbol`` has been seen somewhere."""
        self._floors[symbol] = max(token, self._floors.get(symbol, 0))

    def floor(self, symbol: str) -> int:
        """Highest token of ``symbol`` ever seen; outlives the wish."""
        return self._floors.get(symbol, 0)

    # --- what is held --------------------------------------------------------------------------

    def valid(self, symbol: str, now_ms: int) -> Lease | None:
        """The lease that ``symbol`` may be written under now."""
        wish = self._wishes.get(symbol)
        if wish is None or wish.lease is None or now_ms >= wish.lease.deadline_ms:
            return None
        return wish.lease

    def held(self) -> list[Lease]:
        """Leases to renew: those past their deadline too, Redis may still have them."""
        return [wish.lease for wish in self._wishes.values() if wish.lease is not None]

    def due(self, now_ms: int) -> list[tuple[str, int, str]]:
        """Leases to ask for now: symbol, floor, and the lease value to steal or ''."""
        return [
            (symbol, self.floor(symbol), wish.steal)
            for symbol, wish in self._waiting()
            if wish.next_try_ms <= now_ms
        ]

    def next_due_ms(self) -> int | None:
        """When the next lease is to be asked for; None if none is missing."""
        return min((wish.next_try_ms for _, wish in self._waiting()), default=None)

    def _waiting(self) -> Iterator[tuple[str, _Wish]]:
        return ((s, wish) for s, wish in self._wishes.items() if wish.lease is None)

    # --- what Redis said -----------------------------------------------------------------------

    def answered(self, symbol: str, answer: Acquired, sent_ms: int) -> Lease | None:
        """A wish, sent at ``sent_ms``, was answered.

        Returns:
            A lease nobody wants any more, to be released.
        """
        self.raise_floor(symbol, answer.token)
        deadline_ms = self._deadline(sent_ms)
        lease = Lease(
            symbol,
            answer.lease_value,
            answer.token,
            deadline_ms,
            answer.last_seq,
            answer.last_updated_at,
        )
        wish = self._wishes.get(symbol)
        if wish is None:
            return lease if answer.mine else None
        tried_to_steal, wish.steal = wish.steal, ""
        if answer.mine:
            wish.lease = lease
            self._had.add(symbol)
            return None
        if not wish.assigned:
            del self._wishes[symbol]
            return None
        node, incarnation = answer.holder
        if node == self.node and incarnation != self.incarnation and symbol not in self._had:
            # The heartbeat is ours, so that incarnation is dead: no need to wait for its end.
            # But only for what was left before our time: whoever of our name took a lease that
            # we had came after us, and two would take it from each other for ever.
            wish.steal = answer.lease_value
        wait_ms = self.ttl_ms // 4
        if 0 <= answer.pttl_ms < wait_ms:
            wait_ms = answer.pttl_ms + 1
        if wish.steal:
            wait_ms = 0 if wish.steal != tried_to_steal else AGAIN_MS
        else:
            wait_ms = max(AGAIN_MS, wait_ms)
        wish.next_try_ms = sent_ms + wait_ms
        return None

    def unanswered(self, symbol: str, now_ms: int) -> None:
        """A wish failed, or its reply was lost: ask again soon."""
        wish = self._wishes.get(symbol)
        if wish is None:
            return
        # What was seen of another's lease is of the past by now. But the grant may have been
        # made, and nobody else would ask for what is ours.
        wish.next_try_ms, wish.steal = now_ms + RETRY_MS, ""

    def renewed(self, lease: Lease, sent_ms: int) -> None:
        """A renewal sent at ``sent_ms`` succeeded."""
        wish = self._wishes.get(lease.symbol)
        if wish is not None and wish.lease is not None and wish.lease.value == lease.value:
            wish.lease = Lease(
                lease.symbol,
                lease.value,
                lease.token,
                self._deadline(sent_ms),
                lease.last_seq,
                lease.last_updated_at,
            )

    def drop(self, symbol: str, value: str, next_try_ms: int, *, lost: bool = True) -> bool:
        """A lease is lost or unknown: stop writing, and ask again at ``next_try_ms``.

        Args:
            symbol: Whose.
            value: Which; another than that stays.
            next_try_ms: When.
            lost: Redis has said so. Of a symbol that is not assigned, nothing more is then asked.

        Returns:
            False if another lease of the symbol is held by now: that one stays.
        """
        wish = self._wishes.get(symbol)
        if wish is None or wish.lease is None or wish.lease.value != value:
            return False
        wish.lease, wish.next_try_ms = None, next_try_ms
        if lost and not wish.assigned:
            del self._wishes[symbol]
        return True

    def _deadline(self, sent_ms: int) -> int:
        return sent_ms + self.ttl_ms - self.margin_ms
