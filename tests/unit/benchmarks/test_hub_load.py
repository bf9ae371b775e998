"""What the hub's load counts, and what is written of it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from benchmarks.hub_clients import BIN_NS, Client, masked
from benchmarks.hub_writer import Line, _report, _template
from benchmarks.readers_hub import milliseconds, reached
from lua import AcquireCode, Acquired
from serving.hub.wire import State, empty_snapshot, payload_of
from tables.report import decode_report


def test_percentiles_are_upper_edges_of_their_bins() -> None:
    counts = Counter({10: 98, 50: 1, 400: 1})
    assert [milliseconds(counts, share) for share in (0.5, 0.99, 1.0)] == [1.1, 5.1, 40.1]
    assert milliseconds(Counter(), 0.5) == 0.0


def line() -> Line:
    lease = Acquired(AcquireCode.GRANTED, 123, "bench|1|123", 1, 0, 0)
    return Line("AUSDT", lease, *_template("AUSDT"), seq=5)


def test_a_written_report_is_one_with_its_place_its_time_and_its_stamp() -> None:
    report = decode_report(_report(line(), 1_900_000_000_000))
    assert (report.symbol, report.writer.writer_token, report.seq) == ("AUSDT", 123, 5)
    assert report.updated_at == report.source.fast.now_ms == 1_900_000_000_000
    assert report.writer.node_id.startswith("t")


class Wire:
    """A client's socket."""

    sent = b""

    def sendall(self, data: bytes) -> None:
        self.sent += data


@pytest.mark.parametrize("cut", [1, 2, 3, 700, 100_000])
def test_a_client_counts_updates_however_they_are_cut(cut: int) -> None:
    counts: dict[int, int] = {}
    client = Client.__new__(Client)
    client.sock = Wire()  # type: ignore[assignment]
    client._counts, client.frames, client.snapshots = counts, 0, 0
    client.first_s, client.began_s, client.lost = None, 0.0, False
    payload = _report(line(), 5)
    stamp_ns = int(json.loads(payload)["writer"]["nodeId"][1:])
    state = State("reports.fast", "AUSDT", (1, 2), payload, written_ms=0, data_age_ms=0, at_ms=0)
    stream = empty_snapshot("reports.fast", "AUSDT", 0)
    stream += b"\x89\x02hi" + state.frame((1, 1), 0) + state.frame((1, 1), 0) + b"\x88\x00"
    rest = b""
    for at in range(0, len(stream), cut):
        rest = client._frames(rest + stream[at : at + cut], stamp_ns + 5 * BIN_NS, True)
    assert rest == b""
    assert counts == {5: 2}
    assert (client.snapshots, client.frames, client.lost) == (1, 2, True)
    assert client.sock.sent == b"\x8a\x84\0\0\0\0hi"


def test_what_a_client_says_is_masked_text() -> None:
    for text in ("short", "long" * 100):
        frame = masked(text)
        size, begin = frame[1] & 0x7F, 2
        if size == 126:
            size, begin = int.from_bytes(frame[2:4], "big"), 4
        mask = frame[begin : begin + 4]
        plain = bytes(b ^ mask[n % 4] for n, b in enumerate(frame[begin + 4 :]))
        assert (frame[0], frame[1] >> 7, plain.decode()) == (0x81, 1, text)
        assert size == len(text)


def load(**more: Any) -> dict[str, Any]:
    return {
        "clients": 100,
        "frames_per_s": 40_000,
        "p50_ms": 3.0,
        "p99_ms": 20.0,
        "p999_ms": 30.0,
        "server_cpu": 0.6,
        "server_peak_mb": 90,
        "lost": 0,
        **more,
    }


def test_goals_are_those_of_the_scenarios_that_ran() -> None:
    assert reached({"hub": load()})
    assert not reached({"hub": load(p99_ms=51.0)})
    assert not reached({"hub": load(lost=1)})
    assert not reached({"stuck": {"with": load(p99_ms=60.0)}})
    steady = {"served": 10, "first_snapshot_max_s": 2.0}
    assert reached({"many": {"clients": 10, "steady": steady}})
    assert not reached({"many": {"clients": 10, "steady": {**steady, "served": 9}}})
    assert not reached({"many": {"clients": 10, "steady": {**steady, "first_snapshot_max_s": 3.1}}})


def test_frames_of_the_wire_are_what_the_client_looks_for() -> None:
    from benchmarks.hub_clients import SNAPSHOT, UPDATE

    state = State("reports.fast", "A", (1, 2), b"{}", written_ms=0, data_age_ms=0, at_ms=0)
    assert payload_of(state.frame(None, 0)).startswith(SNAPSHOT)
    assert payload_of(state.frame((1, 1), 0)).startswith(UPDATE)
