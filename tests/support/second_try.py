"""A second try for tests of real time, few of them a run, and never in silence.

A test that starts brokers, kills workers, drives a browser or, as some unit tests do, talks to a
simulated venue over loopback may fail because the machine stood still for a moment. It is run once
more, and how it failed first is printed at the run's end, in full and once more in its last lines,
where a log that was cut off still has it: what fails now and then is a fault to look for. `MOST`
of them a run are let pass, so a change that breaks much fails at once; what doesn't hang on the
time fails twice. Simulations have a clock of their own, no such excuse and no second try.
"""

from __future__ import annotations

import pytest

from tests.support.guards import folder_of

MOST = 3
"""So many a run; `--max-suite-reruns` says otherwise."""

TIMELESS = ("", "simulation")
"""Folders of tests without real time."""


def pytest_configure(config: pytest.Config) -> None:
    if config.option.max_suite_reruns is None:
        config.option.max_suite_reruns = MOST


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.usepdb:  # the first failure is what one wants to see then
        return
    for item in items:
        if has_second_try(item):
            item.add_marker(pytest.mark.flaky(reruns=1))


def has_second_try(item: pytest.Item) -> bool:
    """Whether a test may fail once."""
    return folder_of(item) not in TIMELESS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    first_tries: list[pytest.TestReport] = terminalreporter.getreports("rerun")
    if not first_tries:
        return
    terminalreporter.section("failed at first")
    for report in first_tries:
        terminalreporter.write_line(f"{report.nodeid} ({report.when})", bold=True)
        terminalreporter.write_line(report.longreprtext)
        for title, text in report.sections:
            terminalreporter.write_line(f"--- {title}\n{text}")


def pytest_unconfigure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None:
        return
    for report in terminal.getreports("rerun"):
        terminal.write_line(f"failed at first: {report.nodeid} ({report.when}): {reason(report)}")


def reason(report: pytest.TestReport) -> str:
    """One line of why a test failed."""
    crash = getattr(report.longrepr, "reprcrash", None)
    # `longreprtext` begins with the process, where there are several.
    text = report.longrepr if isinstance(report.longrepr, str) else report.longreprtext
    lines = (crash.message if crash is not None else text).splitlines()
    return lines[0] if lines else "no reason given"
