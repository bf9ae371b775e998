"""What strangers wrote, on a terminal and in JSON: nothing of it is obeyed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.escaping import escaped, json_line


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain text, 1.5 \xe2\x82\xac", "plain text, 1.5 \u20ac"),
        (b"\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        (b"two\nlines\r\tand\x00more\x7f", r"two\nlines\r\tand\x00more\x7f"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("\x9b31m", r"\u009b31m"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2028\U000e0001", r"\u2028\U000e0001"),
        (r"\x1b", r"\\x1b"),
        ("", ""),
    ],
)
def test_what_is_not_printable_is_written_out(raw: str | bytes, shown: str) -> None:
    assert escaped(raw) == shown


@settings(max_examples=50)
@given(st.one_of(st.text(), st.binary()), st.one_of(st.none(), st.integers(3, 40)))
def test_nothing_but_printable_characters_comes_out(raw: str | bytes, limit: int | None) -> None:
    shown = escaped(raw, limit)
    assert all(char.isprintable() for char in shown)
    assert limit is None or len(shown) <= limit


@given(st.binary(), st.binary())
def test_different_bytes_are_shown_differently(one: bytes, other: bytes) -> None:
    assert (escaped(one) == escaped(other)) is (one == other)


def test_a_cut_is_shown() -> None:
    assert escaped("0123456789", 10) == "0123456789"
    assert escaped("0123456789x", 10) == "0123456..."


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none())))
def test_json_is_printable_ascii_and_says_the_same(body: dict[str, object]) -> None:
    line = json_line(body)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == body
