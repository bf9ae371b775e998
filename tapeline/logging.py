"""Logs: one JSON object a line on stderr, from our code and the libraries' alike.

Every line has ``timestamp``, ``level``, ``logger``, ``event``, ``component`` and ``node_id``;
those about a symbol add ``symbol`` and, where it is known, ``lag_ms``; the `TRANSITIONS` always have
both. Lines said within a span add ``trace_id`` and ``span_id``. Secrets are masked in every
field, see `tapeline.masking`. What a library repeats with every attempt to reach a broker is said
every ten seconds, with the number of times it was ``repeated``.
"""

from __future__ import annotations

import logging
import logging.config
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog

from tapeline.config import Settings
from tapeline.masking import mask
from tapeline.traceparent import current

_Event = MutableMapping[str, Any]

TRANSITIONS: Final = frozenset(
    {
        "symbol_assigned",
        "symbol_dropped",
        "lease_acquired",
        "lease_lost",
        "lease_renewed",
        "lease_conflict",
        "rebalance_triggered",
        "calculation_error",
    }
)
"""What becomes of symbols: these lines have ``symbol`` and ``lag_ms``, null where there is none."""

LIBRARIES: Final = ("aiokafka", "aiohttp.access", "asyncio", "urllib3", "websockets")
"""Each of these says below WARNING, for every request or frame, what is of use only to its authors."""

_identity: dict[str, str] = {"node_id": "", "component": ""}
_lag_of: list[Callable[[str], int | None]] = []


def tell_lags(lag_of: Callable[[str], int | None]) -> None:
    """Have the `TRANSITIONS` ask how many milliseconds a symbol's state is behind."""
    _lag_of[:] = [lag_of]


def _transition(_logger: Any, _method: str, event: _Event) -> _Event:
    if event["event"] in TRANSITIONS:
        symbol = event.setdefault("symbol", None)
        if "lag_ms" not in event:
            event["lag_ms"] = _lag_of[0](symbol) if _lag_of and symbol is not None else None
    return event


def _in_span(_logger: Any, _method: str, event: _Event) -> _Event:
    span = current.get()
    if span is not None:
        event.setdefault("trace_id", span.trace_id)
        event.setdefault("span_id", span.span_id)
    return event


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
    _transition,
    _in_span,
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
        "filters": {
            "brokers": {"()": "tapeline.quiet_logs.NowAndThen"},
            "collectors": {"()": "tapeline.quiet_logs.NowAndThen", "library": "opentelemetry"},
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "json",
                "filters": ["brokers", "collectors"],
                # The real one: a Faust worker replaces sys.stderr by a proxy to its logger.
                "stream": sys.__stderr__,
            }
        },
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {name: {"level": _library_level(level)} for name in LIBRARIES},
    }


def _library_level(level: str) -> str:
    return level if level == "ERROR" else "WARNING"


def set_level(level: str) -> None:
    """Write lines from this level on, from now on.

    Args:
        level: As of ``NT_LOG_LEVEL``.
    """
    root = logging.getLogger()
    root.setLevel(level)
    for handler in root.handlers:
        # A Faust worker begun with a high level has set it on the handler, too.
        if handler.level > root.level:
            handler.setLevel(root.level)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(_library_level(level))


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
