"""How the chain is put into words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from serving.status.models import WORST

RUNBOOKS: Final = "docs/runbooks/troubleshooting.md#"

NAMED_MAX: Final = 3
"""So many culprits are named in a sentence."""


def plain(struct: Any) -> dict[str, Any]:
    """A struct's fields by name."""
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def total(rates: Iterable[float | None]) -> float | None:
    """Of what is known; None where nothing is."""
    known = [rate for rate in rates if rate is not None]
    return round(sum(known), 1) if known else None


def all_down(ill: Iterable[Any]) -> bool:
    """Whether none of them gets through at all."""
    return all(one.state == "down" for one in ill)


def named(ill: Sequence[Any]) -> str:
    """The worst few, each with what is wrong."""
    ranked = sorted(ill, key=lambda one: -WORST[one.state])[:NAMED_MAX]
    told = "; ".join(f"{_name(one)}: {one.sentence}" for one in ranked)
    return told + (f"; and {len(ill) - NAMED_MAX} more" if len(ill) > NAMED_MAX else "")


def _name(one: Any) -> str:
    for field in ("stream_id", "symbol", "id"):
        if hasattr(one, field):
            return str(getattr(one, field))
    return ""


def count(n: int, what: str) -> str:
    """How many of a thing."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def out_of(n: int, total: int, what: str) -> str:
    """How many of how many."""
    return f"{n} of {count(total, what)}"


def ago(ms: int) -> str:
    """An age, for people."""
    return f"{ms} ms" if ms < 10_000 else f"{ms / 1000:.0f} s"
