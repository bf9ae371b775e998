"""Text of strangers on a terminal: nothing of it may be obeyed. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

_REPLACED: Final = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escaped(text: str | bytes, limit: int | None = None) -> str:
    r"""``text`` in printable characters only, so that it can be read back without doubt.

    Control characters, terminal escapes, marks that turn the direction of writing and bytes that
    are no UTF-8 become ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``; a backslash is doubled.

    Args:
        text: Bytes are read as UTF-8.
        limit: Characters kept of the result; what is longer ends in ``...``.
    """
    if isinstance(text, bytes):
        # A byte that is no UTF-8 becomes a lone surrogate, and so can't be taken for anything else.
        text = text.decode("utf-8", "surrogateescape")
    if limit is not None:
        text = text[: limit + 1]
    shown = "".join(map(_character, text))
    return shown if limit is None or len(shown) <= limit else f"{shown[: max(limit - 3, 0)]}..."


def _character(char: str) -> str:
    if char in _REPLACED:
        return _REPLACED[char]
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def json_line(body: Any) -> str:
    """One JSON object in printable ASCII."""
    return json.dumps(body, separators=(",", ":")).replace("\x7f", "\\u007f")
