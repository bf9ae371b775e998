"""A client without a model: it chooses tools and arguments by what their descriptions say.

As little clever as can be, so that a question it answers is one that the words answer: of each tool
the words of name, description, arguments and results; rare words count for more.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from mcp import Client
from mcp.types import CallToolResult, Tool

_STOP = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "do",
        "does",
        "for",
        "from",
        "has",
        "have",
        "how",
        "i",
        "in",
        "is",
        "it",
        "its",
        "me",
        "no",
        "not",
        "of",
        "on",
        "or",
        "that",
        "the",
        "there",
        "this",
        "to",
        "what",
        "where",
        "which",
        "with",
    ]
)

_SYMBOL = re.compile(r"\b[A-Z]{3,}\b")


def words(text: str) -> list[str]:
    """Plain stems; a path such as ``flow.net_flow`` gives its parts."""
    found = re.findall(r"[a-z]{2,}", text.lower())
    return [_stem(word) for word in found if word not in _STOP]


def _stem(word: str) -> str:
    for end in ("ies", "ing", "s"):
        if word.endswith(end) and len(word) > len(end) + 3:
            return word[: -len(end)] + ("y" if end == "ies" else "")
    return word


def _said(tool: Tool) -> Counter[str]:
    """Everything a tool says of itself."""
    text = [tool.name.replace("_", " "), tool.description or ""]
    for name, schema in tool.input_schema.get("properties", {}).items():
        text += [name.replace("_", " "), schema.get("description", "").replace("_", " ")]
        text += [str(value) for value in schema.get("enum", ())]
    text += [name.replace("_", " ") for name in (tool.output_schema or {})["properties"]]
    return Counter(words(" ".join(text)))


@dataclass(frozen=True)
class Choice:
    """What was called, and what came back."""

    tool: str
    arguments: dict[str, Any]
    result: CallToolResult


class Scripted:
    """Follows descriptions.

    Args:
        client: Connected.
        tools: What it was told of.
        fields: Fields of a report, as the glossary lists them.
    """

    def __init__(self, client: Client, tools: list[Tool], fields: list[str]) -> None:
        self._client, self._fields = client, fields
        self._tools = {tool.name: tool for tool in tools}
        self._said = {tool.name: _said(tool) for tool in tools}

    async def answer(self, question: str) -> Choice:
        """Choose, call, and hand back what came."""
        tool = self._tools[self._chosen(question)]
        arguments = self._arguments(tool, question)
        if "symbols" in tool.input_schema.get("required", ()) and "symbols" not in arguments:
            listed = await self._client.call_tool("list_symbols", {})
            arguments["symbols"] = [row["symbol"] for row in listed.structured_content["symbols"]]
        result = await self._client.call_tool(tool.name, arguments)
        return Choice(tool.name, arguments, result)

    def _chosen(self, question: str) -> str:
        asked = set(words(question))
        spread = Counter(word for said in self._said.values() for word in said)
        total = len(self._said)

        def score(name: str) -> float:
            said = self._said[name]
            found = sum(math.log(1 + total / spread[word]) for word in asked if word in said)
            # A question about a symbol is for a tool that takes one.
            takes = {"symbol", "symbols"} & set(
                self._tools[name].input_schema.get("properties", {})
            )
            found += 0.5 if takes and _SYMBOL.search(question) else 0.0
            # Two that say the same: the one that says less besides means it more.
            return found - 0.001 * said.total()

        return max(self._said, key=score)

    def _arguments(self, tool: Tool, question: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        symbols = _SYMBOL.findall(question)
        for name, schema in tool.input_schema.get("properties", {}).items():
            value = self._value(name, schema, tool, question, symbols)
            if value is not None:
                found[name] = value
        return found

    def _value(
        self, name: str, schema: dict[str, Any], tool: Tool, question: str, symbols: list[str]
    ) -> Any:
        if "pattern" in schema:
            return symbols[0] if symbols else None
        if schema.get("items", {}).get("pattern"):
            return symbols or None
        if "enum" in schema:
            return self._of_enum(schema["enum"], tool, question)
        if name == "fields":
            return self._fields_in(question) or None
        if name == "when":
            match = re.search(r"[a-z_.]+ [<>]=? [0-9.]+", question)
            return match[0] if match else None
        if schema["type"] in {"integer", "number"}:
            return self._number(name, schema, question)
        return None

    def _of_enum(self, values: list[str], tool: Tool, question: str) -> str | None:
        """A value that is named, or one whose part of the description shares a word."""
        asked = set(words(question))
        description = tool.description or ""
        known = set(words(tool.name.replace("_", " ")))  # what the tool is about says nothing
        for value in values:
            meant = re.search(rf"\b{value}: ([^.]*)", description)
            if _stem(value) in asked or (meant and asked & set(words(meant[1])) - known):
                return value
        return None

    def _fields_in(self, question: str) -> list[str]:
        asked = set(words(question))
        exact = [field for field in self._fields if field in question]
        if exact:
            return exact
        return [field for field in self._fields if set(words(field)[-2:]) <= asked][:1]

    def _number(self, name: str, schema: dict[str, Any], question: str) -> float | None:
        """A number beside a word of the argument's name or hint."""
        clues = set(words(f"{name.replace('_', ' ')} {schema.get('description', '')}")) | {
            "level" if name == "depth" else name
        }
        for match in re.finditer(r"([a-z]+) ([0-9]+(?:\.[0-9]+)?)\b ?([a-z]*)", question):
            near = set(words(f"{match[1]} {match[3]}"))
            if near & clues:
                return float(match[2]) if schema["type"] == "number" else int(match[2])
        return None
