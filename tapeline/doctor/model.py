"""A check, what it finds, and running all of them at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tapeline.config import mask
from tapeline.errors import ConfigError

LIMIT_S: Final = 3.0
"""How long a check may take."""


class Status(StrEnum):
    """How a check ended.

    ``warn``: it works, and may not for long, or not for everybody. ``skip``: there is nothing to
    look at, or what it stands on is missing, which another check says.
    """

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has to say.

    Attributes:
        found: What is there.
        expected: What should be.
        fix: A command or a setting that mends it; '' where there is nothing to mend.
    """

    status: Status
    found: str
    expected: str
    fix: str = ""


def ok(found: str, expected: str) -> Finding:
    """All is well."""
    return Finding(Status.OK, found, expected)


def warn(found: str, expected: str, fix: str) -> Finding:
    """Somebody should know."""
    return Finding(Status.WARN, found, expected, fix)


def fail(found: str, expected: str, fix: str) -> Finding:
    """It can't work so."""
    return Finding(Status.FAIL, found, expected, fix)


def skip(found: str, expected: str) -> Finding:
    """Not looked at, and why."""
    return Finding(Status.SKIP, found, expected)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Attributes:
        name: Dotted: ``redis.eviction`` is one of ``redis``.
        look: Looks at it. May raise; whatever it raises is a failure of the check.
        fix: What to do where it has not ended in time.
    """

    name: str
    look: Callable[[], Awaitable[Finding]]
    fix: str


@dataclass(frozen=True, slots=True)
class Result:
    """A check's name, what it found, and how long that took."""

    name: str
    finding: Finding
    ms: int

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; passwords in URLs are masked."""
        finding = self.finding
        return {
            "name": self.name,
            "status": finding.status.value,
            "found": mask(finding.found),
            "expected": mask(finding.expected),
            "fix": mask(finding.fix) or None,
            "ms": self.ms,
        }


def chosen(checks: Sequence[Check], only: Sequence[str]) -> list[Check]:
    """The checks that are named, or whose group is; all without a name.

    Raises:
        ConfigError: There is none of that name.
    """
    if not only:
        return list(checks)
    for name in only:
        if not any(_named(check, name) for check in checks):
            known = ", ".join(check.name for check in checks)
            raise ConfigError("--only", name, f"one of {known}, or what stands before a dot")
    return [check for check in checks if any(_named(check, name) for name in only)]


def _named(check: Check, name: str) -> bool:
    return check.name == name or check.name.startswith(f"{name}.")


async def run(checks: Sequence[Check], limit_s: float = LIMIT_S) -> list[Result]:
    """All of them at once, each for at most ``limit_s``; results in their order."""
    return list(await asyncio.gather(*(_run(check, limit_s) for check in checks)))


async def _run(check: Check, limit_s: float) -> Result:
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(limit_s):
            finding = await check.look()
    except TimeoutError:
        finding = fail(f"no answer in {limit_s:g} s", "an answer", check.fix)
    except Exception as error:
        # A check that breaks must not hide what the others have found.
        finding = fail(f"{type(error).__name__}: {error}", "a check that ends", check.fix)
    return Result(check.name, finding, round((time.monotonic() - began_s) * 1000))


def worst(results: Sequence[Result]) -> Status:
    """Of all: fail before warn before ok."""
    found = {result.finding.status for result in results}
    return next((s for s in (Status.FAIL, Status.WARN) if s in found), Status.OK)


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """For ``--json``."""
    counts = Counter(result.finding.status for result in results)
    return {
        "status": worst(results).value,
        "counts": {status.value: counts[status] for status in Status},
        "checks": [result.as_json() for result in results],
    }
