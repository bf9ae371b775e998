"""What a page may tell of an error, and how often."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.dashboard.page_errors import (
    BODY_BYTES_MAX,
    BURST,
    STACK_MAX,
    TEXT_MAX,
    Allowance,
    BadPageError,
    read,
)


def said(**fields: object) -> bytes:
    return json.dumps({"message": "x is undefined", **fields}).encode()


def test_an_error_becomes_fields_of_a_log_event() -> None:
    told = read(said(kind="rejection", source="http://h/a.mjs", line=3, column=4, page="/s/X"))
    assert told == {
        "kind": "rejection",
        "message": "x is undefined",
        "source": "http://h/a.mjs",
        "line": 3,
        "column": 4,
        "stack": "",
        "page": "/s/X",
    }


def test_keys_queries_and_control_characters_do_not_reach_the_log() -> None:
    told = read(
        said(
            message="bad tl_abc_S3cret-x\n\x1b[31mred\u202e",
            source="http://h/a.mjs?key=tl_abc_S3cret",
            stack="at f (http://h/a.mjs?q=1:2:3)\nat g",
            page="/?token=1#x",
        )
    )
    text = json.dumps(told, ensure_ascii=False)
    assert "S3cret" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\n" not in text
    assert "q=1" not in text
    assert told["page"] == "/"


def test_long_texts_are_cut() -> None:
    told = read(said(message="m" * 3000, stack="s" * 4000))
    assert len(told["message"]) == TEXT_MAX
    assert len(told["stack"]) == STACK_MAX


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"kind":"error"}',
        b'{"message":1}',
        b'{"message":"a","more":1}',
        b"\xff",
        b'{"message":"\xff"}',
        said(message="m" * BODY_BYTES_MAX),
    ],
)
def test_what_is_no_error_of_a_page_is_refused(body: bytes) -> None:
    with pytest.raises(BadPageError):
        read(body)


@given(st.text(max_size=300), st.text(max_size=300))
def test_whatever_is_said_is_printable_on_one_line(message: str, stack: str) -> None:
    told = read(json.dumps({"message": message, "stack": stack}).encode())
    for name in ("message", "stack"):
        assert len(told[name].splitlines()) <= 1
        assert told[name].isprintable() or not told[name]


def test_a_burst_is_taken_and_then_one_in_two_seconds() -> None:
    allowance = Allowance()
    assert [allowance.take(0) for _ in range(int(BURST) + 2)] == [True] * int(BURST) + [False] * 2
    assert allowance.refused == 2
    assert not allowance.take(1999)
    assert allowance.take(2000 + 1)
    assert not allowance.take(2002)
