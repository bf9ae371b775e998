"""What is asked of a request before anything else: pure, on its headers alone."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable
from typing import Final
from urllib.parse import unquote_plus, urlsplit

LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
TARGET_BYTES_MAX: Final = 8192
HEADERS_BYTES_MAX: Final = 16_384
HEADERS_MAX: Final = 100

_HOST: Final = re.compile(r"(?P<name>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::\d{1,5})?")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_KEY_TEXT: Final = re.compile(r"tl_[a-z2-7]{12}_[A-Za-z0-9_-]*", re.ASCII)
_KEY_NAMES: Final = frozenset(
    {"access_token", "api-key", "api_key", "apikey", "authorization", "key", "token", "x-api-key"}
)

Headers = Iterable[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""


class Malformed(ValueError):
    """A header that can't be what it says."""


def only(headers: Headers, name: bytes) -> str | None:
    """The one header of this name; None without.

    Raises:
        Malformed: There are several, or it holds what no header may.
    """
    found = [value for key, value in headers if key == name]
    if len(found) > 1:
        raise Malformed(f"{name.decode()} is there {len(found)} times")
    if not found:
        return None
    text = found[0].decode("latin-1").strip()
    if any(ord(char) < 32 or ord(char) > 126 for char in text):
        raise Malformed(f"{name.decode()} holds control characters")
    return text


def host_name(value: str) -> str:
    """The name in a ``Host`` header, in lower case, without its port.

    Raises:
        Malformed: It is none.
    """
    match = _HOST.fullmatch(value)
    if match is None:
        raise Malformed("host is malformed")
    return match["name"].lower()


def bracketed(address: str) -> str:
    """An address as ``Host`` has it."""
    return f"[{address}]" if ":" in address else address


class Hosts:
    """Names that a reader answers to.

    A page of somebody else's can let its own name point at this machine, and a browser then takes
    both for one site. By its address alone no page can do that, so the address that a connection
    arrived at is always one of the names: probes and scrapers use it.

    Args:
        listed: ``NT_ALLOWED_HOSTS``.
    """

    def __init__(self, listed: str) -> None:
        names = {host_name(name.strip()) for name in listed.split(",") if name.strip() not in "*"}
        self._any = listed.strip() == "*"
        self._names = LOCAL_NAMES | names

    def know(self, name: str, arrived_at: str) -> bool:
        """Whether ``name`` is one, on a connection to the address ``arrived_at``."""
        return self._any or name in self._names or name == bracketed(arrived_at)


class Origins:
    """Origins whose pages may call.

    Args:
        listed: ``NT_ALLOWED_ORIGINS``.
    """

    def __init__(self, listed: str) -> None:
        self.listed = frozenset(
            one.strip().rstrip("/").lower() for one in listed.split(",") if one.strip()
        )

    def allow(self, origin: str, host: str) -> bool:
        """Whether a page of ``origin`` may call a reader that it knows as ``host``, port and all."""
        if origin.lower() in self.listed:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()


def presented_key(headers: Headers) -> str | None:
    """The key that a request came with; None without.

    Raises:
        Malformed: There are two, or the scheme is not ``Bearer``.
    """
    headers = list(headers)
    bearer, plain = only(headers, b"authorization"), only(headers, b"x-api-key")
    if bearer is not None:
        scheme, _, token = bearer.partition(" ")
        if scheme.lower() != "bearer":
            raise Malformed("authorization is not of the scheme Bearer")
        bearer = token.strip()
    if bearer is not None and plain is not None and bearer != plain:
        raise Malformed("authorization and x-api-key hold two keys")
    return bearer if bearer is not None else plain


def heavy(headers: Collection[tuple[bytes, bytes]]) -> bool:
    """Whether headers are more than anybody sends. The parser's own limit is on what it can't
    parse yet, and so on nothing that arrives in one piece.
    """
    if len(headers) > HEADERS_MAX:
        return True
    return sum(len(name) + len(value) for name, value in headers) > HEADERS_BYTES_MAX


def framed_twice(headers: Headers) -> bool:
    """Whether a request says in two ways where its body ends: what one proxy takes for its end,
    another may not, and what is left over becomes a request of somebody else's.
    """
    return {b"content-length", b"transfer-encoding"} <= {name for name, _ in headers}


def key_in_url(path: str, query: bytes) -> bool:
    """Whether a URL carries what is, or is named like, a key."""
    if _KEY_TEXT.search(path):
        return True
    if not query:
        return False
    text = query.decode("latin-1")
    if _KEY_TEXT.search(unquote_plus(text)):
        return True
    names = (pair.partition("=")[0] for pair in text.split("&"))
    return any(unquote_plus(name).strip().lower() in _KEY_NAMES for name in names)


def without_keys(text: str, length_max: int = 200) -> str:
    """A path as it may be logged."""
    return _KEY_TEXT.sub("tl_***", text)[:length_max]


def request_id(headers: Headers) -> str:
    """The caller's own id of the request where there is one and it is harmless, else a new one."""
    given = [value.decode("latin-1") for name, value in headers if name == b"x-request-id"]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return secrets.token_hex(8)
