"""What the code logs while a test runs, whatever ran before it.

Once a process has set up its logging, lines go to the real stderr and loggers keep that; before,
they are printed. So a test that reads what was said asks for this, not for `capsys` or `caplog`.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from tapeline.config import load_settings
from tapeline.logging import configure_logging, json_formatter


class Logged:
    """JSON lines, in a text that only grows until it is taken."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        self.handler = logging.StreamHandler(self._text)
        self.handler.setFormatter(json_formatter())

    def take(self) -> str:
        """What was said since the test began, or since the last time."""
        said = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return said


@pytest.fixture
def logged() -> Iterator[Logged]:
    """What is logged from here on; handlers and level are afterwards as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging(load_settings({}), "test")
    lines = Logged()
    root.addHandler(lines.handler)
    yield lines
    root.handlers[:] = handlers
    root.setLevel(level)
