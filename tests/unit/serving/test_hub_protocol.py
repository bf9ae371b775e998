"""Requests of the hub's clients: read, or refused in words that help."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from serving.hub import protocol
from serving.hub.metrics import HubMetrics
from serving.hub.protocol import Refused, Subscribe, decode_request, order_of
from tests.support.imports import ROOT


def asked(**fields: Any) -> protocol.Request:
    return decode_request(json.dumps(fields))


def refused(text: str) -> Refused:
    with pytest.raises(Refused) as caught:
        decode_request(text)
    return caught.value


def test_a_subscription_says_channels_symbols_and_how() -> None:
    request = asked(
        op="subscribe", id="a1", channels=["book"], symbols=["BTCUSDT"], max_hz=4, depth=5
    )
    assert isinstance(request, Subscribe)
    assert (request.id, request.max_hz, request.depth) == ("a1", 4.0, 5)


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("no json", "bad_request", "not a request"),
        ("[]", "bad_request", "not a request"),
        ('{"op":"dance"}', "bad_request", "dance"),
        ('{"op":"subscribe","channels":["ticks"],"symbol":["A"]}', "bad_request", "symbol"),
        ('{"op":"subscribe","channels":[],"symbols":["A"]}', "bad_request", "channels"),
        ('{"op":"subscribe","channels":["candles"],"symbols":["A"]}', "unknown_channel", "candles"),
        (
            '{"op":"subscribe","channels":["ticks"],"symbols":["btc\\u0000"]}',
            "unknown_symbol_name",
            "malformed",
        ),
        (
            '{"op":"subscribe","channels":["ticks"],"symbols":["*","A"]}',
            "unknown_symbol_name",
            "alone",
        ),
        ('{"op":"subscribe","channels":["book"],"symbols":["A"],"depth":51}', "bad_request", "50"),
        ('{"op":"subscribe","channels":["book"],"symbols":["A"],"max_hz":0}', "bad_request", ">="),
        ('{"op":"snapshot","channel":"trades","symbol":"A"}', "bad_request", "no snapshot"),
        ('{"op":"snapshot","channel":"x","symbol":"A"}', "unknown_channel", "x"),
        ('{"op":"snapshot","channel":"ticks","symbol":"a"}', "unknown_symbol_name", "capital"),
        ("{" * 5000, "bad_request", "not a request"),
    ],
)
def test_what_is_no_request_is_refused_by_name(text: str, code: str, word: str) -> None:
    error = refused(text)
    assert error.code == code
    assert word in str(error)


def test_a_refusal_names_the_request_where_it_has_a_name() -> None:
    assert refused('{"op":"dance","id":"a7"}').id == "a7"
    assert refused('{"op":"dance","id":7}').id is None
    assert refused("\ud800").id is None


def test_a_refusal_says_when_to_ask_again_only_where_it_knows() -> None:
    error = Refused("rate_limited", "too often", "a1")
    assert msgspec.to_builtins(error.frame(retry_after_ms=50))["retry_after_ms"] == 50
    assert "retry_after_ms" not in msgspec.to_builtins(error.frame())


@given(st.text(max_size=200))
def test_whatever_else_is_said_is_refused(text: str) -> None:
    """With nothing but that coming out of it."""
    with pytest.raises(Refused) as caught:
        decode_request(text)
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("7.12", (7, 12)),
        ("1700-3", (1700, 3)),
        ("0", (0, 0)),
        ("", None),
        ("7.", None),
        ("7.x", None),
        ("-7.1", None),
        ("٣.1", None),
        ("9" * 21, None),
    ],
)
def test_a_place_to_go_on_from_is_two_numbers(text: str, order: tuple[int, int] | None) -> None:
    assert order_of(text) == order


def test_every_channel_has_scopes() -> None:
    assert set(protocol.SCOPES) == set(protocol.CHANNELS)


def test_examples_in_the_documentation_are_frames_of_the_protocol() -> None:
    """Each of them, and of each kind there is one."""
    page = (ROOT / "docs" / "websocket.md").read_text(encoding="utf-8")
    shown = set()
    for example in re.findall(r"```json\n(.*?)```", page, re.DOTALL):
        if "op" in json.loads(example):
            shown.add(decode_request(example).__struct_config__.tag)
        else:
            frame = protocol.decode_frame(example)
            shown.add(frame.__struct_config__.tag)
            assert set(json.loads(example)) <= set(msgspec.to_builtins(frame))
    kinds = [*get_args(protocol.Request), *get_args(protocol.ServerFrame)]
    assert shown == {kind.__struct_config__.tag for kind in kinds}


def test_every_metric_that_there_is_has_a_line_in_the_documentation() -> None:
    page = (ROOT / "docs" / "websocket.md").read_text(encoding="utf-8")
    registry = CollectorRegistry()
    HubMetrics(registry)
    for metric in registry.collect():
        assert metric.name.removeprefix("tapeline_hub") in page, metric.name
