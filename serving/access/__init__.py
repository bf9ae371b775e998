"""Who asks, and what they may: API keys, scopes, and the front door of every request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCOPES: Final = ("reports:read", "ticks:read", "status:read", "admin")
"""All there are. ``admin`` includes none of the others."""


@dataclass(frozen=True)
class Access:
    """Who asks, and what they may.

    Attributes:
        key_id: The API key's public part; ``loopback`` where none is needed.
        scopes: Of `SCOPES`.
    """

    key_id: str
    scopes: frozenset[str]

    @classmethod
    def loopback(cls) -> Access:
        """Whoever asks without a key where none is needed: may read everything."""
        return cls("loopback", frozenset(SCOPES) - {"admin"})
