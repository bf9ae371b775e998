"""Secrets out of text: by where they stand, and by what they are.

What looks like a password (in a URL, in a query) or like an API key is hidden wherever it stands.
A secret that this process was given is hidden as itself, too: a library may put it anywhere.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus, unquote, urlsplit

HIDDEN: Final = "***"

REMEMBERED_MIN: Final = 12
"""Shorter ones are words that stand for other things as well; masked as text they would be told."""

# Up to the last @, for a password written without escapes may hold any of :/@. Unless digits and
# the end of an authority stand behind the colon: that is a port, and an @ may follow in a path.
_PASSWORD_IN_URL: Final = re.compile(
    r"(?P<before>[a-z][a-z0-9+.-]*://[^:/@\s]*:)(?!\d{1,5}[/?#])\S*@", re.I
)
_PASSWORD_IN_QUERY: Final = re.compile(
    r"(?P<before>[?&](?:[a-z_]*password|[a-z_]*token)=)[^&\s\"']*", re.I
)
_API_KEY: Final = re.compile(r"\btl_[a-z2-7]{12}_[A-Za-z0-9_-]+", re.ASCII)
_USER_INFO: Final = re.compile(r"(?P<before>://[^:/@]*:).*@", re.S)

_forms: set[str] = set()
_remembered: re.Pattern[str] | None = None


def remember(secret: str) -> None:
    """Hide ``secret`` from now on in all that is masked in this process; short ones are left out."""
    global _remembered  # noqa: PLW0603 - what a process has been given is the process's
    if len(secret) < REMEMBERED_MIN:
        return
    new = set(_spelled(secret)) - _forms
    if new:
        _forms.update(new)
        longest_first = sorted(_forms, key=len, reverse=True)
        _remembered = re.compile("|".join(map(re.escape, longest_first)))


def _spelled(secret: str) -> Iterator[str]:
    """As it is, and as URLs and JSON have it."""
    yield from (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))
    yield json.dumps(secret)[1:-1]


def remember_url(url: str) -> None:
    """Hide the password of a URL, if it has one; also as a header of HTTP has it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if parts.password:
        remember(parts.password)
        remember(unquote(parts.password))
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password)}"
        remember(base64.b64encode(pair.encode()).decode())


def mask(text: str) -> str:
    """``text`` with passwords inside URLs, API keys and what was remembered hidden."""
    text = _PASSWORD_IN_URL.sub(rf"\g<before>{HIDDEN}@", text)
    text = _PASSWORD_IN_QUERY.sub(rf"\g<before>{HIDDEN}", text)
    text = _API_KEY.sub(f"tl_{HIDDEN}", text)
    return text if _remembered is None else _remembered.sub(HIDDEN, text)


def mask_refused(url: str) -> str:
    """A URL that could not be taken, for the error: all up to its last @ may be a password."""
    return mask(_USER_INFO.sub(rf"\g<before>{HIDDEN}@", url))
