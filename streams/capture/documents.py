"""Recordings that are one JSON document: a list of frames, a book's beginning and what followed, ladders.

Others keep recordings in this way, without times: frames are taken in the order they have. Some have
gone through a JSON library that printed their numbers anew; `reprinted` gives them the venue's
decimals back, where one knows how many these are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

SUFFIXES: Final = (".json", ".json.gz")
DOCUMENT_BYTES_MAX: Final = 256 * 1024 * 1024

_NUMBER: Final = re.compile(r'"(price|qty)"\s*:\s*(-?[0-9.]+(?:[eE][+-]?[0-9]+)?)')


class Decimals(NamedTuple):
    """Digits behind the point that a venue prints.

    Attributes:
        px, sz: Of prices and of sizes.
    """

    px: int
    sz: int


class _Ladder(msgspec.Struct):
    symbol: str
    local_book_bids: list[tuple[str, str]]
    local_book_asks: list[tuple[str, str]]
    expected_checksum: int


class _Document(msgspec.Struct):
    init: msgspec.Raw = msgspec.Raw()
    updates: list[msgspec.Raw] = []
    captures: list[_Ladder] = []


_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_document: Final = msgspec.json.Decoder(_Document).decode


def is_document(path: Path) -> bool:
    """Whether a file is one JSON document, by its name."""
    return path.name.endswith(SUFFIXES)


def frames_of(document: bytes) -> Iterator[str | None]:
    """The frames of a document, each on one line, its numbers as they are written.

    None stands before a frame that has nothing to do with those before it.

    Raises:
        msgspec.DecodeError: It is no JSON.
    """
    if document.lstrip()[:1] == b"[":
        for raw in _decode_list(document):
            yield _one_line(raw)
        return
    found = _decode_document(document)
    if found.captures:
        for ladder in found.captures:
            yield None
            yield _snapshot(ladder)
    elif bytes(found.init):
        first = bytes(found.init)
        for raw in _decode_list(first) if first.lstrip()[:1] == b"[" else [found.init]:
            yield _one_line(raw)
        for raw in found.updates:
            yield _one_line(raw)
    else:
        yield _one_line(document)


def reprinted(frame: str, decimals: Decimals) -> str:
    """A frame of Kraken's v2 with its prices and sizes as the venue prints them."""

    def number(found: re.Match[str]) -> str:
        places = decimals.px if found[1] == "price" else decimals.sz
        return f'"{found[1]}":{Decimal(found[2]):.{places}f}'

    return _NUMBER.sub(number, frame)


def _one_line(raw: Any) -> str:
    return msgspec.json.format(bytes(raw), indent=-1).decode()


def _snapshot(ladder: _Ladder) -> str:
    """A ladder with the venue's checksum of it, as the snapshot it might have come in."""

    def side(levels: list[tuple[str, str]]) -> str:
        return ",".join(f'{{"price":{price},"qty":{size}}}' for price, size in levels)

    return (
        f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"{ladder.symbol}",'
        f'"bids":[{side(ladder.local_book_bids)}],"asks":[{side(ladder.local_book_asks)}],'
        f'"checksum":{ladder.expected_checksum}}}]}}'
    )
