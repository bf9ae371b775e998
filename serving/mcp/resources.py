"""What can be read by address: reports, symbols, the schema, the glossary, runbooks."""

from __future__ import annotations

from typing import Final

import msgspec
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from serving import contracts
from serving.access import Access
from serving.glossary import glossary, runbooks
from serving.mcp import answers
from serving.mcp.contract import LIST_MAX, SCHEMA_URI, Kind
from serving.mcp.market import Market
from serving.mcp.refusals import FORBIDDEN, NOT_READY
from serving.mcp.service import Service
from serving.mcp.tools import READS_REPORTS
from serving.mcp.updates import LIST_URI, PERIODS_MS, report_uri
from serving.reader import BadSymbol, StoreUnavailable
from tapeline.errors import ReportError

GLOSSARY_URI: Final = "market://glossary"
REPORT_TEMPLATE: Final = "market://report/{symbol}/{kind}"
RUNBOOK_TEMPLATE: Final = "market://runbook/{alert}"
PAGE: Final = 50
"""Reports in one page of the list."""

JSON: Final = "application/json"
MARKDOWN: Final = "text/markdown"
_REPORTS: Final = "market://report/"
_RUNBOOKS: Final = "market://runbook/"
_HOUR_MS: Final = 3_600_000

FIXED: Final = (
    Resource(uri=LIST_URI, name="symbols", mime_type=JSON),
    Resource(uri=SCHEMA_URI, name="schema", mime_type=JSON),
    Resource(uri=GLOSSARY_URI, name="glossary", mime_type=JSON),
)
TEMPLATES: Final = (
    ResourceTemplate(uri_template=REPORT_TEMPLATE, name="report", mime_type=JSON),
    ResourceTemplate(uri_template=RUNBOOK_TEMPLATE, name="runbook", mime_type=MARKDOWN),
)


class Resources:
    """Lists and reads them.

    Args:
        market: Where reports are.
        service: Lists symbols as the tool does.
        report_period_ms: For how long a report that was read is the newest.
    """

    def __init__(self, market: Market, service: Service, report_period_ms: int) -> None:
        self._market, self._service, self._period_ms = market, service, report_period_ms

    async def list(self, caller: Access, cursor: str | None) -> ListResourcesResult:
        """The fixed ones, and the fast report of each symbol that has one."""
        names: list[str] = []
        if READS_REPORTS in caller.scopes:
            try:
                names = [name for name in await self._market.names() if name > (cursor or "")]
            except StoreUnavailable:
                names = []
        page = names[:PAGE]
        listed = [] if cursor else list(FIXED)
        listed += [
            Resource(uri=report_uri(name, "fast"), name=name, mime_type=JSON) for name in page
        ]
        more = page[-1] if len(names) > len(page) else None
        return ListResourcesResult(resources=listed, next_cursor=more)

    def templates(self) -> ListResourceTemplatesResult:
        """Addresses with parts to fill in."""
        return ListResourceTemplatesResult(
            resource_templates=list(TEMPLATES), ttl_ms=_HOUR_MS, cache_scope="public"
        )

    async def read(self, uri: str, caller: Access) -> ReadResourceResult:
        """One resource.

        Raises:
            MCPError: There is none of this address, the caller may not read it, or the store did
                not answer.
        """
        if uri == SCHEMA_URI:
            return _fixed(uri, JSON, contracts.schema_bytes(contracts.REPORT).decode())
        if uri == GLOSSARY_URI:
            return _fixed(uri, JSON, msgspec.json.encode(list(glossary().values())).decode())
        if uri.startswith(_RUNBOOKS):
            text = runbooks().get(uri.removeprefix(_RUNBOOKS))
            if text is None:
                raise _not_found(uri)
            return _fixed(uri, MARKDOWN, text)
        check_may_read(uri, caller)
        try:
            text = await self._of_the_market(uri)
        except StoreUnavailable as error:
            raise MCPError(INVALID_PARAMS, str(error), {"code": NOT_READY}) from None
        return ReadResourceResult(
            contents=[TextResourceContents(uri=uri, mime_type=JSON, text=text)],
            ttl_ms=self._period_ms,
            cache_scope="private",
        )

    async def _of_the_market(self, uri: str) -> str:
        if uri == LIST_URI:
            found = await self._service.call("list_symbols", {"limit": LIST_MAX})
            return msgspec.json.encode(found.content).decode()
        symbol, _, kind = uri.removeprefix(_REPORTS).partition("/")
        if not uri.startswith(_REPORTS) or kind not in PERIODS_MS:
            raise _not_found(uri)
        try:
            report = await self._market.report(symbol)
        except BadSymbol:
            raise _not_found(uri) from None
        except StoreUnavailable:
            raise
        except ReportError:
            report = None
        if report is None and not await self._market.knows(symbol):
            raise _not_found(uri)
        part: Kind = "slow" if kind == "slow" else "fast"
        now_ms = self._market.now_ms()
        given = answers.answer(symbol, report, part, "full", now_ms, answers.NONE_STORED)
        raw = msgspec.structs.replace(given, report=None)
        members = msgspec.to_builtins(raw)
        # The stored bytes themselves: the same object, byte for byte, as everywhere else.
        members["report"] = msgspec.Raw(report.payload if report else b"null")
        return msgspec.json.encode(members).decode()


def check_may_read(uri: str, caller: Access) -> None:
    """Raise `MCPError` where a key has no right to a resource."""
    if uri in {SCHEMA_URI, GLOSSARY_URI} or uri.startswith(_RUNBOOKS):
        return
    if READS_REPORTS not in caller.scopes:
        raise MCPError(
            INVALID_PARAMS,
            f"{uri[:80]} needs a key with scope {READS_REPORTS}",
            {"code": FORBIDDEN},
        )


def _fixed(uri: str, mime_type: str, text: str) -> ReadResourceResult:
    return ReadResourceResult(
        contents=[TextResourceContents(uri=uri, mime_type=mime_type, text=text)],
        ttl_ms=_HOUR_MS,
        cache_scope="public",
    )


def _not_found(uri: str) -> MCPError:
    return MCPError(INVALID_PARAMS, "there is no such resource", {"uri": uri[:200]})
