"""An engine that is given up is gone at once: nothing in it holds it, so nobody has to search for it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from tables.engine import Engine
from tests.support.tape import interleaved
from tests.support.venues import all_of, engine, three


@pytest.fixture(autouse=True)
def _without_a_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_one_that_has_seen_all_kinds_of_records() -> None:
    one = engine(interleaved(3, *three(3, 400)))
    all_of(one, one.newest_ms)
    gone = weakref.ref(one)
    del one
    assert gone() is None


def test_one_that_was_restored() -> None:
    one = engine(interleaved(3, *three(3, 400)))
    other = Engine.restore(one.snapshot(), listed=one.listed)
    gone = weakref.ref(other)
    del other
    assert gone() is None
