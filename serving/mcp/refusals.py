"""Why a tool gives no answer, in a form that an agent can act on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from serving.mcp.contract import Refusal
from tapeline.errors import ReportError

UNKNOWN_SYMBOL: Final = "unknown_symbol"
NOT_READY: Final = "not_ready"
TOO_OLD: Final = "too_old"
RANGE_TOO_LARGE: Final = "range_too_large"
RATE_LIMITED: Final = "rate_limited"
FORBIDDEN: Final = "forbidden"
BAD_ARGUMENT: Final = "bad_argument"

CODES: Final = frozenset(
    {
        UNKNOWN_SYMBOL, NOT_READY, TOO_OLD, RANGE_TOO_LARGE, RATE_LIMITED, FORBIDDEN, BAD_ARGUMENT
    }
)  # fmt: skip
"""All there are; a client may rely on them."""

RETRY_MS: Final = 1000


class Refused(ReportError):
    """A tool was called, and gives no answer.

    Attributes:
        refusal: What the caller is told.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry_after_ms: int | None = None,
        suggestions: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.refusal = Refusal(code, message, retry_after_ms, list(suggestions))


def not_ready(what: str) -> Refused:
    """The store did not answer, or what it holds can't be read: to be asked for again."""
    return Refused(NOT_READY, what, retry_after_ms=RETRY_MS)


def too_old(symbol: str, age_ms: int | None, age_ms_max: int, retry_after_ms: int) -> Refused:
    """The newest data is older than the caller wants."""
    age = "there is no data" if age_ms is None else f"the newest data is {age_ms} ms old"
    return Refused(
        TOO_OLD,
        f"{symbol}: {age}, more than max_age_ms {age_ms_max}; leave max_age_ms out to read it "
        "with its age",
        retry_after_ms=retry_after_ms,
    )


def unknown_symbol(symbol: str, near: Sequence[str]) -> Refused:
    """Nothing is stored under this name."""
    help_ = "did you mean one of the suggestions?" if near else "list_symbols gives all there are"
    return Refused(UNKNOWN_SYMBOL, f"{symbol} is not a known symbol; {help_}", suggestions=near)
