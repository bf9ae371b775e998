"""Repetitions of a library in an outage."""

from __future__ import annotations

import logging

import pytest

from streams.quiet_logs import NowAndThen, calm


def test_a_message_passes_once_per_period_whatever_its_arguments() -> None:
    now_s = 0.0
    each = NowAndThen(10.0, lambda: now_s)
    passed = []
    for second in range(25):
        now_s = float(second)
        record = logging.makeLogRecord({"msg": "no node %s", "args": (second,)})
        if each.filter(record):
            passed.append(second)
    assert passed == [0, 10, 20]
    assert each.filter(logging.makeLogRecord({"msg": "another"}))


def test_calming_twice_filters_once(caplog: pytest.LogCaptureFixture) -> None:
    calm(["a.library"])
    calm(["a.library"])
    logger = logging.getLogger("a.library")
    assert len(logger.filters) == 1
    for n in range(5):
        logger.error("again %d", n)
    assert [record.getMessage() for record in caplog.records] == ["again 0"]
    logger.filters.clear()
