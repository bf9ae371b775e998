"""One client's requests: read, checked, answered."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, Final

from starlette.websockets import WebSocket

from serving.access import Access
from serving.hub.client import Client
from serving.hub.protocol import (
    ALL_SYMBOLS,
    MESSAGE_BYTES_MAX,
    SCOPES,
    AskSnapshot,
    Auth,
    Close,
    Ping,
    Pong,
    Refused,
    Request,
    Subscribe,
    Unsubscribe,
    Unsubscribed,
    decode_request,
)
from serving.hub.session import Bucket
from serving.hub.streams import StateStream
from serving.hub.transport import sink_of
from serving.hub.wire import control
from tapeline.logging import get_logger

if TYPE_CHECKING:
    from serving.hub.service import Hub

AUTH_S: Final = 5.0
"""How long a client may take to say its key."""

REQUESTS_PER_S: Final = 50.0
REQUESTS_BURST: Final = 200
PAIRS_A_REQUEST: Final = 100
REFUSALS_MAX: Final = 500
"""Requests beyond the rate, less those within it, after which a client is closed."""

AT_ONCE: Final = 16
"""Messages of one client before others have their turn."""

TELL_MS: Final = 1000
"""Between two words to a client that it asks too often."""

log = get_logger("hub")


async def serve(hub: Hub, websocket: WebSocket, access: Access | None) -> None:
    """Serve one client until it goes."""
    await websocket.accept()
    sink = sink_of(websocket)
    if hub.stopping or len(hub.clients) >= hub.settings.hub_clients_max:
        hub.metrics.closed.labels("no_room").inc()
        sink.close(Close.TRY_AGAIN, "no room; come back later")
        await sink.gone()
        return
    client = Client(hub.new_session(), sink, access, hub.clock.monotonic_ms())
    hub.join(client)
    try:
        client.session.answer(control(hub.hello(client.session, auth_required=access is None)))
        if hub.states.up is False:
            client.session.source(hub.source_frame())
        hub.touch(client.session)
        await _Conversation(hub, websocket, client).run()
    except Exception:
        hub.metrics.errors.labels("own_fault").inc()
        log.exception("hub.fault", session_id=client.session.id)
        sink.close(Close.OWN_FAULT, "own fault")
    finally:
        hub.leave(client)
        await sink.gone()


class _Conversation:
    """Reads one client's messages."""

    def __init__(self, hub: Hub, websocket: WebSocket, client: Client) -> None:
        self._hub, self._websocket, self._client = hub, websocket, client
        self._session = client.session
        self._asked = Bucket(REQUESTS_PER_S, REQUESTS_BURST, hub.clock.monotonic_ms())
        self._refusals = 0
        self._told_ms = float("-inf")

    async def run(self) -> None:
        """Until it goes, or is sent away."""
        if self._client.access is None and not await self._authenticated():
            return
        for number in itertools.count(1):
            if number % AT_ONCE == 0:
                # Many messages may have come in one piece; reading them never waits by itself.
                await asyncio.sleep(0)
            if self._session.crowded:
                self._client.heard.clear()
                await self._client.heard.wait()
            text = self._text_of(await self._websocket.receive())
            if text is None:
                return
            if self._within_rate():
                self._answer(text)
            elif self._refusals > REFUSALS_MAX:
                self._close(Close.REFUSED, "it asks too often", "flood")
                return

    def _text_of(self, message: Any) -> str | None:
        """The text of a message; None where there will be none any more."""
        if message["type"] != "websocket.receive":
            return None
        text: str | None = message.get("text")
        if text is None:
            self._close(Close.BINARY, "binary message; expected JSON text", "binary")
        elif len(text) > MESSAGE_BYTES_MAX:
            self._close(Close.TOO_BIG, f"more than {MESSAGE_BYTES_MAX} bytes", "too_big")
            return None
        return text

    async def _authenticated(self) -> bool:
        try:
            async with asyncio.timeout(AUTH_S):
                text = self._text_of(await self._websocket.receive())
        except TimeoutError:
            self._close(Close.REFUSED, "no key within 5 s", "unauthorized")
            return False
        if text is None:
            return False
        access = None
        try:
            request = decode_request(text)
            if isinstance(request, Auth) and self._hub.authenticate is not None:
                access = await self._hub.authenticate(request.key)
        except Refused:
            pass  # what it was does not matter: it was no key
        if access is None:
            self._close(Close.REFUSED, "no valid key", "unauthorized")
            return False
        self._client.access = access
        return True

    def _close(self, code: Close, reason: str, metric: str) -> None:
        self._hub.metrics.closed.labels(metric).inc()
        self._hub.flush(self._client)
        self._client.sink.close(code, reason)

    # --- requests --------------------------------------------------------------------------------

    def _within_rate(self) -> bool:
        now_ms = self._hub.clock.monotonic_ms()
        if self._asked.take(now_ms):
            self._refusals = max(0, self._refusals - 1)
            return True
        self._refusals += 1
        self._hub.metrics.refused.labels("rate_limited").inc()
        if now_ms - self._told_ms >= TELL_MS:
            self._told_ms = now_ms
            refused = Refused(
                "rate_limited", f"more than {REQUESTS_PER_S:g} requests a second; the rest is left"
            )
            self._say(control(refused.frame(retry_after_ms=TELL_MS)))
        return False

    def _answer(self, text: str) -> None:
        try:
            self._do(decode_request(text))
        except Refused as refused:
            self._hub.metrics.refused.labels(refused.code).inc()
            self._say(control(refused.frame()))

    def _do(self, request: Request) -> None:
        hub, client = self._hub, self._client
        match request:
            case Ping():
                self._say(control(Pong(id=request.id, now_ms=hub.clock.now_ms())))
            case Subscribe():
                self._check_scopes(request)
                every = request.symbols == [ALL_SYMBOLS]
                symbols = len(hub.board.symbols) if every else len(request.symbols)
                self._charge(len(request.channels) * symbols)
                hub.subscribe(client, request)
            case Unsubscribe():
                self._charge(len(self._session.streams))
                if not hub.unsubscribe(client, request):
                    raise Refused(
                        "bad_request", f"no subscription {request.subscription_id!r}", request.id
                    )
                self._say(
                    control(Unsubscribed(id=request.id, subscription_id=request.subscription_id))
                )
            case AskSnapshot():
                self._snapshot(request)
            case Auth():
                raise Refused("bad_request", "auth is the first message or none", request.id)

    def _charge(self, pairs: int) -> None:
        """What concerns thousands of pairs counts for as many requests as it is work."""
        self._asked.tokens -= pairs / PAIRS_A_REQUEST

    def _check_scopes(self, request: Subscribe) -> None:
        access = self._client.access
        scopes = frozenset() if access is None else access.scopes
        for channel in request.channels:
            if not SCOPES[channel] & scopes:
                raise Refused(
                    "forbidden",
                    f"{channel} needs the scope {' or '.join(sorted(SCOPES[channel]))}",
                    request.id,
                )

    def _snapshot(self, request: AskSnapshot) -> None:
        stream = self._session.streams.get((request.channel, request.symbol))
        if not isinstance(stream, StateStream):
            raise Refused(
                "bad_request",
                f"{request.channel} of {request.symbol} is not subscribed to",
                request.id,
            )
        if not stream.waiting:
            table = self._hub.states.table
            stream.repeat(table.current(request.channel, request.symbol))
            self._session.queue(stream)
        self._hub.touch(self._session)

    def _say(self, frame: bytes) -> None:
        self._session.answer(frame)
        self._hub.touch(self._session)
