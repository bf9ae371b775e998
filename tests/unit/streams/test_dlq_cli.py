"""``tapeline dlq``: what it refuses before it asks a broker."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from streams.dead_letters import Letter, Position
from streams.dlq_cli import _line, app
from tapeline.errors import ConfigError, TapelineError, TopicError

BROKER = {"KAFKA_URL": "kafka://127.0.0.1:1"}


def ran(*arguments: str, **env: str) -> TapelineError:
    """The error that the command ends in, which `tapeline.cli.main` makes one line of."""
    result = CliRunner().invoke(app, [*arguments], env=env)
    assert isinstance(result.exception, TapelineError), result.output
    assert result.stdout == ""
    return result.exception


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("show", "five"), "POSITION"),
        (("retry", "1@x"), "POSITION"),
        (("retry",), "POSITION"),
        (("retry", "0@0", "--all"), "POSITION"),
    ],
)
def test_a_bad_position_is_named(arguments: tuple[str, ...], name: str) -> None:
    error = ran(*arguments, **BROKER)
    assert isinstance(error, ConfigError)
    assert error.name == name


def test_without_a_broker_it_is_asked_for() -> None:
    error = ran("list", KAFKA_URL="")
    assert isinstance(error, ConfigError)
    assert error.name == "KAFKA_URL"


def test_a_broker_that_does_not_answer_is_said() -> None:
    error = ran("list", **BROKER)
    assert isinstance(error, TopicError)
    assert "127.0.0.1:1" in str(error)


def test_a_line_of_the_list_obeys_nobody() -> None:
    told = {"error": "\x1b[31mx", "message": "\x9b2J\n", "venue": "a\x07", "frame": "\r1"}
    letter = Letter("t.dlq", Position(0, 3), 2**62, b"\x1b", b"x" * 9, told)
    assert _line(letter).isprintable()
    assert _line(letter).startswith("0@3 ")
