"""What fails once passes and is told, what fails twice fails, a simulation gets one try."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # each starts a pytest

FAILS_ONCE = """
import pathlib

def once(name):
    seen = pathlib.Path(__file__).with_name(name)
    if not seen.exists():
        seen.touch()
        raise AssertionError(f"{name} stood still")

"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest("pytest_plugins = ['tests.support.guards', 'tests.support.second_try']\n")
    return pytester


def outcome(suite: pytest.Pytester, folder: str, **tests: str) -> pytest.RunResult:
    """Of these tests, by name, one line each, in a folder of ``tests``."""
    path = suite.mkdir("tests") / folder
    path.mkdir()
    body = "".join(f"def test_{name}():\n    {line}\n\n" for name, line in tests.items())
    (path / f"test_of_{folder}.py").write_text(FAILS_ONCE + body)
    return suite.runpytest_subprocess("-p", "no:valkey", "-p", "no:schemathesis")


def test_what_fails_once_passes_and_is_told(suite: pytest.Pytester) -> None:
    result = outcome(suite, "integration", shaky="once('broker')", sound="pass")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*failed at first*", "*test_shaky (call)", "*broker stood still*"])
    assert result.outlines[-1].startswith("failed at first: tests/integration/")
    assert result.outlines[-1].endswith("::test_shaky (call): AssertionError: broker stood still")


def test_what_fails_twice_fails(suite: pytest.Pytester) -> None:
    result = outcome(suite, "browser", broken="raise AssertionError('broken')")
    result.assert_outcomes(failed=1)


def test_what_has_its_own_clock_has_one_try(suite: pytest.Pytester) -> None:
    outcome(suite, "simulation", shaky="once('schedule')").assert_outcomes(failed=1)


def test_few_a_run_are_let_pass(suite: pytest.Pytester) -> None:
    shaky = {f"shaky_{nr}": f"once('worker {nr}')" for nr in range(5)}
    outcome(suite, "chaos", **shaky).assert_outcomes(passed=3, failed=2)
