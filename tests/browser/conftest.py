"""A real stack and a real browser for each module; a page for each test, judged at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import browsers
from tests.support.browsers import Watched, watched
from tests.support.desk_stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = browsers.unavailable()
    here = Path(__file__).parent
    for item in items:
        if reason and here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.browser() as made:
        yield made


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Twenty symbols, four times a second."""
    made = Stack(tmp_path_factory.mktemp("desk"))
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def desk(browser: Browser, stack: Stack) -> Iterator[Watched]:
    """A page; it may write no error, ask no other machine and get no refusal."""
    with watched(browser, stack.url) as seen:
        yield seen
        seen.judge()
