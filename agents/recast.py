"""Parts of an aiokafka client that are to be of a class of ours: it offers no place to say so."""

from __future__ import annotations

from typing import Any


def recast(owner: Any, name: str, base: type, cls: type) -> None:
    """Have the part of a started client be of ``cls``.

    Raises:
        TypeError: It is not exactly of the class that ``cls`` extends.
    """
    part = getattr(owner, name)
    if type(part) is not base:
        raise TypeError(f"{type(part).__name__} where {base.__name__} was expected")
    part.__class__ = cls
