"""The SDK's side of streamable HTTP."""

from __future__ import annotations

from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings


def managers(
    server: Server[Any],
) -> tuple[StreamableHTTPSessionManager, StreamableHTTPSessionManager]:
    """One that answers in one piece, and one that may stream; both without sessions.

    Any replica answers any request, since none of them remembers a client.
    """
    # Host, Origin, key and size were checked at the front door, by NT_ALLOWED_HOSTS and
    # NT_ALLOWED_ORIGINS; a second list here could only refuse what that has let in.
    checked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    plain, streaming = (
        StreamableHTTPSessionManager(
            server, json_response=whole, stateless=True, security_settings=checked
        )
        for whole in (True, False)
    )
    return plain, streaming
