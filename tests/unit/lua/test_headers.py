"""Scripts say in their headers what they take and answer; here it is held against the callers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from importlib import resources
from typing import Any

import pytest

from lua import (
    AcquireCode,
    BeatCode,
    Keys,
    PublishCode,
    ReleaseCode,
    RenewCode,
    ReportWrite,
    Scripts,
    Sight,
    TickWrite,
)
from lua.scripts import DEFAULT_SCRIPTS, NAMES

CODES: dict[str, type[IntEnum]] = {
    "acquire": AcquireCode,
    "renew": RenewCode,
    "release": ReleaseCode,
    "publish": PublishCode,
    "publish_tick": PublishCode,
    "beat": BeatCode,
}


@dataclass(frozen=True)
class Header:
    """What a script's header promises."""

    text: str
    keys: list[str]
    args: list[str]
    codes: dict[str, int]


def section(text: str, title: str) -> str:
    found = re.search(rf"^{title}\b.*\n((?: +.*\n)*)", text, re.MULTILINE)
    assert found, f"no section {title}"
    return found.group(1)


def names(lines: str) -> list[str]:
    rows = re.findall(r"^ {1,2}(\d+) (\w+)", lines, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    return [name for _, name in rows]


def header_of(name: str) -> Header:
    text = re.match(r"--\[\[\n(.*?)\]\]\n", DEFAULT_SCRIPTS[name].source, re.DOTALL)
    assert text, "no header"
    codes = re.findall(r"^ +(-?\d+) ([A-Z_]+)", section(text[1], "Returns"), re.MULTILINE)
    return Header(
        text=text[1],
        keys=names(section(text[1], "KEYS")),
        args=names(section(text[1], "ARGV")),
        codes={word: int(number) for number, word in codes},
    )


class Recorder:
    """Stands in for a client: keeps what it is told to run."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply
        self.sha = ""
        self.keys: list[Any] = []
        self.args: list[Any] = []

    async def evalsha(self, sha: str, count: int, *rest: Any) -> Any:
        self.sha, self.keys, self.args = sha, list(rest[:count]), list(rest[count:])
        return self.reply


REPORT = ReportWrite(
    symbol="S",
    lease_value="n|i|7",
    token=7,
    seq=8,
    watermark=9,
    updated_at=10,
    payload=b"report",
    heavy=b"heavy",
)
TICK = TickWrite(symbol="S", lease_value="n|i|7", token=7, seq=8, watermark=9, payload=b"tick")

WRITER = {
    "lease": "report:writer:S",
    "counter": "report:writer:token:S",
    "meta": "report:meta:S",
}


async def call(name: str) -> tuple[Recorder, dict[str, Any], dict[str, Any]]:
    """Make the call; what it should give by the names in the header."""
    keys = Keys()
    granted = [1, 7, "n|i|7", 2000, 0, 0]
    order = {"lease_value": "n|i|7", "token": 7, "seq": 8, "watermark": 9}
    announced = '{"symbol":"S","token":7,"seq":8}'
    match name:
        case "acquire":
            recorder = Recorder(granted)
            await Scripts(recorder).acquire(  # type: ignore[arg-type]
                keys.writer("S"), "n", "i", 2000, 5, steal_below_ms=400, expected="m|j|6"
            )
            return (
                recorder,
                WRITER,
                {
                    "node": "n",
                    "incarnation": "i",
                    "ttl_ms": 2000,
                    "floor": 5,
                    "steal_below_ms": 400,
                    "expected": "m|j|6",
                },
            )
        case "renew":
            recorder = Recorder(1)
            await Scripts(recorder).renew("report:writer:S", "n|i|7", 2000)  # type: ignore[arg-type]
            return (
                recorder,
                {"lease": "report:writer:S"},
                {"lease_value": "n|i|7", "ttl_ms": 2000},
            )
        case "release":
            recorder = Recorder(1)
            await Scripts(recorder).release("report:writer:S", "n|i|7")  # type: ignore[arg-type]
            return recorder, {"lease": "report:writer:S"}, {"lease_value": "n|i|7"}
        case "look":
            recorder = Recorder([b"n|i|7", 1500, 7, 9])
            sight = await Scripts(recorder).look(keys.writer("S"))  # type: ignore[arg-type]
            assert sight == Sight("n|i|7", 1500, 7, 9)
            assert sight.holder == "n"
            return recorder, {"lease": WRITER["lease"], "meta": WRITER["meta"]}, {}
        case "publish":
            recorder = Recorder(1)
            await Scripts(recorder).publish(REPORT, 300_000)  # type: ignore[arg-type]
            return (
                recorder,
                {"report": "report:S", "heavy": "report:S:heavy", **WRITER},
                {
                    **order,
                    "updated_at": 10,
                    "ttl_ms": 300_000,
                    "payload": b"report",
                    "heavy_payload": b"heavy",
                    "channel": "report:S",
                    "announcement": announced,
                },
            )
        case "publish_tick":
            recorder = Recorder(1)
            await Scripts(recorder).publish_tick(TICK, 300_000)  # type: ignore[arg-type]
            return (
                recorder,
                {"tick": "tick:S", **WRITER},
                {
                    **order,
                    "ttl_ms": 300_000,
                    "payload": b"tick",
                    "channel": "tick:S",
                    "announcement": announced,
                },
            )
        case "beat":
            recorder = Recorder([1, b"{}", []])
            await Scripts(recorder).beat("n", "i", b"{}", 5, replaces="h")  # type: ignore[arg-type]
            return (
                recorder,
                {"heartbeat": "nt:node:n", "nodes": "nt:nodes"},
                {"id": "n", "incarnation": "i", "payload": b"{}", "ttl_s": 5, "replaces": "h"},
            )
        case _:
            raise AssertionError(name)


def test_every_file_is_a_script_with_a_caller() -> None:
    files = {
        f.name.removesuffix(".lua")
        for f in resources.files("lua").iterdir()
        if f.name.endswith(".lua")
    }
    assert files == set(NAMES) == set(CODES) | {"look"}


@pytest.mark.parametrize("name", NAMES)
async def test_the_caller_gives_what_the_header_asks_for(name: str) -> None:
    header = header_of(name)
    recorder, keys, args = await call(name)
    assert recorder.sha == DEFAULT_SCRIPTS[name].sha
    assert dict(zip(header.keys, recorder.keys, strict=True)) == keys
    assert dict(zip(header.args, recorder.args, strict=True)) == args


@pytest.mark.parametrize("name", NAMES)
def test_the_locals_bear_the_names_of_the_header(name: str) -> None:
    header = header_of(name)
    found: dict[str, dict[int, str]] = {"KEYS": {}, "ARGV": {}}
    bound = r"^local (\w+) = (?:tonumber\()?(KEYS|ARGV)\[(\d+)\]"
    for local, table, number in re.findall(bound, DEFAULT_SCRIPTS[name].source, re.MULTILINE):
        found[table][int(number)] = local
    assert found["KEYS"] == dict(enumerate(header.keys, 1))
    assert found["ARGV"] == dict(enumerate(header.args, 1))


@pytest.mark.parametrize("name", CODES)
def test_the_codes_are_those_of_the_enum(name: str) -> None:
    header, enum = header_of(name), CODES[name]
    assert header.codes == {member.name: member.value for member in enum}
    constants = re.search(
        r"^local ([A-Z_, ]+) = ([-\d, ]+)$", DEFAULT_SCRIPTS[name].source, re.MULTILINE
    )
    assert constants
    words, numbers = constants[1].split(", "), constants[2].split(", ")
    assert dict(zip(words, map(int, numbers), strict=True)) == header.codes


@pytest.mark.parametrize("name", NAMES)
def test_a_script_touches_no_key_but_those_it_was_given(name: str) -> None:
    """A key name built inside a script would be in another slot of a cluster."""
    keys = set(header_of(name).keys)
    calls = re.findall(r"redis\.call\(\s*'(\w+)'(?:,\s*([^,)]+))?", DEFAULT_SCRIPTS[name].source)
    assert calls
    for command, first in calls:
        if command not in {"TIME", "PUBLISH"}:
            assert first in keys, (command, first)


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_which_race_the_script_stops(name: str) -> None:
    text = header_of(name).text
    assert text.startswith(f"{name}: ")
    assert "\nThe race it stops: " in text
