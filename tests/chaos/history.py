"""What happened, put together from what was seen outside and what the nodes have written down."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.observer import Write


@dataclass(frozen=True, slots=True)
class Accepted:
    """A report that Redis took, in the order it took them in.

    Attributes:
        heard_s: When the observer heard of it, monotonic.
        lease: The lease it was written under, '' if its writer's log does not have it.
    """

    symbol: str
    heard_s: float
    token: int
    seq: int
    lease: str
    watermark: int
    updated_at: int


def calls(folder: Path) -> list[dict[str, Any]]:
    """Every node's script calls, in the order of time."""
    found: list[dict[str, Any]] = []
    for path in folder.glob("*.calls"):
        for line in path.read_text("utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # the last one of a process that was killed
    return sorted(found, key=lambda call: call["t"])


def accepted(
    writes: dict[str, list[Write]], made: Iterable[dict[str, Any]]
) -> dict[str, list[Accepted]]:
    """The observer's announcements with what their writers meant by them, by symbol."""
    sent: dict[tuple[str, int, int], dict[str, Any]] = {}
    for call in made:
        if call["call"] == "publish":
            sent[call["symbol"], call["token"], call["seq"]] = call
    found: dict[str, list[Accepted]] = defaultdict(list)
    for symbol, heard in writes.items():
        for one in heard:
            call = sent.get((symbol, one.token, one.seq), {})
            found[symbol].append(
                Accepted(
                    symbol,
                    one.heard_s,
                    one.token,
                    one.seq,
                    call.get("lease", ""),
                    call.get("watermark", one.watermark),
                    call.get("updated_at", 0),
                )
            )
    return found


@dataclass(slots=True)
class Verdict:
    """What must be none.

    Attributes:
        stale: Accepted under a lower token, or of earlier records, than one accepted before.
        duplicate: The same (token, seq) accepted twice, or one token with two writers.
        unknown: Accepted from nobody's log.
        regranted: Leases granted under a token no higher than one before.
        overdue: Decided on by a writer whose lease, by its own books, had run out.
    """

    stale: int = 0
    duplicate: int = 0
    unknown: int = 0
    regranted: int = 0
    overdue: int = 0

    def well(self) -> bool:
        """Whether there is none of anything; what has no log is no fault."""
        return not (self.stale or self.duplicate or self.regranted or self.overdue)


def regranted(made: Iterable[dict[str, Any]]) -> int:
    """Grants under a token that is not above all granted before."""
    highest: dict[str, int] = {}
    again = 0
    for call in made:
        if call["call"] == "acquire" and call["code"] in ("GRANTED", "STOLEN"):
            again += call["token"] <= highest.get(call["lease"], 0)
            highest[call["lease"]] = max(call["token"], highest.get(call["lease"], 0))
    return again


def overdue(made: Iterable[dict[str, Any]], ttl_s: float) -> int:
    """Reports decided on longer after the last renewal was sent than a lease lives."""
    granted: dict[str, float] = {}
    late = 0
    for call in made:
        if call["call"] == "publish":
            late += call["decided"] - granted.get(call["lease"], call["decided"]) > ttl_s
        elif call.get("code") in ("RENEWED", "GRANTED", "STOLEN", "HELD_BY_ME"):
            value = call["value"]
            granted[value] = max(call["sent"], granted.get(value, 0.0))
    return late


def judged(history: dict[str, list[Accepted]], *, fenced_reader: bool = False) -> Verdict:
    """Count what should not have been accepted.

    Args:
        history: Accepted reports by symbol, in order.
        fenced_reader: Look as a reader does that ignores what is lower than what it has seen: after
            a replica that lagged was promoted, Redis itself has stepped back.
    """
    verdict = Verdict()
    for one_symbol in history.values():
        newest: Accepted | None = None
        writers: dict[int, str] = {}
        for one in one_symbol:
            if not one.lease:
                verdict.unknown += 1
            writer = one.lease.rpartition("|")[0]
            if writer and writers.setdefault(one.token, writer) != writer:
                verdict.duplicate += 1
            if newest is not None:
                order, last = (one.token, one.seq), (newest.token, newest.seq)
                if order == last:
                    verdict.duplicate += 1
                elif order < last:
                    if not fenced_reader:
                        verdict.stale += 1
                    continue
                elif one.watermark < newest.watermark or (
                    one.updated_at and one.updated_at <= newest.updated_at
                ):
                    verdict.stale += 1
            newest = one
    return verdict
