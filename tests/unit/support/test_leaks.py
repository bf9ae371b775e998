"""The search finds what it looks for: else nothing found would mean nothing."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest

from tests.support.leaks import leaks

SECRET = 'a@:/%+secret of "some" length'


@pytest.mark.parametrize(
    "text",
    [
        SECRET.encode(),
        quote(SECRET, safe="").encode(),
        quote_plus(SECRET).encode(),
        json.dumps({"a": SECRET}).encode(),
        SECRET.encode().hex().encode(),
        *(base64.b64encode(b"x" * before + SECRET.encode() + b"yz") for before in range(7)),
        base64.urlsafe_b64encode(b"\0user\0" + SECRET.encode()),
    ],
)
def test_a_secret_is_found_in_any_spelling(text: bytes) -> None:
    found = leaks({"it": SECRET}, {"here": b"before " + text + b" after", "there": b"nothing"})
    assert found
    assert all(said.startswith("it in here") for said in found)


def test_another_secret_is_not() -> None:
    assert leaks({"it": SECRET}, {"here": SECRET[:-1].encode(), "there": b""}) == []
