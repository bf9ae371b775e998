"""The rules as they are shipped, and in a shorter time: pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "prometheus"

_DURATION: Final = re.compile(r"(\d+)(ms|s|m|h|d)")
_WHOLE: Final = re.compile(r"(?:\d+(?:ms|s|m|h|d))+")
_WINDOW: Final = re.compile(r"\[([0-9a-z]+)\]")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NAME: Final = re.compile(r"[a-z]+:[a-z0-9_]+:[a-z0-9_]+")

WINDOW_MIN_S: Final = 3.0
"""Of a scaled window: three scrapes, of which a rate needs two."""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One alerting rule.

    Attributes:
        name: Of the alert.
        labels: What it adds.
        lasting_s: Its ``for``, and the longest window that it looks at.
    """

    name: str
    labels: Mapping[str, str]
    lasting_s: float


def load(name: str = "rules.yml") -> dict[str, Any]:
    """A file of ``deploy/prometheus``."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text("utf-8"))
    return found


def seconds(text: str) -> float:
    """A duration as Prometheus writes it, such as ``2m30s``."""
    if _WHOLE.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no duration")
    return sum(int(n) * _UNIT_S[unit] for n, unit in _DURATION.findall(text))


def spelled(duration_s: float) -> str:
    """The same, the other way."""
    return f"{round(duration_s * 1000)}ms"


def each(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All rules of a file."""
    for group in document["groups"]:
        yield from group["rules"]


def scaled(document: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """The same rules in ``1 / scale`` of the time: ``for`` and windows.

    Thresholds stay: they are rates, ratios and ages.
    """
    found = copy.deepcopy(dict(document))
    if scale == 1:
        return found

    def shorter(match: re.Match[str]) -> str:
        return f"[{spelled(max(seconds(match[1]) / scale, WINDOW_MIN_S))}]"

    for rule in each(found):
        rule["expr"] = _WINDOW.sub(shorter, rule["expr"])
        if "for" in rule:
            rule["for"] = spelled(seconds(rule["for"]) / scale)
    return found


def alerts(document: Mapping[str, Any]) -> list[AlertRule]:
    """Alerting rules in the file's order."""
    windows: dict[str, float] = {}
    found = []
    for rule in each(document):
        expr = rule["expr"]
        longest = max((seconds(text) for text in _WINDOW.findall(expr)), default=0.0)
        longest += max((windows.get(name, 0.0) for name in _NAME.findall(expr)), default=0.0)
        if "record" in rule:
            windows[rule["record"]] = longest
        else:
            lasting_s = longest + seconds(rule.get("for", "0s"))
            found.append(AlertRule(rule["alert"], rule.get("labels", {}), lasting_s))
    return found
