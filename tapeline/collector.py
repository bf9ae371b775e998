"""How often Python looks for garbage.

Nearly all garbage of a bridge, a worker and a reader is freed by counting references. The collector,
which looks for cycles, starts after 700 new objects by default. In a worker a single batch makes
thousands, each look finds nothing, and objects that merely live for the length of a batch are taken for
long-lived ones, which has the whole heap searched again and again. In a reader and in a bridge such a
search passes modules, routes and models, some 90,000 objects: for 50 ms nobody is answered, and no frame
is read.

An agent's call does leave cycles behind, by the SDK. To let 100,000 objects of them come together and
then be freed at once takes 60 to 120 ms as well, so a reader looks at fewer, more often.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 100_000
"""New objects before a look at them."""

OLDER: Final = (20, 50)
"""Looks at one generation before one at the next."""


def relax(young: int = YOUNG) -> None:
    """Look seldom, and never again at what is there by now; once everything is imported.

    Args:
        young: New objects before a look at them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, *OLDER)
