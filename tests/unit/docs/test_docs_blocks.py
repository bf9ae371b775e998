"""Each command that a page shows is run by a test, or says why not.

Without a mark it is run by `tests/integration/test_docs_commands.py`; a mark in a comment before the
block names another test, or the reason.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from docs.site.pages import ROOT, SHELLS, Block, blocks, blocks_of, pages

SHOWN = [page for page in pages() if not page.startswith("tests/")]

_WORD = re.compile(r"[a-z][a-z-]*")
_INTERPRETERS = {"faust", "jq", "make", "node", "python", "sh", "tapeline"}


def wrong(block: Block, root: Path = ROOT) -> list[str]:
    """Marks of a block that are not true: of no command of it, without a reason, of no such test."""
    found = []
    for mark in block.marks:
        if not any(command.startswith(mark.scope) for command in block.commands):
            found.append(f"{block.where}: {mark.kind} {mark.scope}: no such command in it")
        if mark.kind == "exits with" and not mark.text.isdigit():
            found.append(f"{block.where}: exits with: {mark.text} is no status")
        if mark.kind == "not run" and len(mark.text.split()) < 2:
            found.append(f"{block.where}: not run: {mark.text} is no reason")
    for command in block.commands:
        tests = [t.strip() for text in block.marks_of(command, "run by") for t in text.split(",")]
        missing = [test for test in tests if not (root / test).is_file()]
        found += [f"{block.where}: there is no {test}" for test in missing]
        excused = block.marks_of(command, "not run")
        if tests and excused:
            found.append(f"{block.where}: {command}: either run or not")
        elif (
            tests and not missing and not any(covers(root / t, block.page, command) for t in tests)
        ):
            found.append(f"{block.where}: {' and '.join(tests)} does not run: {command}")
    return found


def covers(test: Path, page: str, command: str) -> bool:
    """Whether a test runs a command, as far as its text tells: it has the words of it.

    Or it reads the page's blocks itself, and knows the program.
    """
    source = test.read_text(encoding="utf-8")
    words = words_of(command)
    if f'"{page}"' in source and re.search(r"\b(?:console|blocks|section)\(", source):
        words = [command.split(maxsplit=1)[0].rpartition("/")[2]]
    return all(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", source) for word in words)


def words_of(command: str) -> list[str]:
    """What tells a command from others: settings before it, subcommands, its script or module."""
    words = shlex.split(command.rstrip("& "))
    told = []
    while words and (setting := re.fullmatch(r"([A-Z][A-Z_]*)=.*", words[0])):
        told.append(setting[1])
        words.pop(0)
    if any(name.startswith("NT_") for name in told):
        return told
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    if program == "make":
        return ["make", rest[0]]
    if rest[:1] == ["-m"]:
        return [rest[1]]
    if program in {"python", "sh", "node"}:
        return [Path(rest[0]).stem]
    named = []
    for word in rest:
        if not _WORD.fullmatch(word):
            break
        named.append(word)
    return named if program in _INTERPRETERS and named else [program]


@pytest.mark.parametrize("page", SHOWN)
def test_every_command_of_a_page_is_run_or_says_why_not(page: str) -> None:
    assert [problem for block in blocks(page) for problem in wrong(block)] == []


def test_blocks_are_found() -> None:
    """Or the test above would pass over nothing."""
    commands = [command for page in SHOWN for block in blocks(page) for command in block.commands]
    assert len(commands) > 60
    assert "tapeline topics apply" in commands


def test_commands_are_in_blocks_that_say_so() -> None:
    """A fence without a language, or of text, that begins with a prompt would be overlooked."""
    for page in SHOWN:
        text = (ROOT / page).read_text(encoding="utf-8")
        for language, first in re.findall(r"^ *```(\S*)\n *(.*)$", text, re.M):
            assert not first.startswith("$ ") or language in SHELLS, f"{page}: {first}"


def block(text: str) -> Block:
    (found,) = blocks_of("docs/NEW.md", text)
    return found


FENCE = "```console\n$ tapeline dlq retry 0@17\n$ tapeline top\nsomething said\n```\n"
DLQ = "tests/integration/streams/test_dead_letters_kafka.py"


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ("<!-- not run: dangerous -->", "no reason"),
        ("<!-- not run: it is only shown -->\n<!-- run by: README.md -->", "either run or not"),
        (f"<!-- run by: {DLQ} -->", "does not run: tapeline top"),
        ("<!-- run by: tests/nothing.py -->", "there is no tests/nothing.py"),
        ("<!-- not run redis-cli: it is not everywhere -->", "no such command"),
        ("<!-- exits with: a smile -->", "no status"),
    ],
)
def test_a_mark_that_is_not_true_would_be_found(marks: str, said: str) -> None:
    assert said in "\n".join(wrong(block(f"{marks}\n{FENCE}")))


@pytest.mark.parametrize(
    "marks",
    [
        "<!-- not run: it is only shown -->",
        "<!-- not run: it is only shown -->\n",
        f"<!-- run by: {DLQ}, tests/integration/test_top_command.py -->",
        f"<!-- run by tapeline dlq: {DLQ} -->\n<!-- not run tapeline top: it waits for ever -->",
    ],
)
def test_a_mark_that_is_true_is_well(marks: str) -> None:
    assert wrong(block(f"{marks}\n{FENCE}")) == []


def test_a_block_is_taken_apart_as_a_shell_would() -> None:
    """Prompts, comments, continued lines; in a list, too."""
    text = "- x\n\n  ```console\n  $ a 1 \\\n      -b   # why\n  said\n  $ c '#d'\n  ```\n"
    assert block(text).commands == ("a 1 -b", "c '#d'")
    assert block("```sh\n# why\na\n\nb \\\n  c\n```\n").commands == ("a", "b c")
    assert blocks_of("x", "```json\n$ a\n```\n~~~~\n```console\n$ b\n```\n~~~~\n") == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("tapeline dlq retry --all", ["dlq", "retry"]),
        (".venv/bin/tapeline report BTCUSDT --watch", ["report"]),
        ("NT_A=1 NT_B=2 faust -A agents worker", ["NT_A", "NT_B"]),
        ("REDIS_URL=redis://x tapeline top", ["top"]),
        ("python -m tests.chaos kill --runs 3", ["tests.chaos"]),
        ("python examples/readers/http_sync.py BTCUSDT", ["http_sync"]),
        ("make dev ARGS=--once", ["make", "dev"]),
        ("redis-cli GET x", ["redis-cli"]),
    ],
)
def test_a_command_is_known_by_its_words(command: str, words: list[str]) -> None:
    assert words_of(command) == words


def test_a_mark_may_be_of_a_command_with_an_address() -> None:
    text = "<!-- not run curl http://127.0.0.1:1: nobody is there -->\n```sh\ncurl http://127.0.0.1:1/x\n```"
    assert block(text).marks_of("curl http://127.0.0.1:1/x", "not run") == ["nobody is there"]


def test_a_mark_is_of_the_block_right_behind_it() -> None:
    assert block(f"<!-- not run: it is only shown -->\n\nA sentence.\n\n{FENCE}").marks == ()
