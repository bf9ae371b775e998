"""What must hold whatever fails: pure functions over what was recorded, simulated or real.

Each returns the violations it has found, a sentence each. Times are seconds on one clock, that of
whoever recorded. A lease value is ``node|incarnation|token``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

VOLUNTARY_S: Final = 2.0
GAP_S: Final = 2.0
LEASE_LIFE_S: Final = 2.0
SLACK_S: Final = 0.002
"""Clocks in whole milliseconds differ by so much from one that is exact."""


@dataclass(frozen=True, slots=True)
class Write:
    """A write that Redis accepted, in the order in which it did.

    Attributes:
        symbol: Whose.
        lease_value: The lease it was made under.
        held: The lease that Redis held at that moment; None where nobody looked.
        token, seq, watermark, updated_at: As inside the payload. A tick has no ``updated_at``: 0.
        life: How often Redis had stepped back to older data before; old tokens are good there.
        losses: How often it had lost data before, all of it or the newest.
        kind: ``report`` or ``tick``.
    """

    at_s: float
    symbol: str
    lease_value: str
    held: str | None
    token: int
    seq: int
    watermark: int
    updated_at: int
    life: int = 0
    losses: int = 0
    kind: str = "report"


@dataclass(slots=True)
class Held:
    """A lease in Redis, from one grant on.

    Attributes:
        how: ``granted`` where it was free, ``stolen``, or ``restored`` with older data.
        until_s: When it ended; infinity while it has not.
        expires_s: When it would have ended by itself.
        end: ``expired``, ``released``, ``stolen``, ``replaced`` by its own holder, or ``lost``
            with the data; '' while it has not.
    """

    symbol: str
    lease_value: str
    from_s: float
    expires_s: float
    how: Literal["granted", "stolen", "restored"] = "granted"
    until_s: float = float("inf")
    end: str = ""


@dataclass(frozen=True, slots=True)
class Belief:
    """A node takes a lease for valid, and would write under it."""

    symbol: str
    lease_value: str
    from_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Told:
    """An answer reached a holder, and said that its lease is another's or nobody's."""

    at_s: float
    symbol: str
    lease_value: str


@dataclass(frozen=True, slots=True)
class Applied:
    """Records that one copy of a symbol's state applied; ``last < first`` where it begins."""

    copy: str
    symbol: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Move:
    """A lease was taken from another node.

    Attributes:
        reason: ``assigned`` if nothing was wrong with the node that had it.
    """

    at_s: float
    symbol: str
    before: str
    after: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """A node's graceful stop has ended.

    Attributes:
        clean: Its last requests were answered. Else a lease may live to its end, and be granted
            by a request still under way.
    """

    at_s: float
    node: str
    incarnation: str
    clean: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """Where a symbol is, by each of those who say so; '' where nobody does.

    Attributes:
        writes: Node that last advanced its report, within the last second.
    """

    symbol: str
    lease: str
    group: str
    placed: str
    writes: str


@dataclass(slots=True)
class History:
    """All that was recorded.

    Attributes:
        clocks_right: Whether no wall clock was ever off.
    """

    writes: list[Write] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    beliefs: list[Belief] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    clocks_right: bool = True


def violations(history: History) -> list[str]:
    """Everything that must never happen, and did; but for gaps, which not every fault forbids."""
    return [
        *tokens_never_fall(history.writes),
        *one_holder_a_token(history.writes),
        *order_rises(history.writes),
        *readers_never_step_back(history.writes, clocks_right=history.clocks_right),
        *writers_never_step_back(history.writes),
        *written_under_the_lease(history.writes),
        *at_most_one_believes(history.beliefs, history.held, history.told),
        *applied_contiguously(history.applied),
        *all_agree(history.places),
        *voluntary_moves_are_rare(history.moves),
        *nothing_after_a_stop(history.stops, history.held, history.writes),
    ]


# --- writes --------------------------------------------------------------------------------------


def _series(writes: Iterable[Write]) -> Iterator[list[Write]]:
    """Writes of one symbol and kind, in one life of the data."""
    found: dict[tuple[str, str, int], list[Write]] = defaultdict(list)
    for write in writes:
        found[write.symbol, write.kind, write.life].append(write)
    yield from found.values()


def _pairs(writes: Sequence[Write]) -> Iterator[tuple[Write, Write]]:
    return pairwise(writes)


def tokens_never_fall(writes: Iterable[Write]) -> list[str]:
    """I1: accepted tokens of a symbol never fall, for as long as Redis' data does not step back."""
    return [
        f"I1: {now.symbol} at {now.at_s:.3f}: a {now.kind} of token {now.token} was accepted "
        f"after one of {before.token}"
        for series in _series(writes)
        for before, now in _pairs(series)
        if now.token < before.token
    ]


def one_holder_a_token(writes: Iterable[Write]) -> list[str]:
    """I2: a token of a symbol is one incarnation's of one node."""
    holders: dict[tuple[str, int], str] = {}
    found = []
    for write in writes:
        first = holders.setdefault((write.symbol, write.token), write.lease_value)
        if first != write.lease_value:
            found.append(
                f"I2: {write.symbol} at {write.at_s:.3f}: token {write.token} is that of "
                f"{first} and of {write.lease_value}"
            )
    return found


