"""What fails once passes and is told, what fails twice fails, what is pure gets one try."""

from __future__ import annotations

import pytest

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


def write(suite: pytest.Pytester, folder: str, *tests: str) -> None:
    path = suite.mkdir("tests") if not (suite.path / "tests").exists() else suite.path / "tests"
    path = path / folder
    path.mkdir()
    body = "".join(f"def test_{name}():\n    {line}\n\n" for name, line in map(split, tests))
    (path / f"test_of_{folder}.py").write_text(FAILS_ONCE + body)


def split(test: str) -> tuple[str, str]:
    name, _, line = test.partition(": ")
    return name, line


def test_what_fails_once_passes_and_is_told(suite: pytest.Pytester) -> None:
    write(suite, "integration", "shaky: once('broker')", "sound: pass")
    result = suite.runpytest_subprocess("-p", "no:valkey", "-p", "no:schemathesis")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*failed at first*", "*test_shaky (call)", "*broker stood still*"])


def test_what_fails_twice_fails(suite: pytest.Pytester) -> None:
    write(suite, "browser", "broken: raise AssertionError('broken')")
    result = suite.runpytest_subprocess("-p", "no:valkey", "-p", "no:schemathesis")
    result.assert_outcomes(failed=1)


def test_what_is_pure_has_one_try(suite: pytest.Pytester) -> None:
    write(suite, "unit", "shaky: once('arithmetic')")
    result = suite.runpytest_subprocess("-p", "no:valkey", "-p", "no:schemathesis")
    result.assert_outcomes(failed=1)


def test_few_a_run_are_let_pass(suite: pytest.Pytester) -> None:
    write(suite, "chaos", *(f"shaky_{nr}: once('worker {nr}')" for nr in range(5)))
    result = suite.runpytest_subprocess("-p", "no:valkey", "-p", "no:schemathesis")
    result.assert_outcomes(passed=3, failed=2)
