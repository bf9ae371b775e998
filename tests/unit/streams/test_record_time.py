"""A record's time, read off its bytes."""

from __future__ import annotations

import json

import pytest

from streams.events import decode
from streams.record_time import NO_TIME, recv_ms
from tests.support.tape import random_tape


def test_it_is_what_decoding_says() -> None:
    for _, raw in random_tape(3, 300).records:
        assert recv_ms(raw) == decode(raw).ts_recv_ms


@pytest.mark.parametrize(
    ("raw", "time_ms"),
    [
        (b'{"ts_recv_ms":1723161255210}', 1723161255210),
        (b'{"ts_recv_ms": 1723161255210 , "v":1}', 1723161255210),
        (b'{"ts_recv_ms":5,"v":1}', 5),
        (b'{"ts_recv_ms":17231612552101}', 17231612552101),
        (json.dumps({"trace_id": '"ts_recv_ms":1723161255210,', "ts_recv_ms": 7}).encode(), 7),
    ],
    ids=["first and last", "with blanks", "of 1970", "of the far future", "its name in a text"],
)
def test_foreign_records_are_read_too(raw: bytes, time_ms: int) -> None:
    assert recv_ms(raw) == time_ms


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"{", b"\xff", b'{"ts_recv_ms":null}', b'{"ts_recv_ms":"1723161255210"}',
     b'{"ts_recv_ms":-5}', b'{"ts_recv_ms":172316125521x,']
)  # fmt: skip
def test_without_a_time_there_is_none(raw: bytes) -> None:
    assert recv_ms(raw) == NO_TIME
