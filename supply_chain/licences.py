"""Licences of what we install, as SPDX expressions, and which of them will do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, metadata
from typing import Final, NamedTuple

from supply_chain.locks import Pinned

ALLOWED: Final = frozenset(
    {
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0",
        "PSF-2.0", "Zlib",
        # Changes to its own files are to be published; ours are none of them.
        "MPL-2.0",
        # BSD with a clause more: changed files say that they are.
        "LicenseRef-Repoze",
    }
)  # fmt: skip

# What packages write that have no SPDX expression: a classifier, or a word of their own.
_NAMES: Final = {
    "apache software license": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit": "MIT",
    "mit license": "MIT",
    "mpl-2.0": "MPL-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "repoze public license": "LicenseRef-Repoze",
}

_READ_BY_HAND: Final = {
    # "BSD License" says not which: their LICENSE files do.
    "faust-streaming": "BSD-3-Clause",
    "mode-streaming": "BSD-3-Clause",
    "openapi-schema-validator": "BSD-3-Clause",
    # "3-Clause BSD License", in words of its own.
    "protobuf": "BSD-3-Clause",
    # Two classifiers and its LICENSE files: either.
    "uvloop": "Apache-2.0 OR MIT",
}

UNKNOWN: Final = "unknown"


class Licensed(NamedTuple):
    """A package and its licence; `UNKNOWN` where nothing tells it."""

    package: Pinned
    licence: str

    @property
    def allowed(self) -> bool:
        """Whether the policy lets it be."""
        return allowed(self.licence)


def licences(packages: Iterable[Pinned]) -> list[Licensed]:
    """Of packages that are installed here, those for other platforms left out."""
    return [Licensed(each, licence_of(each.name)) for each in packages if each.for_us]


def licence_of(name: str) -> str:
    """By hand, by its SPDX expression, by its classifiers, or by its own word; in this order."""
    if name in _READ_BY_HAND:
        return _READ_BY_HAND[name]
    try:
        told = metadata(name)
    except PackageNotFoundError:
        return UNKNOWN
    if "License-Expression" in told:
        return told["License-Expression"]
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in told.get_all("Classifier") or ()
        if text.startswith("License :: ")
    ]
    words = [*classifiers, *(text.strip() for text in told.get_all("License") or ())]
    known = [_NAMES[word.lower()] for word in words if word.lower() in _NAMES]
    return known[0] if known else UNKNOWN


def allowed(expression: str) -> bool:
    """Whether an SPDX expression can be met by allowed licences alone.

    Raises:
        ValueError: It is no such expression.
    """
    tokens = re.findall(r"[()]|[A-Za-z0-9.+-]+", expression)
    found, rest = _either(tokens)
    if rest:
        raise ValueError(f"{expression!r} is no SPDX expression")
    return found


def _either(tokens: Sequence[str]) -> tuple[bool, Sequence[str]]:
    found, tokens = _both(tokens)
    while tokens[:1] == ["OR"]:
        other, tokens = _both(tokens[1:])
        found = found or other
    return found, tokens


def _both(tokens: Sequence[str]) -> tuple[bool, Sequence[str]]:
    found, tokens = _one(tokens)
    while tokens[:1] == ["AND"]:
        other, tokens = _one(tokens[1:])
        found = found and other
    return found, tokens


def _one(tokens: Sequence[str]) -> tuple[bool, Sequence[str]]:
    if not tokens or tokens[0] in {")", "AND", "OR"}:
        raise ValueError("an SPDX expression ends too early")
    if tokens[0] != "(":
        return tokens[0] in ALLOWED, tokens[1:]
    found, rest = _either(tokens[1:])
    if rest[:1] != [")"]:
        raise ValueError("an SPDX expression lacks a bracket")
    return found, rest[1:]


def page(core: Sequence[Licensed], others: Sequence[Licensed]) -> str:
    """docs/licences.md."""
    allowed_names = ", ".join(sorted(ALLOWED))
    return (
        "# Licences\n\n"
        "Of all packages in the locks, as they say themselves. Made by `make supply-chain`, which "
        "fails where\none is none of: " + allowed_names + ".\n\n"
        "Tapeline itself is under Apache-2.0. The dashboard's charts are "
        "[another's](../serving/dashboard/static/vendor/NOTICE.txt),\nunder Apache-2.0.\n\n"
        "## What an image runs\n\n" + _table(core) + "\n"
        "## What development needs besides\n\n"
        "Installed by `make setup`, never part of an image.\n\n" + _table(others)
    )


def _table(found: Sequence[Licensed]) -> str:
    rows = [f"| {each.package.name} | {each.package.version} | {each.licence} |" for each in found]
    return "\n".join(["| package | version | licence |", "|---|---|---|", *rows]) + "\n"
