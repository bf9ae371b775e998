"""A page of Markdown taken apart: blocks of commands and their marks, headings, links. Pure.

The checks of links and commands and the builder of the site read pages by this one piece, so that
they agree on what a link or a command is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

SHELLS: Final = ("bash", "console", "sh", "shell")
"""Languages of fences that hold commands."""

_SKIPPED: Final = {"node_modules", "build", "dist", "lib", "target", "data"}

_FENCE: Final = re.compile(r"^ *(`{3,}|~{3,})[ ]*(\S*)")
_COMMENT: Final = re.compile(r"^ *<!-- (.*?) -->$")
_MARK: Final = re.compile(r"(run by|not run|exits with)(?: (.+?))?: (.+)")
_HEADING: Final = re.compile(r"^(#{1,6}) +(.*?) *#*$")
_ANCHOR: Final = re.compile(r"<[a-z]+ [^>]*\b(?:id|name)=\"([^\"]+)\"")
_CODE: Final = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_LINK: Final = re.compile(
    r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]*(?:\([^()\s]*\))?[^()\s]*)\)"
)
_DEFINED: Final = re.compile(r"^ {0,3}\[[^\]^][^\]]*\]: +(\S+)")


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands in a comment before a block.

    Attributes:
        kind: ``run by``, ``not run`` or ``exits with``.
        scope: Commands that begin so; all of the block if empty.
        text: Tests, a reason, or an exit status.
    """

    kind: str
    scope: str
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """A fence of commands.

    Attributes:
        page: Path of the page from the project's folder.
        line: Of the fence, from 1.
        commands: What is typed, comments left off, continued lines joined.
        marks: Those before it.
    """

    page: str
    line: int
    commands: tuple[str, ...]
    marks: tuple[Mark, ...]

    @property
    def where(self) -> str:
        """``PAGE:LINE``."""
        return f"{self.page}:{self.line}"

    def marks_of(self, command: str, kind: str) -> list[str]:
        """Texts of the marks of a kind that speak of this command."""
        return [m.text for m in self.marks if m.kind == kind and command.startswith(m.scope)]


@dataclass(frozen=True, slots=True)
class Link:
    """One link or image: where it stands in the text, and where it leads.

    Attributes:
        line: From 1.
        start, end: Of the target, in that line.
        target: As it is written.
        image: Whether it is shown in place.
    """

    line: int
    start: int
    end: int
    target: str
    image: bool = False


def pages(root: Path = ROOT) -> list[str]:
    """Every page of the project, by its path from there."""
    found = []
    for path in root.rglob("*.md"):
        parts = path.relative_to(root).parts
        if not any(part in _SKIPPED or part.startswith(".") for part in parts):
            found.append("/".join(parts))
    return sorted(found)


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it, and the site by `pymdownx.slugs`."""
    plain = _LINK.sub(lambda match: match[2], heading)
    plain = re.sub(r"<[^>]+>|[`*]", "", plain)
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def anchors(text: str) -> list[str]:
    """Anchors of a page in order: of headings, and those that are written out."""
    found = []
    for _, line in prose(text):
        heading = _HEADING.match(line)
        if heading:
            found.append(slug(heading[2]))
        found += _ANCHOR.findall(line)
    return found


def prose(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of all that stands outside of fences and comments."""
    fence, comment = "", False
    for number, line in enumerate(text.splitlines(), 1):
        opened = _FENCE.match(line)
        if fence:
            if opened and opened[1].startswith(fence) and not opened[2]:
                fence = ""
        elif opened:
            fence = opened[1]
        elif comment or line.lstrip().startswith("<!--"):
            comment = "-->" not in line
        else:
            yield number, line


def links(text: str) -> list[Link]:
    """Links, images and targets that are defined apart; what code says is none."""
    found = []
    for number, line in prose(text):
        blank = _CODE.sub(lambda match: "\0" * len(match[0]), line)
        for match in _LINK.finditer(blank):
            found.append(Link(number, *match.span(3), match[3], bool(match[1])))
            for inner in _LINK.finditer(match[2]):  # an image that is a link
                start, end = (match.start(2) + at for at in inner.span(3))
                found.append(Link(number, start, end, inner[3], bool(inner[1])))
        defined = _DEFINED.match(blank)
        if defined:
            found.append(Link(number, *defined.span(1), defined[1]))
    return found


def blocks(page: str, root: Path = ROOT) -> list[Block]:
    """Fences of a page that hold commands."""
    return blocks_of(page, (root / page).read_text(encoding="utf-8"))


def blocks_of(page: str, text: str) -> list[Block]:
    """Likewise, of a text."""
    found: list[Block] = []
    marks: list[Mark] = []
    fence, language, began, indent = "", "", 0, 0
    inside: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        opened, comment = _FENCE.match(line), _COMMENT.match(line)
        if fence:
            if not (opened and opened[1].startswith(fence) and not opened[2]):
                inside.append(line.removeprefix(" " * indent))
                continue
            if language in SHELLS:
                found.append(Block(page, began, tuple(_commands(language, inside)), tuple(marks)))
            fence, marks = "", []
        elif opened:
            fence, language, began, inside = opened[1], opened[2], number, []
            indent = len(line) - len(line.lstrip())
        elif comment:
            mark = _MARK.fullmatch(comment[1])
            marks += [Mark(mark[1], mark[2] or "", mark[3])] if mark else []
        elif line.strip():
            marks = []
    return found


def _commands(language: str, lines: list[str]) -> Iterator[str]:
    """A console's commands follow a prompt, and all else is output; of a script all is commands."""
    prompt = "$ " if language == "console" else ""
    command = ""
    for line in lines:
        if not command and not line.startswith(prompt):
            continue
        part = line.strip() if command else line.removeprefix(prompt).strip()
        part = re.sub(r"(^|\s{2,})#.*$", "", part).rstrip()
        command = f"{command} {part}".strip()
        if command.endswith("\\"):
            command = command[:-1].rstrip()
        elif command:
            yield command
            command = ""
