"""From what was measured to what is printed and written."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import __main__ as program
from benchmarks import docs, plot, results, throughput
from benchmarks.consumers import Run
from benchmarks.latency import Seen, latencies, spread
from benchmarks.servers import samples, total


def row(name: str, handler: str, *rates: int) -> throughput.Row:
    consumer = throughput.Consumer(name, f"{name} {handler}", handler)
    return throughput.Row(consumer, [Run(rate, 1.0, 0.9, 0.1, 100.0, 2.0) for rate in rates])


@pytest.fixture
def rows() -> dict[str, throughput.Row]:
    made = (
        row("tapeline", "everything", 140_000, 160_000, 155_000),
        row("faust", "engine-event", 5_000),
        row("faust", "engine-second", 9_000),
        row("quix", "engine", 60_000),
        row("tapeline", "empty", 330_000),
        row("faust", "empty", 11_000),
        row("bytewax", "empty"),
    )
    found = {one.consumer.key: one for one in made}
    found["bytewax:empty"].missing = "no wheel for this machine"
    return found


def test_the_median_round_counts(rows: dict[str, throughput.Row]) -> None:
    assert throughput.summary(rows)["tapeline_events_per_s"] == 155_000


def test_goals_are_ratios_of_the_same_run(rows: dict[str, throughput.Row]) -> None:
    found = {goal.name: goal for goal in throughput.goals(rows)}
    assert found["everything on"].reached
    assert found["to stock Faust, a row at each event"].value == pytest.approx(31.0)
    assert found["to the best of the peers' runs"].value == pytest.approx(155 / 60)
    assert found["empty, to stock Faust"].value == pytest.approx(30.0)


def test_a_missing_peer_is_said_and_reaches_no_goal(rows: dict[str, throughput.Row]) -> None:
    found = throughput.summary(rows)
    assert found["missing"] == {"bytewax:empty": "no wheel for this machine"}
    assert found["empty"]["bytewax_events_per_s"] is None
    assert not found["goals"]["empty, to Bytewax"]["reached"]
    assert "missing: no wheel for this machine" in throughput.table(rows)


def test_latency_counts_from_the_first_record_that_a_report_lacks() -> None:
    """Tick at 1000, the next record came at 990, heard of at 1004: 10 and 4 ms."""
    records = {"A": ([5, 9, 12], [900, 990, 1001])}
    report = Seen("A", 1004.0, 1001, 1000, 5, 3, 100)
    assert latencies([report], records) == ([14.0], 0)


def test_a_record_that_came_after_the_tick_costs_nothing() -> None:
    records = {"A": ([5, 9, 12], [900, 990, 1001])}
    assert latencies([Seen("A", 1004.0, 1001, 1000, 9, 3, 100)], records) == ([4.0], 0)


def test_a_report_with_no_later_record_says_nothing() -> None:
    records = {"A": ([5, 9, 12], [900, 990, 1001])}
    assert latencies([Seen("A", 1104.0, 1101, 1100, 12, 3, 100)], records) == ([], 1)


def test_spread_gives_percentiles_and_the_most() -> None:
    found = spread([float(n) for n in range(101)])
    assert found == {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "max": 100.0}


def test_metrics_are_added_up_over_their_labels() -> None:
    found = samples('# HELP a b\na{kind="x"} 2.0\na{kind="y"} 3.0\na_created{kind="x"} 9.0\n')
    assert total(found, "a") == 5.0


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    page = f"before\n{docs.BEGIN}\n### A\nold\n\n### B\nkept\n{docs.END}\nafter\n"
    assert docs.replaced(page, "### A\nnew\n\n### C\nmore") == (
        f"before\n{docs.BEGIN}\n\n### A\nnew\n\n### B\nkept\n\n### C\nmore\n\n{docs.END}\nafter\n"
    )
    with pytest.raises(ValueError, match="needs the lines"):
        docs.replaced("no markers", "new")


def test_without_a_newer_result_the_page_stays_as_it_is() -> None:
    page = docs.PAGE.read_text(encoding="utf-8")
    assert docs.replaced(page, "") == page


def test_the_picture_is_whole_and_says_its_figures() -> None:
    bars = [plot.Bar("ours & theirs", 1234.0, ours=True), plot.Bar("nobody's", 0.0)]
    drawn = plot.svg("A title", "a note", [plot.Panel("Panel", bars, goal=2000.0)])
    texts = [node.text for node in ElementTree.fromstring(drawn).iter() if node.text]
    assert {"ours & theirs", "1,234", "goal 2,000", "A title"} <= set(texts)


def test_a_result_is_kept_with_its_command_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "CACHE", tmp_path)

    def benchmark(argv: list[str]) -> int:
        print('{"found": 1}')
        return 0

    assert results.run_and_keep("x", "x", benchmark, ["--rate", "5", "/some/where/tape.gz"]) == 0
    assert capsys.readouterr().out == ""
    assert results.kept("x") == {
        "found": 1,
        "command": "python -m benchmarks x --rate 5 tape.gz",
    }
    assert results.without_paths("no /some/where/python here") == "no python here"


def test_loads_of_one_benchmark_are_kept_apart() -> None:
    assert program.kept_as("latency", ["--json"]) == "latency"
    assert program.kept_as("latency", ["--symbols", "200", "--rate", "10000"]) == (
        "latency_200_symbols"
    )
    assert program.kept_as("memory", ["--rate", "5600"]) == "memory"
