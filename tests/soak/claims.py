"""What a run has to show, and whether it has."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


class Claim(NamedTuple):
    """One of them.

    Attributes:
        name: What is claimed, in a few words.
        holds: None where this run can't tell: that is neither a pass nor a failure, and is said.
        told: The figures it rests on.
    """

    name: str
    holds: bool | None
    told: str

    @property
    def verdict(self) -> str:
        """A word for it."""
        return "not shown" if self.holds is None else "ok" if self.holds else "FAILED"


def well(claims: Iterable[Claim]) -> bool:
    """Whether none has failed."""
    return all(claim.holds is not False for claim in claims)


def write(path: str, text: str) -> None:
    """A file, and the folder it is in."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def as_json(claims: Iterable[Claim]) -> list[dict[str, Any]]:
    """For ``--json``."""
    return [{"claim": c.name, "holds": c.holds, "told": c.told} for c in claims]


def say_all(claims: Iterable[Claim]) -> None:
    """A line each."""
    for claim in claims:
        say(f"{claim.verdict:>9}  {claim.name}: {claim.told}")
