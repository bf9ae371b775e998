"""Conditions on a report, such as ``spread_bps > 5 and flow.net_flow < 0``. Pure."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from serving.glossary import explain, glossary
from tapeline.errors import ReportError

TERMS_MAX: Final = 4

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_TERM: Final = re.compile(
    r"\s*(?P<field>[A-Za-z0-9_.]{1,64})\s*(?P<op><=|>=|==|!=|<|>)\s*(?P<value>[^\s<>=!]{1,32})\s*",
    re.ASCII,
)
_WORDS: Final = {"true": True, "false": False}


class BadCondition(ReportError):
    """What was written can't be a condition.

    Attributes:
        suggestions: Fields of near names; empty where the form is wrong.
    """

    def __init__(self, sentence: str, suggestions: list[str] | None = None) -> None:
        super().__init__(sentence)
        self.suggestions = suggestions or []


@dataclass(frozen=True, slots=True)
class _Term:
    field: str
    op: str
    value: float | bool | str

    def holds(self, report: dict[str, Any]) -> bool:
        found = value_at(report, self.field)
        if isinstance(self.value, bool | str):
            same_kind = type(found) is type(self.value)
        else:
            same_kind = isinstance(found, int | float) and not isinstance(found, bool)
        # What is null is not known: no comparison with it holds, not even "is not".
        return same_kind and _OPERATORS[self.op](found, self.value)


@dataclass(frozen=True, slots=True)
class Condition:
    """All of up to four comparisons."""

    terms: tuple[_Term, ...]

    def holds(self, report: dict[str, Any]) -> bool:
        """Whether a report is as wanted; what is null satisfies no comparison."""
        return all(term.holds(report) for term in self.terms)


def parse(text: str) -> Condition:
    """Read ``FIELD OP VALUE``, joined by ``and``.

    Raises:
        BadCondition: It is not of that form, or a field is none of a report's.
    """
    parts = re.split(r"\s+and\s+", text.strip())
    if len(parts) > TERMS_MAX:
        raise BadCondition(f"a condition has at most {TERMS_MAX} comparisons")
    return Condition(tuple(_term(part) for part in parts))


def _term(text: str) -> _Term:
    match = _TERM.fullmatch(text)
    if match is None:
        raise BadCondition(
            "a condition is FIELD OP VALUE, joined by 'and', such as spread_bps > 5; OP is one of "
            "< <= > >= == !="
        )
    check_field(match["field"])
    return _Term(match["field"], match["op"], _value(match["value"], match["op"]))


def _value(text: str, op: str) -> float | bool | str:
    try:
        return float(text)
    except ValueError:
        pass
    if op not in {"==", "!="}:
        raise BadCondition(f"{op} compares with a number")
    return _WORDS.get(text.lower(), text.strip("'\""))


def check_field(path: str) -> None:
    """Raise `BadCondition` where a report has no such field, naming near ones."""
    if explain(path) is not None:
        return
    near = difflib.get_close_matches(path, list(glossary()), 3, 0.5)
    raise BadCondition("a report has no such field; market://glossary lists them", near)


def value_at(report: dict[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    found: Any = report
    for step in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(step)
    return found
