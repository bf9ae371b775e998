"""Repetitions of a library in an outage."""

from __future__ import annotations

import logging

import pytest

from tapeline import quiet_logs
from tapeline.quiet_logs import NowAndThen


def record(msg: str, *args: object, name: str = "aiokafka.client") -> logging.LogRecord:
    return logging.makeLogRecord({"name": name, "msg": msg, "args": args})


def test_a_message_passes_once_per_period_whatever_its_arguments() -> None:
    now_s = 0.0
    each = NowAndThen(every_s=10.0, now_s=lambda: now_s)
    passed = {}
    for second in range(25):
        now_s = float(second)
        said = record("no node %s", second)
        if each.filter(said):
            passed[second] = getattr(said, "repeated", 0)
    assert passed == {0: 0, 10: 9, 20: 9}
    assert each.filter(record("another"))
    assert each.filter(record("no node %s", name="aiokafka.conn"))


def test_other_libraries_say_what_they_like() -> None:
    each = NowAndThen(now_s=lambda: 0.0)
    assert all(each.filter(record("again", name="aiokafkaesque")) for _ in range(3))


def test_what_it_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet_logs, "TEXTS_MAX", 10)
    each = NowAndThen(now_s=lambda: 0.0)
    assert sum(each.filter(record(f"text {n}")) for n in range(100)) == 100
    assert len(each._said_s) <= 10
