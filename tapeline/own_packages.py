"""Are the packages that Python finds ours?

``agents`` and ``tables`` are names that other distributions use too. Tapeline is an application
with an environment of its own; where it is installed beside one of those, it says so at the
start instead of failing later in some import.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from tapeline.errors import TapelineError

PACKAGES: Final = ("agents", "lua", "serving", "streams", "tables", "tapeline")


class ForeignPackage(TapelineError):
    """A package of ours is hidden by another's of the same name."""

    def __init__(self, name: str, found: Path | None, expected: Path) -> None:
        where = f"found in {found}" if found else "not found"
        super().__init__(
            f"package {name!r} is not Tapeline's: {where}, expected in {expected}; "
            "install Tapeline into an environment of its own"
        )
        self.name = name


def check_packages() -> None:
    """Compare where each package is with where this one is.

    Raises:
        ForeignPackage: One of them is another's.
    """
    home = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None or origin.parents[1] != home:
            raise ForeignPackage(name, origin.parent if origin else None, home)
