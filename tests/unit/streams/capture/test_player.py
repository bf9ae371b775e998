"""Playing a tape: replies in their time, sockets as they came and went, trouble by its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streams.capture.dialects import dialect_of
from streams.capture.formats import CaptureError, CaptureWriter
from streams.capture.player import PROBLEMS_KEPT, Player, listings_of, survey
from streams.events import kind_of
from streams.venues.binance import urls
from tapeline.errors import ConfigError
from tests.support.binance import (
    NOW_MS,
    depth,
    frame,
    info_body,
    info_entry,
    level,
    quote,
    snapshot_body,
    trade,
)

BINANCE = dialect_of("binance")
ADDRESS = urls.STREAM_ROOT + urls.stream_path(["BTCUSDT"])
INFO_URL = "https://api.binance.com/api/v3/exchangeInfo"
DEPTH_URL = urls.REST_ROOT + urls.snapshot_path("BTCUSDT")
BOOK = snapshot_body(9, [level(100, 5)], [level(101, 5)]).decode()
INFO = info_body().decode()


def play(*files: Path) -> tuple[Player, list[tuple[int, str]]]:
    """The player, and (milliseconds since NOW_MS, kind) of each event."""
    found = survey(BINANCE, files)
    assembler = BINANCE.assembler(
        listings_of(BINANCE, found.symbols), infer_instruments=not found.has_instruments
    )
    player = Player(assembler, BINANCE, files)
    return player, [(ts - NOW_MS, kind_of(e)) for ts, events in player.play() for e in events]


def counts(player: Player) -> object:
    return player._assembler.counts


def test_replies_written_first_are_given_in_their_time(tmp_path: Path) -> None:
    """As some recorders write them: all of REST, then the socket."""
    path = tmp_path / "tape.gz"
    with CaptureWriter(path) as tape:
        tape.http(DEPTH_URL, BOOK, NOW_MS + 250)
        tape.http(INFO_URL, INFO, NOW_MS - 50)
        tape.connect("c", ADDRESS, NOW_MS)
        tape.recv("c", depth(9, 9), NOW_MS + 100)
        tape.recv("c", depth(10, 10), NOW_MS + 200)
        tape.recv("c", depth(11, 11), NOW_MS + 300)
    player, events = play(path)
    assert events == [
        (0, "feed_status"),
        (0, "instrument"),
        (250, "book_snapshot"),
        (250, "book_delta"),
        (300, "book_delta"),
    ]
    assert player.frames == 3
    assert player.problems == []


def test_a_reply_after_the_last_frame_is_still_given(tmp_path: Path) -> None:
    path = tmp_path / "tape.gz"
    with CaptureWriter(path) as tape:
        tape.http(INFO_URL, INFO, NOW_MS)
        tape.http(DEPTH_URL, BOOK, NOW_MS + 900)
        tape.connect("c", ADDRESS, NOW_MS)
        tape.recv("c", depth(10, 10), NOW_MS + 100)
    assert play(path)[1][-2:] == [(900, "book_snapshot"), (900, "book_delta")]


def test_ns_lines_carry_the_snapshot_among_the_frames_over_several_files(tmp_path: Path) -> None:
    lines = [depth(9, 9), BOOK, depth(10, 10), depth(11, 11), quote(11), trade(1)]
    lines = [f"{(NOW_MS + n * 100) * 1_000_000} {line}" for n, line in enumerate(lines)]
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_text("\n".join(lines[:3]))
    second.write_text("\n".join(lines[3:]))
    player, events = play(first, second)
    assert [kind for _, kind in events] == [
        "feed_status", "instrument", "book_snapshot", "book_delta", "book_delta", "ticker", "trade"
    ]  # fmt: skip
    assert player.frames == 6
    found = survey(BINANCE, [first, second])
    assert (found.frames, found.symbols, found.has_instruments) == (6, ["BTCUSDT"], False)
    assert found.wire == {"depth": 3, "bookTicker": 1, "trade": 1, "other": 1}


def test_exchange_info_among_ns_lines_is_the_instruments_reply(tmp_path: Path) -> None:
    path = tmp_path / "x"
    body = info_body(info_entry(tick="0.10000000")).decode()
    lines = [depth(9, 9), body, BOOK]
    path.write_text("\n".join(f"{NOW_MS * 1_000_000} {line}" for line in lines))
    player, _ = play(path)
    instrument = player._assembler.instrument("BTCUSDT", NOW_MS)
    assert instrument is not None
    assert instrument.origin == "venue"
    assert instrument.px_e == -1


def test_a_snapshot_without_an_address_fits_no_one_of_two_symbols(tmp_path: Path) -> None:
    path = tmp_path / "x"
    eth = json.loads(depth(9, 9))["data"] | {"s": "ETHUSDT"}
    lines = [depth(9, 9), frame("depth@100ms", eth, "ETHUSDT"), BOOK]
    path.write_text("\n".join(f"{NOW_MS * 1_000_000} {line}" for line in lines))
    with pytest.raises(CaptureError, match=r"x:3: a snapshot without an address, while 2"):
        play(path)


def test_a_second_snapshot_answers_the_gap(tmp_path: Path) -> None:
    path = tmp_path / "tape.gz"
    with CaptureWriter(path) as tape:
        tape.connect("c", ADDRESS, NOW_MS)
        tape.http(INFO_URL, INFO, NOW_MS)
        tape.http(DEPTH_URL, BOOK, NOW_MS + 50)
        tape.recv("c", depth(10, 10), NOW_MS + 100)
        tape.recv("c", depth(12, 12), NOW_MS + 200)
        tape.http(DEPTH_URL, snapshot_body(11, [], []).decode(), NOW_MS + 350)
        tape.recv("c", depth(13, 13), NOW_MS + 400)
    assert play(path)[1][3:] == [
        (100, "book_delta"),
        (350, "feed_status"),
        (350, "book_snapshot"),
        (350, "book_delta"),
        (400, "book_delta"),
    ]


def test_a_recorded_refusal_is_played_as_one(tmp_path: Path) -> None:
    path = tmp_path / "tape.gz"
    with CaptureWriter(path) as tape:
        tape.connect("c", ADDRESS, NOW_MS)
        tape.http(INFO_URL, INFO, NOW_MS)
        tape.http(DEPTH_URL, "{}", NOW_MS + 50, status=503)
        tape.http(DEPTH_URL, BOOK, NOW_MS + 60)
        tape.recv("c", depth(10, 10), NOW_MS + 100)
        tape.recv("c", depth(11, 11), NOW_MS + 1_100)
    assert play(path)[1][2:] == [(1_100, "book_snapshot")] + [(1_100, "book_delta")] * 2


def test_sockets_that_close_and_open_again_are_a_disconnect(tmp_path: Path) -> None:
    path = tmp_path / "tape.gz"
    with CaptureWriter(path) as tape:
        tape.connect("a", ADDRESS, NOW_MS)
        tape.connect("b", ADDRESS, NOW_MS + 1)
        tape.close_socket("a", NOW_MS + 2)
        tape.recv("b", trade(1), NOW_MS + 3)
        tape.close_socket("b", NOW_MS + 4)
        tape.connect("b", ADDRESS, NOW_MS + 5)
        tape.connect("b", ADDRESS, NOW_MS + 6)
        tape.send("b", "ping", NOW_MS + 7)
    assert play(path)[1] == [
        (0, "feed_status"),
        (3, "trade"),
        (4, "feed_status"),
        (5, "feed_status"),
        (6, "feed_status"),
        (6, "feed_status"),
    ]


def test_what_an_earlier_connection_asked_for_takes_no_reply(tmp_path: Path) -> None:
    """The second snapshot is there for the gap, and for nobody before."""
    path = tmp_path / "tape.gz"
    with CaptureWriter(path) as tape:
        tape.connect("c", ADDRESS, NOW_MS)
        tape.close_socket("c", NOW_MS + 1)
        tape.connect("c", ADDRESS, NOW_MS + 2)
        tape.http(INFO_URL, INFO, NOW_MS + 3)
        tape.http(DEPTH_URL, BOOK, NOW_MS + 4)
        tape.recv("c", depth(10, 10), NOW_MS + 100)
        tape.http(DEPTH_URL, snapshot_body(11, [], []).decode(), NOW_MS + 150)
        tape.recv("c", depth(12, 12), NOW_MS + 200)
    assert play(path)[1][-3:] == [
        (350, "feed_status"),
        (350, "book_snapshot"),
        (350, "book_delta"),
    ]


def test_entries_without_times_come_in_the_files_order(tmp_path: Path) -> None:
    path = tmp_path / "x"
    lines = [
        {"t": "connect", "conn": "c", "ts": None, "addr": ADDRESS},
        {"t": "http", "ts": None, "url": INFO_URL, "data": INFO},
        {"t": "http", "ts": None, "url": DEPTH_URL, "data": BOOK},
        {"t": "http", "ts": None, "url": "https://api.binance.com/api/v3/time", "data": "{}"},
        {"t": "recv", "conn": "c", "ts": None, "data": depth(10, 10)},
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    kinds = [kind for _, kind in play(path)[1]]
    assert kinds == ["feed_status", "instrument", "book_snapshot", "book_delta"]


def test_refused_frames_are_listed_by_line_up_to_a_number(tmp_path: Path) -> None:
    path = tmp_path / "x"
    lines = [trade(1), *["{}"] * (PROBLEMS_KEPT + 5), trade(2)]
    path.write_text("\n".join(f"{NOW_MS * 1_000_000} {line}" for line in lines))
    player, events = play(path)
    assert player.problem_count == PROBLEMS_KEPT + 5
    assert len(player.problems) == PROBLEMS_KEPT
    assert player.problems[0].startswith(f"{path}:2: neither a stream's frame")
    assert [kind for _, kind in events].count("trade") == 2


@pytest.mark.parametrize(
    ("wire", "kind", "symbol"),
    [
        (trade(1), "trade", "BTCUSDT"),
        (depth(1, 1), "depth", "BTCUSDT"),
        (json.dumps(json.loads(quote(1))["data"], separators=(",", ":")), "bookTicker", "BTCUSDT"),
        ('{"e":"depthUpdate","E":1,"s":"ETHUSDT","U":1}', "depth", "ETHUSDT"),
        ('{"e":"24hrTicker","E":1,"s":"ETHUSDT"}', "ticker", "ETHUSDT"),
        ('{"stream":"!serverShutdown","data":{}}', "", ""),
        ('{"e":"serverShutdown","E":1}', "serverShutdown", ""),
        ('{"result":null,"id":1}', "", ""),
        (BOOK, "", ""),
        ("", "", ""),
    ],
)
def test_a_glance_tells_kind_and_symbol(wire: str, kind: str, symbol: str) -> None:
    assert BINANCE.look(wire) == (kind, symbol)


def test_a_rest_address_tells_its_symbol_too() -> None:
    assert BINANCE.symbols_in_address(DEPTH_URL) == ["BTCUSDT"]
    assert BINANCE.symbols_in_address(INFO_URL) == []


def test_canonical_names_are_letters_and_digits() -> None:
    assert [x.symbol for x in listings_of(BINANCE, ["BTC/USD", "eth-usd", "?"])] == [
        "BTCUSD",
        "ETHUSD",
    ]


def test_an_unknown_venue_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="venue is 'nasdaq'; expected one of binance"):
        dialect_of("nasdaq")
