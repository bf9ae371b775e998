"""Makes ``examples/readers`` importable as it is where people put it: flat files in one folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

from tests.support.commands import ROOT

FOLDER = ROOT / "examples" / "readers"

if str(FOLDER) not in sys.path:
    sys.path.append(str(FOLDER))


def load(name: str, before: Callable[[], None]) -> ModuleType:
    """One of the files, imported after ``before`` has been called, once."""
    if name not in sys.modules:
        before()
    return importlib.import_module(name)
