"""The command line itself."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from tapeline.cli import app


@pytest.mark.parametrize("asked", ["--version", "version"])
def test_the_version_is_told(asked: str) -> None:
    result = CliRunner().invoke(app, [asked])
    assert (result.exit_code, result.stdout) == (0, version("tapeline") + "\n")


def test_without_a_command_there_is_help_and_an_error() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "--version" in result.output
