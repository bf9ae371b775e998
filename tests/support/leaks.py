"""Looking for secrets in what comes out of a system: as they are, and as encodings have them."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from redis.asyncio import Redis

from tests.support.worker import Installation


def forms(secret: str) -> set[bytes]:
    """Spellings to look for; of Base64 what is the same wherever in a text the secret begins."""
    raw = secret.encode()
    found = {raw, quote(secret).encode(), quote(secret, safe="").encode(), raw.hex().encode()}
    found |= {quote_plus(secret).encode(), json.dumps(secret)[1:-1].encode()}
    for before in range(3):
        text = base64.b64encode(b"\0" * before + raw)
        # The first and last characters hold bits of neighbours.
        whole = text[-(-before * 4 // 3) : len(text) // 4 * 4 - 4]
        found |= {whole, whole.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def leaks(planted: Mapping[str, str], places: Mapping[str, bytes]) -> list[str]:
    """``SECRET in PLACE: what stands around it`` of each that is found."""
    found = []
    for name, secret in planted.items():
        for form in forms(secret):
            for place, content in places.items():
                at = content.find(form)
                if at >= 0:
                    around = content[max(0, at - 120) : at + 60]
                    found.append(f"{name} in {place}: {around!r}")
    return found


async def everything_in_redis(url: str) -> dict[str, bytes]:
    """Each key with its value, whatever its type."""
    found: dict[str, bytes] = {}
    async with Redis.from_url(url) as redis:
        async for key in redis.scan_iter():
            client: Any = redis
            match await client.type(key):
                case b"string":
                    value: Any = await client.get(key)
                case b"hash":
                    value = await client.hgetall(key)
                case b"zset":
                    value = await client.zrange(key, 0, -1)
                case b"stream":
                    value = await client.xrange(key)
                case other:
                    raise AssertionError(f"{key!r} is a {other!r}")
            found[f"redis {key.decode()}"] = value if isinstance(value, bytes) else _flat(value)
    return found


async def everything_in_kafka(one: Installation, topics: Iterable[str]) -> dict[str, bytes]:
    """Keys, values and headers of each topic."""
    found = {}
    for topic in topics:
        records = await one.read(topic)
        parts = [[r.key or b"", r.value or b"", *(v for _, v in r.headers)] for r in records]
        found[f"topic {topic}"] = b"\n".join(b"\n".join(record) for record in parts)
    return found


def everything_in(folder: Path) -> dict[str, bytes]:
    """Files, gzip taken off."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if content[:2] == b"\x1f\x8b":  # also one that was not finished
                content = zlib.decompressobj(wbits=31).decompress(content)
            found[f"file {path.name}"] = content
    return found


def _flat(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        return b"\n".join(_flat(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set):
        return b"\n".join(map(_flat, value))
    return str(value).encode()
