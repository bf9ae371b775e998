"""Logs: one JSON object a line, whoever writes it, and no password in any."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from tapeline.config import load_settings
from tapeline.logging import (
    TRANSITIONS,
    configure_logging,
    get_logger,
    logging_config,
    tell_lags,
)
from tapeline.traceparent import TraceContext, within

FIELDS = {"timestamp", "level", "logger", "event", "component", "node_id"}
URL = "redis://user:hush@127.0.0.1:6379/0"


class Lines:
    """What has been logged so far."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    def text(self) -> str:
        return self._stream.getvalue()

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]

    def last(self) -> dict[str, Any]:
        return self.all()[-1]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Logging of a worker named n1, into memory; everything is as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logging_config("INFO")["loggers"]}
    configure_logging(load_settings({"NT_NODE_ID": "n1"}), "worker")
    [handler] = root.handlers
    stream = io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield Lines(stream)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def test_a_line_of_ours_has_every_field_and_its_own(lines: Lines) -> None:
    """Symbol and lag are fields, not text."""
    get_logger("cycles").info("cycle.late", symbol="BTCUSDT", lag_ms=12)
    line = lines.last()
    assert line.keys() == FIELDS | {"symbol", "lag_ms"}
    assert (line["event"], line["level"], line["node_id"]) == ("cycle.late", "info", "n1")
    assert (line["component"], line["logger"]) == ("cycles", "tapeline.cycles")
    assert (line["symbol"], line["lag_ms"]) == ("BTCUSDT", 12)


def test_a_line_of_a_library_has_the_same_fields(lines: Lines) -> None:
    """Its component is the process's."""
    logging.getLogger("some.library").warning("took %d ms", 5, extra={"symbol": "X"})
    line = lines.last()
    assert line.keys() == FIELDS | {"symbol"}
    assert (line["event"], line["level"]) == ("took 5 ms", "warning")
    assert (line["component"], line["logger"], line["node_id"]) == ("worker", "some.library", "n1")


def test_what_a_client_repeats_in_an_outage_is_said_once(lines: Lines) -> None:
    """Each attempt would be a line."""
    for attempt in range(30):
        logging.getLogger("aiokafka.conn").error("no connection, attempt %d", attempt)
        logging.getLogger("some.library").error("no connection")
    said = [line["logger"] for line in lines.all()]
    assert (said.count("aiokafka.conn"), said.count("some.library")) == (1, 30)


def test_a_timestamp_says_its_zone(lines: Lines) -> None:
    """UTC."""
    get_logger("x").info("now")
    assert datetime.fromisoformat(lines.last()["timestamp"]).utcoffset() == timedelta(0)


def test_an_exception_is_one_line_with_its_traceback_as_a_field(lines: Lines) -> None:
    """From both kinds of logger."""
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        get_logger("x").exception("ours.failed")
        logging.getLogger("y").exception("theirs failed")
    assert len(lines.all()) == 2
    assert all("ValueError: first\nsecond" in line["exception"] for line in lines.all())


class _Unprintable:
    def __repr__(self) -> str:
        return f"<client of {URL}>"


@pytest.mark.parametrize(
    "value",
    [URL, f"failed at {URL} twice", [URL], {"inner": {"url": URL}}, OSError(URL), _Unprintable()],
    ids=["url", "text", "list", "mapping", "exception", "object"],
)
def test_a_password_is_masked_wherever_it_stands(lines: Lines, value: object) -> None:
    """In a field of any shape, in a message, in an argument, in a traceback."""
    ours, theirs = get_logger("x"), logging.getLogger("y")
    ours.info("connecting", server=value)
    ours.info(f"connecting to {value}")
    theirs.info("connecting to %s", value)
    theirs.info("connecting", extra={"server": value})
    try:
        raise OSError(str(value))
    except OSError:
        ours.exception("failed")
        theirs.exception("failed")
    assert len(lines.all()) == 6
    assert "hush" not in lines.text()
    assert lines.text().count("redis://user:***@127.0.0.1:6379/0") >= 6


def test_what_json_does_not_know_is_written_as_text(lines: Lines) -> None:
    """A log call never fails for its arguments."""
    get_logger("x").info("odd", value=object(), raw=b"\xff", nothing=None, many={1, 2})
    assert lines.last()["nothing"] is None


def test_lines_below_the_level_are_not_written(lines: Lines) -> None:
    """Of ours and of others."""
    get_logger("x").debug("quiet")
    logging.getLogger("y").debug("quiet")
    assert lines.text() == ""


@pytest.mark.parametrize("name", ["aiokafka", "aiohttp.access", "asyncio"])
def test_talkative_libraries_speak_from_warning_on(lines: Lines, name: str) -> None:
    """Each request or rebalance is of use to their authors only."""
    logging.getLogger(name).info("chatter")
    logging.getLogger(name).warning("trouble")
    assert [line["event"] for line in lines.all()] == ["trouble"]


def test_context_of_a_task_is_added(lines: Lines) -> None:
    """And gone after it."""
    with structlog.contextvars.bound_contextvars(symbol="ETHUSDT"):
        get_logger("x").info("inside")
    get_logger("x").info("outside")
    inside, outside = lines.all()
    assert inside["symbol"] == "ETHUSDT"
    assert "symbol" not in outside


def test_colours_of_a_web_server_are_left_out(lines: Lines) -> None:
    """Uvicorn hands over each message twice."""
    logging.getLogger("uvicorn.error").info("up", extra={"color_message": "\x1b[1mup"})
    assert lines.last().keys() == FIELDS


@pytest.mark.parametrize("event", sorted(TRANSITIONS))
def test_what_becomes_of_a_symbol_has_symbol_and_lag(lines: Lines, event: str) -> None:
    """Always, so that nobody need ask whether they are there; null where there is none."""
    tell_lags({"BTCUSDT": 42}.get)
    log = get_logger("x")
    for fields in ({"symbol": "BTCUSDT"}, {"symbol": "ETHUSDT"}, {}, {"symbol": "X", "lag_ms": 7}):
        log.warning(event, **fields)
    found = [(line["symbol"], line["lag_ms"]) for line in lines.all()]
    assert found == [("BTCUSDT", 42), ("ETHUSDT", None), (None, None), ("X", 7)]
    assert all(line.keys() == FIELDS | {"symbol", "lag_ms"} for line in lines.all())


def test_a_line_within_a_span_names_it(lines: Lines) -> None:
    """A library's too; one that names a trace itself keeps that."""
    span = TraceContext("ab" * 16, "cd" * 8)
    with within(span):
        get_logger("x").info("ours")
        logging.getLogger("y").warning("theirs")
        get_logger("x").info("of another", trace_id="t")
    get_logger("x").info("outside")
    ours, theirs, other, outside = lines.all()
    assert (ours["trace_id"], ours["span_id"]) == (theirs["trace_id"], theirs["span_id"]) == span
    assert other["trace_id"] == "t"
    assert "trace_id" not in outside
    assert "span_id" not in outside


def test_a_collector_s_client_repeats_itself_now_and_then(lines: Lines) -> None:
    for attempt in range(30):
        logging.getLogger("opentelemetry.exporter.otlp").warning("retrying, %d", attempt)
    assert len(lines.all()) == 1
