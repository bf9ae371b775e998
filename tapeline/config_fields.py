"""Kinds of settings: ports, addresses, and variables whose name has no prefix."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field

REDIS_SCHEMES: Final = ("redis", "rediss", "unix")

Port = Annotated[int, Field(ge=0, le=65535)]


def checked_kafka_url(url: str) -> str:
    """Checks ``KAFKA_URL``."""
    for server in url.removeprefix("kafka://").split(","):
        address = urlsplit(f"//{server}")
        # Reading the port is what checks it. A user has settings of its own.
        if not address.hostname or address.port == 0 or address.netloc != server or "@" in server:
            raise ValueError
    return url


def checked_redis_url(url: str) -> str:
    """Checks the URL of a Redis."""
    parts = urlsplit(url)
    if parts.scheme not in REDIS_SCHEMES or parts.port == 0:
        raise ValueError
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ValueError
    if parts.scheme != "unix" and not parts.path.strip("/").isdecimal() and parts.path not in "/":
        raise ValueError
    return url


def checked_otlp_endpoint(url: str) -> str:
    """Checks ``NT_OTLP_ENDPOINT``; empty is none."""
    if url:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError
        if parts.query or parts.fragment:
            raise ValueError
    return url


def plain(name: str, default: Any, description: str, expected: str = "") -> Any:
    """A field whose variable has no prefix, because that is the name operators know."""
    return Field(
        default,
        validation_alias=AliasChoices(name, name.lower()),
        description=description,
        json_schema_extra={"expected": expected} if expected else None,
    )