def order_rises(writes: Iterable[Write]) -> list[str]:
    """I3: (token, seq) of accepted writes rises strictly."""
    return [
        f"I3: {now.symbol} at {now.at_s:.3f}: {now.kind} {now.token}, {now.seq} was accepted "
        f"after {before.token}, {before.seq}"
        for series in _series(writes)
        for before, now in _pairs(series)
        if (now.token, now.seq) <= (before.token, before.seq)
    ]


def as_read(writes: Iterable[Write]) -> Iterator[list[Write]]:
    """By symbol and kind what a reader is shown that never goes back behind a (token, seq)."""
    shown: dict[tuple[str, str], list[Write]] = defaultdict(list)
    for write in writes:
        series = shown[write.symbol, write.kind]
        if not series or (write.token, write.seq) > (series[-1].token, series[-1].seq):
            series.append(write)
    yield from shown.values()


def readers_never_step_back(writes: Iterable[Write], *, clocks_right: bool = True) -> list[str]:
    """I4: to a reader with a fence the watermark never falls, and ``updated_at`` rises strictly.

    A writer stamps above the stamp before, which Redis keeps. Where Redis loses that, and the
    wall clock of the writer before was ahead, its successor can't know. Nor can one whose copy
    lags know how far the one before was.
    """
    found = []
    for series in as_read(writes):
        for before, now in _pairs(series):
            where = f"I4: {now.symbol} at {now.at_s:.3f}, {now.kind} of {now.lease_value}"
            lost = now.losses > before.losses
            if now.watermark < before.watermark and not lost:
                found.append(f"{where}: watermark fell from {before.watermark} to {now.watermark}")
            excused = lost and not clocks_right
            if now.kind == "report" and now.updated_at <= before.updated_at and not excused:
                found.append(f"{where}: updated_at {now.updated_at} after {before.updated_at}")
    return found


def writers_never_step_back(writes: Iterable[Write]) -> list[str]:
    """I4: whatever Redis loses, a writer does not fall behind what it has itself published."""
    last: dict[tuple[str, str, str], Write] = {}
    found = []
    for now in writes:
        writer = now.lease_value.rpartition("|")[0]
        before = last.get((now.symbol, now.kind, writer))
        last[now.symbol, now.kind, writer] = now
        if before is None:
            continue
        where = f"I4: {now.symbol} at {now.at_s:.3f}, {now.kind}: {writer} itself has gone back"
        if now.watermark < before.watermark:
            found.append(f"{where} from watermark {before.watermark} to {now.watermark}")
        if now.kind == "report" and now.updated_at <= before.updated_at:
            found.append(f"{where} from updated_at {before.updated_at} to {now.updated_at}")
    return found


def gaps(
    writes: Iterable[Write],
    symbols: Iterable[str],
    begin_s: float,
    end_s: float,
    limit_s: float = GAP_S,
) -> list[str]:
    """No symbol stands still: time between two reports of which the second has advanced.

    A state that is published again is no report.
    """
    marks: dict[str, tuple[float, int]] = dict.fromkeys(symbols, (begin_s, -1))
    found = []

    def check(symbol: str, since_s: float, until_s: float) -> None:
        gap_s = until_s - max(since_s, begin_s)
        if until_s > begin_s and gap_s > limit_s:
            found.append(f"gap: {symbol} stood still for {gap_s:.3f} s from {since_s:.3f}")

    for write in writes:
        since_s, watermark = marks.get(write.symbol, (0.0, -1))
        advanced = write.kind == "report" and write.watermark > watermark
        if advanced and write.symbol in marks and write.at_s <= end_s:
            check(write.symbol, since_s, write.at_s)
            marks[write.symbol] = (write.at_s, write.watermark)
    for symbol, (since_s, _) in marks.items():
        check(symbol, since_s, end_s)
    return found


# --- leases --------------------------------------------------------------------------------------


def written_under_the_lease(writes: Iterable[Write]) -> list[str]:
    """I5: every write was accepted under the lease that Redis held at that moment."""
    return [
        f"I5: {write.symbol} at {write.at_s:.3f}: a {write.kind} under {write.lease_value} was "
        f"accepted while Redis held {write.held or 'no lease'}"
        for write in writes
        if write.held is not None and write.held != write.lease_value
    ]


