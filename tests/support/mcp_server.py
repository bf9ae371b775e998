"""An MCP server of a test's own, on the Redis of the test, called without a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jsonschema
from mcp import Client
from mcp.types import CallToolResult, TextContent
from redis.asyncio import Redis

from serving.directory import Directory
from serving.mcp.build import build
from serving.mcp.server import Protocol
from serving.mcp.tools import OFFERS
from serving.parts import Parts
from serving.reader import ReportReader
from tapeline.clock import Clock
from tapeline.config import load_settings

ERAS = ("auto", "legacy")
"""Both revisions, as the SDK's client names them: 2026-07-28 and 2025-11-25."""


PATIENCE_S = 3.0


def server_on(redis: Redis, clock: Clock | None = None, patience_s: float = PATIENCE_S) -> Protocol:
    """A server that reads ``redis``; its bus does not run.

    Args:
        redis: A client of `serving.reader.reader_client`.
        clock: What ages are told by.
        patience_s: How long Redis may take: a busy machine is no failure, unless that is tested.
    """
    parts = Parts.of(load_settings({}), redis, clock)
    parts.reader = ReportReader(redis, parts.keys, parts.clock, patience_s)
    parts.directory = Directory(redis, parts.keys, parts.reader, parts.clock)
    return build(parts, patience_s)


@asynccontextmanager
async def connected(protocol: Protocol, era: str = "auto") -> AsyncIterator[Client]:
    """A client in this process; the bus runs while it is open."""
    async with protocol.running(), Client(protocol.server, mode=era, cache=None) as client:
        yield client


def text_of(result: CallToolResult) -> str:
    """The one text block of a result."""
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


def given(name: str, result: CallToolResult) -> dict[str, Any]:
    """What a tool gave, checked against the schema that it announced."""
    assert not result.is_error, text_of(result)
    found: dict[str, Any] = result.structured_content
    jsonschema.validate(found, OFFERS[name].gives)
    lines = text_of(result).splitlines()
    assert 1 <= len(lines) <= 2
    return found


def refused(result: CallToolResult) -> dict[str, Any]:
    """What a refusal says."""
    assert result.is_error
    assert result.structured_content is None
    found: dict[str, Any] = json.loads(text_of(result))
    assert found.keys() <= {"code", "message", "retry_after_ms", "suggestions"}
    return found
