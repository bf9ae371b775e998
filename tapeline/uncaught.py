"""What nobody catches becomes a log line, and so JSON: whoever collects lines can read all of them.

Python writes uncaught exceptions of the main thread, of other threads and of destructors to stderr
by itself, and warnings too. asyncio tells its own logger already.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType
from typing import Any

from tapeline.config import Settings, unknown_variables
from tapeline.logging import configure_logging, get_logger

log = get_logger("process")


def configure_process(settings: Settings, component: str) -> None:
    """Set up all that a long-running process writes to stderr; call it once, first.

    Args:
        settings: Level and node.
        component: What the process is.
    """
    configure_logging(settings, component)
    catch_uncaught()
    for name, nearest in unknown_variables().items():
        log.warning("setting.unknown", name=name, nearest=nearest)


def catch_uncaught() -> None:
    """Have Python log where it would print."""
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_of_thread
    sys.unraisablehook = _unraisable


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        log.info("process.interrupted")
        return
    log.critical("process.uncaught", exc_info=(kind, error, trace))


def _uncaught_of_thread(what: Any) -> None:
    if what.exc_type is SystemExit:
        return
    name = what.thread.name if what.thread is not None else ""
    error = (what.exc_type, what.exc_value, what.exc_traceback)
    log.critical("process.uncaught", thread=name, exc_info=error)


def _unraisable(what: Any) -> None:
    error = (what.exc_type, what.exc_value, what.exc_traceback)
    log.error(
        "process.unraisable",
        said=what.err_msg or "",
        of=repr(what.object)[:200],
        exc_info=error,
    )