def at_most_one_believes(
    beliefs: Iterable[Belief], held: Iterable[Held], told: Iterable[Told]
) -> list[str]:
    """I5: two nodes do not both take themselves for the writer, but while one can't know better.

    That is: nobody believes in a lease for longer than Redis would have kept it, counted from
    its last renewal; nobody believes in it any more once an answer has said that it is over; and
    two beliefs in one symbol overlap only where the later lease was stolen, or restored with
    older data, or where Redis has lost the earlier one.
    """
    believed = sorted(beliefs, key=lambda b: (b.symbol, b.from_s, b.until_s))
    in_redis: dict[tuple[str, str], list[Held]] = defaultdict(list)
    for lease in held:
        in_redis[lease.symbol, lease.lease_value].append(lease)
    over: dict[tuple[str, str], float] = {}
    for answer in told:
        over.setdefault((answer.symbol, answer.lease_value), answer.at_s)
    found = []
    for belief in believed:
        who = f"I5: {belief.symbol}: {belief.lease_value} is believed in until {belief.until_s:.3f}"
        leases = in_redis[belief.symbol, belief.lease_value]
        ends_s = max((lease.expires_s for lease in leases), default=0.0)
        if belief.until_s > ends_s + SLACK_S:
            found.append(f"{who}, Redis would have kept it until {ends_s:.3f}")
        told_s = over.get((belief.symbol, belief.lease_value), belief.until_s)
        restored = any(lease.how == "restored" for lease in leases)
        if belief.until_s > told_s + SLACK_S and not restored:
            found.append(f"{who}, its holder was told of its end at {told_s:.3f}")
    return found + _overlaps(believed, in_redis)


def _overlaps(believed: Sequence[Belief], in_redis: dict[tuple[str, str], list[Held]]) -> list[str]:
    found = []
    open_: list[Belief] = []
    for belief in believed:
        open_ = [
            b for b in open_ if b.symbol == belief.symbol and b.until_s > belief.from_s + SLACK_S
        ]
        for other in open_:
            if other.lease_value == belief.lease_value:
                continue
            pair = sorted((other, belief), key=lambda b: int(b.lease_value.rpartition("|")[2]))
            older, newer = (in_redis[b.symbol, b.lease_value] for b in pair)
            excused = any(lease.how != "granted" for lease in newer) or any(
                lease.end in {"lost", "stolen"} or lease.how == "restored" for lease in older
            )
            if not excused:
                found.append(
                    f"I5: {belief.symbol} at {belief.from_s:.3f}: both {pair[0].lease_value} and "
                    f"{pair[1].lease_value} are believed in, and nobody stole"
                )
        open_.append(belief)
    return found


def voluntary_moves_are_rare(moves: Iterable[Move]) -> list[str]:
    """I9: at most one voluntary move of a symbol in two seconds."""
    last: dict[str, Move] = {}
    found = []
    for move in moves:
        if move.reason != "assigned":
            continue
        before = last.get(move.symbol)
        if before is not None and move.at_s - before.at_s < VOLUNTARY_S:
            found.append(
                f"I9: {move.symbol} moved to {before.after} at {before.at_s:.3f} and on to "
                f"{move.after} at {move.at_s:.3f}"
            )
        last[move.symbol] = move
    return found


def nothing_after_a_stop(
    stops: Iterable[Stop], held: Iterable[Held], writes: Iterable[Write]
) -> list[str]:
    """I10: after its graceful stop a node has no lease, and writes nothing.

    Where Redis did not answer its last requests, leases may live to their natural end.
    """
    ends = {f"{s.node}|{s.incarnation}|": s for s in stops}

    def stop_of(lease_value: str) -> Stop | None:
        return ends.get(lease_value[: lease_value.rfind("|") + 1]) if ends else None

    found = []
    for lease in held:
        stop = stop_of(lease.lease_value)
        if stop is None:
            continue
        allowed_s = stop.at_s if stop.clean else stop.at_s + 2 * LEASE_LIFE_S
        if min(lease.until_s, lease.expires_s) > allowed_s + SLACK_S:
            found.append(
                f"I10: {lease.symbol}: {lease.lease_value} is held until "
                f"{min(lease.until_s, lease.expires_s):.3f}, its node stopped at {stop.at_s:.3f}"
            )
    for write in writes:
        stop = stop_of(write.lease_value)
        if stop is not None and stop.clean and write.at_s > stop.at_s:
            found.append(f"I10: {write.symbol} at {write.at_s:.3f}: {write.lease_value} writes on")
    return found


# --- states and places ---------------------------------------------------------------------------


def applied_contiguously(applied: Iterable[Applied]) -> list[str]:
    """I6: each copy of a state applies every record once, in order."""
    next_: dict[tuple[str, str], int] = {}
    found = []
    for batch in applied:
        key = (batch.copy, batch.symbol)
        if batch.last >= batch.first:
            due = next_.get(key)
            if due is not None and batch.first != due:
                what = "again" if batch.first < due else "behind a hole"
                found.append(
                    f"I6: {batch.symbol} in {batch.copy}: {batch.first}..{batch.last} applied "
                    f"{what}, {due} was due"
                )
        next_[key] = batch.last + 1
    return found


def all_agree(places: Iterable[Place]) -> list[str]:
    """I8: in peace the lease is where the group's owner is, placement agrees, and it is written."""
    return [
        f"I8: {p.symbol}: lease of {p.lease or 'nobody'}, assigned to {p.group or 'nobody'}, "
        f"placed on {p.placed or 'nobody'}, written by {p.writes or 'nobody'}"
        for p in places
        if not p.lease or len({p.lease, p.group, p.placed, p.writes}) > 1
    ]
