"""Puts the server together out of what a reader process has."""

from __future__ import annotations

from serving.mcp.bus import RedisBus
from serving.mcp.counts import McpCounts
from serving.mcp.market import Market
from serving.mcp.resources import Resources
from serving.mcp.server import Protocol
from serving.mcp.service import Service
from serving.mcp.status import status_source
from serving.parts import Parts
from serving.reader import READ_TIMEOUT_S


def build(parts: Parts, timeout_s: float = READ_TIMEOUT_S) -> Protocol:
    """A server that is not running yet.

    Args:
        parts: What the process has.
        timeout_s: How long Redis may take, beside the reader's own limit.
    """
    period_ms = parts.settings.report_period_ms
    market = Market(parts.reader, parts.redis, parts.keys, parts.clock, parts.directory, timeout_s)
    counts = McpCounts(parts.metrics.registry)
    bus = RedisBus(parts.redis, parts.keys, parts.clock, market, counts)
    service = Service(
        market, bus, status_source(parts.board, market), period_ms, counts, parts.answers
    )
    return Protocol(service, Resources(market, service, period_ms), bus)
