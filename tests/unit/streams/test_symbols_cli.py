"""``tapeline symbols``: arguments, what is said, and exit statuses; no broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from streams import symbols_cli
from streams.commands import (
    ACKNOWLEDGED,
    Acknowledgement,
    Command,
    Decision,
    MergeCommand,
    RoutingState,
)
from streams.merged import Merge
from streams.symbols import Listing
from streams.symbols_cli import keys_of, listings_of, named_symbol
from tapeline.errors import ConfigError, TopicError

STATE = RoutingState(
    v=1,
    applied=4,
    routing_version=7,
    symbols=["binance:BTCUSDT", "binance:SOLUSDT", "kraken:BTC/USD>BTCUSD", "binance:X>BTCUSD"],
    decisions=[
        Decision(venue="binance", symbol="SOLUSDT", venue_symbol="SOLUSDT", command_id="a"),
        Decision(venue="binance", symbol="ETHUSDT", command_id="b"),
    ],
)


def answer_to(
    command: Command | MergeCommand, error: str = "", *, changed: bool = True
) -> Acknowledgement:
    return Acknowledgement(
        v=1,
        event=ACKNOWLEDGED,
        ts_ms=1,
        node_id="b1",
        decision_id=command.command_id,
        command_id=command.command_id,
        type=command.type,
        venue=command.venue,
        symbol=command.symbol,
        status="error" if error else "success",
        error=error,
        changed=changed and not error,
        routing_version=8,
    )


class FakeClient:
    """Answers as a test wants: by symbol an error, ``None`` for no answer, or nothing for success."""

    def __init__(self) -> None:
        self.kept: RoutingState | None = STATE
        self.answers: dict[str, str | None] = {}
        self.changed = True
        self.sent: list[Command | MergeCommand] = []
        self.timeout_s = 0.0

    async def state(self) -> RoutingState | None:
        return self.kept

    async def send(
        self, commands: Iterable[Command | MergeCommand], timeout_s: float
    ) -> dict[str, Acknowledgement]:
        self.timeout_s = timeout_s
        self.sent += commands
        found = {}
        for command in self.sent:
            error = self.answers.get(command.symbol, "")
            if error is not None:
                found[command.command_id] = answer_to(command, error, changed=self.changed)
        return found


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    made = FakeClient()

    @asynccontextmanager
    async def control_client(_: Any) -> AsyncIterator[FakeClient]:
        yield made

    monkeypatch.setattr(symbols_cli, "control_client", control_client)
    monkeypatch.setenv("KAFKA_URL", "kafka://127.0.0.1:1")
    return made


def run(*argv: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(symbols_cli.app, [*argv])
    return result.exit_code, result.stdout, result.stderr


def test_add_sends_a_command_a_symbol_and_says_what_became_of_it(client: FakeClient) -> None:
    code, out, _ = run("add", "binance:SOLUSDT", "binance:ETHUSDC>ETHUSD", "--timeout", "3")
    assert code == 0
    assert [(c.type, c.venue, c.listing) for c in client.sent] == [
        ("subscribe", "binance", Listing("binance", "SOLUSDT", "SOLUSDT")),
        ("subscribe", "binance", Listing("binance", "ETHUSDC", "ETHUSD")),
    ]
    assert len({c.command_id for c in client.sent}) == 2
    assert client.timeout_s == 3.0
    assert out.splitlines()[0] == "binance:SOLUSDT: added (routing version 8)"


def test_what_is_so_already_is_said_to_be(client: FakeClient) -> None:
    client.changed = False
    code, out, _ = run("add", "binance:SOLUSDT")
    assert (code, out) == (0, "binance:SOLUSDT: added already (routing version 8)\n")


def test_json_is_one_object_with_a_row_a_command(client: FakeClient) -> None:
    client.answers = {"ETHUSDT": "not listed", "XRPUSDT": None}
    code, out, _ = run("add", "binance:SOLUSDT", "binance:ETHUSDT", "binance:XRPUSDT", "--json")
    assert code == 3
    (line,) = out.splitlines()
    rows = json.loads(line)["commands"]
    assert [(row["symbol"], row["status"], row["error"]) for row in rows] == [
        ("SOLUSDT", "success", ""),
        ("ETHUSDT", "error", "not listed"),
        ("XRPUSDT", "unanswered", ""),
    ]


def test_an_error_ends_it_with_1_and_silence_with_3(client: FakeClient) -> None:
    client.answers = {"SOLUSDT": "binance does not list 'SOLUSDT'"}
    code, _, err = run("add", "binance:SOLUSDT")
    assert (code, err) == (1, "ERROR: binance:SOLUSDT: binance does not list 'SOLUSDT'\n")
    client.answers = {"SOLUSDT": None}
    code, _, err = run("add", "binance:SOLUSDT", "--timeout", "0.5")
    assert code == 3
    assert "no bridge has answered within 0.5 s; the command is kept" in err


def test_remove_means_the_symbol_at_every_venue_unless_one_is_named(client: FakeClient) -> None:
    code, out, _ = run("remove", "BTCUSD", "binance:ETHUSDT")
    assert code == 0
    assert [(c.type, *c.key) for c in client.sent] == [
        ("unsubscribe", "kraken", "BTCUSD"),
        ("unsubscribe", "binance", "BTCUSD"),
        ("unsubscribe", "binance", "ETHUSDT"),
    ]
    assert "kraken:BTCUSD: removed (routing version 8)" in out


@pytest.mark.parametrize("kept", [STATE, None])
def test_to_remove_what_is_not_followed_is_no_failure(
    client: FakeClient, kept: RoutingState | None
) -> None:
    client.kept = kept
    code, out, err = run("remove", "NOPEUSDT", "--json")
    assert (code, json.loads(out), client.sent) == (0, {"commands": []}, [])
    assert err == "NOPEUSDT is not followed: nothing to remove\n"


def test_list_says_who_has_asked_for_what(client: FakeClient) -> None:
    code, out, _ = run("list", "--json")
    assert code == 0
    body = json.loads(out)
    assert body["routing_version"] == 7
    assert [(row["symbol"], row["venue"], row["by"]) for row in body["symbols"]] == [
        ("BTCUSDT", "binance", "SYMBOLS"),
        ("SOLUSDT", "binance", "command"),
        ("BTCUSD", "kraken", "SYMBOLS"),
        ("BTCUSD", "binance", "SYMBOLS"),
    ]
    assert body["symbols"][2]["venue_symbol"] == "BTC/USD"
    assert body["removed"] == ["binance:ETHUSDT"]
    code, out, _ = run("list")
    assert code == 0
    assert "routing version 7" in out
    assert "BTC/USD" in out


def test_list_before_the_first_command_ends_with_3(client: FakeClient) -> None:
    client.kept = None
    code, _, err = run("list")
    assert code == 3
    assert "no bridge has kept yet" in err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("add", "SOLUSDT"), "VENUE:SYMBOL is 'SOLUSDT'; expected VENUE:SYMBOL or"),
        (("add", "binance:sol usdt"), "VENUE:SYMBOL is 'binance:sol usdt'; expected VENUE"),
        (("add", "binance:"), "VENUE:SYMBOL is 'binance:'; expected VENUE"),
        (("add", ""), "VENUE:SYMBOL is ''; expected VENUE"),
        (("add", "binance:A,binance:B"), "'binance:A,binance:B'; expected VENUE"),
        (("add", "nasdaq:AAPL"), "VENUE is 'nasdaq'; expected a venue out of"),
        (("add", "binance:A>X", "binance:B>X"), "binance has X twice"),
        (("remove", "btc/usd"), "SYMBOL is 'btc/usd'; expected a canonical symbol such as"),
        (("remove", ":BTCUSDT"), "SYMBOL is ':BTCUSDT'; expected a canonical symbol"),
        (("remove", "nasdaq:AAPL"), "SYMBOL is 'nasdaq'; expected a venue out of"),
    ],
)
def test_an_argument_that_can_not_be_right_ends_it_with_2(
    client: FakeClient, argv: tuple[str, ...], said: str
) -> None:
    code, _, err = run(*argv)
    assert code == 2
    assert said in err
    assert client.sent == []


@pytest.mark.parametrize("argv", [("add",), ("remove",), ("add", "binance:A", "--timeout", "0")])
def test_a_wrong_use_ends_it_with_2(client: FakeClient, argv: tuple[str, ...]) -> None:
    assert run(*argv)[0] == 2


def test_without_a_broker_s_address_it_ends_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_URL", raising=False)
    code, _, err = run("list")
    assert code == 2
    assert "KAFKA_URL is not set" in err


def test_a_broker_that_does_not_answer_ends_it_with_1(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def state() -> None:
        raise TopicError("broker kafka://u:secret@h:1 does not answer")

    monkeypatch.setattr(client, "state", state)
    code, _, err = run("list")
    assert code == 1
    assert "does not answer" in err
    assert "secret" not in err


def test_arguments_are_read_once_each() -> None:
    assert listings_of(["binance:A", "binance:A"]) == (Listing("binance", "A", "A"),)
    assert named_symbol("binance:BTCUSDT") == ("binance", "BTCUSDT")
    assert keys_of([("", "BTCUSDT"), ("binance", "BTCUSDT")], STATE) == [("binance", "BTCUSDT")]
    with pytest.raises(ConfigError):
        named_symbol("")


# --- merged windows ---------------------------------------------------------------------------------


def test_merge_sends_one_command_and_says_what_became_of_it(client: FakeClient) -> None:
    code, out, _ = run(
        *("merge", "BTCUSD", "--kind", "trade", "--kind", "ticker", "--venue", "kraken"),
        *("--venue", "coinbase", "--window-s", "2.5", "--max-events", "50"),
    )
    assert (code, out) == (0, "BTCUSD trade ticker: merged (routing version 8)\n")
    (sent,) = client.sent
    assert isinstance(sent, MergeCommand)
    assert (sent.type, sent.symbol, sent.kinds) == (
        "merged_subscribe",
        "BTCUSD",
        ["trade", "ticker"],
    )
    assert (sent.venues, sent.window_s, sent.max_events) == (["kraken", "coinbase"], 2.5, 50)


def test_unmerge_names_all_kinds_by_naming_none(client: FakeClient) -> None:
    code, out, _ = run("unmerge", "BTCUSD")
    assert (code, out) == (0, "BTCUSD: merged no more (routing version 8)\n")
    (sent,) = client.sent
    assert isinstance(sent, MergeCommand)
    assert (sent.type, sent.kinds) == ("merged_unsubscribe", [])


def test_what_is_merged_is_listed(client: FakeClient) -> None:
    client.kept = msgspec.structs.replace(
        STATE, merges=[Merge("BTCUSD", "trade", ("binance", "kraken"), 2.5, 50)]
    )
    _, out, _ = run("list", "--json")
    assert json.loads(out)["merges"] == [
        {
            "symbol": "BTCUSD",
            "kind": "trade",
            "venues": ["binance", "kraken"],
            "window_s": 2.5,
            "max_events": 50,
        }
    ]
    _, out, _ = run("list")
    assert "merged: BTCUSD trade of binance, kraken, windows of 2.5 s or 50 events" in out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("merge", "btc usd", "--kind", "trade"), "SYMBOL is 'btc usd'; expected a canonical"),
        (("merge", "BTCUSD", "--kind", "trades"), "--kind is 'trades'; expected one of book_delta"),
        (("merge", "BTCUSD", "--kind", "trade", "--venue", "nyse"), "--venue is 'nyse'"),
        (("unmerge", "BTCUSD", "--kind", "x"), "--kind is 'x'"),
    ],
)
def test_a_merge_that_can_not_be_right_ends_it_with_2(
    client: FakeClient, argv: tuple[str, ...], said: str
) -> None:
    code, _, err = run(*argv)
    assert code == 2
    assert said in err
    assert client.sent == []
