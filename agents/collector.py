"""How often Python looks for garbage in a worker.

Nearly all of a worker's garbage is freed by counting references. The collector, which looks for
cycles, starts after 700 new objects by default; here a single batch makes thousands, each look
finds nothing, and objects that merely live for the length of a batch are taken for long-lived
ones, which has the whole heap searched again and again.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (100_000, 20, 50)
"""New objects before a look at the young; looks at one generation before one at the next."""


def relax() -> None:
    """Look seldom, and never again at what is there by now; once everything is imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
