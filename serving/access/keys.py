"""API keys: made, stored as hashes, listed and revoked.

A key is ``tl_ID_SECRET``. The secret has 256 random bits, so one round of SHA-256 hides it as
well as a slow hash would: there is nothing to guess. Redis holds the hash, never the secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import msgspec
from redis.asyncio import Redis

from lua import Keys
from serving.access import SCOPES, Access
from tapeline.errors import ConfigError, TapelineError

VERSION_FIELD: Final = "_version"
"""Of the hash of keys: another value after each change, so that readers need not fetch them all."""

NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}"
RATE_MAX: Final = 100_000

_KEY: Final = re.compile(r"tl_([a-z2-7]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_NAME: Final = re.compile(NAME_PATTERN, re.ASCII)


class ApiKey(msgspec.Struct, frozen=True):
    """What is stored of a key.

    Attributes:
        id: Its public part.
        name: For people.
        sha256: Of the secret, in hex.
        scopes: Of `SCOPES`.
        rate_per_s: Requests a second; None for ``NT_KEY_RATE_PER_S``.
        created_ms, revoked_ms: Since the epoch; the latter None while it is in force.
    """

    id: str
    name: str
    sha256: str
    scopes: tuple[str, ...]
    rate_per_s: int | None
    created_ms: int
    revoked_ms: int | None = None

    @property
    def access(self) -> Access:
        """What its owner may."""
        return Access(self.id, frozenset(self.scopes))

    def opens_with(self, secret: str) -> bool:
        """Whether the secret is this key's, in a time that does not depend on where they differ."""
        return hmac.compare_digest(_digest(secret), self.sha256)

    def shown(self) -> dict[str, Any]:
        """What may be printed."""
        return {
            "id": self.id,
            "name": self.name,
            "scopes": list(self.scopes),
            "rate_per_s": self.rate_per_s,
            "created_ms": self.created_ms,
            "revoked_ms": self.revoked_ms,
        }


_decode: Final = msgspec.json.Decoder(ApiKey).decode


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def mint(
    name: str,
    scopes: Iterable[str],
    rate_per_s: int | None,
    now_ms: int,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> tuple[ApiKey, str]:
    """A new key, and its text: the only place where the secret is ever seen.

    Raises:
        ConfigError: A malformed name, an unknown scope or none, a rate out of range.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            "--name",
            name,
            "1 to 64 letters, digits, spaces or any of ._@-, a letter or digit first",
        )
    asked = set(scopes)
    if not asked or not asked <= set(SCOPES):
        raise ConfigError("--scope", ",".join(sorted(asked)), f"some of {', '.join(SCOPES)}")
    if rate_per_s is not None and not 1 <= rate_per_s <= RATE_MAX:
        raise ConfigError("--rate", rate_per_s, f"an integer from 1 to {RATE_MAX}")
    key_id = base64.b32encode(random_bytes(8)).decode().lower()[:12]
    secret = base64.urlsafe_b64encode(random_bytes(32)).decode().rstrip("=")
    key = ApiKey(
        id=key_id,
        name=name,
        sha256=_digest(secret),
        scopes=tuple(scope for scope in SCOPES if scope in asked),
        rate_per_s=rate_per_s,
        created_ms=now_ms,
    )
    return key, f"tl_{key_id}_{secret}"


def parsed(text: str) -> tuple[str, str] | None:
    """(id, secret) of a key's text; None where it can't be one."""
    match = _KEY.fullmatch(text)
    return (match[1], match[2]) if match else None


def decoded(fields: dict[bytes, bytes]) -> dict[str, ApiKey]:
    """Keys by id, of the hash they are kept in; what can't be read is no key."""
    found = {}
    for name, payload in fields.items():
        if name == VERSION_FIELD.encode():
            continue
        try:
            key = _decode(payload)
        except msgspec.DecodeError:
            continue
        if key.id.encode() == name:
            found[key.id] = key
    return found


class KeyStore:
    """Keys in Redis, for who may change them.

    Args:
        redis: A client of a user who may write ``nt:keys``.
        keys: Names of the keys of Redis.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._name = redis, keys.api_keys()

    async def list(self) -> list[ApiKey]:
        """All, oldest first, the revoked ones included."""
        fields: Any = await self._redis.hgetall(self._name)
        return sorted(decoded(fields).values(), key=lambda key: (key.created_ms, key.id))

    async def put(self, key: ApiKey) -> None:
        """Store a new key, or a changed one."""
        version = secrets.token_hex(8)
        await self._redis.hset(
            self._name,
            mapping=cast("Any", {key.id: msgspec.json.encode(key), VERSION_FIELD: version}),
        )

    async def revoke(self, key_id: str, now_ms: int) -> ApiKey:
        """Take a key out of force; its entry stays, so that the log can still be read.

        Raises:
            TapelineError: There is no such key.
        """
        payload: Any = await self._redis.hget(self._name, key_id)
        key = decoded({key_id.encode(): payload}).get(key_id) if payload else None
        if key is None:
            raise TapelineError(f"no API key {key_id!r}; `tapeline keys list` shows all")
        if key.revoked_ms is None:
            key = msgspec.structs.replace(key, revoked_ms=now_ms)
            await self.put(key)
        return key
