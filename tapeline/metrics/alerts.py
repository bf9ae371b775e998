"""What alerts say of metrics: read off the rules themselves, so that nothing is said twice."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

NAME: Final = re.compile(r"(?<![\w:])(?:[a-zA-Z_]\w*:[\w:]+|(?:nt|tapeline|process|python)_\w+)")
"""Of a recording rule, or of a series that a process of ours has, in a query."""

_STRINGS: Final = re.compile(r"\"[^\"]*\"|'[^']*'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        name: Of the alert.
        expr: Its query, on one line: the threshold is in it.
        lasting: How long it must hold, as in the rules; empty for not at all.
        anchor: Heading of the runbook that its annotation leads to; empty without one.
        names: Series that it looks at, also through recording rules.
    """

    name: str
    expr: str
    lasting: str
    anchor: str
    names: frozenset[str]


def names_in(expr: str) -> set[str]:
    """Series and recording rules that a query names; what stands in quotes is no name."""
    return set(NAME.findall(_STRINGS.sub('""', expr)))


def read_alerts(path: Path) -> list[Alert]:
    """Alerts of a rules file; none where there is no such file."""
    if not path.exists():
        return []
    # Rules are looked at where the project is worked on; a process that runs has no need of this.
    import yaml  # noqa: PLC0415

    groups = yaml.safe_load(path.read_text())["groups"]
    return alerts_of([rule for group in groups for rule in group["rules"]])


def alerts_of(rules: Iterable[dict[str, Any]]) -> list[Alert]:
    """Alerts among the rules of a file, in its order."""
    rules = list(rules)
    recorded = {rule["record"]: names_in(rule["expr"]) for rule in rules if "record" in rule}

    def behind(names: Iterable[str], seen: frozenset[str] = frozenset()) -> set[str]:
        found: set[str] = set()
        for name in set(names) - seen:
            found.add(name)
            found |= behind(recorded.get(name, ()), seen | {name})
        return found

    return [
        Alert(
            name=rule["alert"],
            expr=" ".join(rule["expr"].split()),
            lasting=rule.get("for", ""),
            anchor=rule.get("annotations", {}).get("runbook_url", "").partition("#")[2],
            names=frozenset(behind(names_in(rule["expr"])) - recorded.keys()),
        )
        for rule in rules
        if "alert" in rule
    ]
