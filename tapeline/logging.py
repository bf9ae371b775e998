"""Logs: one JSON object a line on stderr, from our code and the libraries' alike.

Every line has ``timestamp``, ``level``, ``logger``, ``event``, ``component`` and ``node_id``;
those about a symbol add ``symbol`` and, where it is known, ``lag_ms``. Secrets are masked in every
field, see `tapeline.masking`. What a library repeats with every attempt to reach a broker is said
every ten seconds, with the number of times it was ``repeated``.
"""

from __future__ import annotations

import logging
import logging.config
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from tapeline.config import Settings
from tapeline.masking import mask

_Event = MutableMapping[str, Any]

_identity: dict[str, str] = {"node_id": "", "component": ""}


def _identify(_logger: Any, _method: str, event: _Event) -> _Event:
    for name, value in _identity.items():
        event.setdefault(name, value)
    return event


def _plain(_logger: Any, _method: str, event: _Event) -> _Event:
    event.pop("color_message", None)  # uvicorn's: the event once more, for terminals
    return event


class _MaskedJson:
    """Renders to JSON, then masks: by then exceptions and nested values are text too."""

    def __init__(self) -> None:
        self._render = structlog.processors.JSONRenderer()

    def __call__(self, logger: Any, method: str, event: _Event) -> str:
        return mask(str(self._render(logger, method, event)))


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
    structlog.processors.UnicodeDecoder(),
    _identify,
    _plain,
]


def json_formatter() -> logging.Formatter:
    """Formats records of the standard library and of structlog as JSON."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _MaskedJson(),
        ],
    )


def logging_config(level: str) -> dict[str, Any]:
    """A `logging.config.dictConfig` value; Faust is given it, or it would install its own."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "tapeline.logging.json_formatter"}},
        "filters": {"now_and_then": {"()": "tapeline.quiet_logs.NowAndThen"}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "json",
                "filters": ["now_and_then"],
                # The real one: a Faust worker replaces sys.stderr by a proxy to its logger.
                "stream": sys.__stderr__,
            }
        },
        "root": {"handlers": ["stderr"], "level": level},
        # Each of these says at INFO, for every request or rebalance, what is of use only to
        # its own authors.
        "loggers": {
            **{name: {"level": "WARNING"} for name in ("aiokafka", "aiohttp.access", "asyncio")},
            # At DEBUG it writes down each header it sends, and the password of a URL is one.
            "websockets": {"level": max(level, "INFO", key=logging.getLevelName)},
        },
    }


def configure_logging(settings: Settings, component: str) -> None:
    """Set up logging of this process; call it once, first."""
    _identity.update(node_id=settings.node_id, component=component)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(logging_config(settings.log_level))


def get_logger(component: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry ``component``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(
        f"tapeline.{component}", component=component
    )
    return logger
