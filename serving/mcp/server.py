"""The protocol around the tools: one server, both revisions of MCP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    PromptReference,
    ReadResourceRequestParams,
    ReadResourceResult,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    TextContent,
    Tool,
    ToolAnnotations,
)

from serving.access import Access
from serving.glossary import runbooks
from serving.mcp import prompts
from serving.mcp.bus import RedisBus
from serving.mcp.resources import REPORT_TEMPLATE, RUNBOOK_TEMPLATE, Resources, check_may_read
from serving.mcp.service import Service
from serving.mcp.tools import OFFERS, READS_REPORTS
from serving.mcp.updates import PERIODS_MS
from serving.reader import StoreUnavailable
from tapeline.tasks import end

INSTRUCTIONS: Final = (
    "Tapeline gives market reports of crypto symbols, recomputed four times a second from "
    "exchange feeds. The fast part holds prices, depth, flow and health; the slow part, every two "
    "seconds, volume profile, walls and findings. Never quote a number without its age: read.stale "
    "true means the data is over 2 s old, and why says whose fault it is. gaps counts breaks of "
    "the feed in 30 minutes; a coverage below 1 means that its window was not heard whole. null "
    "means not known, never zero. Order reports by (writer_token, seq). Start with list_symbols; "
    "rank with compare_reports; wait with wait_for_report instead of polling. market://glossary "
    "explains every field."
)
"""At most 120 words."""

LISTENERS_MAX: Final = 1024
BUFFERED_MAX: Final = 256
"""Events that wait for a slow listener; beyond, its stream ends and it reads again."""

COMPLETIONS_MAX: Final = 100
_HOUR_MS: Final = 3_600_000
_ALIKE: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)

Context = ServerRequestContext[Any, Any]


class Protocol:
    """Answers each method of the protocol.

    Args:
        service: The tools.
        resources: What can be read.
        bus: Tells of changes.
    """

    def __init__(self, service: Service, resources: Resources, bus: RedisBus) -> None:
        self.service, self.resources = service, resources
        self._listen = ListenHandler(
            bus, max_subscriptions=LISTENERS_MAX, max_buffered_events=BUFFERED_MAX
        )
        self._bus = bus
        self._tools = tools()
        self.server: Server[Any] = Server(
            "tapeline",
            version=own_version(),
            title="Tapeline market reports",
            instructions=INSTRUCTIONS,
            cache_hints={
                "tools/list": CacheHint(_HOUR_MS, "public"),
                "prompts/list": CacheHint(_HOUR_MS, "public"),
                "server/discover": CacheHint(_HOUR_MS, "public"),
            },
            # No argument of ours is mirrored in a header, so no schema is looked up for that.
            get_tool_input_schema=lambda _name: None,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_subscriptions_listen=self._listening,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
            on_completion=self._complete,
        )
        # Spans of each message would cost a tenth of it, and nobody here collects them.
        self.server.middleware.clear()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hear of changes while this is open; who listens or waits is let go at its end."""
        task = asyncio.create_task(self._bus.run(), name="mcp-bus")
        try:
            yield
        finally:
            self.end()
            await end(task)

    def end(self) -> None:
        """The process is about to end: streams end as the protocol wants, waits are answered."""
        self._listen.close()
        self.service.end()

    # --- tools -----------------------------------------------------------------------------------

    async def _list_tools(
        self, _ctx: Context, _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=self._tools)

    async def _call_tool(self, ctx: Context, params: CallToolRequestParams) -> CallToolResult:
        if params.name not in OFFERS:
            raise MCPError(INVALID_PARAMS, f"there is no such tool; there are {', '.join(OFFERS)}")

        async def progress(waited_s: float, most_s: float, words: str) -> None:
            await ctx.session.report_progress(round(waited_s, 1), most_s, words)

        outcome = await self.service.call(
            params.name, params.arguments or {}, caller_of(ctx), progress
        )
        return CallToolResult(
            content=[TextContent(text=outcome.text)],
            structured_content=outcome.content,
            is_error=outcome.refused,
        )

    # --- resources -------------------------------------------------------------------------------

    async def _list_resources(
        self, ctx: Context, params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        return await self.resources.list(caller_of(ctx), params.cursor if params else None)

    async def _list_templates(
        self, _ctx: Context, _params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        return self.resources.templates()

    async def _read_resource(
        self, ctx: Context, params: ReadResourceRequestParams
    ) -> ReadResourceResult:
        return await self.resources.read(str(params.uri), caller_of(ctx))

    async def _listening(
        self, ctx: Context, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        caller = caller_of(ctx)
        for uri in params.notifications.resource_subscriptions or ():
            check_may_read(str(uri), caller)
        return await self._listen(ctx, params)

    # --- prompts, completions --------------------------------------------------------------------

    async def _list_prompts(
        self, _ctx: Context, _params: PaginatedRequestParams | None
    ) -> ListPromptsResult:
        return ListPromptsResult(prompts=prompts.listed())

    async def _get_prompt(self, _ctx: Context, params: GetPromptRequestParams) -> GetPromptResult:
        return prompts.filled(params.name, params.arguments)

    async def _complete(self, ctx: Context, params: CompleteRequestParams) -> CompleteResult:
        ref, name, typed = params.ref, params.argument.name, params.argument.value
        found: list[str] = []
        if isinstance(ref, PromptReference):
            if name in {"symbol", "symbols"}:
                found = await self._symbols(ctx, typed)
        elif ref.uri == REPORT_TEMPLATE:
            if name == "symbol":
                found = await self._symbols(ctx, typed)
            elif name == "kind":
                found = [kind for kind in PERIODS_MS if kind.startswith(typed)]
        elif ref.uri == RUNBOOK_TEMPLATE and name == "alert":
            found = [anchor for anchor in runbooks() if anchor.startswith(typed)]
        shown = found[:COMPLETIONS_MAX]
        return CompleteResult(
            completion=Completion(values=shown, total=len(found), has_more=len(found) > len(shown))
        )

    async def _symbols(self, ctx: Context, typed: str) -> list[str]:
        """Symbols that begin as typed; of several, separated by commas, the last is completed."""
        if READS_REPORTS not in caller_of(ctx).scopes:
            return []
        before, comma, last = typed.rpartition(",")
        try:
            names = await self.service.market.names()
        except StoreUnavailable:
            return []
        begun = last.strip().upper()
        return [f"{before}{comma}{name}" for name in names if name.startswith(begun)]


def tools() -> list[Tool]:
    """Every tool as it is listed."""
    return [
        Tool(
            name=offer.name,
            description=offer.says,
            input_schema=offer.arguments(),
            output_schema=offer.gives,
            annotations=_ALIKE,
        )
        for offer in OFFERS.values()
    ]


def caller_of(ctx: Context) -> Access:
    """Who sent a message: over HTTP whom the front door let in, else whoever started us."""
    scope = getattr(ctx.request, "scope", None)
    access = scope.get("state", {}).get("access") if scope is not None else None
    return access if isinstance(access, Access) else Access.loopback()


def own_version() -> str:
    """Of the installed product; '' in a checkout that is not installed."""
    try:
        return version("tapeline")
    except PackageNotFoundError:
        return ""
