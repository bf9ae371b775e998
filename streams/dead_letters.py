"""What the dead-letter topics hold, as people and retries look at it. Pure.

Two write there: a worker, a record that it can't apply; a bridge, a frame that it can't parse.
``docs/contracts.md`` has the headers of both.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

from streams.topics import dead_letters_of
from tapeline.errors import ConfigError

_POSITION: Final = re.compile(r"(?:([0-9]{1,9})@)?([0-9]{1,18})")
_SUFFIX: Final = dead_letters_of("")


class Position(NamedTuple):
    """Where a letter is: ``partition@offset``."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}@{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """``partition@offset``, or an offset of partition 0, which is all there is by default.

        Raises:
            ConfigError: Neither.
        """
        found = _POSITION.fullmatch(text)
        if found is None:
            raise ConfigError("POSITION", text, "OFFSET or PARTITION@OFFSET, such as 17 or 0@17")
        return cls(int(found[1] or 0), int(found[2]))


def letters_topic(topic: str) -> str:
    """The dead-letter topic that is meant by its own name or by that of the topic it is beside."""
    return topic if topic.endswith(_SUFFIX) else dead_letters_of(topic)


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter.

    Attributes:
        topic: The dead-letter topic.
        position: Where it is there.
        ts_ms: When it was written.
        key, value: As they were; a frame has no key.
        headers: The texts beside it.
    """

    topic: str
    position: Position
    ts_ms: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, topic: str, partition: int, record: Any) -> Self:
        """A consumer's record with ``offset``, ``timestamp``, ``key``, ``value``, ``headers``."""
        return cls(
            topic,
            Position(partition, record.offset),
            record.timestamp,
            None if record.key is None else bytes(record.key),
            None if record.value is None else bytes(record.value),
            _texts(record.headers or ()),
        )

    @property
    def is_frame(self) -> bool:
        """Whether a bridge wrote it, of what a venue sent."""
        return "venue" in self.headers and not {"frame", "path"}.isdisjoint(self.headers)

    @property
    def error(self) -> str:
        """One word."""
        return self.headers.get("error", "")

    @property
    def message(self) -> str:
        """A sentence."""
        return self.headers.get("message", "")

    @property
    def truncated(self) -> int | None:
        """How long the frame was, in bytes, if only its beginning was kept."""
        text = self.headers.get("truncated", "")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def origin(self) -> str:
        """Where it came, in words."""
        told = self.headers
        if self.is_frame:
            place = told.get("path") or f"{told.get('conn', '')} frame {told.get('frame', '')}"
            return f"{told['venue']} {place}"
        return f"{told.get('topic', '')} {told.get('partition', '')}@{told.get('offset', '')}"

    def as_json(self, *, whole: bool = False) -> dict[str, Any]:
        """For ``--json``; ``whole``: with key and value, bytes that are no UTF-8 in base64."""
        body: dict[str, Any] = {
            "topic": self.topic,
            "position": str(self.position),
            "ts_ms": self.ts_ms,
            "error": self.error,
            "message": self.message,
            "origin": self.origin,
            "headers": dict(self.headers),
            "bytes": len(self.value or b""),
            "truncated": self.truncated,
        }
        if whole:
            body |= _text_of("key", self.key) | _text_of("value", self.value)
        return body


def _texts(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    return {name: (value or b"").decode("utf-8", "replace") for name, value in headers}


def _text_of(name: str, raw: bytes | None) -> dict[str, str | None]:
    if raw is None:
        return {name: None}
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw).decode()}
