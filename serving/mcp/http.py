"""``/mcp``: the server over streamable HTTP, beside the other routes of a reader.

The SDK takes a third of a second to import, so that is done in a thread once the reader answers;
who asks before that waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tapeline.logging import get_logger

if TYPE_CHECKING:
    from serving.parts import Parts

PATH: Final = "/mcp"
READY_S: Final = 20.0
"""How long a request waits for the import."""

STREAMS: Final = b"wait_for_report"
"""The one tool that tells of progress, and so answers as a stream."""

log = get_logger("mcp")


class Mounted:
    """The endpoint.

    Args:
        parts: What the process has.

    Attributes:
        loaded: Called once all is imported that will be.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.loaded: Callable[[], None] = lambda: None
        self._ready, self._ends = asyncio.Event(), asyncio.Event()
        self._plain: Any = None
        self._streaming: Any = None
        self._protocol: Any = None
        self.route = Route(PATH, endpoint=self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["route"] = self.route  # by which metrics tell requests apart
        if scope["method"] != "POST":
            # Older clients try a stream of their own by GET: without sessions nothing would ever
            # come on it, and it would be one more thing that does not end by itself.
            raise HTTPException(405, headers={"Allow": "POST"})
        try:
            async with asyncio.timeout(READY_S):
                await self._ready.wait()
        except TimeoutError:
            response = PlainTextResponse("not ready", 503, headers={"Retry-After": "1"})
            await response(scope, receive, send)
            return
        named = next((value for name, value in scope["headers"] if name == b"mcp-name"), b"")
        manager = self._streaming if named == STREAMS else self._plain
        await manager.handle_request(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while this is open."""
        task = asyncio.create_task(self._run(), name="mcp")
        try:
            yield
        finally:
            self.end()
            self._ends.set()
            await asyncio.gather(task, return_exceptions=True)

    def end(self) -> None:
        """The process is about to end: open streams and waits are ended now."""
        if self._protocol is not None:
            self._protocol.end()

    async def _run(self) -> None:
        try:
            build = await asyncio.to_thread(import_module, "serving.mcp.build")
            http = await asyncio.to_thread(import_module, "serving.mcp.transport")
            self._protocol = build.build(self._parts)
            self._plain, self._streaming = http.managers(self._protocol.server)
            async with AsyncExitStack() as open_:
                await open_.enter_async_context(self._protocol.running())
                for manager in (self._plain, self._streaming):
                    await open_.enter_async_context(manager.run())
                self.loaded()
                self._ready.set()
                await self._ends.wait()
        except Exception:
            log.exception("mcp.failed")
            raise


def mount(app: Starlette, parts: Parts) -> Mounted:
    """Put ``/mcp`` into an application; it answers while `Mounted.running` is open.

    Args:
        app: The application.
        parts: What the process has.
    """
    mounted = Mounted(parts)
    app.router.routes.append(mounted.route)
    # Called before open connections are waited for: these here would not end by themselves.
    app.state.ends = [*getattr(app.state, "ends", ()), mounted.end]
    app.state.mcp = mounted
    return mounted
