"""The front door: what every request passes before a route sees it.

Host, origin, key, scope, rate and body are checked here, and nowhere else; a request's id, its
log line, its metrics and its entry in the key's history are made here too. Plain ASGI: Starlette's
decorated kind of middleware hands each answer through a queue and a task of its own, which costs a
third of the time of a request.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import ip_address
from time import perf_counter
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access import Access, checks
from serving.access.answer import Answer
from serving.access.history import Call, History
from serving.access.needs import READS, Need, need_of
from serving.access.ring import KeyRing, KeysUnknown
from serving.access.rules import Limiter, Verdict
from serving.metrics import ReaderMetrics
from serving.problems import KINDS, kind_of_status, problem
from tapeline.clock import Clock
from tapeline.config import Settings
from tapeline.logging import get_logger

log = get_logger("serve")

WRONG_KEYS_PER_S: Final = 10
"""From one address, before they are answered 429: a valid key is never held up by them."""

_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="tapeline"'}


class Refused(Exception):
    """A request that goes no further.

    Attributes:
        kind: Of `serving.problems.KINDS`.
        response: What it is answered.
    """

    def __init__(self, kind: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind, self.response = kind, problem(kind, detail, headers)


@dataclass(slots=True)
class _Visit:
    """What is known of one request on its way in."""

    method: str = ""
    request_id: str = ""
    origin: str = ""
    access: Access | None = None
    name: str = ""
    verdict: Verdict | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


class Front:
    """Wraps the application.

    Args:
        app: What is behind the door.
        settings: Hosts, origins, limits, and who needs a key.
        ring: The keys in force.
        history: Where calls with a key are remembered.
        metrics: What is counted.
        clock: Of buckets and of the history.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        ring: KeyRing,
        history: History,
        metrics: ReaderMetrics,
        clock: Clock,
    ) -> None:
        self._app, self._settings, self._ring = app, settings, ring
        self._history, self._metrics, self._clock = history, metrics, clock
        self._hosts = checks.Hosts(settings.allowed_hosts)
        self._origins = checks.Origins(settings.allowed_origins)
        self._keys_needed = keys_needed(settings)
        self._calls, self._failures = Limiter(), Limiter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    # --- HTTP ----------------------------------------------------------------------------------

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, visit = perf_counter(), _Visit(scope["method"])
        answer = Answer(send, visit.headers, scope["headers"], bodiless=visit.method == "HEAD")
        refused = ""
        try:
            try:
                await self._admit(scope, visit)
                if self._is_preflight(scope, visit):
                    await _preflight()(scope, receive, answer)
                    return
                if scope["method"] not in READS or _has_body(scope):
                    receive = await self._whole_body(scope, receive)
                if visit.method == "HEAD":  # answered as GET is, less the body
                    scope = {**scope, "method": "GET"}
                await self._app(scope, receive, answer)
            except Refused as no:
                refused = no.kind
                await no.response(scope, receive, answer)
            except HTTPException as error:  # of what is mounted, and has no handlers of ours
                await problem(kind_of_status(error.status_code), error.detail)(
                    scope, receive, answer
                )
            except _Gone:
                answer.status = 499
            except Exception:
                log.exception("http.failed", request_id=visit.request_id)
                if not answer.started:
                    text = f"request {visit.request_id}; the log says more"
                    await problem("internal", text)(scope, receive, answer)
        finally:
            self._note(scope, visit, answer, began, refused)

    async def _admit(self, scope: Scope, visit: _Visit) -> None:
        """Fill in the visit.

        Raises:
            Refused: It goes no further.
        """
        headers = scope["headers"]
        visit.request_id = checks.request_id(headers)
        visit.headers.append((b"x-request-id", visit.request_id.encode()))
        try:
            self._check_address(scope, visit)
            key = checks.presented_key(headers)
        except checks.Malformed as error:
            raise Refused("malformed-request", str(error)) from None
        if self._is_preflight(scope, visit):
            return
        need = need_of(scope["type"], scope.get("method", ""), scope["path"])
        await self._check_key(scope, visit, need, key)
        scope.setdefault("state", {})["access"] = visit.access
        scope["state"]["request_id"] = visit.request_id

    def _check_address(self, scope: Scope, visit: _Visit) -> None:
        headers, path, query = scope["headers"], scope["path"], scope["query_string"]
        host = checks.only(headers, b"host")
        if host is None:
            raise checks.Malformed("host is missing")
        server = scope.get("server") or ("", 0)
        if not self._hosts.know(checks.host_name(host), server[0] or ""):
            raise Refused("wrong-host", "this reader is not known by that name")
        if checks.heavy(headers):
            raise Refused("headers-too-large", f"above {checks.HEADERS_BYTES_MAX} bytes")
        if scope["type"] == "http" and checks.framed_twice(headers):
            raise checks.Malformed("content-length and transfer-encoding contradict each other")
        if len(scope.get("raw_path") or path.encode()) + len(query) > checks.TARGET_BYTES_MAX:
            raise Refused("uri-too-long", f"above {checks.TARGET_BYTES_MAX} bytes")
        if checks.key_in_url(path, query):
            raise Refused("key-in-url", "send the key in a header, never in a URL")
        origin = checks.only(headers, b"origin")
        if origin is None:
            return
        visit.origin = origin
        if origin.lower() in self._origins.listed:
            visit.headers += [
                (b"access-control-allow-origin", origin.encode()),
                (b"access-control-expose-headers", b"*"),
            ]
        writes = scope["type"] == "websocket" or scope["method"] not in READS
        if writes and not self._origins.allow(origin, host):
            raise Refused("foreign-origin", "pages of that origin may not call this reader")

    async def _check_key(self, scope: Scope, visit: _Visit, need: Need, key: str | None) -> None:
        if not need.key:
            return
        if key is None:
            if need.later and self._keys_needed:
                return  # a websocket shows it in its first message
            if self._keys_needed or need.scope == "admin":
                with_scope = f" with the scope {need.scope}" if need.scope else ""
                raise Refused("unauthorized", f"the call needs a key{with_scope}", _CHALLENGE)
            visit.access = Access.loopback()
            return
        try:
            found = await self._ring.find(key)
        except KeysUnknown as error:
            raise Refused("keys-unknown", str(error), {"Retry-After": "1"}) from None
        now_ms = self._clock.monotonic_ms()
        if found is None:
            client = (scope.get("client") or ("",))[0]
            failures = self._failures.take(client, WRONG_KEYS_PER_S, now_ms)
            if not failures.allowed:
                wait = {"Retry-After": str(failures.retry_after_s)}
                raise Refused("rate-limited", "too many wrong keys", wait)
            raise Refused("unauthorized", "the key is unknown, wrong or revoked", _CHALLENGE)
        visit.access, visit.name = found.access, found.name
        rate = found.rate_per_s or self._settings.key_rate_per_s
        visit.verdict = self._calls.take(found.id, rate, now_ms)
        visit.headers += visit.verdict.headers()
        if not visit.verdict.allowed:
            raise Refused("rate-limited", f"the key may make {rate} requests a second")
        if need.scope and need.scope not in visit.access.scopes:
            raise Refused("forbidden", f"the key lacks the scope {need.scope}")

    def _is_preflight(self, scope: Scope, visit: _Visit) -> bool:
        """Whether a browser asks on behalf of a page that may call."""
        return (
            scope.get("method") == "OPTIONS"
            and visit.origin.lower() in self._origins.listed
            and any(name == b"access-control-request-method" for name, _ in scope["headers"])
        )

    async def _whole_body(self, scope: Scope, receive: Receive) -> Receive:
        """The body read to its end, within its limits, to be received again.

        Raises:
            Refused: It is too large or too slow.
            _Gone: The client left.
        """
        size_max = self._settings.http_body_max_bytes
        length = next(
            (value for name, value in scope["headers"] if name == b"content-length"), b"0"
        )
        if length.isdigit() and int(length) > size_max:
            raise Refused("body-too-large", f"above {size_max} bytes", {"Connection": "close"})
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.http_read_timeout_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _Gone
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > size_max:
                        close = {"Connection": "close"}
                        raise Refused("body-too-large", f"above {size_max} bytes", close)
        except TimeoutError:
            limit = self._settings.http_read_timeout_s
            raise Refused("too-slow", f"not within {limit} s", {"Connection": "close"}) from None
        whole: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

        async def again() -> Message:
            nonlocal whole
            if whole is not None:
                message, whole = whole, None
                return message
            return await receive()

        return again

    def _note(
        self, scope: Scope, visit: _Visit, answer: Answer, began: float, refused: str
    ) -> None:
        took_s = perf_counter() - began
        route = "refused" if refused else getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, answer.status).inc()
        self._metrics.seconds.labels(route).observe(took_s)
        if refused:
            self._metrics.refused.labels(refused).inc()
        path = checks.without_keys(scope["path"])
        fields: dict[str, Any] = {
            "request_id": visit.request_id,
            "method": visit.method,
            "path": path,
            "status": answer.status,
            "took_ms": round(took_s * 1000, 3),
            "sent_bytes": answer.sent_bytes,
            "client": (scope.get("client") or ("",))[0],
            "key_id": visit.access.key_id if visit.access else "",
        }
        if refused:
            fields["refused"] = refused
        if self._settings.access_log:
            log.info("http.request", **fields)
        if visit.access is None or not visit.name:
            return
        query = "" if refused == "key-in-url" else scope["query_string"].decode("latin-1")
        log.info("audit.call", **fields, key_name=visit.name, query=query[:500])
        self._history.add(
            visit.access.key_id,
            Call(
                at_ms=self._clock.now_ms(),
                method=visit.method,
                path=path,
                query=query[:500],
                status=answer.status,
                took_ms=fields["took_ms"],
                sent_bytes=answer.sent_bytes,
                request_id=visit.request_id,
            ),
        )

    # --- websockets ----------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = _Visit()
        try:
            await self._admit(scope, visit)
        except Refused as no:
            self._metrics.refused.labels(no.kind).inc()
            self._metrics.websocket_refused.labels(no.kind).inc()
            log.warning(
                "ws.refused",
                request_id=visit.request_id,
                path=checks.without_keys(scope["path"]),
                refused=no.kind,
                client=(scope.get("client") or ("",))[0],
            )
            await _deny(scope, receive, send, no, visit)
            return
        if visit.name and visit.access:
            log.info(
                "audit.call",
                request_id=visit.request_id,
                method="WEBSOCKET",
                path=checks.without_keys(scope["path"]),
                key_id=visit.access.key_id,
                key_name=visit.name,
            )
        await self._app(scope, receive, send)


