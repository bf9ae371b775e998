"""What ``tapeline top`` draws, from data alone."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from serving.survey import NodeSight, Survey, SymbolSight
from serving.table import View, duration, render


def node(node_id: str = "w1", **changes: Any) -> NodeSight:
    fields: dict[str, Any] = {
        "node_id": node_id,
        "hostname": "host-a",
        "pid": 4711,
        "incarnation": "abc",
        "started_at": 1000,
        "up_s": 200.0,
        "heartbeat_age_ms": 340,
        "metrics_url": "http://127.0.0.1:9101/metrics",
        "state": "up",
        "health": "ok",
        "owned": 5,
        "assigned": 6,
        "warm": 7,
    }
    return NodeSight(**{**fields, **changes})


def symbol(name: str = "BTCUSDT", **changes: Any) -> SymbolSight:
    fields: dict[str, Any] = {
        "symbol": name,
        "owner": "w1",
        "lease_ms": 1500,
        "token": 1795297712953,
        "seq": 53,
        "watermark": 1407,
        "report_age_ms": 213,
        "state": "ok",
        "data_age_ms": 238,
        "partition": 18,
        "offset": 1406,
        "feed_gaps": 0,
    }
    return SymbolSight(**{**fields, **changes})


def drawn(view: View, width: int = 160, height: int | None = None) -> list[str]:
    """Lines as a terminal without colours shows them."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(render(view, width, height))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def view(
    nodes: tuple[NodeSight, ...] = (), symbols: tuple[SymbolSight, ...] = (), **rest: Any
) -> View:
    return View(survey=Survey(at_ms=5000, nodes=nodes, symbols=symbols), **rest)


def cells(lines: list[str], head: str) -> list[dict[str, str]]:
    """A table's rows by column, the table being the one whose first column is ``head``."""
    at = next(n for n, line in enumerate(lines) if line.split()[:1] == [head])
    rows = []
    for line in lines[at + 1 :]:
        if not line:
            break
        rows.append(line)
    heads = [word for word in lines[at].replace("feed gaps", "feed_gaps").split("  ") if word]
    return [
        dict(
            zip([h.strip() for h in heads], [c.strip() for c in row.split("  ") if c], strict=True)
        )
        for row in rows
    ]


def test_nodes_and_symbols_have_a_line_each_with_every_figure() -> None:
    lines = drawn(
        view((node(),), (symbol(),), gaps_s={"BTCUSDT": 0.512}, watched_s=65.0),
    )
    assert lines[0] == "tapeline top  1 nodes  1 of 1 symbols written  watched 1m 05s"
    assert cells(lines, "node") == [
        {
            "node": "w1", "state": "up", "owned": "5", "assigned": "6", "warm": "7",
            "beat": "340 ms", "up": "3m 20s", "health": "ok", "pid": "4711", "host": "host-a",
        }
    ]  # fmt: skip
    assert cells(lines, "symbol") == [
        {
            "symbol": "BTCUSDT", "owner": "w1", "state": "ok", "age": "213 ms", "data": "238 ms",
            "gap": "512 ms", "feed_gaps": "0", "seq": "53", "offset": "1406", "watermark": "1407",
            "token": "1795297712953",
        }
    ]  # fmt: skip


def test_what_is_not_known_is_a_dash_and_never_a_figure() -> None:
    silent = node(health=None, owned=None, assigned=None, warm=None, state="vanished")
    never = symbol(
        owner="", state="none", report_age_ms=None, data_age_ms=None, offset=None, feed_gaps=None
    )
    lines = drawn(view((silent,), (never,)))
    [row] = cells(lines, "node")
    assert [row[name] for name in ("owned", "assigned", "warm", "health")] == ["-"] * 4
    [row] = cells(lines, "symbol")
    assert [row[n] for n in ("owner", "age", "data", "gap", "feed_gaps", "offset")] == ["-"] * 6
    assert "0 of 1 symbols written" in lines[0]


