"""What is written to topics and to Redis: golden files that every later version must read."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from streams import events
from tables.changelog import (
    Checkpoint,
    checkpoint_key,
    decode_checkpoint,
    encode_checkpoint,
    newest,
    symbol_and_token,
)
from tables.engine import Engine
from tables.report import compose, decode_report, encode_report
from tapeline.errors import SnapshotError
from tapeline.schemas import render, schemas
from tests.support.tape import SYMBOL, VENUE

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
COMMITTED = Path(__file__).parents[3] / "docs" / "schemas"

RECORDS = (GOLDEN / "events-v1.jsonl").read_bytes().splitlines()
REPORTS = (GOLDEN / "reports-1.1.jsonl").read_bytes().splitlines()
BEFORE_VENUES = (GOLDEN / "reports-1.1-before-venues.jsonl").read_bytes().splitlines()


def test_every_golden_record_decodes_and_comes_back_byte_for_byte() -> None:
    """Of every kind there is."""
    decoded = [events.decode(raw) for raw in RECORDS]
    assert [events.encode(event) for event in decoded] == RECORDS
    assert {events.kind_of(event) for event in decoded} == set(events.KINDS)


def test_every_golden_report_decodes_and_comes_back_byte_for_byte() -> None:
    """Empty, whole, with a gap, split, and of four venues."""
    for raw in REPORTS:
        assert msgspec.json.encode(decode_report(raw)) == raw


def test_reports_from_before_the_venues_are_read_and_all_else_in_them_stands() -> None:
    """An addition changed nothing that was there."""
    assert BEFORE_VENUES
    for before, now in zip(BEFORE_VENUES, REPORTS, strict=False):
        old = decode_report(before)
        assert old.venues is None
        assert msgspec.json.encode(old).replace(b'"venues":null,', b"") == before
        assert msgspec.structs.replace(decode_report(now), venues=None) == old


def test_the_golden_records_still_give_the_golden_report() -> None:
    """A change that breaks this needs a new engine version, not new goldens."""
    golden = decode_report(REPORTS[2])
    engine = Engine(SYMBOL, VENUE)
    engine.apply(enumerate(RECORDS))
    now_ms = golden.source.fast.now_ms
    again = compose(
        engine.fast_report(now_ms),
        engine.slow_report(now_ms),
        writer=golden.writer,
        seq=golden.seq,
        updated_at=golden.updated_at,
        source=golden.source,
    )
    assert encode_report(again, 10**9) == (REPORTS[2], b"")


def test_a_reader_ignores_fields_it_does_not_know() -> None:
    """Additions within version 1 break nobody."""
    later = RECORDS[0].replace(b'"v":1', b'"v":1,"added":{"x":1}')
    assert events.decode(later) == events.decode(RECORDS[0])
    assert decode_report(REPORTS[1][:-1] + b',"added":1}') == decode_report(REPORTS[1])


def test_a_large_report_is_split_and_its_halves_match() -> None:
    """By token and seq."""
    whole = decode_report(REPORTS[1])
    assert encode_report(whole, 10**6)[1] == b""
    light, heavy = (json.loads(part) for part in encode_report(whole, 1024))
    assert light["heavy"] is True
    assert light["depth"] is None
    assert light["liquidity"] is None
    assert (heavy["writer_token"], heavy["seq"]) == (light["writer"]["writerToken"], light["seq"])
    assert (
        heavy["liquidity"]["volume_profile"]["VAL"] <= heavy["liquidity"]["volume_profile"]["POC"]
    )


@pytest.mark.parametrize("name", schemas())
def test_committed_schemas_are_those_of_the_types(name: str) -> None:
    """Regenerate with ``python -m tapeline.schemas docs/schemas``."""
    assert (COMMITTED / name).read_text() == render(schemas()[name])


def test_golden_files_are_valid_against_the_schemas() -> None:
    """And a record without its stamp is not."""
    records = jsonschema.Draft202012Validator(schemas()["md.events.v1.json"])
    reports = jsonschema.Draft202012Validator(schemas()["report-1.1.json"])
    for raw in RECORDS:
        records.validate(json.loads(raw))
    for raw in (*REPORTS, *BEFORE_VENUES):
        reports.validate(json.loads(raw))
    unstamped = json.loads(RECORDS[0])
    del unstamped["feed"]
    assert not records.is_valid(unstamped)
    assert not reports.is_valid({**json.loads(REPORTS[0]), "seq": "one"})


def checkpoint(
    symbol: str = "BTCUSDT", token: int = 5, applied: int = 9, epoch: int = 0
) -> Checkpoint:
    return Checkpoint(symbol, token, epoch, applied, b"state")


def test_a_checkpoint_comes_back_as_it_went() -> None:
    """Key by symbol and token."""
    one = checkpoint()
    assert decode_checkpoint(encode_checkpoint(one)) == one
    assert one.key == b"BTCUSDT@5"


def test_restoring_takes_the_highest_token_then_epoch_then_offset() -> None:
    """A paused writer's late checkpoint loses, however far it got."""
    best = newest(
        [
            checkpoint(token=5, applied=900),
            checkpoint(token=6, applied=10),
            checkpoint(token=6, applied=12),
            checkpoint(token=6, applied=11),
            checkpoint("ETHUSDT", epoch=0, applied=99),
            checkpoint("ETHUSDT", epoch=1, applied=1),
        ]
    )
    assert best == {
        "BTCUSDT": checkpoint(token=6, applied=12),
        "ETHUSDT": checkpoint("ETHUSDT", epoch=1, applied=1),
    }


def test_a_foreign_or_damaged_checkpoint_is_refused() -> None:
    """By name."""
    with pytest.raises(SnapshotError, match="format"):
        decode_checkpoint(b"\x07rest")
    with pytest.raises(SnapshotError, match="format missing"):
        decode_checkpoint(b"")
    with pytest.raises(SnapshotError, match="damaged"):
        decode_checkpoint(encode_checkpoint(checkpoint())[:-3])


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        (checkpoint_key("BTCUSDT", 12), ("BTCUSDT", 12)),
        (b"BTCUSDT", ("", 0)),
        (b"BTCUSDT@x", ("", 0)),
        (b"\xff@1", ("\ufffd", 1)),
    ],
)
def test_a_changelog_key_is_taken_apart(key: bytes, parts: tuple[str, int]) -> None:
    """Whoever wrote it."""
    assert symbol_and_token(key) == parts
