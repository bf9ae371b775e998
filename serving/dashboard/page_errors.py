"""Errors of pages: from a browser, so bounded, cleaned and few. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

BODY_BYTES_MAX: Final = 8192
TEXT_MAX: Final = 500
STACK_MAX: Final = 2000
BURST: Final = 10
PER_SECOND: Final = 0.5

_KEY: Final = re.compile(r"tl_[A-Za-z0-9_-]+")
_QUERY: Final = re.compile(r"[?#]\S*")


class BadPageError(ValueError):
    """What came is no error of a page."""


class PageError(msgspec.Struct, forbid_unknown_fields=True):
    """What a page says of an error in it.

    Attributes:
        kind: ``error``, ``rejection``, ``csp`` or ``console``.
        message: What the browser says.
        source: Address of the script.
        line, column: Where in it.
        stack: The call stack, one frame a line.
        page: Path of the page.
    """

    message: str
    kind: str = "error"
    source: str = ""
    line: int = 0
    column: int = 0
    stack: str = ""
    page: str = ""


_decode: Final = msgspec.json.Decoder(PageError).decode


def read(body: bytes) -> dict[str, Any]:
    """Fields of a log event.

    Control characters are gone, and so are keys and whatever stood behind a question mark.

    Raises:
        BadPageError: Too long, or not of that shape.
    """
    if len(body) > BODY_BYTES_MAX:
        raise BadPageError(f"longer than {BODY_BYTES_MAX} bytes")
    try:
        told = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadPageError(str(error)) from None
    return {
        "kind": _clean(told.kind, 20),
        "message": _clean(told.message, TEXT_MAX),
        "source": _clean(_QUERY.sub("", told.source), TEXT_MAX),
        "line": told.line,
        "column": told.column,
        "stack": _clean(_QUERY.sub("", told.stack), STACK_MAX),
        "page": _clean(_QUERY.sub("", told.page), TEXT_MAX),
    }


class Allowance:
    """How many errors are taken: a bucket that fills with time."""

    def __init__(self, burst: float = BURST, per_second: float = PER_SECOND) -> None:
        self._burst, self._per_second = burst, per_second
        self._left = burst
        self._at_ms: int | None = None
        self.refused = 0
        """Since the last one that was taken."""

    def take(self, monotonic_ms: int) -> bool:
        """Whether one more may be taken now."""
        if self._at_ms is not None:
            gained = (monotonic_ms - self._at_ms) / 1000 * self._per_second
            self._left = min(self._burst, self._left + gained)
        self._at_ms = monotonic_ms
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        return True


def _clean(text: str, length: int) -> str:
    text = _KEY.sub("tl_***", text)[:length]
    return "".join(one if one.isprintable() else " " for one in text)