@pytest.mark.parametrize("state", ["up", "draining", "vanished", "left", "gone"])
def test_a_node_s_state_is_said_in_words(state: str) -> None:
    assert cells(drawn(view((node(state=state),))), "node")[0]["state"] == state


def test_without_redis_the_last_that_was_seen_stays_and_the_reason_is_said() -> None:
    lines = drawn(view((node(),), (symbol(),), error="Redis did not answer: TimeoutError()"))
    assert lines[1] == "Redis did not answer: TimeoutError(); trying again"
    assert cells(lines, "symbol")[0]["owner"] == "w1"
    assert drawn(View(survey=None, error="Redis did not answer")) == [
        "tapeline top",
        "Redis did not answer; trying again",
    ]


def test_an_empty_redis_is_said_in_words() -> None:
    assert drawn(view()) == ["tapeline top  no node beats  no symbols"]


@pytest.mark.parametrize("width", [160, 120, 100, 80, 60, 40, 34, 24])
def test_no_line_is_wider_than_the_terminal_and_none_is_wrapped(width: int) -> None:
    lines = drawn(
        view((node(),), (symbol(),), gaps_s={"BTCUSDT": 0.5}, error="Redis is away"), width
    )
    assert all(len(line) <= width for line in lines)
    assert sum(line.startswith("w1") for line in lines) == 1
    assert sum(line.startswith("BTC") for line in lines) == 1


def test_a_narrow_terminal_keeps_owner_age_and_gap() -> None:
    row = cells(drawn(view((), (symbol(),), gaps_s={"BTCUSDT": 0.5}), 34), "symbol")[0]
    assert row == {"symbol": "BTCUSDT", "owner": "w1", "age": "213 ms", "gap": "500 ms"}


def test_columns_stay_where_they_are_while_figures_change() -> None:
    heads = {
        drawn(view((node(heartbeat_age_ms=ms),), (symbol(report_age_ms=ms),)), 80)[n]
        for ms in (5, 340, 9900, 3_599_000)
        for n in (2, 5)
    }
    assert len(heads) == 2


def test_what_does_not_fit_a_short_terminal_is_counted() -> None:
    names = [f"S{n:02}USDT" for n in range(30)]
    many = view((node(),), tuple(symbol(name) for name in names))
    lines = drawn(many, 80, 20)
    assert len(lines) <= 20
    shown = sum(line.startswith("S") for line in lines)
    assert lines[-1] == f"{30 - shown} more: --symbols picks some"
    assert "more" not in drawn(many, 80)[-1]


def test_names_out_of_redis_move_no_cursor() -> None:
    evil = view((node(hostname="a\x1b[2Jb\nc", node_id="[red]n[/]"),))
    text = "\n".join(drawn(evil))
    assert "\x1b" not in text
    assert "a?[2Jb?c" in text
    assert "[red]n[/]" in text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "-"),
        (0.0, "0 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1m 00s"),
        (3599.4, "59m 59s"),
        (3600, "1h 00m"),
        (90_000, "1d 1h"),
    ],
)
def test_durations_are_short(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_the_object_has_every_attribute_and_the_gap() -> None:
    body = view(
        (node(),), (symbol(), symbol("ETHUSDT")), gaps_s={"BTCUSDT": 0.51249}, writes={"BTCUSDT": 4},
        watched_s=3.0,
    ).as_json()  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(body)) == body
    assert body["at_ms"] == 5000
    assert body["error"] is None
    assert set(body["nodes"][0]) == set(NodeSight.__slots__)
    assert set(body["symbols"][0]) == {*SymbolSight.__slots__, "gap_s", "writes"}
    assert [(one["gap_s"], one["writes"]) for one in body["symbols"]] == [(0.512, 4), (None, None)]
    assert View(survey=None, error="away").as_json() == {
        "at_ms": None, "error": "away", "watched_s": 0.0, "nodes": [], "symbols": [],
    }  # fmt: skip
