"""Each test has its turn, once, in a pytest of their own; given servers serve one process."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # each starts a pytest

SUITE = """
import pytest

@pytest.mark.alone
def test_how_long_it_takes():
    pass

def test_this():
    pass

def test_that():
    pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(
        "[pytest]\nmarkers = alone: alone\nasyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makeconftest("pytest_plugins = ['tests.support.side_by_side']\n")
    pytester.makepyfile(test_some=SUITE)
    return pytester


def outcome(suite: pytest.Pytester, *options: str) -> pytest.RunResult:
    return suite.runpytest_subprocess("-p", "no:valkey", "-p", "no:schemathesis", *options)


@pytest.mark.parametrize(
    ("options", "passed", "deselected"),
    [
        ((), 3, 0),
        (("--turn", "alone"), 1, 2),
        (("--turn", "others"), 2, 1),
        (("--turn", "others", "-k", "this"), 1, 2),
    ],
)
def test_turns(
    suite: pytest.Pytester, options: tuple[str, ...], passed: int, deselected: int
) -> None:
    result = outcome(suite, *options)
    result.assert_outcomes(passed=passed, deselected=deselected)
    assert result.ret == pytest.ExitCode.OK


def test_the_others_turn_in_two_processes(suite: pytest.Pytester) -> None:
    result = outcome(suite, "--turn", "others", "-n", "2")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("-k", "this"), pytest.ExitCode.OK),  # of the other turn
        (("-k", "this", "-n", "2"), pytest.ExitCode.OK),
        (("-k", "nothing"), pytest.ExitCode.NO_TESTS_COLLECTED),
    ],
)
def test_a_turn_without_tests(
    suite: pytest.Pytester, options: tuple[str, ...], status: pytest.ExitCode
) -> None:
    assert outcome(suite, "--turn", "alone", *options).ret == status


def test_given_servers_serve_one_process(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NT_TEST_REDIS_URL", "redis://127.0.0.1:1/0")
    result = outcome(suite, "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*-n 2: expected 1, as NT_TEST_REDIS_URL is for one process"])