class _Gone(Exception):
    """The client left before its request was whole."""


async def _deny(scope: Scope, receive: Receive, send: Send, no: Refused, visit: _Visit) -> None:
    """Refuse a handshake: by an answer that says why where the server can send one."""
    message = await receive()  # websocket.connect
    if message["type"] != "websocket.connect":
        return
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": KINDS[no.kind].title})
        return
    response: Response = no.response
    await send(
        {
            "type": "websocket.http.response.start",
            "status": response.status_code,
            "headers": [*response.raw_headers, *visit.headers],
        }
    )
    await send({"type": "websocket.http.response.body", "body": response.body, "more_body": False})


def _preflight() -> Response:
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, If-None-Match, "
            "X-API-Key, X-Request-ID",
            "Access-Control-Max-Age": "600",
        },
    )


def _has_body(scope: Scope) -> bool:
    return any(
        (name == b"content-length" and value != b"0") or name == b"transfer-encoding"
        for name, value in scope["headers"]
    )


def keys_needed(settings: Settings) -> bool:
    """Whether a request needs a key, by ``NT_REQUIRE_KEYS`` and ``NT_BIND_HOST``."""
    if settings.require_keys != "auto":
        return settings.require_keys == "always"
    return not is_loopback(settings.bind_host)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens on ``host``."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
