"""Frames made wrong: cut, broken, padded, or with a checksum that is not theirs.

Each takes the text, a generator and the rule's parameters, and gives the new text; None where
it has nothing to get hold of. A frame that is cut or broken is never one of the dialect by
accident: its quotes or brackets no longer match, or it is no object.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Final

_CHECKSUM: Final = re.compile(r'"checksum":(\d+)')


def truncated(text: str, rng: random.Random, params: Mapping[str, float]) -> str:
    """It breaks off somewhere."""
    return text[: rng.randrange(1, len(text))]


def malformed(text: str, rng: random.Random, params: Mapping[str, float]) -> str:
    """A quote is missing, a colon is another character, or it is no object at all."""
    way = rng.randrange(3)
    if way == 0:
        return f"[{text[1:-1].count(',')}]"
    marks = [at for at, char in enumerate(text) if char == '"']
    at = rng.choice(marks)
    if way == 1:
        return text[:at] + text[at + 1 :]
    first = text.index('":')
    return f'{text[:first]}"={text[first + 2 :]}'


def checksum_wrong(text: str, rng: random.Random, params: Mapping[str, float]) -> str | None:
    """The checksum is another number; all else stays."""
    found = _CHECKSUM.search(text)
    if found is None:
        return None
    wrong = int(found[1]) ^ rng.randrange(1, 2**32)
    return f'{text[: found.start()]}"checksum":{wrong}{text[found.end() :]}'


def padded(text: str, rng: random.Random, params: Mapping[str, float]) -> str:
    """So many bytes of the same meaning: blanks before the last bracket."""
    return text[:-1] + " " * max(0, round(params["bytes"]) - len(text)) + text[-1:]


Mangler = Callable[[str, random.Random, Mapping[str, float]], str | None]

MANGLERS: Final[Mapping[str, Mangler]] = {
    "truncate": truncated,
    "malform": malformed,
    "checksum": checksum_wrong,
    "huge": padded,
}
